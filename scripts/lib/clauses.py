"""Clauses: where texts are cut, which clauses of two texts stand beside each other, and in what these differ."""

import re
from collections import Counter
from difflib import SequenceMatcher
from itertools import pairwise

from lib.spans import tokens

SENTENCE_END = re.compile(r"(?<=[.!?])[\"”’)]*\s+(?=\W?[^\W_])|[。！？؟।]+|\n+")
OPENERS = (  # what may open a clause that adds to the one before, after a comma
    r"\w+ing|who|whom|whose|which|where|when|while|whereas|and|but|or|so|as|since|because|though|although|further|thus|thereby|"
    r"however|often|with|for|both|an?|one|such|specifically|particularly|especially|known|set"
)
CLAUSE_END = re.compile(
    rf"[;，；、،؛]|,[\"”’]?\s+(?=(?:{OPENERS})\b)|\s+(?=(?:while|whereas|which|because|but)\b)", re.I
)
# what says no: where one of two like clauses has it and the other has not, they contradict
DENIAL = re.compile(
    r"\b(not|never|no|nor|neither|cannot|nobody|nothing|without)\b|n['’]t\b|\b(не|нет|никогда|nicht|kein\w*|nie|niemals|ne|pas|"
    r"jamais|nunca|não|non|mai|ليس|ليست|لا|لم|לא|אין|नहीं)\b|[不没無无]|ません|ない|아니|않|없",
    re.I,
)
ALIKE = 0.7  # how much two clauses share that say the same, or its contrary


def clauses(text):
    """The clauses of a text, cut at the ends of sentences and before what adds to one: ", which", ", while", ";"."""
    found = [clause.strip(" ,") for sentence in SENTENCE_END.split(text) for clause in CLAUSE_END.split(sentence or "")]
    return [clause for clause in found if re.search(r"\w", clause)]


def passages(text):
    """A text, its sentences, and every two sentences that follow each other: what another text may be compared with as
    a whole.
    """
    sentences = [sentence for sentence in SENTENCE_END.split(text) if sentence and sentence.strip()]
    return list(dict.fromkeys([text, *sentences, *map(" ".join, pairwise(sentences))]))


def like(one, two):
    """How much two lists of words share: 0 to 1 (Dice)."""
    shared = sum((Counter(one) & Counter(two)).values())
    return 2 * shared / ((len(one) + len(two)) or 1)


def beside(reference, answer):
    """Each clause of the reference with the clause of the answer that is most like it: list of (clause, clause)."""
    theirs = [(clause, tokens(clause)) for clause in clauses(answer)]
    pairs = []
    for clause in clauses(reference):
        own = tokens(clause)
        best = max(theirs, key=lambda other: like(own, other[1]), default=None)
        if best:
            pairs.append((clause, best[0]))
    return pairs


def swapped(one, two):
    """What stands in a clause where another, alike before or after it, has something else: list of (words, words)."""
    one, two = tokens(one), tokens(two)
    steps = SequenceMatcher(None, one, two, autojunk=False).get_opcodes()
    return [(one[a:b], two[c:d]) for step, a, b, c, d in steps if step == "replace"]


def denied(one, two):
    """Whether one of two clauses that are otherwise alike says no and the other does not."""
    if bool(DENIAL.search(one)) == bool(DENIAL.search(two)):
        return False
    return like(tokens(DENIAL.sub(" ", one)), tokens(DENIAL.sub(" ", two))) >= ALIKE
