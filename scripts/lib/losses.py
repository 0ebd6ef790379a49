"""The losses that several methods share: gradient ascent, NPO, and what keeps the retain set."""

from lib.batches import every_position
from lib.likelihood import answer_logits, answer_tokens, nll, sequence_logprob
from lib.reference import reference

import torch.nn.functional as F


def log_ratio(model, batch, mean=False):
    """log π_θ(answer | question) - log π_vanilla(answer | question), in nats; with `mean`, nats a token: (rows,)."""
    ratio = sequence_logprob(model, batch) - reference(sequence_logprob, model, batch)
    return ratio / batch.answer.sum(1) if mean else ratio


def ga_loss(model, forget):
    """Gradient ascent (Jang et al. 2023, Eq. 2): -NLL of the answers, in nats a token: scalar."""
    return -nll(model, forget)


def npo_loss(model, forget, beta):
    """NPO (Zhang et al. 2024, Eq. 3): -(2/β) E log σ(-β log_ratio), log-probabilities summed over the answer:
    scalar.
    """
    return forget.row_mean(-2 / beta * F.logsigmoid(-beta * log_ratio(model, forget)))


def dpo_loss(model, chosen, rejected, beta, scale=1.0, mean=False):
    """DPO (Rafailov et al. 2023, Eq. 7): -scale E log σ(β [log-ratio of chosen - log-ratio of rejected]), log-ratios
    of model to vanilla model: scalar.

    Args:
        mean: log-ratios in nats a token, not of the whole answer.
    """
    ratio = log_ratio(model, chosen, mean) - log_ratio(model, rejected, mean)
    return chosen.row_mean(-scale * F.logsigmoid(beta * ratio))


def retain_loss(model, batch, args):
    """The retain term(s) named by --retain, on the retain batch (ReLearn Eq. 7 and 8; flags: RETAIN_FLAGS): scalar.

    gdr: NLL. klr: KL between vanilla and current next-token distributions, a mean over answer tokens; with
    --kl-positions padded the released code's (zjunlp/unlearn, baselines/src/iterative_trainer.py: kl_div, reduction
    batchmean over the logits of every position): the sum over all positions of a row, question and end token included,
    divided by --max-length, to which that code pads every row; then a mean over rows. Exact for the positions of the
    row itself. Left out are those of its padding, where that code compares what either model says after nothing but end
    tokens, the same for all rows: on SmolLM2 fine-tuned on `people` and then on its forget set, 0.75 nats a row beside
    the 1.1 of the row's own positions (rows of 49 tokens in 512).
    """
    if args.retain == "none":
        return 0.0
    if args.retain == "gdr":
        return nll(model, batch)
    padded = "klr" in args.retain and getattr(args, "kl_positions", "answer") == "padded"
    seen = every_position(batch) if padded else batch
    logp, loss = F.log_softmax(answer_logits(model, seen), -1), 0.0
    if "gdr" in args.retain:
        own = F.pad(batch.answer, (0, 1))[seen.answer] if padded else slice(None)
        loss = loss + batch.token_mean(F.nll_loss(logp[own], answer_tokens(batch), reduction="none"))
    if "klr" in args.retain:
        vanilla = F.log_softmax(reference(answer_logits, model, seen), -1)
        p, q = (vanilla, logp) if args.kl == "forward" else (logp, vanilla)
        kl = (p.exp() * (p - q)).sum(-1)
        loss = loss + (batch.row_mean(kl) / args.max_length if padded else batch.token_mean(kl))
    return loss
