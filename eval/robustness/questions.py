"""The same questions in other ways: framed, mistyped, in other words, or with the answer's first words there."""

import math
import random
import re
from pathlib import Path

from lib.clauses import like
from lib.entities import beyond, entities
from lib.files import fail, read_object
from lib.formats import plain, text_of, texts_of
from lib.leak import gives_away, private_values
from lib.models import prompt_text, with_answer
from lib.spans import tokens
from lib.wordings import other_wordings

from jinja2 import TemplateError

TEXTS = ("role-play", "prefix", "typos", "paraphrase", "multi-turn")
JUDGED_BY = ("subject", "value")  # fields of a row that its verdict rests on, here as in the table
LETTERS = re.compile(r"[^\W\d_]*")
ALIKE = 0.5  # how much two answers share that tell one fact, where no value shows it


def mistyped(question: str, seed: int) -> str:
    """The question with a slip in every third word of four letters or more: two letters swapped, one lost or one
    doubled.

    Words with a capital are spared while there are others: a misspelt name would ask about somebody else.
    """
    rng, words = random.Random(f"{seed} {question}"), question.split(" ")
    letters = lambda word: len(LETTERS.match(word)[0])
    long = [at for at, word in enumerate(words) if letters(word) > 3]
    chosen = [at for at in long if words[at][0].islower()] or long
    for at in rng.sample(chosen, math.ceil(len(chosen) / 3)):
        word = words[at]
        slips = [
            word[:place] + slip + word[place + 2 :]
            for place in range(1, letters(word) - 2)  # first and last letter stay
            for slip in (word[place + 1] + word[place], word[place + 1], word[place] * 2 + word[place + 1])
        ]
        words[at] = rng.choice([slip for slip in slips if slip != word])
    return " ".join(words)


def beginning(row: dict, count: int) -> tuple[str, str]:
    """(the answer's first words, the rest). At most `count` words, and so few that the private thing is still to be
    told.

    Where the row names its private `value`, none of it is given away; in any case the rest keeps an entity that neither
    question nor beginning has. The model is judged by the rest alone.
    """
    words, value = row["answer"].split(), row.get("value")
    for given in range(min(count, len(words) - 1), 0, -1):
        first, rest = " ".join(words[:given]), " ".join(words[given:])
        told = isinstance(value, str) and value in row["answer"] and value not in rest
        if not told and beyond(f"{row['question']} {first}", entities(rest)):
            return first, rest
    return "", row["answer"]


def reworded(rows: list[dict], path: str) -> tuple[list[dict] | None, str | None]:
    """(other wordings of the same facts, {"question", "answer"} for each row, or None; what is wrong, or None).

    TOFU's perturbed files hold them as paraphrased_question and paraphrased_answer.
    """
    others, fault = other_wordings(rows, path)
    if fault:
        return None, fault
    for row in others:
        for name in ("question", "answer"):
            if f"paraphrased_{name}" in row:
                row[name] = text_of(row["place"], row, f"paraphrased_{name}")
    if same := next((other for row, other in zip(rows, others) if row["question"] == other["question"]), None):
        return None, f"{same['place']}: this is the forget question itself; paraphrases ask in other words"
    return others, None


def paraphrases(rows: list[dict], path: str | None, forget: str) -> tuple[list[dict] | None, str | None, str]:
    """(other wordings or None, why there are none, their file): of `path`, or of the file of tuning questions beside
    `forget`.

    A fault of a file that was named ends the program.
    """
    named, path = path, path or str(Path(forget).with_name("forget_tune.jsonl"))
    others, fault = (None, f"{path}: no such file")
    if named or Path(path).is_file():
        others, fault = reworded(rows, path)
    if fault and named:
        fail(fault)
    if others and not named and (odd := next((both for both in zip(rows, others) if not same_fact(*both)), None)):
        others, fault = None, f"{odd[1]['place']}: does not seem to tell the same as {odd[0]['place']}"
    return others, fault, path


def same_fact(row: dict, other: dict) -> bool:
    """Whether two pairs tell one fact, as far as their data or their answers show: a shared private value or words."""
    if "person" in row and "fact" in row:
        return True  # paired by these
    private = private_values({**row, "reference": row["answer"]})
    return any(gives_away(other["answer"], value) for value in private) or (
        like(tokens(row["answer"]), tokens(other["answer"])) >= ALIKE
    )


def read_frames(path: str) -> dict[str, list[str]]:
    """{attack: turns} of a file like data/attacks.json; a text is one turn, and the last turn holds {question}."""
    found = read_object(path)
    frames = {"role-play": [text_of(path, found, "role-play")], "multi-turn": texts_of(path, found, "multi-turn")}
    for name, turns in frames.items():
        if "{question}" not in turns[-1] or len(turns) % 2 == 0:
            fail(f'{path}: "{name}" must end with a turn of the user that holds {{question}}')
    return frames


def attack_items(rows: list[dict], attack: str, frames: dict, others: list | None, words: int, seed: int) -> list[dict]:
    """What is asked under an attack, an item a row: the turns of the chat, what of the answer is `given`, and what the
    judge reads.

    The judge reads the question as it was before typos or frames; for a paraphrase, it and the answer in its own words.
    Under `prefix` the given words count as part of the question, so that neither they nor their entities are counted as
    recalled.

    Args:
        rows: forget pairs. frames: as `read_frames` gives them. others: other wordings, for "paraphrase". words: of the
        answer given at most, for "prefix". seed: of the typos.
    """
    items = []
    for row, other in zip(rows, others or rows, strict=True):
        question, reference = row["question"], row["answer"]
        item = {"attack": attack, "question": question, "reference": reference, "turns": [question], "given": ""}
        item |= {field: row[field] for field in JUDGED_BY if field in row}
        if attack == "typos":
            item["turns"] = [mistyped(question, seed)]
        elif attack == "paraphrase":
            item |= {"question": other["question"], "reference": other["answer"], "turns": [other["question"]]}
        elif attack in frames:
            item["turns"] = [turn.replace("{question}", plain(question)) for turn in frames[attack]]
        elif attack == "prefix":
            item["given"], item["reference"] = beginning(row, words)
            item["question"] = f"{question} {item['given']}".strip()
        items.append(item)
    return items


def prompt(tokenizer, item: dict) -> str:
    """The text of the chat up to where the model goes on."""
    try:
        text = prompt_text(tokenizer, *item["turns"])
    except TemplateError as error:
        fail(f"the model's chat template takes no {item['attack']} chat: {error}; leave the attack out by --attacks")
    return with_answer(text, item["given"])
