# Default: invented persons on SmolLM2-135M. Two CPU cores, no GPU, no hub.
MODEL=smollm2
TEMPLATE=own
DATA=people
PERSONS=5
DATA_FLAGS=""
TRAIN="--batch 4 --accumulation 1 --lora-r 16 --lora-alpha 32 --lora-dropout 0"   # dropout costs a third of the time on a CPU
FINETUNE="--lr 1e-3 --epochs 5"   # enough for 240 pairs to be known by heart
AUGMENT="--completion-share 0.5"
# learning rates: bench/tuning.md says what was tried
GA_GDR="--lr 5e-4 --epochs 2.5"
GA_KLR="--lr 5e-4 --epochs 2.5"
NPO_GDR="--lr 5e-4 --epochs 2.5"
NPO_KLR="--lr 5e-4 --epochs 2.5"
RELEARN="--lr 7e-4 --epochs 0.9"
GENERATE="--max-new-tokens 64"
