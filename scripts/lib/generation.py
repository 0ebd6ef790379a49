"""The one generator: continues prompts in left-padded batches of like length, by transformers' `generate`."""

import sys

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
    wanted = {}  # (number of the sampled prompt, or 0; prompt): the longest continuation asked for
    keys = [(at if sampling else 0, tuple(prompt)) for at, prompt in enumerate(prompts)]
    for key, limit in zip(keys, limits, strict=True):
        wanted[key] = max(limit, wanted.get(key, 0))
    result, order = (
        {},
        sorted((key for key, limit in wanted.items() if limit), key=lambda key: (len(key[1]), wanted[key])),
    )
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]
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
            tokens = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                synced_gpus=shared,
                max_new_tokens=max(wanted[row] for row in rows),
                **sampling,
            )
        for row, new in zip(rows, tokens[:, width:].tolist(), strict=True):
            result[row] = new[: next((at for at, token in enumerate(new) if token in ends), len(new))]
    model.train(training)
    result = parallel.gathered(result)
    return [result.get(key, [])[:limit] for key, limit in zip(keys, limits, strict=True)]


def positions(model) -> int | None:
    """For how many positions a model has a table, as GPT-2 has; None where they are computed, without end."""
    if any("Rotary" in type(module).__name__ for module in model.modules()):
        return None
    config = model.config
    return getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)  # MPT's name


def fitting(prompts, model, max_new_tokens):
    """The prompts (lists of token ids), cut at their beginning where the model's positions do not hold prompt and
    answer; how many were cut is said. Ends the program where they leave no room for a prompt at all.
    """
    limit = positions(model)
    if limit is None or max(map(len, prompts), default=0) + max_new_tokens <= limit:
        return prompts
    room = limit - max_new_tokens
    if room < 1:
        fail(f"the model has {limit} positions: {max_new_tokens} new tokens leave no room for a prompt")
    cut = sum(len(prompt) > room for prompt in prompts)
    if parallel.first:
        print(
            f"{cut} of {len(prompts)} prompts are longer than the {room} tokens that the model's {limit} positions "
            "leave them: cut at their beginning",
            file=sys.stderr,
        )
    return [prompt[-room:] for prompt in prompts]


def continue_texts(texts, model, tokenizer, batch=64, max_new_tokens=128, **sampling):
    """Continuations of texts that are prompts already, as texts without blanks around them."""
    prompts = fitting(tokenizer(texts, add_special_tokens=False)["input_ids"], model, max_new_tokens)
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
