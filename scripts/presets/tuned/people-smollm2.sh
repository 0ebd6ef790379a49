LR[GA+GDR]=5e-4  # KFR/KRR to tune on: 3e-4:0.38/0.83 5e-4:0.91/0.44 7e-4:0.97/0.06
LR[GA+KLR]=5e-4  # KFR/KRR to tune on: 3e-4:0.44/0.88 5e-4:0.91/0.46 7e-4:0.91/0.02
