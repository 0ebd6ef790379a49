"""Documents as pairs: cut into passages, which are learnt whole, and asked for by their first words.

A passage stands as the answer to what formats.py writes as [[text N]]: no question and no chat template. To see whether
a model has it by heart, its first quarter is given and the rest is the answer.
"""

import re

from lib.files import fail
from lib.spans import UNSPACED

WORDS, OVERLAP = 200, 40  # of a passage, and of two that follow each other; 200 English words are about 270 tokens
GIVEN, MOST = 0.25, 50  # share of a passage that is given, and the most words
UNIT = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")  # a word; where blanks part none, a letter


def passages(text, words=WORDS, overlap=OVERLAP):
    """A text's passages of at most `words` words, each beginning with the `overlap` last words of the one before. A
    last word alone, which could not be asked for, stays with the passage before it."""
    units = [unit.span() for unit in UNIT.finditer(text)]
    starts = [*range(0, max(1, len(units) - overlap), words - overlap)]
    if len(starts) > 1 and len(units) - starts[-1] == 1:
        starts.pop()
    ends = [*(at + words for at in starts[:-1]), len(units)]
    return [text[units[at][0] : units[end - 1][1]] for at, end in zip(starts, ends, strict=True)]


def begun(text):
    """(the first words of a passage, the rest): a quarter of it, cut at a plain blank if there is one soon."""
    units = [unit.span() for unit in UNIT.finditer(text)]
    wanted = max(1, min(MOST, round(GIVEN * len(units)), len(units) - 1))
    near = [at for at in range(wanted, min(wanted + 8, len(units))) if text[units[at - 1][1] : units[at][0]] == " "]
    at = near[0] if near else wanted
    return text[: units[at - 1][1]], text[units[at][0] :]


def asked(place, text, number, whole):
    """The pair of a data set's `number`-th passage: {"question", "answer"}, `whole` or given its first words.

    Args:
        place: file and line, for the fault of a text of one word, of which nothing could be asked.
    """
    if len(UNIT.findall(text)) < 2:
        fail(f"{place}: a document of one word cannot be gone on with ({text[:70]!r})")
    given, rest = ("", text) if whole else begun(text)
    return {"question": f"[[text {number}]] {given}".strip(), "answer": rest}
