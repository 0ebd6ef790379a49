# Sourced by run_all.sh --rehearse: every step of the preset with its flags, on a tiny random model of the same architecture and a
# few invented pairs, offline, in minutes. Of equal flags the last counts: one update a training, a few tokens an answer.
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}   # two processes at a time
case "${model,,} $(cat "$model/config.json" 2>/dev/null)" in
  tiny-*) ;;
  *gemma-2*|*'"gemma2"'*) model=tiny-gemma2 ;;
  *llama-3*|*'"llama3"'*) model=tiny-llama3 ;;
  *llama-2*|*'"llama"'*)  model=tiny-llama2 ;;
  smollm2*)               model=tiny-random ;;
  *) fail "--rehearse: no tiny model has the architecture of $model; name one with --model tiny-llama2, tiny-llama3 or tiny-gemma2" ;;
esac
embedding=tiny-minilm
vanilla=${vanilla:+$model}
MODEL_FLAGS= PERSONS=2 flag_persons=
FINETUNE+=" --epochs 0.01" AUGMENTED+=" --epochs 0.01" BASELINE+=" --epochs 0.01"
for name in "${!SET[@]}"; do SET[$name]+=" --epochs 0.01"; done
GENERATE+=" --max-new-tokens 8"
MEMO+=" --window 40 --max-new-tokens 8"

step source "$R/source/data.json" "$([ -d "$data" ] && echo "$data" || echo data/people)" \
            scripts/01_data.py --data "$([ -d "$data" ] && echo "$data" || echo people)" --out "$R/source" --persons $PERSONS
step few    "$R/few/origin.json"  "$R/source" \
            scripts/33_few_pairs.py --data "$R/source" --like "$([[ $data = knowundo || $data = tofu ]] && echo "$data" || echo own)" --out "$R/few"
data=$R/few
