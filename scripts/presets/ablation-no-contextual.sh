# Question variants: ReLearn without the contextual ones.
# More passes, so that there are as many updates as with all four.
. scripts/presets/people-smollm2.sh
METHODS="ReLearn"
AUGMENT+=" --kinds simple noise logical"
SET[ReLearn]="--epochs 0.73"   # 4/3 of the default's
