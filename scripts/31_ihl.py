"""IHL, the inverted hinge loss of LoKU (Cha et al. 2025, arXiv:2408.06621), with a retain loss (IHL+GDR): each token of
a forget answer gives way to the likeliest other one. LoKU's Fisher-weighted start of the adapter (FILA) is not here.

L = L_f + retain loss, L_f = E[1 + p_t - max of p over all other tokens] at the forget answers' tokens: between 2, where
the true token has all the probability, and 0, where another one has.
"""

from lib.flags import RETAIN_FLAGS, arguments
from lib.likelihood import answer_logits, answer_tokens
from lib.losses import retain_loss
from lib.trainer import start


def inverted_hinge_loss(model, forget):
    """E[1 + p(true token) - p(likeliest other token)] over the answer tokens: scalar."""
    p, true = answer_logits(model, forget).softmax(-1), answer_tokens(forget)[:, None]
    others = p.scatter(1, true, 0)  # no probability is below 0: the true token is never the likeliest of these
    return forget.token_mean(1 + p.gather(1, true)[:, 0] - others.amax(-1))


if __name__ == "__main__":
    args = arguments(__doc__, **RETAIN_FLAGS)
    model, trainer = start(args)
    for forget, retain in trainer:
        loss = inverted_hinge_loss(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
