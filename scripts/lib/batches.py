"""Encoded pairs in batches: which rows make an update, and in what order."""

import itertools
import math
import random
from dataclasses import dataclass

from lib import parallel

import torch


@dataclass
class Batch:
    """Right-padded pairs. Causal attention never looks right, so no padding mask is needed.

    input_ids: (rows, length) token ids. answer: (rows, length) bool, true on answer tokens (question and padding
    false).
    step_tokens, step_rows: answer tokens and rows of the whole accumulated batch that this one is a part of; means
    divide by them, so that the parts of an accumulated batch, in one process or several, add up to its mean. Infinite
    for a part that is not to count.
    """

    input_ids: torch.Tensor
    answer: torch.Tensor
    step_tokens: int
    step_rows: int

    def token_mean(self, values):
        """values: (answer tokens,) → scalar, the mean over the accumulated batch's answer tokens."""
        return values.sum() / self.step_tokens

    def row_mean(self, values):
        """values: (rows,) → scalar, the mean over the accumulated batch's rows."""
        return values.sum() / self.step_rows


def alike(rows):
    """How many tokens all rows begin with. rows: lists of token ids, one at least."""
    return sum(itertools.takewhile(bool, (len(set(tokens)) == 1 for tokens in zip(*rows))))


def whole_row(row):
    """An encoded pair (ids, prompt tokens) of which every token but the first is predicted, and one after the last."""
    return [*row[0], 0], 1


def every_position(batch):
    """The Batch of the same rows of which every position predicts: (rows, length + 1), as `whole_row` makes them one
    by one.
    """
    lengths = (batch.answer * torch.arange(1, batch.answer.shape[1] + 1, device=batch.answer.device)).amax(
        1, keepdim=True
    )
    places = torch.arange(batch.answer.shape[1] + 1, device=batch.answer.device)
    ids = torch.nn.functional.pad(batch.input_ids, (0, 1)).masked_fill(places >= lengths, 0)
    return Batch(ids, (places > 0) & (places <= lengths), batch.step_tokens, batch.step_rows)


def collate(items, pad, step_tokens=None, step_rows=None, device="cpu"):
    """items: list of (ids, prompt tokens) as `encode` returns them → Batch."""
    length = max(len(ids) for ids, _ in items)
    input_ids = torch.full((len(items), length), pad)
    answer = torch.zeros((len(items), length), dtype=torch.bool)
    for row, (ids, prompt) in enumerate(items):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        answer[row, prompt : len(ids)] = True
    return Batch(input_ids.to(device), answer.to(device), step_tokens or int(answer.sum()), step_rows or len(items))


def epoch_order(lengths, size, seed, epoch):
    """Shuffled groups of `size` row numbers, rows of like length together (less padding). A pure function of its
    arguments.
    """
    rng = random.Random(f"{seed} {epoch}")
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    pool = 8 * size  # sorted within pools only: the order stays random
    rows = [row for at in range(0, len(rows), pool) for row in sorted(rows[at : at + pool], key=lengths.__getitem__)]
    groups = [rows[at : at + size] for at in range(0, len(rows), size)]
    rng.shuffle(groups)
    return groups


def accumulated(rows, size, seed):
    """Endless accumulated batches, lists of at most `size` rows, epoch after epoch. A row is a list of encoded
    pairs.
    """
    lengths = [sum(len(ids) for ids, _ in row) for row in rows]
    for epoch in itertools.count():
        for group in epoch_order(lengths, size, seed, epoch):
            yield [rows[at] for at in group]


def parts(rows, batch, pad, device):
    """Cuts one accumulated batch into forward passes of `batch` rows: a Batch each, a tuple of them for rows of
    several pairs.

    Of several processes each gets its share of the rows, and as many passes as the others: one that has no row left
    takes the first once more, and does not count it.
    """
    columns, passes = [], -(-len(rows) // (batch * parallel.count))
    for column in zip(*rows):
        tokens, mine = sum(len(ids) - prompt for ids, prompt in column), column[parallel.rank :: parallel.count]
        columns.append(
            [
                collate(mine[at : at + batch], pad, tokens, len(rows), device)
                if at < len(mine)
                else collate(column[:1], pad, math.inf, math.inf, device)
                for at in range(0, passes * batch, batch)
            ]
        )
    return columns[0] if len(columns) == 1 else list(zip(*columns))
