# Sourced by run_all.sh and scripts/tools/meta_evaluation.sh: the engine behind their lines, which nobody needs to open.
# First come flags and preset (`begin`); then their lines declare steps (`step`, `method`, `metric`); then `run` checks
# every name and runs what the table needs.
#
# A step waits for the steps that make what it reads, and for nothing else. It is done if its stamp, $R/.steps/NAME,
# holds the command, the content of its scripts, the dates of its inputs and the hashes of what it wrote, as they are.
. scripts/requests.sh
presets=$(basename -s .sh scripts/presets/*.sh | xargs)
set -f  # a star in a setting names no file

fail() { echo "error: $*" >&2; exit 2; }

usage() {
  cat <<END
usage: bash run_all.sh [--preset NAME] [--data NAME_OR_FOLDER] [--model ID_OR_PATH] [--template NAME]
                       [--methods "A B"] [--set "METHOD FLAGS"]... [--show METHOD] [--metrics "A B"] [--judge FLAGS]
                       [--seeds "N N"] [--columns NAME=COLUMN,...] [--persons N|all] [--vanilla ID_OR_PATH|none]
                       [--retrained ID_OR_PATH|none] [--tune "RATE RATE ..."] [--tuned NAME_OR_FILE|none] [--select K]
                       [--requests N|FILE] [--run NAME] [--force STEP] [--jobs N] [--check]
                       [--plan[=FLAGS]] [--rehearse]

  --preset NAME    values for a model and a data set (default: people-smollm2), one of
                   $(wrapped $presets)
  --data X         people, letters, knowundo, tofu, or a folder with forget_train and retain_train (and forget_val,
                   retain_val, forget_tune, retain_tune: without them the training questions serve): .json, .jsonl,
                   .csv, .tsv, .parquet, .txt or .md, gzipped or not, in pieces or a folder each; rows of {"question",
                   "answer"}, {"text", "labels"}, conversations ({"messages"}) or documents ({"text"} alone); folders
                   count from where run_all.sh is. Or a hub id: the preset's DATA_FLAGS="--files forget_train=FILE
                   retain_train=FILE" name its files
  --columns X      what a folder's files call these: question=prompt,answer=completion
  --model X        smollm2, tiny-random, a hub id or a model folder
  --template X     the prompt format: own (the chat template of the model's tokenizer), plain, llama2, llama3, gemma2,
                   chatml or open-unlearning (default: the preset's, whatever the model: here $TEMPLATE)
  --methods "A B"  the preset's (default), all, or some of
                   $(wrapped "${methods[@]}")
  --set "M FLAGS"  more flags for one method, or for every trained one (all), which beat all other settings:
                   --set "NPO+GDR --lr 1e-4", --set "all --full --lr 1e-5". Of equal flags the last counts, and
                   they come in this order: run_all.sh's line, the preset's TRAIN and BASELINE, tuned rates, the
                   preset's SET, --set
  --show METHOD    prints that method's flags and where each comes from, and runs nothing
  --metrics "A B"  all, or some of
                   $(wrapped "${metrics[@]}")
                   (default: the preset's METRICS, none; judge needs a --judge-model)
  --judge FLAGS    more flags for the judge of answers, over the preset's JUDGE: eval/01_kfr_krr.py --help has them
  --seeds "N N"    trains every chosen method but UIPE with these seeds too (0 is always there); the table then shows
                   mean ± deviation
  --persons N|all  how many of the invented persons of \`people\` to use (default: the preset's, for which its rates and
                   epochs are made; fewer are learnt less well)
  --vanilla X      hub id or folder of a model that knows everything already (in its folder's weights, not an adapter),
                   or none: it is fine-tuned here (default: the preset's with the preset's model, else none)
  --retrained X    likewise, of a model that never saw the forget set
  --tune "R R R"   in place of the table: tries these learning rates for each method on the *_tune questions, writes the
                   best into work/NAME/tuned.sh, and tells how to use them
  --tuned X        tuned rates to use, in place of the preset's TUNED: a name in scripts/presets/tuned, a file, or none.
                   Given here they beat the preset's SET too
  --select K       each method at the best of K points of its training, evenly apart, the last its end: the one whose
                   answers to the *_tune questions have the highest harmonic mean of KFR strict and KRR. The report has
                   every path. With --tune each rate is judged by its best point (default: the preset's SELECT, none)
  --requests X     the forget set also as requests that come one after another, each unlearned from the model that the
                   last one left: how many (8 of the ten persons: one each), or a file with a request a line
                   (scripts/07_requests.py --help); a figure, a table and a certificate beside the report
  --run NAME       results go to work/NAME (default: the preset's name)
  --force STEP     runs a finished step again: one that the run names after "==", or all
  --jobs N         steps that run beside each other, each on its share of the processor's cores (here: $(default_jobs));
                   another share moves results by rounding
  --check          reads the data and tells what is in it, what training would cut, what is both to be forgotten and to
                   be kept, how sure the numbers can be, and the time that a run would take; trains nothing
  --plan           prints every step with its model, data, updates, tokens, GPU memory and hours, and runs, installs and
                   downloads nothing; --plan="--tflops 400" gives scripts/tools/plan.py flags (its --help says which)
  --rehearse       every step and flag of the preset on a tiny random model of the same architecture and a few pairs,
                   offline, in minutes, into work/NAME-rehearsal: shows that the preset runs, says nothing of unlearning

A step whose results are there and whose command, scripts and inputs have not changed is skipped; an interrupted one
continues. PYTHON=/path/to/python uses that interpreter and its packages in place of .venv.
END
}

wrapped() { fold -sw 100 <<<"$*" | sed '2,$s/^/                   /'; }

# ---------------------------------------------------------------- words and flags

split() {  # ARRAY TEXT: the lines of a text, none of an empty one
  if [ -n "$2" ]; then mapfile -t "$1" <<<"$2"; else eval "$1=()"; fi
}

lines() { local IFS=$'\n'; echo "$*"; }

last_of() {  # --FLAG WORDS...: the flag and the value that counts, of equal flags the last; nothing where there is none
  local value
  value=$(value_of "$@")
  if [ -n "$value" ]; then echo "$1 $value"; fi
}

value_of() {  # likewise, the value alone
  local flag=$1 before= found=; shift
  for word; do
    if [ "$before" = "$flag" ]; then found=$word; fi
    if [[ $word == "$flag="* ]]; then found=${word#*=}; fi
    before=$word
  done
  echo "$found"
}

# ---------------------------------------------------------------- settings: flags beat the preset

declare -A given=() over=()  # flags of run_all.sh; by method what --set gives
mode=run plan_flags=
as_given="bash run_all.sh"  # for the report: without --force and --jobs, which change no result

read_flags() {
  local value modes=0
  while [ $# -gt 0 ]; do
    case $1 in
      --help|-h) mode=help; shift; continue ;;
      --plan|--plan=*) mode=plan modes=$((modes + 1)) plan_flags=${1#--plan} plan_flags=${plan_flags#=}
                       shift; continue ;;
      --check) mode=check modes=$((modes + 1)); shift; continue ;;
      --rehearse) mode=rehearse modes=$((modes + 1)); as_given+=" $1"; shift; continue ;;
      --preset|--data|--columns|--model|--vanilla|--retrained|--methods|--persons|--metrics|--judge|--set|--show) ;;
      --template|--run|--force|--tune|--tuned|--select|--seeds|--jobs|--requests) ;;
      *) fail "unknown argument $1 (see --help)" ;;
    esac
    [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value (see --help)"
    if [[ $1 != --judge && $2 == --* ]]; then fail "$1 needs a value, and $2 is a flag (see --help)"; fi
    case $1 in --force|--jobs) ;; *) as_given+=$(printf ' %q' "$1" "$2") ;; esac
    case $1 in
      --set) value=$(echo $2)
             [[ $value == *" --"* ]] || fail "--set $2: give a method and flags, as \"NPO+GDR --lr 1e-4\""
             over[${value%% *}]+=" ${value#* }" ;;
      --tune) mode=tune modes=$((modes + 1)) ;;
      --show) mode=show ;;
    esac
    given[${1#--}]=$2
    shift 2
  done
  [ $modes -le 1 ] || fail "--plan, --check, --rehearse and --tune: give one of them"
}

read_preset() {  # its values, with the tuned rates that it names
  local name
  preset=${given[preset]:-people-smollm2}
  [[ $preset != */* && -f scripts/presets/$preset.sh ]] || fail "unknown preset $preset; there are: $presets"
  VANILLA= RETRAINED= MODEL_FLAGS= INVERT= METRICS= TOFU_FLAGS= ROBUSTNESS= ABILITY= JUDGE= TUNED=  # some have these
  PUBLISHED=$preset EMBEDDING=minilm SELECT=
  declare -gA SET=() LR=() TRIED=()  # by method: its flags, the learning rate that tuning chose, of how many
  . "scripts/presets/$preset.sh"
  for name in MODEL TEMPLATE DATA PERSONS DATA_FLAGS METHODS TRAIN FINETUNE AUGMENT MEMO AUGMENTED BASELINE GENERATE; do
    [ -n "${!name+set}" ] || fail "scripts/presets/$preset.sh gives no $name"
  done
  tuned=${given[tuned]:-$TUNED}
  case $tuned in ""|none) tuned= ;; */*) ;; *) tuned=scripts/presets/tuned/$tuned.sh ;; esac
  if [ -n "$tuned" ]; then
    [ -f "$tuned" ] || fail "no tuned rates in $tuned: give a name in scripts/presets/tuned, a file, or none"
    . "$tuned"
  fi
}

read_numbers() {
  seeds=${given[seeds]:-} rates=${given[tune]:-} jobs=${given[jobs]:-} force=${given[force]:-}
  points=${given[select]:-$SELECT}
  seeds=${seeds//,/ } rates=${rates//,/ }
  [[ $seeds =~ ^[0-9\ ]*$ ]] || fail "--seeds $seeds: give whole numbers"
  seeds=$(tr -s ' ' '\n' <<<"$seeds" | sed -E 's/^0+//; /^$/d' | sort -nu | xargs)  # 0 is always there
  [[ $rates =~ ^([0-9.]+(e[+-]?[0-9]+)?\ *)*$ ]] || fail "--tune $rates: give learning rates, as 3e-4 6e-4"
  [ -z "$rates" ] || [ -z "$seeds" ] || fail "--tune and --seeds: give one of them; rates are tuned with seed 0"
  [[ $points =~ ^([1-9][0-9]{0,2})?$ ]] || fail "--select $points: give a number of points, from 1 to 999"
  [[ $jobs =~ ^([1-9][0-9]?)?$ ]] || fail "--jobs $jobs: give a number from 1 to 99"
  [[ $force != *" "* ]] || fail "--force: unknown step $force; give one, or all"
}

read_names() {  # what the flags name, else the preset
  local run=${given[run]:-$preset}
  if [ "$mode" = rehearse ] && [ -z "${given[run]:-}" ]; then run+=-rehearsal; fi
  [[ $run =~ ^[A-Za-z0-9][A-Za-z0-9._+-]*$ ]] || fail "--run $run: use letters, digits, dot, dash, plus and underscore"
  [ ${#run} -le 100 ] || fail "--run: a name of ${#run} characters is too long; use at most 100"
  R=work/$run
  if [ -n "${given[model]:-}${given[vanilla]:-}" ]; then VANILLA=; fi  # a published model is made of the preset's own
  if [ -n "${given[model]:-}${given[retrained]:-}" ]; then RETRAINED=; fi
  case ${given[data]:-} in
    people|letters|knowundo|tofu) if [ "${given[data]}" != "$DATA" ]; then PUBLISHED=none; fi ;;  # of other data
  esac
  MODEL=$(path "${given[model]:-$MODEL}") TEMPLATE=${given[template]:-$TEMPLATE}
  DATA=$(path "${given[data]:-$DATA}") PERSONS=${given[persons]:-$PERSONS}
  VANILLA=$(path "${given[vanilla]:-$VANILLA}") RETRAINED=$(path "${given[retrained]:-$RETRAINED}")
  if [ "$VANILLA" = none ]; then VANILLA=; fi
  if [ "$RETRAINED" = none ]; then RETRAINED=; fi
  columns=(${given[columns]:+--columns "${given[columns]}"})  # a name may hold blanks
  data_flags=($DATA_FLAGS "${columns[@]}")
  METHODS=${given[methods]:-$METHODS} METRICS=${given[metrics]:-$METRICS}
  METHODS=$(echo ${METHODS//,/ }) METRICS=$(echo ${METRICS//,/ })
  case $DATA in
    people|knowundo|tofu) ;;
    letters) DATA=data/letters ;;
    *) [ -d "$DATA" ] || hub_id "$DATA" ||
         fail "--data $DATA: not people, letters, knowundo, tofu or OWNER/NAME, and no such folder"
       if [[ ! -d $DATA && " $DATA_FLAGS " != *" --files "* ]]; then
         echo "--data $DATA: no such folder here; taken for a data set of the hub, but DATA_FLAGS names no --files" >&2
       fi ;;
  esac
}

hub_id() {  # owner/name, as lib/hub.py has it: a path into a folder that is there, work or data is none
  local word='[A-Za-z0-9_][A-Za-z0-9_.-]*'
  [[ $1 =~ ^$word/$word$ && ! -d ${1%%/*} && $1 != work/* && $1 != data/* ]]
}

path() { if [[ $1 == -* ]]; then echo "./$1"; else echo "$1"; fi; }  # a folder's name is never a flag

read_judge() {  # JUDGE's words, quoted as in the shell
  local text words word keep=
  text="$JUDGE ${given[judge]:-}"
  words=$(xargs -r printf '%s\n' <<<"$text" 2>/dev/null) || fail "JUDGE=$text: a quote is open"
  split judge "$(sed -E 's/^(--[a-z-]+)=/\1\n/' <<<"$words")"  # --flag=value is two words
  llm_judge=()  # of them those that name a language model: all that eval/13_judge.py takes
  for word in "${judge[@]}"; do
    case $word in --judge-model|--backend-flags) keep=yes ;; --*) keep= ;; esac
    if [ -n "$keep" ]; then llm_judge+=("$word"); fi
  done
  judging=data/nli  # what verdicts rest on beside these words
  if [ "$(value_of --entities "${judge[@]}")" = llm ]; then judging+=" data/prompts/entities.txt"; fi
  [[ " ${judge[*]} " == *" --embedding "* ]] || judge=(--embedding "$R/models/minilm" "${judge[@]}")
}

default_jobs() {  # as many as there are cores: a small model gains little from two; a GPU is for one step at a time
  local most=4 memory
  if [ "$mode" = rehearse ]; then echo 2; return; fi
  if [ -e /dev/nvidiactl ] || [ -e /dev/kfd ]; then echo 1; return; fi
  memory=$(awk '/^MemAvailable/ {print int($2 / 3e6)}' /proc/meminfo 2>/dev/null) || memory=
  if [ "$cores" -lt $most ]; then most=$cores; fi
  if [ "${memory:-$most}" -lt "$most" ]; then most=$memory; fi  # 3 GB for each
  echo $((most > 1 ? most : 1))
}

begin() {
  cores=$(env -u OMP_NUM_THREADS nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
  read_flags "$@"
  read_preset
  read_numbers
  read_names
  read_requests
  if hub_id "$DATA" || data_has "forget_train*"; then
    PUBLISHED=none  # somebody's own pairs: no paper has numbers of them
  fi
  REHEARSAL=  # a rehearsal's last word on every training
  if [ "$mode" = rehearse ]; then . scripts/tools/rehearsal.sh; fi
  read_judge
  jobs=${jobs:-$(default_jobs)}
}

# ---------------------------------------------------------------- what the lines of run_all.sh declare

order=() goals=() methods=() metrics=() rows=()     # names, as declared
folders= forget= retain=                            # of all models: a run's paths hold no space
declare -A words=() reads=() writes=()              # by step: its command, inputs and outputs, a line each
declare -A needs=()                                 # by step: those it waits for
declare -A maker=() inside=()                       # by path: the step that writes it; the steps that write into it
declare -A line_script=() line_flags=() goes_on=()  # by method

step() {  # NAME [reads FILE...] [writes FILE...] runs SCRIPT FLAGS...
  local name=$1 part= word command=() read=() written=() named=(); shift
  for word; do
    case $part:$word in
      runs:*) command+=("$word") ;;
      *:reads|*:writes|*:runs) part=$word ;;
      reads:*) read+=("$word") ;;
      writes:*) written+=("$word") ;;
    esac
  done
  out_of "${command[@]}"
  if [ ${#written[@]} = 0 ]; then written=("${named[@]}"); fi
  order+=("$name")
  words[$name]=$(lines "${command[@]}") writes[$name]=$(lines "${written[@]}") needs[$name]= reads[$name]=
  for word in "${written[@]}"; do makes "$name" "$word"; done
  for word in "${command[@]}" "${read[@]}"; do rests_on "$name" "$word"; done
}

out_of() {  # WORDS...: leaves in `named` the files and folders after --out
  local word out=
  for word; do
    case $word in --out) out=yes ;; --*) out= ;; *) if [ -n "$out" ]; then named+=("$word"); fi ;; esac
  done
}

makes() {  # STEP PATH
  local folder=$2
  maker[$2]=$1
  while [[ $folder == "$R"/*/* ]]; do folder=${folder%/*} inside[$folder]+=" $1"; done
}

rests_on() {  # STEP WORD: it reads what another step writes, or what is there
  local name=$1 word=$2 at=$2 by
  if [ -z "$word" ]; then return; fi
  if [[ $word = "$R" || $word =~ ^"$R"/(requests/data/[0-9]+|data)$ ]]; then return; fi  # of these, what `reads` lists
  if [[ " ${maker[$word]:-} ${inside[$word]:-} " == *" $name "* ]]; then return; fi  # it writes that itself
  if [[ $word != "$R"/* ]]; then
    if [ -e "$word" ]; then reads[$name]+=${reads[$name]:+$'\n'}$word; fi
    return
  fi
  while [[ -z ${maker[$at]:-} && $at == "$R"/*/* ]]; do at=${at%/*}; done
  for by in ${maker[$at]:-} ${inside[$word]:-}; do
    if [[ " ${needs[$name]} " != *" $by "* ]]; then needs[$name]+=" $by"; fi
  done
  reads[$name]+=${reads[$name]:+$'\n'}$word
}

row() {  # NAME FOLDER: one more model of the table, its folder, its answers
  rows+=("$1") folders+=" $2" forget+=" $R/answers/$1/forget_val.jsonl" retain+=" $R/answers/$1/retain_val.jsonl"
}

each() {  # [FILE]: that metrics file of every model; without one, its folder
  local name
  for name in "${rows[@]}"; do echo "$R/metrics/$name${1:+/$1.json}"; done
}

one_of() { [ "$1" = all ] || [[ " $1 " == *" $2 "* ]]; }  # NAMES NAME

method() {  # NAME SCRIPT FLAGS...: unlearns the vanilla model, with every seed
  local seed flags=() origin=()
  methods+=("$1") line_script[$1]=$2 line_flags[$1]=$(lines "${@:3}")
  one_of "$METHODS" "$1" || return 0
  flags_of "$1"
  if [ "$mode" = tune ]; then
    goals+=("tune-$1")
    tune "$1" "scripts/$2" "${flags[@]}"
    return
  fi
  for seed in "" $seeds; do
    unlearn "$1${seed:+@$seed}" "scripts/$2" --model "$R/models/vanilla" "${flags[@]}" ${seed:+--seed $seed}
  done
  sequence "$1"
}

trained() {  # NAME: the folder of its training
  if [ -n "$points" ] && [ -z "${goes_on[$1]:-}" ]; then echo "$R/trained/$1"; else echo "$R/methods/$1"; fi
}

best_point() {  # NAME DATA GENERATE: with --select, of the points of its training the best becomes the method's model
  if [ "$(trained "$1")" = "$R/methods/$1" ]; then return; fi
  step "select-$1" reads $2/{forget,retain}_{tune,val}.jsonl scripts/30_generate.py eval/01_kfr_krr.py $judging \
    "${judge[@]}" writes "$R/methods/$1" "$R/select/$1" runs scripts/tools/choose.py --points "$R/trained/$1" \
    --data "$2" --out "$R/methods/$1" --answers "$R/select/$1" $(rates_tried "${1%@*}") --generate " $3" \
    --judge " ${judge[*]@Q}"
}

rates_tried() {  # METHOD: flags that say of how many its rate is the best; 1 where another than the tuned one is given
  local flags=() origin=() tried=${TRIED[$1]:-1}
  flags_of "$1"
  if [ "$(value_of --lr "${flags[@]}")" != "${LR[$1]:-}" ]; then tried=1; fi
  echo "--rates ${tried%x*}"
  if [[ $tried == *x* ]]; then echo "--points-a-rate ${tried#*x}"; fi
}

extrapolate() {  # NAME METHOD FLAGS...: goes on in the direction of a finished method
  local flags=() origin=()
  methods+=("$1") line_script[$1]=20_uipe.py line_flags[$1]=$(lines "${@:3}") goes_on[$1]=$2
  one_of "$METHODS" "$1" && [ "$mode" != tune ] || return 0
  flags_of "$1"
  unlearn "$1" scripts/20_uipe.py --model "$R/methods/$2" "${flags[@]}"
}

metric() {  # NAME ... as step: a further metric of every model
  metrics+=("$1")
  if ! one_of "$METRICS" "$1" || [ "$mode" = tune ]; then return 0; fi
  if [ "$METRICS:$1:${llm_judge[*]}" = all:judge: ]; then return 0; fi  # it needs a language model
  goals+=("$1")
  step "$@"
}

# ---------------------------------------------------------------- a method's flags: which setting wins

flags_of() {  # METHOD: leaves in `flags` and `origin` its words and whence each comes; of equal flags the last counts
  local name=$1 line
  split line "${line_flags[$name]}"
  level run_all.sh "${line[@]}"
  if [ -z "${goes_on[$name]:-}" ]; then  # trained
    level "TRAIN of preset $preset" $TRAIN
    level "BASELINE of preset $preset" $BASELINE
    if [ -z "${given[tuned]:-}" ]; then tuned_rate; fi
  fi
  level "SET[$name] of preset $preset" ${SET[$name]:-}
  if [ -z "${goes_on[$name]:-}" ]; then
    if [ -n "${given[tuned]:-}" ]; then tuned_rate; fi  # like every flag it beats the preset
    level --set ${over[all]:-}
  fi
  level --set ${over[$name]:-}
  if [ -z "${goes_on[$name]:-}" ]; then
    level --select ${points:+--keep $points}
    level "the rehearsal" $REHEARSAL
    if [ "$name" = RMU ]; then level "the rehearsal" ${REHEARSAL:+--layer 1}; fi  # tiny models have one block or two
  fi
}

tuned_rate() { if [ "$mode" != tune ]; then level "$tuned" ${LR[$name]:+--lr ${LR[$name]}}; fi; }

level() {  # ORIGIN WORDS...: --flag=value is two
  local word
  for word in "${@:2}"; do
    if [[ $word =~ ^(--[a-z0-9-]+)=(.*)$ ]]; then
      flags+=("${BASH_REMATCH[@]:1}") origin+=("$1" "$1")
    else
      flags+=("$word") origin+=("$1")
    fi
  done
}

show() {  # METHOD: a line for each of its flags
  local flags=() origin=() seen=() at flag=
  local -A value=() from=() before=()
  flags_of "$1"
  for at in "${!flags[@]}"; do
    if [[ ${flags[$at]} == --* ]]; then
      flag=${flags[$at]}
      if [ -n "${from[$flag]:-}" ]; then
        before[$flag]="${before[$flag]:+${before[$flag]}, }${value[$flag]# } from ${from[$flag]}"
      else
        seen+=("$flag")
      fi
      value[$flag]= from[$flag]=${origin[$at]}
    else
      value[$flag]+=" ${flags[$at]}"
    fi
  done
  for flag in "${seen[@]}"; do
    printf '%-28s %s\n' "$flag${value[$flag]}" "${from[$flag]}${before[$flag]:+ (over ${before[$flag]})}"
  done
  echo "all others: the script's defaults, python scripts/${line_script[$1]} --help"
}

# ---------------------------------------------------------------- is every name known?

known() {  # WHAT NAME NAMES...
  local what=$1 name=$2; shift 2
  one_of "$*" "$name" && [ "$name" != all ] || fail "$what $name; there are: $*"
}

check_names() {
  local name
  if [ ${#methods[@]} = 0 ]; then  # steps without methods: the preset's are not meant
    METHODS=${given[methods]:-} METRICS=${given[metrics]:-} SET=() LR=()
  else
    [ -n "$METHODS" ] || fail "--methods names none; there are: ${methods[*]}"
  fi
  if [ "$METHODS" != all ]; then for name in $METHODS; do known "unknown method" "$name" "${methods[@]}"; done; fi
  if [ "$METRICS" != all ]; then for name in $METRICS; do known "unknown metric" "$name" "${metrics[@]}"; done; fi
  for name in "${!goes_on[@]}"; do
    if one_of "$METHODS" "$name" && ! one_of "$METHODS" "${goes_on[$name]}"; then
      fail "$name goes on from ${goes_on[$name]}: choose both, --methods \"${goes_on[$name]} $name\""
    fi
  done
  for name in "${!SET[@]}"; do known "SET of preset $preset: unknown method" "$name" "${methods[@]}"; done
  for name in "${!LR[@]}"; do known "$tuned: unknown method" "$name" "${methods[@]}"; done
  for name in "${!over[@]}"; do
    if [ "$name" = all ]; then continue; fi
    known "--set: unknown method" "$name" "${methods[@]}"
    if [ "$mode" = show ] || one_of "$METHODS" "$name"; then continue; fi
    fail "--set $name: this run does not train it; its methods are $METHODS"
  done
  check_sequences
  if [ "$METRICS" != all ] && one_of "$METRICS" judge && [ ${#llm_judge[@]} = 0 ]; then
    fail "--metrics judge needs a language model: --judge \"--judge-model NAME\", or JUDGE in the preset"
  fi
}

choose_steps() {  # leaves in `order` the steps that the goals need, and what those need
  local name at chosen=()
  local -A needed=()
  for name in "${goals[@]}"; do needed[$name]=yes; done
  for ((at = ${#order[@]} - 1; at >= 0; at--)); do  # a step needs earlier ones only
    name=${order[$at]}
    if [ -n "${needed[$name]:-}" ]; then
      chosen=("$name" "${chosen[@]}")
      for name in ${needs[$name]}; do needed[$name]=yes; done
    fi
  done
  order=("${chosen[@]}")
  [ -z "$force" ] || [ "$force" = all ] || known "--force: unknown step" "$force" all "${order[@]}"
}

# ---------------------------------------------------------------- is a step done?

written="== written =="  # a stamp: what the step rests on, this line, what it wrote, this line, the hashes of that
declare -A code=() basis=()  # by script: hash of it and of what it imports; by step: what it rests on

listing() {  # FILES...: every file in them with size and date
  if [ $# -gt 0 ]; then find -L "$@" -type f -printf '%p %s %T@\n' 2>/dev/null | LC_ALL=C sort || :; fi
}

hash_code() {  # of every script that a step names
  local name found=() all=()
  for name in "${order[@]}"; do
    split found "${words[$name]}"$'\n'"${reads[$name]}"
    for name in "${found[@]}"; do if [[ $name == *.py && $name != work/* && -f $name ]]; then all+=("$name"); fi; done
  done
  found=$("$PYTHON" scripts/tools/sources.py "${all[@]}" </dev/null) || fail "$PYTHON scripts/tools/sources.py failed"
  while read -r name hash; do code[${name:-none}]=$hash; done <<<"$found"
}

rest() {  # STEP: leaves in basis[STEP] what it rests on
  local input inputs files=()
  split inputs "${reads[$1]}"
  basis[$1]=${words[$1]}
  for input in "${inputs[@]}"; do
    if [[ $input == *.py ]]; then basis[$1]+=$'\n'"$input ${code[$input]:-}"; else files+=("$input"); fi
  done
  basis[$1]+=$'\n'$(listing "${files[@]}")
}

done_before() {  # STEP
  local stamp=$R/.steps/$1 text outputs
  rest "$1"
  if [ "$force" = "$1" ] || [ "$force" = all ] || [ ! -f "$stamp" ]; then return 1; fi
  { text=$(<"$stamp"); } 2>/dev/null  # a damaged one may hold anything
  [ "${text%%$'\n'"$written"*}" = "${basis[$1]}" ] || return 1
  split outputs "${writes[$1]}"
  text=${text#*"$written"$'\n'}
  if [ "${text%%$'\n'"$written"*}" = "$(listing "${outputs[@]}")" ]; then return 0; fi
  sha256sum --check --status <<<"${text#*"$written"$'\n'}" 2>/dev/null || return 1  # touched, not changed
  finished "$1"
}

finished() {  # STEP: writes its stamp
  local stamp=$R/.steps/$1 outputs
  split outputs "${writes[$1]}"
  {
    echo "${basis[$1]}"$'\n'"$written"$'\n'"$(listing "${outputs[@]}")"$'\n'"$written"
    find -L "${outputs[@]}" -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
  } 2>/dev/null >"$stamp.partial" && mv "$stamp.partial" "$stamp" || { rm -f "$stamp.partial"; return 1; }
}

# ---------------------------------------------------------------- running

declare -A state=() cost=() rank=() began=()  # by step
declare -A running=()                         # by process: its step

start() {  # STEP: in a process group of its own, so that it can be stopped with all its children
  local output outputs
  rm -rf "$R/.steps/$1"  # interrupted, its output is half this command's and half an earlier one's
  if [ "$force" = "$1" ] || [ "$force" = all ]; then
    split outputs "${writes[$1]}"
    for output in "${outputs[@]}"; do  # a metric passes over models whose file is there, tune.py over finished trials
      case $output in "$R"/metrics/*.json) rm -f "$output" ;; "$R"/tune/*) rm -f "$output"/*/trial.json ;; esac
    done
  fi
  echo "== $1"
  state[$1]=running began[$1]=$SECONDS
  set -m
  perform "$1" </dev/null &
  set +m
  running[$!]=$1
}

perform() {
  local command status=0
  set +e
  split command "${words[$1]}"
  if [ "$jobs" = 1 ]; then
    "$PYTHON" "${command[@]}" || status=$?
  else  # beside others: every line says whose it is. The share is always the same, as it moves results by rounding
    local share=$((cores / jobs > 0 ? cores / jobs : 1))
    export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$share}
    { { "$PYTHON" "${command[@]}" 2>&1 >&3 | label "$1" >&2; exit "${PIPESTATUS[0]}"; } 3>&1 | label "$1"; }
    status=${PIPESTATUS[0]}
  fi
  if [ $status = 0 ] && ! finished "$1"; then
    echo "error: step $1 has ended, but not all that it should have written is there, or $R cannot be written" >&2
    status=2
  fi
  exit $status
}

label() {
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    if [ -n "$line" ]; then printf '[%s] %s\n' "$1" "$line"; fi
  done
}

stop() {  # every step that runs, and its children
  local one tries
  trap '' INT TERM HUP
  for one in "${!running[@]}"; do kill -TERM -- "-$one" 2>/dev/null || :; done
  for tries in {1..50}; do
    for one in "${!running[@]}"; do
      if ! kill -0 -- "-$one" 2>/dev/null; then unset "running[$one]"; fi
    done
    if [ ${#running[@]} = 0 ]; then return; fi
    sleep 0.1
  done
  for one in "${!running[@]}"; do kill -KILL -- "-$one" 2>/dev/null || :; done
}

collect() {  # waits for a step to end
  local one name status
  wait -n "${!running[@]}" 2>/dev/null || :
  for one in "${!running[@]}"; do
    if kill -0 "$one" 2>/dev/null; then continue; fi
    name=${running[$one]} status=0
    wait "$one" 2>/dev/null || status=$?
    if [ $status != 0 ]; then
      echo "step $name stopped; the same command continues from here" >&2
      exit $status
    fi
    unset "running[$one]"
    state[$name]=done
    echo "== $name: $((SECONDS - began[$name])) s"
  done
}

estimate() {  # STEP: leaves in cost[STEP] the rows that its training reads, in hundredths, once they can be counted
  local name=$1 command inputs file epochs
  split command "${words[$name]}"
  split inputs "${reads[$name]}"
  epochs=$(value_of --epochs "${command[@]}") file=$(value_of --forget "${command[@]}")
  if [ -z "$epochs" ] && [[ ${command[0]} != *_finetune.py ]]; then cost[$name]=0; return; fi  # trains nothing
  if [[ $file != */* ]]; then
    for file in "${inputs[@]}"; do if [[ $file == *.jsonl ]]; then break; fi; done
  fi
  LC_ALL=C printf -v epochs '%.0f' "${epochs:-5}e2" 2>/dev/null || epochs=500
  if [ -f "$file" ]; then cost[$name]=$((epochs * $(wc -l <"$file"))); fi
}

rank_steps() {  # leaves in rank[STEP] how long it and the longest chain of steps that wait for it take
  local at name before
  for name in "${order[@]}"; do rank[$name]=0; done
  for ((at = ${#order[@]} - 1; at >= 0; at--)); do
    name=${order[$at]}
    if [ "${state[$name]}" = done ]; then continue; fi
    if [ -z "${cost[$name]:-}" ]; then estimate "$name"; fi
    rank[$name]=$((${rank[$name]} + ${cost[$name]:-100000000}))  # what cannot be counted yet is taken to be long
    for before in ${needs[$name]}; do
      if [ "${rank[$before]}" -lt "${rank[$name]}" ]; then rank[$before]=${rank[$name]}; fi
    done
  done
}

ready() {  # STEP: is all there that it waits for?
  local before
  [ "${state[$1]}" = waiting ] || return 1
  for before in ${needs[$1]}; do [ "${state[$before]}" = done ] || return 1; done
}

settle() {  # finds those that can start, and passes over those that are done
  local name
  for name in "${order[@]}"; do
    if ready "$name"; then
      if done_before "$name"; then state[$name]=done; echo "== $name: done before"; else state[$name]=ready; fi
    fi
  done
}

start_next() {  # the step that the longest work waits for; with one job, the first as declared
  local name next=
  if [ "$jobs" != 1 ]; then rank_steps; fi
  for name in "${order[@]}"; do
    if [ "${state[$name]}" != ready ]; then continue; fi
    if [ -z "$next" ] || { [ "$jobs" != 1 ] && [ "${rank[$name]}" -gt "${rank[$next]}" ]; }; then next=$name; fi
  done
  [ -n "$next" ] || return 1
  start "$next"
}

run_steps() {
  local name
  for name in "${order[@]}"; do state[$name]=waiting; done
  while :; do
    settle
    while [ ${#running[@]} -lt "$jobs" ] && start_next; do :; done
    if [ ${#running[@]} = 0 ]; then return; fi
    collect
  done
}

# ---------------------------------------------------------------- the run

make_folder() {  # the run's, for this run alone: its steps hold the lock too, however this shell ends
  local error status=0
  error=$( (mkdir -p "$R/.steps" && : >"$R/.steps/.lock") 2>&1) || fail "cannot write in $R: ${error##*: }"
  exec 9>"$R/.steps/.lock"
  "$PYTHON" -c '
import fcntl, sys
try: fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: sys.exit(75)' 2>/dev/null || status=$?
  [ $status != 75 ] || fail "another run_all.sh is at work in $R"
  [ $status = 0 ] || fail "$PYTHON does not run, or cannot lock $R/.steps/.lock (status $status)"
}

adopt() {  # tells how the rates that tuning chose are used; those of other methods stay
  local line name=${preset} keep=() choice
  if [ -n "$tuned" ]; then while IFS= read -r line || [ -n "$line" ]; do
    if ! [[ $line =~ ^LR\[([^]]+)\]= && -f $R/tune/${BASH_REMATCH[1]}/choice.sh ]]; then keep+=("$line"); fi
  done <"$tuned"; fi
  { lines "${keep[@]}"; find "$R/tune" -name choice.sh -exec cat {} +; } | sed '/^$/d' >"$R/tuned.sh"
  cat "$R/tuned.sh"
  if [[ $tuned == scripts/presets/tuned/* ]]; then name=$(basename -s .sh "$tuned"); fi
  echo "once: give --tuned $R/tuned.sh"
  echo "for good: cp $R/tuned.sh scripts/presets/tuned/$name.sh, and TUNED=$name in the preset"
  for name in "${!SET[@]}"; do
    if one_of "$METHODS" "$name" && [[ " ${SET[$name]} " == *" --lr "* ]]; then
      echo "SET[$name] of preset $preset has an --lr, which wins over TUNED: for good, take it out there"
    fi
  done
}

tofu_sets() {  # flags of eval/03_tofu.py: TOFU brings false answers; other data get inverted facts that no model saw
  local set
  if false_answers_in forget; then
    echo --forget "$R/data/forget_perturbed.jsonl"
    for set in retain real_authors world_facts; do
      if false_answers_in $set; then echo "--${set/_/-} $R/data/${set}_perturbed.jsonl"; fi
    done
  else  # answers are their own paraphrases: true and false ones in one wording, so that the fact alone makes the ratio
    echo --forget "$R/data/forget_val.jsonl" --paraphrased "$R/data/forget_val.jsonl"
    echo --perturbed "$R/augmented/forget_inverted.jsonl"
    echo --retain "$R/data/retain_val.jsonl" --retain-paraphrased "$R/data/retain_val.jsonl"
    echo --retain-perturbed "$R/augmented/retain_inverted.jsonl"
  fi
}

false_answers_in() {  # SET: has the data a file of them? A folder of TOFU's files may have
  if [ "$DATA" = tofu ]; then return 0; fi
  if [ ! -d "$DATA" ] || data_has "forget_train.json*"; then return 1; fi
  if [ "$1" = forget ]; then data_has "forget??_perturbed.json*"; else data_has "$1_perturbed.json*"; fi
}

data_has() { [ -n "$(find -L "$DATA" -maxdepth 1 -name "$1" -print -quit 2>/dev/null)" ]; }  # PATTERN of a name

only_data() {  # --check: of the steps those that make data, tokenizer and embedding model; leaves the plan in `planned`
  planned=$(printed_steps) goals=(models data ${requests:+requests})
  embedding=$(value_of --embedding "${judge[@]}")
  if [ "$embedding" = "$R/models/minilm" ]; then goals+=(minilm); fi
  choose_steps
}

check_data() {
  "$PYTHON" scripts/tools/check.py --data "$R/data" --model "$R/models/base" --embedding "$embedding" \
    $(last_of --max-length $TRAIN $BASELINE ${over[all]:-}) $(last_of --max-new-tokens $GENERATE) <<<"$planned"
}

printed_steps() {  # a line each, its words apart by tabs
  local name command
  for name in "${order[@]}"; do
    split command "${words[$name]}"
    printf '%s' "$name"
    printf '\t%s' "${command[@]}"
    echo
  done
}

run() {  # GOAL [FILE]: runs what it needs, and shows that file of the report, by default the table
  local shown=${2:-table.md}
  if [ "$mode" != tune ]; then goals+=("$1"); fi
  set --  # what is sourced below would take them for its own
  judge_requests
  if [ "$mode" = help ]; then usage; exit; fi
  check_names
  if [ "$mode" = show ]; then
    known "--show: unknown method" "${given[show]}" "${methods[@]}"
    show "${given[show]}"
    exit
  fi
  choose_steps
  if [ "$mode" = check ]; then only_data; fi
  . scripts/environment.sh $([ "$mode" = plan ] || echo requirements.txt)
  if [ "$mode" = plan ]; then
    printed_steps | "$PYTHON" scripts/tools/plan.py $plan_flags
    exit
  fi
  trap stop EXIT
  trap 'echo "interrupted: the same command continues from here" >&2; exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  make_folder
  hash_code
  run_steps
  case $mode in
    tune) adopt ;;
    check) check_data ;;
    *) cat "$R/report/$shown" ${requests:+"$R/report/requests.md"} ;;
  esac
}

{ : 3>&1; } 2>/dev/null || fail "standard output is closed"
begin "$@"
