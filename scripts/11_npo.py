"""NPO, negative preference optimisation (Zhang et al. 2024, arXiv:2404.05868, Eq. 3), with a retain loss (NPO+GDR,
NPO+KLR).

DPO with only the rejected half, gradient ascent that fades as an answer grows unlikelier than under the vanilla model:
L = -(2/β) E log σ(-β [log π_θ(y|x) - log π_vanilla(y|x)]) + retain loss.
"""

from lib.flags import RETAIN_FLAGS, arguments, positive
from lib.losses import npo_loss, retain_loss
from lib.trainer import start

if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=10.0,
        batch=1,
        accumulation=8,
        beta=(0.1, "inverse temperature β", positive),
        **RETAIN_FLAGS,
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = npo_loss(model, forget, args.beta) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
