"""CE-U (arXiv:2503.01224): the model learns its own distribution with the true token taken out.

L = CE(softmax of the model's own logits with the true token's at -∞, without gradient; model), over the answer tokens
but the first; no retain loss by default.
"""

import math

from lib.flags import RETAIN_FLAGS, arguments
from lib.likelihood import answer_logits, answer_tokens
from lib.losses import retain_loss
from lib.trainer import start

import torch.nn.functional as F


def ceu_loss(model, forget):
    """Cross entropy to the model's own distribution without the true token, nats a token, first answer tokens left
    out: scalar.
    """
    logits = answer_logits(model, forget)
    target = logits.detach().scatter(1, answer_tokens(forget)[:, None], float("-inf")).softmax(-1)
    rows = forget.answer[:, 1:].nonzero()[:, 0]
    later = rows == rows.roll(1)  # the row before is the same: not an answer's first token
    if len(rows):
        later[0] = False
    count = math.inf  # of a part that is not to count: inf - inf would be no number, and the part would count
    if math.isfinite(forget.step_tokens):
        count = max(1, forget.step_tokens - forget.step_rows)
    return F.cross_entropy(logits[later], target[later], reduction="sum") / count


if __name__ == "__main__":
    args = arguments(__doc__, lr=1e-5, epochs=10.0, batch=1, accumulation=8, **{**RETAIN_FLAGS, "retain": "none"})
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = ceu_loss(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
