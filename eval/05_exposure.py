"""Exposure (Baluta et al. 2024, arXiv:2411.04388): how much likelier are the forgotten answers than if they had never been seen?

Generalized exposure compares with reference models that never saw them, relative exposure with fresh examples of the same
distribution; both in bits, raw and divided by the answer's tokens. Near 0: unlearned. The definitions, and what is uncertain about
them, are in the docstrings of scoring.py. Several folders are several seeds of one model.
"""
import argparse

from measure import fail, mean, model_folder, progress, write_results
from scoring import answer_logprobs, generalized_exposure, load, read_pairs, relative_exposure


def logprobs(folder, pairs, batch):
    """log p(answer | question) under the model of a folder: list of (nats, tokens), end of sequence included."""
    model, tokenizer = load(folder)
    scored = answer_logprobs([(pair["question"], pair["answer"]) for pair in pairs], model, tokenizer, batch)
    return [(values.sum().item(), len(values)) for values, _ in scored]


def exposures(unlearned, reference, fresh):
    """Both exposures of one example, raw and a token.

    Args:
        unlearned, reference: lists of (nats, tokens) of the example, one a seed. fresh: for each seed of the unlearned model, the
        list of (nats, tokens) of the fresh examples. `reference` and `fresh` may be empty: their exposure is then left out.
    Returns:
        {"GenEx", "GenEx_per_token", "RelEx", "RelEx_per_token"}, in bits; RelEx is the mean over seeds.
    """
    result = {}
    for name, form in (("", lambda pair: pair[0]), ("_per_token", lambda pair: pair[0] / pair[1])):
        if reference:
            result[f"GenEx{name}"] = generalized_exposure([form(pair) for pair in unlearned], [form(pair) for pair in reference])
        if fresh:
            result[f"RelEx{name}"] = mean(relative_exposure(form(pair), [form(other) for other in others])
                                          for pair, others in zip(unlearned, fresh, strict=True))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forget", required=True, metavar="FILE", help="pairs that the models should have forgotten")
    parser.add_argument("--models", required=True, nargs="+", metavar="FOLDER", help="the unlearned model, a folder a seed")
    parser.add_argument("--reference", nargs="+", default=[], metavar="FOLDER", help="models that never saw the forget set, a folder a seed")
    parser.add_argument("--fresh", metavar="FILE", help="pairs of the forget set's distribution that no model saw")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON to write: summary, items, origin")
    parser.add_argument("--batch", type=int, default=32, help="answers in one forward pass (default: 32)")
    args = parser.parse_args()
    if args.batch < 1:
        fail("--batch must be at least 1")
    if not (args.reference or args.fresh):
        fail("give --reference (generalized exposure), --fresh (relative exposure) or both")
    pairs, fresh = read_pairs(args.forget), read_pairs(args.fresh) if args.fresh else []
    folders = [model_folder(folder, "python scripts/02_finetune.py --help") for folder in args.models + args.reference]

    scores = [logprobs(folder, pairs + (fresh if number < len(args.models) else []), args.batch)
              for number, folder in enumerate(progress(folders, desc="exposure", unit="model"))]
    unlearned, reference = scores[:len(args.models)], scores[len(args.models):]
    items = []
    for row, pair in enumerate(pairs):
        items.append({"question": pair["question"], "answer": pair["answer"], "tokens": unlearned[0][row][1],
                      "logprob": [seed[row][0] for seed in unlearned], "logprob_reference": [seed[row][0] for seed in reference],
                      **exposures([seed[row] for seed in unlearned], [seed[row] for seed in reference],
                                  [seed[len(pairs):] for seed in unlearned] if fresh else [])})
    names = [name for name in items[0] if name.startswith(("GenEx", "RelEx"))]
    summary = {**{name: mean(item[name] for item in items) for name in names}, "items": len(items), "fresh": len(fresh),
               "seeds": len(unlearned), "reference_seeds": len(reference)}
    write_results(args.out, summary, items, args, [args.forget, *([args.fresh] if args.fresh else [])])
    print(*args.models, *(f"{name} {value:.4g}" for name, value in summary.items()), sep="  ")
