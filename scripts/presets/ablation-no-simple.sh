# Question variants: ReLearn without the simple ones. More passes, so that there are as many updates as with all four.
. scripts/presets/people-smollm2.sh
METHODS="ReLearn"
AUGMENT+=" --kinds contextual noise logical"
SET[ReLearn]="--epochs 0.73"   # 4/3 of the default's
