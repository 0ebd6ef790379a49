# Every step on a tiny random Llama, in minutes: shows that all parts run, says nothing about unlearning.
. scripts/presets/people-smollm2.sh
MODEL=tiny-random
PERSONS=2
FINETUNE="--lr 1e-3 --epochs 2"
AUGMENTED=$FINETUNE
BASELINE="--lr 1e-4 --epochs 1"
TUNED=
SET=()
GENERATE="--max-new-tokens 24 --batch 96"
