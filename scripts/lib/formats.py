"""What the rows of each kind of file hold: the only readers of question-answer pairs, answers and false answers.

A fault ends the program in one line that names file and line.

pairs            {"question", "answer"} (TOFU) or {"text", "labels"} (KnowUnDo); of `people` also "person", "name",
                 "fact", "value"
KnowUnDo's       on the hub a file holds {"train": [pairs], "val": [pairs]}
TOFU's perturbed {"question", "answer", "paraphrased_answer", "perturbed_answer": [...]}
conversations    {"messages": [{"role", "content"}, ...]} or {"conversations": [{"from", "value"}, ...]}; the last turn
                 is the answer
documents        {"text"} alone, and .txt and .md files: `read_given`, for 01_data.py, which makes pairs of them
inverted facts   {"question", "answers": [...]}, false answers, by 04_invert.py
augmented        pairs with "kind" and "source" (the row of the forget pair they were made of), by 03_augment.py
answers          {"question", "reference", "answer"}, and "sample" where several were drawn, by 30_generate.py
metrics          {"summary": {...}, "items": [...], ...origin}, by eval/; see files.write_results

A question is a text, what the user asks. Two other things that an answer may follow are written in its place, and
`models.prompt_text` alone, in training, generation and evaluation, makes a prompt of them:
[[user]] Who is Ada? ⏎ [[assistant]] An engineer. ⏎ [[user]] Where does she live?
                 the turns of a conversation up to the answer ([[system]] may come first); each begins a line
[[text 3]] Dear Ada, I have
                 the first words of a data set's third passage, or none: no chat template
"""

import re

from lib.files import fail, read_json
from lib.tables import TEXTS, kind
from lib.tables import places as places_of

OWN = ("person", "name", "fact", "value", "subject")  # fields beside question and answer that mean something here
OTHER_NAMES = {"text": "question", "labels": "answer"}  # KnowUnDo's
CHATS = ("messages", "conversations")
COLUMNS = ("question", "answer", "text", "labels", *CHATS, *OWN, "request", "document")  # others' names, by --columns
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot"), "assistant"),
}
TURN = re.compile(r"^\[\[(system|user|assistant)\]\] ", re.M)
PASSAGE = re.compile(r"\[\[text(?: \d+)?\]\] ?")

FOREIGN = 0.1  # share of pairs in other languages from which on a set is not treated as English
NOT_ENGLISH = (  # what rules cannot do in other languages, and what to use instead
    "Rules know English. ReLearn's vague answers in German, Spanish, French, Russian, Arabic and Chinese name nobody "
    "and fit any question; in other languages they are English, and so are the refusals of IDK and DPO; false answers "
    "(MEOW, AltPO) swap only numbers and capitalised names; KFR and KRR compare names, numbers and words as they "
    "stand, not wordings that mean the same; leak knows a name by its capital, so in Arabic or Chinese only numbers; "
    'LS counts words between blanks, of which Chinese has none. Instead: AUGMENT and INVERT "--backend local|api '
    '--backend-model NAME" in a preset; --metrics judge with --judge "--entities llm --judge-model NAME". Methods that '
    "need no written answers (GA, NPO, SimNPO, RKLD, RMU and others) train as in English."
)

# ---------------------------------------------------------------- what may stand in a question's place


def turns_of(question):
    """What was said before an answer, list of (role, text): a plain question is one turn of the user's."""
    if not TURN.match(question):
        return [("user", question)]
    _, *parts = TURN.split(question)
    return [(role, text.strip()) for role, text in zip(parts[::2], parts[1::2])]


def last_turn(question):
    """(what stands before the last thing asked, that); nothing stands before a plain question."""
    begins = [turn.end() for turn in TURN.finditer(question)] if TURN.match(question) else []
    return question[: begins[-1]] if begins else "", question[begins[-1] :] if begins else question


def given_of(question):
    """The words of a passage that stand in a question's place, possibly none; None of any other question."""
    found = PASSAGE.match(question)
    return question[found.end() :] if found else None


def questions_of(pairs):
    """Pairs or items without the passages of documents, which count only where there are no questions."""
    return [pair for pair in pairs if given_of(pair["question"]) is None] or pairs


def foreign(pairs):
    """The pairs that are not in English."""
    from lib.entities import english  # not before it is needed: the plan has nothing but Python's own library

    return [pair for pair in pairs if not english(f"{plain(pair['question'])} {pair['answer']}")]


def plain(question):
    """A question, conversation or passage without the marks, as one text."""
    given = given_of(question)
    return given if given is not None else "\n".join(text for _, text in turns_of(question))


def _conversation(place, row, field):
    """(question, answer) of a conversation: the assistant's last turn, and all before it."""
    messages, turns = row[field], []
    if not isinstance(messages, list) or len(messages) < 2:
        fail(f'{place}: field "{field}" must be a list of two messages at least, a question and the answer to it')
    for at, message in enumerate(messages, 1):
        where = f'{place}: message {at} of "{field}"'
        if not isinstance(message, dict):
            fail(f"{where}: expected an object, found {type(message).__name__}")
        role, text = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if isinstance(text, list):  # parts; only texts can be learnt
            parts = [part.get("text") if isinstance(part, dict) else None for part in text]
            text = "\n".join(parts) if all(isinstance(part, str) for part in parts) else None
        if not isinstance(role, str) or role.lower() not in ROLES:
            fail(f"{where}: its role must be system, user or assistant, not {role!r}")
        if not isinstance(text, str) or not text.strip():
            fail(f"{where}: its content must be a non-empty text")
        if TURN.search(text):
            fail(f"{where}: a line that begins with {TURN.search(text)[0]!r} would be taken for a turn")
        turns.append((ROLES[role.lower()], text.strip()))
    order = [role for role, _ in turns[turns[0][0] == "system" :]]
    if order != ["user", "assistant"] * (len(order) // 2) or not order:
        found = ", ".join(role for role, _ in turns)
        fail(
            f'{place}: the turns of "{field}" must be user, assistant, user, assistant and so on, after a system turn '
            f"or none, and end with the assistant's, which is the answer (found: {found})"
        )
    question = "\n".join(f"[[{role}]] {text}" for role, text in turns[:-1])
    return question if len(turns) > 2 else turns[0][1], turns[-1][1]


# ---------------------------------------------------------------- rows


def _found(row):
    return ", ".join(sorted(map(str, row))) or "nothing"


def _object(place, row):
    if not isinstance(row, dict):
        fail(f"{place}: expected an object, found {type(row).__name__}")
    return row


def _named(place, row):
    """A row that must be an object, under our field names. A conversation's text is only the same once more."""
    row = _object(place, row)
    if any(row.get(field) for field in CHATS):
        return row
    return {OTHER_NAMES[name] if OTHER_NAMES.get(name, name) not in row else name: value for name, value in row.items()}


def objects(path):
    """Yields ("file:line", object) of a file whose rows must all be objects, under our field names."""
    for place, row in places_of(path):
        yield place, _named(place, row)


def text_of(place, row, field):
    """A field of a row that must be a text with something in it, without blanks around it."""
    if not isinstance(row.get(field), str) or not row[field].strip():
        hint = '; give {"question", "answer"} or {"text", "labels"}' if field in ("question", "answer") else ""
        hint += ", or say by --columns what they are called" if hint and not {"question", "text"} & set(row) else ""
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


def _pair(place, row):
    """A row as a pair, whose texts are what they must be; fields that are there and empty are none."""
    for field in CHATS:
        if field in row and not row.get("question"):
            question, answer = _conversation(place, row, field)
            row = {
                **{name: value for name, value in row.items() if name != field},
                "question": question,
                "answer": answer,
            }
    row = {name: value for name, value in row.items() if name not in OWN or value not in (None, "")}
    for field in ("question", "answer", *(name for name in OWN if name in row)):
        row[field] = text_of(place, row, field)
    return row


def read_pairs(path, places=False, split=None):
    """Question-answer pairs in any schema.

    Args:
        path: a file, in any format that tables.py reads, or a folder or a list of such. places: give each row "place",
        its file and line, for later faults. split: of a file {"train": [rows], "val": [rows]}, which KnowUnDo's are on
        the hub.
    Returns:
        list of dicts with `question`, `answer` and whatever other fields the row has; at least one.
    """
    pairs = []
    for place, row in split_rows(path, split) if split else objects(path):
        row = _pair(place, row)
        pairs.append({**row, "place": place} if places else row)
    return pairs or fail(f"{_name(path)}: holds no question-answer pair")


def _name(path):
    return " ".join(map(str, path)) if isinstance(path, list) else path


def read_given(path, columns=None):
    """Rows as people have them: pairs in any schema, and documents, {"text"} without "labels" or anything else asked.

    Args:
        path: as of `read_pairs`. columns: {our name of a field: the file's}.
    Returns:
        list of (place, pair or {"text", …}), at least one. Only a pair has a `question`, and maybe a `text` beside it.
    """
    found, kinds, columns = [], {}, columns or {}
    for place, row in places_of(path, columns.values()):
        row, file = _object(place, row), place.rpartition(":")[0]
        named = {} if kind(file) in TEXTS else columns  # a plain text has no columns
        for theirs in named.values():
            if theirs not in row:
                fail(f"{place}: no field {theirs!r}, which --columns names (fields found: {_found(row)})")
        rest = {name: value for name, value in row.items() if name not in named.values() and value is not None}
        row = rest | {ours: row[theirs] for ours, theirs in named.items()}
        document = "text" in row and not {"labels", "answer", "question", *CHATS} & set(row)
        if kinds.setdefault(file, document) and not document:
            fail(f"{place}: a pair, and the rows before it are texts alone: documents and pairs are two files")
        if document and kinds[file]:
            found.append((place, {**row, "text": text_of(place, row, "text")}))
        else:
            found.append((place, _pair(place, _named(place, row))))
    return found or fail(f"{_name(path)}: holds no question-answer pair and no text")


def columns_of(text):
    """{our name: the file's} of "question=prompt,answer=completion"."""
    columns = dict(part.partition("=")[::2] for part in text.split(",") if part.strip()) if text else {}
    columns = {ours.strip(): theirs.strip() for ours, theirs in columns.items()}
    for ours, theirs in columns.items():
        if ours not in COLUMNS or not theirs:
            fail(f"--columns {text}: give NAME=COLUMN, several by comma; NAME is one of {', '.join(COLUMNS)}")
    return columns


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


def read_lines(path, fields, filled=()):
    """Rows whose `fields` are texts, empty ones too but for those `filled`: list of dicts, at least one."""
    rows = []
    for place, row in objects(path):
        for field in filled:
            text_of(place, row, field)
        for field in fields:
            if not isinstance(row.get(field), str):
                fail(f'{place}: field "{field}" must be a text (fields found: {_found(row)})')
        rows.append(row)
    return rows or fail(f"{path}: holds no line to score")


def read_answers(path):
    """The rows of an answers file: a model's answer may be empty."""
    return read_lines(path, ("question", "reference", "answer"), filled=("question", "reference"))
