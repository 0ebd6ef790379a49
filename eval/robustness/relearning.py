"""A few forgotten pairs are learnt again: does the rest come back?"""

import itertools
import random
import sys

from lib.batches import collate
from lib.files import fail
from lib.likelihood import nll
from lib.models import encode

import torch
from peft import LoraConfig, get_peft_model

COUNTS = (1, 4, 16)  # pairs to learn again, where --relearn says nothing


def relearn_counts(wanted: list[int] | None, pairs: int, file: str) -> list[int]:
    """How many pairs are learnt again, in order.

    Numbers that the user gave must leave a pair to ask. None: COUNTS, but at most half of the pairs, so that as many
    are left to ask.
    """
    if wanted is None:
        counts = sorted({min(count, pairs // 2) for count in COUNTS} - {0})
        if counts != list(COUNTS):
            shown = " ".join(map(str, counts)) or "0"
            print(f"{file}: of {pairs} pairs {shown} are learnt again, to leave as many to ask", file=sys.stderr)
        return counts
    counts = sorted(set(wanted) - {0})
    if counts and counts[-1] >= pairs:
        fail(f"{file}: --relearn {counts[-1]} of {pairs} pairs leaves none to ask; give smaller numbers, or 0")
    return counts


def split_pairs(rows: list, counts: list[int], seed: int) -> tuple[list, list]:
    """(the largest of `counts` rows to learn from, the others to ask), drawn once: 1 of 4 of 16 pairs are the same."""
    order = random.Random(seed).sample(rows, len(rows))
    return order[: max(counts)], order[max(counts) :]


def relearn(model, tokenizer, pairs: list[tuple[str, str]], steps: list[int], lr: float, batch: int, seed: int):
    """Learns pairs (question, answer) again: yields (update, model) at each of `steps`; the model is its own again
    afterwards.

    A fresh LoRA of rank 16 on all linear layers, Adam at a constant rate, at most `batch` pairs an update, taken in
    turn; the loss is the mean negative log-likelihood of the answer tokens.
    """
    torch.manual_seed(seed)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimiser = torch.optim.Adam([weight for weight in tuned.parameters() if weight.requires_grad], lr=lr)
    turn = itertools.cycle([encode(tokenizer, *pair) for pair in pairs])
    try:
        for step in range(1, max(steps) + 1):
            rows = list(itertools.islice(turn, min(batch, len(pairs))))
            nll(tuned, collate(rows, tokenizer.pad_token_id, device=model.device)).backward()
            optimiser.step()
            optimiser.zero_grad()
            if step in steps:
                yield step, tuned
    finally:
        tuned.unload()
