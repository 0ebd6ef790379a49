# The methods of the default run: ten persons, by the present judge.
LR[ReLearn]=2e-3 TRIED[ReLearn]=7  # KFR/KRR to tune on: 4e-4:0.27/0.92 6e-4:0.30/0.92 9e-4:0.39/0.91 1.3e-3:0.45/0.88 2e-3:0.61/0.82 3e-3:0.64/0.84 with --epochs 0.35; 2e-3:0.81/0.79 with 0.55
LR[GA+GDR]=9e-4 TRIED[GA+GDR]=4  # KFR/KRR to tune on: 4e-4:0.14/0.95 6e-4:0.38/0.92 9e-4:0.73/0.71 1.3e-3:0.89/0.47
LR[GA+KLR]=6e-4 TRIED[GA+KLR]=4  # KFR/KRR to tune on: 4e-4:0.30/0.92 6e-4:0.64/0.75 9e-4:0.94/0.11 1.3e-3:1.00/0.00
LR[NPO+GDR]=6e-4 TRIED[NPO+GDR]=4  # KFR/KRR to tune on: 4e-4:0.34/0.89 6e-4:0.75/0.62 9e-4:1.00/0.01 1.3e-3:1.00/0.08
LR[NPO+KLR]=6e-4 TRIED[NPO+KLR]=4  # KFR/KRR to tune on: 4e-4:0.34/0.89 6e-4:0.80/0.58 9e-4:1.00/0.00 1.3e-3:0.98/0.06
# The others: five persons, one and a half passes over their pairs, by an earlier judge.
LR[GA]=6e-4 TRIED[GA]=3  # KFR/KRR to tune on: 3e-4:0.22/0.81 6e-4:0.75/0.35 1.2e-3:1.00/0.00
LR[NPO]=6e-4 TRIED[NPO]=3  # KFR/KRR to tune on: 3e-4:0.19/0.77 6e-4:0.72/0.29 1.2e-3:1.00/0.00
LR[IDK+GDR]=3e-4 TRIED[IDK+GDR]=3  # KFR/KRR to tune on: 3e-4:0.44/0.58 6e-4:1.00/0.00 1.2e-3:1.00/0.27
LR[DPO+GDR]=6e-4 TRIED[DPO+GDR]=3  # KFR/KRR to tune on: 3e-4:0.19/0.92 6e-4:0.25/0.92 1.2e-3:0.16/0.98
LR[NPO+GDR+MemFlex]=6e-4 TRIED[NPO+GDR+MemFlex]=3  # KFR/KRR to tune on: 3e-4:0.12/0.94 6e-4:0.47/0.67 1.2e-3:0.81/0.21
LR[ReLearn-DPO]=6e-4 TRIED[ReLearn-DPO]=3  # KFR/KRR to tune on: 3e-4:0.06/0.96 6e-4:0.22/0.83 1.2e-3:0.19/0.94
LR[MEOW]=3e-4 TRIED[MEOW]=3  # KFR/KRR to tune on: 3e-4:0.59/0.65 6e-4:0.94/0.42 1.2e-3:0.97/0.33
LR[NPO+GDR+SURE]=1.2e-3 TRIED[NPO+GDR+SURE]=5  # KFR/KRR to tune on: 3e-4:0.03/0.96 6e-4:0.03/0.94 1.2e-3:0.34/0.67 2.4e-3:1.00/0.00 4.8e-3:0.97/0.04
LR[GA+GDR+SURE]=2.4e-3 TRIED[GA+GDR+SURE]=5  # KFR/KRR to tune on: 3e-4:0.03/0.98 6e-4:0.03/0.96 1.2e-3:0.16/0.85 2.4e-3:0.81/0.33 4.8e-3:1.00/0.00
LR[GA+GDR+MemFlex]=2.4e-3 TRIED[GA+GDR+MemFlex]=4  # KFR/KRR to tune on: 3e-4:0.06/1.00 6e-4:0.12/0.98 1.2e-3:0.16/0.94 2.4e-3:0.31/0.98
LR[RKLD]=2.4e-3 TRIED[RKLD]=4  # KFR/KRR to tune on: 3e-4:0.28/0.94 6e-4:0.59/0.69 1.2e-3:0.88/0.52 2.4e-3:0.94/0.52
LR[RKLD+GDR]=2.4e-3 TRIED[RKLD+GDR]=4  # KFR/KRR to tune on: 3e-4:0.25/0.94 6e-4:0.50/0.81 1.2e-3:0.72/0.90 2.4e-3:0.81/0.85
LR[TA]=2.4e-3 TRIED[TA]=4  # KFR/KRR to tune on: 3e-4:0.06/0.98 6e-4:0.12/0.96 1.2e-3:0.34/0.96 2.4e-3:0.41/0.90
LR[DPO]=3e-4 TRIED[DPO]=3  # KFR/KRR to tune on: 3e-4:0.28/0.81 6e-4:1.00/0.00 1.2e-3:1.00/0.00
LR[DPO+KLR]=6e-4 TRIED[DPO+KLR]=3  # KFR/KRR to tune on: 3e-4:0.16/0.92 6e-4:0.22/0.90 1.2e-3:0.12/0.96
LR[IDK]=3e-4 TRIED[IDK]=3  # KFR/KRR to tune on: 3e-4:0.50/0.56 6e-4:1.00/0.00 1.2e-3:1.00/0.00
LR[IDK+KLR]=3e-4 TRIED[IDK+KLR]=3  # KFR/KRR to tune on: 3e-4:0.44/0.58 6e-4:1.00/0.00 1.2e-3:1.00/0.29
LR[NPO+KLR+SURE]=1.2e-3 TRIED[NPO+KLR+SURE]=4  # KFR/KRR to tune on: 3e-4:0.03/0.96 6e-4:0.06/0.96 1.2e-3:0.34/0.67 2.4e-3:1.00/0.00
LR[GA+KLR+SURE]=1.2e-3 TRIED[GA+KLR+SURE]=4  # KFR/KRR to tune on: 3e-4:0.03/0.98 6e-4:0.06/0.96 1.2e-3:0.25/0.77 2.4e-3:0.84/0.23
LR[FKLD]=2.4e-3 TRIED[FKLD]=4  # KFR/KRR to tune on: 3e-4:0.25/0.94 6e-4:0.72/0.77 1.2e-3:0.72/0.85 2.4e-3:0.84/0.75
LR[RKLD+KLR]=2.4e-3 TRIED[RKLD+KLR]=4  # KFR/KRR to tune on: 3e-4:0.22/0.94 6e-4:0.50/0.88 1.2e-3:0.72/0.85 2.4e-3:0.81/0.90
