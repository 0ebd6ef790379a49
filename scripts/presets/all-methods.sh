# Every method, tuned and selected alike: the default's model on five of its persons, 32 facts to forget and 48 to keep.
. scripts/presets/people-smollm2.sh
PERSONS=5
METHODS=all
SELECT=4   # each at the best of four points of its training
AUGMENTED="--lr 3e-3 --epochs 2.5"   # at the rate of FINETUNE: of a weaker one RKLD learns to forget little
BASELINE="--lr 5e-4 --epochs 1.5"
TUNED=all-methods   # learning rates: tuned/all-methods.sh
SET[ReLearn]="--epochs 1.1"   # as many updates a fact as in the default
