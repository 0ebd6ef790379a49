"""The in- vs. out-of-distribution study (Baluta et al. 2024, arXiv:2411.04388): gradient ascent, watched every few updates.

Unlearns one forget set of 05_in_out_data.py as 10_ga.py does, and writes to curve.json in the model folder, before the first update
and after every few: log p of each forget and each fresh answer, the NLL of retain and of generic pairs, and the answers to some of
them. eval/06_in_out.py makes exposure, ROUGE and the figure of it.
"""
import json
from pathlib import Path

import torch
from transformers import GenerationConfig

import parallel
from files import fail, read_pairs, record, write_json
from unlearn import RETAIN_FLAGS, arguments, collate, encode, nll, prompt_text, retain_loss, sequence_logprob, start


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


def answers(model, tokenizer, pairs, max_new_tokens):
    """Greedy answers to the pairs' questions, in one batch."""
    training = model.training
    model.eval()
    inputs = tokenizer([prompt_text(tokenizer, pair["question"]) for pair in pairs], add_special_tokens=False, padding=True,
                       padding_side="left", return_tensors="pt").to(next(model.parameters()).device)
    config = GenerationConfig(max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    with torch.inference_mode():
        tokens = model.generate(**inputs, generation_config=config, synced_gpus=parallel.sharded(model))
    model.train(training)
    return [text.strip() for text in tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)]


def watch(model, tokenizer, sets, asked, max_new_tokens, update):
    """One point of the curve. sets: {name: encoded pairs}, asked: {"retain": pairs, "generic": pairs}, either list may be empty."""
    point = {"update": update, **{name: logprobs(model, sets[name], tokenizer.pad_token_id) for name in ("forget", "fresh")}}
    for name, pairs in asked.items():
        found = logprobs(model, sets[name], tokenizer.pad_token_id)
        point[f"{name}_nll"] = -sum(nats for nats, _ in found) / sum(tokens for _, tokens in found)
        point[f"{name}_answers"] = answers(model, tokenizer, pairs, max_new_tokens) if pairs else []
    return point


def earlier(path, done):
    """The points that an interrupted run left, up to the update from which it continues."""
    return [point for point in json.loads(path.read_text())["points"] if point["update"] <= done] if done and path.is_file() else []


if __name__ == "__main__":
    args = arguments(__doc__, forget=("forget_id.jsonl", "forget set: forget_id.jsonl or forget_ood.jsonl, or another file"), lr=5e-6,
                     epochs=10.0, batch=1, accumulation=8, probes=0, fresh=("fresh_id.jsonl", "pairs drawn like the forget set that no model saw"),
                     generic=("generic.jsonl", "pairs of general knowledge"), every=(2, "updates between two points of the curve"),
                     watched=(64, "so many retain and generic pairs for the NLL"),
                     asked=(16, "so many of each are answered too, 0 for none"), max_new_tokens=(64, "length of these answers"),
                     **{**RETAIN_FLAGS, "retain": ("none", *RETAIN_FLAGS["retain"][1:])})
    if min(args.every, args.watched, args.max_new_tokens) < 1 or args.asked < 0:
        fail("--every, --watched and --max-new-tokens must be at least 1, --asked at least 0")
    files = {name: Path(flag) if Path(flag).is_file() else Path(args.data) / flag for name, flag in (
        ("forget", args.forget), ("fresh", args.fresh), ("retain", args.retain_data), ("generic", args.generic))}
    pairs = {name: read_pairs(path) for name, path in files.items()}
    model, trainer = start(args)
    sets = {name: [encode(trainer.tokenizer, pair, args.max_length) for pair in (part if name in ("forget", "fresh") else part[:args.watched])]
            for name, part in pairs.items()}
    asked, curve = {name: pairs[name][:args.asked] for name in ("retain", "generic")}, trainer.partial / "curve.json"
    look = lambda: watch(model, trainer.tokenizer, sets, asked, args.max_new_tokens, trainer.done)
    write = lambda: parallel.first and write_json(curve, {"points": points, **origin})
    points = earlier(curve, trainer.done)
    origin = {"references": {name: [pair["answer"] for pair in part] for name, part in asked.items()}, **record(args, files.values())}
    if not points:  # written before the first update, so that a run that continues finds it
        points = [look()]
        write()
    for forget, retain in trainer:
        trainer.step(-nll(model, forget) + retain_loss(model, retain, args))
        if trainer.done > points[-1]["update"] and (trainer.done % args.every == 0 or trainer.done == trainer.steps):
            points.append(look())
            write()
    trainer.finish()
