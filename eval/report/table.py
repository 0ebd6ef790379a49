"""The table: a row a model; the best and the worst of the unlearned ones marked."""

import math

from report.columns import ALL, COLUMNS, REFERENCE
from report.page import Cell, Part, details, table


def cell_text(row: dict, key: str, form: str) -> str:
    """A number as the table shows it, with its deviation over seeds where there are several."""
    if row.get(key) is None:
        return "–"
    return format(row[key], form) + (f" ± {format(row[f'{key}_sd'], form)}" if f"{key}_sd" in row else "")


def best_and_worst(rows: list[dict], key: str, heading: str, form: str) -> dict[str, str]:
    """{model: "best" or "worst"} among the unlearned models, where better has a direction.

    What is equal to the digits shown is equal.
    """
    better = {"↑": lambda value: value, "↓": lambda value: -value, "0": lambda value: -abs(value)}.get(heading[-1])
    unlearned = [row for row in rows if row["model"] not in REFERENCE]
    known = [row for row in unlearned if row.get(key) is not None and math.isfinite(row[key])]
    if not better or not known:
        return {}
    best, worst = (format(pick(known, key=lambda row: better(row[key]))[key], form) for pick in (max, min))
    return {
        row["model"]: mark
        for row in known
        for mark, text in (("worst", worst), ("best", best))
        if format(row[key], form) == text and best != worst
    }


def short_table(rows: list[dict]) -> str:
    """The table alone, in Markdown; the best of the unlearned models in bold."""
    best = {key: best_and_worst(rows, key, heading, form) for key, heading, form, _ in COLUMNS}
    headings = [column.heading for column in COLUMNS]
    lines = ["| model | " + " | ".join(headings) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        cells = [row["model"]]
        for key, _, form, _ in COLUMNS:
            text = cell_text(row, key, form)
            cells.append(f"**{text}**" if best[key].get(row["model"]) == "best" else text)
        lines.append("| " + " | ".join(cells) + " |")
    notes = "; ".join(f"{column.heading.rstrip(' ↑↓')}: {column.meaning}" for column in COLUMNS)
    return "\n".join(lines) + f"\n\n{notes}. Bold: best of the unlearned models. F: forget set, R: retain set.\n"


def table_section(rows: list[dict]) -> list[Part]:
    """The table with every column that any model has, and what the columns mean."""
    columns = [column for column in ALL if any(row.get(column.key) is not None for row in rows)]
    marks = {key: best_and_worst(rows, key, heading, form) for key, heading, form, _ in columns}
    body = []
    for row in rows:
        cells = [Cell(row["model"], note=f"{row['seeds']} seeds" if "seeds" in row else "")]
        for key, _, form, _ in columns:
            note = "[{:.2f}, {:.2f}]".format(*row[f"{key}_95"]) if f"{key}_95" in row else ""
            cells.append(Cell(cell_text(row, key, form), row.get(key), note, marks[key].get(row["model"], "")))
        body.append(cells)
    spread = " ± is the sample standard deviation over seeds." if any("seeds" in row for row in rows) else ""
    caption = (
        "A row a model. Arrows say which way is better; best and worst are marked among the unlearned models, so "
        "without vanilla (before unlearning) and retrained (made again without the forget set). Brackets: interval "
        f"that holds the true share in 95 of 100 repetitions, other questions being asked.{spread}"
    )
    header = ["model", *((column.heading, column.meaning) for column in columns)]
    meanings = table(
        "F: forget set, what should go; R: retain set, what should stay.",
        ["column", "meaning"],
        [[column.heading, column.meaning] for column in columns],
    )
    return [table(caption, header, body, sortable=True), details("What the columns mean", meanings)]
