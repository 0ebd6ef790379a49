"""MemFlex (Tian et al. 2024, arXiv:2407.01920), in the iterative form of ReLearn's released code. On GA or NPO.

A trained matrix gets a gradient only where forgetting moves it much and in another direction than retaining does:
cos(g_f, g_r) < 0.92 and mean |g_f| > 6e-4, of the gradients of L_f and L_r; elsewhere it is zero (Adam's running mean of
earlier ones may still move the matrix). L = -0.4 L_f + 2.0 L_r with the forget set's NLL as L_f; with NPO's loss, + 0.4 L_f.
"""
import torch
import torch.nn.functional as F

from unlearn import FORGET_FLAGS, RETAIN_FLAGS, arguments, log_ratio, nll, retain_loss, start


def forget_loss(model, forget, args):
    """L_f: the NLL that GA raises (10_ga.py), or NPO's loss (11_npo.py): scalar."""
    if args.loss == "ga":
        return nll(model, forget)
    return forget.row_mean(-2 / args.beta * F.logsigmoid(-args.beta * log_ratio(model, forget)))


def loss_weights(args):
    """(weight of L_f, weight of L_r)."""
    return -args.forget_weight if args.loss == "ga" else args.forget_weight, args.retain_weight


def memflex(forget, retain, args):
    """forget, retain: gradients, one for each trained matrix → gradients of the weighted sum, zero for the other matrices."""
    (weight, retain_weight), combined = loss_weights(args), []
    for one, two in zip(forget, retain, strict=True):
        moves = F.cosine_similarity(one.flatten(), two.flatten(), dim=0) < args.cosine and one.abs().mean() > args.magnitude
        combined.append(weight * one + retain_weight * two if moves else torch.zeros_like(one))
    return combined


if __name__ == "__main__":
    args = arguments(__doc__, lr=5e-6, epochs=10.0, batch=1, accumulation=8, **FORGET_FLAGS, **RETAIN_FLAGS,
                     cosine=(0.92, "a matrix whose two gradients are more alike than this gets none"),
                     magnitude=(6e-4, "and so does one whose forget gradient is smaller than this, on average"),
                     forget_weight=(0.4, "weight of the forget loss"), retain_weight=(2.0, "weight of the retain loss"))
    model, trainer = start(args)
    for forget, retain in trainer:
        trainer.step(forget_loss(model, forget, args), retain_loss(model, retain, args),
                     combine=lambda one, two: memflex(one, two, args), weights=loss_weights(args))
    trainer.finish()
