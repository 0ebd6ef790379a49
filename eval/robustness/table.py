"""KFR before and under every attack: the table, with the changes that the paper found beside ours, and the figure."""

from pathlib import Path

from lib.plots import INK, pyplot, style, write_figure

from robustness.attacks import lowest

PUBLISHED = {  # KFR before and after, KnowUnDo, Llama-2-7b-chat (paper_tables.json; GA and NPO there are +GDR+SURE)
    "GA": {"bfloat16": (0.93, 0.84), "role-play": (1.00, 0.95)},
    "NPO": {"bfloat16": (0.88, 0.72), "role-play": (0.99, 0.90)},
    "ReLearn": {"bfloat16": (0.72, 0.73), "role-play": (0.87, 0.93)},
}
COMPARED = (
    ("bfloat16", "float16", "float16 → bfloat16"),
    ("role-play", None, "role play"),
)  # attack, before it, heading


# ---------------------------------------------------------------- table


def _lines(heads, rows):
    """A Markdown table. heads: of the columns but the first, "model". rows: {name: cells}."""
    lines = ["| model | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def _cells(row):
    curves, benign = list(row["relearning"].values()), list(row["benign"].values())
    before = [curves[0]["0"]] if curves else []
    values = [row["KFR"], row["leak"], *row["attacks"].values(), *before, *map(lowest, curves + benign)]
    by_fact = "–" if row["worst_KFR_by_fact"] is None else f"{row['worst_KFR_by_fact']:.2f}"
    worst = [f"{row['worst_KFR']:.2f}", row["worst_attack"], by_fact, f"{row['worst_leak']:.2f}"]
    return [*(f"{value:.2f}" for value in values), *worst]


def _notes(row, words):
    """What the columns mean. words: of the answer given at most, under "prefix"."""
    text = (
        f"KFR: share of the {row['questions']} forget questions whose fact is no longer told; under an attack, the "
        f"same again. prefix: the answer begins with up to {words} of the true answer's words, and only what follows "
        "is judged. "
    )
    if row["relearning"]:
        updates = list(next(iter(row["relearning"].values())))[1:]
        text += (
            f"relearnt N: N forget pairs were learnt again, and the {row['relearning_questions']} others asked after "
            f"{', '.join(updates)} updates, the lowest counting; before: those others, untouched. "
        )
    if row["benign"]:
        text += f"benign: the same with {next(iter(row['benign']))} pairs that are not to be forgotten. "
    text += (
        "leak: share of the answers that state a private value whole. Over the questions that every attack asks: "
        "worst, the lowest KFR, and by what; by fact, the share of facts that none brings back; worst leak, the "
        "highest. "
    )
    return text + "What damages a model raises its KFR too: read each row beside vanilla's.\n"


def _change(before, after):
    return f"{100 * (after / before - 1):+.1f} %" if before else "-"


def _published(rows, attacks):
    """Changes of KFR beside the paper's, for the methods and attacks that it tried; else an empty text."""
    tried = [case for case in COMPARED if case[0] in attacks and (case[1] is None or case[1] in attacks)]
    body = {}
    for name, row in rows.items():
        if published := PUBLISHED.get(name.split("+")[0]):
            body[name] = []
            for attack, start, _ in tried:
                before = row["attacks"][start] if start else row["KFR"]
                body[name] += [_change(before, row["attacks"][attack]), _change(*published[attack])]
    if not tried or not body:
        return ""
    heads = [head for *_, title in tried for head in (title, "published")]
    return (
        "\nChange of KFR, and what ReLearn's paper found (KnowUnDo, Llama-2-7b-chat, AIM; its GA and NPO are "
        f"+GDR+SURE):\n\n{_lines(heads, body)}\n"
    )


def markdown(rows: dict[str, dict], words: int) -> str:
    """The table as Markdown.

    Args:
        rows: {model's name: summary}, as `summarise` gives it. words: of the true answer given at most, under "prefix".
    """
    first = next(iter(rows.values()))
    relearnt = [f"relearnt {count}" for count in first["relearning"]]
    relearnt += ["benign"] * len(first["benign"])
    others = ["others, before"] if relearnt else []
    heads = ["KFR ↑", "leak ↓", *first["attacks"], *others, *relearnt, "worst ↑", "by", "by fact ↑", "worst leak ↓"]
    table = _lines(heads, {name: _cells(row) for name, row in rows.items()})
    return f"{table}\n\n{_notes(first, words)}{_published(rows, first['attacks'])}"


# ---------------------------------------------------------------- figure


def _draw_attacks(panel, rows):
    """A line a model, from its KFR (black bar) to each attack's."""
    for line, row in enumerate(rows.values()):
        label = {} if line else {"label": "no attack"}
        values = [row["KFR"], *row["attacks"].values()]
        panel.plot([min(values), max(values)], [line, line], color="#cccccc", linewidth=1, zorder=0)
        panel.plot([row["KFR"]] * 2, [line - 0.36, line + 0.36], color=INK, linewidth=3, **label)
        for at, (name, value) in enumerate(row["attacks"].items()):
            # a place of its own above or below the line, so that equal values do not cover each other
            place = line + (at - (len(row["attacks"]) - 1) / 2) * 0.64 / max(1, len(row["attacks"]) - 1)
            colour, marker, _ = style(at)
            shape = {"markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
            label = {} if line else {"label": name}
            panel.plot(value, place, marker, color=colour, **shape, **label)
    panel.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5), xlim=(-0.03, 1.03))
    panel.set(xlabel="KFR: forget facts no longer told →", title="KFR before and under each attack")


def _draw_relearning(panel, rows, kind, count):
    """A line a model: KFR of the other facts while `count` pairs are learnt, forgotten ones or others (kind)."""
    for at, (name, row) in enumerate(rows.items()):
        curve = row[kind][count]
        updates = [int(update) for update in curve]
        colour, marker, _ = style(at)
        line = {"linestyle": ("-", "--")[at // 7 % 2], "markersize": 5, "linewidth": 1.3}
        panel.plot(updates, list(curve.values()), color=colour, marker=marker, label=name, **line)
    what = "learnt again" if kind == "relearning" else "of others learnt"
    panel.set(title=f"{count} pair{'s' if count != '1' else ''} {what}", xlabel="updates")
    panel.set(ylim=(-0.03, 1.03), xticks=updates)


def draw(rows: dict[str, dict], path: Path):
    """The figure. Left: a line a model from its KFR to each attack's. Right: the other facts while a few are learnt
    again.
    """
    first = next(iter(rows.values()))
    counts = [(kind, count) for kind in ("relearning", "benign") for count in first.get(kind, ())]
    size = 7.5 + 3 * len(counts), 1.8 + max(3.2, 0.62 * len(rows))  # inches
    widths = [2.2] + [1] * len(counts)
    figure, axes = pyplot().subplots(1, 1 + len(counts), figsize=size, squeeze=False, width_ratios=widths)
    before, *after = axes[0]
    _draw_attacks(before, rows)
    figure.legend(*before.get_legend_handles_labels(), fontsize=8, ncols=10, loc="outside lower left")
    for which, panel in zip(counts, after, strict=True):
        _draw_relearning(panel, rows, *which)
    if after:
        after[0].set_ylabel("KFR of the other forget facts")
        after[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    write_figure(path, figure)
