"""The one generator: continues prompts in left-padded batches of like length, by transformers' `generate`."""

from lib import parallel
from lib.files import fail, progress
from lib.models import prompt_text

import torch


def continuations(prompts, model, tokenizer, batch=64, max_new_tokens=128, desc="answers", **sampling):
    """Continues prompts, greedily where `sampling` says nothing else. Equal prompts are continued once, unless they are
    sampled.

    Several processes take turns at the same batches, so that greedy continuations are those of one; every process gets
    them all.

    Args:
        prompts: list of lists of token ids, none empty. max_new_tokens: one number for all, or one a prompt.
        sampling: arguments of `generate`: do_sample, temperature, top_p, top_k.
    Returns:
        list of lists of token ids, in the order of prompts, without the end token and what follows it.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    prompts, limits = _fitting(prompts, limits, tokenizer)
    wanted = {}  # (number of the sampled prompt, or 0; prompt): the longest continuation asked for
    keys = [(at if sampling else 0, tuple(prompt)) for at, prompt in enumerate(prompts)]
    for key, limit in zip(keys, limits, strict=True):
        wanted[key] = max(limit, wanted.get(key, 0))
    result, order = (
        {},
        sorted((key for key, limit in wanted.items() if limit), key=lambda key: (len(key[1]), wanted[key])),
    )
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]
    if positions := getattr(
        tokenizer, "positions", None
    ):  # a batch reads as far as its longest prompt and its longest answer
        beyond = lambda rows: max(len(key[1]) for key in rows) + max(map(wanted.get, rows)) > positions
        batches = [part for rows in batches for part in ([[key] for key in rows] if beyond(rows) else [rows])]
    mine, shared = batches[parallel.rank :: parallel.count], parallel.sharded(model)
    if shared and len(mine) * parallel.count < len(
        batches
    ):  # the others cannot compute without this one: a prompt once more
        mine.append(order[:1])
    training, ends = model.training, model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    model.eval()
    for rows in progress(mine, desc=desc, unit="batch", disable=not parallel.first or len(batches) < 2):
        width = max(len(prompt) for _, prompt in rows)
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + list(prompt) for _, prompt in rows])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for _, prompt in rows])
        with torch.inference_mode():
            try:
                tokens = model.generate(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    synced_gpus=shared,
                    max_new_tokens=max(wanted[row] for row in rows),
                    **sampling,
                )
            except RuntimeError as error:
                if "probability tensor" not in str(error):
                    raise
                fail("the model's probabilities are no numbers: its weights are none, or --temperature is too small")
        for row, new in zip(rows, tokens[:, width:].tolist(), strict=True):
            result[row] = new[: next((at for at, token in enumerate(new) if token in ends), len(new))]
    model.train(training)
    result = parallel.gathered(result)
    return [result.get(key, [])[:limit] for key, limit in zip(keys, limits, strict=True)]


def _fitting(prompts, limits, tokenizer):
    """Prompts and limits that a model with a table of positions can read. A prompt that leaves no room for what was
    asked, or for half of the positions, loses its beginning, which is said; what follows it loses its end."""
    positions, cut = getattr(tokenizer, "positions", None), 0
    if positions is None or not prompts:
        return prompts, limits
    kept = []
    for prompt, limit in zip(prompts, limits, strict=True):
        keep = positions - min(limit, positions // 2)
        cut += len(prompt) > keep
        kept.append((prompt[-keep:], min(limit, positions - min(len(prompt), keep))))
    if cut:
        parallel.say(
            f"{cut} of {len(prompts)} prompts are too long for the model's {positions} positions, their beginnings cut"
        )
    return map(list, zip(*kept))


def continue_texts(texts, model, tokenizer, batch=64, max_new_tokens=128, **sampling):
    """Continuations of texts that are prompts already, as texts without blanks around them."""
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = continuations(prompts, model, tokenizer, batch, max_new_tokens, **sampling)
    return [text.strip() for text in tokenizer.batch_decode(found, skip_special_tokens=True)]


def answers(questions, model, tokenizer, batch=64, max_new_tokens=128, **sampling):
    """Answers to questions, as texts, in their order."""
    return continue_texts(
        [prompt_text(tokenizer, question) for question in questions],
        model,
        tokenizer,
        batch,
        max_new_tokens,
        **sampling,
    )
