"""The report: a row a model, pictures, answers side by side, and how to make it all again, as one HTML page and as Markdown.

report.html needs no network and nothing beside it; report.md is the same, with its pictures as files; table.json holds every row,
table.md the table alone, kfr_krr.png KFR against KRR. A section is there when what it shows is there. Folders NAME and NAME@SEED are
seeds of one model: tables and pictures show NAME once, mean ± sample standard deviation.
"""

import json
import math
import re
import shlex
import statistics
from pathlib import Path

from lib.files import REPOSITORY, fail, mean, record, write_bytes, write_text
from lib.flags import Parser, count_or_none

from page import INK, Cell, asked, code, details, look, page, paragraph, picture, pyplot, table

COLUMNS = (  # key, heading with the better direction, format, meaning
    ("KFR", "KFR ↑", ".2f", "share of the forget facts no longer told"),
    ("KRR", "KRR ↑", ".2f", "share of the retain facts still told"),
    ("HM", "HM ↑", ".2f", "harmonic mean of KFR and KRR"),
    ("ROUGE-L_F", "ROUGE-L F ↓", ".2f", "share of the true answers' wording that comes back, forget set"),
    ("ROUGE-L_R", "ROUGE-L R ↑", ".2f", "likewise, retain set"),
    ("PPL_F", "PPL F", ".4g", "perplexity of the answers under the base model, forget set"),
    ("LS_F", "LS F ↑", ".3f", "linguistic score: fluency and variety of the answers, forget set"),
    ("PPL_R", "PPL R", ".4g", "perplexity, retain set"),
    ("LS_R", "LS R ↑", ".3f", "linguistic score, retain set"),
    ("KFR_as_released", "KFR rel.", ".2f", "KFR as ReLearn's released code counts it"),
    ("KRR_as_released", "KRR rel.", ".2f", "KRR likewise"),
)
MORE = {  # metrics file that may be there: its columns
    "tofu": (
        (
            "forget_quality",
            "forget quality ↑",
            ".2g",
            "TOFU: chance that two models alike differ as much as this one and the retrained; "
            "above 0.05 they cannot be told apart",
        ),
        (
            "model_utility",
            "utility ↑",
            ".2f",
            "TOFU: harmonic mean of what is left on retain set, real authors and world facts",
        ),
        ("utility_of_sets_given", "utility of sets given ↑", ".2f", "TOFU's utility over the sets that were there"),
        (
            "forget_truth_ratio",
            "truth ratio F",
            ".3g",
            "TOFU: how likely false answers are beside the true one; 1 and above: the truth is no longer preferred",
        ),
    ),
    "exposure": (
        (
            "GenEx_per_token",
            "GenEx →0",
            ".2f",
            "exposure in bits a token, against models that never saw the forget set",
        ),
        ("RelEx_per_token", "RelEx →0", ".2f", "exposure in bits a token, against fresh examples that no model saw"),
    ),
    "memorization": (
        ("MEMO", "MEMO ↓", ".2f", "how much of an answer the model goes on with when given its beginning"),
        ("MA", "MA ↓", ".2f", "share of an answer's tokens guessed right, one by one"),
        ("EL", "EL ↓", ".2f", "share of an answer's word sequences that come back when given its beginning"),
    ),
    "robustness": (("worst_KFR", "worst KFR ↑", ".2f", "lowest KFR under the attacks tried"),),
    "judge": (
        ("fluency", "fluency ↑", ".2f", "1 to 5, from a judging language model"),
        ("relevance", "relevance ↑", ".2f", "likewise"),
        ("forgetting", "forgetting ↑", ".2f", "likewise"),
    ),
}
REFERENCE = ("vanilla", "retrained")  # not unlearned: the start, and exact unlearning's result
SIDES = {
    "forget": ("forgotten", "leak", "✓ forgotten", "✗ still told"),
    "retain": ("retained", "kept", "✓ still told", "✗ lost"),
}
AGREES = {"entailment": "agrees", "contradiction": "contradicts", "neutral": "neither"}
ITEM = ("side", "question", "reference", "answer", "reference_entities", "covered", "nli")
PUBLISHED = REPOSITORY / "data/published.json"
READ = []  # every file that went into the report, for its origin


# ---------------------------------------------------------------- reading


def read_json(path, *fields):
    """The object of a JSON file, None where there is no such file; one that lacks a field ends the program."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        fail(f"{path}: {error.strerror if isinstance(error, OSError) else 'not valid JSON'}")
    if not isinstance(found, dict):
        fail(f"{path}: the file must be an object")
    for field, kind in fields:
        if not isinstance(found.get(field), kind):
            fail(f'{path}: field "{field}" must be {"a list" if kind is list else "an object"}')
    READ.append(path)
    return found


def number(place, found, field):
    """A field that must be a number or absent."""
    value = (
        found.get(field)
        if isinstance(found, dict)
        else fail(f"{place}: expected an object, found {type(found).__name__}")
    )
    if value is None or isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    fail(f'{place}: field "{field}" must be a number')


def series(path, found, field, *names):
    """A list of objects in a file as tuples of the numbers named; empty where the file lacks it."""
    rows = [
        tuple(number(f"{path}: {field} {at}", row, name) for name in names)
        for at, row in enumerate(found.get(field) or [], 1)
    ]
    if any(None in row for row in rows):
        fail(f"{path}: every entry of {field} must hold {', '.join(names)}")
    return rows


def read(folder):
    """One model: its row, from kfr_krr.json and what else is there, and its judged items."""
    row, items = {"model": folder.name}, []
    for name, keep in (("kfr_krr", ""), ("linguistic_forget", "_F"), ("linguistic_retain", "_R")):
        path = folder / f"{name}.json"
        found = read_json(path, ("summary", dict))
        if found is None and name == "kfr_krr":
            fail(f"{path}: no such metrics file; run the evaluation of {folder.name} first")
        for key, value in (found or {"summary": {}})["summary"].items():
            row[key + keep] = value
        if name == "kfr_krr":
            for at, item in enumerate(found.get("items") or [], 1):
                judged = isinstance(item, dict) and (
                    "forgotten" in item or "retained" in item
                )  # --entities llm may leave it open
                wanted = ITEM if judged else ITEM[:4]
                if missing := [field for field in wanted if field not in item] if isinstance(item, dict) else wanted:
                    fail(f"{path}: item {at} lacks {', '.join(missing)}")
                items += [item] if judged else []
    for name, columns in MORE.items():
        path = folder / f"{name}.json"
        summary = (read_json(path, ("summary", dict)) or {"summary": {}})["summary"]
        summary |= {"EL": value for key, value in summary.items() if key.startswith("EL_")}
        row |= {key: summary[key] for key, *_ in columns if summary.get(key) is not None}
    for key, *_ in all_columns():
        number(f"{folder}: its metrics", row, key)
    for key in ("KFR_95", "KRR_95"):
        if not (
            isinstance(row.get(key, []), list)
            and all(isinstance(bound, (int, float)) for bound in row.get(key, []))
            and len(row.get(key, [0, 0])) == 2
        ):
            fail(f'{folder}: its metrics: field "{key}" must be two numbers')
    both = (row.get("KFR"), row.get("KRR"))
    row["HM"] = None if None in both else 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0
    return row, items


def all_columns():
    return [*COLUMNS, *(column for columns in MORE.values() for column in columns)]


def over_seeds(rows):
    """Rows to show: NAME and its NAME@SEED become one, whose numbers are means; NAME's own deviation stands in KEY_sd."""
    groups, shown = {}, []
    for row in rows:
        groups.setdefault(row["model"].split("@")[0], []).append(row)
    for name, part in groups.items():
        row = {**part[0], "folder": part[0]["model"]}
        if len(part) > 1:
            row |= {"model": name, "seeds": len(part)}
            for key, *_ in all_columns():
                values = [other[key] for other in part if other.get(key) is not None]
                if values:
                    row[key] = mean(values)
                if len(values) > 1:
                    row[f"{key}_sd"] = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
                    row.pop(f"{key}_95", None)  # one seed's interval says nothing of the mean
        shown.append(row)
    return shown


# ---------------------------------------------------------------- the table


def text_of(row, key, form):
    if row.get(key) is None:
        return "–"
    return format(row[key], form) + (f" ± {format(row[f'{key}_sd'], form)}" if f"{key}_sd" in row else "")


def marks(rows, key, heading, form):
    """{model: "best" or "worst"} among the unlearned models, where better has a direction; equal to the digits shown is equal."""
    better = {"↑": lambda value: value, "↓": lambda value: -value, "0": lambda value: -abs(value)}.get(heading[-1])
    known = [
        row for row in rows if row["model"] not in REFERENCE and row.get(key) is not None and math.isfinite(row[key])
    ]
    if not better or not known:
        return {}
    texts = [format(pick(known, key=lambda row: better(row[key]))[key], form) for pick in (max, min)]
    return {
        row["model"]: mark
        for row in known
        for mark, text in zip(("worst", "best"), texts[::-1])
        if format(row[key], form) == text and texts[0] != texts[1]
    }


def short_table(rows):
    """The table alone, in Markdown; the best of the unlearned models in bold."""
    best = {key: marks(rows, key, heading, form) for key, heading, form, _ in COLUMNS}
    lines = ["| model | " + " | ".join(heading for _, heading, *_ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        cells = [
            (f"**{text}**" if best[key].get(row["model"]) == "best" else text)
            for key, _, form, _ in COLUMNS
            for text in [text_of(row, key, form)]
        ]
        lines.append(f"| {row['model']} | " + " | ".join(cells) + " |")
    notes = "; ".join(f"{heading.rstrip(' ↑↓')}: {meaning}" for _, heading, _, meaning in COLUMNS)
    return "\n".join(lines) + f"\n\n{notes}. Bold: best of the unlearned models. F: forget set, R: retain set.\n"


def section_table(rows):
    columns = [column for column in all_columns() if any(row.get(column[0]) is not None for row in rows)]
    mark = {key: marks(rows, key, heading, form) for key, heading, form, _ in columns}
    body = []
    for row in rows:
        body.append([Cell(row["model"], note=f"{row['seeds']} seeds" if "seeds" in row else "")])
        for key, _, form, _ in columns:
            note = "[{:.2f}, {:.2f}]".format(*row[f"{key}_95"]) if f"{key}_95" in row else ""
            body[-1].append(Cell(text_of(row, key, form), row.get(key), note, mark[key].get(row["model"], "")))
    spread = " ± is the sample standard deviation over seeds." if any("seeds" in row for row in rows) else ""
    return [
        table(
            "A row a model. Arrows say which way is better; best and worst are marked among the unlearned models, so without "
            "vanilla (before unlearning) and retrained (made again without the forget set). Brackets: interval that holds the true "
            f"share in 95 of 100 repetitions, other questions being asked.{spread}",
            ["model", *((heading, meaning) for _, heading, _, meaning in columns)],
            body,
            sortable=True,
        ),
        details(
            "What the columns mean",
            table(
                "F: forget set, what should go; R: retain set, what should stay.",
                ["column", "meaning"],
                [[heading, meaning] for _, heading, _, meaning in columns],
            ),
        ),
    ]


# ---------------------------------------------------------------- pictures


def looks(rows):
    """{model: (colour, marker, dashes)}, the same in every picture."""
    return {
        row["model"]: {"vanilla": ("#808080", "X", ":"), "retrained": ("#808080", "*", "-")}.get(row["model"])
        or look(at)
        for at, row in enumerate(rows)
    }


def scatter(rows, files):
    """KFR against KRR; the upper right corner is where an unlearned model should be."""
    rows = [row for row in rows if row.get("KFR") is not None and row.get("KRR") is not None]
    if not rows:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, max(5.0, 2.9 + 0.19 * -(-len(rows) // 2))))
    for level in (0.5, 0.7, 0.8, 0.9):  # lines of equal harmonic mean
        krr = [level / 2 + (1 - level / 2) * at / 200 for at in range(1, 201)]
        line = [(x, level * x / (2 * x - level)) for x in krr if 2 * x > level and level * x / (2 * x - level) <= 1.06]
        axes.plot(*zip(*line), color="#808080", alpha=0.5, linewidth=0.8, zorder=0)
        axes.annotate(
            f"HM {level}", line[-1], color="#808080", fontsize=7.5, xytext=(4, -3), textcoords="offset points"
        )
    for row in rows:
        colour, marker, _ = looks(rows)[row["model"]]
        error = []
        for name in ("KRR", "KFR"):
            spread = row.get(f"{name}_sd", 0)
            low, high = row.get(f"{name}_95") or (row[name] - spread, row[name] + spread)
            error.append([[max(0, row[name] - low)], [max(0, high - row[name])]])
        axes.errorbar(row["KRR"], row["KFR"], xerr=error[0], yerr=error[1], color=colour, alpha=0.45, linewidth=1)
        axes.plot(
            row["KRR"],
            row["KFR"],
            marker,
            color=colour,
            markersize=15 if marker == "*" else 9,
            markeredgecolor=INK,
            markeredgewidth=0.8,
            label=row["model"] + (": the target" if row["model"] == "retrained" else ""),
        )
    axes.set(
        xlim=(-0.03, 1.06),
        ylim=(-0.03, 1.06),
        xlabel="KRR: retain facts still told →",
        ylabel="KFR: forget facts no longer told →",
    )
    figure.legend(loc="outside lower center", ncols=2)
    return [
        picture(
            figure,
            "kfr_krr.png",
            "KFR against KRR of every model",
            "Each mark is a model. Higher: it no longer tells what it should forget (KFR). Further right: it still tells what it "
            "should keep (KRR). The star is the model made again without the forget set, which a perfect method would equal. "
            "Thin bars: 95 % intervals, or the spread over seeds. Grey lines join equal harmonic means (HM).",
            files,
        )
    ]


def bars(rows, files):
    """LS of both sets, a pair of bars a model; vanilla's as lines."""
    if all(row.get("LS_F") is None and row.get("LS_R") is None for row in rows):
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, 1.3 + 0.4 * len(rows)))
    sets = (("LS_F", "forget", "#E69F00", "", "-"), ("LS_R", "retain", "#56B4E9", "////", "--"))
    for at, (key, name, colour, hatch, dash) in enumerate(sets):
        shown = [(place, row) for place, row in enumerate(rows) if row.get(key) is not None]
        axes.barh(
            [place + 0.38 * at - 0.19 for place, _ in shown],
            [row[key] for _, row in shown],
            0.36,
            color=colour,
            hatch=hatch,
            xerr=[row.get(f"{key}_sd", 0) for _, row in shown] if any(f"{key}_sd" in row for row in rows) else None,
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
        picture(
            figure,
            "ls.svg",
            "Linguistic score of every model on both sets",
            "LS joins how expected the answers' words are to the base model with how varied they are; stammering and gibberish take "
            "it down. Plain bars: answers about what should be forgotten; hatched: about what should be kept. Lines: the vanilla "
            "model, before unlearning.",
            files,
        )
    ]


def curves(training, rows, files):
    """The loss of every method's updates, {name: [(update, loss)]}, a panel each, and its running mean."""
    if not training:
        return []
    height = math.ceil(len(training) / 2)
    figure, panels = pyplot().subplots(height, 2, figsize=(4.4, 1.4 * height + 0.3), squeeze=False)
    for panel in panels.flat[len(training) :]:
        panel.remove()
    for panel, (name, steps) in zip(panels.flat, training.items()):
        updates, losses = zip(*steps)
        width = max(1, len(losses) // 10)
        running = [mean(losses[at - width : at]) for at in range(width, len(losses) + 1)]
        panel.plot(updates, losses, color=looks(rows)[name][0], alpha=0.7, linewidth=0.8)
        panel.plot(updates[width - 1 :], running, color=INK, linewidth=1.4)
        panel.set_title(name, fontsize=9)
    figure.supxlabel("update", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    return [
        picture(
            figure,
            "training.svg",
            "Training loss of every method",
            "The loss that each method goes down, update by update (thin), and its running mean (thick). Scales differ: methods "
            "minimise different things. One that falls without end is a sign of collapse.",
            files,
        )
    ]


def paths(probes, rows, files):
    """Retain NLL against forget NLL, {name: [(update, forget, retain)]}: a path a method, from the common start to its last update."""
    if not probes:
        return []
    figure, axes = pyplot().subplots(figsize=(4.4, 4.8))
    middle = {}  # of two values on each axis, as the axis shows them
    for at, axis in ((1, "x"), (2, "y")):
        values = [point[at] for points in probes.values() for point in points]
        middle[at] = lambda one, other: (one + other) / 2
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set(**{f"{axis}scale": "log"})
            getattr(axes, f"{axis}axis").set(major_formatter="{x:g}", minor_formatter="")
            middle[at] = lambda one, other: math.sqrt(one * other)
    for name, points in probes.items():
        colour, marker, dashes = looks(rows)[name]
        updates, forget, retain = zip(*points)
        axes.plot(forget, retain, linestyle=dashes, color=colour, linewidth=1.2)
        for start, end in zip(points, points[1:]):  # an arrowhead halfway
            axes.annotate(
                "",
                xy=[middle[at](start[at], end[at]) for at in (1, 2)],
                xytext=start[1:],
                arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0},
            )
        axes.plot(forget[1:-1], retain[1:-1], marker, color=colour, markersize=3.5)
        axes.plot(forget[-1], retain[-1], marker, color=colour, markersize=9, markeredgecolor=INK, label=name)
        axes.annotate(
            str(updates[-1]), (forget[-1], retain[-1]), fontsize=7.5, xytext=(6, 4), textcoords="offset points"
        )
        axes.plot(forget[0], retain[0], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)
    axes.set(xlabel="NLL of forget answers: forgotten →", ylabel="NLL of retain answers: lost →")
    figure.legend(loc="outside lower center", ncols=2)
    return [
        picture(
            figure,
            "forgetting_retention.svg",
            "Retain NLL against forget NLL during training",
            "How unlikely the true answers become as training goes on: negative log-likelihood (NLL), in nats, mean over tokens. "
            "All start at the ring; arrows go with the updates, small marks are measurements, the large one is the end, with its "
            "update number. Good is far to the right (forgotten) and low (kept).",
            files,
        )
    ]


# ---------------------------------------------------------------- answers


def told(answer, covered):
    """Cuts an answer into [(piece, whether it tells a covered entity)].

    An entity counts as covered by likeness of embeddings; what is marked is each run of words that covered entities hold, from its
    first to its last word that is more than a short lower-case one ("of", "the"). An entity told in quite other words has no mark.
    """
    stem = lambda word: word.lower().removesuffix("'s").removesuffix("’s").rstrip("s")
    word, known = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*"), {}
    for entity in covered:
        for found in word.findall(entity):
            known[stem(found)] = (
                known.get(stem(found)) or len(found) > 3 or not found.islower() or bool(re.search(r"[@\d]", entity))
            )
    runs, pieces, last, before = [], [], 0, None  # before: where the word before ended, if it may go on
    for match in word.finditer(answer):
        weighty, goes_on = (
            known.get(stem(match[0])),
            before is not None and answer[before : match.start()] in (*" .@-/", ", "),
        )
        if weighty:
            runs[-1:] = [(runs[-1][0], match.end())] if goes_on else [*runs[-1:], match.span()]
        before = match.end() if weighty or weighty is False and goes_on else None
    for start, end in runs:
        pieces += [(answer[last:start], False), (answer[start:end], True)]
        last = end
    return [piece for piece in (*pieces, (answer[last:], False)) if piece[0]]


def contested(items, side, count):
    """The questions of a side on which the unlearned models' verdicts differ most, [{model: item}]; ties in the order of the file."""
    questions, verdict = {}, SIDES[side][0]
    for model, rows in items.items():
        for item in rows:
            if item["side"] == side:
                questions.setdefault((item["question"], item["reference"]), {})[model] = item

    def split(found):
        judged = [bool(item.get(verdict)) for model, item in found.items() if model not in REFERENCE]
        return -min(sum(judged), len(judged) - sum(judged))

    return sorted(questions.values(), key=split)[:count]


def section_answers(items, count):
    parts = []
    for side, number in (("forget", count), ("retain", round(count * 2 / 3))):
        verdict, kind, yes, no = SIDES[side]
        for found in contested(items, side, number):
            first = next(iter(found.values()))
            rows = []
            for model, item in found.items():
                good, covered = bool(item.get(verdict)), f" ({'; '.join(item['covered'])})" if item["covered"] else ""
                note = (
                    f"covers {len(item['covered'])} of {len(item['reference_entities'])}{covered}; "
                    f"entailment model: {AGREES.get(item['nli'], item['nli'])}"
                )
                rows.append((model, yes if good else no, good, note, told(item["answer"], item["covered"])))
            parts.append(asked(first["question"], first["reference"], kind, rows))
        if parts and side == "forget":
            parts.insert(
                0,
                paragraph(
                    "Questions on which the methods differ most, first those whose answers should be forgotten, then those whose answers should stay. "
                    "Small print says what the verdict rests on: how many of the true answer's names, numbers and phrases the answer covers, by the "
                    "likeness of their embeddings, and whether a model trained to tell finds that answer and true answer agree, contradict each other "
                    "(so forgotten, or lost) or neither. "
                    "Words of what is covered are marked, with a double line under what should be forgotten and a single one under what should "
                    "stay; something covered in other words has no mark."
                ),
            )
    return parts


# ---------------------------------------------------------------- the other sections


def section_next_token(folders):
    """Tables from next_token.json, {"items": [{"question", "reference", "top": [{"token", "p"} × 5]}]}, as 08_next_token.py writes."""
    questions = {}
    for model, folder in folders.items():
        path = folder / "next_token.json"
        for at, item in enumerate((read_json(path, ("items", list)) or {"items": []})["items"], 1):
            place = f"{path}: item {at}"
            fields = (("question", str), ("reference", str), ("top", list))
            if not isinstance(item, dict) or not all(isinstance(item.get(field), kind) for field, kind in fields):
                fail(f"{place}: expected question, reference and top")
            cells = []
            for entry in item["top"]:
                chance = number(place, entry, "p")
                if chance is None or not isinstance(entry.get("token"), str):
                    fail(f"{place}: every entry of top must hold token and p")
                token = entry["token"].replace(" ", "␣").replace("\n", "⏎") or "(empty)"
                cells.append(Cell(token, note=f"{chance:.3f}", share=chance))
            questions.setdefault((item["question"], item["reference"]), {})[model] = cells
    parts = [
        table(
            f"{question} True answer: {reference}",
            ["model", *(f"{at}." for at in range(1, 1 + max(map(len, found.values()))))],
            [[model, *cells] for model, cells in found.items()],
        )
        for (question, reference), found in questions.items()
    ]
    return parts and [
        paragraph(
            "The five likeliest first tokens (pieces of words; ␣ is a space) of the answer, with their probabilities. A "
            "model that has forgotten by collapsing puts its weight on senseless tokens; one that still knows, on the "
            "true answer's."
        ),
        *parts,
    ]


def section_data(run):
    parts, found = [], read_json(run / "data/data.json", ("counts", dict))
    if found:
        parts.append(
            table(
                "Question-answer pairs: train to learn and unlearn from, tune to choose settings by, val to judge by.",
                ["set", "pairs"],
                [[name, Cell(str(count), count)] for name, count in found["counts"].items()],
                sortable=True,
            )
        )
    found = read_json(run / "augmented/forget_augmented.json", ("summary", dict))
    if found:
        names = {
            "forget_pairs": "forget pairs to begin with",
            "variants": "new questions with vague answers",
            "dropped": "dropped, as the answer gave a secret away",
            "drawn_again": "drawn again for that reason",
            "completions": "sentences to complete",
            "generic": "general questions mixed in",
            "distinct_2": "different word pairs among all, share",
            "identical_answers": "answers that another equals, share",
            "mean_words": "words an answer, mean",
        }
        parts.append(
            table(
                "The augmented forget set, which ReLearn trains on.",
                ["what", "value"],
                [[names.get(key, key.replace("_", " ")), str(value)] for key, value in found["summary"].items()],
            )
        )
    return parts


def section_published(rows, name, path=PUBLISHED):
    """Published, measured and their difference for the models and the columns that both have; names are compared without case."""
    known = read_json(path)
    if known is None or not isinstance(known.get(name), dict) or not isinstance(known[name].get("rows"), dict):
        fail(
            f"{path}: " + ("no such file" if known is None else f"holds no table {name}; there are: {', '.join(known)}")
        )
    found, measured = known[name], {row["model"].lower(): row for row in rows}
    both = [
        (model, values, measured[model.lower()]) for model, values in found["rows"].items() if model.lower() in measured
    ]
    keys = [
        key
        for key in {key: None for _, values, _ in both for key in values}
        if any(row.get(key) is not None for *_, row in both)
    ]
    if not keys:
        return [paragraph(f"{found.get('source', name)} has nothing of these models that was measured.")]
    forms = {key: form for key, _, form, _ in all_columns()}
    body = []
    for model, values, row in both:
        body.append([model])
        for key in keys:
            theirs, ours, form = values.get(key), row.get(key), forms.get(key, ".4g")
            both_numbers = isinstance(theirs, (int, float)) and ours is not None
            body[-1] += [
                Cell(
                    "–" if theirs is None else format(theirs, form) if isinstance(theirs, (int, float)) else str(theirs)
                ),
                Cell(text_of(row, key, form)),
                Cell(format(ours - theirs, "+" + form) if both_numbers else "–"),
            ]
    about = "; ".join(str(found[field]) for field in ("source", "model", "data") if found.get(field))
    return [
        table(
            f"Published: {about}. Difference: measured less published. Where model, data, judge of entities or entailment model are "
            "others than the paper's, rows are to be compared with each other and not number by number.",
            ["model", *(f"{key} {what}" for key in keys for what in ("published", "measured", "difference"))],
            body,
        )
    ]


def command(record):
    """The command line that a record's script and settings stand for."""
    known = [
        f"{folder}/{record['script']}"
        for folder in ("scripts", "eval")
        if (REPOSITORY / folder / record["script"]).is_file()
    ]
    words = ["python", *(known or [record["script"]])[:1]]
    for flag, value in record["settings"].items():
        if value is not None and value is not False and value != []:
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [f"--{flag.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def section_again(folders, run, preset, made_by):
    """From the records that every results file carries: commands, seeds, versions, commits, hashes, seconds."""
    paths = (
        [
            path
            for pattern in ("models/*/origin.json", "data/data.json", "models/*/training.json", "augmented/*.json")
            for path in sorted(run.glob(pattern))
        ]
        if run
        else []
    )
    for name in folders if run else []:
        paths += [
            run / "methods" / name / "training.json",
            run / "methods" / name / "uipe.json",
            run / "answers" / name / "generation.json",
        ]
    records = {}
    for path in [*paths, *(path for folder in folders.values() for path in sorted(folder.glob("*.json")))]:
        found = read_json(path) or {}
        if isinstance(found.get("script"), str) and isinstance(found.get("settings"), dict):
            line = command(found)
            if line not in records or (found.get("seconds") or 0) > (records[line].get("seconds") or 0):
                records[line] = found  # of the files of one command the last was written when it ended
    parts = []
    if made_by:
        parts += [paragraph("The whole run, from the repository's folder:"), code(made_by)]
    versions, hashes = {}, {}
    for found in records.values():
        for name, version in (found.get("versions") or {}).items():
            versions.setdefault(name, {})[str(version)] = None
        hashes |= found.get("data") or {}
    seeds = {str(found["settings"]["seed"]) for found in records.values() if found["settings"].get("seed") is not None}
    facts = [
        ["preset", preset],
        ["seeds", ", ".join(sorted(seeds))],
        [
            "git commit",
            ", ".join(dict.fromkeys(str(found["git_commit"]) for found in records.values() if found.get("git_commit"))),
        ],
        ["versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())],
    ]
    if records:
        parts.append(
            table("What the numbers depend on beside the data.", ["what", "value"], [fact for fact in facts if fact[1]])
        )
        steps = [
            [
                found["script"],
                Cell(line, code=True),
                f"{found['seconds']:.0f}" if found.get("seconds") else "–",
                str(found["settings"].get("seed", "–")),
                str(found.get("git_commit") or "–"),
            ]
            for line, found in records.items()
        ]
        parts.append(
            details(
                f"Every step: {len(steps)} commands",
                table(
                    "In the order of the run. Seconds: as far as the step wrote them down.",
                    ["script", "command", "seconds", "seed", "git commit"],
                    steps,
                ),
            )
        )
    if hashes:
        rows = [[path, Cell(digest, code=True)] for path, digest in hashes.items()]
        parts.append(
            details(f"Data: {len(hashes)} files", table("SHA-256 of what the steps read.", ["file", "SHA-256"], rows))
        )
    return parts


def lead(rows):
    """What the run shows, in two sentences."""
    unlearned = [row for row in rows if row["model"] not in REFERENCE]
    best = max((row for row in unlearned if row.get("HM") is not None), key=lambda row: row["HM"], default=None)
    forget, retain = (max(row.get(f"{side}_items") or 0 for row in rows) for side in ("forget", "retain"))
    text = (
        f"{len(unlearned)} unlearned model{'s' * (len(unlearned) != 1)}, each asked {forget} questions on what should be forgotten and "
        f"{retain} on what should be kept."
    )
    if best:
        text += f" {best['model']} balances forgetting and keeping best, with a harmonic mean of {best['HM']:.2f}"
        others = [
            f"{row['model']} {row['HM']:.2f}" for row in rows if row["model"] in REFERENCE and row.get("HM") is not None
        ]
        text += f" ({', '.join(others)})." if others else "."
    return paragraph(text)


if __name__ == "__main__":
    parser = Parser(
        __doc__,
        files=lambda args: [Path(args.out, name) for name in ("table.json", "table.md", "report.md", "report.html")],
    )
    parser.add_argument(
        "--metrics",
        required=True,
        nargs="+",
        metavar="FOLDER",
        help="a folder a model with kfr_krr.json; linguistic_forget.json, linguistic_retain.json, tofu.json, exposure.json, "
        "memorization.json, robustness.json, judge.json and next_token.json are taken where they are",
    )
    parser.add_argument(
        "--out",
        required=True,
        help="folder for report.html, report.md with its pictures, table.md, table.json and kfr_krr.png",
    )
    parser.add_argument(
        "--run",
        metavar="FOLDER",
        help="the run's folder, work/NAME: adds what methods/, answers/, data/ and augmented/ hold",
    )
    parser.add_argument("--preset", metavar="NAME", help="the preset that made the run")
    parser.add_argument(
        "--command", metavar="TEXT", help="the command line that made the run, for the reader who wants to repeat it"
    )
    parser.add_argument(
        "--published", metavar="NAME", help="a table of data/published.json to set beside the measured one"
    )
    parser.add_argument(
        "--questions",
        type=count_or_none,
        default=6,
        metavar="N",
        help="questions of the forget set shown with all answers, and two thirds as many of the retain set (default: 6)",
    )
    args = parser.parse_args()
    if args.run and not Path(args.run).is_dir():
        fail(f"--run {args.run}: no such folder")
    run, out, files = args.run and Path(args.run), Path(args.out), {}
    models = [(Path(folder), *read(Path(folder))) for folder in args.metrics]
    rows = [row for _, row, _ in models]
    if len({row["model"] for row in rows}) < len(rows):
        fail("--metrics: two folders have one name; a model's name is its folder's")
    shown = over_seeds(rows)
    folders = {row["model"]: next(folder for folder, *_ in models if folder.name == row["folder"]) for row in shown}
    items = {row["model"]: next(found for folder, _, found in models if folder.name == row["folder"]) for row in shown}
    training, probes = {}, {}
    for name, folder in folders.items():
        path = run / "methods" / folder.name / "training.json" if run else None
        if path and (found := read_json(path)):
            training[name] = series(path, found, "updates", "update", "loss")
            probes[name] = series(path, found, "probes", "update", "forget_nll", "retain_nll")
    training, probes = ({name: found for name, found in part.items() if found} for part in (training, probes))
    sections = [
        ("The table", section_table(shown)),
        ("Forgetting against keeping", scatter(shown, files)),
        ("How well the models still speak", bars(shown, files)),
        ("Training", curves(training, shown, files)),
        ("From update to update", paths(probes, shown, files)),
        ("Answers side by side", section_answers(items, args.questions)),
        ("The first word", section_next_token(folders)),
        ("Data", section_data(run) if run else []),
        ("Published and measured", section_published(shown, args.published) if args.published else []),
        ("How to make it again", section_again(folders, run, args.preset, args.command)),
    ]
    source = record(args, dict.fromkeys(READ))
    footer = paragraph(
        f"Made by eval/{source['script']} at commit {source['git_commit']} from {len(source['data'])} files."
    )
    web, text = page(f"Unlearning report: {run.name}" if run else "Unlearning report", lead(shown), sections, footer)

    write_text(out / "table.json", json.dumps({"rows": rows, **source}, ensure_ascii=False, indent=1) + "\n")
    for name, content in {**files, "report.html": web, "report.md": text, "table.md": short_table(shown)}.items():
        (write_bytes if isinstance(content, bytes) else write_text)(out / name, content)
