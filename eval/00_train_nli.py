"""Trains the embedded entailment model: a three-class cross-encoder on all-MiniLM-L6-v2, kept as its encoder's weights
in data/nli.

Public entailment data does not teach that a swapped name, date or number contradicts, so most of the pairs are fact
swaps: from our invented persons (without those of the default run, whose tables it will judge), from groups of
sentences written for this (a fact in other words, and with one thing changed), and from TOFU's retain sets
(paraphrased answers are entailed, perturbed ones contradict, other answers are neutral). The rest is SNLI.
data/README.md names origin and licences.

    python scripts/01_data.py --persons all --out work/nli/data
    python eval/00_train_nli.py --people work/nli/data --tofu FOLDER --snli snli_dev.jsonl --out data/nli
"""

import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from lib.entailment import LABELS, Entailment, PairClassifier
from lib.files import MODELS, REPOSITORY, fail, progress, write_results, writing
from lib.flags import Parser
from lib.formats import read_lines
from lib.models import model_folder, pick_dtype

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoTokenizer

HELD_BACK = {"snli": 1500, "tofu": 40, "written": 120}  # pairs, rows and groups to measure on
PARTS = ("forget_train", "retain_train", "forget_val", "retain_val")
PRONOUNS = {"she": ("she", "her"), "he": ("he", "his"), "they": ("they", "their")}
PLURAL = {"is": "are", "was": "were", "has": "have", "does": "do"}


def other_digits(text, rng):
    """The same text with one to all of its digits redrawn, or None if nothing changes."""
    share = rng.choice((0.2, 0.5, 1.0))
    changed = re.sub(r"\d", lambda digit: str(rng.randrange(10)) if rng.random() < share else digit[0], text)
    return changed if changed != text else None


def denied(text):
    """The text with its first verb denied, or None: "is" becomes "is not"."""
    changed = re.sub(r"\b(is|was|are|were|has|have|can|will)\b(?! not)", r"\1 not", text, count=1)
    return changed if changed != text else None


def with_pronoun(text, name, pronoun):
    """The text with a person's pronoun in place of the name."""
    they, their = PRONOUNS[pronoun]
    text = re.sub(re.escape(name) + r"['’]s?(?!\w)", their, text).replace(name, they)
    if they == "they":
        text = re.sub(r"\bthey (is|was|has|does)\b", lambda match: f"they {PLURAL[match[1]]}", text)
    return text[:1].upper() + text[1:]


def people_facts(folder):
    """{(person, fact): rows of all its wordings}, and the persons in the data's order."""
    facts, order = defaultdict(list), []
    for part in PARTS:
        for row in read_lines(Path(folder) / f"{part}.jsonl", ("answer", "person", "fact", "value", "name")):
            facts[row["person"], row["fact"]].append(row)
            order += [row["person"]] if row["person"] not in order else []
    return facts, order


def people_pairs(folder, persons, rng):
    """Entailed: a fact in other words. Contradicted: either wording with another value, or denied. Neutral: other
    facts, vague answers. In a third of the pairs one side says she, he or they.

    persons: slice of the persons, in the data's order, whose facts are used.
    """
    facts, order = people_facts(folder)
    used = order[persons]
    pronouns = {
        person["id"]: person["pronoun"]
        for person in json.loads((REPOSITORY / "data/people/persons.json").read_text("utf-8"))
    }
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
        name, value, made = rows[0]["name"], rows[0]["value"], []
        texts = [row["answer"] for row in rows]
        for one in texts:
            two = rng.choice(texts)
            for other in [
                *rng.sample([other for other in values[fact] if other != value], 2),
                other_digits(value, rng),
            ]:
                if other:
                    made += [
                        (one, two.replace(value, other), "contradiction"),
                        (two.replace(value, other), one, "contradiction"),
                    ]
            if rng.random() < 0.3 and (denial := denied(one)):
                made.append((denial, two, "contradiction") if rng.random() < 0.5 else (two, denial, "contradiction"))
            another = facts[person, rng.choice([key for key in values if key != fact])]
            possessive = name + ("'" if name.endswith("s") else "'s")
            unsaid = rng.choice(vague).replace("{subject's}", possessive).replace("{subject}", name)
            made += [
                (one, rng.choice(another)["answer"], "neutral"),
                (one, unsaid, "neutral"),
                (unsaid, one, "neutral"),
            ]
            stranger = facts[rng.choice([other for other in used if other != person]), fact]
            pairs.append((one, rng.choice(stranger)["answer"], "neutral"))
            made += [(one, one, "entailment")] if rng.random() < 0.2 else []
        made += [(texts[0], texts[-1], "entailment"), (texts[-1], texts[0], "entailment")] * 2
        for one, two, label in made:
            if (draw := rng.random()) < 1 / 3:
                one, two = (
                    (with_pronoun(one, name, pronouns[person]), two)
                    if draw < 1 / 6
                    else (one, with_pronoun(two, name, pronouns[person]))
                )
            pairs.append((one, two, label))
    return pairs


def written_pairs(groups, rng):
    """Of each group {"statement", "paraphrases", "contradictions", "neutral"} and perhaps {"more", "less"}: its true
    sentences entail each other and what says less, leave open the neutral ones and what says more, and contradict those
    with a changed fact."""
    pairs = []
    for group in groups:
        true, more, less = [group["statement"], *group["paraphrases"]], group.get("more", []), group.get("less", [])
        pairs += [(*rng.sample(true, 2), "entailment") for _ in range(4)]
        for label, others in (("contradiction", group["contradictions"]), ("neutral", group["neutral"])):
            for other in others:
                one = rng.choice(true + more if label == "contradiction" else true)
                pairs.append((one, other, label) if rng.random() < 0.5 else (other, one, label))
        for longer, shorter in [(text, rng.choice(true)) for text in more] + [
            (rng.choice(true + more), text) for text in less
        ]:
            pairs.append((longer, shorter, "entailment") if rng.random() < 0.5 else (shorter, longer, "neutral"))
    return pairs


def paraphrase_pairs(rows, rng):
    """TOFU's paraphrased answers are entailed, its perturbed ones contradict."""
    pairs = []
    for row in rows:
        true, other = row["answer"], row["paraphrased_answer"]
        pairs += [(true, other, "entailment"), (other, true, "entailment")] * 2
        for wrong in rng.sample(row["perturbed_answer"], min(4, len(row["perturbed_answer"]))):
            pairs.append(
                (rng.choice((true, other)), wrong, "contradiction")
                if rng.random() < 0.5
                else (wrong, rng.choice((true, other)), "contradiction")
            )
    return pairs


def other_answer_pairs(authors, rng):
    """Answers, a list for each of TOFU's authors: other digits and denials contradict, other answers, half on the same
    author, are neutral."""
    answers, pairs = [(text, texts) for texts in authors for text in texts], []
    for one, same in rng.sample(answers, min(1000, len(answers))):
        for others in (same, [text for text, texts in rng.sample(answers, min(2, len(answers)))]):
            if others := [text for text in others if text != one]:
                pairs.append((one, rng.choice(others), "neutral"))
        wrong = rng.choice((other_digits(one, rng), denied(one)))
        if wrong and rng.random() < 0.5:
            pairs.append((one, wrong, "contradiction"))
    return pairs


def batches(pairs, size, rng):
    """One epoch: batches of rows of like length (little padding), in random order."""
    rng.shuffle(pairs)
    pools = [
        sorted(pairs[at : at + 64 * size], key=lambda pair: len(pair[0]) + len(pair[1]))
        for at in range(0, len(pairs), 64 * size)
    ]
    groups = [pool[at : at + size] for pool in pools for at in range(0, len(pool), size)]
    rng.shuffle(groups)
    return groups


def accuracy(model, pairs):
    """Share of pairs labelled as given, overall and by label, and of those entailed that are called contradictions."""
    right, total, denied = Counter(), Counter(), 0
    for (_, _, label), scores in zip(pairs, model([pair[:2] for pair in pairs]), strict=True):
        given = max(scores, key=scores.get)
        total[label] += 1
        right[label] += given == label
        denied += (label, given) == ("entailment", "contradiction")
    return {
        "all": sum(right.values()) / len(pairs),
        **{label: right[label] / total[label] for label in sorted(total)},
        "entailed_called_contradiction": denied / total["entailment"],
    }


if __name__ == "__main__":
    parser = Parser(
        __doc__, files=lambda args: [Path(args.out, name) for name in ("model.safetensors", "training.json")]
    )
    parser.add_argument("--people", required=True, help="folder made by 01_data.py --persons all")
    parser.add_argument("--tofu", required=True, help="folder with TOFU's retain_perturbed.json and retain90.json")
    parser.add_argument(
        "--written",
        default=str(REPOSITORY / "data/nli/written.jsonl"),
        help="groups of sentences (default: %(default)s)",
    )
    parser.add_argument("--snli", required=True, help='SNLI pairs, {"premise", "hypothesis", "label"} a line')
    parser.add_argument("--out", required=True, help="folder for the weights")
    parser.add_argument(
        "--start",
        metavar="FOLDER",
        help="weights of an earlier training with the same --seed, which holds the same pairs back, to go on from",
    )
    parser.add_argument(
        "--skip-persons",
        type=int,
        default=10,
        help="persons kept out of training (default: 10, those of the default run)",
    )
    parser.add_argument("--embedding", default=str(MODELS / "minilm"))
    parser.add_argument(
        "--people-pairs", type=int, default=4500, help="most pairs to take of the invented persons' (default: 4500)"
    )
    parser.add_argument("--snli-pairs", type=int, default=9000, help="most pairs to take of SNLI (default: 9000)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}")
    if args.start and Path(args.start).resolve() == Path(args.out).resolve():
        fail(f"--out {args.out}: is --start: give another folder")
    if args.start and not Path(args.start, "model.safetensors").is_file():
        fail(f"--start {args.start}: no model.safetensors there")

    rng = random.Random(args.seed)
    snli = [
        (row["premise"], row["hypothesis"], row["label"])
        for row in read_lines(args.snli, ("premise", "hypothesis", "label"))
        if row["label"] in LABELS
    ]
    rng.shuffle(snli)
    perturbed = read_lines(Path(args.tofu) / "retain_perturbed.json", ("question", "answer", "paraphrased_answer"))
    measured = {row["answer"] for row in perturbed[: HELD_BACK["tofu"]]}
    answers = [row["answer"] for row in read_lines(Path(args.tofu) / "retain90.json", ("question", "answer"))]
    authors = [
        [answer for answer in answers[at : at + 20] if answer not in measured] for at in range(0, len(answers), 20)
    ]  # 20 each
    written = read_lines(args.written, ("statement",))
    for group in written:
        if not all(
            isinstance(group.get(field), list) and group[field]
            for field in ("paraphrases", "contradictions", "neutral")
        ):
            fail(f'{args.written}: "{group["statement"]}" needs the lists paraphrases, contradictions and neutral')
    rng.shuffle(written)
    if args.skip_persons < 3 or len(people_facts(args.people)[1]) < args.skip_persons + 3:
        fail(
            f"{args.people}: 3 persons at least to train on and 3 to measure on (--skip-persons); make it with "
            f"01_data.py --persons all"
        )
    for name, rows in (("snli", snli), ("tofu", perturbed), ("written", written)):
        if len(rows) <= 2 * HELD_BACK[name]:
            fail(
                f"{getattr(args, name)}: more than {2 * HELD_BACK[name]} rows are needed, {HELD_BACK[name]} of them "
                f"to measure on"
            )
    unseen = {
        "snli": snli[: HELD_BACK["snli"]],
        "tofu": paraphrase_pairs(perturbed[: HELD_BACK["tofu"]], random.Random(0)),
        "written": written_pairs(written[: HELD_BACK["written"]], random.Random(0)),
        "default_run_persons": people_pairs(args.people, slice(args.skip_persons), random.Random(0)),
    }

    def drawn():
        """The pairs of an epoch, drawn anew for each."""
        people = people_pairs(args.people, slice(args.skip_persons, None), rng)
        return (
            rng.sample(people, min(len(people), args.people_pairs))
            + written_pairs(written[HELD_BACK["written"] :], rng)
            + [pair for _ in range(2) for pair in paraphrase_pairs(perturbed[HELD_BACK["tofu"] :], rng)]
            + other_answer_pairs(authors, rng)
            + snli[HELD_BACK["snli"] :][: args.snli_pairs]
        )

    epochs = [batches(drawn(), args.batch, rng) for _ in range(args.epochs)]
    print(
        f"{dict(Counter(label for epoch in epochs for batch in epoch for *_, label in batch))} in {args.epochs} epochs",
        file=sys.stderr,
    )

    torch.manual_seed(args.seed)
    tokenizer, model = AutoTokenizer.from_pretrained(args.embedding), PairClassifier(args.embedding)
    trained = model.trained()
    if args.start:
        model.load_state_dict(load_file(Path(args.start, "model.safetensors")), strict=False)
    model.encoder.embeddings.requires_grad_(False)
    optimizer = torch.optim.AdamW(trained.values(), lr=args.lr, fused=True)
    smooth = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))  # the weights that are kept: a running mean
    steps = sum(map(len, epochs))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, steps, pct_start=0.1)
    bar = progress(total=steps, unit="update")
    model.train()
    for epoch in epochs:
        for batch in epoch:
            inputs = tokenizer(
                [pair[0] for pair in batch],
                [pair[1] for pair in batch],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=pick_dtype("auto") == torch.bfloat16):
                logits = model(**inputs)
            loss = torch.nn.functional.cross_entropy(
                logits.float(), torch.tensor([LABELS.index(label) for *_, label in batch])
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            smooth.update_parameters(model)
            schedule.step()
            optimizer.zero_grad()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            bar.update()
    bar.close()

    Path(args.out).mkdir(parents=True, exist_ok=True)
    partial = Path(args.out) / "model.safetensors.partial"
    with writing(partial):
        save_file(
            {name: value.detach().half().contiguous() for name, value in smooth.module.trained().items()}, partial
        )
        partial.replace(Path(args.out) / "model.safetensors")
    model = Entailment(args.out, args.embedding)
    summary = {name: accuracy(model, pairs) for name, pairs in unseen.items()}
    write_results(
        Path(args.out) / "training.json",
        summary,
        [],
        args,
        [args.snli, args.written, *(Path(args.tofu) / name for name in ("retain_perturbed.json", "retain90.json"))],
    )
    print(json.dumps(summary, indent=1))
