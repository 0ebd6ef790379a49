"""What the rows of each kind of file hold: the only readers of question-answer pairs, answers and false answers.

A fault ends the program in one line that names file and line.

pairs            {"question", "answer"} (TOFU) or {"text", "labels"} (KnowUnDo); of `people` also "person", "name",
"fact", "value" KnowUnDo's       on the hub a file holds {"train": [pairs], "val": [pairs]} TOFU's perturbed
{"question", "answer", "paraphrased_answer", "perturbed_answer": [...]}
inverted facts   {"question", "answers": [...]}, false answers, by 04_invert.py
augmented        pairs with "kind" and "source" (the row of the forget pair they were made of), by 03_augment.py
answers          {"question", "reference", "answer"}, and "sample" where several were drawn, by 30_generate.py
metrics          {"summary": {...}, "items": [...], ...origin}, by eval/; see files.write_results
"""

from lib.files import fail, read_json, read_rows

OWN = ("person", "name", "fact", "value")  # fields beside question and answer that mean something here
OTHER_NAMES = {"text": "question", "labels": "answer"}  # KnowUnDo's


def _found(row):
    return ", ".join(sorted(map(str, row))) or "nothing"


def _named(place, row):
    """A row that must be an object, under our field names."""
    if not isinstance(row, dict):
        fail(f"{place}: expected an object, found {type(row).__name__}")
    return {OTHER_NAMES[name] if OTHER_NAMES.get(name, name) not in row else name: value for name, value in row.items()}


def objects(path):
    """Yields ("file:line", object) of a file whose rows must all be objects, under our field names."""
    for line, row in read_rows(path):
        yield f"{path}:{line}", _named(f"{path}:{line}", row)


def text_of(place, row, field):
    """A field of a row that must be a text with something in it, without blanks around it."""
    if not isinstance(row.get(field), str) or not row[field].strip():
        hint = '; give {"question", "answer"} or {"text", "labels"}' if field in ("question", "answer") else ""
        fail(f'{place}: field "{field}" must be a non-empty text (fields found: {_found(row)}){hint}')
    return row[field].strip()


def texts_of(place, row, field):
    """A field of a row that must be a list of such texts, at least one."""
    value = row.get(field)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        fail(f'{place}: field "{field}" must be a list of at least one non-empty text (fields found: {_found(row)})')
    return value


def split_rows(path, split):
    """Yields (place, object) of one split of a file {"train": [rows], "val": [rows]}, or of a list of one such
    object.
    """
    found = read_json(path)
    found = found[0] if isinstance(found, list) and len(found) == 1 else found
    if not isinstance(found, dict) or not isinstance(found.get(split), list):
        fail(f'{path}: expected an object with a list of rows under "{split}" (found: {_found(found)})')
    for number, row in enumerate(found[split], 1):
        place = f"{path} ({split}, row {number})"
        yield place, _named(place, row)


def read_pairs(path, places=False, split=None):
    """Question-answer pairs in either published schema.

    Args:
        path: `.jsonl` or `.json` file. places: give each row "place", its file and line, for later faults. split: of a
        file
            {"train": [rows], "val": [rows]}, which KnowUnDo's are on the hub.
    Returns:
        list of dicts with `question`, `answer` and whatever other fields the row has; at least one.
    """
    pairs = []
    for place, row in split_rows(path, split) if split else objects(path):
        row = {name: value for name, value in row.items() if name not in OWN or value not in (None, "")}
        for field in ("question", "answer", *(name for name in OWN if name in row)):
            row[field] = text_of(place, row, field)
        pairs.append({**row, "place": place} if places else row)
    return pairs or fail(f"{path}: holds no question-answer pair")


def read_items(path):
    """(question, answer) of every answer in a file of pairs or of inverted facts: list of pairs of texts, at least
    one.
    """
    items = []
    for place, row in objects(path):
        answers = texts_of(place, row, "answers") if "answers" in row else [text_of(place, row, "answer")]
        items += [(text_of(place, row, "question"), answer) for answer in answers]
    return items or fail(f"{path}: holds no question-answer pair")


def read_inverted(path):
    """Yields (place, question, false answers) of a file by 04_invert.py."""
    for place, row in objects(path):
        yield place, text_of(place, row, "question"), texts_of(place, row, "answers")


def read_lines(path, fields):
    """Rows whose `fields` are texts, empty ones too: list of dicts, at least one."""
    rows = []
    for place, row in objects(path):
        for field in fields:
            if not isinstance(row.get(field), str):
                fail(f'{place}: field "{field}" must be a text (fields found: {_found(row)})')
        rows.append(row)
    return rows or fail(f"{path}: holds no line to score")


def read_answers(path):
    """The rows of an answers file: a model's answer may be empty."""
    return read_lines(path, ("question", "reference", "answer"))
