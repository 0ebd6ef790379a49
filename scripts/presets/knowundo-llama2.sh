# ReLearn, Table 1: KnowUnDo privacy on Llama-2-7b-chat. Published values; needs a GPU and a hub.
MODEL=meta-llama/Llama-2-7b-chat-hf
TEMPLATE=plain
DATA=knowundo
PERSONS=all
DATA_FLAGS=""
TRAIN="--lora-r 8 --lora-alpha 16 --lora-dropout 0.1"
FINETUNE="--lr 3e-4 --epochs 10 --batch 16 --accumulation 4"
AUGMENT=""
GA_GDR="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
GA_KLR="--lr 3e-4 --epochs 10 --batch 1 --accumulation 8"
NPO_GDR="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
NPO_KLR="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
RELEARN="--lr 1e-5 --epochs 3 --batch 1 --accumulation 4"
GENERATE="--temperature 0.7 --top-p 0.9 --top-k 5 --max-new-tokens 128"
