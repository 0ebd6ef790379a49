"""Answers a file's questions with a model: {"question", "reference", "answer"} a line, in the file's order.

Greedy by default; the papers sample with --temperature 0.7 --top-p 0.9 --top-k 5 and average three runs: --samples 3
writes the answers of three, with the seeds --seed, + 1 and + 2, one run below the other, so that means over all lines
are the averages. A question's "person", "fact", "subject", "value" and "request" come along.
"""

from pathlib import Path

from lib import parallel
from lib.files import fail, record, write_json, write_jsonl
from lib.flags import SHARD, Parser, count, number, seed_number
from lib.formats import read_pairs
from lib.generation import answers
from lib.models import load_model

import torch

if __name__ == "__main__":
    written = lambda args: [Path(args.out) / f"{Path(path).stem}.jsonl" for path in args.questions]
    parser = Parser(__doc__, files=lambda args: [*written(args), Path(args.out) / "generation.json"])
    parser.add_argument("--model", required=True, help="model folder, adapter folder or hub id")
    parser.add_argument("--questions", required=True, nargs="+", help="files of question-answer pairs")
    parser.add_argument(
        "--out", required=True, help="folder for the answers: a file of the same name for each of --questions"
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

    pairs = {path: read_pairs(path) for path in args.questions}
    parallel.begin()
    model, tokenizer = load_model(args.model, args.dtype, args.shard)
    sampling = (
        {"do_sample": True, "temperature": args.temperature, "top_p": args.top_p, "top_k": args.top_k}
        if args.temperature
        else {}
    )
    questions, found = [pair["question"] for path in pairs for pair in pairs[path]], {path: [] for path in pairs}
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
                    **{
                        field: pair[field]
                        for field in ("person", "fact", "subject", "value", "request")
                        if field in pair
                    },
                }
                for pair, row in zip(pairs[path], rows, strict=True)
            ]
    parallel.end()
    if parallel.first:
        for path, out in zip(args.questions, written(args), strict=True):
            write_jsonl(out, found[path])
        write_json(Path(args.out) / "generation.json", {**record(args, args.questions), "processes": parallel.count})
