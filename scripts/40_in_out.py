"""The in- vs. out-of-distribution study (Baluta et al. 2024, arXiv:2411.04388): gradient ascent, watched every few
updates.

Unlearns one forget set of 05_in_out_data.py as 10_ga.py does, and writes to curve.json in the model folder, before the
first update and after every few: log p of each forget and each fresh answer, the NLL of retain and of generic pairs,
and the answers to some of them. eval/06_in_out.py makes exposure, ROUGE and the figure of it.
"""

from lib import parallel
from lib.batches import collate
from lib.files import begin_folder, fail, read_object, record, write_json
from lib.flags import RETAIN_FLAGS, arguments, count, count_or_none
from lib.formats import read_pairs
from lib.generation import answers
from lib.likelihood import sequence_logprob
from lib.losses import ga_loss, retain_loss
from lib.models import encode_pairs
from lib.trainer import data_file, start

import torch


def logprobs(model, items, pad, batch=16):
    """log p(answer | question) of encoded pairs, dropout off: list of [nats, answer tokens]."""
    training, device, result = model.training, next(model.parameters()).device, []
    model.eval()
    with torch.no_grad():
        for at in range(0, len(items), batch):
            part = items[at : at + batch]
            result += zip(
                sequence_logprob(model, collate(part, pad, device=device)).tolist(),
                (len(ids) - prompt for ids, prompt in part),
            )
    model.train(training)
    return [list(pair) for pair in result]


def watch(model, tokenizer, sets, asked, max_new_tokens, update):
    """One point of the curve. sets: {name: encoded pairs}, asked: {"retain": pairs, "generic": pairs}, either list may
    be empty.
    """
    point = {
        "update": update,
        **{name: logprobs(model, sets[name], tokenizer.pad_token_id) for name in ("forget", "fresh")},
    }
    for name, pairs in asked.items():
        found = logprobs(model, sets[name], tokenizer.pad_token_id)
        point[f"{name}_nll"] = -sum(nats for nats, _ in found) / sum(tokens for _, tokens in found)
        point[f"{name}_answers"] = (
            answers([pair["question"] for pair in pairs], model, tokenizer, len(pairs), max_new_tokens) if pairs else []
        )
    return point


def earlier(path, done):
    """The points that an interrupted run left, up to the update from which it continues; a run that continues without
    them would end with half a curve."""
    if not done:
        return []
    points = read_object(path).get("points") if path.is_file() else None
    if not (isinstance(points, list) and points and all(isinstance(one, dict) and "update" in one for one in points)):
        fail(f"{path}: holds no points of the curve: delete {path.parent} to start again")
    return [point for point in points if point["update"] <= done]


if __name__ == "__main__":
    args = arguments(
        __doc__,
        forget=("forget_id.jsonl", "forget set: forget_id.jsonl or forget_ood.jsonl, or another file"),
        lr=5e-6,
        epochs=10.0,
        batch=1,
        accumulation=8,
        probes=0,
        fresh=("fresh_id.jsonl", "pairs drawn like the forget set that no model saw"),
        generic=("generic.jsonl", "pairs of general knowledge"),
        every=(2, "updates between two points of the curve", count),
        watched=(64, "so many retain and generic pairs for the NLL", count),
        asked=(16, "so many of each are answered too, 0 for none", count_or_none),
        max_new_tokens=(64, "length of these answers", count),
        **{**RETAIN_FLAGS, "retain": "none"},
    )
    files = {
        name: data_file(args, flag)
        for name, flag in (
            ("forget", args.forget),
            ("fresh", args.fresh),
            ("retain", args.retain_data),
            ("generic", args.generic),
        )
    }
    pairs = {name: read_pairs(path) for name, path in files.items()}
    model, trainer = start(args)
    sets = {
        name: encode_pairs(
            trainer.tokenizer,
            [
                (pair["question"], pair["answer"])
                for pair in (part if name in ("forget", "fresh") else part[: args.watched])
            ],
            args.max_length,
            str(files[name]),
            parallel.say,
        )[0]
        for name, part in pairs.items()
    }
    asked, curve = {name: pairs[name][: args.asked] for name in ("retain", "generic")}, trainer.partial / "curve.json"
    look = lambda: watch(model, trainer.tokenizer, sets, asked, args.max_new_tokens, trainer.done)
    write = lambda: (
        parallel.first and write_json(begin_folder(trainer.partial) / curve.name, {"points": points, **origin})
    )
    points = earlier(curve, trainer.done)
    origin = {
        "references": {name: [pair["answer"] for pair in part] for name, part in asked.items()},
        **record(args, files.values()),
    }
    due = lambda: (
        trainer.done > points[-1]["update"] and (trainer.done % args.every == 0 or trainer.done == trainer.steps)
    )
    if not points or due():  # before the first update; or killed between a checkpoint and its point
        points.append(look())
        write()
    for forget, retain in trainer:
        loss = ga_loss(model, forget) + retain_loss(model, retain, args)
        loss.backward()
        trainer.update(loss)
        if due():
            points.append(look())
            write()
    trainer.finish()
