# ReLearn, Table 1: KnowUnDo privacy on Llama-2-7b-chat. Published values; needs a GPU and a hub.
MODEL=meta-llama/Llama-2-7b-chat-hf
TEMPLATE=plain
DATA=knowundo
PERSONS=all
DATA_FLAGS=""
METHODS="GA+GDR GA+GDR+SURE GA+KLR GA+KLR+SURE NPO+GDR NPO+GDR+SURE NPO+KLR NPO+KLR+SURE ReLearn"
TRAIN="--lora-r 8 --lora-alpha 16 --lora-dropout 0.1"
FINETUNE="--lr 3e-4 --epochs 10 --batch 16 --accumulation 4"
AUGMENT=""
MEMO="--el 0"
AUGMENTED="--lr 1e-5 --epochs 5 --batch 4 --accumulation 8"   # not published
BASELINE="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"   # methods that the table does not have
SET[GA+GDR]="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
SET[GA+GDR+SURE]="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
SET[GA+KLR]="--lr 3e-4 --epochs 10 --batch 1 --accumulation 8"
SET[GA+KLR+SURE]="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
SET[NPO+GDR]="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
SET[NPO+GDR+SURE]="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
SET[NPO+KLR]="--lr 5e-6 --epochs 10 --batch 1 --accumulation 8"
SET[NPO+KLR+SURE]="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
SET[ReLearn]="--lr 1e-5 --epochs 3 --batch 1 --accumulation 4"
GENERATE="--temperature 0.7 --top-p 0.9 --top-k 5 --max-new-tokens 128 --samples 3"
# the released code's klr: a mean over all positions of rows padded to 512 (--set "METHOD --kl-positions answer": ours)
for name in "${!SET[@]}"; do SET[$name]+=" --kl-positions padded"; done
# the paper's judge, but for its entities by DeepSeek-V3: --judge "--entities llm --judge-model NAME"; by rules without
JUDGE="--nli sileod/deberta-v3-base-tasksource-nli" EMBEDDING=sentence-transformers/all-MiniLM-L12-v2
