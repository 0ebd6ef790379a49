"""SURE (Zhang et al. 2024, arXiv:2410.16454): updates only the neurons that the forget loss moves most. On GA or NPO.

Of each trained matrix, an output row is a neuron; the rows whose gradient of the forget loss has a norm under the 99th
percentile of all norms get a gradient of zero (Adam's running mean of earlier ones may still move them). One backward
for the forget loss, one for the retain loss.
"""

from lib.flags import FORGET_FLAGS, RETAIN_FLAGS, arguments, number
from lib.losses import ga_loss, npo_loss, retain_loss
from lib.trainer import start

import torch


def sure(forget, retain, percentile):
    """forget, retain: gradients, one (out, in) for each trained matrix, one (out,) for each trained vector → gradients
    of the sum, zero in the rows under the percentile.
    """
    norms = [gradient.norm(dim=1) if gradient.dim() > 1 else gradient.abs() for gradient in forget]
    threshold = torch.quantile(torch.cat(norms).float(), percentile / 100)
    mask = lambda one, norm: (norm >= threshold).view(-1, *[1] * (one.dim() - 1))
    return [(one + two) * mask(one, norm) for one, two, norm in zip(forget, retain, norms, strict=True)]


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=5e-6,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **FORGET_FLAGS,
        **RETAIN_FLAGS,
        percentile=(
            99.0,
            "rows under this percentile of the norms get no gradient (the released code's comment says 90)",
            number(least=0, most=100),
        ),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = ga_loss(model, forget) if args.loss == "ga" else npo_loss(model, forget, args.beta)
        loss.backward()
        of_forget = trainer.take_gradients()
        rest = retain_loss(model, retain, args)
        if args.retain != "none":
            rest.backward()
        trainer.update(
            loss + rest, (of_forget, trainer.take_gradients()), lambda one, two: sure(one, two, args.percentile)
        )
    trainer.finish()
