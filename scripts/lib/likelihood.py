"""Log-probabilities of answers, in nats: of a training batch, with gradients, and of a list of pairs, to be
compared.
"""

from lib.batches import alike
from lib.files import progress
from lib.models import encode_pairs
from lib.reference import FrozenModel, block_states

import torch

# ---------------------------------------------------------------- of a training batch


def answer_logits(model, batch):
    """Logits that predict the answer tokens: (answer tokens, vocabulary), float32."""
    return _answer_logits(model, batch).float()


def _answer_logits(model, batch):
    """Likewise, in the model's type. The output layer sees only the positions before answer tokens: the vocabulary is
    the widest matrix of a small model.
    """
    if isinstance(model, FrozenModel):
        return model.answer_logits(batch)
    positions = batch.answer[:, 1:]
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][positions],))
    try:
        return model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        hook.remove()


class _TokenLogprob(torch.autograd.Function):
    """log softmax(logits)[token] in float32, a few rows at a time: neither the logits nor their gradient are ever held
    in float32 as a whole, and what is computed of them stays in a processor's cache.
    """

    @staticmethod
    def forward(ctx, logits, tokens):
        """logits: (rows, vocabulary), of any type; tokens: (rows,) → (rows,), float32."""
        ctx.rows = 512 if logits.is_cuda else 8
        sums = torch.cat([part.float().logsumexp(-1) for part in logits.split(ctx.rows)])
        own = logits.gather(-1, tokens[:, None])[:, 0].float() - sums
        ctx.save_for_backward(logits, tokens, sums, own)
        return own

    @staticmethod
    def backward(ctx, grad):
        logits, tokens, sums, own = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part in zip(*(one.split(ctx.rows) for one in (result, logits, sums[:, None], grad[:, None]))):
            to, some, total, scale = part
            to.copy_((some.float() - total).exp_().mul_(-scale))
        result.scatter_(-1, tokens[:, None], (grad * -own.expm1()).to(result.dtype)[:, None])
        return result, None


def answer_tokens(batch):
    """(answer tokens,) the token ids that `answer_logits` predicts, in its order."""
    return batch.input_ids[:, 1:][batch.answer[:, 1:]]


def answer_logprob(model, batch):
    """log p(answer token | question, answer so far) in nats: (answer tokens,)."""
    return _TokenLogprob.apply(_answer_logits(model, batch), answer_tokens(batch))


def sequence_logprob(model, batch):
    """log p(answer | question) in nats, summed over answer tokens: (rows,)."""
    logprob, rows = answer_logprob(model, batch), batch.answer[:, 1:].nonzero()[:, 0]
    return logprob.new_zeros(len(batch.input_ids)).index_add(0, rows, logprob)


def nll(model, batch):
    """Mean negative log-likelihood of the answer tokens, in nats a token: scalar."""
    return -batch.token_mean(answer_logprob(model, batch))


def answer_states(model, batch, block):
    """Hidden states after a block at the answer tokens: (answer tokens, hidden), float32. Later blocks are not
    computed.

    Args:
        block: its number, from 1.
    """
    if isinstance(model, FrozenModel):
        return model.answer_states(batch, block)
    return block_states(model, batch.input_ids, block)[batch.answer].float()


# ---------------------------------------------------------------- of a list of pairs


def answer_logprobs(pairs, model, tokenizer, batch):
    """Scores answers given their questions, right-padded in batches of like length. On a CPU the question and what all
    answers to it begin with are read once, and questions as long as each other are a batch.

    Args:
        pairs: list of (question, answer).
    Returns:
        a list, in the order of pairs, of (log-probabilities in nats, whether the token is also the likeliest one), each
        (answer tokens,), end of sequence included.
    """
    encoded, result = encode_pairs(tokenizer, pairs)[0], {}
    for parts, shared in progress(_groups(encoded, batch, model.device), desc="answers scored", unit="batch"):
        group = [row for part in parts for row in part]
        rows = [encoded[row] for row in group]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True).to(model.device)
        first = min(prompt for _, prompt in rows)  # no logits for tokens that are prompt in every row
        with torch.inference_mode():
            logits = _logits(model, ids, first, shared, [len(part) for part in parts])
        ids = ids[:, first:]
        own = logits.gather(-1, ids[..., None])[..., 0]  # (rows, positions)
        logprobs = (own - logits.logsumexp(-1)).cpu()  # on a CPU in half the time of cross_entropy
        likeliest = (logits.argmax(-1) == ids).cpu()
        for row, (tokens, prompt), values, hits in zip(group, rows, logprobs, likeliest, strict=True):
            result[row] = values[prompt - first : len(tokens) - first], hits[prompt - first : len(tokens) - first]
    return [result[row] for row in range(len(pairs))]


def _groups(encoded, batch, device):
    """Batches: list of (lists of row numbers, a list a question; how many tokens the rows of each question begin with,
    which are read once, or 0: each row is read whole). A GPU gains more from full batches than from reading a question
    once.

    Args:
        encoded: list of (ids, prompt tokens). batch: rows in a batch at most.
    """
    by_prompt, by_shared = {}, {}
    for row, (ids, prompt) in enumerate(encoded):
        by_prompt.setdefault(tuple(ids[:prompt]) if device.type == "cpu" else row, []).append(row)
    for rows in by_prompt.values():
        for part in (rows[at : at + batch] for at in range(0, len(rows), batch)):
            shared = alike([encoded[row][0][:-1] for row in part])
            once = len(part) > 1 and shared >= encoded[part[0]][1]
            by_shared.setdefault(shared if once else 0, []).append(part)
    alone = [[row] for part in by_shared.get(0, []) for row in part]
    by_shared[0] = sorted(alone, key=lambda part: len(encoded[part[0]][0]))
    groups = []
    for shared, parts in by_shared.items():
        group = []
        for part in parts:
            if sum(map(len, group)) + len(part) > batch:
                groups.append((group, shared))
                group = []
            group.append(part)
        groups += [(group, shared)] if group else []
    return groups


def _logits(model, ids, first, shared, sizes):
    """Logits that predict tokens from number `first` on: (rows, length - first, vocabulary), float32.

    Args:
        ids: (rows, length), right-padded. shared: how many tokens the rows of a question begin with, which are read
        once, or 0. sizes: how many rows each question has, one question's after another's.
    """
    if shared:
        sizes = torch.tensor(sizes, device=ids.device)
        owner = torch.arange(len(sizes), device=ids.device).repeat_interleave(sizes)
        heads = ids[sizes.cumsum(0) - sizes, :shared]
        start = model(input_ids=heads, use_cache=True, logits_to_keep=shared - first + 1)
        if (cache := getattr(start, "past_key_values", None)) is not None:  # else the model keeps none
            cache.reorder_cache(owner)
            rest = model(input_ids=ids[:, shared:], past_key_values=cache, use_cache=True).logits
            return torch.cat([start.logits[owner], rest[:, :-1]], 1).float()
    return model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first + 1).logits[:, :-1].float()
