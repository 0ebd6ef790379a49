"""GA, gradient ascent (Jang et al. 2023, arXiv:2210.01504, Eq. 2), with a retain loss (GA+GDR, GA+KLR).

Raises the negative log-likelihood of the forget set: L = -NLL(D_f) + retain loss.
"""
from unlearn import RETAIN_FLAGS, arguments, nll, retain_loss, start


def ga_loss(model, forget):
    """-NLL of the answers, in nats a token: scalar."""
    return -nll(model, forget)


if __name__ == "__main__":
    args = arguments(__doc__, lr=5e-6, epochs=10.0, batch=1, accumulation=8, **RETAIN_FLAGS)
    model, trainer = start(args)
    for forget, retain in trainer:
        trainer.step(ga_loss(model, forget) + retain_loss(model, retain, args))
    trainer.finish()
