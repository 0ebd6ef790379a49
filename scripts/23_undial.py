"""UNDIAL (Dong et al., NAACL 2025, arXiv:2402.10052): self-distillation from the vanilla model with the true token's
logit lowered.

L = CE(softmax(z_v - β·1[true token]), model) at the answer tokens; no retain loss by default.
"""

from lib.flags import RETAIN_FLAGS, arguments
from lib.likelihood import answer_logits, answer_tokens
from lib.losses import retain_loss
from lib.reference import reference
from lib.trainer import start

import torch.nn.functional as F


def undial_loss(model, forget, beta):
    """Cross entropy to the vanilla model's distribution with the true token's logit lowered by β, nats a token:
    scalar.
    """
    target = reference(answer_logits, model, forget)
    target.scatter_add_(1, answer_tokens(forget)[:, None], target.new_full((len(target), 1), -beta))
    return forget.token_mean(F.cross_entropy(answer_logits(model, forget), target.softmax(-1), reduction="none"))


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-4,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **{**RETAIN_FLAGS, "retain": "none"},
        beta=(10.0, "how far the true token's logit is lowered"),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = undial_loss(model, forget, args.beta) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
