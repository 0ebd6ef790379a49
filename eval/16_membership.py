"""Membership inference: do the forgotten answers still look like training data?

Six scores of an answer given its question, lower where the model looks as if it had been trained on it:
loss       NLL a token (Yeom et al. 2018, arXiv:1709.01604)
zlib       NLL a token / bytes of the zlib-compressed answer (Carlini et al. 2021, arXiv:2012.07805)
min_k      minus the mean of the lowest 40 % of log p_t (Shi et al. 2024, arXiv:2310.16789)
min_k++    likewise of (log p_t - μ_t) / σ_t, μ_t and σ_t the mean and the standard deviation of log p over the
           vocabulary under the model's own distribution (Zhang et al. 2025, arXiv:2404.02936)
gradient   Euclidean norm of the gradient of the NLL a token, over all weights of the blocks' linear layers
reference  NLL a token less that under the base model (Carlini et al. 2021)
AUC: the chance that a forget answer has a lower score than one of the holdout, which no model saw; equal ones count
half. privleak = 100 ((1 - AUC) - (1 - AUC_r)) / (1 - AUC_r), AUC_r the retrained model's (MUSE, arXiv:2407.06460): 0 is
the aim, below it the answers still look like members, above it less so than if they had never been seen.
"""

import contextlib
import functools
import math
import sys
import zlib
from argparse import Namespace
from pathlib import Path

from lib.batches import collate
from lib.files import fail, finished, inputs_of, mean, pair_up, progress, real_path, write_results
from lib.flags import Parser, count, share
from lib.formats import read_pairs
from lib.likelihood import answer_logits, answer_logprobs, answer_tokens
from lib.models import blocks_of, encode_pairs, load_model, model_folder
from lib.statistics import wins

import torch
from transformers.pytorch_utils import Conv1D

SCORES = ("loss", "zlib", "min_k", "min_k++", "gradient", "reference")


# ---------------------------------------------------------------- scores of one answer


def zlib_score(nll: float, text: str) -> float:
    """NLL a token / bytes of the compressed text."""
    return nll / len(zlib.compress(text.encode()))


def lowest(values: list[float], part: float) -> float:
    """Minus the mean of the lowest `part` of the values, of one at least (rounded down, as in the released code)."""
    return -mean(sorted(values)[: max(1, int(len(values) * part))])


def privleak(found: float, retrained: float) -> float | None:
    """100 ((1 - AUC) - (1 - AUC_r)) / (1 - AUC_r); None where the retrained model's AUC is 1."""
    return 100 * (retrained - found) / (1 - retrained) if retrained < 1 else None


# ---------------------------------------------------------------- under a model


@contextlib.contextmanager
def squared_gradients(model, shape):
    """Within it a backward pass of rows' losses, added up, leaves in the list that this yields the squared norm of each
    row's own gradient: (rows,) for every linear layer of the blocks.

    A row's gradient of a matrix is Gᵀ X, X (tokens, in) what goes in and G (tokens, out) the gradient of what comes
    out, so its squared norm is the sum of (G Gᵀ) ∘ (X Xᵀ), without the matrix (Goodfellow 2015, arXiv:1510.01799).

    Args:
        shape: (rows, positions) of the batch. Some models give a layer all tokens in a row; one that is given some of
        them only (an expert) is left out.
    """
    found, hooks = [], []

    def seen(_, inputs, output):
        if inputs[0].shape[:-1].numel() != shape.numel():
            return
        states = inputs[0].detach()
        inner = lambda values: (values := values.float().view(*shape, -1)) @ values.mT
        note = lambda gradient: found.append((inner(gradient) * inner(states)).sum((1, 2)))
        output.register_hook(note)

    embedded = lambda _, __, output: output.requires_grad_()
    hooks.append(model.get_input_embeddings().register_forward_hook(embedded))
    for block in blocks_of(model):
        for name, layer in block.named_modules():
            if isinstance(layer, (torch.nn.Linear, Conv1D)) and "lora_" not in name:
                hooks.append(layer.register_forward_hook(seen))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def token_scores(pairs: list, model, tokenizer, batch: int) -> list[dict]:
    """{"logprob", "standard": lists, a number an answer token, end of sequence included; "gradient": number} of each
    (question, answer)."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()  # else an adapter's layers compute past the layers that are watched
    model.requires_grad_(False)
    encoded, result = encode_pairs(tokenizer, pairs)[0], {}
    order = sorted(range(len(pairs)), key=lambda at: len(encoded[at][0]))
    for at in progress(range(0, len(order), batch), desc="membership", unit="batch", leave=False):
        part = order[at : at + batch]
        rows = collate([encoded[row] for row in part], tokenizer.pad_token_id, device=model.device)
        with squared_gradients(model, rows.input_ids.shape) as squares:
            logprobs = answer_logits(model, rows).log_softmax(-1)
            own = logprobs.gather(1, answer_tokens(rows)[:, None])[:, 0]
            whose = rows.answer[:, 1:].nonzero()[:, 0]
            lengths = whose.bincount(minlength=len(part))
            (-own / lengths[whose]).sum().backward()
        with torch.no_grad():
            chances = logprobs.exp()
            centre = (chances * logprobs).sum(-1)
            spread = (chances * (logprobs - centre[:, None]).square()).sum(-1).sqrt().clamp_min(1e-6)
            standard = (own - centre) / spread
        norms = torch.stack([square.double() for square in squares]).sum(0).sqrt().tolist()
        sizes = lengths.tolist()
        columns = (own.detach().split(sizes), standard.split(sizes), norms)
        for row, values, standards, norm in zip(part, *columns, strict=True):
            result[row] = {"logprob": values.tolist(), "standard": standards.tolist(), "gradient": norm}
    return [result[row] for row in range(len(pairs))]


def scores(pairs: list, found: list[dict], base: list[float] | None, part: float) -> list[dict]:
    """The six scores of every (question, answer); without the base model's NLLs, five."""
    rows = []
    for at, ((_, answer), one) in enumerate(zip(pairs, found, strict=True)):
        nll = -mean(one["logprob"])
        row = {
            "loss": nll,
            "zlib": zlib_score(nll, answer),
            "min_k": lowest(one["logprob"], part),
            "min_k++": lowest(one["standard"], part),
            "gradient": one["gradient"],
        }
        rows.append(row | ({"reference": nll - base[at]} if base else {}))
    return rows


# ---------------------------------------------------------------- a model's file


def summarise(items: list[dict], retrained: dict | None) -> dict:
    """AUC of every score, and privleak beside the retrained model's AUCs; without a holdout the forget answers' mean
    scores alone. Gives each item its placements, the part of the AUC that it makes."""
    sides = {side: [item for item in items if item["side"] == side] for side in ("forget", "holdout")}
    names = [name for name in SCORES if name in items[0]["scores"]]
    summary = {f"{side}_items": len(part) for side, part in sides.items()}
    for name in names:
        forget, holdout = ([item["scores"][name] for item in part] for part in sides.values())
        summary[f"mean_{name}"] = mean(forget)
        if not holdout:
            continue
        apart = wins(holdout, forget)  # what a model has learnt has the lower score
        for side, table in (("forget", zip(*apart)), ("holdout", apart)):
            for item, row in zip(sides[side], table, strict=True):
                item.setdefault("placements", {})[name] = mean(row)
        summary[f"AUC_{name}"] = mean(map(mean, apart))
        if retrained:
            summary[f"privleak_{name}"] = privleak(summary[f"AUC_{name}"], retrained[f"AUC_{name}"])
    return summary


def parser() -> Parser:
    made = Parser(__doc__)
    made.add_argument(
        "--model", required=True, nargs="+", metavar="MODEL", help="model folders, adapter folders or hub ids"
    )
    made.add_argument("--forget", required=True, metavar="FILE", help="pairs that the models should have forgotten")
    made.add_argument(
        "--holdout",
        metavar="FILE",
        help="pairs like them that no model was trained on (default: holdout.jsonl beside --forget, if it is there; "
        "without one there is no AUC)",
    )
    made.add_argument("--base", metavar="MODEL", help="the model before any fine-tuning, for the score `reference`")
    made.add_argument("--retrained", metavar="MODEL", help="the retrained model, for privleak")
    made.add_argument(
        "--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each model: summary, items, origin"
    )
    made.add_argument("--k", type=share, default=0.4, help="share of the tokens that min_k takes (default: 0.4)")
    made.add_argument("--batch", type=count, default=8, help="answers in one pass (default: 8)")
    made.add_argument("--dtype", default="auto", help="as in 30_generate.py (default: auto)")
    return made


def holdout_of(args: Namespace) -> list[dict]:
    """The holdout's pairs; none where no file is named and none is beside the forget pairs, which is said."""
    beside = Path(args.forget).with_name("holdout.jsonl")
    if not args.holdout and not beside.is_file():
        print(f"{beside}: no such file, so there is no AUC and no privleak; give --holdout", file=sys.stderr)
        return []
    args.holdout = args.holdout or str(beside)
    return read_pairs(args.holdout)


def main(args: Namespace):
    sides = {"forget": read_pairs(args.forget), "holdout": holdout_of(args)}
    pairs = [(pair["question"], pair["answer"]) for part in sides.values() for pair in part]
    runs = pair_up([model_folder(folder) for folder in args.model], args.out)
    beside = [model_folder(folder) for folder in (args.base, args.retrained) if folder]
    files = [args.forget, *([args.holdout] if args.holdout else [])]
    inputs_for = inputs_of(args, [*files, *beside], __file__)
    known = {}  # a folder is scored once: the retrained one is of the table, too

    @functools.cache  # computed when the first model needs them
    def base():
        if not args.base:
            return None
        found = answer_logprobs(pairs, *load_model(model_folder(args.base), args.dtype), args.batch)
        return [-values.mean().item() for values, _ in found]

    @functools.cache
    def retrained():
        return summarise(items_of(model_folder(args.retrained)), None) if args.retrained and sides["holdout"] else None

    def items_of(folder):
        place = real_path(folder)
        if place not in known:
            model, tokenizer = load_model(folder, args.dtype)
            found = scores(pairs, token_scores(pairs, model, tokenizer, args.batch), base(), args.k)
            whose = [side for side, part in sides.items() for _ in part]
            known[place] = [
                {"side": side, "question": question, "answer": answer, "scores": row}
                for side, (question, answer), row in zip(whose, pairs, found, strict=True)
            ]
            if broken := next((row for row in found if not all(map(math.isfinite, row.values()))), None):
                fail(f"{folder}: its scores are no numbers ({broken})")
        return known[place]

    for folder, out in progress(runs, desc="membership", unit="model"):
        inputs = inputs_for(folder)
        summary = finished(out, inputs)
        if summary is None:
            items, settings = items_of(folder), Namespace(**{**vars(args), "model": folder, "out": out})
            summary = summarise(items, retrained())
            write_results(out, summary, items, settings, files, inputs)
        told = {name: value for name, value in summary.items() if name.startswith(("AUC", "privleak"))}
        print(folder, *(f"{name} {value:.3g}" for name, value in told.items() if value is not None), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
