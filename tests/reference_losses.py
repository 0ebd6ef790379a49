"""Slow, obvious reference implementations of the losses that other work compares with, from the equations alone.

As in reference.py: rows are pairs (ids, prompt), one forward pass each, no padding, nothing shared with the fast code,
and what weighs or aims without being trained through is computed without gradient.
"""

import torch
from reference import answer_log_distributions, answer_logits, answer_token_logprobs, dpo, log_sigmoid, sequence_logprob


def simnpo(model, rows, beta, delta):
    """-(2/beta) E log sigma(beta (NLL(y|x)/|y| - delta)), no reference model: SimNPO (Fan 2024, arXiv:2410.07163)."""
    total = 0.0
    for row in rows:
        ids, prompt = row
        a_token = -sequence_logprob(model, row) / (len(ids) - prompt)
        total = total + log_sigmoid(beta * (a_token - delta))
    return -(2.0 / beta) * total / len(rows)


def altpo(model, vanilla, alternative_rows, true_rows, beta):
    """(2/beta) DPO, chosen an alternative answer, rejected the true one: AltPO (Mekala 2024, arXiv:2409.13474)."""
    return (2.0 / beta) * dpo(model, vanilla, alternative_rows, true_rows, beta)


def undial(model, vanilla, rows, beta):
    """Cross entropy to softmax(z_v - beta 1[true token]), mean over answer tokens: UNDIAL (Dong 2025, 2402.10052)."""
    total = 0.0
    count = 0
    for row in rows:
        ids, prompt = row
        ours = answer_logits(model, row)
        with torch.no_grad():
            theirs = answer_logits(vanilla, row)
        for offset in range(len(ours)):
            teacher = theirs[offset].clone()
            teacher[ids[prompt + offset]] -= beta
            target = torch.softmax(teacher, dim=-1)
            total = total - (target * torch.log_softmax(ours[offset], dim=-1)).sum()
            count = count + 1
    return total / count


def wga(model, rows, beta):
    """-E[p_t^beta NLL_t], the weight detached, mean over answer tokens: WGA (arXiv:2502.19301)."""
    total = 0.0
    count = 0
    for row in rows:
        for logprob in answer_token_logprobs(model, row):
            weight = torch.exp(logprob).item() ** beta
            total = total - weight * -logprob
            count = count + 1
    return total / count


def satimp(model, rows, beta1, beta2):
    """-E[p_t^beta1 (1 - p_t)^beta2 NLL_t], both weights detached, mean over answer tokens (arXiv:2505.11953)."""
    total = 0.0
    count = 0
    for row in rows:
        for logprob in answer_token_logprobs(model, row):
            p = torch.exp(logprob).item()
            total = total - p**beta1 * (1.0 - p) ** beta2 * -logprob
            count = count + 1
    return total / count


def ceu(model, rows):
    """Cross entropy to the model's own softmax with the true token's logit at -infinity, that target detached; the
    first answer token is left out, mean over the others: CE-U (arXiv:2503.01224).
    """
    total = 0.0
    count = 0
    for row in rows:
        ids, prompt = row
        for offset, logits in enumerate(answer_logits(model, row)):
            if offset == 0:
                continue
            without = logits.detach().clone()
            without[ids[prompt + offset]] = -float("inf")
            target = torch.softmax(without, dim=-1)
            total = total - (target * torch.log_softmax(logits, dim=-1)).sum()
            count = count + 1
    return total / count


def pdu_forget(model, rows):
    """E[(max_v z - mean_v z)^2] over answer tokens, z the raw logits: PDU's forget loss (arXiv:2506.05314)."""
    total = 0.0
    count = 0
    for row in rows:
        for logits in answer_logits(model, row):
            total = total + (logits.max() - logits.mean()) ** 2
            count = count + 1
    return total / count


def pdu_alphas(retain_losses, alpha, epsilon, eta, warmup_updates):
    """The alpha after each update, one for each retain loss: it stays for the warm-up's updates, and then is
    max(0, alpha + eta (L_r - epsilon)): PDU's dual update (arXiv:2506.05314).
    """
    alphas = []
    for number, loss in enumerate(retain_losses):
        if number >= warmup_updates:
            alpha = max(0.0, alpha + eta * (loss - epsilon))
        alphas.append(alpha)
    return alphas


def answer_states(model, row, layer):
    """The output, in float64, of block `layer` (counted from 0) at each answer token."""
    ids, prompt = row
    states = model(input_ids=torch.tensor([list(ids)]), output_hidden_states=True).hidden_states
    if layer + 1 == len(states) - 1:
        raise ValueError("the last block's output comes normed from this list")
    vectors = []
    for position in range(prompt, len(ids)):
        vectors.append(states[layer + 1][0][position].to(torch.float64))
    return vectors


def rmu_forget(model, rows, layer, direction, c):
    """Mean over answer tokens of |h - c u|^2 / d, u a unit vector: RMU (Li 2024, arXiv:2403.03218)."""
    total = 0.0
    count = 0
    for row in rows:
        for h in answer_states(model, row, layer):
            total = total + ((h - c * direction.to(torch.float64)) ** 2).sum() / len(h)
            count = count + 1
    return total / count


def rmu_retain(model, vanilla, rows, layer):
    """Mean over answer tokens of |h - the vanilla model's h|^2 / d: RMU (Li 2024, arXiv:2403.03218)."""
    total = 0.0
    count = 0
    for row in rows:
        ours = answer_states(model, row, layer)
        with torch.no_grad():
            theirs = answer_states(vanilla, row, layer)
        for h, h_v in zip(ours, theirs):
            total = total + ((h - h_v) ** 2).sum() / len(h)
            count = count + 1
    return total / count


def maximum_entropy(model, rows):
    """KL(uniform || p_t) over the vocabulary, mean over answer tokens: ME (Yuan 2024, arXiv:2410.08109)."""
    total = 0.0
    count = 0
    for row in rows:
        for log_p in answer_log_distributions(model, row):
            uniform = 1.0 / len(log_p)
            total = total + (uniform * (torch.tensor(uniform, dtype=torch.float64).log() - log_p)).sum()
            count = count + 1
    return total / count


def answer_preservation(model, answer_rows, refusal_rows, beta):
    """-(1/beta) E log sigma(beta (log pi(y_r|x_r) - log pi(refusal|x_r))), sequence sums, both of the model that is
    trained: AP of IDK+AP (Yuan 2024, arXiv:2410.08109).
    """
    total = 0.0
    for answer, refusal in zip(answer_rows, refusal_rows, strict=True):
        total = total + log_sigmoid(beta * (sequence_logprob(model, answer) - sequence_logprob(model, refusal)))
    return -(1.0 / beta) * total / len(answer_rows)


def inverted_hinge(model, rows):
    """1 + p(x_t) - max over v != x_t of p(v), mean over answer tokens: IHL of LoKU (Cha 2025, arXiv:2408.06621)."""
    total = 0.0
    count = 0
    for row in rows:
        ids, prompt = row
        for offset, log_p in enumerate(answer_log_distributions(model, row)):
            p = torch.exp(log_p)
            token = ids[prompt + offset]
            others = torch.cat([p[:token], p[token + 1 :]])
            total = total + 1.0 + p[token] - others.max()
            count = count + 1
    return total / count
