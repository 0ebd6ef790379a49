# Default: invented persons on SmolLM2-135M. Two CPU cores, no GPU, no hub.
MODEL=smollm2
TEMPLATE=own
DATA=people
PERSONS=10   # 64 forget and 96 retain facts: a share of .9 is known to ± .07, one of .5 to ± .12 and .10
DATA_FLAGS=""
METHODS="GA+GDR GA+KLR NPO+GDR NPO+KLR ReLearn"   # --methods all for the rest
TRAIN="--batch 4 --accumulation 1 --lora-r 16 --lora-alpha 32 --lora-dropout 0"   # dropout costs a CPU a third
FINETUNE="--lr 3e-3 --epochs 2.75"   # enough for 640 pairs to be known by heart
AUGMENT="--completion-share 0.5"
MEMO="--el 0 --window 20 --max-new-tokens 32 --batch 160"   # every fourth of the paper's prefixes
AUGMENTED="--lr 3e-3 --epochs 1.25"   # at the rate of FINETUNE: of a weaker one RKLD learns to forget little
BASELINE="--lr 5e-4 --epochs 1"
TUNED=people-smollm2   # learning rates: tuned/people-smollm2.sh
SET[ReLearn]="--epochs 0.55"   # of 1,530 pairs
SET[ReLearn-DPO]="--epochs 0.25"
SET[GA+GDR+MemFlex]="--magnitude 2e-5"   # the published 6e-4 is above every gradient here: nothing would be trained
GENERATE="--max-new-tokens 64 --batch 96"
