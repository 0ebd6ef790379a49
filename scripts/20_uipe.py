"""UIPE (Wang et al. 2025, arXiv:2503.04693): extrapolates a finished method, θ = θ_u + α(θ_u - θ_v).

θ_u - θ_v is the method's adapter, so this is that adapter times 1 + α: exact, and without training. Of a method that
trained all weights (--full) it is the difference to the vanilla model's, which its training.json names; three models
are then in memory. The paper picks α by hand; --alpha auto takes the largest one with which the retain set's NLL (the
pairs to tune on) rises by at most --tolerance, from a grid and then by bisection, and leaves the search as uipe.json
and uipe.png in the folder.
"""

import math
import os
from pathlib import Path

from lib.batches import collate
from lib.criteria import tuned_on_asked
from lib.files import fail, new_folder, progress, read_object, record, write_json
from lib.flags import Parser, count, count_or_none, number, positive
from lib.formats import read_pairs
from lib.likelihood import nll
from lib.lora import beside_a_and_b, scale_adapter
from lib.models import encode_pairs, is_adapter, load_model, loading, save_model, stored_dtype
from lib.plots import pyplot, write_figure
from lib.trainer import data_file

import torch
from peft import PeftConfig


def largest_alpha(nll_of, tolerance, grid, bisections):
    """The largest α with nll_of(α) <= nll_of(0) + tolerance: up the grid to the first that fails, then between the two.

    Returns:
        (α, {α: NLL} of every one tried).
    """
    tried = {0.0: nll_of(0.0)}
    good, bad = 0.0, None
    for alpha in grid:
        tried[alpha] = nll_of(alpha)
        if not tried[alpha] <= tried[0.0] + tolerance:  # so that NaN fails
            bad = alpha
            break
        good = alpha
    for _ in range(bisections if bad is not None else 0):
        middle = (good + bad) / 2
        tried[middle] = nll_of(middle)
        good, bad = (middle, bad) if tried[middle] <= tried[0.0] + tolerance else (good, middle)
    return good, tried


def setting_of(folder, name):
    """A flag of a method's training, by its record; None where there is none."""
    path = Path(folder, "training.json")
    found = read_object(path).get("settings") if path.is_file() else None
    return found[name] if isinstance(found, dict) and isinstance(found.get(name), (str, bool)) else None


def vanilla_of(folder):
    """The model that a method's training of all weights started from."""
    return setting_of(folder, "model") or fail(
        f"{folder}: neither an adapter nor a training's folder (training.json); give a finished method's"
    )


def own_dtype(folder, dtype):
    """--dtype, of which auto is for full weights the one that they are stored in: rounded to bfloat16, they would lose
    part of the difference. An adapter joins its base's in float32, as it did in training.
    """
    if dtype != "auto":
        return dtype
    return "float32" if is_adapter(folder) else stored_dtype(folder)


def extrapolation(model, folder, dtype):
    """The function of α that makes the weights of the method's model θ_u + α(θ_u - θ_v)."""
    if hasattr(model, "peft_config"):
        now = 1.0

        def scale(alpha):
            nonlocal now
            scale_adapter(model, (1 + alpha) / now)
            now = 1 + alpha

        return scale
    vanilla = load_model(vanilla_of(folder), own_dtype(vanilla_of(folder), dtype))[0]
    if hasattr(vanilla, "peft_config"):
        vanilla = vanilla.merge_and_unload()
    weights, starts = dict(model.named_parameters()), dict(vanilla.named_parameters())
    if {name: one.shape for name, one in weights.items()} != {name: one.shape for name, one in starts.items()}:
        fail(f"{folder}: its weights have other shapes than those of {vanilla_of(folder)}, which it was trained from")
    ends = {name: weight.detach().clone() for name, weight in weights.items()}

    def move(alpha):
        with torch.no_grad():
            for name, weight in weights.items():
                end = ends[name].float()
                weight.copy_(end + alpha * (end - starts[name].float()))

    return move


def plot(tried, alpha, tolerance, path):
    figure, axes = pyplot().subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot(*zip(*sorted(tried.items())), "o-", color="#0072b2")
    axes.axhline(tried[0.0] + tolerance, color="#666666", linestyle="--")
    axes.annotate(
        "largest NLL allowed", (0, tried[0.0] + tolerance), (2, 3), textcoords="offset points", color="#444444"
    )
    axes.axvline(alpha, color="#d55e00")
    axes.set(xlabel=f"α (chosen: {alpha:g})", ylabel="NLL of the retain set, nats a token")
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(path, figure)


if __name__ == "__main__":
    parser = Parser(__doc__, folder="model")
    parser.add_argument("--model", required=True, help="the finished method's folder")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--alpha", default="auto", help="how far beyond the method, or auto (default)")
    parser.add_argument("--data", default="", help="folder made by 01_data.py (default: the method's, by its record)")
    parser.add_argument(
        "--retain-data", default="retain_tune.jsonl", help="auto: pairs to keep (default: retain_tune.jsonl in --data)"
    )
    parser.add_argument(
        "--tolerance",
        type=number(least=0),
        default=0.1,
        help="auto: largest rise of their NLL, nats a token (default: 0.1)",
    )
    parser.add_argument(
        "--grid",
        type=positive,
        nargs="+",
        default=[0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
        help="auto: rising values of α to try",
    )
    parser.add_argument(
        "--bisections", type=count_or_none, default=4, help="auto: halvings after the grid (default: 4)"
    )
    parser.add_argument("--batch", type=count, default=8)
    parser.add_argument("--max-length", type=count, default=512)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    dtype = args.dtype  # of an adapter's base, which is not changed
    if setting_of(args.model, "continue_adapter"):
        fail(
            f"{args.model}: goes on from an earlier adapter (--continue-adapter), and α would count from the base "
            "model: train the method on that adapter without the flag"
        )
    if not is_adapter(args.model):
        vanilla_of(args.model)
        dtype = own_dtype(args.model, args.dtype)
    else:
        with loading(args.model):
            settings = PeftConfig.from_pretrained(args.model)
        if odd := beside_a_and_b(settings):
            fail(f"{args.model}: an adapter with {odd} is more than B·A, which alone is extrapolated")
    try:
        given = None if args.alpha == "auto" else float(args.alpha)
    except ValueError:
        fail(f"--alpha must be auto or a number, not {args.alpha}")
    if given is not None and not math.isfinite(given):
        fail(f"--alpha must be auto or a number, not {args.alpha}")
    if args.grid != sorted(args.grid):
        fail("--grid holds rising values")

    args.data = args.data or setting_of(args.model, "data") or ""
    if given is None and not args.data and os.sep not in args.retain_data:
        fail(f"{args.model}: has no training.json that names its data: give --data")
    files = [] if given is not None else [data_file(args, args.retain_data)]
    pairs = [pair for path in files for pair in read_pairs(path)]
    model, tokenizer = load_model(args.model, dtype)
    model.eval()
    texts = [(pair["question"], pair["answer"]) for pair in pairs]
    rows, cut = encode_pairs(tokenizer, texts, args.max_length, args.retain_data)
    rows.sort(key=lambda row: len(row[0]))
    tokens = sum(len(ids) - prompt for ids, prompt in rows)
    batches = [
        collate(rows[at : at + args.batch], tokenizer.pad_token_id, tokens, device=model.device)
        for at in range(0, len(rows), args.batch)
    ]
    move = extrapolation(model, args.model, args.dtype)

    def nll_of(alpha):
        """NLL of the retain pairs at this α, in nats a token."""
        move(alpha)
        with torch.inference_mode():
            return sum(
                nll(model, batch).item()
                for batch in progress(batches, desc=f"alpha {alpha:g}", unit="batch", leave=False)
            )

    alpha, tried = (
        (given, {}) if given is not None else largest_alpha(nll_of, args.tolerance, args.grid, args.bisections)
    )
    move(alpha)
    with new_folder(args.out) as partial:
        save_model(model, tokenizer, partial)
        write_json(
            partial / "uipe.json",
            {
                "alpha": alpha,
                "tried": [{"alpha": at, "nll": value} for at, value in sorted(tried.items())],
                **({"tuned_on_asked": tuned_on_asked(args.data, files[0])} if files else {}),
                "cut": cut,
                **record(args, [*files, *sorted(Path(args.model).glob("*.safetensors"))]),
            },
        )
        if tried:
            plot(tried, alpha, args.tolerance, partial / "uipe.png")
    print(f"wrote {args.out}: alpha {alpha:g}")
