# TOFU forget10 on Llama-3.2-1B-Instruct as in open-unlearning's reproduction page: its published vanilla and retrained
# models, prompt format, rates and batches, and all weights trained. Needs a GPU and a hub.
. scripts/presets/knowundo-llama2.sh
MODEL=meta-llama/Llama-3.2-1B-Instruct
TEMPLATE=open-unlearning
VANILLA=open-unlearning/tofu_Llama-3.2-1B-Instruct_full
RETRAINED=open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90
DATA=tofu
DATA_FLAGS="--split forget10"
METHODS="GA GA+GDR NPO+GDR DPO+GDR SimNPO+GDR RMU ReLearn"
METRICS="tofu memorization"
SET=() JUDGE= EMBEDDING=minilm
BASELINE="--full --lr 1e-5 --epochs 10 --batch 8 --accumulation 4"   # 32, as published
SET[DPO+GDR]="--scale 2/beta"
SET[RMU]="--layer 8"   # its model.layers.7 is counted from 0
SET[ReLearn]="--epochs 2"   # not published
AUGMENTED=${BASELINE#--full }   # an adapter: three of RKLD's models are one set of weights
FINETUNE="--lr 1e-5 --epochs 5 --batch 8 --accumulation 4"    # only with --vanilla none or --retrained none
GENERATE="--max-new-tokens 200"
TOFU_FLAGS="--geometric"   # geometric means in utility's truth ratios too
