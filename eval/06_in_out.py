"""The in- vs. out-of-distribution study (Baluta et al. 2024, arXiv:2411.04388): exposure and utility while a model
unlearns.

Reads the curves that scripts/40_in_out.py wrote for both forget sets, and for each the log-probabilities of its answers
under the vanilla and the retrained model (eval/05_exposure.py). Draws exposure and utility over the updates, one
against the other, and the forget sets' halves by memorisation (log p under vanilla - under retrained) and by difficulty
(NLL under retrained). The paper's findings to check: canaries need more updates, yet cost less utility; facts of the
training distribution cost utility at once.
"""

import math
from argparse import Namespace
from pathlib import Path

from lib.exposure import generalized_exposure, log_mean_exp, relative_exposure
from lib.files import fail, mean, read_object, write_results
from lib.flags import Parser
from lib.plots import BLUE, VERMILION, pyplot, write_figure
from lib.rouge import rouge_scorer

NAMES = {"id": "in distribution", "ood": "out of distribution"}
STYLES = {  # told apart without red and green
    "id": {"color": BLUE, "marker": "o", "markersize": 4},
    "ood": {"color": VERMILION, "marker": "s", "markersize": 4},
}
HALVES = ("low", "high")


def read_fields(path: str, what: str, fields: list[str]) -> dict:
    """A JSON file that holds `fields`; what: what it should be, for the fault's line."""
    found = read_object(path)
    return found if all(found.get(field) for field in fields) else fail(f"{path}: not {what}")


def per_token(pairs: list) -> list[float]:
    """[[nats, tokens], ...] → nats a token."""
    return [nats / tokens for nats, tokens in pairs]


def follow(points: list, reference: list, answered: dict) -> list[dict]:
    """Exposures and utility at each point: {"update", "GenEx", "RelEx" (bits a token, a number an answer),
    "retain_nll", "generic_nll" (nats a token), "retain_rouge", "generic_rouge" (mean ROUGE-L recall of the answers,
    None where none was asked for)}.

    reference: for each answer its log p under the retrained models, nats a token, a list of seeds. answered: the true
    answers, {"retain", "generic"}.
    """
    curve, scorer = [], rouge_scorer("rougeL")
    rouge = lambda true, given: (
        mean(scorer.score(*pair)["rougeL"].recall for pair in zip(true, given, strict=True)) if true else None
    )
    for point in points:
        ours, fresh = per_token(point["forget"]), per_token(point["fresh"])
        curve.append(
            {
                "GenEx": [generalized_exposure([value], seeds) for value, seeds in zip(ours, reference, strict=True)],
                "RelEx": [relative_exposure(value, fresh) for value in ours],
                **{name: point[name] for name in ("update", "retain_nll", "generic_nll")},
                **{f"{name}_rouge": rouge(true, point[f"{name}_answers"]) for name, true in answered.items()},
            }
        )
    return curve


def average(values: list[float], rows: set | None = None) -> float:
    """Mean over the chosen rows, or over all."""
    return mean(value for row, value in enumerate(values) if rows is None or row in rows)


def forgotten_at(curve: list[dict], rows: set | None = None, measure: str = "GenEx") -> int | None:
    """The first update at which the mean exposure of these answers (all by default) is 0 or less; None where it never
    is.
    """
    for point in curve:
        if average(point[measure], rows) <= 0:
            return point["update"]


def halves(values: list[float]) -> tuple[set, set]:
    """(rows of the lower half, rows of the upper half) of values; where the count is odd the middle one is in the
    upper.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    return set(order[: len(order) // 2]), set(order[len(order) // 2 :])


def at_zero(curve: list[dict], name: str) -> float | None:
    """The value of `name` where the mean GenEx passes 0, between the points on both sides of it; None where it never
    does.

    Points are apart, and just there one of them may be far below 0: compared at the points, the coarser curve would
    look the dearer. An NLL rises by a factor at each update of gradient ascent, so that it is interpolated as its
    logarithm.
    """
    exposure = [mean(point["GenEx"]) for point in curve]
    if exposure[0] <= 0:
        return curve[0][name]  # as forgotten_at has it, even if exposure rises and falls again
    for one, two, before, after in zip(curve, curve[1:], exposure, exposure[1:]):
        if after <= 0 < before:
            share = before / (before - after)
            low, high = (math.log(max(point[name], 1e-9)) for point in (one, two))
            return math.exp((1 - share) * low + share * high)


def describe(curve: list[dict], splits: dict) -> dict:
    """What the curve of one forget set says, in numbers; `when_forgotten` is at_zero's moment, ROUGE's is the first
    point at 0 or less.
    """
    first, at = curve[0], forgotten_at(curve)
    then = next((point for point in curve if point["update"] == at), None)
    rise = lambda name, value: None if value is None else value - first[name]  # nats a token
    return {
        "exposure_before": mean(first["GenEx"]),
        "relative_exposure_before": mean(first["RelEx"]),
        "updates_to_forget": at,
        "updates_to_forget_by_RelEx": forgotten_at(curve, measure="RelEx"),
        **{f"{name}_rise_when_forgotten": rise(name, at_zero(curve, name)) for name in ("retain_nll", "generic_nll")},
        "retain_nll_rise_at_first_point": rise("retain_nll", curve[1]["retain_nll"]) if len(curve) > 1 else None,
        "retain_rouge_before": first["retain_rouge"],
        "retain_rouge_when_forgotten": then and then["retain_rouge"],
        "updates": curve[-1]["update"],
        **{
            f"updates_to_forget_{split}_{half}": forgotten_at(curve, rows) if rows else None
            for split, parts in splits.items()
            for half, rows in zip(HALVES, parts)
        },
    }


def findings(one: dict, other: dict) -> dict:
    """The paper's findings as far as two curves tell: None where a set was not forgotten within its updates."""
    larger = lambda left, right: None if None in (left, right) else left > right
    both = None not in (one["updates_to_forget"], other["updates_to_forget"])
    lost, at_once = "retain_nll_rise_when_forgotten", "retain_nll_rise_at_first_point"
    return {
        "ood_needs_more_updates": larger(other["updates_to_forget"], one["updates_to_forget"]),
        "ood_loses_less_utility": other[lost] < one[lost] if both else None,
        "id_loses_more_utility_at_once": larger(one[at_once], other[at_once]),
    }


# ---------------------------------------------------------------- figure


def _column(curve, name):
    return [point[name] for point in curve]


def _bits(curve, rows=None, name="GenEx"):
    """Mean exposure at each point, of some of the answers or of all."""
    return [average(point[name], rows) for point in curve]


def _draw_set(axes, name, curve, split):
    """One forget set's lines in all six panels."""
    exposure, memorised, difficult, utility, answered, trade = axes.flat
    at, style, short = _column(curve, "update"), STYLES[name], name.upper()
    dashed = {**style, "linestyle": "--"}
    exposure.plot(at, _bits(curve), label=f"{short}, generalized", **style)
    exposure.plot(at, _bits(curve, name="RelEx"), label=f"{short}, relative", **dashed)
    for panel, measure in ((utility, "nll"), (answered, "rouge")):
        if curve[0][f"retain_{measure}"] is not None:
            panel.plot(at, _column(curve, f"retain_{measure}"), label=f"{short}, retain set", **style)
            panel.plot(at, _column(curve, f"generic_{measure}"), label=f"{short}, general knowledge", **dashed)
    trade.plot(_bits(curve), _column(curve, "retain_nll"), label=NAMES[name], **style)
    for panel, parts in ((memorised, split["memorisation"]), (difficult, split["difficulty"])):
        for half, rows, line in zip(HALVES, parts, (dashed, style), strict=True):
            if rows:
                panel.plot(at, _bits(curve, rows), label=f"{short}, {half}", **line)


def _label(axes, top):
    """Titles and limits; top: the largest mean exposure."""
    exposure, memorised, difficult, utility, answered, trade = axes.flat
    exposure.set(title="Exposure")
    memorised.set(title="By memorisation (halves, under vanilla)")
    difficult.set(title="By difficulty (halves, under retrained)")
    for panel in (exposure, memorised, difficult):
        panel.axhline(0, color="#555555", linewidth=0.8)
        panel.set(xlabel="updates", ylabel="bits a token (0: unlearned)", ylim=(-2 * top, 1.2 * top))
    trade.axvline(0, color="#555555", linewidth=0.8)
    trade.set(title="Utility against exposure (time runs to the right)", xlim=(1.2 * top, -2 * top))
    trade.set(xlabel="generalized exposure, bits a token", ylabel="NLL of retain pairs, nats a token")
    utility.set(title="Utility: NLL (lower is better)", xlabel="updates", ylabel="nats a token")
    answered.set(title="Utility: ROUGE-L recall (higher is better)", xlabel="updates", ylim=(-0.02, 1.02))
    for panel in (utility, trade):
        if panel.get_ylim()[1] > 20:  # after a collapse the NLL has no bound
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
    for panel in axes.flat:
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)


def draw(curves: dict, splits: dict, path: Path):
    """Six panels, exposure above and utility below; exposure axes end where it is twice as far below 0 as it began
    above.
    """
    figure, axes = pyplot().subplots(2, 3, figsize=(14, 8))
    for name, curve in curves.items():
        _draw_set(axes, name, curve, splits[name])
    values = (value for curve in curves.values() for value in _bits(curve) + _bits(curve, name="RelEx"))
    _label(axes, max(0.1, *values))
    figure.suptitle(
        "Gradient ascent on facts drawn from the training data (ID) and on canaries (OOD), from one vanilla model that "
        "learnt both"
    )
    write_figure(path, figure)


# ---------------------------------------------------------------- one forget set


def read_set(curve_file: str, exposure_file: str) -> tuple[list, list, dict]:
    """(points of the curve, items of 05_exposure.py's results, true answers of retain set and general knowledge)."""
    found = read_fields(curve_file, "a curve of 40_in_out.py", ["points", "references"])
    known = read_fields(exposure_file, "a results file of 05_exposure.py", ["items"])["items"]
    points = found["points"]
    if not isinstance(known, list) or not all(isinstance(item, dict) and "tokens" in item for item in known):
        fail(f"{exposure_file}: not a results file of 05_exposure.py")
    asked = found["references"] if isinstance(found["references"], dict) else {}
    wanted = {"update", "forget", "fresh", "retain_nll", "generic_nll", *(f"{name}_answers" for name in asked)}
    whole = lambda point: isinstance(point, dict) and wanted <= point.keys() and point["forget"]
    if not isinstance(points, list) or not points or not all(map(whole, points)):
        fail(f"{curve_file}: not a curve of 40_in_out.py")
    if not all(item.get("logprob_reference") for item in known):
        fail(f"{exposure_file}: has no reference models; run 05_exposure.py with --reference")
    if [tokens for _, tokens in points[0]["forget"]] != [item["tokens"] for item in known]:
        fail(f"{curve_file} and {exposure_file} are not of the same forget set")
    return points, known, found["references"]


def study_set(name: str, points: list, known: list, references: dict) -> tuple[list, dict, list]:
    """One forget set, of what `read_set` gives: (its curve, its halves by memorisation and by difficulty, an item an
    answer).
    """
    reference = [[value / item["tokens"] for value in item["logprob_reference"]] for item in known]
    difficulty = [-log_mean_exp(seeds) for seeds in reference]
    vanilla = [log_mean_exp([value / item["tokens"] for value in item["logprob"]]) for item in known]
    memorisation = [ours + hard for ours, hard in zip(vanilla, difficulty, strict=True)]
    curve = follow(points, reference, references)
    items = [
        {
            "set": name,
            "question": item["question"],
            "answer": item["answer"],
            "memorisation": more,
            "difficulty": hard,
            "GenEx": [point["GenEx"][row] for point in curve],
            "RelEx": [point["RelEx"][row] for point in curve],
        }
        for row, (item, more, hard) in enumerate(zip(known, memorisation, difficulty, strict=True))
    ]
    return curve, {"memorisation": halves(memorisation), "difficulty": halves(difficulty)}, items


def parser() -> Parser:
    made = Parser(__doc__, files=lambda args: [Path(args.out, name) for name in ("in_out.json", "in_out.png")])
    for name, long in NAMES.items():
        made.add_argument(
            f"--{name}",
            required=True,
            nargs=2,
            metavar=("CURVE", "EXPOSURE"),
            help=f"{long}: curve.json of 40_in_out.py, and 05_exposure.py's results for vanilla with --reference",
        )
    made.add_argument("--out", required=True, help="folder for in_out.json and in_out.png")
    return made


def main(args: Namespace):
    curves, splits, items = {}, {}, []
    for name in NAMES:
        curves[name], splits[name], found = study_set(name, *read_set(*getattr(args, name)))
        items += found
    told = {name: describe(curves[name], splits[name]) for name in NAMES}
    means = {
        name: [{**point, "GenEx": mean(point["GenEx"]), "RelEx": mean(point["RelEx"])} for point in curve]
        for name, curve in curves.items()
    }
    shown, out = findings(told["id"], told["ood"]), Path(args.out)
    write_results(out / "in_out.json", {**shown, **told, "curves": means}, items, args, [*args.id, *args.ood])
    draw(curves, splits, out / "in_out.png")
    for name, part in told.items():
        print(NAMES[name], *(f"{key} {value:.4g}" for key, value in part.items() if value is not None), sep="  ")
    print("the paper's findings:", *(f"{key}: {value}" for key, value in shown.items()), sep="  ")


if __name__ == "__main__":
    main(parser().parse_args())
