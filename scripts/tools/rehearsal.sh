# Sourced by run_all.sh --rehearse: every step of the preset with its flags, on a tiny random model of the same
# architecture and a few invented pairs, offline, in minutes. Of equal flags the last counts: one update a training, a
# few tokens an answer.
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}   # two processes at a time
AUGMENT+=" --backend rules" INVERT+=" --backend rules"   # no endpoint is asked
case ${HF_ENDPOINT:-} in http://127.0.0.1:*|http://localhost:*)   # tests/hub_server.py: its models are tiny, its data few
  PERSONS=2 REHEARSAL="--epochs 0.01" FINETUNE+=" --epochs 0.01" AUGMENTED+=" --epochs 0.01"
  GENERATE+=" --max-new-tokens 8" MEMO+=" --window 40 --max-new-tokens 8"
  unset HF_HUB_OFFLINE; return ;;
esac
case "${MODEL,,} $(cat "$MODEL/config.json" 2>/dev/null)" in
  tiny-*) ;;
  *gemma-2*|*'"gemma2"'*) MODEL=tiny-gemma2 ;;
  *llama-3*|*'"llama3"'*) MODEL=tiny-llama3 ;;
  *llama-2*|*'"llama"'*)  MODEL=tiny-llama2 ;;
  smollm2*)               MODEL=tiny-random ;;
  *) fail "--rehearse: no tiny model has the architecture of $MODEL; name one with --model tiny-llama2, tiny-llama3" \
          "or tiny-gemma2" ;;
esac
EMBEDDING=tiny-minilm JUDGE= given[judge]=   # the judge is tiny too, and no endpoint is asked
METRICS=$(tr ' ' '\n' <<<"$METRICS" | sed '/^judge$/d' | xargs)
VANILLA=${VANILLA:+$MODEL} RETRAINED=${RETRAINED:+$MODEL}
MODEL_FLAGS= PERSONS=2
REHEARSAL="--epochs 0.01"
FINETUNE+=" $REHEARSAL" AUGMENTED+=" $REHEARSAL"
GENERATE+=" --max-new-tokens 8"
MEMO+=" --window 40 --max-new-tokens 8"

case $DATA in knowundo|tofu) like=$DATA ;; *) like=own ;; esac
if [ ! -d "$DATA" ]; then DATA=people data_flags=(); fi
step source reads data/people runs scripts/01_data.py --data "$DATA" --out "$R/source" --persons $PERSONS \
  "${data_flags[@]}"
step few    runs scripts/tools/few_pairs.py --data "$R/source" --like $like --out "$R/few"
DATA=$R/few data_flags=($DATA_FLAGS)
if [ $like = tofu ] && [[ " $DATA_FLAGS " != *" --split "* ]]; then   # as from the hub
  data_flags+=(--split forget10)
fi
