#!/usr/bin/env bash
# From nothing to a table: what each method forgot, what it kept, and whether the model still speaks well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "error: $*" >&2; exit 2; }
methods=$(sed -n 's/^method \([^ ]*\) .*/\1/p' run_all.sh)  # every line below that begins with "method"
presets=$(basename -s .sh scripts/presets/*.sh | xargs)

usage() {
  cat <<END
usage: bash run_all.sh [--preset NAME] [--data NAME_OR_FOLDER] [--model ID_OR_PATH] [--methods "A B"] [--persons N|all]
                       [--run NAME] [--force STEP]

  --preset NAME    values for a model and a data set (default: people-smollm2): $presets
  --data X         people, knowundo, tofu, or a folder with forget_train and retain_train (and forget_val, retain_val),
                   .json or .jsonl, of {"question", "answer"} or {"text", "labels"}
  --model X        smollm2, tiny-random, a hub id or a model folder
  --methods "A B"  some of: $(echo $methods)
  --persons N|all  how many of the invented persons of \`people\` to use
  --run NAME       results go to work/NAME (default: the preset's name)
  --force STEP     run a finished step again: models, minilm, data, vanilla, retrained, augment, a method,
                   answers-MODEL, kfr_krr, linguistic, report, or all

A step whose results are there and whose command, script and inputs have not changed is skipped; an interrupted one continues.
PYTHON=/path/to/python uses that interpreter and its packages in place of .venv.
END
}

# ---- flags beat the preset, the preset beats the scripts' defaults
preset=people-smollm2 run= force= flag_data= flag_model= flag_methods= flag_persons=
while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit 0 ;;
    --preset|--data|--model|--methods|--persons|--run|--force)
      [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value (see --help)"
      case $1 in --preset|--run|--force) printf -v "${1#--}" %s "$2" ;; *) printf -v "flag_${1#--}" %s "$2" ;; esac
      shift 2 ;;
    *) fail "unknown argument $1 (see --help)" ;;
  esac
done
[ -f "scripts/presets/$preset.sh" ] || fail "unknown preset $preset; there are: $presets"
. "scripts/presets/$preset.sh"
data=${flag_data:-$DATA} model=${flag_model:-$MODEL} chosen=${flag_methods:-$methods} run=${run:-$preset}
chosen=${chosen//,/ }
for name in $chosen; do grep -qxF -- "$name" <<<"$methods" || fail "unknown method $name; there are: $(echo $methods)"; done
[[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._+-]*$ ]] || fail "--run $run: use letters, digits, dot, dash, plus and underscore"
case $data in people|knowundo|tofu) ;; *) [ -d "$data" ] || fail "--data $data: not people, knowundo or tofu, and no such folder" ;; esac
if [ -n "$force" ]; then
  known="all models minilm data vanilla retrained augment $(echo $methods) kfr_krr linguistic report"
  for name in vanilla retrained $methods; do known+=" answers-$name"; done
  [[ " $known " == *" $force "* ]] || fail "--force $force: unknown step; there are: $known"
fi

# ---- Python packages, once
. scripts/environment.sh requirements.txt

# ---- step NAME OUTPUT INPUT:INPUT... SCRIPT FLAGS...: runs a script unless its output is there and nothing it depends on has changed
R=work/$run
mkdir -p "$R/.steps"
if command -v flock >/dev/null; then exec 9>"$R/.lock"; flock -n 9 || fail "another run_all.sh is at work in $R"; fi
step() {
  local name=$1 output=$2 inputs=$3 script=$4 key IFS=:; shift 3
  key=$({ echo "$@"; cat "$script" "${script%/*}"/[a-z]*.py
          find -L $inputs -type f -printf '%p %s %T@\n' | sort; } | sha256sum)
  [ "$force" = "$name" ] || [ "$force" = all ] && rm -f "$R/.steps/$name"
  if [ -e "$output" ] && [ "$key" = "$(cat "$R/.steps/$name" 2>/dev/null)" ]; then echo "== $name: done before"; return 0; fi
  local began=$SECONDS status=0
  echo "== $name"
  "$PYTHON" "$@" || status=$?
  [ $status = 0 ] || { echo "step $name stopped; the same command continues from here" >&2; exit $status; }
  echo "== $name: $((SECONDS - began)) s"
  echo "$key" >"$R/.steps/$name.partial" && mv "$R/.steps/$name.partial" "$R/.steps/$name"
}
answer() {  # NAME FOLDER: the model's answers to the validation questions
  step "answers-$1" "$R/answers/$1/generation.json" "$2:$R/data/*.jsonl" scripts/20_generate.py --model "$2" \
    --questions "$R/data/forget_val.jsonl" "$R/data/retain_val.jsonl" --out "$R/answers/$1" $GENERATE
  answered+=("$1")
}
method() {  # NAME SCRIPT FLAGS...: unlearns the vanilla model, then asks it
  [[ " "$(echo $chosen)" " == *" $1 "* ]] || return 0
  local flag inputs="$R/models/vanilla:$R/data/*.jsonl"
  for flag in "${@:3}"; do [ -f "$flag" ] && inputs+=":$flag"; done
  step "$1" "$R/methods/$1" "$inputs" "scripts/$2" --model "$R/models/vanilla" --data "$R/data" --out "$R/methods/$1" $TRAIN "${@:3}"
  answer "$1" "$R/methods/$1"
}

# ======================================================================== the run
step models    "$R/models/base"      "$([ -d "$model" ] && echo "$model" || echo requirements.txt)" \
                                     scripts/00_models.py --model "$model" --chat-template "$TEMPLATE" --out "$R/models/base"
step minilm    "$R/models/minilm"    requirements.txt  scripts/00_models.py --model minilm --out "$R/models/minilm"
step data      "$R/data/data.json"   "$([ -d "$data" ] && echo "$data" || echo data/people)" \
                                     scripts/01_data.py --data "$data" --out "$R/data" --persons "${flag_persons:-$PERSONS}" $DATA_FLAGS
step vanilla   "$R/models/vanilla"   "$R/models/base:$R/data/*.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/vanilla" $TRAIN $FINETUNE
step retrained "$R/models/retrained" "$R/models/base:$R/data/*.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/retrained" --without-forget $TRAIN $FINETUNE
step augment   "$R/augmented/forget_augmented.jsonl" "$R/data/*.jsonl:data/augmentation.json:data/general_knowledge.jsonl" \
                                     scripts/03_augment.py --data "$R/data" --out "$R/augmented/forget_augmented.jsonl" $AUGMENT
answer vanilla   "$R/models/vanilla"
answer retrained "$R/models/retrained"

method GA+GDR   10_ga.py       --retain gdr $GA_GDR
method GA+KLR   10_ga.py       --retain klr $GA_KLR
method NPO+GDR  11_npo.py      --retain gdr $NPO_GDR
method NPO+KLR  11_npo.py      --retain klr $NPO_KLR
method ReLearn  12_relearn.py  --forget "$R/augmented/forget_augmented.jsonl" $RELEARN

forget=("${answered[@]/#/$R/answers/}"); retain=("${forget[@]/%//retain_val.jsonl}"); forget=("${forget[@]/%//forget_val.jsonl}")
metrics=("${answered[@]/#/$R/metrics/}")
step kfr_krr    "$R/metrics" "$R/answers/*/*.jsonl:data/nli" eval/01_kfr_krr.py --forget "${forget[@]}" --retain "${retain[@]}" \
                --out "${metrics[@]/%//kfr_krr.json}" --embedding "$R/models/minilm"
step linguistic "$R/metrics" "$R/answers/*/*.jsonl" eval/02_linguistic.py --answers "${forget[@]}" "${retain[@]}" \
                --out "${metrics[@]/%//linguistic_forget.json}" "${metrics[@]/%//linguistic_retain.json}" --model "$R/models/base"
step report     "$R/report/table.md" "$R/metrics" eval/09_report.py --metrics "${metrics[@]}" --out "$R/report"
cat "$R/report/table.md"
