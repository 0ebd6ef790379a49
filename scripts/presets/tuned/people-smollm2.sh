LR[GA+GDR]=5e-4  # KFR/KRR to tune on: 3e-4:0.38/0.83 5e-4:0.91/0.44 7e-4:0.97/0.06
LR[GA+KLR]=5e-4  # KFR/KRR to tune on: 3e-4:0.44/0.88 5e-4:0.91/0.46 7e-4:0.91/0.02
LR[ReLearn]=1e-3  # KFR/KRR to tune on: 5e-4:0.50/0.83 7e-4:0.75/0.83 1e-3:0.75/0.83
LR[NPO+GDR]=3e-4  # KFR/KRR to tune on: 3e-4:0.62/0.79 4e-4:0.72/0.35 5e-4:0.84/0.23
LR[NPO+KLR]=3e-4  # KFR/KRR to tune on: 3e-4:0.62/0.81 4e-4:0.75/0.33 5e-4:0.84/0.19
