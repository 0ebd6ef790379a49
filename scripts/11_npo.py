"""NPO, negative preference optimisation (Zhang et al. 2024, arXiv:2404.05868, Eq. 3), with a retain loss (NPO+GDR, NPO+KLR).

DPO with only the rejected half: gradient ascent that fades as an answer grows unlikelier than under the vanilla model.
"""
import torch.nn.functional as F

from unlearn import RETAIN_FLAGS, arguments, log_ratio, retain_loss, start


def npo_loss(model, forget, beta):
    """-(2/β) E log σ(-β [log π_θ(y|x) - log π_vanilla(y|x)]), log-probabilities summed over the answer: scalar."""
    return forget.row_mean(-2 / beta * F.logsigmoid(-beta * log_ratio(model, forget)))


if __name__ == "__main__":
    args = arguments(__doc__, lr=1e-5, epochs=10.0, batch=1, accumulation=8, beta=(0.1, "inverse temperature β"), **RETAIN_FLAGS)
    model, trainer = start(args)
    for forget, retain in trainer:
        trainer.step(npo_loss(model, forget, args.beta) + retain_loss(model, retain, args))
    trainer.finish()
