"""Answers a file's questions with a model: {"question", "reference", "answer"} a line, in the file's order.

Greedy by default; the papers sample with --temperature 0.7 --top-p 0.9 --top-k 5 and average three runs: --samples 3 writes the
answers of three, with the seeds --seed, + 1 and + 2, one run below the other, so that means over all lines are the averages.
"""
import argparse
from pathlib import Path

import torch

import parallel
from files import fail, progress, read_pairs, record, write_json, write_jsonl
from unlearn import load_model, prompt_text


def generate(model, tokenizer, questions, batch=64, max_new_tokens=128, **sampling):
    """Answers to `questions`, in their order. Left-padded batches of like length, with a key-value cache.

    Several processes take turns at the same batches, so that greedy answers are those of one; every process gets them all.
    """
    tokenizer.padding_side = "left"
    prompts = [prompt_text(tokenizer, question) for question in questions]
    order, answers = sorted(range(len(prompts)), key=lambda row: len(prompts[row])), {}
    batches = [order[at:at + batch] for at in range(0, len(order), batch)]
    mine, shared = batches[parallel.rank::parallel.count], parallel.sharded(model)
    if shared and len(mine) * parallel.count < len(batches):  # the others cannot compute without this one: a question once more
        mine.append(order[:1])
    for rows in progress(mine, desc="answers", unit="batch", disable=not parallel.first):
        inputs = tokenizer([prompts[row] for row in rows], add_special_tokens=False, padding=True, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs.to(model.device), max_new_tokens=max_new_tokens, synced_gpus=shared, **sampling)
        texts = tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        answers |= {row: text.strip() for row, text in zip(rows, texts, strict=True)}
    answers = parallel.gathered(answers)
    return [answers[row] for row in range(len(questions))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder, adapter folder or hub id")
    parser.add_argument("--questions", required=True, nargs="+", help="files of question-answer pairs")
    parser.add_argument("--out", required=True, help="folder for the answers: a file of the same name for each of --questions")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--top-p", type=float, default=0.9, help="with a temperature: nucleus mass (default: 0.9)")
    parser.add_argument("--top-k", type=int, default=5, help="with a temperature: candidates (default: 5)")
    parser.add_argument("--samples", type=int, default=1, help='answers to each question, with a field "sample" in each line (default: 1, without)')
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default=parallel.SHARD[0], choices=parallel.SHARD[2], help=parallel.SHARD[1] + " (default: auto)")
    args = parser.parse_args()
    if min(args.batch, args.max_new_tokens, args.samples) < 1 or args.temperature < 0:
        fail("--batch, --max-new-tokens and --samples must be at least 1, --temperature at least 0")
    if not 0 < args.top_p <= 1 or args.top_k < 0:
        fail("--top-p must lie above 0 and at most at 1, --top-k be at least 0")
    if args.samples > 1 and not args.temperature:
        fail("--samples above 1 needs --temperature: greedy answers are all the same")
    if len({Path(path).name for path in args.questions}) < len(args.questions):
        fail("--questions: two files have the same name, and so would their answers")

    pairs = {path: read_pairs(path) for path in args.questions}
    parallel.begin()
    model, tokenizer = load_model(args.model, args.dtype, args.shard)
    model.eval()
    # the folder's own generation settings must not decide how methods are compared
    model.generation_config = type(model.generation_config)(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    sampling = {"do_sample": True, "temperature": args.temperature, "top_p": args.top_p, "top_k": args.top_k} if args.temperature else {}
    questions, answers = [pair["question"] for path in pairs for pair in pairs[path]], {path: [] for path in pairs}
    for sample in range(args.samples):
        torch.manual_seed(args.seed + sample + 2**32 * parallel.rank)
        texts = generate(model, tokenizer, questions, args.batch, args.max_new_tokens, **sampling)
        for path in pairs:
            rows, texts = texts[:len(pairs[path])], texts[len(pairs[path]):]
            answers[path] += [{"question": pair["question"], "reference": pair["answer"], "answer": row,
                               **({"sample": sample} if args.samples > 1 else {})} for pair, row in zip(pairs[path], rows, strict=True)]
    parallel.end()
    if parallel.first:
        for path in pairs:
            write_jsonl(Path(args.out) / f"{Path(path).stem}.jsonl", answers[path])
        write_json(Path(args.out) / "generation.json", {**record(args, args.questions), "processes": parallel.count})
