"""MemFlex (Tian et al. 2024, arXiv:2407.01920), in the iterative form of ReLearn's released code. On GA or NPO.

A trained matrix gets a gradient only where forgetting moves it much and in another direction than retaining does:
cos(g_f, g_r) < 0.92 and mean |g_f| > 6e-4, of the gradients of L_f and L_r; elsewhere it is zero (Adam's running mean
of earlier ones may still move the matrix). L = -0.4 L_f + 2.0 L_r with the forget set's NLL as L_f; with NPO's loss, +
0.4 L_f.
"""

from lib.flags import FORGET_FLAGS, RETAIN_FLAGS, arguments
from lib.losses import ga_loss, npo_loss, retain_loss
from lib.trainer import start

import torch
import torch.nn.functional as F


def loss_weights(args):
    """(weight of L_f, weight of L_r)."""
    return -args.forget_weight if args.loss == "ga" else args.forget_weight, args.retain_weight


def memflex(forget, retain, args):
    """forget, retain: gradients, one for each trained matrix → gradients of the weighted sum, zero for the other
    matrices.
    """
    (weight, retain_weight), combined = loss_weights(args), []
    for one, two in zip(forget, retain, strict=True):
        moves = (
            F.cosine_similarity(one.flatten(), two.flatten(), dim=0) < args.cosine and one.abs().mean() > args.magnitude
        )
        combined.append(weight * one + retain_weight * two if moves else torch.zeros_like(one))
    return combined


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=5e-6,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **FORGET_FLAGS,
        **RETAIN_FLAGS,
        cosine=(0.92, "a matrix whose two gradients are more alike than this gets none"),
        magnitude=(6e-4, "and so does one whose forget gradient is smaller than this, on average"),
        forget_weight=(0.4, "weight of the forget loss"),
        retain_weight=(2.0, "weight of the retain loss"),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = (
            -ga_loss(model, forget) if args.loss == "ga" else npo_loss(model, forget, args.beta)
        )  # L_f: the NLL that GA raises
        loss.backward()
        of_forget = trainer.take_gradients()
        rest = retain_loss(model, retain, args)
        if args.retain != "none":
            rest.backward()
        weight, retain_weight = loss_weights(args)
        trainer.update(
            weight * loss + retain_weight * rest,
            (of_forget, trainer.take_gradients()),
            lambda one, two: memflex(one, two, args),
        )
    trainer.finish()
