# Every step on a tiny random Llama, in minutes: shows that all parts run, says nothing about unlearning.
. scripts/presets/people-smollm2.sh
MODEL=tiny-random
PERSONS=2
FINETUNE="--lr 1e-3 --epochs 2"
GA_GDR="--lr 1e-4 --epochs 1"
GA_KLR=$GA_GDR NPO_GDR=$GA_GDR NPO_KLR=$GA_GDR RELEARN=$GA_GDR
GENERATE="--max-new-tokens 24"
