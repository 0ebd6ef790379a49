"""The in- vs. out-of-distribution study (Baluta et al. 2024, arXiv:2411.04388): gradient ascent, watched every few updates.

Unlearns one forget set of 05_in_out_data.py as 10_ga.py does, and writes to curve.json in the model folder, before the first update
and after every few: log p of each forget and each fresh answer, and the NLL of retain and of generic pairs. eval/06_in_out.py makes
exposure and the figure of it.
"""
import json
from pathlib import Path

import torch

from files import fail, read_pairs, record, write_json
from unlearn import RETAIN_FLAGS, arguments, collate, encode, nll, retain_loss, sequence_logprob, start


def logprobs(model, items, pad, batch=16):
    """log p(answer | question) of encoded pairs, dropout off: list of [nats, answer tokens]."""
    training, device, result = model.training, next(model.parameters()).device, []
    model.eval()
    with torch.no_grad():
        for at in range(0, len(items), batch):
            part = items[at:at + batch]
            result += zip(sequence_logprob(model, collate(part, pad, device=device)).tolist(), (len(ids) - prompt for ids, prompt in part))
    model.train(training)
    return [list(pair) for pair in result]


def watch(model, sets, pad, update):
    """One point of the curve."""
    found = {name: logprobs(model, items, pad) for name, items in sets.items()}
    utility = {f"{name}_nll": -sum(nats for nats, _ in found[name]) / sum(tokens for _, tokens in found[name]) for name in ("retain", "generic")}
    return {"update": update, "forget": found["forget"], "fresh": found["fresh"], **utility}


def earlier(path, done):
    """The points that an interrupted run left, up to the update from which it continues."""
    return [point for point in json.loads(path.read_text())["points"] if point["update"] <= done] if done and path.is_file() else []


if __name__ == "__main__":
    args = arguments(__doc__, forget=("forget_id.jsonl", "forget set: forget_id.jsonl or forget_ood.jsonl, or another file"), lr=5e-6,
                     epochs=10.0, batch=1, accumulation=8, fresh=("fresh_id.jsonl", "pairs drawn like the forget set that no model saw"),
                     generic=("generic.jsonl", "pairs of general knowledge"), every=(2, "updates between two points of the curve"),
                     watched=(64, "at most so many retain and generic pairs"), **{**RETAIN_FLAGS, "retain": ("none", *RETAIN_FLAGS["retain"][1:])})
    if args.every < 1 or args.watched < 1:
        fail("--every and --watched must be at least 1")
    files = {name: Path(flag) if Path(flag).is_file() else Path(args.data) / flag for name, flag in (
        ("forget", args.forget), ("fresh", args.fresh), ("retain", args.retain_data), ("generic", args.generic))}
    pairs = {name: read_pairs(path) for name, path in files.items()}
    model, trainer = start(args)
    sets = {name: [encode(trainer.tokenizer, pair, args.max_length) for pair in (part if name in ("forget", "fresh") else part[:args.watched])]
            for name, part in pairs.items()}
    pad, curve = trainer.tokenizer.pad_token_id, trainer.partial / "curve.json"
    points, origin = earlier(curve, trainer.done), record(args, files.values())
    if not points:  # written before the first update, so that a run that continues finds it
        points = [watch(model, sets, pad, 0)]
        write_json(curve, {"points": points, **origin})
    for forget, retain in trainer:
        trainer.step(-nll(model, forget) + retain_loss(model, retain, args))
        if trainer.done > points[-1]["update"] and (trainer.done % args.every == 0 or trainer.done == trainer.steps):
            points.append(watch(model, sets, pad, trainer.done))
            write_json(curve, {"points": points, **origin})
    trainer.finish()
