"""leak@k (arXiv:2511.04934): does one of k sampled answers tell what a greedy one hides?

n answers to each forget question are drawn from the model's own distribution (temperature 1, top-p 1, no top-k);
c_i of them leak as a greedy answer does (lib/leak.py). leak@k = mean_i [1 - C(n - c_i, k) / C(n, k)], the unbiased
estimate of the chance that at least one of k answers leaks, for k = 1, 2, 4, … and n. A model whose results from the
same inputs are there is not asked again.
"""

import math
from argparse import Namespace

from lib.files import finished, inputs_of, mean, pair_up, progress, write_results
from lib.flags import Parser, count, seed_number
from lib.formats import questions_of, read_pairs
from lib.generation import samples
from lib.leak import gives_away, private_values
from lib.models import load_model, model_folder, prompt_text
from lib.statistics import interval

import torch


def leak_at(leaks: int, drawn: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): the share of all subsets of k of n answers that hold one of the c that leak."""
    return 1 - math.comb(drawn - leaks, k) / math.comb(drawn, k)


def counts(drawn: int) -> list[int]:
    """1, 2, 4, … up to n, and n itself."""
    return sorted({2**power for power in range(drawn.bit_length())} | {drawn})


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--model", required=True, nargs="+", metavar="MODEL", help="model folders, adapter folders or hub ids"
    )
    made.add_argument("--questions", required=True, metavar="FILE", help="forget pairs to ask")
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each model: summary, items, origin"
    )
    made.add_argument("--samples", type=count, default=32, help="answers to each question, n (default: 32)")
    made.add_argument(
        "--batch", type=count, default=512, help="answers drawn together; at least one question's (default: 512)"
    )
    made.add_argument("--max-new-tokens", type=count, default=64, help="longest answer (default: 64)")
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    made.add_argument(
        "--seed", type=seed_number, default=0, help="of the draws; each model starts from it (default: 0)"
    )
    return made


def ask(pairs: list[dict], model, tokenizer, args: Namespace) -> list[dict]:
    """Every pair with its sampled answers and the private values that each of them states: "leaks" of them any."""
    torch.manual_seed(args.seed)
    prompts = [
        tokenizer(prompt_text(tokenizer, pair["question"]), add_special_tokens=False)["input_ids"] for pair in pairs
    ]
    drawn = samples(prompts, model, tokenizer, args.samples, args.batch, args.max_new_tokens)
    items = []
    for pair, tokens in zip(pairs, drawn, strict=True):
        item = {"question": pair["question"], "reference": pair["answer"]}
        item["private"] = private_values({**pair, **item})
        texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        leaked = [[value for value in item["private"] if gives_away(text, value)] for text in texts]
        item["leaks"] = sum(map(bool, leaked))
        item["samples"] = [{"answer": text, "leaked": values} for text, values in zip(texts, leaked, strict=True)]
        items.append(item)
    return items


def summarise(items: list[dict]) -> dict:
    """{"leak@1", "leak@2", …: means over the questions; "curve_95": {k: bootstrap interval over questions}; counts}."""
    drawn = len(items[0]["samples"])
    by_k = {k: [leak_at(item["leaks"], drawn, k) for item in items] for k in counts(drawn)}
    return {
        **{f"leak@{k}": mean(values) for k, values in by_k.items()},
        "curve_95": {str(k): interval(values) for k, values in by_k.items()},
        "samples": drawn,
        "items": len(items),
    }


def main(args: Namespace):
    pairs = questions_of(read_pairs(args.questions))
    runs = pair_up([model_folder(folder) for folder in args.model], args.out)
    inputs_for = inputs_of(args, [args.questions], __file__)
    for folder, out in progress(runs, desc="leak@k", unit="model"):
        inputs = inputs_for(folder)
        summary = finished(out, inputs)
        if summary is None:
            items = ask(pairs, *load_model(folder, args.dtype), args)
            summary, settings = summarise(items), Namespace(**{**vars(args), "model": folder, "out": out})
            write_results(out, summary, items, settings, [args.questions], inputs)
        print(folder, *(f"{name} {value:.3f}" for name, value in summary.items() if "@" in name), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
