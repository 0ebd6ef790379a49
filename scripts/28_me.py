"""ME (Yuan et al. 2024, arXiv:2410.08109): maximises the entropy of the forget answers' tokens, with a retain loss
(ME+GDR).

L = γ KL(uniform ‖ p_t) at the forget answers' tokens, over the whole vocabulary, + retain loss.
"""

import math

from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.likelihood import answer_logits
from lib.losses import retain_loss
from lib.trainer import start


def entropy_loss(model, forget):
    """KL(uniform ‖ p) over the vocabulary, in nats a token: scalar."""
    logp = answer_logits(model, forget).log_softmax(-1)
    return forget.token_mean(-logp.mean(-1) - math.log(logp.shape[-1]))


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=5.0,
        batch=1,
        accumulation=8,
        **RETAIN_FLAGS,
        forget_weight=(0.1, "weight γ of the forget loss", positive),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = args.forget_weight * entropy_loss(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
