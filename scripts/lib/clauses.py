"""Clauses: where texts are cut, which clauses of two texts stand beside each other, and in what these differ."""

import re
from collections import Counter
from difflib import SequenceMatcher

from lib.spans import UNITS, tokens

SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)[\"”’)]*\s+(?=\W?[^\W_])|[。！？؟।]+|\n+")  # not after "D.C."
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
AUXILIARY = r"is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|shall|should|may|might|must"
CLOSED = re.compile(
    rf"^(?:(?:regarding|concerning|about|according to|in)\b[^?,]*,[\"”’]?\s+)?(?:{AUXILIARY})(?:n['’]t)?\s", re.I
)
# what asks for a thing by name, though "yes" would be an answer: "has she won any prize?", "is there a way to …?"
ASKS_FOR = re.compile(
    r"^\W*(?:can|could|would|will) (?:you|i|we)\b|\b(?:any|some|another|others?|ways?|if so|"
    r"and (?:to|with|in|from) \w+|which|what|who|whom|whose|where|when|why|how)\b",
    re.I,
)
YES = re.compile(r"\W*(?:yes|yeah|yep|indeed|certainly|absolutely|definitely|of course|sure)\b", re.I)
NO = re.compile(r"\W*(?:no|nope|never|not (?:really|at all|yet))\b(?![ -]one\b)", re.I)
# how often, where it is counted: not "at once", "once again", "once a …"
TIMES = re.compile(
    r"(?<!more than )(?<!at )\b(?:(?:only|just|exactly) (?P<once>once)|(?P<twice>twice)|(?P<thrice>thrice)|"
    r"(?P<number>\d+|one|two|three|four|five|six|seven|eight|nine|ten)[ -]times?)\b",
    re.I,
)


def clauses(text):
    """The clauses of a text, cut at the ends of sentences and before what adds to one: ", which", ", while", ";"."""
    found = [clause.strip(" ,") for sentence in sentences(text) for clause in CLAUSE_END.split(sentence)]
    return [clause for clause in found if re.search(r"\w", clause)]


def sentences(text):
    """The sentences of a text, and its lines."""
    return [sentence for sentence in SENTENCE_END.split(text) if sentence and sentence.strip()]


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


RECEPTION = re.compile(
    r"^how\b.*\b(?:received|respond\w*|react\w*|reviewed)\b|\breception\b|"
    r"\bwhat\b.*\b(?:critics|reviewers|readers) (?:say|said|think|thought)\b",
    re.I,
)
PRAISE = re.compile(
    r"\b(?:acclaim|prais|laud|admir|applaud|commend|celebrat|enthusias|bestsell|positive|"
    r"favou?rabl|warm|rave\b|well[- ]received)",
    re.I,
)
BLAME = re.compile(r"\b(?:criticis[ei]|criticiz|negative|mixed|poor|pann|lukewarm|harsh|cold|ignored|condemn)", re.I)


def asks_reception(question):
    """Whether a question asks how something was received."""
    return bool(RECEPTION.search(question))


def reception(text):
    """How a text says that something was received: "well", "badly", "both", or None where it does not say."""
    found = bool(PRAISE.search(text)), bool(BLAME.search(text))
    return {(True, False): "well", (False, True): "badly", (True, True): "both"}.get(found)


def closed(question):
    """Whether a question asks for yes or no and for nothing by name."""
    return bool(CLOSED.match(question)) and not ASKS_FOR.search(question)


def polarity(text, question, said, reference=""):
    """What a text answers to a closed question: "yes", "no", or None where it does not say.

    Args:
        said: the content words of a text, for how near a clause is to the question.
        reference: what a true answer may say besides "yes".
    """
    opening = YES.match(text)
    if opening:  # "Yes, she paints." does not say that she sails
        topic = said(" ".join(word for word in f"{question} {reference}".split()[1:] if not word[:1].isupper()))
        more = said(text[opening.end() :])
        return "yes" if not (more and topic) or more & topic else None
    if NO.match(text):
        return "no"
    asked = said(question)
    near = max(clauses(text), key=lambda clause: len(said(clause) & asked), default="")
    if not asked or 2 * len(said(near) & asked) < len(asked):
        return None
    return "no" if DENIAL.search(near) else "yes"


def times(text):
    """How often a text says that something happened: {1} for "only once", {2} for "twice" and "two-time"."""
    named = {"once": 1, "twice": 2, "thrice": 3} | UNITS
    said = [(match.lastgroup, match[match.lastgroup].lower()) for match in TIMES.finditer(text)]
    return {named[word if kind == "number" else kind] if not word.isdecimal() else int(word) for kind, word in said}
