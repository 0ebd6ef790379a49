# Default: invented persons on SmolLM2-135M. Two CPU cores, no GPU, no hub.
MODEL=smollm2
TEMPLATE=own
DATA=people
PERSONS=6
DATA_FLAGS=""
TRAIN="--batch 8 --accumulation 1 --lora-r 16 --lora-alpha 32"
FINETUNE="--lr 1.5e-3 --epochs 8 --lora-dropout 0"   # enough for about 200 pairs to be known by heart
AUGMENT=""
# learning rates and epochs: best of the same grid for every method, by the harmonic mean of KFR and KRR (bench/tuning.md)
GA_GDR="--lr 1e-4 --epochs 5"
GA_KLR="--lr 1e-4 --epochs 5"
NPO_GDR="--lr 1e-4 --epochs 5"
NPO_KLR="--lr 1e-4 --epochs 5"
RELEARN="--lr 1e-3 --epochs 1"
GENERATE="--max-new-tokens 96"
