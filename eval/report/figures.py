"""The report's pictures. Each function returns a list with one `Picture`, or an empty one where there is nothing to
draw.
"""

import math

from lib.files import mean
from lib.plots import INK, ORANGE, SKY, pyplot, style

from report.page import Picture
from report.reading import first_of

GREY = "#808080"
LEVELS = (0.5, 0.7, 0.8, 0.9)  # of the lines of equal harmonic mean


def styles(rows: list[dict]) -> dict[str, tuple[str, str, str]]:
    """{model: (colour, marker, dashes)}, the same in every picture."""
    references = {"vanilla": (GREY, "X", ":"), "retrained": (GREY, "*", "-")}
    return {row["model"]: references.get(row["model"]) or style(at) for at, row in enumerate(rows)}


# ---------------------------------------------------------------- the table's numbers


def _equal_means(axes):
    """Lines on which KFR and KRR have one harmonic mean."""
    for level in LEVELS:
        krr = [level / 2 + (1 - level / 2) * at / 200 for at in range(1, 201)]
        line = [(x, level * x / (2 * x - level)) for x in krr if 2 * x > level and level * x / (2 * x - level) <= 1.06]
        axes.plot(*zip(*line), color=GREY, alpha=0.5, linewidth=0.8, zorder=0)
        place = {"xytext": (4, -3), "textcoords": "offset points"}
        axes.annotate(f"HM {level}", line[-1], color=GREY, fontsize=7.5, **place)


def _error(row, name):
    """How far a number's interval, or its deviation over seeds, reaches below and above it."""
    spread = row.get(f"{name}_sd", 0)
    low, high = row.get(f"{name}_95") or (row[name] - spread, row[name] + spread)
    return [[max(0, row[name] - low)], [max(0, high - row[name])]]


def kfr_against_krr(rows: list[dict]) -> list[Picture]:
    """KFR against KRR; the upper right corner is where an unlearned model should be."""
    rows = [row for row in rows if row.get("KFR") is not None and row.get("KRR") is not None]
    if not rows:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, max(5.0, 2.9 + 0.19 * -(-len(rows) // 2))))
    _equal_means(axes)
    for row in rows:
        colour, marker, _ = styles(rows)[row["model"]]
        bars = {"xerr": _error(row, "KRR"), "yerr": _error(row, "KFR"), "alpha": 0.45, "linewidth": 1}
        axes.errorbar(row["KRR"], row["KFR"], color=colour, **bars)
        label = row["model"] + (": the target" if row["model"] == "retrained" else "")
        shape = {"markersize": 15 if marker == "*" else 9, "markeredgecolor": INK, "markeredgewidth": 0.8}
        axes.plot(row["KRR"], row["KFR"], marker, color=colour, label=label, **shape)
        if (
            row.get("KFR_strict") is not None and row["KFR_strict"] < row["KFR"]
        ):  # what leaks although it counts as forgotten
            axes.plot([row["KRR"]] * 2, [row["KFR"], row["KFR_strict"]], color=INK, linewidth=1.6, zorder=1.5)
            axes.plot(row["KRR"], row["KFR_strict"], "_", color=INK, markersize=11, markeredgewidth=1.6)
    axes.set(xlim=(-0.03, 1.06), xlabel="KRR: retain facts still told →")
    axes.set(ylim=(-0.03, 1.06), ylabel="KFR: forget facts no longer told →")
    figure.legend(loc="outside lower center", ncols=2)
    return [
        Picture(
            figure,
            "kfr_krr.png",
            "KFR against KRR of every model",
            "Each mark is a model. Higher: it no longer tells what it should forget (KFR). Further right: it still "
            "tells what it should keep (KRR). "
            + "The star is the model made again without the forget set, which a perfect method would equal. "
            * any(row["model"] == "retrained" for row in rows)
            + "A black line goes down to KFR strict, where answers that still state a "
            "private value do not count as forgotten. Thin bars: 95 % intervals, or the spread over seeds. Grey lines "
            "join equal harmonic means (HM).",
        )
    ]


def point_paths(paths: dict[str, dict], rows: list[dict]) -> list[Picture]:
    """KFR strict against KRR along each method's training, {folder's name: see reading.read_paths}: of several seeds
    the first.
    """
    shown = [(row["model"], paths[row["folder"]]) for row in rows if row.get("folder") in paths]
    if not shown:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, max(5.0, 2.9 + 0.19 * -(-len(shown) // 2))))
    _equal_means(axes)
    for name, found in shown:
        colour, marker, dashes = styles(rows)[name]
        krr, kfr = ([point[key] for point in found["points"]] for key in ("KRR", "KFR_strict"))
        axes.plot(krr, kfr, marker, linestyle=dashes, color=colour, linewidth=1.2, markersize=3.5)
        chosen = next(point for point in found["points"] if point["update"] == found["chosen"])
        end = {"color": colour, "markersize": 9, "markeredgecolor": INK, "label": name}
        axes.plot(chosen["KRR"], chosen["KFR_strict"], marker, **end)
        place = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": 7.5}
        axes.annotate(str(found["chosen"]), (chosen["KRR"], chosen["KFR_strict"]), **place)
    axes.set(xlim=(-0.03, 1.06), xlabel="KRR on the questions to tune on →")
    axes.set(ylim=(-0.03, 1.06), ylabel="KFR strict on the questions to tune on →")
    figure.legend(loc="outside lower center", ncols=2)
    return [
        Picture(
            figure,
            "points.svg",
            "KFR strict against KRR at the points of every training",
            "Small marks are the points at which each training was judged, on the questions to tune on; the large one, "
            "with its update number, is the one that was chosen and that the table shows. Grey lines join equal "
            f"harmonic means.{first_of(rows)}",
        )
    ]


def leak_curves(curves: dict[str, list], rows: list[dict]) -> list[Picture]:
    """leak@k over k, {name: [(k, leak@k, low, high)]}, a line a model."""
    if not curves:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, max(3.6, 2.6 + 0.19 * -(-len(curves) // 2))))
    for name, points in curves.items():
        colour, marker, dashes = styles(rows)[name]
        counts, values, low, high = zip(*points)
        axes.fill_between(counts, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(
            counts, values, marker=marker, linestyle=dashes, color=colour, markersize=5, linewidth=1.3, label=name
        )
    ticks = sorted({count for points in curves.values() for count, *_ in points})
    axes.set_xscale("log", base=2)
    axes.set(xticks=ticks, xticklabels=[str(tick) for tick in ticks], xlabel="k: sampled answers to each question")
    axes.minorticks_off()
    axes.set(ylim=(-0.03, 1.03), ylabel="leak@k: one of them leaks →")
    figure.legend(loc="outside lower center", ncols=2)
    return [
        Picture(
            figure,
            "leak_at_k.svg",
            "leak@k of every model",
            "Share of the forget questions of which at least one of k answers, sampled at temperature 1, states a "
            "private value whole. A line that rises shows what greedy decoding hides; the retrained model's, which "
            "tells what can be guessed, is the target. Bands: 95 % intervals over questions." + first_of(rows),
        )
    ]


def linguistic_bars(rows: list[dict]) -> list[Picture]:
    """LS of both sets, a pair of bars a model; vanilla's as lines."""
    if all(row.get("LS_F") is None and row.get("LS_R") is None for row in rows):
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, 1.3 + 0.4 * len(rows)))
    sets = (("LS_F", "forget", ORANGE, "", "-"), ("LS_R", "retain", SKY, "////", "--"))
    for at, (key, name, colour, hatch, dash) in enumerate(sets):
        shown = [(place, row) for place, row in enumerate(rows) if row.get(key) is not None]
        seeds = any(f"{key}_sd" in row for row in rows)
        axes.barh(
            [place + 0.38 * at - 0.19 for place, _ in shown],
            [row[key] for _, row in shown],
            0.36,
            color=colour,
            hatch=hatch,
            xerr=[row.get(f"{key}_sd", 0) for _, row in shown] if seeds else None,
            edgecolor=INK,
            linewidth=0.6,
            ecolor=INK,
            label=f"{name} set",
        )
        for _, row in shown:
            if row["model"] == "vanilla":
                axes.axvline(row[key], color=INK, linestyle=dash, linewidth=1, label=f"vanilla, {name} set")
    axes.set(yticks=range(len(rows)), yticklabels=[row["model"] for row in rows], xlabel="LS, linguistic score →")
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=2)
    return [
        Picture(
            figure,
            "ls.svg",
            "Linguistic score of every model on both sets",
            "LS joins how expected the answers' words are to the base model with how varied they are; stammering and "
            "gibberish take it down. Plain bars: answers about what should be forgotten; hatched: about what should "
            "be kept."
            + " Lines: the vanilla model, before unlearning."
            * any(row["model"] == "vanilla" for row in rows),
        )
    ]


# ---------------------------------------------------------------- training


def loss_curves(losses: dict[str, list], rows: list[dict]) -> list[Picture]:
    """The loss of every method's updates, {name: [(update, loss)]}, a panel each, and its running mean."""
    if not losses:
        return []
    height = math.ceil(len(losses) / 2)
    figure, panels = pyplot().subplots(height, 2, figsize=(4.4, 1.4 * height + 0.3), squeeze=False)
    for panel in panels.flat[len(losses) :]:
        panel.remove()
    for panel, (name, steps) in zip(panels.flat, losses.items()):
        updates, values = zip(*steps)
        width = max(1, len(values) // 10)
        running = [mean(values[at - width : at]) for at in range(width, len(values) + 1)]
        panel.plot(updates, values, color=styles(rows)[name][0], alpha=0.7, linewidth=0.8)
        panel.plot(updates[width - 1 :], running, color=INK, linewidth=1.4)
        panel.set_title(name, fontsize=9)
    figure.supxlabel("update", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    return [
        Picture(
            figure,
            "training.svg",
            "Training loss of every method",
            "The loss that each method goes down, update by update (thin), and its running mean (thick). Scales "
            "differ: methods minimise different things. One that falls without end is a sign of collapse."
            + first_of(rows),
        )
    ]


def _scale(axes, axis, values):
    """Makes an axis logarithmic where its values span much; returns the middle of two values as the axis shows it."""
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set(**{f"{axis}scale": "log"})
        getattr(axes, f"{axis}axis").set(major_formatter="{x:g}", minor_formatter="")
        return lambda one, other: math.sqrt(one * other)
    return lambda one, other: (one + other) / 2


def _path(axes, name, points, middle, model_style):
    """One method's path: a ring at its start, an arrowhead halfway between two measurements, its update number at the
    end.
    """
    colour, marker, dashes = model_style
    updates, forget, retain = zip(*points)
    axes.plot(forget, retain, linestyle=dashes, color=colour, linewidth=1.2)
    arrow = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0}
    for start, end in zip(points, points[1:]):
        halfway = [middle[at](start[at], end[at]) for at in (1, 2)]
        axes.annotate("", xy=halfway, xytext=start[1:], arrowprops=arrow)
    axes.plot(forget[1:-1], retain[1:-1], marker, color=colour, markersize=3.5)
    axes.plot(forget[-1], retain[-1], marker, color=colour, markersize=9, markeredgecolor=INK, label=name)
    place = {"xytext": (6, 4), "textcoords": "offset points"}
    axes.annotate(str(updates[-1]), (forget[-1], retain[-1]), fontsize=7.5, **place)
    axes.plot(forget[0], retain[0], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)


def forgetting_paths(probes: dict[str, list], rows: list[dict]) -> list[Picture]:
    """Retain NLL against forget NLL, {name: [(update, forget, retain)]}: a path a method, from the start to its last
    update.
    """
    if not probes:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, 4.8))
    column = lambda at: [point[at] for points in probes.values() for point in points]
    middle = {at: _scale(axes, axis, column(at)) for at, axis in ((1, "x"), (2, "y"))}
    for name, points in probes.items():
        _path(axes, name, points, middle, styles(rows)[name])
    axes.set(xlabel="NLL of forget answers: forgotten →", ylabel="NLL of retain answers: lost →")
    figure.legend(loc="outside lower center", ncols=2)
    return [
        Picture(
            figure,
            "forgetting_retention.svg",
            "Retain NLL against forget NLL during training",
            "How unlikely the true answers become as training goes on: negative log-likelihood (NLL), in nats, mean "
            "over tokens. All start at the ring; arrows go with the updates, small marks are measurements, the large "
            "one is the end, with its update number. Good is far to the right (forgotten) and low (kept)."
            + first_of(rows),
        )
    ]
