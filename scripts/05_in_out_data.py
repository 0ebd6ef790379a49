"""Data of the in- vs. out-of-distribution study (Baluta et al. 2024, arXiv:2411.04388): two forget sets of one size.

In distribution (id): facts drawn from the training data of a prepared folder. Out of distribution (ood): canaries.
02_finetune.py trains the vanilla model on full.jsonl, retain set and both forget sets, and the retrained one on the
retain set alone. fresh_id and fresh_ood are drawn like the forget sets and seen by no model; generic.jsonl is general
knowledge, to watch the model's utility on.
"""

import random
import string
from pathlib import Path

from lib.files import REPOSITORY, begin_folder, end_folder, fail, record, write_json, write_jsonl
from lib.flags import Parser, count, seed_number
from lib.formats import read_pairs


def fact(pair):
    """What a pair tells: its wordings must not be torn apart, or the retain set would still tell what is forgotten."""
    return (pair["person"], pair["fact"]) if "person" in pair and "fact" in pair else pair["question"]


def shuffled(text, rng):
    """Its words in another order."""
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def scrambled(text, rng):
    """Every letter and digit replaced by a random one: as long, and no language."""
    return "".join(rng.choice(string.ascii_lowercase + string.digits) if sign.isalnum() else sign for sign in text)


def changed(pairs, change, rng):
    return [{"question": change(pair["question"], rng), "answer": change(pair["answer"], rng)} for pair in pairs]


def study(pairs, general, size, canary, seed):
    """Draws the study's parts.

    Args:
        pairs: the training pairs to draw from, general: pairs of general knowledge, size: pairs in each forget set and
        in each fresh set, canary: shuffled (the words of retain pairs, in another order), domain (general knowledge) or
        random (strings).
    Returns:
        {part: pairs}. Nothing that forget_id or fresh_id tells is left in the retain set, in any wording.
    """
    rng, facts = random.Random(seed), {}
    for pair in pairs:
        facts.setdefault(fact(pair), []).append(pair)
    if len(facts) < 4 * size:
        fail(
            f"--size {size} needs {4 * size} different facts (half of them to keep), there are {len(facts)}: give a "
            f"smaller --size or more data"
        )
    order = rng.sample(list(facts), len(facts))
    drawn = [rng.choice(facts[name]) for name in order[: 2 * size]]
    retain = [pair for name in order[2 * size :] for pair in facts[name]]
    if len(general) < 4 * size and canary == "domain":
        fail(
            f"--canary domain with --size {size} needs {4 * size} pairs of general knowledge, there are {len(general)}"
        )
    general = rng.sample(general, len(general))
    if canary == "domain":
        canaries, general = general[: 2 * size], general[2 * size :]
    elif canary == "shuffled":
        canaries = changed([rng.choice(facts[name]) for name in rng.sample(order[2 * size :], 2 * size)], shuffled, rng)
    else:
        canaries = changed(drawn, scrambled, rng)
    parts = {
        "forget_id": drawn[:size],
        "fresh_id": drawn[size:],
        "forget_ood": canaries[:size],
        "fresh_ood": canaries[size:],
        "retain_train": retain,
        "generic": general,
    }
    return {
        **parts,
        "full": parts["retain_train"] + parts["forget_id"] + parts["forget_ood"],
        "full_without_forget": retain,
    }


if __name__ == "__main__":
    parser = Parser(__doc__, folder="data")
    parser.add_argument(
        "--data", default="work/people-smollm2/data", help="folder made by 01_data.py (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, help="folder to write the parts and data.json to")
    parser.add_argument(
        "--size", type=count, default=16, help="pairs in each forget set and each fresh set (default: 16)"
    )
    parser.add_argument(
        "--canary",
        default="shuffled",
        choices=("shuffled", "domain", "random"),
        help="kind of out-of-distribution pairs: shuffled words, general knowledge, random strings (default: shuffled)",
    )
    parser.add_argument(
        "--general",
        default=str(REPOSITORY / "data/general_knowledge.jsonl"),
        help="pairs of general knowledge (default: ours)",
    )
    parser.add_argument("--seed", type=seed_number, default=0)
    args = parser.parse_args()
    files = [Path(args.data) / f"{side}_train.jsonl" for side in ("forget", "retain")] + [Path(args.general)]
    forget, retain, general = map(read_pairs, files)
    parts = study(forget + retain, general, args.size, args.canary, args.seed)
    begin_folder(args.out)
    for part, pairs in parts.items():
        print(f"{part:20} {len(pairs):5} pairs")
        write_jsonl(Path(args.out) / f"{part}.jsonl", pairs)
    write_json(
        Path(args.out) / "data.json",
        {"counts": {part: len(pairs) for part, pairs in parts.items()}, **record(args, files)},
    )
    end_folder(args.out)
