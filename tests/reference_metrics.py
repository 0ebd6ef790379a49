"""Slow, obvious reference implementations of the further metrics, written from the equations alone.

As in reference.py: nothing here is batched, cached or shared with the fast code. A row is (ids, prompt tokens), its ids
with the end of sequence.
"""

import itertools
import math
import zlib

import reference
import torch


def leak_at(leaks, drawn, k):
    """Share of all subsets of k of n answers of which at least one leaks; the first `leaks` of the n do."""
    subsets = list(itertools.combinations(range(drawn), k))
    return sum(any(answer < leaks for answer in subset) for subset in subsets) / len(subsets)


def strength(guesses, true):
    """1 - k*/T, k* the first place from which on every guess is the true token: arXiv:2506.12618."""
    for k in range(len(true)):
        if guesses[k:] == true[k:]:
            return 1 - k / len(true)
    return 0.0


def greedy_guesses(model, row):
    """The likeliest token at each answer position, the true ones before it given."""
    return [int(distribution.argmax()) for distribution in reference.answer_log_distributions(model, row)]


def membership(model, base, row, answer, k):
    """The scores of eval/16_membership.py but the gradient: each from its paper's equation."""
    ids, prompt = row
    distributions = [one.tolist() for one in reference.answer_log_distributions(model, row)]
    own = [distribution[token] for distribution, token in zip(distributions, ids[prompt:])]
    standard = []
    for value, distribution in zip(own, distributions):
        centre = sum(math.exp(x) * x for x in distribution)
        spread = math.sqrt(sum(math.exp(x) * (x - centre) ** 2 for x in distribution))
        standard.append((value - centre) / spread)
    count = max(1, math.floor(k * len(own)))
    nll = -sum(own) / len(own)
    return {
        "loss": nll,
        "zlib": nll / len(zlib.compress(answer.encode())),
        "min_k": -sum(sorted(own)[:count]) / count,
        "min_k++": -sum(sorted(standard)[:count]) / count,
        "reference": nll - float(reference.nll(base, [row])),
    }


def gradient_norm(model, row, names):
    """Norm of the gradient of the NLL a token over the parameters named, by one backward pass."""
    parameters = [parameter for name, parameter in model.named_parameters() if name in names]
    for parameter in parameters:
        parameter.requires_grad_(True)
    gradients = torch.autograd.grad(reference.nll(model, [row]), parameters)
    return math.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in gradients))


def auc(members, others):
    """Share of all pairs in which the member's score is the lower one, equal ones counted half."""
    total = 0.0
    for member in members:
        for other in others:
            total += 1.0 if member < other else 0.5 if member == other else 0.0
    return total / (len(members) * len(others))


def span_logprobs(model, ids, first, last, block=None, states=None):
    """log p of the tokens first to last - 1; with the hidden states after a block replaced at the places that predict
    them: one whole forward pass, no cache."""

    def replace(_, __, output):
        found = output[0] if isinstance(output, tuple) else output
        found = found.clone()
        found[0, first - 1 : last - 1] = states
        return (found, *output[1:]) if isinstance(output, tuple) else found

    layers = model.get_decoder().layers
    hook = layers[block].register_forward_hook(replace) if block is not None else None
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    if hook:
        hook.remove()
    return [float(logits[place - 1, ids[place]]) for place in range(first, last)]


def block_states(model, ids, first, last, block):
    """Hidden states after a block at the places that predict the tokens first to last - 1."""
    seen = []
    hook = (
        model.get_decoder()
        .layers[block]
        .register_forward_hook(lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output))
    )
    with torch.no_grad():
        model(torch.tensor([ids]))
    hook.remove()
    return seen[0][0, first - 1 : last - 1]


def depth(vanilla, retrained, unlearned, ids, first, last, least=0.05):
    """UDS of one question (arXiv:2605.24614); None where no block holds the knowledge."""
    plain = span_logprobs(vanilla, ids, first, last)
    above = below = 0.0
    for block in range(len(vanilla.get_decoder().layers)):
        falls = []
        for source in (retrained, unlearned):
            states = block_states(source, ids, first, last, block)
            patched = span_logprobs(vanilla, ids, first, last, block, states)
            falls.append(sum(plain) / len(plain) - sum(patched) / len(patched))
        if falls[0] > least:
            above += falls[0] * min(max(falls[1] / falls[0], 0.0), 1.0)
            below += falls[0]
    return above / below if below else None
