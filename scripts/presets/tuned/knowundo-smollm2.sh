# KnowUnDo privacy, whole, by the judge of 30 November 2026 on every fourth of its training questions; from ReLearn on
# by that of 1 December on every eighth, one rate, the best of four points; all others: people's.
. scripts/presets/tuned/people-smollm2.sh
LR[GA+GDR]=4e-4 TRIED[GA+GDR]=2  # KFR/KRR to tune on: 2e-4:0.24/0.84 4e-4:0.58/0.81
LR[NPO+GDR]=4e-4 TRIED[NPO+GDR]=2  # KFR/KRR to tune on: 2e-4:0.60/0.69 4e-4:0.88/0.59
LR[GA+KLR]=4e-4 TRIED[GA+KLR]=1  # GA+GDR's
LR[NPO+KLR]=4e-4 TRIED[NPO+KLR]=1  # NPO+GDR's
LR[ReLearn]=2e-3 TRIED[ReLearn]=1x4  # @360:0.76/0.91
LR[ME+GDR]=1.2e-3 TRIED[ME+GDR]=1x4  # 0.45 of that of all-methods, rounded, as all that follow; @75:0.92/0.86
LR[AltPO+GDR]=1.2e-3 TRIED[AltPO+GDR]=1x4  # half an epoch of its four alternatives a question; @200:0.94/0.80
LR[PDU+GDR]=1.2e-3 TRIED[PDU+GDR]=1x4  # @100:0.90/0.80
LR[WGA+GDR]=1.2e-3 TRIED[WGA+GDR]=1x4  # @100:0.72/0.86
