"""ReLearn (Xu et al., ACL 2025, arXiv:2502.11190, Eq. 6-9): forget by learning other answers.

Plain fine-tuning on the augmented forget set, vague answers mixed with generic pairs (03_augment.py), beside the
retain set: L = NLL(D~_f ∪ D_g) + NLL(D_r) + KL on D_r.
"""

from lib.flags import RETAIN_FLAGS, arguments
from lib.likelihood import nll
from lib.losses import retain_loss
from lib.trainer import start

if __name__ == "__main__":
    args = arguments(
        __doc__,
        forget="forget_augmented.jsonl",
        lr=1e-5,
        epochs=3.0,
        batch=1,
        accumulation=4,
        **{**RETAIN_FLAGS, "retain": "gdr+klr"},
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = nll(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
