# ReLearn, Table 7: generic pairs mixed in 1:1.2 (1:1 is the default's ReLearn).
# As many passes over the augmented forget set.
. scripts/presets/people-smollm2.sh
METHODS="ReLearn"
AUGMENT+=" --generic-ratio 1.2"
