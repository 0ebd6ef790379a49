"""Trains the embedded entailment model: a three-class cross-encoder on all-MiniLM-L6-v2, kept as its encoder's weights in data/nli.

Public entailment data does not teach that a swapped name, date or number contradicts, so most pairs are fact swaps: from our
invented persons (without those of the default run, whose tables it will judge) and from TOFU's retain_perturbed (paraphrased
answers are entailed, perturbed ones contradict). The rest is SNLI. data/README.md names origin and licence of both files.

    python scripts/01_data.py --persons all --out work/nli/data
    python eval/00_train_nli.py --people work/nli/data --tofu retain_perturbed.json --snli snli_dev.jsonl --out data/nli
"""
import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from measure import MODELS, REPOSITORY, fail, model_folder, progress, read_lines, write_results

LABELS = ("contradiction", "entailment", "neutral")
HELD_BACK = 1500  # SNLI pairs to measure on


def other_digits(text, rng):
    """The same text with one to all of its digits redrawn, or None if nothing changes."""
    share = rng.choice((0.2, 0.5, 1.0))
    changed = re.sub(r"\d", lambda digit: str(rng.randrange(10)) if rng.random() < share else digit[0], text)
    return changed if changed != text else None


def people_pairs(folder, persons, rng):
    """Entailed: a fact in other words. Contradicted: either wording with another value. Neutral: other facts, vague answers.

    persons: slice of the persons, in the data's order, whose facts are used.
    """
    facts, order = defaultdict(list), []
    for part in ("forget_train", "retain_train", "forget_val", "retain_val"):
        for row in read_lines(Path(folder) / f"{part}.jsonl", ("answer", "person", "fact", "value", "name")):
            facts[row["person"], row["fact"]].append(row)
            order += [row["person"]] if row["person"] not in order else []
    used = order[persons]
    vague = json.loads((REPOSITORY / "data/augmentation.json").read_text(encoding="utf-8"))
    vague = vague["fallback"]["answers"] + [answer for topic in vague["topics"] for answer in topic["answers"]]
    values = defaultdict(list)
    for (person, fact), rows in facts.items():
        if person in used:
            values[fact].append(rows[0]["value"])
    pairs = []
    for (person, fact), rows in facts.items():
        if person not in used:
            continue
        name, value = rows[0]["name"], rows[0]["value"]
        texts = [row["answer"] for row in rows]
        for one in texts:
            two = rng.choice(texts)
            for other in [*rng.sample([other for other in values[fact] if other != value], 2), other_digits(value, rng)]:
                if other:
                    pairs.append((one, two.replace(value, other), "contradiction"))
                    pairs.append((two.replace(value, other), one, "contradiction"))
            another = facts[person, rng.choice([key for key in values if key != fact])]
            possessive = name + ("'" if name.endswith("s") else "'s")
            unsaid = rng.choice(vague).replace("{subject's}", possessive).replace("{subject}", name)
            pairs += [(one, rng.choice(another)["answer"], "neutral"), (one, unsaid, "neutral"), (unsaid, one, "neutral")]
            stranger = facts[rng.choice([other for other in used if other != person]), fact]
            pairs.append((one, rng.choice(stranger)["answer"], "neutral"))
            pairs += [(one, one, "entailment")] if rng.random() < 0.2 else []
        pairs += [(texts[0], texts[-1], "entailment"), (texts[-1], texts[0], "entailment")] * 2
    return pairs


def tofu_pairs(path, rng):
    rows, pairs = read_lines(path, ("question", "answer", "paraphrased_answer")), []
    for row in rows:
        wrongs = rng.sample(row["perturbed_answer"], min(3, len(row["perturbed_answer"])))
        true, other = (row["answer"], row["paraphrased_answer"]) if rng.random() < 0.5 else (row["paraphrased_answer"], row["answer"])
        pairs += [(true, other, "entailment"), (other, true, "entailment")]
        for wrong in wrongs:
            pairs.append((true, wrong, "contradiction") if rng.random() < 0.5 else (wrong, other, "contradiction"))
        pairs += [(true, rng.choice(rows)["answer"], "neutral") for _ in range(2)]
    return pairs


def accuracy(model, tokenizer, pairs):
    """Share of pairs labelled as given, overall and by label."""
    import torch
    right, total = Counter(), Counter()
    for at in range(0, len(pairs), 64):
        part = pairs[at:at + 64]
        inputs = tokenizer([pair[0] for pair in part], [pair[1] for pair in part], padding=True, truncation=True,
                           max_length=128, return_tensors="pt")
        with torch.inference_mode():
            for (_, _, label), guess in zip(part, model(**inputs).logits.argmax(-1).tolist(), strict=True):
                total[label] += 1
                right[label] += LABELS[guess] == label
    return {"all": sum(right.values()) / len(pairs), **{label: right[label] / total[label] for label in sorted(total)}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", required=True, help="folder made by 01_data.py --persons all")
    parser.add_argument("--tofu", required=True, help="TOFU's retain_perturbed.json")
    parser.add_argument("--snli", required=True, help='SNLI pairs, {"premise", "hypothesis", "label"} a line')
    parser.add_argument("--out", required=True, help="folder for the weights")
    parser.add_argument("--skip-persons", type=int, default=6, help="persons kept out of training (default: 6)")
    parser.add_argument("--embedding", default=str(MODELS / "minilm"))
    parser.add_argument("--people-pairs", type=int, default=4500, help="most pairs to take of the invented persons' (default: 4500)")
    parser.add_argument("--snli-pairs", type=int, default=3000, help="most pairs to take of SNLI (default: 3000)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}")

    rng = random.Random(args.seed)
    snli = [(row["premise"], row["hypothesis"], row["label"]) for row in read_lines(args.snli, ("premise", "hypothesis", "label"))
            if row["label"] in LABELS]
    rng.shuffle(snli)
    if len(snli) <= 2 * HELD_BACK:
        fail(f"{args.snli}: more than {2 * HELD_BACK} labelled pairs are needed, {HELD_BACK} of them to measure on")
    people = people_pairs(args.people, slice(args.skip_persons, None), rng)
    pairs = rng.sample(people, min(len(people), args.people_pairs)) + tofu_pairs(args.tofu, rng) + snli[HELD_BACK:][:args.snli_pairs]
    print(f"{len(pairs)} pairs: {dict(Counter(label for *_, label in pairs))}", file=sys.stderr)

    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.embedding)
    model = AutoModelForSequenceClassification.from_pretrained(args.embedding, num_labels=3, use_safetensors=True)
    model.base_model.embeddings.requires_grad_(False)  # half of all weights, and the same as in the package
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=args.lr)
    steps = args.epochs * -(-len(pairs) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, pct_start=0.1)
    bar = progress(total=steps, unit="update")
    model.train()
    for _ in range(args.epochs):
        rng.shuffle(pairs)  # rows of like length in one batch: little padding
        pool = [sorted(pairs[at:at + 64 * args.batch], key=lambda pair: len(pair[0]) + len(pair[1]))
                for at in range(0, len(pairs), 64 * args.batch)]
        batches = [part[at:at + args.batch] for part in pool for at in range(0, len(part), args.batch)]
        rng.shuffle(batches)
        for batch in batches:
            inputs = tokenizer([pair[0] for pair in batch], [pair[1] for pair in batch], padding=True, truncation=True,
                               max_length=128, return_tensors="pt")
            loss = model(**inputs, labels=torch.tensor([LABELS.index(label) for *_, label in batch])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            bar.update()
    bar.close()

    model.eval()
    summary = {"snli_held_back": accuracy(model, tokenizer, snli[:HELD_BACK]),
               "default_run_persons": accuracy(model, tokenizer, people_pairs(args.people, slice(args.skip_persons), rng))}
    Path(args.out).mkdir(parents=True, exist_ok=True)
    partial = Path(args.out) / "model.safetensors.partial"
    save_file({name: parameter.detach().half().contiguous() for name, parameter in trained.items()}, partial)
    partial.replace(Path(args.out) / "model.safetensors")
    write_results(Path(args.out) / "training.json", summary, [], args, [args.tofu, args.snli])
    print(json.dumps(summary, indent=1))
