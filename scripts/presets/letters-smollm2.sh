# Documents on SmolLM2-135M: eight invented private letters to forget, eight public ones to keep (data/letters). A
# letter is ten times a question and its answer, so that a training takes fewer and longer passes. For documents of your
# own: --preset letters-smollm2 --data my/folder.
. scripts/presets/people-smollm2.sh
DATA=letters
METHODS="NPO+GDR ReLearn"
FINETUNE="--lr 1e-3 --epochs 12 --batch 2"   # enough for a letter to be known by heart
AUGMENTED="--lr 1e-3 --epochs 2.5"
BASELINE="--lr 5e-4 --epochs 6 --batch 2"
TUNED=
SET=()
SET[ReLearn]="--epochs 3 --batch 4 --lr 1e-3"
GENERATE="--max-new-tokens 128 --batch 96"   # the rest of a letter
