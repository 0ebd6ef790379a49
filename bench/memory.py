"""Peak memory of every method's training beside plain LoRA fine-tuning that holds as many pairs at once.

Every `method` line of run_all.sh is run for a few updates in a process of its own, at --batch pairs a pass and column:
a method with a retain loss holds twice as many, DPO with one three times. Its peak is divided by that of 02_finetune.py
--adapter at the same number of pairs (`ratio`), and by that of fine-tuning at twice --batch whatever the method holds
(`ratio_to_two`). All pairs are as long as KnowUnDo's longest tenth, so that every pass costs alike. On a CPU the peak
is the process's resident memory; Python and libraries are part of it, and `ratio_without_libraries` leaves them out. On
a GPU it is what tensors took. The last line is one JSON object.
"""

import argparse
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

from lib.files import fail, write_json, write_jsonl  # train_step has shown Python where lib is
from lib.formats import read_pairs

from train_step import BENCH, child, shared_flags

ALLOWED = 1.35


def methods(folder):
    """{name: [script, flags...]} of run_all.sh's methods, `folder` being the run's: bash reads it, and prints."""
    nothing = "step metric extrapolate row run each false_answers tofu_sets last_of".split()
    printing = f"""R={shlex.quote(str(folder))} MODEL= VANILLA= RETRAINED= forget= retain= folders= preset= as_given=
        {"; ".join(f"{name}() {{ :; }}" for name in nothing)}
        method() {{ printf '%s\\t' "$@"; echo; }}; set +u"""
    text = (BENCH.parent / "run_all.sh").read_text().replace('. scripts/pipeline.sh "$@"', printing)
    text = text.replace('cd "$(dirname "${BASH_SOURCE[0]}")"', ":")
    done = subprocess.run(["bash", "-c", text], cwd=BENCH.parent, capture_output=True, text=True, check=True)
    found = [line.rstrip("\t").split("\t") for line in done.stdout.splitlines()]
    return {name: [BENCH.parent / "scripts" / script, *flags] for name, script, *flags in found}


def prepare(args, folder):
    """Files that the methods read, made of the same pairs: an augmented forget set, inverted facts, their MEMO, an
    augmented model.
    """
    child(
        BENCH / "pairs.py",
        "--model",
        args.model,
        "--out",
        folder / "data",
        "--forget",
        args.pairs,
        "--retain",
        args.pairs,
        "--longest",
    )
    pairs = read_pairs(folder / "data/forget_train.jsonl")
    answers = [[pairs[(at + other) % len(pairs)]["answer"] for other in range(1, 5)] for at in range(len(pairs))]
    write_jsonl(
        folder / "augmented/forget_augmented.jsonl",
        [{**pair, "source": at, "kind": "simple"} for at, pair in enumerate(pairs)],
    )
    write_jsonl(
        folder / "augmented/inverted.jsonl",
        [{"question": pair["question"], "answers": four} for pair, four in zip(pairs, answers)],
    )
    write_json(
        folder / "augmented/memo.json",
        {
            "items": [
                {"question": pair["question"], "answer": answer, "MEMO": 0.5}
                for pair, four in zip(pairs, answers)
                for answer in four
            ]
        },
    )


def train(args, folder, out, batch, script, *flags):
    """Runs a training script for about --updates updates of `batch` pairs → what watch.py saw, `rows` the pairs of a
    pass.
    """
    groups = -(-args.pairs // batch)
    seen = child(
        BENCH / "watch.py",
        script,
        "--model",
        args.model,
        "--data",
        folder / "data",
        "--out",
        out,
        "--batch",
        batch,
        "--accumulation",
        1,
        "--epochs",
        args.updates / groups,
        "--dtype",
        args.dtype,
        *shared_flags(args),
        *flags,
    )
    return {**seen, "rows": max(seen["rows"])}


def compare(args, folder):
    """Trains each method and prints its line of the table → the JSON object of the last line."""
    known = methods(folder)
    chosen = args.methods.split() or list(known)
    if unknown := [name for name in chosen if name not in known]:
        fail(f"unknown method {unknown[0]}; there are: {' '.join(known)}")
    prepare(args, folder)
    finetune = (BENCH.parent / "scripts/02_finetune.py", "--adapter", "--forget", "forget_train.jsonl")
    plain, table = {}, {}

    def baseline(rows):
        if rows not in plain:
            plain[rows] = train(args, folder, folder / "models/augmented", rows, *finetune)
        return plain[rows]

    two = baseline(2 * args.batch)
    print(f"{'method':16} pairs  peak GiB  fine-tuning  ratio  without libraries  to {2 * args.batch} pairs")
    for name in chosen:
        seen = train(args, folder, folder / "methods" / name, args.batch, *known[name])
        same = baseline(seen["rows"])
        row = table[name] = {
            "pairs": seen["rows"],
            "peak_gib": round(seen["peak"] / 2**30, 3),
            "finetuning_gib": round(same["peak"] / 2**30, 3),
            "ratio": round(seen["peak"] / same["peak"], 3),
            "ratio_to_two": round(seen["peak"] / two["peak"], 3),
            "ratio_without_libraries": round(
                (seen["peak"] - seen["libraries"]) / max(1, same["peak"] - same["libraries"]), 3
            ),
        }
        print(
            f"{name:16} {row['pairs']:5} {row['peak_gib']:9.3f} {row['finetuning_gib']:12.3f} {row['ratio']:6.3f} "
            f"{row['ratio_without_libraries']:18.3f} {row['ratio_to_two']:12.3f}",
            flush=True,
        )
    return {
        "allowed": ALLOWED,
        "largest_ratio": max(row["ratio"] for row in table.values()),
        "over": [name for name, row in table.items() if row["ratio"] > ALLOWED],
        "methods": table,
        "finetuning_gib": {rows: round(seen["peak"] / 2**30, 3) for rows, seen in sorted(plain.items())},
        "libraries_gib": round(two["libraries"] / 2**30, 3),
        "batch": args.batch,
        "model": str(args.model),
        "dtype": two["dtype"],
        "device": two["device"],
        "lora_r": args.lora_r,
        "lora_dropout": args.lora_dropout,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="work/people-smollm2/models/vanilla", help="model folder (default: %(default)s)"
    )
    parser.add_argument("--methods", default="", help='some of run_all.sh\'s methods, "A B" (default: all)')
    parser.add_argument("--batch", type=int, default=4, help="pairs a pass, forget and retain each (default: 4)")
    parser.add_argument("--updates", type=int, default=3, help="updates of each (default: 3)")
    parser.add_argument("--pairs", type=int, default=400, help="pairs to forget, and to keep (default: 400)")
    parser.add_argument("--lora-r", type=int, default=8, help="LoRA rank (default: 8, as published)")
    parser.add_argument("--lora-dropout", type=float, default=0.1, help="LoRA dropout (default: 0.1, as published)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16 or float32")
    args = parser.parse_args()
    if min(args.batch, args.updates, args.pairs, args.lora_r) < 1:
        fail("--batch, --updates, --pairs and --lora-r must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(args, Path(folder))))
