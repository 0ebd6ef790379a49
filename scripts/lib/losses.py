"""The losses that several methods share: gradient ascent, NPO, and what keeps the retain set."""

from lib.likelihood import answer_logits, answer_tokens, nll, sequence_logprob
from lib.reference import reference

import torch.nn.functional as F


def log_ratio(model, batch):
    """log π_θ(answer | question) - log π_vanilla(answer | question), in nats: (rows,)."""
    return sequence_logprob(model, batch) - reference(sequence_logprob, model, batch)


def ga_loss(model, forget):
    """Gradient ascent (Jang et al. 2023, Eq. 2): -NLL of the answers, in nats a token: scalar."""
    return -nll(model, forget)


def npo_loss(model, forget, beta):
    """NPO (Zhang et al. 2024, Eq. 3): -(2/β) E log σ(-β log_ratio), log-probabilities summed over the answer: scalar."""
    return forget.row_mean(-2 / beta * F.logsigmoid(-beta * log_ratio(model, forget)))


def preference_loss(model, chosen, rejected, beta):
    """DPO (Rafailov et al. 2023, Eq. 7): -E log σ(β [log-ratio of chosen - log-ratio of rejected]): scalar."""
    return chosen.row_mean(-F.logsigmoid(beta * (log_ratio(model, chosen) - log_ratio(model, rejected))))


def retain_loss(model, batch, args):
    """The retain term(s) named by --retain, on the retain batch (ReLearn Eq. 7 and 8; flags: RETAIN_FLAGS): scalar.

    gdr: NLL. klr: KL between vanilla and current next-token distributions, a mean over answer tokens.
    """
    if args.retain == "none":
        return 0.0
    logp, loss = F.log_softmax(answer_logits(model, batch), -1), 0.0
    if "gdr" in args.retain:
        loss = loss + batch.token_mean(F.nll_loss(logp, answer_tokens(batch), reduction="none"))
    if "klr" in args.retain:
        vanilla = F.log_softmax(reference(answer_logits, model, batch), -1)
        p, q = (vanilla, logp) if args.kl == "forward" else (logp, vanilla)
        loss = loss + batch.token_mean((p.exp() * (p - q)).sum(-1))
    return loss
