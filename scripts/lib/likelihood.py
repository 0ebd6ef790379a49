"""Log-probabilities of answers, in nats: of a training batch, with gradients, and of a list of pairs, to be
compared.
"""

import contextlib

from lib import parallel
from lib.files import fail, progress
from lib.models import encode_pairs
from lib.reference import FrozenModel

import torch
import torch.nn.functional as F

# ---------------------------------------------------------------- of a training batch


def answer_logits(model, batch):
    """Logits that predict the answer tokens: (answer tokens, vocabulary), float32.

    The output layer sees only the positions before answer tokens: the vocabulary is the widest matrix of a small model.
    """
    if isinstance(model, FrozenModel):
        return model.answer_logits(batch)
    positions = batch.answer[:, 1:]
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][positions],))
    try:
        return model(input_ids=batch.input_ids, use_cache=False).logits.float()
    finally:
        hook.remove()


def answer_tokens(batch):
    """(answer tokens,) the token ids that `answer_logits` predicts, in its order."""
    return batch.input_ids[:, 1:][batch.answer[:, 1:]]


def answer_logprob(model, batch):
    """log p(answer token | question, answer so far) in nats: (answer tokens,)."""
    return -F.cross_entropy(answer_logits(model, batch), answer_tokens(batch), reduction="none")


def sequence_logprob(model, batch):
    """log p(answer | question) in nats, summed over answer tokens: (rows,)."""
    logprob, rows = answer_logprob(model, batch), batch.answer[:, 1:].nonzero()[:, 0]
    return logprob.new_zeros(len(batch.input_ids)).index_add(0, rows, logprob)


def nll(model, batch):
    """Mean negative log-likelihood of the answer tokens, in nats a token: scalar."""
    return -batch.token_mean(answer_logprob(model, batch))


class _Reached(Exception):
    """The block whose states are wanted has been computed."""


def blocks_of(model):
    """A model's blocks, first to last, as one ModuleList; a model where they are not found ends the program."""
    stacks = (part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    blocks = next((part for part in stacks if len(part) == model.config.get_text_config().num_hidden_layers), None)
    return fail(f"{model.config.model_type}: its blocks were not found") if blocks is None else blocks


def answer_states(model, batch, block):
    """Hidden states after a block at the answer tokens: (answer tokens, hidden), float32. Later blocks are not
    computed.

    Args:
        block: its number, from 1.
    """
    blocks = blocks_of(model)
    if block > len(blocks):
        fail(f"{model.config.model_type} has no block {block}: it has {len(blocks)}")
    seen = []

    def keep(_, __, output):
        seen.append(output[0] if isinstance(output, tuple) else output)
        if not parallel.sharded(model):  # all processes must leave every layer in order
            raise _Reached

    hook = blocks[block - 1].register_forward_hook(keep)
    try:
        with contextlib.suppress(_Reached):
            model(input_ids=batch.input_ids, use_cache=False)
    finally:
        hook.remove()
    return seen[0][batch.answer].float()


# ---------------------------------------------------------------- of a list of pairs


def answer_logprobs(pairs, model, tokenizer, batch):
    """Scores answers given their questions, right-padded in batches of like length.

    Args:
        pairs: list of (question, answer).
    Returns:
        a list, in the order of pairs, of (log-probabilities in nats, whether the token is also the likeliest one), each
        (answer tokens,), end of sequence included.
    """
    encoded, result = encode_pairs(tokenizer, pairs)[0], {}
    order = sorted(range(len(pairs)), key=lambda at: len(encoded[at][0]))
    for at in progress(range(0, len(order), batch), desc="answers scored", unit="batch"):
        part = order[at : at + batch]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[row][0]) for row in part], batch_first=True).to(
            model.device
        )
        first = min(encoded[row][1] for row in part)  # no logits for tokens that are prompt in every row
        with torch.inference_mode():
            logits = (
                model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first + 1).logits[:, :-1].float()
            )
        logprobs = -F.cross_entropy(logits.transpose(1, 2), ids[:, first:], reduction="none").cpu()  # (rows, positions)
        likeliest = (logits.argmax(-1) == ids[:, first:]).cpu()
        for row, values, hits in zip(part, logprobs, likeliest, strict=True):
            tokens, prompt = encoded[row]
            result[row] = values[prompt - first : len(tokens) - first], hits[prompt - first : len(tokens) - first]
    return [result[row] for row in range(len(pairs))]
