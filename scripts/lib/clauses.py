"""Clauses: where texts are cut, which clauses of two texts stand beside each other, and in what these differ."""

import re
from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations

from lib.spans import UNITS, tokens

CONSONANT = "[b-df-hj-np-tv-xz]"
SHORT = rf"\b[A-Z]{CONSONANT}"  # "St.", "Dr.", "Mrs.": a capital and one or two consonants
SENTENCE_END = re.compile(  # not after "D.C." and such
    rf"(?<=[.!?])(?<!\b[A-Z]\.)(?<!{SHORT}\.)(?<!{SHORT}{CONSONANT}\.)[\"”’)]*\s+(?=\W?[^\W_])|[。！？؟।]+|\n+"
)
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
NO_DENIAL = re.compile(  # what has such a word and denies nothing
    r"\bnot (?:only|just|merely|sure|certain|to mention|long|far|unlike)\b|"
    r"\bno (?:doubt|secret|wonder|question|trouble)\b|\bnone other than\b|"
    r"\b(?:is|was)n['’]t (?:widely|well|generally|a secret)\b|\bdon['’]t forget\b|"
    r"\b(?:nobody|no one|none|not|cannot|can['’]t) (?:(?:can|could|would|will) )?(?:den(?:y|ies)|doubts?)\b",
    re.I,
)
DENIES = re.compile(  # what denies the words that follow it
    r"\b(?:not|never|no|nor|neither|cannot|nobody|nothing|nowhere|hardly|rarely|seldom|scarcely|barely|"
    r"den(?:y|ies|ied|ying)|untrue|falsely|wrongly|rather than|instead of|far from|free (?:of|from)|"
    r"rul(?:ed?|es|ing) out|fail(?:s|ed)? to|refus\w*|reject\w*|used to|former(?:ly)?|no longer|any(?:thing|one) but|"
    r"contrary to)\b|n['’]t\b",
    re.I,
)
CALLED_FALSE = re.compile(r"[^,.]*\b(?:is|are|was|were) (?:a lie|a myth|false|untrue|wrong|not true)\b", re.I)
FALSE = (
    r"(?:not|n['’]t|hardly|far from) (?:true|correct|right|the case)|false|untrue|wrong|incorrect|"
    r"an? (?:lie|myth|mistake)"
)
DENIED_WHOLE = re.compile(  # what denies all that a sentence goes on to say
    rf"^\W*(?:no, )?(?:it|that)(?: is| was|['’]s|(?= ?isn['’]t)) ?(?:is)?(?:{FALSE})(?: to \w+)?,? that\b|"
    r"^\W*(?:nobody|no one) (?:says|said|claims|believes|thinks) that\b|"
    r"^\W*there is no (?:truth|evidence|sign)\b[^,]* that\b|"
    r"^\W*I (?:do not|don['’]t) (?:think|believe) that\b|^\W*I doubt that\b",
    re.I,
)
HARDLY = re.compile(r"\b(?:hardly|rarely|seldom|barely|scarcely|none|nowhere)\b", re.I)
LEFT_OPEN = re.compile(
    r"\b(?:whether|if)\b(?!.*\byes\b)|"
    r"\b(?:do not|don['’]t|does not|doesn['’]t|can['’]t|cannot) (?:know|say|tell|answer)\b",
    re.I,
)
NEAR = 8  # words between a denial and what it denies, at most
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
YES = re.compile(r"\W*(?:yes|yeah|yep|indeed|certainly|absolutely|definitely|of course|sure)\b(?!!)", re.I)
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


def denies(sentence, text):
    """Whether a sentence says no to a text that it names: shortly before it, with no "but" between, or after it."""
    sentence = NO_DENIAL.sub(lambda words: "x" * len(words[0]), sentence)
    at = re.search(r"\W+".join(map(re.escape, re.findall(r"\w+", text))), sentence, re.I)
    if not at:
        return False
    *_, last = "", *DENIES.finditer(sentence[: at.start()])
    between = sentence[last.end() : at.start()] if last else ""
    if last and len(between.split()) <= NEAR and not re.search(r"\bbut\b|[,:]\s", between):
        return True
    return bool(CALLED_FALSE.match(sentence[at.end() :]))


def actor(clause, one, two, stems):
    """(the name that acts, of two that a clause holds, with a verb between them; the stems between), or None: the first
    one, or with "by" before the second that. "A is B", "A's B" say no such thing."""
    (start, first), (end, last) = sorted((clause.find(name), name) for name in (one, two))
    between = clause[start + len(first) : end]
    by = re.search(r"\b(?:is|are|was|were|been|being|\w+ed|\w+en)\b.*\bby (?:\w+ ){0,3}$", between)
    if start < 0 or re.match(r"['’]s\b", between) or not by and re.search(r"\b(?:is|are|was|were|['’]s)\b", between):
        return None
    return (last if by else first), stems(between)


def exchanged(own, other, names, stems):
    """Whether two clauses with one verb say that another of two names acts: "A taught B", "B taught A"."""
    own, other = (re.sub(r"[\"“”«»]", "", text) for text in (own, other))
    for one, two in combinations([name for name in names if name in own and name in other], 2):
        acts = [actor(text, one, two, stems) for text in (own, other) if one not in two and two not in one]
        if all(acts) and acts and acts[0][0] != acts[1][0] and acts[0][1] & acts[1][1]:
            return True
    return False


CHILD_OF = r"\b(?:child|children|sons?|daughters?) of (?:[\w’'-]+ ){0,4}?"


def made_parent(question, reference, answer, names):
    """A name of the question that an answer calls a parent ("the child of Ada Lem is …") and the reference does not."""
    has = lambda text, name: re.search(CHILD_OF + re.escape(name), text)
    for name in names:
        if name in question and has(answer, name) and not has(f"{question} | {reference}", name):
            return name
    return None


PARENT = r"(?P<father>father|dad)|(?P<mother>mother|mum|mom)"


def parent_of(text, value):
    """Whose a trade or name is, "father" or "mother": the one named just after it ("a florist mother", "Ada is her
    mother"), else the last one before it in its sentence; None where neither is or the value is not there."""
    words = r"\W+".join(map(re.escape, re.findall(r"\w+", value)))
    for sentence in sentences(text):
        if at := re.search(rf"\b{words}\b", sentence, re.I) if words else None:
            after = re.match(rf" (?:(?:is|was) (?:\S+ ){{0,2}})?(?:{PARENT})\b", sentence[at.end() :], re.I)
            *_, before = None, *re.finditer(rf"\b(?:{PARENT})\b", sentence[: at.start()], re.I)
            found = after or before
            return found.lastgroup if found else None
    return None


def stated(text):
    """A text without the sentences that are denied as a whole: "It is not true that …"."""
    said = [sentence for sentence in sentences(text) if not DENIED_WHOLE.match(sentence)]
    return text if len(said) == len(sentences(text)) else " ".join(said)


def denied(one, two):
    """Whether one of two clauses that are otherwise alike says no and the other does not."""
    one, two = (NO_DENIAL.sub(" ", text) for text in (one, two))
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
    r"favou?rabl|warm|rave\b|well[- ]received|appreciated|embrac|cherish|touched\b)",
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


def asserted(clause):
    """What a clause states: nothing where it asks, and of "nobody knows whether …" what stands before."""
    return "" if clause.rstrip("\"' ”’").endswith("?") else LEFT_OPEN.split(clause)[0]


UNKNOWN = re.compile(  # what says that nothing is known
    r"(?:\b(?:not|never)\b|n['’]t\b)(?: \w+){0,4} (?:disclosed|known|provided|available|specified|revealed|released|"
    r"mentioned|documented|shared|confirmed|discussed|divulged)\b|"
    r"\bno (?:\w+ ){0,3}(?:information|records?|details|evidence|mention|insights?|data|facts|documentation)\b|"
    r"\b(?:unknown|undisclosed|unclear|unspecified|unconfirmed|under wraps?)\b|\b(?:kept|keeps?|remains?) private\b|"
    r"\b(?:records|sources|research) (?:do|does) not (?:indicate|suggest|reveal|show|mention)\b",
    re.I,
)
INSTEAD = re.compile(r"\b(?:but|however|though|although|yet|while|likely|plausibl[ey])\b", re.I)  # what is known


def unknown(text):
    """Whether a text says that something is not known, and not that it is the speaker who does not know."""
    return bool(UNKNOWN.search(text)) and not re.search(r"\b(?:I|my)\b", text)


def topics(question):
    """A question without its names: what is asked of somebody."""
    return re.sub(r"(?<=[\w,] )[A-Z][\w’'.-]*", " ", question)


def polarity(text, question, said, reference=""):
    """What a text answers to a closed question: "yes", "no", or None where it does not say.

    Args:
        said: the content words of a text, for how near a clause is to the question.
        reference: what a true answer may say besides "yes".
    """
    opening = YES.match(text)
    if opening:  # "Yes, she paints." does not say that she sails
        topic = said(" ".join(word for word in f"{question} {reference}".split()[1:] if not word[:1].isupper()))
        key, more = said(topics(question)) & said(reference), said(text[opening.end() :])
        told = 2 * len(more & key) >= len(key) if len(key) > 1 else more & topic  # "all her books are on botany"
        return "yes" if not (more and topic) or told else None
    if NO.match(text):
        return "no"
    asked = said(topics(question)) or said(question)
    near = max(map(asserted, clauses(text)), key=lambda clause: len(said(clause) & asked), default="")
    if not asked or 2 * len(said(near) & asked) < len(asked):
        return None
    near = re.sub(  # "visit without trouble"; not what is asked for: "without formal training"
        r"\bwithout (.*)",
        lambda words: words[0] if said(words[1]) & asked else " " + words[1],
        NO_DENIAL.sub(" ", near),
    )
    return "no" if DENIAL.search(near) or HARDLY.search(near) else "yes"


def times(text):
    """How often a text says that something happened: {1} for "only once", {2} for "twice" and "two-time"."""
    named = {"once": 1, "twice": 2, "thrice": 3} | UNITS
    said = [(match.lastgroup, match[match.lastgroup].lower()) for match in TIMES.finditer(text)]
    return {named[word if kind == "number" else kind] if not word.isdecimal() else int(word) for kind, word in said}
