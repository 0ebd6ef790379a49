# ReLearn, Table 2: TOFU forget10 on Llama-2-7b-chat. Published values; needs a GPU and a hub.
. scripts/presets/knowundo-llama2.sh
TEMPLATE=llama2
VANILLA=locuslab/tofu_ft_llama2-7b   # TOFU's own, fully fine-tuned; --vanilla none makes one here, with LoRA
DATA=tofu
DATA_FLAGS="--split forget10"
BASELINE="--lr 1e-4 --epochs 5 --batch 1 --accumulation 8"
for name in GA+GDR GA+GDR+SURE GA+KLR GA+KLR+SURE NPO+KLR NPO+KLR+SURE; do SET[$name]=$BASELINE; done
for name in NPO+GDR NPO+GDR+SURE; do SET[$name]="--lr 3e-4 --epochs 5 --batch 1 --accumulation 8"; done
SET[ReLearn]="--lr 1e-5 --epochs 2 --batch 1 --accumulation 4"
for name in "${!SET[@]}"; do SET[$name]+=" --kl-positions padded"; done   # the released code's klr
