"""Writes question-answer pairs that are as long as KnowUnDo's (Tian et al. 2024, arXiv:2407.01920, privacy), counted by
a model's tokenizer.

The benchmarks' data: texts of data/people, joined and cut anew, because only lengths decide what a step costs. The
lengths are the middles of the ten tenths of KnowUnDo's training questions and answers, counted with SmolLM2's tokenizer
(chat format and end of sequence apart): means of 11.3 and 31.7 tokens to forget, 11.1 and 29.2 to keep.
"""

import argparse
import random
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))

from lib.files import fail, write_jsonl  # noqa: E402
from lib.formats import read_pairs  # noqa: E402

TENTHS = {  # file: tokens of questions, tokens of answers (unlearn_train, 400 pairs; retention_train, 441)
    "forget_train": ((7, 8, 9, 9, 10, 11, 12, 14, 15, 18), (19, 23, 25, 28, 31, 33, 35, 37, 40, 46)),
    "retain_train": ((6, 8, 9, 10, 11, 12, 12, 13, 14, 17), (19, 23, 24, 26, 29, 30, 32, 33, 35, 41)),
}


def lengths(tenths, count, rng):
    """`count` lengths, as many of each tenth, in random order."""
    values = [tenths[at * len(tenths) // count] for at in range(count)]
    rng.shuffle(values)
    return values


def pieces(tokenizer, texts, wanted):
    """A text of each of the `wanted` lengths in tokens (±1: its first word may be cut), one after the other from
    `texts`, joined.
    """
    ids, at, turn = tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"], 0, 0
    for length in wanted:
        if at + length > len(ids):  # from the start again, cut elsewhere
            turn += 1
            at = turn
        yield tokenizer.decode(ids[at : at + length]).strip()
        at += length


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder whose tokenizer counts")
    parser.add_argument("--out", required=True, help="folder to write forget_train.jsonl and retain_train.jsonl to")
    parser.add_argument("--forget", type=int, default=400, help="pairs to forget (default: 400, as KnowUnDo)")
    parser.add_argument("--retain", type=int, default=441, help="pairs to keep (default: 441, as KnowUnDo)")
    parser.add_argument("--longest", action="store_true", help="all as long as the longest tenth of those to forget")
    args = parser.parse_args()
    if min(args.forget, args.retain) < 1:
        fail("--forget and --retain must be at least 1")
    if not Path(args.model).is_dir() and args.model.count("/") != 1:
        fail(f"{args.model}: no such model folder (bash run_all.sh makes one), and not a hub id (owner/name)")
    import transformers

    transformers.utils.logging.set_verbosity_error()  # one long text is cut, not read by the model
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    except (OSError, ValueError, KeyError) as error:
        fail(f"cannot load a tokenizer from {args.model}: {str(error).strip().splitlines()[0]}")
    if subprocess.run(
        [sys.executable, REPOSITORY / "scripts/01_data.py", "--persons", "all", "--out", Path(args.out, "people")],
        stdout=subprocess.DEVNULL,
    ).returncode:
        raise SystemExit(2)
    rng = random.Random(0)
    for (name, tenths), count in zip(TENTHS.items(), (args.forget, args.retain), strict=True):
        if args.longest:
            tenths = [part[-1:] for part in TENTHS["forget_train"]]
        pairs = read_pairs(Path(args.out, "people", f"{name}.jsonl"))
        columns = [
            pieces(tokenizer, [pair[field] for pair in pairs], lengths(part, count, rng))
            for field, part in zip(("question", "answer"), tenths, strict=True)
        ]
        write_jsonl(
            Path(args.out, f"{name}.jsonl"),
            [{"question": one, "answer": two} for one, two in zip(*columns, strict=True)],
        )
