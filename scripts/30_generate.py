"""Answers a file's questions with a model: {"question", "reference", "answer"} a line, in the file's order.

Greedy by default; the papers sample with --temperature 0.7 --top-p 0.9 --top-k 5 and average three runs: --samples 3
writes the answers of three, with the seeds --seed, + 1 and + 2, one run below the other, so that means over all lines
are the averages. A question's "person", "fact", "subject", "value" and "request" come along. Several models are asked
one after another, each as if it were alone.
"""

import argparse
from pathlib import Path

from lib import parallel
from lib.files import fail, pair_up, record, write_json, write_jsonl
from lib.flags import SHARD, Parser, count, number, seed_number
from lib.formats import read_pairs
from lib.generation import answers
from lib.lora import round_adapter
from lib.models import load_model

import torch

CARRIED = ("person", "fact", "subject", "value", "request")  # fields of a question that its answer keeps

if __name__ == "__main__":
    written = lambda args, out: [Path(out) / f"{Path(path).stem}.jsonl" for path in args.questions]
    parser = Parser(
        __doc__,
        files=lambda args: [path for out in args.out for path in (*written(args, out), Path(out) / "generation.json")],
    )
    parser.add_argument("--model", required=True, nargs="+", help="model folders, adapter folders or hub ids")
    parser.add_argument("--questions", required=True, nargs="+", help="files of question-answer pairs")
    parser.add_argument(
        "--out",
        required=True,
        nargs="+",
        help="a folder for each model's answers: a file of the same name for each of --questions",
    )
    parser.add_argument("--batch", type=count, default=64)
    parser.add_argument("--max-new-tokens", type=count, default=128)
    parser.add_argument("--temperature", type=number(least=0, most=1000), default=0.0, help="0 is greedy (default)")
    parser.add_argument(
        "--top-p", type=number(above=0, most=1), default=0.9, help="with a temperature: nucleus mass (default: 0.9)"
    )
    parser.add_argument(
        "--top-k", type=number(int, least=0), default=5, help="with a temperature: candidates (default: 5)"
    )
    parser.add_argument(
        "--samples",
        type=count,
        default=1,
        help='answers to each question, with a field "sample" in each line (default: 1, without)',
    )
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seed", type=seed_number, default=0)
    parser.add_argument("--shard", default="auto", choices=("auto", "ddp", "fsdp"), help=SHARD + " (default: auto)")
    args = parser.parse_args()
    if args.samples > 1 and not args.temperature:
        fail("--samples above 1 needs --temperature: greedy answers are all the same")

    if folders := [path for path in args.questions if Path(path).is_dir()]:
        fail(f"--questions {folders[0]}: is a folder: name its files")
    models = pair_up(args.model, args.out)
    pairs = {path: read_pairs(path) for path in args.questions}
    parallel.begin()
    sampling = (
        {"do_sample": True, "temperature": args.temperature, "top_p": args.top_p, "top_k": args.top_k}
        if args.temperature
        else {}
    )
    questions = [pair["question"] for path in pairs for pair in pairs[path]]
    for folder, out in models:
        model, tokenizer = load_model(folder, args.dtype, args.shard)
        round_adapter(model)
        found = {path: [] for path in pairs}
        for sample in range(args.samples):
            torch.manual_seed(args.seed + sample + 2**32 * parallel.rank)
            texts = answers(questions, model, tokenizer, args.batch, args.max_new_tokens, **sampling)
            for path in pairs:
                rows, texts = texts[: len(pairs[path])], texts[len(pairs[path]) :]
                found[path] += [
                    {
                        "question": pair["question"],
                        "reference": pair["answer"],
                        "answer": row,
                        **({"sample": sample} if args.samples > 1 else {}),
                        **{field: pair[field] for field in CARRIED if field in pair},
                    }
                    for pair, row in zip(pairs[path], rows, strict=True)
                ]
        del model  # before the next is loaded
        if parallel.first:
            for path, file in zip(args.questions, written(args, out), strict=True):
                write_jsonl(file, found[path])
            own = argparse.Namespace(**{**vars(args), "model": folder, "out": out})
            write_json(Path(out) / "generation.json", {**record(own, args.questions), "processes": parallel.count})
    parallel.end()
