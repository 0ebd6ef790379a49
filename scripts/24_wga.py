"""WGA (arXiv:2502.19301) and SatImp (arXiv:2505.11953): gradient ascent whose tokens are weighted by their own
likelihood.

L = γ L_f + retain loss, L_f = -E[p_t^β1 (1 - p_t)^β2 NLL_t], the weights without gradient. WGA: β1 1, β2 0, γ 1 (the
defaults); SatImp: β1 5, β2 1, γ 0.1.
"""

from lib.flags import RETAIN_FLAGS, arguments, number, positive
from lib.likelihood import answer_logprob
from lib.losses import retain_loss
from lib.trainer import start


def weighted_ga_loss(model, forget, beta1, beta2):
    """-E[p^β1 (1 - p)^β2 NLL] over the answer tokens, nats a token: scalar."""
    logp = answer_logprob(model, forget)
    p = logp.detach().exp()
    return forget.token_mean(p**beta1 * (1 - p) ** beta2 * logp)


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=10.0,
        batch=1,
        accumulation=8,
        **RETAIN_FLAGS,
        beta1=(1.0, "exponent of p", number(least=0)),
        beta2=(0.0, "exponent of 1 - p", number(least=0)),
        forget_weight=(1.0, "weight γ of the forget loss", positive),
    )
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = args.forget_weight * weighted_ga_loss(model, forget, args.beta1, args.beta2)
        loss = loss + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
