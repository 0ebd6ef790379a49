#!/usr/bin/env bash
# The in- vs. out-of-distribution study (Baluta et al. 2024), after a run of run_all.sh: into work/study-CANARY, twenty
# minutes on two cores. What is there already is not made again.
#
#   bash scripts/tools/in_out.sh            # canaries of shuffled words; or domain, random
set -euo pipefail; cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/environment.sh requirements.txt
canary=${1:-shuffled} S=work/study-${1:-shuffled} base=work/people-smollm2/models/base
train="--batch 4 --accumulation 1 --lora-r 16 --lora-alpha 32 --lora-dropout 0"
[[ $canary =~ ^(shuffled|domain|random)$ ]] || { echo "error: $canary: give shuffled, domain or random" >&2; exit 2; }
[ -d $base ] || { echo "error: $base is not there: run bash run_all.sh first" >&2; exit 2; }

make() {  # OUTPUT SCRIPT FLAGS...
  [ -e "$1" ] || "$PYTHON" "${@:2}"
}
make $S/people/data.json scripts/01_data.py --persons 10 --out $S/people
make $S/data/data.json scripts/05_in_out_data.py --data $S/people --size 32 --canary $canary --out $S/data
make $S/vanilla scripts/02_finetune.py --model $base --data $S/data --out $S/vanilla $train --lr 1e-3 --epochs 5
make $S/retrained scripts/02_finetune.py --model $base --data $S/data --out $S/retrained --without-forget $train \
  --lr 1e-3 --epochs 5
for set in id ood; do
  make $S/$set scripts/40_in_out.py --model $S/vanilla --data $S/data --forget forget_$set.jsonl \
    --fresh fresh_$set.jsonl --out $S/$set $train --lr 6e-4 --epochs 6 --every 4
  make $S/$set.json eval/05_exposure.py --forget $S/data/forget_$set.jsonl --models $S/vanilla \
    --reference $S/retrained --fresh $S/data/fresh_$set.jsonl --out $S/$set.json
done
"$PYTHON" eval/06_in_out.py --id $S/id/curve.json $S/id.json --ood $S/ood/curve.json $S/ood.json --out $S/report
