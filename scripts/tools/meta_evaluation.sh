#!/usr/bin/env bash
# Which metrics can be believed? Every metric of the table on eight models that know the forget facts and on eight that
# never saw them; four of them again in int4 and after learning other pairs (eval/18_meta_evaluation.py has definitions
# and source). Into work/meta-evaluation, 9 GB; a step that is done is skipped, an interrupted one continues.
#
#   bash scripts/tools/meta_evaluation.sh               # three persons: 16 facts to forget, 32 to keep
#   bash scripts/tools/meta_evaluation.sh --persons 5   # more of them: 32 and 48
#
# --jobs, --force, --judge, --model, --preset and --run are those of run_all.sh --help.
# A metric of scripts/metrics.sh enters by its name in `metric` below.
set -euo pipefail; cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/pipeline.sh --run meta-evaluation --persons 3 "$@"
usage() { sed -n '2,/^set/s/^# \?//p' scripts/tools/meta_evaluation.sh; }
[[ $mode == run || $mode == help ]] && [ -z "$seeds" ] || fail "meta_evaluation.sh takes no such flag (see --help)"
[ "$DATA" = people ] || fail "--data $DATA: the pools are made of people alone, whose pairs name their values"
data=$R/data asked=$data/forget_val.jsonl

# ---- models and data, as in run_all.sh; what the pools learn
step models  runs scripts/00_models.py --model "$MODEL" --chat-template "$TEMPLATE" --out $R/models/base $MODEL_FLAGS
step minilm  runs scripts/00_models.py --model "$EMBEDDING" --out $R/models/minilm
step data    reads data/people runs scripts/01_data.py --data "$DATA" --persons "$PERSONS" --out $data \
             "${data_flags[@]}"
false_answers() {  # NAME FILE FLAGS...
  step $1 reads $data/$2 data/inversion.json data/prompts/invert.txt \
    runs scripts/04_invert.py --data $data --file "${@:2}"
}
false_answers invert         forget_train.jsonl --seed 2 --count 6 --out $R/augmented/inverted.jsonl
. scripts/metrics.sh
step pools   reads $data/forget_train.jsonl $data/forget_val.jsonl $data/retain_val.jsonl \
             runs scripts/tools/pool_data.py --data $data --inverted $R/augmented/inverted.jsonl \
             --asked $R/augmented/forget_inverted.jsonl --out $R/pools

# ---- the models: adapters of the base model, 20 MB each
declare -A models=([reference]= [know]= [never]=)   # by pool: their names
model() {  # POOL NAME FILE FLAGS...
  step $2 runs scripts/02_finetune.py --model $R/models/base --adapter --data $data --forget $R/pools/$3.jsonl \
    --out $R/models/$2 $TRAIN "${@:4}"
  models[$1]+=" $2"
}
model reference  vanilla      questions    --seed 0 --lr 2e-3   --epochs 4   # in no pool: what UDS compares with,
model reference  retrained    retrained    --seed 0 --lr 2e-3   --epochs 6   # and exposure, TOFU and privleak
model know       questions-1  questions    --seed 1 --lr 2e-3   --epochs 4
model know       questions-2  questions    --seed 2 --lr 1.5e-3 --epochs 5
model know       questions-3  questions    --seed 3 --lr 2.5e-3 --epochs 4
model know       wordings-1   wordings     --seed 4 --lr 2e-3   --epochs 5
model know       wordings-2   wordings     --seed 5 --lr 1.5e-3 --epochs 6
model know       wordings-3   wordings     --seed 6 --lr 2.5e-3 --epochs 5
model know       sentences-1  sentences    --seed 7 --lr 2e-3   --epochs 5
model know       sentences-2  sentences    --seed 8 --lr 2.5e-3 --epochs 5
model never      retrained-1  retrained    --seed 1 --lr 2e-3   --epochs 6
model never      retrained-2  retrained    --seed 2 --lr 1.5e-3 --epochs 7
model never      retrained-3  retrained    --seed 3 --lr 2.5e-3 --epochs 5
model never      retrained-4  retrained    --seed 4 --lr 2e-3   --epochs 5
model never      perturbed-1  perturbed-1  --seed 5 --lr 2e-3   --epochs 4
model never      perturbed-2  perturbed-2  --seed 6 --lr 1.5e-3 --epochs 5
model never      perturbed-3  perturbed-3  --seed 7 --lr 2.5e-3 --epochs 4
model never      perturbed-4  perturbed-4  --seed 8 --lr 2e-3   --epochs 5

# ---- four of them after what should change no metric: an epoch of other pairs, and rounding
for name in questions-1 wordings-1 retrained-1 perturbed-1; do
  step $name-relearnt reads $data/retain_train.jsonl runs scripts/02_finetune.py --model $R/models/$name --data $data \
    --forget retain_train.jsonl --out $R/models/$name-relearnt $TRAIN --lr 5e-4 --epochs 1
  step $name-int4     runs eval/20_round.py --model $R/models/$name --precision int4 --out $R/models/$name-int4
  models[relearnt]+=" $name-relearnt" models[int4]+=" $name-int4"
done

# ---- every metric of every model: a step a pool, so that an interrupted run loses little
metric() {  # NAME ... as step: of the metrics that change with what a model knows, for each pool
  case $1$suffix in
    sampling-relearnt|sampling-int4) ;;  # 32 answers a question: half of all the time, if the changed were asked too
    tofu-*|exposure-*|memorization-*|sampling-*|membership-*|depth-*) step "$1$suffix" "${@:2}" ;;
  esac
}
measure_pool() {  # POOL
  local name suffix=-$1
  rows=() folders= forget= retain=
  for name in ${models[$1]}; do
    row $name $R/models/$name
    step answers-$name runs scripts/30_generate.py --model $R/models/$name --out $R/answers/$name \
      --questions $asked $data/retain_val.jsonl $GENERATE
  done
  measure
}
for pool in reference know never relearnt int4; do measure_pool $pool; done

metrics_of() { local name; for name in $1; do echo $R/metrics/$name; done; }
step meta_evaluation writes $R/report/meta_evaluation.json $R/report/meta_evaluation.md $R/report/meta_evaluation.png \
  runs eval/18_meta_evaluation.py --know $(metrics_of "${models[know]}") --never $(metrics_of "${models[never]}") \
  --changed $(metrics_of "${models[relearnt]} ${models[int4]}") --out $R/report
run meta_evaluation meta_evaluation.md
