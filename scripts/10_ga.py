"""GA, gradient ascent (Jang et al. 2023, arXiv:2210.01504, Eq. 2), with a retain loss (GA+GDR, GA+KLR).

Raises the negative log-likelihood of the forget set: L = -NLL(D_f) + retain loss.
"""

from lib.flags import RETAIN_FLAGS, arguments
from lib.losses import ga_loss, retain_loss
from lib.trainer import start

if __name__ == "__main__":
    args = arguments(__doc__, lr=5e-6, epochs=10.0, batch=1, accumulation=8, **RETAIN_FLAGS)
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = ga_loss(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
