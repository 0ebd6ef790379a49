"""Generation and KFR/KRR in batches, as this project computes them, against one item at a time: seconds an item, and
whether they agree.

Answers: the left-padded batches of lib/generation.py against the same function a question at a time, greedily. KFR/KRR:
entities, embeddings and entailment of lib/judge.py for all answers together against one answer after the other. A first
item warms both up. The last line is one JSON object. MEMO has its own: memo.py.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from lib.files import fail  # train_step has shown Python where lib is
from lib.formats import read_pairs

from train_step import BENCH, child


def side_by_side(together, singly, items, count):
    """Times together(items), then singly(item) for the first `count` → (results of the first, dict of seconds and
    agreement).
    """
    import watch

    together(items[:1])
    results, seconds = [], []
    for compute in (lambda: together(items), lambda: [singly(item) for item in items[:count]]):
        began = time.perf_counter()
        results.append(compute())
        watch.synchronize()
        seconds.append(time.perf_counter() - began)
    rates = seconds[0] / len(items), seconds[1] / len(results[1])
    return results[0], {
        "times_faster": round(rates[1] / rates[0], 2),
        "seconds_an_item": [round(rate, 4) for rate in rates],
        "items": [len(items), len(results[1])],
        "same": sum(map(lambda one, two: one == two, *results)) / len(results[1]),
    }


def generation(args, pairs):
    """Answers in batches and one at a time → (answers, figures)."""
    from lib.generation import answers
    from lib.models import load_model

    model, tokenizer = load_model(args.model, args.dtype)
    found, figures = side_by_side(
        lambda questions: answers(questions, model, tokenizer, args.batch, args.max_new_tokens),
        lambda question: answers([question], model, tokenizer, 1, args.max_new_tokens)[0],
        [pair["question"] for pair in pairs],
        args.singly,
    )
    return found, {
        **figures,
        "tokens_an_answer": round(sum(map(len, tokenizer(found)["input_ids"])) / len(found), 1),
        "dtype": str(model.dtype)[6:],
        "device": model.device.type,
    }


def kfr(args, rows):
    """Verdicts on all answers together and one after the other, each the whole of what judge() says of an item."""
    from lib.judge import Judge, judge

    model = Judge(args.embedding, args.nli)
    verdict = lambda item: (item["E"], item["nli"], item["forgotten"], item["forgotten_as_released"])
    return side_by_side(
        lambda some: [verdict(item) for item in judge(some, "forget", model)],
        lambda row: verdict(judge([row], "forget", model)[0]),
        rows,
        args.singly,
    )[1]


if __name__ == "__main__":
    work = "work/people-smollm2/models"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=f"{work}/vanilla", help="model folder (default: %(default)s)")
    parser.add_argument("--embedding", default=f"{work}/minilm", help="sentence-embedding model (default: %(default)s)")
    parser.add_argument(
        "--nli", default=str(BENCH.parent / "data/nli"), help="entailment model (default: ours, data/nli)"
    )
    parser.add_argument(
        "--pairs", default="", help="file of questions and answers (default: as long as KnowUnDo's, made by pairs.py)"
    )
    parser.add_argument("--count", type=int, default=96, help="how many of them (default: 96)")
    parser.add_argument("--singly", type=int, default=8, help="how many of these to run one at a time too (default: 8)")
    parser.add_argument("--batch", type=int, default=96, help="questions answered together (default: 96)")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="longest answer (default: 64)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16 or float32")
    args = parser.parse_args()
    if min(args.count, args.singly, args.batch, args.max_new_tokens) < 1:
        fail("--count, --singly, --batch and --max-new-tokens must be at least 1")
    for name, folder in (("model", args.model), ("embedding", args.embedding), ("nli", args.nli)):
        if not Path(folder).is_dir() and folder.count("/") != 1:
            fail(f"--{name} {folder}: no such folder (bash run_all.sh makes the default)")
    with tempfile.TemporaryDirectory() as folder:
        if not args.pairs:
            args.pairs = Path(folder, "forget_train.jsonl")
            child(BENCH / "pairs.py", "--model", args.model, "--out", folder)
        pairs = read_pairs(args.pairs)[: args.count]
    import torch

    answers, generated = generation(args, pairs)
    rows = [
        {"question": pair["question"], "reference": pair["answer"], "answer": text or "."}
        for pair, text in zip(pairs, answers, strict=True)
    ]
    print(
        json.dumps(
            {
                "generation": generated,
                "kfr_krr": kfr(args, rows),
                "batch": args.batch,
                "max_new_tokens": args.max_new_tokens,
                "model": args.model,
                "threads": torch.get_num_threads(),
            }
        )
    )
