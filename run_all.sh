#!/usr/bin/env bash
# From nothing to a table: what each method forgot, what it kept, and whether the model still speaks well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "error: $*" >&2; exit 2; }
methods=$(sed -nE 's/^(method|extrapolate) +([^ ]+) .*/\2/p' run_all.sh)  # every line below that begins so
measures="next_token tofu exposure memorization robustness mechanism"
presets=$(basename -s .sh scripts/presets/*.sh | xargs)

usage() {
  cat <<END
usage: bash run_all.sh [--preset NAME] [--data NAME_OR_FOLDER] [--model ID_OR_PATH] [--methods "A B"] [--persons N|all]
                       [--vanilla ID_OR_PATH|none] [--run NAME] [--force STEP] [--tune "RATE RATE ..."] [--seeds "N N"]
                       [--metrics "A B"] [--jobs N] [--plan[=FLAGS]] [--rehearse]

  --preset NAME    values for a model and a data set (default: people-smollm2): $presets
  --data X         people, knowundo, tofu, or a folder with forget_train and retain_train (and forget_val, retain_val, forget_tune,
                   retain_tune: without them the training questions serve), .json or .jsonl, of {"question", "answer"} or
                   {"text", "labels"}; folders count from where run_all.sh is
  --model X        smollm2, tiny-random, a hub id or a model folder
  --vanilla X      hub id or folder of a model that knows everything already (in its folder's weights, not an adapter), or none:
                   it is fine-tuned here (default: the preset's with the preset's model, else none)
  --methods "A B"  the preset's (default), all, or some of: $(echo $methods)
  --persons N|all  how many of the invented persons of \`people\` to use
  --run NAME       results go to work/NAME (default: the preset's name)
  --force STEP     run a finished step again: models, minilm, data, vanilla, retrained, augment, augmented,
                   invert, memo, a method,
                   answers-MODEL, kfr_krr, linguistic, invert-forget, invert-retain, a metric, report, or all
  --tune "R R R"   in place of the table: tries these learning rates for each method on the *_tune questions, and
                   writes the best into scripts/presets/tuned/, which later runs of the preset read
  --seeds "N N"    trains every chosen method but UIPE with these seeds too (0 is always there); the table shows mean ± deviation
  --metrics "A B"  further metrics, all or some of: $measures (default: the preset's METRICS, none)
  --jobs N         so many methods at once, each with its share of the processor's cores (default: 1). Two on two cores take two
                   thirds of the time where many methods are trained; another number of cores moves results by rounding
  --plan           prints every step with its model, data, updates, tokens, GPU memory and hours, and runs, installs and
                   downloads nothing; --plan="--tflops 400" gives scripts/32_plan.py flags (its --help says which)
  --rehearse       every step and flag of the preset on a tiny random model of the same architecture and a few pairs,
                   offline, in minutes, into work/NAME-rehearsal: shows that the preset runs, says nothing about unlearning

A step whose results are there and whose command, script and inputs have not changed is skipped; an interrupted one continues.
PYTHON=/path/to/python uses that interpreter and its packages in place of .venv.
END
}

# ---- flags beat the preset, the preset beats the scripts' defaults
command="bash run_all.sh"  # as given, for the report, but for --force and --jobs, which change no result
preset=people-smollm2 run= force= tune= seeds= jobs= plan= plan_flags= rehearse= embedding=minilm
flag_data= flag_model= flag_vanilla= flag_methods= flag_persons= flag_metrics=
while [ $# -gt 0 ]; do
  case $1 in --force|--jobs) ;; --plan*|--rehearse|--help|-h) command+=$(printf ' %q' "$1") ;; *) command+=$(printf ' %q' "${@:1:2}") ;; esac
  case $1 in
    --help|-h) usage; exit 0 ;;
    --plan|--plan=*) plan=yes plan_flags=${1#--plan} plan_flags=${plan_flags#=}; shift ;;
    --rehearse) rehearse=yes; shift ;;
    --preset|--data|--model|--vanilla|--methods|--persons|--metrics|--run|--force|--tune|--seeds|--jobs)
      [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value (see --help)"
      case $1 in --preset|--run|--force|--tune|--seeds|--jobs) printf -v "${1#--}" %s "$2" ;; *) printf -v "flag_${1#--}" %s "$2" ;; esac
      shift 2 ;;
    *) fail "unknown argument $1 (see --help)" ;;
  esac
done
[[ $preset != */* && -f scripts/presets/$preset.sh ]] || fail "unknown preset $preset; there are: $presets"
VANILLA= MODEL_FLAGS= INVERT= ROBUSTNESS= PUBLISHED=$preset    # of the presets some have these
declare -A SET=() LR=()  # by method: its flags, and the learning rate that tuning chose
. "scripts/presets/$preset.sh"
tuned=scripts/presets/tuned/$preset.sh
if [ -f "$tuned" ]; then . "$tuned"; fi
data=${flag_data:-$DATA} model=${flag_model:-$MODEL} chosen=${flag_methods:-$METHODS} run=${run:-$preset${rehearse:+-rehearsal}}
vanilla=$VANILLA  # a published vanilla model, made of the preset's own
if [ -n "$flag_model$flag_vanilla" ]; then vanilla=$flag_vanilla; fi
if [ "$vanilla" = none ]; then vanilla=; fi
modes=${plan:+1}${rehearse:+1}${tune:+1}
[ ${#modes} -le 1 ] || fail "--plan, --rehearse and --tune: give one of them"
seeds=${seeds//,/ } tune=${tune//,/ }
[[ $seeds =~ ^[0-9\ ]*$ ]] || fail "--seeds $seeds: give whole numbers"
seeds=$(tr -s ' ' '\n' <<<"$seeds" | sed -E 's/^0+//; /^$/d' | sort -nu | xargs)  # 0 is always there
[[ $tune =~ ^([0-9.]+(e[+-]?[0-9]+)?\ *)*$ ]] || fail "--tune $tune: give learning rates, as 3e-4 6e-4"
[ -z "$tune" ] || [ -z "$seeds" ] || fail "--tune and --seeds: give one of them; rates are tuned with seed 0"
[[ $jobs =~ ^([1-9][0-9]?)?$ ]] || fail "--jobs $jobs: give a number from 1 to 99"
if [ "$chosen" = all ]; then chosen=$methods; fi
set -f  # a star names no file
chosen=" $(echo ${chosen//,/ }) "
[ "$chosen" != "  " ] || fail "--methods names none; there are: $(echo $methods)"
for name in $chosen; do grep -qxF -- "$name" <<<"$methods" || fail "unknown method $name; there are: $(echo $methods)"; done
while read -r name base; do
  [[ $chosen != *" $name "* || $chosen == *" $base "* ]] || fail "$name goes on from $base: choose both, --methods \"$base $name\""
done < <(sed -nE 's/^extrapolate +([^ ]+) +([^ ]+).*/\1 \2/p' run_all.sh)
measured=${flag_metrics:-${METRICS:-}}
if [ "$measured" = all ]; then measured=$measures; fi
measured=" $(echo ${measured//,/ }) "
for name in $measured; do [[ " $measures " == *" $name "* ]] || fail "unknown metric $name; there are: $measures"; done
set +f
[[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._+-]*$ ]] || fail "--run $run: use letters, digits, dot, dash, plus and underscore"
case $data in people|knowundo|tofu) ;; *) [ -d "$data" ] || fail "--data $data: not people, knowundo or tofu, and no such folder" ;; esac
if [ -n "$force" ]; then
  known="all models minilm data vanilla retrained augment augmented invert memo $(echo $methods) kfr_krr linguistic invert-forget invert-retain $measures report"
  for name in vanilla retrained $methods; do known+=" answers-$name tune-$name"; done
  [[ $force != *" "* && " $known " == *" ${force%@*} "* ]] || fail "--force $force: unknown step; there are: $known"
fi

# ---- Python packages, once; a plan needs none
if [ -n "$plan" ]; then PYTHON=${PYTHON:-python3}; else . scripts/environment.sh requirements.txt; fi

# ---- step NAME OUTPUT INPUT:INPUT... SCRIPT FLAGS...: runs a script unless its output is there and nothing it depends on has changed
R=work/$run planned=
[ -n "$plan" ] || mkdir -p "$R/.steps"
if [ -z "$plan" ] && command -v flock >/dev/null; then exec 9>"$R/.lock"; flock -n 9 || fail "another run_all.sh is at work in $R"; fi
sources() {  # a script and the modules beside it that it imports
  local name
  echo "$1"
  for name in $(sed -nE 's/^ *(from|import) ([a-z_]+).*/\2/p' "$1"); do
    if [ -f "${1%/*}/$name.py" ]; then sources "${1%/*}/$name.py"; fi
  done
}
step() {
  local name=$1 output=$2 inputs=$3 script=$4 key; shift 3
  if [ -n "$plan" ]; then planned+=$name$(printf '\t%s' "$@")$'\n'; return 0; fi
  key=$({ echo "$@"; sources "$script" | sort -u | xargs cat
          IFS=:; find -L $inputs -type f -printf '%p %s %T@\n' | sort; } | sha256sum)
  [ "$force" = "$name" ] || [ "$force" = all ] && rm -f "$R/.steps/$name"
  if [ -e "$output" ] && [ "$key" = "$(cat "$R/.steps/$name" 2>/dev/null)" ]; then echo "== $name: done before"; return 0; fi
  local began=$SECONDS status=0
  echo "== $name"
  rm -f "$R/.steps/$name"  # interrupted, the output is half this command's and half an earlier one's
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
beside() {  # COMMAND...: runs it when fewer than --jobs others run, in a process group of its own
  if [ "$jobs" = 1 ]; then "$@"; return; fi
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || exit $?; done
  set -m
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / jobs > 0 ? cores / jobs : 1))} "$@" &
  running+=($!)
  set +m
}
together() {  # waits for all that run beside each other
  local one
  for one in "${running[@]}"; do wait "$one" || exit $?; done
  running=()
}
trap 'for one in $(jobs -rp); do kill -- "-$one" 2>/dev/null || kill "$one" || :; done; wait' EXIT  # its group where it leads one
answer() {  # NAME FOLDER: the model's answers to the validation questions
  step "answers-$1" "$R/answers/$1/generation.json" "$2:$R/data/*_val.jsonl" scripts/30_generate.py --model "$2" \
    --questions "$R/data/forget_val.jsonl" "$R/data/retain_val.jsonl" --out "$R/answers/$1" $GENERATE
}
unlearn() {  # NAME INPUT:INPUT... SCRIPT FLAGS...: trains a model and asks it
  step "$1" "$R/methods/$1" "$2" "$3" --out "$R/methods/$1" "${@:4}"
  answer "$1" "$R/methods/$1"
}
asked() {  # NAME FOLDER: one more model of the table
  answered+=("$1") folders+=("$2")
}
method() {  # NAME SCRIPT FLAGS...: unlearns the vanilla model, with every seed, then asks it; the last of equal flags counts
  wanted "$1" || return 0
  local flag name seed inputs="$R/models/vanilla:$R/data/*_train.jsonl" flags="$TRAIN ${SET[$1]:-$BASELINE}"
  for flag in "${@:3}"; do if [ -e "$flag" ]; then inputs+=":$flag"; fi; done
  case $2 in 13_dpo.py|14_idk.py) inputs+=:data/refusals.json ;; esac
  if [ -n "$tune" ]; then
    if [ "$force" = "tune-$1" ] || [ "$force" = all ]; then rm -rf "$R/tune/$1"; fi
    inputs+=":$R/data/*_tune.jsonl:$(sources "scripts/$2" | sort -u | paste -sd:):scripts/30_generate.py:eval/01_kfr_krr.py:data/nli"
    beside step "tune-$1" "$R/tune/$1/tune.json" "$inputs" scripts/31_tune.py --name "$1" --rates $tune --model "$R/models/vanilla" \
      --data "$R/data" --out "$R/tune/$1" --choices "$tuned" --embedding "$R/models/minilm" --generate " $GENERATE" -- "scripts/$2" $flags "${@:3}"
    return
  fi
  for seed in "" $seeds; do
    name=$1${seed:+@$seed}
    beside unlearn "$name" "$inputs" "scripts/$2" --model "$R/models/vanilla" --data "$R/data" \
      $flags "${@:3}" ${LR[$1]:+--lr ${LR[$1]}} ${seed:+--seed $seed}
    asked "$name" "$R/methods/$name"
  done
}
extrapolate() {  # NAME METHOD FLAGS...: goes on in the direction of a finished method
  wanted "$1" && [ -z "$tune" ] || return 0
  beside unlearn "$1" "$R/methods/$2:$R/data/retain_tune.jsonl" scripts/20_uipe.py --model "$R/methods/$2" --data "$R/data" "${@:3}"
  asked "$1" "$R/methods/$1"
}

# ======================================================================== the run
if [ -n "$rehearse" ]; then . scripts/rehearsal.sh; fi
jobs=${jobs:-${rehearse:+2}} jobs=${jobs:-1} cores=$(getconf _NPROCESSORS_ONLN) running=()
if [ -n "$plan" ]; then jobs=1; fi
step models    "$R/models/base"      "$([ -d "$model" ] && echo "$model" || echo scripts/00_models.py)" \
                                     scripts/00_models.py --model "$model" --chat-template "$TEMPLATE" --out "$R/models/base" $MODEL_FLAGS
step minilm    "$R/models/minilm"    scripts/00_models.py  scripts/00_models.py --model "$embedding" --out "$R/models/minilm"
step data      "$R/data/data.json"   "$([ -d "$data" ] && echo "$data" || echo data/people)" \
                                     scripts/01_data.py --data "$data" --out "$R/data" --persons "${flag_persons:-$PERSONS}" $DATA_FLAGS
if [ -n "$vanilla" ]; then
step vanilla   "$R/models/vanilla"   "$R/models/base$([ -d "$vanilla" ] && echo ":$vanilla")"  scripts/00_models.py --model "$vanilla" \
                                     --tokenizer "$R/models/base" --out "$R/models/vanilla"
else
step vanilla   "$R/models/vanilla"   "$R/models/base:$R/data/full.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/vanilla" $TRAIN $FINETUNE
fi
[ -n "$tune" ] ||
step retrained "$R/models/retrained" "$R/models/base:$R/data/full_without_forget.jsonl"  scripts/02_finetune.py --model "$R/models/base" --data "$R/data" \
                                     --out "$R/models/retrained" --without-forget $TRAIN $FINETUNE
step augment   "$R/augmented/forget_augmented.jsonl" "$R/data/forget_train.jsonl:data/augmentation.json:data/general_knowledge.jsonl" \
                                     scripts/03_augment.py --data "$R/data" --out "$R/augmented/forget_augmented.jsonl" $AUGMENT
for name in vanilla retrained; do
  [ -n "$tune" ] || beside answer "$name" "$R/models/$name"
  asked "$name" "$R/models/$name"
done

if wanted RKLD RKLD+GDR RKLD+KLR FKLD; then
step augmented "$R/models/augmented" "$R/models/vanilla:$R/data/forget_train.jsonl"  scripts/02_finetune.py --model "$R/models/vanilla" --data "$R/data" \
                                     --out "$R/models/augmented" --forget forget_train.jsonl --adapter $TRAIN $AUGMENTED
fi

if wanted MEOW; then
step invert "$R/augmented/inverted.jsonl" "$R/data/forget_train.jsonl:data/inversion.json"  scripts/04_invert.py --data "$R/data" \
                                     --out "$R/augmented/inverted.jsonl" $INVERT
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
method RKLD+KLR         18_rkld.py     --augmented "$R/models/augmented" --retain klr
method FKLD             18_rkld.py     --augmented "$R/models/augmented" --divergence forward
method TA               19_ta.py
together  # UIPE goes on from these
extrapolate GA+UIPE       GA
extrapolate GA+GDR+UIPE   GA+GDR
extrapolate GA+KLR+UIPE   GA+KLR
extrapolate NPO+UIPE      NPO
extrapolate NPO+GDR+UIPE  NPO+GDR
together
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
perturbed() {  # SET: has the data set false answers of its own? TOFU does, which a plan must know before they are there
  [ -e "$R/data/$1_perturbed.jsonl" ] || { [ -n "$plan" ] && [ "$data" = tofu ]; }
}
if [[ $measured == *" exposure "* ]] || { [[ $measured == *" tofu "* ]] && ! perturbed forget; }; then inverted forget; fi
sets=
if perturbed forget; then
  sets="--forget $R/data/forget_perturbed.jsonl"
  for name in retain real_authors world_facts; do
    if perturbed "$name"; then sets+=" --${name/_/-} $R/data/${name}_perturbed.jsonl"; fi
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
measure next_token    "$R/data" eval/08_next_token.py --model "${folders[@]}" --questions "$R/data/forget_val.jsonl"
measure memorization  "$R/data" eval/04_memorization.py --model "${folders[@]}" --pairs "$R/data/forget_val.jsonl" $MEMO --el 3
if [[ $measured == *" robustness "* ]]; then
step robustness "$R/report/robustness.md" "$(IFS=:; echo "${folders[*]}"):$R/data:data/attacks.json:data/nli:eval/01_kfr_krr.py" eval/10_robustness.py \
                --models "${folders[@]}" --forget "$R/data/forget_val.jsonl" --out "$R/metrics" --report "$R/report" --embedding "$R/models/minilm" $ROBUSTNESS
fi
if [[ $measured == *" mechanism "* ]]; then
step mechanism  "$R/mechanism/mechanism.md" "$(IFS=:; echo "${folders[*]}"):$R/data:eval/01_kfr_krr.py" eval/11_mechanism.py \
                --models "${folders[@]}" --questions "$R/data/forget_val.jsonl" --out "$R/mechanism"
fi
step report     "$R/report/table.md" "$R/metrics:data/published.json" eval/09_report.py \
                --metrics "${metrics[@]}" --run "$R" --preset "$preset" --command "$command" $(grep -q "^ \"$PUBLISHED\":" data/published.json && echo --published "$PUBLISHED") --out "$R/report"
if [ -n "$plan" ]; then "$PYTHON" scripts/32_plan.py $plan_flags <<<"$planned"; exit; fi
cat "$R/report/table.md"
