"""MEMO in batches against one prompt at a time, as the released code generates: seconds of each, and whether the values
agree.

Prints one JSON line, [batched, one at a time]. Both decode greedily and keep keys and values; a forward pass warms up.
On a slow machine --singly keeps the second part short; rates a prompt are compared.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))

from lib.files import MODELS, mean  # noqa: E402
from lib.formats import read_items  # noqa: E402


def one_at_a_time(pairs, model, tokenizer, memo_prompts, max_new_tokens):
    """MEMO of each pair by transformers' generate, prompt by prompt."""
    import torch
    from rouge_score.rouge_scorer import RougeScorer

    rouge, scores = RougeScorer(["rouge1"], use_stemmer=True), []
    for pair in pairs:
        part = []
        for ids, rest in memo_prompts(*pair, tokenizer, "suffix", 5):
            inputs = torch.tensor([ids], device=model.device)
            with torch.inference_mode():
                tokens = model.generate(
                    input_ids=inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=max_new_tokens
                )[0, len(ids) :]
            part.append(rouge.score(rest, tokenizer.decode(tokens, skip_special_tokens=True))["rouge1"].precision)
        scores.append(mean(part))
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODELS / "vanilla"), help="model folder (default: %(default)s)")
    parser.add_argument(
        "--pairs", default=str(MODELS.parent / "data/forget_train.jsonl"), help="pairs (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=16, help="how many of them (default: 16)")
    parser.add_argument("--singly", type=int, help="how many of these to run one prompt at a time too (default: all)")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="longest continuation (default: 200)")
    parser.add_argument("--batch", type=int, default=160, help="prompts continued together (default: 160)")
    args = parser.parse_args()
    spec = importlib.util.spec_from_file_location("memorization", REPOSITORY / "eval/04_memorization.py")
    memorization = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(memorization)

    from lib.models import exact_dtype, load_model

    import torch

    model, tokenizer = load_model(args.model, exact_dtype())
    pairs = read_items(args.pairs)[: args.count]
    memorization.memo(pairs[:1], model, tokenizer, max_new_tokens=2)
    part = pairs[: args.singly or len(pairs)]
    seconds, values = [], []
    for compute in (
        lambda: memorization.memo(pairs, model, tokenizer, max_new_tokens=args.max_new_tokens, batch=args.batch),
        lambda: one_at_a_time(part, model, tokenizer, memorization.memo_prompts, args.max_new_tokens),
    ):
        began = time.perf_counter()
        values.append(compute())
        seconds.append(time.perf_counter() - began)
    prompts = [sum(len(range(1, len(answer), 5)) for _, answer in some) for some in (pairs, part)]
    rates = [spent / count for spent, count in zip(seconds, prompts, strict=True)]
    print(
        json.dumps(
            {
                "prompts": prompts,
                "seconds": [round(spent, 2) for spent in seconds],
                "seconds_a_prompt": [round(rate, 4) for rate in rates],
                "times_faster": round(rates[1] / rates[0], 1),
                "largest_difference": max(abs(a - b) for a, b in zip(*values)),  # over the pairs that both ran
                "MEMO": round(mean(values[0]), 4),
                "max_new_tokens": args.max_new_tokens,
                "batch": args.batch,
                "model": args.model,
                "device": str(model.device),
                "threads": torch.get_num_threads(),
            }
        )
    )
