"""Exposure (Baluta et al. 2024, arXiv:2411.04388): how much likelier are the forgotten answers than if they had never
been seen?

Generalized exposure compares with reference models that never saw them, relative exposure with fresh examples of the
same distribution; both in bits, raw and divided by the answer's tokens. Near 0: unlearned. The definitions, and what is
uncertain about them, are in the docstrings of lib/exposure.py. Several folders are several seeds of one model, or, with
an --out for each, several models. Fresh examples are pairs, or inverted facts (04_invert.py): the same questions with
answers that are in nobody's training data.
"""

from argparse import Namespace

from lib.exposure import generalized_exposure, relative_exposure
from lib.files import fail, mean, progress, write_results
from lib.flags import Parser, count
from lib.formats import read_items
from lib.likelihood import answer_logprobs
from lib.models import load_model, model_folder


def logprobs(folder: str, pairs: list, dtype: str, batch: int) -> list[tuple[float, int]]:
    """log p(answer | question) under the model of a folder: list of (nats, tokens), end of sequence included."""
    model, tokenizer = load_model(folder, dtype)
    return [(values.sum().item(), len(values)) for values, _ in answer_logprobs(pairs, model, tokenizer, batch)]


def exposures(unlearned: list, reference: list, fresh: list) -> dict[str, float]:
    """Both exposures of one example, raw and a token.

    Args:
        unlearned, reference: lists of (nats, tokens) of the example, one a seed. fresh: for each seed of the unlearned
        model, the list of (nats, tokens) of the fresh examples. `reference` and `fresh` may be empty: their exposure is
        then left out.
    Returns:
        {"GenEx", "GenEx_per_token", "RelEx", "RelEx_per_token"}, in bits; RelEx is the mean over seeds.
    """
    result = {}
    for name, form in (("", lambda pair: pair[0]), ("_per_token", lambda pair: pair[0] / pair[1])):
        if reference:
            result[f"GenEx{name}"] = generalized_exposure(
                [form(pair) for pair in unlearned], [form(pair) for pair in reference]
            )
        if fresh:
            result[f"RelEx{name}"] = mean(
                relative_exposure(form(pair), [form(other) for other in others])
                for pair, others in zip(unlearned, fresh, strict=True)
            )
    return result


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument("--forget", required=True, metavar="FILE", help="pairs that the models should have forgotten")
    made.add_argument(
        "--models",
        required=True,
        nargs="+",
        metavar="FOLDER",
        help="the unlearned model, a folder a seed; or several models",
    )
    made.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="models that never saw the forget set, a folder a seed",
    )
    made.add_argument(
        "--fresh", metavar="FILE", help="pairs, or inverted facts, of the forget set's distribution that no model saw"
    )
    made.add_argument(
        "--out",
        required=True,
        nargs="+",
        metavar="FILE",
        help="JSON to write: summary, items, origin; one for all seeds, or one for each of --models",
    )
    made.add_argument("--batch", type=count, default=32, help="answers in one forward pass (default: 32)")
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    return made


def score(pairs: list, unlearned: list, reference: list, fresh: int) -> list[dict]:
    """The exposures of every pair.

    Args:
        unlearned, reference: what `logprobs` gives for each seed; unlearned ones go on with the `fresh` examples'.
    """
    return [
        {
            "question": question,
            "answer": answer,
            "tokens": unlearned[0][row][1],
            "logprob": [seed[row][0] for seed in unlearned],
            "logprob_reference": [seed[row][0] for seed in reference],
            **exposures(
                [seed[row] for seed in unlearned],
                [seed[row] for seed in reference],
                [seed[len(pairs) :] for seed in unlearned] if fresh else [],
            ),
        }
        for row, (question, answer) in enumerate(pairs)
    ]


def check(args: Namespace):
    if not (args.reference or args.fresh):
        fail("give --reference (generalized exposure), --fresh (relative exposure) or both")
    if len(args.out) not in (1, len(args.models)):
        fail(
            f"{len(args.models)} --models need one --out (seeds of one model) or {len(args.models)} (several models), "
            f"not {len(args.out)}"
        )


def main(args: Namespace):
    check(args)
    pairs, fresh = read_items(args.forget), read_items(args.fresh) if args.fresh else []
    for folder in args.models + args.reference:
        model_folder(folder)
    folders = dict.fromkeys(args.models + args.reference)  # one that is both, retrained say, is scored once
    scores = {
        folder: logprobs(folder, pairs + (fresh if folder in args.models else []), args.dtype, args.batch)
        for folder in progress(list(folders), desc="exposure", unit="model")
    }
    reference, seeds = [scores[folder] for folder in args.reference], len(args.models) // len(args.out)
    for number, out in enumerate(args.out):
        models = args.models[number * seeds :][:seeds]
        items = score(pairs, [scores[folder] for folder in models], reference, len(fresh))
        names = [name for name in items[0] if name.startswith(("GenEx", "RelEx"))]
        counts = {"items": len(items), "fresh": len(fresh), "seeds": seeds, "reference_seeds": len(reference)}
        summary = {**{name: mean(item[name] for item in items) for name in names}, **counts}
        settings = Namespace(**{**vars(args), "models": models, "out": out})
        write_results(out, summary, items, settings, [args.forget, *([args.fresh] if args.fresh else [])])
        print(*models, *(f"{name} {value:.4g}" for name, value in summary.items()), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
