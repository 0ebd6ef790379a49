"""The report's other sections: answers side by side, first tokens, data, published numbers, how to make it again."""

import re
from collections import Counter

from lib.distance import FAMILIES, METRICS
from lib.files import few
from lib.formats import NOT_ENGLISH, plain, questions_of

from report import comparison
from report.columns import ALL, REFERENCE
from report.page import Cell, Part, code, details, paragraph, side_by_side, table
from report.reading import first_of
from report.table import cell_text

SIDES = {  # side: (verdict's field, how told words are shown, the verdict hoped for, the other)
    "forget": ("forgotten", "leak", "✓ forgotten", "✗ still told"),
    "retain": ("retained", "kept", "✓ still told", "✗ lost"),
}
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
AUGMENTED = {  # key of forget_augmented.json's summary: what it counts
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

GAPS = (  # what is told, how, metrics file, and of its numbers that of what is missing and that of what is there
    ("Without a verdict", "{missing} of {all} forget answers", "kfr_krr", "forget_missing", "forget_items"),
    ("Without a verdict", "{missing} of {all} retain answers", "kfr_krr", "retain_missing", "retain_items"),
    (
        "A private value that could leak",
        "{there} of {all} forget answers are of a fact that holds one",
        *("kfr_krr", "leak_impossible", "leak_possible"),
    ),
    ("UDS", "over {there} of {all} facts, those that a block holds", "depth", "left_out", "items"),
    *(
        (
            "Without false answers",
            f"{{missing}} of {{all}} {side} questions, which TOFU's metrics leave out",
            *("tofu", f"{side}_left_out", f"{side}_items"),
        )
        for side in ("forget", "retain")
    ),
    ("Without a verdict under the attacks", "{missing} answers", "robustness", "missing", "items"),
    ("Without grades", "{missing} of {all} forget answers", "judge", "missing", "items"),
)


def asked(items: dict[str, list], side: str) -> int:
    """How many questions of a side were judged, each once however often it was answered; passages where there are none.

    Args:
        items: by model its judged items.
    """
    most = 0
    for rows in items.values():
        part = questions_of([item for item in rows if item["side"] == side])
        most = max(most, len({(item["question"], item["reference"]) for item in part}))
    return most


def lead(rows: list[dict], items: dict[str, list], tests: dict[str, dict]) -> Part:
    """What the run shows, in three sentences at most. items: as of `asked`; tests: see comparison.compare."""
    unlearned = [row for row in rows if row["model"] not in REFERENCE]
    best = max((row for row in unlearned if row.get("HM") is not None), key=lambda row: row["HM"], default=None)
    forget, retain = (asked(items, side) for side in ("forget", "retain"))
    text = (
        f"{len(unlearned)} unlearned model{'s' * (len(unlearned) != 1)}, each asked {forget} questions on what should "
        f"be forgotten and {retain} on what should be kept."
    )
    if best:
        text += f" {best['model']} has the highest harmonic mean of forgetting and keeping, {best['HM']:.2f}"
        references = [row for row in rows if row["model"] in REFERENCE and row.get("HM") is not None]
        others = [f"{row['model']} {row['HM']:.2f}" for row in references]
        text += f" ({', '.join(others)})." if others else "."
        alike = [name for name in comparison.alike(tests.get("HM", {}), best["model"]) if name not in REFERENCE]
        text += f" No test tells it apart from {few(alike, 10)}." if alike else ""
    return paragraph(text)


def gaps(measured: dict[str, dict]) -> list[Part]:
    """What the numbers of the table do not rest on, a line a kind; nothing where they rest on all.

    Args:
        measured: by model its metrics files, as of reading.Model.
    """
    told = {}  # {kind: {text: models of which it is true}}
    for kind, text, file, missing, there in GAPS:
        for model, files in measured.items():
            found = Counter(files[file]["summary"])  # 0 for what it lacks
            if "leak_possible" in found:
                found["leak_impossible"] = found["forget_items"] + found["forget_missing"] - found["leak_possible"]
            if found[missing]:
                numbers = {"missing": found[missing], "there": found[there], "all": found[missing] + found[there]}
                told.setdefault(kind, {}).setdefault(text.format_map(numbers), []).append(model)
    whose = lambda models: "" if len(models) == len(measured) else f"{few(models, 6)} "
    texts = lambda found: "; ".join(whose(models) + text for text, models in found.items())
    return [paragraph(f"{kind}: {texts(found)}.") for kind, found in told.items()]


def agreement(found: dict | None) -> str:
    """How far the offline judge agrees with readers, in a sentence; nothing where that was not measured.

    Args:
        found: the summary of eval/14_agreement.py, {"SET MEASURE HALF" or "method NAME": {"agree", "of", "share"}}.
    """
    methods = [(name.split(" ", 1)[1], row) for name, row in (found or {}).items() if name.startswith("method ")]
    methods = [f"{name} {row['agree']} of {row['of']}" for name, row in sorted(methods, key=lambda of: of[1]["share"])]
    parts = [(*name.split(" ", 2), row) for name, row in (found or {}).items() if name.endswith(" both halves")]
    said = [f"{measure} on {name} {row['agree']} of {row['of']}" for name, measure, _, row in parts]
    if not said:
        return ""
    by_method = f"KFR and KRR by the method that answered: {'; '.join(methods)}. " if methods else ""
    return (
        " The offline judge agrees with readers, on the answers by which its rules were made, in "
        f"{'; '.join(said)} verdicts (eval/14_agreement.py; eval/README.md). {by_method}"
        "Another judge (--nli, --entities llm) was not compared."
    )


# ---------------------------------------------------------------- distance


def distance_section(found: dict[str, dict]) -> list[Part]:
    """Every model's distance to the retrained one, what it is made of, and what was not there.

    Args:
        found: {model: what `lib.distance.distance` gives}.
    """
    shown = {name: row for name, row in found.items() if row["distance"] is not None}
    if not shown:
        return []
    names = [name for name in METRICS if any(name in row["z"] for row in shown.values())]
    families = [family for family in FAMILIES if any(family in row["families"] for row in shown.values())]

    def cell(value):
        return Cell("–" if value is None else f"{value:.1f}", value)

    rows = [
        [name, cell(row["distance"]), *(cell(row["families"].get(family)) for family in families)]
        for name, row in shown.items()
    ]
    caption = (
        "How far each model is from the retrained one, in standard errors: 0 for itself. The distance is the root mean "
        "square over the families, a family's that over its metrics; of several seeds it is the first one's. A metric "
        "that rewards over-forgetting can put a damaged model above the retrained one; a distance cannot."
    )
    parts = [table(caption, ["model", "distance", *families], rows, sortable=True)]
    single = [[name, *(cell(row["z"].get(metric)) for metric in names)] for name, row in shown.items()]
    left_out = [name for name in METRICS if name not in names]
    missing = f" Not measured here: {', '.join(left_out)}." if left_out else ""
    if partly := [name for name in names if any(name not in row["z"] for row in shown.values())]:
        missing += f" Not of every row, so that their distances are not of the same metrics: {', '.join(partly)}."
    note = (
        "Each metric's mean difference over the same questions, divided by its standard error if the two models were "
        f"alike (scripts/lib/distance.py).{missing}"
    )
    return parts + [details("What the distance is made of", table(note, ["model", *names], single, sortable=True))]


# ---------------------------------------------------------------- answers


def _stem(word):
    return word.lower().removesuffix("'s").removesuffix("’s").rstrip("s")


def _known_words(covered):
    """{stem of a word of the covered entities: whether it is more than a short lower-case one}."""
    known = {}
    for entity in covered:
        for found in WORD.findall(entity):
            weighty = len(found) > 3 or not found.islower() or bool(re.search(r"[@\d]", entity))
            known[_stem(found)] = known.get(_stem(found)) or weighty
    return known


def told_pieces(answer: str, covered: list[str]) -> list[tuple[str, bool]]:
    """Cuts an answer into [(piece, whether it tells a covered entity)].

    An entity counts as covered by likeness of embeddings; what is marked is each run of words that covered entities
    hold, from its first to its last word that is more than a short lower-case one ("of", "the"). An entity told in
    quite other words has no mark.
    """
    known = _known_words(covered)
    runs, pieces, last, before = [], [], 0, None  # before: where the word before ended, if it may go on
    for match in WORD.finditer(answer):
        weighty = known.get(_stem(match[0]))
        goes_on = before is not None and answer[before : match.start()] in (*" .@-/", ", ")
        if weighty:
            runs[-1:] = [(runs[-1][0], match.end())] if goes_on else [*runs[-1:], match.span()]
        before = match.end() if weighty or weighty is False and goes_on else None
    for start, end in runs:
        pieces += [(answer[last:start], False), (answer[start:end], True)]
        last = end
    return [piece for piece in (*pieces, (answer[last:], False)) if piece[0]]


def contested(items: dict[str, list], side: str, count: int) -> list[dict]:
    """The questions of a side on which the unlearned models' verdicts differ most, [{model: item, its first}].

    Ties are in the order of the file.
    """
    questions, verdict = {}, SIDES[side][0]
    for model, rows in items.items():
        for item in rows:
            if item["side"] == side:
                questions.setdefault((item["question"], item["reference"]), {}).setdefault(model, item)

    def agreement(found):
        judged = [bool(item.get(verdict)) for model, item in found.items() if model not in REFERENCE]
        return -min(sum(judged), len(judged) - sum(judged))

    return sorted(questions.values(), key=agreement)[:count]


def _answer_row(model, item, side):
    """One model's answer as `side_by_side` takes it."""
    verdict, _, yes, no = SIDES[side]
    good, covered = bool(item.get(verdict)), f" ({'; '.join(item['covered'])})" if item["covered"] else ""
    against = f"; contradicts: {'; '.join(item['contradicted'])}" if item.get("contradicted") else ""
    leaked = f"; leaks {'; '.join(item['leaked'])}" if item.get("leaked") else ""
    note = f"covers {len(item['covered'])} of {len(item['reference_entities'])}{covered}{against}{leaked}"
    return model, yes if good else no, good, note, told_pieces(item["answer"], item["covered"])


def answers_section(items: dict[str, list], count: int, rows: list[dict] = ()) -> list[Part]:
    """Questions with every model's answer: `count` of the forget set, two thirds as many of the retain set.

    Args:
        rows: of the table, for what is said of their seeds.
    """
    parts = []
    for side, number in (("forget", count), ("retain", round(count * 2 / 3))):
        for found in contested(items, side, number):
            first = next(iter(found.values()))
            answers = [_answer_row(model, item, side) for model, item in found.items()]
            parts.append(side_by_side(plain(first["question"]), first["reference"], SIDES[side][1], answers))
        if parts and side == "forget":
            parts.insert(
                0,
                paragraph(
                    "Questions"
                    + " on which the methods differ most" * (len(items) > 1)
                    + ", first those whose answers should be forgotten, then "
                    "those whose answers should stay. Small print says what the verdict rests on: how many of the "
                    "true answer's names, numbers and phrases the answer covers, what in it contradicts the true "
                    "answer (so forgotten, or lost), and which private values it states whole. Words of what is "
                    "covered are marked, with a double line under what should be forgotten and a single one under "
                    "what should stay; something covered in other words has no mark." + first_of(rows, items)
                ),
            )
    return parts


def continuations_section(passages: dict[str, list], count: int, rows: list[dict] = ()) -> list[Part]:
    """Passages with how every model goes on after their beginnings: `count` of the forget set, two thirds as many of
    the retain set.

    Args:
        passages: by model its items with `verbatim`. rows: as of answers_section.
    """
    parts = []
    for side, number in (("forget", count), ("retain", round(count * 2 / 3))):
        questions = {}
        for model, items in passages.items():
            for item in items:
                if item["side"] == side:
                    questions.setdefault((item["question"], item["reference"]), {}).setdefault(model, item)
        for (question, reference), found in list(questions.items())[:number]:
            answers = []
            for model, item in found.items():
                comes_back = item["verbatim"]
                told = f"{comes_back:.2f} comes back"
                answers.append((model, told, (comes_back < 0.5) == (side == "forget"), "", [(item["answer"], False)]))
            parts.append(side_by_side(plain(question), reference, SIDES[side][1], answers))
    return parts and [
        paragraph(
            "The beginning of a passage, how it goes on in truth, and how each model goes on, greedily: first passages "
            "that should be forgotten, then ones that should stay. The number is the share of the rest's words that "
            "come back in their order (ROUGE-L recall)." + first_of(rows, passages)
        ),
        *parts,
    ]


# ---------------------------------------------------------------- first tokens, data


def first_tokens_section(questions: dict, rows: list[dict] = ()) -> list[Part]:
    """A table a question: the likeliest first tokens of every model. Takes what `reading.read_first_tokens` gives, and
    rows as answers_section does.
    """

    def cell(token, chance):
        shown = token.replace(" ", "␣").replace("\n", "⏎") or "(empty)"
        return Cell(shown, note=f"{chance:.3f}", share=chance)

    parts = [
        table(
            f"{plain(question)} True answer: {reference}",
            ["model", *(f"{at}." for at in range(1, 1 + max(map(len, found.values()))))],
            [[model, *(cell(*pair) for pair in tokens)] for model, tokens in found.items()],
        )
        for (question, reference), found in questions.items()
    ]
    return parts and [
        paragraph(
            "The five likeliest first tokens (pieces of words; ␣ is a space) of the answer, with their probabilities. "
            "A model that has forgotten by collapsing puts its weight on senseless tokens; one that still knows, on "
            "the true answer's." + first_of(rows)
        ),
        *parts,
    ]


def data_section(counts: dict | None, augmented: dict | None, foreign: dict | None = None) -> list[Part]:
    """How many pairs each set holds, what the augmented forget set consists of, and, of pairs that are not in English
    (`foreign`: how many of each set), what the numbers say of them.
    """
    parts = []
    if foreign:
        shares = ", ".join(f"{count} of {(counts or {}).get(name)} of {name}" for name, count in foreign.items())
        parts.append(paragraph(f"Not in English: {shares}. {NOT_ENGLISH}"))
    if counts is not None:
        parts.append(
            table(
                "Question-answer pairs: train to learn and unlearn from, tune to choose settings by, val to judge by.",
                ["set", "pairs"],
                [[name, Cell(str(count), count)] for name, count in counts.items()],
                sortable=True,
            )
        )
    if augmented is not None:
        parts.append(
            table(
                "The augmented forget set, which ReLearn trains on.",
                ["what", "value"],
                [[AUGMENTED.get(key, key.replace("_", " ")), str(value)] for key, value in augmented.items()],
            )
        )
    return parts


# ---------------------------------------------------------------- published and measured


def _compared(theirs, row, key):
    """Published, measured and their difference, as cells."""
    form, ours = {column.key: column.form for column in ALL}.get(key, ".4g"), row.get(key)
    is_number = isinstance(theirs, (int, float))
    return [
        Cell("–" if theirs is None else format(theirs, form) if is_number else str(theirs)),
        Cell(cell_text(row, key, form)),
        Cell(format(ours - theirs, "+" + form) if is_number and ours is not None else "–"),
    ]


def _graded(row: dict) -> dict:
    """A judging model's grades by the published tables' keys: it reads the forget answers."""
    return {f"{name}_F": row[name] for name in ("fluency", "relevance") if row.get(name) is not None}


def published_section(rows: list[dict], name: str, found: dict | None) -> list[Part]:
    """Published, measured and their difference for the models and the columns that both have.

    Args:
        name: of the published table; found: what it holds, as `reading.read_published` gives it. Models' names are
        compared without case.
    """
    if not found:
        return []
    measured = {row["model"].lower(): {**row, **_graded(row)} for row in rows}
    both = [
        (model, values, measured[model.lower()]) for model, values in found["rows"].items() if model.lower() in measured
    ]
    keys = dict.fromkeys(key for _, values, _ in both for key in values)
    keys = [key for key in keys if any(row.get(key) is not None for *_, row in both)]
    if not keys:
        return [paragraph(f"{found.get('source', name)} has nothing of these models that was measured.")]
    body = [
        [model, *(cell for key in keys for cell in _compared(values.get(key), row, key))] for model, values, row in both
    ]
    about = "; ".join(str(found[field]) for field in ("source", "model", "data") if found.get(field))
    return [
        table(
            f"Published: {about}. Difference: measured less published. Where model, data, judge of entities or "
            "entailment model are others than the paper's, rows are to be compared with each other and not number by "
            "number.",
            ["model", *(f"{key} {what}" for key in keys for what in ("published", "measured", "difference"))],
            body,
        )
    ]


# ---------------------------------------------------------------- how to make it again


def _dependencies(records, preset):
    """What the numbers depend on beside the data, [what, value]."""
    versions = {}
    for found in records:
        for name, version in (found.get("versions") or {}).items():
            versions.setdefault(name, {})[str(version)] = None
    seeds = {str(found["settings"]["seed"]) for found in records if found["settings"].get("seed") is not None}
    commits = dict.fromkeys(str(found["git_commit"]) for found in records if found.get("git_commit"))
    facts = [
        ["preset", preset],
        ["seeds", ", ".join(sorted(seeds))],
        ["git commit", ", ".join(commits)],
        ["versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())],
    ]
    return [fact for fact in facts if fact[1]]


def _step_row(line, found):
    return [
        found["script"],
        Cell(line, code=True),
        f"{found['seconds']:.0f}" if found.get("seconds") else "–",
        str(found["settings"].get("seed", "–")),
        str(found.get("git_commit") or "–"),
    ]


def repetition_section(records: dict[str, dict], preset: str | None, command: str | None) -> list[Part]:
    """From the records that every results file carries: commands, seeds, versions, commits, hashes, seconds."""
    parts, hashes = [], {}
    if command:
        parts += [paragraph("The whole run, from the repository's folder:"), code(command)]
    if records:
        facts = _dependencies(records.values(), preset)
        parts.append(table("What the numbers depend on beside the data.", ["what", "value"], facts))
        steps = table(
            "In the order of the run. Seconds: as far as the step wrote them down.",
            ["script", "command", "seconds", "seed", "git commit"],
            [_step_row(line, found) for line, found in records.items()],
        )
        parts.append(details(f"Every step: {len(records)} commands", steps))
    for found in records.values():
        hashes |= found.get("data") or {}
    if hashes:
        rows = [[path, Cell(digest, code=True)] for path, digest in hashes.items()]
        files = table("SHA-256 of what the steps read.", ["file", "SHA-256"], rows)
        parts.append(details(f"Data: {len(hashes)} files", files))
    return parts
