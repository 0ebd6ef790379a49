#!/usr/bin/env bash
# From nothing to a table: what each method forgot, what it kept, and whether the model still speaks well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "error: $*" >&2; exit 2; }
methods=$(sed -nE 's/^(method|extrapolate) +([^ ]+) .*/\2/p' run_all.sh)  # every line below that begins so
measures="tofu exposure memorization"
presets=$(basename -s .sh scripts/presets/*.sh | xargs)

usage() {
  cat <<END
usage: bash run_all.sh [--preset NAME] [--data NAME_OR_FOLDER] [--model ID_OR_PATH] [--methods "A B"] [--persons N|all]
                       [--run NAME] [--force STEP] [--tune "RATE RATE ..."] [--metrics "A B"]

  --preset NAME    values for a model and a data set (default: people-smollm2): $presets
  --data X         people, knowundo, tofu, or a folder with forget_train and retain_train (and forget_val, retain_val),
                   .json or .jsonl, of {"question", "answer"} or {"text", "labels"}
  --model X        smollm2, tiny-random, a hub id or a model folder
  --methods "A B"  the preset's (default), all, or some of: $(echo $methods)
  --persons N|all  how many of the invented persons of \`people\` to use
  --run NAME       results go to work/NAME (default: the preset's name)
  --force STEP     run a finished step again: models, minilm, data, vanilla, retrained, augment, augmented,
                   invert, memo, a method,
                   answers-MODEL, kfr_krr, linguistic, invert-forget, invert-retain, a metric, report, or all
  --tune "R R R"   in place of the table: tries these learning rates for each method on questions that no table uses, and
                   writes the best into scripts/presets/tuned/, which later runs of the preset read
  --metrics "A B"  further metrics, all or some of: $measures (default: the preset's METRICS, none)

A step whose results are there and whose command, script and inputs have not changed is skipped; an interrupted one continues.
PYTHON=/path/to/python uses that interpreter and its packages in place of .venv.
END
}

# ---- flags beat the preset, the preset beats the scripts' defaults
preset=people-smollm2 run= force= tune= flag_data= flag_model= flag_methods= flag_persons= flag_metrics=
while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit 0 ;;
    --preset|--data|--model|--methods|--persons|--run|--force|--tune|--metrics)
      [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value (see --help)"
      case $1 in --preset|--run|--force|--tune) printf -v "${1#--}" %s "$2" ;; *) printf -v "flag_${1#--}" %s "$2" ;; esac
      shift 2 ;;
    *) fail "unknown argument $1 (see --help)" ;;
  esac
done
[ -f "scripts/presets/$preset.sh" ] || fail "unknown preset $preset; there are: $presets"
declare -A SET=() LR=()  # by method: its flags, and the learning rate that tuning chose
. "scripts/presets/$preset.sh"
tuned=scripts/presets/tuned/$preset.sh
if [ -f "$tuned" ]; then . "$tuned"; fi
data=${flag_data:-$DATA} model=${flag_model:-$MODEL} chosen=${flag_methods:-$METHODS} run=${run:-$preset}
if [ "$chosen" = all ]; then chosen=$methods; fi
chosen=" $(echo ${chosen//,/ }) "
for name in $chosen; do grep -qxF -- "$name" <<<"$methods" || fail "unknown method $name; there are: $(echo $methods)"; done
measured=${flag_metrics:-${METRICS:-}}
if [ "$measured" = all ]; then measured=$measures; fi
measured=" $(echo ${measured//,/ }) "
for name in $measured; do [[ " $measures " == *" $name "* ]] || fail "unknown metric $name; there are: $measures"; done
[[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._+-]*$ ]] || fail "--run $run: use letters, digits, dot, dash, plus and underscore"
case $data in people|knowundo|tofu) ;; *) [ -d "$data" ] || fail "--data $data: not people, knowundo or tofu, and no such folder" ;; esac
if [ -n "$force" ]; then
  known="all models minilm data vanilla retrained augment augmented invert memo $(echo $methods) kfr_krr linguistic invert-forget invert-retain $measures report"
  for name in vanilla retrained $methods; do known+=" answers-$name tune-$name"; done
  [[ " $known " == *" $force "* ]] || fail "--force $force: unknown step; there are: $known"
fi

# ---- Python packages, once
. scripts/environment.sh requirements.txt

# ---- step NAME OUTPUT INPUT:INPUT... SCRIPT FLAGS...: runs a script unless its output is there and nothing it depends on has changed
R=work/$run
mkdir -p "$R/.steps"
if command -v flock >/dev/null; then exec 9>"$R/.lock"; flock -n 9 || fail "another run_all.sh is at work in $R"; fi
sources() {  # a script and the modules beside it that it imports
  local name
  echo "$1"
  for name in $(sed -nE 's/^ *(from|import) ([a-z_]+).*/\2/p' "$1"); do
    if [ -f "${1%/*}/$name.py" ]; then sources "${1%/*}/$name.py"; fi
  done
}
step() {
  local name=$1 output=$2 inputs=$3 script=$4 key; shift 3
  key=$({ echo "$@"; sources "$script" | sort -u | xargs cat
          IFS=:; find -L $inputs -type f -printf '%p %s %T@\n' | sort; } | sha256sum)
  [ "$force" = "$name" ] || [ "$force" = all ] && rm -f "$R/.steps/$name"
  if [ -e "$output" ] && [ "$key" = "$(cat "$R/.steps/$name" 2>/dev/null)" ]; then echo "== $name: done before"; return 0; fi
  local began=$SECONDS status=0
  echo "== $name"
  "$PYTHON" "$@" || status=$?
  [ $status = 0 ] || { echo "step $name stopped; the same command continues from here" >&2; exit $status; }
  echo "== $name: $((SECONDS - began)) s"
  echo "$key" >"$R/.steps/$name.partial" && mv "$R/.steps/$name.partial" "$R/.steps/$name"
}
wanted() {  # NAME...: is one of these methods chosen?
  local name
  for name; do [[ $chosen == *" $name "* ]] && return 0; done
  return 1
}
answer() {  # NAME FOLDER: the model's answers to the validation questions
  [ -z "$tune" ] || return 0
  step "answers-$1" "$R/answers/$1/generation.json" "$2:$R/data/*_val.jsonl" scripts/30_generate.py --model "$2" \
    --questions "$R/data/forget_val.jsonl" "$R/data/retain_val.jsonl" --out "$R/answers/$1" $GENERATE
  answered+=("$1") folders+=("$2")
}
method() {  # NAME SCRIPT FLAGS...: unlearns the vanilla model, then asks it; the last of equal flags counts
  wanted "$1" || return 0
  local flag inputs="$R/models/vanilla:$R/data/*_train.jsonl" flags="$TRAIN ${SET[$1]:-$BASELINE}"
  for flag in "${@:3}"; do if [ -e "$flag" ]; then inputs+=":$flag"; fi; done
  if [ -n "$tune" ]; then
    step "tune-$1" "$R/tune/$1/tune.json" "$inputs" scripts/31_tune.py --name "$1" --rates $tune --model "$R/models/vanilla" \
      --data "$R/data" --out "$R/tune/$1" --choices "$tuned" --embedding "$R/models/minilm" --generate " $GENERATE" -- "scripts/$2" $flags "${@:3}"
    return
  fi
  step "$1" "$R/methods/$1" "$inputs" "scripts/$2" --model "$R/models/vanilla" --data "$R/data" --out "$R/methods/$1" \
    $flags "${@:3}" ${LR[$1]:+--lr ${LR[$1]}}
  answer "$1" "$R/methods/$1"
}
extrapolate() {  # NAME METHOD FLAGS...: goes on in the direction of a finished method
  wanted "$1" && [ -z "$tune" ] || return 0
  step "$1" "$R/methods/$1" "$R/methods/$2:$R/data/retain_tune.jsonl" scripts/20_uipe.py --model "$R/methods/$2" --data "$R/data" \
    --out "$R/methods/$1" "${@:3}"
  answer "$1" "$R/methods/$1"
}

# ======================================================================== the run
step models    "$R/models/base"      "$([ -d "$model" ] && echo "$model" || echo scripts/00_models.py)" \
                                     scripts/00_models.py --model "$model" --chat-template "$TEMPLATE" --out "$R/models/base"
step minilm    "$R/models/minilm"    scripts/00_models.py  scripts/00_models.py --model minilm --out "$R/models/minilm"
step data      "$R/data/data.json"   "$([ -d "$data" ] && echo "$data" || echo data/people)" \
                                     scripts/01_data.py --data "$data" --out "$R/data" --persons "${flag_persons:-$PERSONS}" $DATA_FLAGS
step vanilla   "$R/models/vanilla"   "$R/models/base:$R/data/full.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/vanilla" $TRAIN $FINETUNE
[ -n "$tune" ] ||
step retrained "$R/models/retrained" "$R/models/base:$R/data/full_without_forget.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/retrained" --without-forget $TRAIN $FINETUNE
step augment   "$R/augmented/forget_augmented.jsonl" "$R/data/forget_train.jsonl:data/augmentation.json:data/general_knowledge.jsonl" \
                                     scripts/03_augment.py --data "$R/data" --out "$R/augmented/forget_augmented.jsonl" $AUGMENT
answer vanilla   "$R/models/vanilla"
answer retrained "$R/models/retrained"

if wanted RKLD RKLD+GDR FKLD; then
step augmented "$R/models/augmented" "$R/models/vanilla:$R/data/forget_train.jsonl"  scripts/02_finetune.py --model "$R/models/vanilla" --data "$R/data" \
                                     --out "$R/models/augmented" --forget forget_train.jsonl --adapter $TRAIN $AUGMENTED
fi

if wanted MEOW; then
step invert "$R/augmented/inverted.jsonl" "$R/data/forget_train.jsonl:data/inversion.json"  scripts/04_invert.py --data "$R/data" \
                                     --out "$R/augmented/inverted.jsonl"
step memo   "$R/augmented/memo.json" "$R/models/vanilla:$R/augmented/inverted.jsonl"  eval/04_memorization.py --model "$R/models/vanilla" \
                                     --pairs "$R/augmented/inverted.jsonl" --out "$R/augmented/memo.json" $MEMO
fi

# one line a method; more flags: the preset's SET (or BASELINE), then the tuned learning rate
method GA               10_ga.py       --retain none
method GA+GDR           10_ga.py       --retain gdr
method GA+KLR           10_ga.py       --retain klr
method NPO              11_npo.py      --retain none
method NPO+GDR          11_npo.py      --retain gdr
method NPO+KLR          11_npo.py      --retain klr
method DPO              13_dpo.py      --retain none
method DPO+GDR          13_dpo.py      --retain gdr
method DPO+KLR          13_dpo.py      --retain klr
method IDK              14_idk.py      --retain none
method IDK+GDR          14_idk.py      --retain gdr
method IDK+KLR          14_idk.py      --retain klr
method GA+GDR+SURE      15_sure.py     --loss ga  --retain gdr
method GA+KLR+SURE      15_sure.py     --loss ga  --retain klr
method NPO+GDR+SURE     15_sure.py     --loss npo --retain gdr
method NPO+KLR+SURE     15_sure.py     --loss npo --retain klr
method GA+GDR+MemFlex   16_memflex.py  --loss ga  --retain gdr
method NPO+GDR+MemFlex  16_memflex.py  --loss npo --retain gdr
method ReLearn          12_relearn.py  --forget "$R/augmented/forget_augmented.jsonl"
method ReLearn-DPO      13_dpo.py      --prefer "$R/augmented/forget_augmented.jsonl" --retain gdr
method MEOW             17_meow.py     --forget "$R/augmented/inverted.jsonl" --memo "$R/augmented/memo.json"
method RKLD             18_rkld.py     --augmented "$R/models/augmented"
method RKLD+GDR         18_rkld.py     --augmented "$R/models/augmented" --retain gdr
method FKLD             18_rkld.py     --augmented "$R/models/augmented" --divergence forward
method TA               19_ta.py
extrapolate GA+GDR+UIPE   GA+GDR
extrapolate NPO+GDR+UIPE  NPO+GDR
if [ -n "$tune" ]; then cat "$tuned"; exit; fi

forget=("${answered[@]/#/$R/answers/}"); retain=("${forget[@]/%//retain_val.jsonl}"); forget=("${forget[@]/%//forget_val.jsonl}")
metrics=("${answered[@]/#/$R/metrics/}")
step kfr_krr    "$R/metrics" "$R/answers/*/*.jsonl:data/nli" eval/01_kfr_krr.py --forget "${forget[@]}" --retain "${retain[@]}" \
                --out "${metrics[@]/%//kfr_krr.json}" --embedding "$R/models/minilm"
step linguistic "$R/metrics" "$R/answers/*/*.jsonl" eval/02_linguistic.py --answers "${forget[@]}" "${retain[@]}" \
                --out "${metrics[@]/%//linguistic_forget.json}" "${metrics[@]/%//linguistic_retain.json}" --model "$R/models/base"

# further metrics of every model, each in one go; false answers that no model saw: TOFU's own, or inverted facts of another seed
measure() {  # NAME INPUT:INPUT... SCRIPT FLAGS...
  [[ $measured == *" $1 "* ]] || return 0
  step "$1" "$R/metrics/vanilla/$1.json" "$(IFS=:; echo "${folders[*]}"):$2" "${@:3}" --out "${metrics[@]/%//$1.json}"
}
inverted() {  # SIDE: false answers to its validation questions
  step "invert-$1" "$R/augmented/$1_inverted.jsonl" "$R/data/$1_val.jsonl:data/inversion.json" scripts/04_invert.py --data "$R/data" \
       --file "$1_val.jsonl" --seed 1 --out "$R/augmented/$1_inverted.jsonl"
}
if [[ $measured == *" exposure "* || ($measured == *" tofu "* && ! -e $R/data/forget_perturbed.jsonl) ]]; then inverted forget; fi
sets=
if [ -e "$R/data/forget_perturbed.jsonl" ]; then
  sets="--forget $R/data/forget_perturbed.jsonl"
  for name in retain real_authors world_facts; do
    if [ -e "$R/data/${name}_perturbed.jsonl" ]; then sets+=" --${name/_/-} $R/data/${name}_perturbed.jsonl"; fi
  done
elif [[ $measured == *" tofu "* ]]; then
  inverted retain
  # answers are their own paraphrases: true and false ones in one wording, so that the fact alone makes the ratio
  sets="--forget $R/data/forget_val.jsonl --paraphrased $R/data/forget_val.jsonl --perturbed $R/augmented/forget_inverted.jsonl"
  sets+=" --retain $R/data/retain_val.jsonl --retain-paraphrased $R/data/retain_val.jsonl --retain-perturbed $R/augmented/retain_inverted.jsonl"
fi
measure tofu          "$R/data:$R/augmented" eval/03_tofu.py --model "${folders[@]}" $sets --reference "$R/metrics/retrained/tofu.json" \
                      --max-new-tokens "$(sed -n 's/.*--max-new-tokens \([0-9]*\).*/\1/p' <<<"$GENERATE")"
measure exposure      "$R/data:$R/augmented" eval/05_exposure.py --models "${folders[@]}" --reference "$R/models/retrained" \
                      --forget "$R/data/forget_val.jsonl" --fresh "$R/augmented/forget_inverted.jsonl"
measure memorization  "$R/data" eval/04_memorization.py --model "${folders[@]}" --pairs "$R/data/forget_val.jsonl" $MEMO --el 3
step report     "$R/report/table.md" "$R/metrics" eval/09_report.py --metrics "${metrics[@]}" --out "$R/report"
cat "$R/report/table.md"
