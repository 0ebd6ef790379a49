"""What a run would meet in its data, before it trains anything: `run_all.sh --check`.

Reads what 01_data.py has prepared (and has refused, with file and line, where it cannot be read) and prints
  counts   of every part; questions that come twice
  longest  rows in tokens of the run's model, and how many lose their end: in training at --max-length, when answers
           are generated at --max-new-tokens
  apart?   pairs to be kept that tell what is to be forgotten in other words. Found by the run's embedding model, pair
           by pair (cosine of question and answer as one text at least --alike, about the same subject, no other value
           in its place), and by the leak check (lib/leak.py): a retain answer that states a private value of a forget
           pair (where the data names no values, and the pairs are not alike, one with a digit or an @)
  sure?    half the width of the 95 % Wilson interval of KFR and KRR at these counts, and the counts for ±0.1 and ±0.05
  time     of the whole run, by scripts/tools/plan.py from the steps on standard input; without a GPU at the speed that
           a matrix product has here
"""

import subprocess
import sys
import time
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

from lib.entailment import sentence_model
from lib.files import REPOSITORY, fail
from lib.flags import Parser, count, share
from lib.formats import read_pairs
from lib.leak import private_values, states, ungrouped, whole
from lib.models import encode_text, model_folder, prompt_text
from lib.spans import find_subjects, joined, tokens
from lib.statistics import wilson

import numpy as np
import torch
import transformers

PARTS = [f"{side}_{split}" for side in ("forget", "retain") for split in ("train", "tune", "val")]
SHOWN = 10  # of what is found twice
BLOCK = 1024  # retain pairs whose cosines with all forget pairs are held at once
LETTERS = 60  # of the values that are looked up among all runs of words of a text


def half_width(share, number):
    """Half the width of the 95 % Wilson interval of a share of `number` items."""
    low, high = wilson(share * number, number)
    return (high - low) / 2


def enough(share, width):
    """The least number of items with which that half is at most `width`."""
    return next(number for number in range(1, 10**6) if half_width(share, number) <= width)


# ---------------------------------------------------------------- the same fact on both sides


def sides(parts):
    """{side: pairs of all its parts, each once, with `reference`, `subject` and private `values`}."""
    found = {}
    for side in ("forget", "retain"):
        once = {}
        for part in PARTS:
            if part.startswith(side):
                for pair in parts[part]:
                    once.setdefault((pair["question"], pair["answer"]), {**pair, "reference": pair["answer"]})
        found[side] = list(once.values())
    every = [pair for pairs in found.values() for pair in pairs]
    for pair, subject in zip(every, find_subjects(every), strict=True):
        pair.setdefault("subject", pair.get("name") or subject)
        pair["values"] = private_values(pair)
    return found


@lru_cache(maxsize=256)  # the answer at hand, and questions
def runs(text):
    return frozenset(joined(tokens(ungrouped(text)), LETTERS))


def tells(text, value):
    """As lib.leak.states, for many values of one text."""
    return whole(value) in runs(text) if len(whole(value)) <= LETTERS else states(text, value)


def same_fact(forget, retain, cosine, alike):
    """Does a pair to be kept tell the fact of one to be forgotten, in whatever words? Two that name different subjects,
    or state different values, do not.
    """
    if forget["subject"] != retain["subject"] and None not in (forget["subject"], retain["subject"]):
        return False
    told = [value for value in forget["values"] if tells(retain["answer"], value)]
    return cosine >= alike and (bool(told) or not forget["values"] or not retain["values"])


def stated_values(forget, retain, close):
    """The private values of a forget pair that a retain pair's answer states, and its question does not: about another
    subject, or where the data names no values and the pairs are not `close`, only those with a digit or an @, as a
    genre or a town may be in several facts; never those of few letters.
    """
    same = forget["subject"] == retain["subject"] or None in (forget["subject"], retain["subject"])
    words = same and (close or bool(forget.get("value")))
    return [
        value
        for value in forget["values"]
        if len(value) > 4
        and (words or any(letter.isdigit() or letter == "@" for letter in value))
        and tells(retain["answer"], value)
        and not tells(retain["question"], value)
    ]


def on_both_sides(forget, retain, cosines, alike):
    """[(cosine, values told, forget pair, retain pair)], the likest first; of each pair to be kept the likest match.

    Args:
        cosines: (forget, retain).
    """
    cosines, having, long, found = np.asarray(cosines), defaultdict(set), [], []
    for row, gone in enumerate(forget):  # which pairs have a value, in the form in which `runs` holds it
        for value in gone["values"]:
            if len(whole(value)) <= LETTERS:
                having[whole(value)].add(row)
            else:
                long.append((row, value))
    for column, kept in enumerate(retain):
        rows = set(np.flatnonzero(cosines[:, column] >= alike).tolist())
        rows.update(*(having[run] for run in having.keys() & runs(kept["answer"])))
        rows.update(row for row, value in long if states(kept["answer"], value))
        matches = []
        for row in sorted(rows):
            cosine = float(cosines[row, column])
            told = stated_values(forget[row], kept, cosine >= alike)
            if told or same_fact(forget[row], kept, cosine, alike):
                matches.append((cosine, told, forget[row], kept))
        found += [max(matches, key=lambda match: match[0])] if matches else []
    return sorted(found, key=lambda match: -match[0])


def embed(folder, forget, retain):
    """(the embeddings of all forget pairs, those of all retain pairs), question and answer as one text."""
    transformers.utils.logging.disable_progress_bar()
    embedder = sentence_model(folder)
    return [
        embedder.encode(
            [f"{pair['question']} {pair['answer']}" for pair in pairs],
            batch_size=128,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        for pairs in (forget, retain)
    ]


def in_blocks(forget, retain, alike, one, other):
    """`on_both_sides`, with the cosines of BLOCK retain pairs at a time in memory."""
    found = []
    for at in range(0, len(retain), BLOCK):
        part = slice(at, at + BLOCK)
        found += on_both_sides(forget, retain[part], one @ other[part].T, alike)
    return sorted(found, key=lambda match: -match[0])


# ---------------------------------------------------------------- what is printed


def show_counts(parts):
    print("pairs:")
    for part, pairs in parts.items():
        split = part.partition("_")[2]
        same = split != "train" and pairs == parts[part.replace(split, "train")]
        repeats = sum(times - 1 for times in Counter(pair["question"] for pair in pairs).values())
        print(
            f"  {part:13} {len(pairs):5}"
            + (" (the training pairs serve)" if same else "")
            + (f" ({repeats} repeated questions)" if repeats else "")
        )


def show_lengths(parts, places, tokenizer, max_length, max_new_tokens):
    measured = {}  # (question, answer): (tokens of the pair, of its answer), end of sequence included
    for pair in (pair for pairs in parts.values() for pair in pairs):
        ids, prompt, _ = encode_text(tokenizer, prompt_text(tokenizer, pair["question"]), pair["answer"])
        measured[pair["question"], pair["answer"]] = len(ids) + 1, len(ids) + 1 - prompt
    longest = sorted(measured, key=measured.__getitem__, reverse=True)[:3]
    print("longest pairs, in tokens of question and answer:")
    for key in longest:
        print(f"  {measured[key][0]:5}  {places[key]}  {key[0][:60]!r}")
    cut = [key for key in measured if measured[key][0] > max_length]
    print(
        f"cut in training at --max-length {max_length}: {len(cut)} of {len(measured)}"
        + (f" (--max-length {max(measured[key][0] for key in cut)} would hold all)" if cut else "")
    )
    asked = {(pair["question"], pair["answer"]) for side in ("forget", "retain") for pair in parts[f"{side}_val"]}
    short = [key for key in asked if measured[key][1] > max_new_tokens]
    print(
        f"true answers longer than --max-new-tokens {max_new_tokens}, the longest that a model may give: "
        f"{len(short)} of {len(asked)}"
        + (f" (the longest has {max(measured[key][1] for key in short)})" if short else "")
    )


def show_twice(found, places, alike):
    place = lambda pair: places[pair["question"], pair["answer"]]
    if not found:
        print(f"to be forgotten and to be kept at once: nothing found (cosine {alike:g} and above, or a private value)")
        return
    print(
        f"to be forgotten and to be kept at once, in other words: {len(found)} pairs; what is the same fact belongs on "
        "one side:"
    )
    for cosine, told, gone, kept in found[:SHOWN]:
        print(f"  cosine {cosine:.2f}" + (f", states {'; '.join(told)!r}" if told else ""))
        print(f"    forget {place(gone)}: {gone['question']} | {gone['answer']}")
        print(f"    retain {place(kept)}: {kept['question']} | {kept['answer']}")
    if len(found) > SHOWN:
        print(f"  and {len(found) - SHOWN} more")


def show_certainty(parts):
    print("95 % intervals (Wilson) at these counts:")
    for name, part in (("KFR", "forget_val"), ("KRR", "retain_val")):
        number = len({pair["question"] for pair in parts[part]})
        widths = ", ".join(f"±{half_width(share, number):.2f} at {share}" for share in (0.5, 0.9))
        takes = ", ".join(
            f"±{width:.2f} takes {enough(0.5, width)} (at 0.9: {enough(0.9, width)})" for width in (0.1, 0.05)
        )
        print(f"  {name}: {number} questions, {widths}; {takes}")


def speed():
    """(10^12 FLOPs, 10^12 bytes of weights) a second of this processor, measured on a matrix product of a small model's
    proportions and on one vector's."""
    wide, one, weights = torch.ones(256, 1024), torch.ones(1, 4096), torch.ones(4096, 4096)
    took = lambda work: min(_seconds(work) for _ in range(3))
    small = torch.ones(1024, 1024)
    return 2 * 256 * 1024**2 / took(lambda: wide @ small) / 1e12, 4 * 4096**2 / took(lambda: one @ weights) / 1e12


def _seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def show_time(steps, model):
    """The plan's last lines. model: the folder of the run's model, which is there by now and tells its size."""
    if not steps.strip():
        return
    rows, flags, where = [line.split("\t") for line in steps.splitlines()], [], "on a GPU as the plan takes it"
    for words in rows:
        if words[1].endswith("/00_models.py") and model in words:
            words[words.index("--model") + 1] = model
    if not torch.cuda.is_available():
        flops, bytes_ = speed()
        flags = ["--tflops", f"{flops:.4g}", "--bandwidth", f"{bytes_:.4g}"]
        where = f"on this processor ({1000 * flops:.0f} GFLOP/s, measured; loading models is not counted)"
    command = [sys.executable, str(REPOSITORY / "scripts/tools/plan.py"), *flags]
    steps = "\n".join(map("\t".join, rows))
    done = subprocess.run(command, input=steps, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode:
        fail(done.stderr.strip().removeprefix("error: "))
    total = next(line for line in done.stdout.splitlines() if line.startswith("total: "))
    hours = float(total.split()[-1])
    print(
        f"time of the whole run, {where}: {hours:.1f} hours"
        if hours >= 2
        else f"time of the whole run, {where}: {60 * hours:.0f} minutes"
    )
    for line in done.stdout.splitlines():
        if line.startswith("Not estimated: "):  # and so not in the time
            print(line)
    print("each step: the same command with --plan in place of --check")


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--model", required=True, help="the run's model folder, for its tokenizer and prompt format")
    parser.add_argument("--embedding", required=True, help="sentence-embedding model")
    parser.add_argument("--max-length", type=count, default=512, help="of training (default: 512)")
    parser.add_argument("--max-new-tokens", type=count, default=128, help="of generated answers (default: 128)")
    parser.add_argument(
        "--alike", type=share, default=0.8, help="cosine from which on two pairs are alike (default: 0.8)"
    )
    args = parser.parse_args()

    parts, places = {}, {}
    for part in PARTS:
        parts[part] = read_pairs(Path(args.data) / f"{part}.jsonl", places=True)
        for pair in parts[part]:
            places.setdefault((pair["question"], pair["answer"]), pair.pop("place"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder(args.model), trust_remote_code=False)
    show_counts(parts)
    show_lengths(parts, places, tokenizer, args.max_length, args.max_new_tokens)
    found = sides(parts)
    vectors = embed(model_folder(args.embedding), found["forget"], found["retain"])
    show_twice(in_blocks(found["forget"], found["retain"], args.alike, *vectors), places, args.alike)
    show_certainty(parts)
    show_time("" if sys.stdin.isatty() else sys.stdin.read(), args.model)
