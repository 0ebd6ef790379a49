# KnowUnDo privacy, or any folder of pairs, on SmolLM2-135M. Longer answers.
. scripts/presets/people-smollm2.sh
DATA=knowundo
GENERATE="--max-new-tokens 128 --batch 96"
FINETUNE="--lr 1e-3 --epochs 6"   # its facts are asked in fewer wordings than ours
AUGMENTED="--lr 5e-4 --epochs 2.5"
BASELINE="--lr 5e-4 --epochs 1.5"
SET[ReLearn]="--epochs 1.1 --lr 1e-3"   # the tuned rate is that of a shorter training
PUBLISHED=knowundo-llama2   # what the paper has of this data, for the report: of another model
