"""PDU (arXiv:2506.05314): flattens the logits of the forget answers, with a retain weight that adapts itself
(primal-dual).

L = L_f + α L_r, L_f = E[(max_v z - mean_v z)²] at the answer tokens. α is a dual variable: after the first updates, a
share of --warm-up of them all, α ← max(0, α + η (L_r - ε)) at each, so that it rises while the retain loss is above ε.
"""

from lib.flags import RETAIN_FLAGS, arguments, number, positive, share
from lib.likelihood import answer_logits
from lib.losses import retain_loss
from lib.trainer import start

import torch


def pdu_loss(model, forget):
    """E[(max_v z - mean_v z)²] over the answer tokens, z the logits: scalar."""
    logits = answer_logits(model, forget)
    return forget.token_mean((logits.amax(-1) - logits.mean(-1)) ** 2)


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **RETAIN_FLAGS,
        epsilon=(0.3, "retain loss to hold, ε (TOFU: 0.3)"),
        step=(5.0, "step size η of α", positive),
        alpha=(100.0, "retain weight α at the start", number(least=0)),
        warm_up=(0.5, "share of the updates before α moves (the paper's: 5 of 10 epochs)", share),
    )
    model, trainer = start(args)
    kept = trainer.kept or {"alpha": args.alpha, "retain": 0.0}  # of a continued run: as it was left
    trainer.kept = kept
    for forget, retain in trainer:
        rest = retain_loss(model, retain, args)
        loss = pdu_loss(model, forget) + kept["alpha"] * rest
        loss.backward()
        kept["retain"] += torch.as_tensor(rest).item()  # parts of an accumulated batch add up to its mean
        if trainer.waiting == 1:  # its last part: what follows is the update
            if trainer.done >= args.warm_up * trainer.steps:
                kept["alpha"] = max(0.0, kept["alpha"] + args.step * (trainer.summed(kept["retain"]) - args.epsilon))
            kept["retain"] = 0.0
        trainer.update(loss)
    trainer.finish()
