"""Which metrics can be believed? Every metric of the table on models that know the forget facts and on models that
never saw them (the meta-evaluation of open-unlearning, Dorna et al. 2025, arXiv:2506.12618).

Faithfulness  AUC = P(m > m') + P(m = m')/2 of a model that knows, m, and one that never saw, m': 1 tells all apart, 1/2
              none. Turned around, 1 - AUC, where knowing lowers the metric. Its interval: 2.5th and 97.5th percentile
              over draws of models with replacement, within each pool; p: the exact Mann-Whitney test, the share of all
              divisions of the models into two such pools whose AUC is as far from 1/2.
Robustness    of the same models stored in int4, or trained for an epoch on pairs that are not to be forgotten. Neither
              teaches or takes a fact, so a robust metric stays:
              moved = mean |after - before| / |mean of those that know - mean of those that never saw|: 0 where it
              stays, 1 where it moves as far as knowing moves it.
              Q = mean min(before / after, 1), open-unlearning's Eq. 3, of a metric from 0 to 1 that knowing raises,
              else of 1 - m: it counts only what seems to come back, and near 0 a single question decides it.

Open-unlearning's relearning, Eq. 2, min(rise of the retrained model / rise of the unlearned one, 1), learns the forget
facts themselves; here other pairs are learnt, and the right change is none, so that Q is taken there too. (Eq. 2 and 3
as the code of arXiv:2605.24614 states them; that paper also counts what seems to be lost.) The numbers come from the
metrics files alone, by the report's columns; those of the retain set are there to compare with: knowing should not
move them. A metric that some model of the pools lacks is left out, and named.
"""

import math
import random
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lib.files import fail, mean, write_results, write_text
from lib.flags import Parser, count
from lib.plots import BLUE, GREEN, INK, MARKERS, PINK, VERMILION, pyplot, write_figure
from lib.statistics import auc, wins

from report.columns import ALL, Column
from report.reading import Reader, read_model

SEED = 0  # of the bootstrap's draws


# ---------------------------------------------------------------- faithfulness


def auc_interval(know: Sequence[float], never: Sequence[float], draws: int) -> tuple[float, float]:
    """The middle 95 % of the AUC over draws of as many models with replacement from each pool."""
    rng, table = random.Random(SEED), wins(know, never)
    size = len(know) * len(never)
    found = []
    for _ in range(draws):
        columns = rng.choices(range(len(never)), k=len(never))
        rows = rng.choices(table, k=len(know))
        found.append(sum(row[at] for row in rows for at in columns) / size)
    found.sort()
    return found[int(0.025 * draws)], found[math.ceil(0.975 * draws) - 1]


def mann_whitney_p(know: Sequence[float], never: Sequence[float]) -> float:
    """Exact two-sided p-value, ties and all: the share of the ways to choose as many of the models as know whose sum of
    ranks is as far from its mean as theirs.
    """
    values = [*know, *never]
    ranks = [sum(2 * (other < one) + (other == one) for other in values) + 1 for one in values]  # twice the rank
    sums, middle = rank_sums(ranks, len(know)), len(know) * (len(values) + 1)  # the doubled sum's mean
    far = abs(sum(ranks[: len(know)]) - middle)
    return sum(number for total, number in sums.items() if abs(total - middle) >= far) / sum(sums.values())


def rank_sums(ranks: Sequence[int], count: int) -> dict[int, int]:
    """{sum of ranks: in how many ways `count` of the models have it}."""
    ways = Counter({(0, 0): 1})  # (models chosen, sum of their ranks): how many ways
    for rank in ranks:
        for (chosen, total), number in list(ways.items()):
            if chosen < count:
                ways[chosen + 1, total + rank] += number
    return {total: number for (chosen, total), number in ways.items() if chosen == count}


def useless_auc(know: int, never: int) -> float:
    """What the larger of AUC and 1 - AUC comes to for a metric that tells nothing: its mean over all divisions of
    different values into so many models."""
    sums = rank_sums(range(1, know + never + 1), know)
    areas = {total: (total - know * (know + 1) / 2) / (know * never) for total in sums}
    return sum(max(areas[total], 1 - areas[total]) * number for total, number in sums.items()) / sum(sums.values())


# ---------------------------------------------------------------- robustness


def moved(before: Sequence[float], after: Sequence[float], gap: float) -> float | None:
    """Mean |after - before| of the models, in units of the gap between the pools' means; None where there is none."""
    values = [abs(one - other) for one, other in zip(before, after, strict=True)]
    return mean(values) / abs(gap) if gap and all(map(math.isfinite, [*values, gap])) else None


def eq3(before: Sequence[float], after: Sequence[float], rises: bool) -> float | None:
    """Open-unlearning's Eq. 3, mean min(before / after, 1), 1 where nothing is there after; None for a metric that
    leaves [0, 1].

    Args:
        rises: whether knowing raises the metric; else 1 - value is taken.
    """
    if not all(0 <= value <= 1 for value in (*before, *after)):
        return None
    known = lambda value: value if rises else 1 - value
    pairs = [(known(one), known(other)) for one, other in zip(before, after, strict=True)]
    return mean(min(one / other, 1) if other else 1.0 for one, other in pairs)


# ---------------------------------------------------------------- reading


def pools(args: Namespace, reader: Reader) -> tuple[dict, dict, dict]:
    """({model: row} of those that know, of those that never saw, {change: {model: row}}), rows as the report's."""
    read = lambda folders: {Path(folder).name: read_model(Path(folder), reader).row for folder in folders}
    know, never = read(args.know), read(args.never)
    if len(know) < len(args.know) or len(never) < len(args.never) or know.keys() & never.keys():
        fail("--know and --never: two folders have one name; a model's name is its folder's")
    if min(len(know), len(never)) < 2:
        fail(f"--know and --never: an AUC needs two models in each pool, not {len(know)} and {len(never)}")
    changed, changes = read(args.changed), {}
    if len(changed) < len(args.changed):
        fail("--changed: two folders have one name; a model's name is its folder's")
    for name, row in changed.items():
        model, _, change = name.rpartition("-")
        if model not in know | never:
            fail(f"--changed {name}: must be named MODEL-CHANGE, as {next(iter(know))}-int4, after one of the pools")
        changes.setdefault(change, {})[model] = row
    return know, never, changes


def measured(rows: dict, key: str) -> bool:
    """Has every model a number under this key?"""
    return all(row.get(key) is not None and not math.isnan(row[key]) for row in rows.values())


def evaluate(column: Column, know: dict, never: dict, changes: dict, draws: int) -> dict:
    """What is found of one metric. know, never, changes: as `pools` gives them."""
    key = column.key
    one, other = ([row[key] for row in pool.values()] for pool in (know, never))
    area, gap = auc(one, other), mean(one) - mean(other)
    rises = area >= 0.5
    low, high = auc_interval(one, other, draws)
    robustness = {}
    for change, rows in changes.items():
        if measured(rows, key):
            before, after = zip(*(((know | never)[name][key], row[key]) for name, row in rows.items()))
            found = {"moved": moved(before, after, gap), "Q": eq3(before, after, rises)}
            robustness[change] = {**found, "models": len(rows)}
    return {
        "heading": column.heading,
        "know": mean(one),
        "never": mean(other),
        "knowing_raises": rises,
        "AUC": area if rises else 1 - area,
        "AUC_95": [low, high] if rises else [1 - high, 1 - low],
        "p": mann_whitney_p(one, other),
        "robustness": robustness,
    }


def order(found: dict) -> list[str]:
    """The metrics from the most faithful on; of equal ones the least moved first, and last where that is not known."""
    known = lambda value: math.inf if value is None else value
    worst = lambda row: max((known(part["moved"]) for part in row["robustness"].values()), default=math.inf)
    return sorted(found, key=lambda key: (-found[key]["AUC"], worst(found[key])))


# ---------------------------------------------------------------- table


def markdown(found: dict, know: int, never: int, draws: int, missing: list[str]) -> str:
    """The table, from the most faithful metric on. found: {key: what `evaluate` gives}; missing: headings left out."""
    changes = list(dict.fromkeys(change for row in found.values() for change in row["robustness"]))
    heads = ["metric", "mean, knows", "mean, never saw", "AUC [95 %]", "p"]
    heads += [f"moved, {change}" for change in changes] + [f"Q, {change}" for change in changes]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    number = lambda value, form=".2f": "–" if value is None else format(value, form)
    for key in order(found):
        row = found[key]
        parts = [row["robustness"].get(change, {}) for change in changes]
        cells = [row["heading"], f"{row['know']:.3g}", f"{row['never']:.3g}"]
        cells += ["{:.2f} [{:.2f}, {:.2f}]".format(row["AUC"], *row["AUC_95"]), number(row["p"], ".2g")]
        cells += [number(part.get(name)) for name in ("moved", "Q") for part in parts]
        lines.append("| " + " | ".join(cells) + " |")
    models = {change: max(row["robustness"][change]["models"] for row in found.values() if change in row["robustness"])
              for change in changes}  # fmt: skip
    note = (
        f"{know} models that know the forget facts, {never} that never saw them. AUC: chance that the metric tells one "
        "from the other, turned around where knowing lowers it, so that a metric of no use comes to "
        f"{useless_auc(know, never):.2f} on average; 95 %: {draws} draws of models (where all are apart every draw "
        "gives 1: read p, the exact Mann-Whitney test, beside it; not corrected for the number of metrics)."
    )
    if changes:
        after = " and ".join(f"after {change} ({models[change]} of them)" for change in changes)
        note += (
            f" moved: mean change of the models {after}, as a share of the difference of the two means; 0 is robust. "
            "Q: open-unlearning's Eq. 3, 1 is robust."
        )
    left = f" Left out, not measured for every model: {', '.join(missing)}." if missing else ""
    return "\n".join(lines) + f"\n\n{note}{left}\n"


# ---------------------------------------------------------------- figure


def _draw_models(panel, found, keys, know, never):
    """A dot a model on each metric's line, 0 the mean that never saw and 1 the mean that knows; a shape a form."""
    forms = list(dict.fromkeys(name.rpartition("-")[0] or name for name in (*know, *never)))
    for pool, colour, side in ((never, VERMILION, -1), (know, BLUE, 1)):
        for name, row in pool.items():
            form = name.rpartition("-")[0] or name
            xs = []
            for key in keys:
                gap = found[key]["know"] - found[key]["never"]
                place = (row[key] - found[key]["never"]) / gap if gap else 0.5
                xs.append(min(max(place, -1.0), 2.0) if math.isfinite(place) else 2.0)
            ys = [line + 0.17 * side for line in range(len(keys))]
            shape = {
                "marker": MARKERS[forms.index(form) % len(MARKERS)],
                "s": 22,
                "facecolor": "none",
                "edgecolor": colour,
            }
            label = {} if form in (text.get_label() for text in panel.collections) else {"label": form}
            panel.scatter(xs, ys, linewidth=0.9, **shape, **label)
    for place in (0, 1):
        panel.axvline(place, color=INK, linewidth=0.6, alpha=0.4, zorder=0)
    panel.set(
        xlim=(-1.1, 2.1), xticks=[0, 1], xticklabels=["never saw", "knows"], title="each model, between the means"
    )


def _draw_auc(panel, found, keys):
    for line, key in enumerate(keys):
        row = found[key]
        panel.plot(row["AUC_95"], [line, line], color=INK, linewidth=1.4)
        panel.plot(row["AUC"], line, "o", color=INK, markersize=5)
    panel.axvline(0.5, color=INK, linewidth=0.6, alpha=0.4, zorder=0)
    panel.set(xlim=(min(0.4, *(found[key]["AUC_95"][0] for key in keys)) - 0.02, 1.03), title="faithfulness: AUC, 95 %")


def _draw_moves(panel, found, keys):
    changes = list(dict.fromkeys(change for key in keys for change in found[key]["robustness"]))
    for at, change in enumerate(changes):
        points = [(found[key]["robustness"].get(change, {}).get("moved"), line) for line, key in enumerate(keys)]
        points = [(min(value, 1.5), line + 0.12 * (2 * at - 1)) for value, line in points if value is not None]
        if points:
            shape = {"color": (GREEN, PINK, INK)[at % 3], "markersize": 5}
            panel.plot(*zip(*points), MARKERS[at], label=change, **shape)
    panel.set(xlim=(-0.05, 1.55), xticks=[0, 0.5, 1, 1.5], xticklabels=["0", "0.5", "1", "≥ 1.5"])
    panel.set_title("robustness: moved, in gaps")
    if changes:
        panel.legend(fontsize=8, loc="upper right")


def draw(found: dict, know: dict, never: dict, path: Path):
    """A line a metric, the most faithful on top: the models, the AUC, and how far it moves."""
    keys = order(found)
    size = 11.5, 1.6 + 0.34 * len(keys)  # inches
    figure, (models, areas, moves) = pyplot().subplots(1, 3, figsize=size, sharey=True, width_ratios=[1.7, 1, 1])
    _draw_models(models, found, keys, know, never)
    _draw_auc(areas, found, keys)
    _draw_moves(moves, found, keys)
    models.set(yticks=range(len(keys)), yticklabels=[found[key]["heading"] for key in keys])
    models.set(ylim=(len(keys) - 0.4, -0.6))
    for panel in (models, areas, moves):
        panel.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    figure.legend(*models.get_legend_handles_labels(), fontsize=8, ncols=8, loc="outside lower left")
    write_figure(path, figure)


# ---------------------------------------------------------------- the whole


def written(args: Namespace) -> list[Path]:
    return [Path(args.out, f"meta_evaluation.{ending}") for ending in ("json", "md", "png")]


def parser() -> Parser:
    made = Parser(__doc__, files=written)
    made.add_argument("--know", required=True, nargs="+", metavar="FOLDER", help="metrics of models that know")
    made.add_argument("--never", required=True, nargs="+", metavar="FOLDER", help="of models that never saw the facts")
    made.add_argument(
        "--changed",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="of some of these models after a change that teaches and takes no fact, named MODEL-CHANGE",
    )
    made.add_argument("--out", required=True, help="folder for meta_evaluation.json, .md and .png")
    made.add_argument("--draws", type=count, default=10000, help="draws of models for the intervals (default: 10000)")
    return made


def main(args: Namespace):
    reader = Reader()
    know, never, changes = pools(args, reader)
    there = [column for column in ALL if any(row.get(column.key) is not None for row in (know | never).values())]
    used = [column for column in there if measured(know | never, column.key)]
    missing = [column.heading for column in there if column not in used]
    if not used:
        fail("--know and --never: there is no metric that all models have")
    found = {column.key: evaluate(column, know, never, changes, args.draws) for column in used}
    groups = [("know", know), ("never", never), *changes.items()]
    items = [
        {"pool": pool, "model": name, **{column.key: row.get(column.key) for column in used}}
        for pool, rows in groups
        for name, row in rows.items()
    ]
    table, (results, text, picture) = markdown(found, len(know), len(never), args.draws, missing), written(args)
    write_results(results, {"metrics": found, "left_out": missing}, items, args, reader.paths)
    write_text(text, table)
    draw(found, know, never, picture)
    for key in order(found):
        print(f"{key:24} AUC {found[key]['AUC']:.3f}  p {found[key]['p']:.2g}")


if __name__ == "__main__":
    main(parser().parse_args())
