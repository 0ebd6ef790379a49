"""TA, task arithmetic (Ilharco et al. 2022, arXiv:2212.04089): walks back from what more training on the forget set
would do.

θ_u = θ_v - λ(θ_aug - θ_v), θ_aug the vanilla model trained further on the forget set: its adapter, times -λ.
"""

from lib.files import fail
from lib.flags import arguments, count_or_none
from lib.likelihood import nll
from lib.trainer import start

if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=5.0,
        batch=1,
        accumulation=8,
        probes=1,
        retain_data=None,
        keep=(0, "none are: what lies on the way is no unlearned model", count_or_none),
        strength=(1.0, "how far back, λ"),
    )
    args.keep = 0  # run_all.sh --select gives it to every method
    if args.continue_adapter:  # the way back from one adapter to another is of both ranks together
        fail("TA takes a fresh adapter times -λ: it cannot continue one (--continue-adapter)")
    model, trainer = start(args)
    for forget, _ in trainer:
        loss = nll(model, forget)
        loss.backward()
        trainer.update(loss)
    trainer.probes = trainer.probes[:1]  # those on the way are of the model that learns
    trainer.scale_change(-args.strength)
    trainer.probe()
    trainer.finish()
