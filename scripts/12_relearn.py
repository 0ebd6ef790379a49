"""ReLearn (Xu et al., ACL 2025, arXiv:2502.11190, Eq. 6-9): forget by learning other answers.

Plain fine-tuning on the augmented forget set, vague answers mixed with generic pairs (03_augment.py), beside the retain set:
L = NLL(D~_f ∪ D_g) + NLL(D_r) + KL on D_r.
"""
from unlearn import RETAIN_FLAGS, arguments, nll, retain_loss, start

if __name__ == "__main__":
    retain = ("gdr+klr", *RETAIN_FLAGS["retain"][1:])
    args = arguments(__doc__, forget="forget_augmented.jsonl", lr=1e-5, epochs=3.0, batch=1, accumulation=4,
                     **{**RETAIN_FLAGS, "retain": retain})
    model, trainer = start(args)
    for forget, retain in trainer:
        trainer.step(nll(model, forget) + retain_loss(model, retain, args))
    trainer.finish()
