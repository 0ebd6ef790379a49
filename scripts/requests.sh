# Sourced by pipeline.sh: --requests, the forget set as requests that come one after another. For each request of a
# method its own step is declared once more, with the same flags, and so are the steps that make what it reads: on the
# data of that request (07_requests.py), from the adapter that the last request left (--continue-adapter), into
# $R/requests. One adapter a request is all that is kept; the weights under it stay the vanilla model's.
#
#   $R/requests/data/3                     request 3's data
#   $R/requests/augmented/3                what is made of them alone: vague answers, false answers
#   $R/requests/augmented/MEOW/3           … and of the model that request 2 left; models/RKLD/3 likewise
#   $R/requests/methods/MEOW/3             the adapter after request 3; answers/MEOW/3, metrics/MEOW/3

request_count=0 sequences=() requested= kept=  # of all methods and requests, as `forget` and `retain`
shared=" models minilm data vanilla retrained requests "  # steps that every request shares

read_requests() {
  requests=${given[requests]:-}
  if [ -z "$requests" ]; then return; fi
  [[ $mode != tune && $mode != rehearse ]] || fail "--requests and --$mode: give one of them"
  if [[ $requests =~ ^[0-9]+$ ]]; then
    request_count=$((10#$requests))
  else
    requests=$(path "$requests")
    [ -f "$requests" ] || fail "--requests $requests: not a number, and no such file"
    request_count=$(grep -c '[^[:space:]]' "$requests") || :
  fi
  [[ $request_count -ge 2 && $request_count -le 99 ]] || fail "--requests $requests: give 2 to 99 requests"
}

listed_files() {  # of --requests FILE: the files that its lines name, as 07_requests.py finds them
  local line
  [ -f "$requests" ] || return 0
  while read -r line || [ -n "$line" ]; do
    line=${line%"${line##*[![:space:]]}"}
    if [[ $line != /* ]]; then line=$(dirname -- "$requests")/$line; fi
    if [ -f "$line" ]; then echo "$line"; fi
  done <"$requests"
}

each_request() {  # KIND: the folder of every request
  local at
  for ((at = 1; at <= request_count; at++)); do echo "$R/requests/$1/$at"; done
}

check_sequences() {
  local name flags=() origin=()
  if [ -z "$requests" ]; then return; fi
  for name in "${methods[@]}"; do
    if [ "$METHODS" != all ] && one_of "$METHODS" "$name" && ! continues "$name"; then
      fail "--requests: $name is arithmetic with one adapter, which cannot be continued: leave it out of --methods"
    fi
  done
  for name in "${sequences[@]}"; do
    flags=() origin=()
    flags_of "$name"
    if [[ " ${flags[*]} " == *" --full "* ]]; then
      fail "--requests: $name trains all weights (--full), which leaves no adapter to continue: take --full out of" \
        "--set or the preset, or leave $name out of --methods"
    fi
  done
  [ ${#sequences[@]} -gt 0 ] || fail "--requests: none of the methods can be continued"
}

continues() { [[ -z ${goes_on[$1]:-} && ${line_script[$1]} != 19_ta.py ]]; }  # METHOD

sequence() {  # METHOD: declares its steps for every request
  local at copy of=$1 listed
  if [ -z "$requests" ] || ! continues "$1"; then return 0; fi
  if [ ${#sequences[@]} = 0 ]; then
    split listed "$(listed_files)"
    step requests reads "$R"/data/{forget,retain}_{train,tune,val}.jsonl "${listed[@]}" runs scripts/07_requests.py \
      --data "$R/data" --requests "$requests" --out $(each_request data)
  fi
  sequences+=("$1")
  for ((at = 1; at <= request_count; at++)); do
    again "answers-$1"
    requested+=" $R/requests/answers/$1/$at/requested_val.jsonl" kept+=" $R/requests/answers/$1/$at/retain_val.jsonl"
  done
}

again() {  # STEP: declares it once more for request `at` of method `of`, after those that make what it reads
  local name=$1 word moved command=() read=() wrote=() inputs outputs
  name_again "$name"
  if [ -n "${words[$copy]:-}" ]; then return; fi
  split command "${words[$name]}"; split inputs "${reads[$name]}"; split outputs "${writes[$name]}"
  for word in "${command[@]}" "${inputs[@]}"; do
    if [[ -n $word && -n ${maker[$word]:-} && $shared != *" ${maker[$word]} "* && ${maker[$word]} != "$name" ]]; then
      again "${maker[$word]}"
    fi
  done
  for word in "${inputs[@]}"; do
    if [[ $'\n'${words[$name]}$'\n' != *$'\n'$word$'\n'* ]]; then move "$word"; read+=("$moved"); fi
  done
  for word in "${outputs[@]}"; do move "$word"; wrote+=("$moved"); done
  inputs=("${command[@]}") command=()
  for word in "${inputs[@]}"; do move "$word"; command+=("$moved"); done
  if [[ $at -gt 1 && ($name = "$of" || ${command[0]} = *_finetune.py) ]]; then command+=(--continue-adapter); fi
  if [ "$name" = "$of" ]; then command+=(--probes 0); fi  # a fifth of so short a training, for curves that nobody draws
  name_again "$name"
  step "$copy" reads "${read[@]}" writes "${wrote[@]}" runs "${command[@]}"
}

name_again() {  # STEP: leaves its name for request `at` of method `of` in `copy`
  copy=$1@request$at
  if of_model "$1" && [[ $1 != "$of" && $1 != *-"$of" ]]; then copy=$1-$of@request$at; fi
}

of_model() {  # STEP: does what it makes depend on the model that is unlearned?
  local before
  for before in ${needs[$1]}; do
    if [ "$before" = vanilla ]; then return 0; fi
    if [[ $shared != *" $before "* ]] && of_model "$before"; then return 0; fi
  done
  return 1
}

move() {  # WORD: leaves in `moved` what it is for request `at` of method `of`: another path, or itself
  local by=${maker[${1:-none}]:-} kind rest  # a word may be empty, and an array's key not
  moved=$1
  case $1 in
    "$R/data/forget_val.jsonl") moved=$R/requests/data/$at/requested_val.jsonl ;;
    "$R/data"|"$R/data"/*) moved=$R/requests/data/$at${1#"$R/data"} ;;
    "$R/models/vanilla") if [ "$at" -gt 1 ]; then moved=$R/requests/methods/$of/$((at - 1)); fi ;;
    "$R"/*/*)
      if [[ -z $by || $shared == *" $by "* ]]; then return; fi
      kind=${1#"$R/"} rest=${1#"$R"/*/} kind=${kind%%/*}
      if [ "$rest" = "$of" ]; then rest=; fi
      if of_model "$by"; then kind+=/$of; fi
      moved=$R/requests/$kind/$at${rest:+/$rest} ;;
  esac
}

judge_requests() {  # declares what is measured after every request, and the report of that, which becomes a goal
  local at name out=() read=()
  if [ ${#sequences[@]} = 0 ]; then return; fi
  goals+=(requests-report)
  for name in "${sequences[@]}"; do
    for ((at = 1; at <= request_count; at++)); do out+=("$R/requests/metrics/$name/$at"); done
  done
  step requests-kfr_krr reads $judging runs eval/01_kfr_krr.py --forget $requested --retain $kept "${judge[@]}" \
    --out "${out[@]/%//kfr_krr.json}"
  step requests-linguistic-forget runs eval/02_linguistic.py --answers $requested --model "$R/models/base" \
    --out "${out[@]/%//linguistic_forget.json}"
  step requests-linguistic-retain runs eval/02_linguistic.py --answers $kept --model "$R/models/base" \
    --out "${out[@]/%//linguistic_retain.json}"
  for name in kfr_krr linguistic_forget linguistic_retain; do read+=("${out[@]/%//$name.json}" $(each $name)); done
  for name in forget_train requested_val; do
    split out "$(each_request data)"
    read+=("${out[@]/%//$name.jsonl}")
  done
  step requests-report reads "${read[@]}" "$R/requests/methods" \
    writes "$R/report/requests.md" "$R/report/requests.json" "$R/report/requests.png" "$R/requests/certificates" \
    runs eval/19_requests.py --run "$R" --methods "${sequences[@]}" --requests $request_count --out "$R/report"
}
