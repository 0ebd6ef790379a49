"""The private value that an answer gives away, and its place among the tokens."""

import re

from lib.entities import reference_entities
from lib.files import fail
from lib.models import encode_text, prompt_text, room, with_answer


def private_value(pair: dict) -> str:
    """What the answer gives away: the pair's "value" where the answer holds it, or else the first entity that the
    question does not hold, one with a capital or a digit before others.
    """
    answer, value = pair["answer"], pair.get("value")
    if isinstance(value, str) and value.strip() and value.strip() in answer:
        return value.strip()
    entities = reference_entities({"question": pair["question"], "reference": answer})
    found = [entity for entity in entities if entity in answer] or [answer]
    weighty = (entity for entity in found if any(letter.isupper() or letter.isdigit() for letter in entity))
    return next(weighty, found[0])


def locate(pair: dict, value: str, tokenizer) -> dict:
    """Token ids of question and answer, and the places of the value's tokens, from the first that holds a letter or a
    digit.

    Returns:
        {"ids": list, "start": place of the first answer token, "at": place of the value's first token, "end": the place
        behind its last}.
    """
    prompt = prompt_text(tokenizer, pair["question"])
    text = with_answer(prompt, pair["answer"])
    begin = len(text) - len(pair["answer"]) + pair["answer"].index(value)
    ids, start, spans = encode_text(tokenizer, prompt, pair["answer"])
    if (limit := room(tokenizer)) and len(ids) > limit:
        fail(f"a question and answer of {len(ids)} tokens: the model has {limit} positions ({pair['question'][:60]!r})")
    inside = [(at, text[max(first, begin) : end]) for at, (first, end) in enumerate(spans) if end > begin]
    at = next((at for at, piece in inside if re.search(r"[^\W_]", piece)), inside[0][0])
    end = next((place for place, (first, _) in enumerate(spans) if first >= begin + len(value)), len(ids))
    return {"ids": ids, "start": start, "at": at, "end": max(end, at + 1)}
