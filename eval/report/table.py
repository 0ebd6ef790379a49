"""The table: a row a model; the highest of the unlearned, and those that no test tells apart from it, are marked."""

from lib.criteria import CRITERION

from report import comparison
from report.columns import ALL, COLUMNS, FURTHER
from report.page import Cell, Part, details, table


def cell_text(row: dict, key: str, form: str) -> str:
    """A number as the table shows it, with its deviation over seeds where there are several."""
    if row.get(key) is None:
        return "–"
    return format(row[key], form) + (f" ± {format(row[f'{key}_sd'], form)}" if f"{key}_sd" in row else "")


def budget(paths: dict[str, dict]) -> str:
    """How the methods' points were chosen and of how many, in two sentences.

    Args:
        paths: see reading.read_paths.
    """
    groups = {}
    for name, found in paths.items():
        groups.setdefault(tried(**found["budget"]), []).append(name)
    largest = max(groups, key=lambda group: len(groups[group]))
    others = [f"; {group} for {', '.join(names)}" for group, names in groups.items() if group != largest]
    asked = any(found.get("tuned_on_asked") for found in paths.values())
    on = "that this table asks, as the data has no others, which flatters it" if asked else "to tune on"
    return (
        f"Each method that is trained is at the point of its training with the best HM strict on the questions {on} "
        f"(HM strict: harmonic mean of KFR strict and KRR). Budget: {largest} a method{''.join(others)}."
    )


def tried(rates: int, points: int, points_a_rate: int = 1) -> str:
    """What a method's point was chosen among: every point of every rate, or points at the rate that was best."""
    count = lambda number, what: f"{number} {what}{'s' * (number != 1)}"
    if rates == 1 or points_a_rate == points:
        return f"{count(rates, 'rate')} × {count(points, 'point')}"
    how = "tried at the end of their trainings" if points_a_rate == 1 else f"tried at {points_a_rate} points each"
    return f"{rates} rates, {how}, then {count(points, 'point')} at the best"


def points_section(paths: dict[str, dict]) -> list[Part]:
    """Every point that the choice was among, a row each."""
    body = []
    for name, found in paths.items():
        for point in found["points"]:
            chosen, end = point["update"] == found["chosen"], found["points"][-1]["update"]
            numbers = [point[key] for key in ("KFR", "KFR_strict", "KRR", CRITERION)]
            cells = [Cell(format(number, ".2f"), number, mark="best" if chosen else "") for number in numbers]
            body.append(
                [name, Cell(f"{point['update']} of {end}", point["update"]), *cells, "chosen" if chosen else ""]
            )
    header = ["model", "update", "KFR", "KFR strict", "KRR", "HM strict", "chosen"]
    return [table(budget(paths), header, body)] if body else []


def short_table(rows: list[dict], tests: dict, paths: dict[str, dict] | None = None) -> str:
    """The table alone, in Markdown; in bold the best of the unlearned models.

    Args:
        tests: what `comparison.compare` found. paths: see reading.read_paths.
    """
    best = {key: comparison.best(rows, key, p_values) for key, p_values in tests.items()}
    shown = (*COLUMNS, *(one for one in FURTHER["kfr_krr"] if any(row.get(one.key) is not None for row in rows)))
    headings = [column.heading for column in shown]
    lines = ["| model | " + " | ".join(headings) + " |", "|---" * (len(shown) + 1) + "|"]
    for row in rows:
        cells = [row["model"]]
        for key, _, form, _ in shown:
            text = cell_text(row, key, form)
            cells.append(f"**{text}**" if row["model"] in best.get(key, ()) else text)
        lines.append("| " + " | ".join(cells) + " |")
    notes = "; ".join(f"{column.heading.rstrip(' ↑↓')}: {column.meaning}" for column in shown)
    holm = f"(p ≥ {comparison.LEVEL} after Holm's correction)"
    bold = f"Bold: the highest of the unlearned models, and those that a paired test does not tell apart from it {holm}"
    foot = f" {budget(paths)}" if paths else ""
    return "\n".join(lines) + f"\n\n{notes}. {bold}. F: forget set, R: retain set.{foot}\n"


def table_section(rows: list[dict], tests: dict, paths: dict[str, dict] | None = None) -> list[Part]:
    """The table with every column that any model has, what the columns mean, and which differences hold."""
    columns = [column for column in ALL if any(row.get(column.key) is not None for row in rows)]
    best = {key: comparison.best(rows, key, p_values) for key, p_values in tests.items()}
    body = []
    for row in rows:
        cells = [Cell(row["model"], note=f"{row['seeds']} seeds" if "seeds" in row else "")]
        for key, _, form, _ in columns:
            note = "[{:.2f}, {:.2f}]".format(*row[f"{key}_95"]) if f"{key}_95" in row else ""
            cells.append(
                Cell(cell_text(row, key, form), row.get(key), note, "best" if row["model"] in best.get(key, ()) else "")
            )
        body.append(cells)
    spread = " ± is the sample standard deviation over seeds." if any("seeds" in row for row in rows) else ""
    caption = (
        "A row a model. Arrows say which way is better. Best, in KFR, KFR strict, KRR and HM: the highest of the "
        "unlearned models (so without vanilla, before unlearning, and retrained, made again without the forget set), "
        "and those that a paired test over the same questions does not tell apart from it. Brackets: interval that "
        f"holds the true share in 95 of 100 repetitions, other questions being asked.{spread}"
        + (f" {budget(paths)}" if paths else "")
    )
    header = ["model", *((column.heading, column.meaning) for column in columns)]
    meanings = table(
        "F: forget set, what should go; R: retain set, what should stay.",
        ["column", "meaning"],
        [[column.heading, column.meaning] for column in columns],
    )
    parts = [table(caption, header, body, sortable=True), details("What the columns mean", meanings)]
    return parts + ([details("Which differences hold", differences(rows, tests))] if tests else [])


def differences(rows: list[dict], tests: dict) -> Part:
    """For each row, the rows that the tests do not tell apart from it."""
    names = [row["model"] for row in rows]
    body = [[name, *(", ".join(comparison.alike(tests[key], name)) or "none" for key in tests)] for name in names]
    caption = (
        "The rows that are alike: those not told apart by a paired test over the same questions, at p < "
        f"{comparison.LEVEL} after Holm's correction for all pairs of rows. Whatever is not "
        "named differs, or was asked other questions."
    )
    return table(caption, ["model", *(f"alike in {key.replace('_', ' ')}" for key in tests)], body)
