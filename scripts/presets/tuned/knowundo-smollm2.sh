# KnowUnDo privacy, whole, by the present judge, on every fourth of its training questions; all others: people's.
. scripts/presets/tuned/people-smollm2.sh
LR[GA+GDR]=4e-4 TRIED[GA+GDR]=2  # KFR/KRR to tune on: 2e-4:0.24/0.84 4e-4:0.58/0.81
LR[NPO+GDR]=4e-4 TRIED[NPO+GDR]=2  # KFR/KRR to tune on: 2e-4:0.60/0.69 4e-4:0.88/0.59
LR[GA+KLR]=4e-4 TRIED[GA+KLR]=1  # GA+GDR's
LR[NPO+KLR]=4e-4 TRIED[NPO+KLR]=1  # NPO+GDR's
LR[ReLearn]=2e-3 TRIED[ReLearn]=1
