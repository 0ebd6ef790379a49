"""SURE (Zhang et al. 2024, arXiv:2410.16454): updates only the neurons that the forget loss moves most. On GA or NPO.

Of each trained matrix, an output row is a neuron; the rows whose gradient of the forget loss has a norm under the 99th percentile
of all norms get a gradient of zero (Adam's running mean of earlier ones may still move them). One backward for the forget loss, one for
the retain loss.
"""
import torch
import torch.nn.functional as F

from unlearn import FORGET_FLAGS, RETAIN_FLAGS, arguments, log_ratio, nll, retain_loss, start


def forget_loss(model, forget, args):
    """GA's (10_ga.py) or NPO's (11_npo.py): scalar."""
    if args.loss == "ga":
        return -nll(model, forget)
    return forget.row_mean(-2 / args.beta * F.logsigmoid(-args.beta * log_ratio(model, forget)))


def sure(forget, retain, percentile):
    """forget, retain: gradients, one (out, in) for each trained matrix → gradients of the sum, zero in the rows under the percentile."""
    norms = torch.cat([gradient.norm(dim=1) for gradient in forget])
    threshold = torch.quantile(norms.float(), percentile / 100)
    return [(one + two) * (one.norm(dim=1, keepdim=True) >= threshold) for one, two in zip(forget, retain, strict=True)]


if __name__ == "__main__":
    args = arguments(__doc__, lr=5e-6, epochs=10.0, batch=1, accumulation=8, **FORGET_FLAGS, **RETAIN_FLAGS,
                     percentile=(99.0, "rows under this percentile of the norms get no gradient (the released code's comment says 90)"))
    model, trainer = start(args)
    for forget, retain in trainer:
        trainer.step(forget_loss(model, forget, args), retain_loss(model, retain, args),
                     combine=lambda one, two: sure(one, two, args.percentile))
    trainer.finish()
