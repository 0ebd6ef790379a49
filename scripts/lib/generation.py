"""The one generator: continues prompts in left-padded batches of like length, by transformers' `generate`."""

from lib import parallel
from lib.batches import alike
from lib.files import fail, progress
from lib.models import prompt_text

import torch
from transformers.cache_utils import DynamicLayer


def continuations(prompts, model, tokenizer, batch=64, max_new_tokens=128, desc="answers", along=None, **sampling):
    """Continues prompts, greedily where `sampling` says nothing else. Equal prompts are continued once, unless they are
    sampled.

    Several processes take turns at the same batches, so that greedy continuations are those of one; every process gets
    them all.

    Args:
        prompts: list of lists of token ids, none empty. max_new_tokens: one number for all, or one a prompt.
        along: for each prompt the token ids of a text, beginnings of which are several prompts. A batch reads it once,
        and of each prompt only what differs from it.
        sampling: arguments of `generate`: do_sample, temperature, top_p, top_k.
    Returns:
        list of lists of token ids, in the order of prompts, without the end token and what follows it.
    """
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    prompts, limits = _fitting(prompts, limits, tokenizer)
    wanted = {}  # (number of the sampled prompt, or 0; prompt): the longest continuation asked for
    positions = getattr(tokenizer, "positions", None)
    along = None if positions else along  # a text may be longer than the table
    keys = [(at if sampling else 0, tuple(prompt)) for at, prompt in enumerate(prompts)]
    for key, limit in zip(keys, limits, strict=True):
        wanted[key] = max(limit, wanted.get(key, 0))
    whole = dict(zip(keys, map(tuple, along or [()] * len(keys)), strict=True))
    by_length = lambda key: (len(whole[key]), whole[key], len(key[1]), wanted[key])
    result, order = {}, sorted((key for key, limit in wanted.items() if limit), key=by_length)
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]
    if positions:  # a batch reads as far as its longest prompt and its longest answer
        beyond = lambda rows: max(len(key[1]) for key in rows) + max(map(wanted.get, rows)) > positions
        batches = [part for rows in batches for part in ([[key] for key in rows] if beyond(rows) else [rows])]
    mine, shared = batches[parallel.rank :: parallel.count], parallel.sharded(model)
    if shared and len(mine) * parallel.count < len(
        batches
    ):  # the others cannot compute without this one: a prompt once more
        mine.append(order[:1])
    training = model.training
    model.eval()
    for rows in progress(mine, desc=desc, unit="batch", disable=not parallel.first or len(batches) < 2):
        part = [prompt for _, prompt in rows]
        with torch.inference_mode():
            if shared:  # the processes pass through the model together
                ids, mask = _left_padded(part, tokenizer, model.device)
                tokens = _generate(model, ids, mask, max(map(wanted.get, rows)), synced_gpus=True, **sampling)
                new = [_ended(row, _ends(model)) for row in tokens[:, ids.shape[1] :].tolist()]
            else:
                once = _read_once(model, part, [whole[row] for row in rows], tokenizer) if along else None
                along = along if once else None  # a model that keeps none is not asked again
                once = once or _left_padded(part, tokenizer, model.device)
                new = _until_ended(model, *once, limits=[wanted[row] for row in rows], **sampling)
        result |= zip(rows, new, strict=True)
    model.train(training)
    result = parallel.gathered(result)
    return [result.get(key, [])[:limit] for key, limit in zip(keys, limits, strict=True)]


def _read_once(model, prompts, along, tokenizer):
    """What `_until_ended` continues prompts from that are beginnings of texts: (ids, mask, cache), or None where the
    model does not keep all keys and values. Each text's are computed once; of each prompt the mask hides what the text
    goes on with, and only what differs is still to be read."""
    texts = list(dict.fromkeys(along))
    ids = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, texts)), batch_first=True).to(model.device)
    cache = getattr(model(input_ids=ids, use_cache=True, logits_to_keep=1), "past_key_values", None)
    if not all(type(layer) is DynamicLayer for layer in getattr(cache, "layers", [None])):
        return None
    rows = torch.tensor([texts.index(text) for text in along], device=model.device)
    cache.reorder_cache(rows)
    same = [alike([prompt[:-1], text]) for prompt, text in zip(prompts, along, strict=True)]
    rest, mask = _left_padded([prompt[n:] for prompt, n in zip(prompts, same, strict=True)], tokenizer, model.device)
    seen = torch.arange(ids.shape[1], device=model.device) < torch.tensor(same, device=model.device)[:, None]
    return torch.cat([ids[rows], rest], 1), torch.cat([seen.to(mask.dtype), mask], 1), cache


STAGE = 8  # tokens after which what has ended is laid aside


class _Roomy(DynamicLayer):
    """Keys and values of a layer with room for STAGE more tokens, so that they are not copied for every one."""

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        done, more = self.get_seq_length(), key_states.shape[-2]
        if self.keys is not getattr(self, "shown", None) or done + more > self.room[0].shape[-2]:
            fresh = (
                new.new_empty(*new.shape[:-2], max(more, STAGE), new.shape[-1]) for new in (key_states, value_states)
            )
            self.room = [torch.cat(pair, -2) for pair in zip((self.keys, self.values), fresh)]
        for room, new in zip(self.room, (key_states, value_states)):
            room[..., done : done + more, :] = new
        self.keys, self.values = self.shown, _ = [room[..., : done + more, :] for room in self.room]
        return self.keys, self.values


def _roomy(cache):
    """A cache whose plain layers keep room for more tokens."""
    for layer in getattr(cache, "layers", ()):
        if type(layer) is DynamicLayer:
            layer.__class__ = _Roomy
    return cache


def samples(prompts, model, tokenizer, count, batch=64, max_new_tokens=128, desc="samples"):
    """`count` continuations of each prompt, drawn from the model's own distribution: temperature 1, top-p 1, no top-k.

    What several samples of a prompt begin with is computed once. The draws follow torch's seed and the batches.

    Args:
        prompts: list of lists of token ids, of two at least. batch: samples computed together; at least one prompt's.
    Returns:
        list, in the order of prompts, of lists of `count` lists of token ids, without the end token.
    """
    prompts, limits = map(list, _fitting(prompts, [max_new_tokens] * len(prompts), tokenizer))
    order, size, result = sorted(range(len(prompts)), key=lambda at: len(prompts[at])), max(1, batch // count), {}
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    training = model.training
    model.eval()
    for group in progress(groups, desc=desc, unit="batch", disable=not parallel.first or len(groups) < 2):
        ids, mask = _left_padded([prompts[at] for at in group], tokenizer, model.device)
        with torch.inference_mode():
            drawn = _draw(model, ids, mask, count, min(limits[at] for at in group))
        result |= {at: drawn[place * count :][:count] for place, at in enumerate(group)}
    model.train(training)
    return [result[at] for at in range(len(prompts))]


def _draw(model, ids, mask, count, limit):
    """`count` samples of each row of left-padded ids, one row's after another's: list of lists of token ids. Samples
    that are the same so far are one row of the model's batch."""
    ends, new, cache = _ends(model), [[] for _ in range(len(ids) * count)], None
    row_of = {sample: sample // count for sample in range(len(new))}  # of those that have not ended
    for _ in range(limit):
        found = _generate(model, ids, mask, 1, past_key_values=cache, return_dict_in_generate=True, output_logits=True)
        drawn, children = [iter(row) for row in _drawn(found.logits[0], count).tolist()], {}
        for sample, row in list(row_of.items()):
            if (token := next(drawn[row])) in ends:
                del row_of[sample]
            else:
                new[sample].append(token)
                row_of[sample] = children.setdefault((row, token), len(children))
        if not children:
            break
        rows, tokens = torch.tensor(list(children), device=ids.device).unbind(1)
        ids = torch.cat([ids[rows], tokens[:, None]], 1)
        mask = torch.cat([mask[rows], mask.new_ones(len(rows), 1)], 1)
        cache = getattr(found, "past_key_values", None)  # some models keep none
        if cache is not None and rows.tolist() != list(range(len(found.sequences))):
            cache.reorder_cache(rows)
    return new


def _drawn(logits, count):
    """`count` tokens from each row of logits (rows, vocabulary): (rows, count)."""
    sums = logits.float().softmax(-1).cumsum(-1)
    if not sums[:, -1].isfinite().all():
        fail("the model's probabilities are no numbers: its weights are none")
    at = torch.rand(len(sums), count, device=sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, at, right=True).clamp_max(sums.shape[1] - 1)


def _until_ended(model, ids, mask, cache=None, *, limits, **sampling):
    """What `generate` continues left-padded ids with: list of lists of token ids, without the end token. Rows that have
    ended, or are as long as they may be, are computed no further.

    Args:
        cache: keys and values of all tokens that are not to be read. limits: a number of tokens a row; what stands
        beyond is to be cut.
    """
    ends, new = _ends(model), [[] for _ in ids]
    going = list(range(len(ids)))  # the rows that those of ids, mask and cache are
    longest = max(limits)
    for done in range(0, longest, STAGE):
        more = min(STAGE, longest - done)
        found = _generate(model, ids, mask, more, past_key_values=cache, return_dict_in_generate=True, **sampling)
        ids, cache = found.sequences, _roomy(getattr(found, "past_key_values", None))
        made = ids[:, mask.shape[1] :]
        for at, tokens in zip(going, made.tolist(), strict=True):
            new[at] += tokens
        kept = [row for row, at in enumerate(going) if len(new[at]) < limits[at] and not ends.intersection(new[at])]
        if not kept:
            break
        mask = torch.cat([mask, torch.ones_like(made)], 1)
        if len(kept) < len(going):
            rows = torch.tensor(kept, device=ids.device)
            ids, mask, going = ids[rows], mask[rows], [going[row] for row in kept]
            if cache is not None:  # else the model keeps none, and reads all anew
                cache.reorder_cache(rows)
    return [_ended(tokens, ends) for tokens in new]


def _generate(model, ids, mask, max_new_tokens, **more):
    """transformers' `generate`, whose fault of weights that are no numbers is one line."""
    try:
        return model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, **more)
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        fail("the model's probabilities are no numbers: its weights are none, or --temperature is too small")


def _ends(model):
    ends = model.generation_config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends])


def _ended(tokens, ends):
    """Tokens without the first end token and what follows it."""
    return tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))]


def _left_padded(prompts, tokenizer, device):
    """(token ids, mask) of prompts, (rows, longest) each."""
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids.to(device), mask.to(device)


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


def continue_texts(texts, model, tokenizer, batch=64, max_new_tokens=128, cut=str, **sampling):
    """Continuations of texts that are prompts already, as texts without blanks around them.

    Args:
        cut: what to take of a text that has not come to its end after max_new_tokens (default: all).
    """
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = continuations(prompts, model, tokenizer, batch, max_new_tokens, **sampling)
    decoded = zip(tokenizer.batch_decode(found, skip_special_tokens=True), found, strict=True)
    return [(cut(text) if len(tokens) == max_new_tokens else text).strip() for text, tokens in decoded]


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
