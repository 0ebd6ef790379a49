# ReLearn, Table 2: TOFU forget10 on Llama-2-7b-chat. Published values, but the vanilla model is fine-tuned here.
. scripts/presets/knowundo-llama2.sh
TEMPLATE=llama2
DATA=tofu
DATA_FLAGS="--split forget10"
GA_GDR="--lr 1e-4 --epochs 5 --batch 1 --accumulation 8"
GA_KLR="--lr 1e-4 --epochs 5 --batch 1 --accumulation 8"
NPO_GDR="--lr 3e-4 --epochs 5 --batch 1 --accumulation 8"
NPO_KLR="--lr 1e-4 --epochs 5 --batch 1 --accumulation 8"
RELEARN="--lr 1e-5 --epochs 2 --batch 1 --accumulation 4"
