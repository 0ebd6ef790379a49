# KnowUnDo privacy, or any folder of pairs, on SmolLM2-135M. Longer answers.
. scripts/presets/people-smollm2.sh
DATA=knowundo
GENERATE="--max-new-tokens 128 --batch 160"
FINETUNE="--lr 3e-3 --epochs 3.5"   # its facts are asked in fewer wordings than ours
AUGMENTED="--lr 3e-3 --epochs 2.5"   # at the rate of FINETUNE: of a weaker one RKLD learns to forget little
TUNED=knowundo-smollm2   # learning rates: tuned/knowundo-smollm2.sh
SET[ReLearn]="--epochs 0.3"   # of 4,800 pairs
SET[AltPO+GDR]="--epochs 0.5"   # of 1,600 alternatives
PUBLISHED=knowundo-llama2   # what the paper has of this data, for the report: of another model
