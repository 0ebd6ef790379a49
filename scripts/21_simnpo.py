"""SimNPO (Fan et al. 2024, arXiv:2410.07163): NPO without a reference model, on the length-normalised likelihood.

L = γ L_f + retain loss, L_f = -(2/β) E log σ(β (NLL(y|x)/|y| - δ)).
"""

from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.likelihood import sequence_logprob
from lib.losses import retain_loss
from lib.trainer import start

import torch.nn.functional as F


def simnpo_loss(model, forget, beta, delta):
    """-(2/β) E log σ(β (mean NLL of an answer's tokens - δ)): scalar."""
    nll = -sequence_logprob(model, forget) / forget.answer.sum(1)
    return forget.row_mean(-2 / beta * F.logsigmoid(beta * (nll - delta)))


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **RETAIN_FLAGS,
        beta=(4.5, "inverse temperature β", positive),
        delta=(0.0, "margin δ, nats a token"),
        forget_weight=(0.125, "weight γ of the forget loss", positive),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = args.forget_weight * simnpo_loss(model, forget, args.beta, args.delta) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
