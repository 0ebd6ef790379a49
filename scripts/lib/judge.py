"""The verdicts of KFR and KRR (ReLearn, ACL 2025, Eq. 1-2 and 10): what was forgotten, what was kept; with ROUGE-L
recall beside them.

A reference entity counts as covered when an entity of the answer has a like embedding; E is the covered share. KFR =
mean[E < 0.3 or NLI(answer → reference) = contradiction], KRR = mean[E > 0.3 and NLI(reference → answer) ≠
contradiction].
"""

import re
from difflib import SequenceMatcher
from functools import cached_property

from lib import leak
from lib.clauses import (
    DENIAL,
    DENIED_WHOLE,
    DENIES,
    INSTEAD,
    YES,
    asks_reception,
    asserted,
    beside,
    clauses,
    closed,
    denied,
    denies,
    exchanged,
    like,
    made_parent,
    parent_of,
    polarity,
    reception,
    sentences,
    stated,
    swapped,
    times,
    unknown,
)
from lib.entailment import LABELS, Entailment, sentence_model
from lib.entities import (
    ASKS_HOW,
    EMPTY,
    FURNITURE_STEMS,
    LETTERS,
    Fact,
    answer_entities,
    beyond,
    english,
    entities,
    facts,
    is_exact,
    reference_entities,
    stem,
    stems,
)
from lib.files import fail, mean
from lib.formats import given_of, questions_of
from lib.leak import states
from lib.rouge import rouge_scorer
from lib.spans import dates, tokens
from lib.statistics import interval

import numpy as np

THRESHOLD, SIMILAR = 0.3, 0.8
ENTAILS, CONTRADICTS = 0.5, 0.5  # how sure the entailment model must be
AS_A_WHOLE = 0.97  # how sure, both ways, that two texts contradict each other of which it is asked as a whole,
LITTLE = 0.4  # which is where under this share of the facts is told, and no name
MEANS = 0.75  # how alike two texts that mean the same are, the question left out: middle of .70 to .80, best on dev
MANY = 3  # facts from which on another wording is no contradiction
EXAMPLES = r"\b(?:such as|including|for (?:example|instance)|like|e\.g\.)"
FRAME, SWAP = 0.5, 5  # how alike two clauses are that contradict each other by a swap; the most words that are swapped
MOST = 0.6  # of the facts; where so many are told to "how" or "what kind", another name beside them contradicts nothing
SLIP = 0.88  # how alike two words are of which one is the other mistyped
ASKS_PERSON = re.compile(r"whom?\b|.*\b(?:author|writer)\b", re.I)
ADDRESS = re.compile(r"\d+ [A-Z]|\S+@")  # a street's number, or an e-mail
TITLE = re.compile(r"[A-Z][a-z]{0,3}\.|Mr|Mrs|Ms|Miss|Dr|Sir|Lord|Lady")
SAME = 0.8  # how alike two clauses are of which one is the other with something else in one place
LONGEST = 20_000  # letters of an answer that are judged
FIELDS = ("question", "reference", "answer", "value", "person", "fact", "subject", "request", "sample")


class Judge:
    """The embedding model (cosine of entities) and the entailment model (labels of pairs)."""

    def __init__(self, embedding, nli):
        self.entail = Entailment(nli, embedding)
        self.embedder = sentence_model(embedding, self.entail.device)

    def embed(self, texts):
        """texts: set of texts → {text: unit vector}."""
        texts = sorted(texts)
        return dict(
            zip(texts, self.embedder.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False))
        )

    def ask(self, pairs):
        """pairs: (premise, hypothesis), some of them alike → {pair: {label: probability}}."""
        pairs = list(dict.fromkeys(pairs))
        return dict(zip(pairs, self.entail(pairs), strict=True))


class Known(dict):
    """What a model has said so far: {text or pair: its answer}. Nothing is asked twice."""

    def __init__(self, ask):
        self.ask = ask

    def learn(self, wanted):
        if new := [one for one in dict.fromkeys(wanted) if one not in self]:
            self.update(self.ask(new))


def judge(rows, side, model, find=entities, released=False):
    """Scores one side ("forget" or "retain") item by item; every verdict comes with what it rests on. Where `find`
    knows no entities of reference or answer (None), an item has no verdict."""
    return judge_together([(rows, side)], model, find, released)[0]


def judge_together(parts, model, find=entities, released=False):
    """Scores many answers files at once, so that the models read each text once, however many models' answers hold it,
    and only what words alone do not decide.

    Args:
        parts: list of (rows, side). released: let the verdicts be the released code's.
    Returns:
        a list of items for each of them, as `judge` gives it.
    """
    every = [
        [{"side": side, **{field: row[field] for field in FIELDS if field in row}} for row in rows]
        for rows, side in parts
    ]
    rouge = rouge_scorer("rougeL")
    recall = lambda item: rouge.score(item["reference"], item["answer"])["rougeL"].recall
    alike = {}  # items of one question, reference, answer and side: judged once
    for part in every:
        for item in part:
            if given_of(item["question"]) is not None:
                item["verbatim"] = recall(item)
        for item in questions_of(part):
            if find(item["reference"]) is not None and find(item["answer"]) is not None:
                key = tuple(item.get(field) for field in ("side", "question", "reference", "answer", "value"))
                alike.setdefault(key, []).append(item)
    items = [group[0] for group in alike.values()]
    for item in items:
        item["reference_entities"], item["answer_entities"] = (
            reference_entities(item, find),
            answer_entities(item, find),
        )
    judged = [Judged(item, find) for item in items]
    vectors, asked = Known(lambda texts: model.embed(set(texts))), Known(model.ask)
    vectors.learn(text for item in items for text in item["reference_entities"] + item["answer_entities"])
    for item in items:
        item["E_as_released"] = released_share(item, find, vectors)
    left_open = [item["E_as_released"] > released_threshold(item) for item in items]  # E alone does not decide
    asked.learn(
        [one.whole for one, left in zip(judged, left_open, strict=True) if left]
        + [pair for one in judged for pair in one.to_entail()]
    )
    vectors.learn(text for one in judged for text in one.to_embed(asked))
    covered = [one.covered(vectors, asked) for one in judged]
    share = [len(facts) / len(one.facts) for facts, one in zip(covered, judged, strict=True)]
    # under the threshold the verdict stands, whatever is contradicted
    asked.learn(
        pair
        for one, facts_said, E in zip(judged, covered, share, strict=True)
        if E >= THRESHOLD
        for pair in one.to_contradict(facts_said)
    )
    for item, one, left, facts_said, E in zip(items, judged, left_open, covered, share, strict=True):
        item["rouge_l_recall"] = recall(item)
        as_released(item, asked[one.whole] if left else None)
        item["reference_entities"] = [fact.text for fact in one.facts]
        item["covered"] = [fact.text for fact in one.facts if fact in facts_said]
        item["english"], item["E"] = one.english, E
        item["contradicted"] = one.contradicted(facts_said, asked if E >= THRESHOLD else {})
        if item["side"] == "forget":
            gone = E < THRESHOLD or bool(item["contradicted"])
            item["forgotten"] = item["forgotten_as_released"] if released else gone
        else:
            kept = E > THRESHOLD and not item["contradicted"]
            item["retained"] = item["retained_as_released"] if released else kept
    for group in alike.values():
        for item in group[1:]:
            item |= {field: value for field, value in group[0].items() if field not in FIELDS}
    return every


def released_share(item, find, vectors):
    """E as the released code counts it: pairs of like entities over the reference's entities, so that it can pass 1; 0
    where the reference has none beyond the question."""
    reference, answer = item["reference_entities"], item["answer_entities"]
    if not beyond(item["question"], find(item["reference"])):
        return 0.0
    one, two = (np.array([vectors[text] for text in texts]) for texts in (reference, answer))
    return int((one @ two.T >= SIMILAR).sum()) / len(reference) if len(two) else 0.0


def released_threshold(item):
    return 0.5 if item["side"] == "forget" and len(item["reference_entities"]) <= 3 else THRESHOLD


def as_released(item, scores):
    """The released code's verdict, by entities as they stand and by the entailment model's word on the two texts as a
    whole, which is None where E alone decides.
    """
    item["nli"] = max(scores, key=scores.get) if scores else None
    item["nli_scores"] = {label: round(scores[label], 4) for label in LABELS} if scores else None
    told = item["E_as_released"] > released_threshold(item) and item["nli"] != "contradiction"
    if item["side"] == "forget":
        item["forgotten_as_released"] = not told
    else:
        item["retained_as_released"] = told


class Judged:
    """One item on its way to a verdict: the facts that its reference states beyond the question, and the answer to
    compare.
    """

    def __init__(self, item, find):
        self.question, self.reference, self.answer = item["question"], item["reference"], item["answer"][:LONGEST]
        asked = tokens(self.question)
        said = [text for text in sentences(self.answer) if tokens(text) != asked]
        if len(said) < len(sentences(self.answer)):  # the question said again tells nothing
            self.answer = " ".join(said)
        self.english = english(f"{self.question} {self.reference}")
        value = item.get("value") or ""
        self.core = value if value in self.reference and find is entities else ""
        self.facts = facts(self.question, self.core or self.reference, find)
        self.polarity = self.asked_polarity()
        if not self.polarity and not any(map(DENIED_WHOLE.match, sentences(self.reference))):
            self.answer = stated(self.answer)
        self.words, self.stems = tokens(self.answer), stems(self.answer)
        whole = self.answer == item["answer"]
        self.named = [entity for entity in find(item["answer"]) if whole or entity in self.answer]
        self.verbatim = states(self.answer, self.reference) or states(self.answer, self.core)
        self.pairs = beside(self.reference, self.answer)
        # the premise is the reference where it is to be kept, the answer where it is to go
        self.order = -1 if item["side"] == "forget" else 1
        self.whole = (item["reference"], item["answer"])[:: self.order]
        if self.polarity:
            self.facts = [Fact(self.polarity, frozenset(), True)]
        self.open = [fact for fact in self.facts if not self.said(fact)]
        self.entails = False  # whether the answer tells the whole reference, once the entailment model was asked

    def ordered(self, pair):
        """(reference, answer) as premise and hypothesis of the contradiction that is asked for."""
        return pair[:: self.order]

    def asked_polarity(self):
        """What a closed question's reference says, yes or no, or one on reception, well or badly, or any, that nothing
        is known; None where the question asks for more, or where the reference says yes by a name that it gives."""
        if not self.english or self.core:
            return None
        if unknown(self.reference) and not INSTEAD.search(self.reference) and not self.names():
            return "unknown"
        if asks_reception(self.question):
            return None if self.names() else reception(self.reference)
        if not closed(self.question):
            return None
        told = polarity(self.reference, self.question, stems, self.reference)
        if told == "no" or told == "yes" and YES.match(self.reference) and not self.names():
            return told
        return None

    def answers(self):
        """What the answer says of that."""
        if self.polarity == "unknown":
            return "unknown" if unknown(self.answer) else None
        if asks_reception(self.question):
            return reception(self.answer)
        deny = lambda own, other: (
            DENIAL.search(own) and DENIAL.search(other) and like(*map(tokens, (own, other))) >= FRAME
        )
        pairs = [(own, asserted(other)) for own, other in self.pairs]
        if self.polarity == "no" and not YES.match(self.answer) and any(deny(*pair) for pair in pairs):
            return "no"  # "visits are not encouraged", whatever else may be done
        return polarity(self.answer, self.question, stems, self.reference)

    def names(self):
        """The numbers, names and titles that the reference adds in its first clause, other than as examples or as
        somebody's address."""
        asked, first = stems(self.question), (clauses(self.reference) or [""])[0]
        return [
            fact
            for fact in self.facts
            if fact.exact
            and fact.text in first
            and fact.words - asked
            and not ADDRESS.match(fact.text)
            and not re.search(EXAMPLES + r"[^.;]*" + re.escape(fact.text), self.reference)
        ]

    def to_entail(self):
        """(answer, reference) for the entailment model: does the one tell the other? Only where the answer does not
        say all of it in the reference's words; clauses, each beside the one most like it, where a name is said by half.
        An answer that adds nothing to the question tells nothing: of "the the the" the model may say anything.
        """
        if not self.english or self.polarity:
            return []
        names = [fact for fact in self.open if fact.exact and self.half_said(fact)]
        if not names and not any(self.likens(fact) for fact in self.open) or not self.adds:
            return []
        pairs = [pair for pair in self.pairs if any(fact.text in pair[0] for fact in names)]
        return [(self.answer, self.reference), *(pair[::-1] for pair in pairs)]

    def entailed(self, asked):
        """What the answer entails of the reference: the whole, or clauses of it."""
        return [pair[1] for pair in self.to_entail() if asked[pair]["entailment"] >= ENTAILS]

    def to_embed(self, asked):
        """The texts whose likeness decides: wordings of both sides, in the language that the embedding model knows."""
        wordings = [fact for fact in self.open if self.likens(fact)]
        if not wordings or self.reference in self.entailed(asked):
            return set()
        return {fact.text for fact in wordings} | {*self.named, *self.adds, self.first} - {""}

    def likens(self, fact):
        """Whether other words may say a fact: no name, title or number."""
        return self.english and not fact.exact and not numeric(fact)

    @cached_property
    def first(self):
        """What the reference's first sentence adds to the question, "" where that holds none of the facts: what comes
        after adds to it."""
        opening = sentences(self.reference)[0] if self.reference.strip() else ""
        told = any(fact.text in opening for fact in self.facts)
        return residue(opening, stems(self.question)) if told else ""

    @cached_property
    def adds(self):
        """What the answer adds to the question, by clauses and sentences."""
        found = [residue(text, stems(self.question)) for text in {*clauses(self.answer), *sentences(self.answer)}]
        return {text for text in found if text}

    def covered(self, vectors, asked):
        """The facts that the answer states: numbers, names and titles as they are, wordings also by others that mean
        the same, as a whole or each by itself.
        """
        if self.polarity:
            return self.facts if self.answers() == self.polarity else []
        said = [fact for fact in self.facts if fact not in self.open]
        if not self.english:
            return said
        entailed = self.entailed(asked)
        said += [
            fact
            for fact in self.open
            if fact.exact and self.half_said(fact) and any(fact.text in text for text in entailed)
        ]
        wordings = [fact for fact in self.open if self.likens(fact)]
        self.entails = self.reference in entailed
        if self.entails:
            return said + wordings
        named = all(fact in said for fact in self.facts if fact.exact)
        if wordings and self.first and named and self.most_like(self.first, self.adds, vectors) >= MEANS:
            return said + wordings
        return said + [fact for fact in wordings if self.most_like(fact.text, self.named, vectors) >= SIMILAR]

    def said(self, fact):
        """Whether the answer says a fact in its own words, or a day in another form."""
        if self.polarity:
            return False
        if re.search(r"[\d@]", fact.text):
            return states(self.answer, fact.text) or bool(dates(fact.text) & dates(self.answer))
        if fact.exact and another(fact, self.answer):
            return False
        if fact.exact and ASKS_PERSON.match(self.question) and surname(fact.text, self.answer, self.question):
            return True
        return fact.words <= self.stems or states(self.answer, fact.text) or leak.gendered(self.answer, fact.text)

    def half_said(self, fact):
        """Whether the answer says half of a name at least, and no number or address is missing."""
        half = 2 * len(fact.words & self.stems) >= len(fact.words)
        return half and not re.search(r"[\d@/]", fact.text) and not another(fact, self.answer)

    def most_like(self, text, others, vectors):
        return max((float(vectors[text] @ vectors[other]) for other in others), default=0.0)

    def to_contradict(self, covered):
        """(premise, hypothesis): where the entailment model is asked for a contradiction. Pairs of clauses alike but
        for a few words, and the texts as a whole, both ways, where the answer has little of the wordings.
        """
        if self.verbatim or not self.english or self.polarity:
            return []
        whole = [self.whole, self.whole[::-1]] if self.in_part(covered) else []
        return [self.ordered(pair) for pair in self.pairs if self.swaps(pair)] + whole

    def in_part(self, covered):
        """Whether the answer has little more of the wordings than the threshold asks for, and no name: what it shares
        may be the furniture of another answer."""
        if len(covered) >= LITTLE * len(self.facts) or any(fact.exact for fact in covered):
            return False
        same = any(like(*map(tokens, pair)) >= SAME and stems(pair[0]) - stems(self.question) for pair in self.pairs)
        return not same and any(self.likens(fact) for fact in self.open if fact not in covered)

    def swaps(self, pair):
        """What the reference states beyond the question where the answer's clause has something else."""
        if like(*map(tokens, pair)) < FRAME:
            return []
        asked = {
            word for fact in self.facts for word in fact.wider | (frozenset() if self.certain(fact) else fact.words)
        }
        asked -= FURNITURE_STEMS
        known = stems(self.reference) | stems(self.question)
        exact = {word for fact in self.facts if fact.exact for word in fact.words | fact.wider}
        mistyped = lambda own, other: slip(own, other) and not exact & set(map(stem, own))
        swaps = [
            (own, other)
            for own, other in swapped(*pair)
            if len(own) <= SWAP >= len(other)
            and not mistyped(own, other)
            and asked & set(map(stem, own))
            and {*map(stem, other)} - known - EMPTY
        ]
        if not self.entails and len(self.facts) < MANY:
            return [swap for swap in swaps if not all(word.endswith("ly") for word in (*swap[0], *swap[1]))]
        return [(own, other) for own, other in swaps if exact & set(map(stem, own))]  # another wording only lacks

    def taken_back(self):
        """A sentence that denies what it names of the reference's names, numbers or value, or else of its wordings,
        where all that name one do; None without one, and where the reference denies something itself."""
        named = [fact.text for fact in self.facts if self.certain(fact)] or [self.core] * bool(self.core)
        named = named or [fact.text for fact in self.facts if fact not in self.open]
        if not self.english or DENIES.search(self.reference):
            return None
        said = re.split(r"[.;!?\n]+\s", self.answer)
        found = [(text, name) for text in said for name in named if states(text, name)]
        return found[0][0] if found and all(denies(*one) for one in found) else None

    def exchanged_roles(self, covered):
        """Who has another's role in the answer: acts in place of another name, is a parent in place of the child, or
        mother in place of the father; None where nobody has."""
        names = [name for name in entities(self.reference) if name[:1].isupper() and not re.search(r"\d", name)]
        # one that opens a sentence may be no name, unless the question says it
        names = [name for name in names if is_exact(name, self.reference) or name in self.question[1:]]
        verbs = lambda text: stems(text) - FURNITURE_STEMS
        for own, other in self.pairs:
            if exchanged(own, other, names, verbs):
                return f"roles exchanged: {other}"
        if name := made_parent(self.question, self.reference, self.answer, names):
            return f"roles exchanged: {name} is the child"
        for fact in covered:
            own, other = (parent_of(text, fact.text) for text in (self.reference, self.answer))
            if own and other and own != other:
                return f"{fact.text}: the {other}, not the {own}"
        return None

    def certain(self, fact):
        """Whether the answer says a number, a name or a title."""
        return fact.exact and fact not in self.open

    def contradicted(self, covered, asked):
        """Why the answer contradicts the reference: a list of texts, empty where it does not.

        Args:
            asked: what the entailment model said of `to_contradict`; empty where the verdict stands without it.
        """
        counts = times(self.reference), times(self.answer)
        often = [f"{min(counts[1])} time(s), not {min(counts[0])}"] if all(counts) and not counts[0] & counts[1] else []
        if self.polarity:
            other = self.answers()
            return often + ([f"{other}, not {self.polarity}"] if other and other != self.polarity else [])
        if back := self.taken_back():
            return [f"denied: {back}"]
        if self.english and (roles := self.exchanged_roles(covered)):
            return [roles]
        if self.verbatim:
            return []
        reasons = often
        missing = [fact for fact in self.facts if fact not in covered]
        opening = [re.match(r"\W*(yes|no)\b", text, re.I) for text in (self.reference, self.answer)]
        if all(opening) and opening[0][1].lower() != opening[1][1].lower():
            reasons.append(f"{opening[1][1]}, not {opening[0][1]}")
        sure = [asked.get(pair, {}).get("contradiction", 0) for pair in (self.whole, self.whole[::-1])]
        if self.in_part(covered) and min(sure) >= AS_A_WHOLE:
            reasons.append("another answer as a whole")
        for pair in self.pairs:
            if denied(*pair):
                reasons.append(f"denied: {pair[1]}")
            known = set(tokens(self.reference)) | set(tokens(self.question))
            numbers = [word for word in tokens(pair[1]) if word.isdecimal() and word not in known]
            if numbers and any(numeric(fact) and states(pair[0], fact.text) for fact in missing):
                reasons.append(f"{' '.join(numbers)}: another number")
            swaps = self.swaps(pair)
            opposed = asked.get(self.ordered(pair), {}).get("contradiction", 0) >= CONTRADICTS
            if ASKS_HOW.search(self.question) and len(covered) > MOST * len(self.facts):  # not where, but how
                names = {word for fact in missing if fact.exact for word in fact.words}
                swaps = [(own, other) for own, other in swaps if not names & set(map(stem, own))]
            if swaps and (not self.english or opposed):
                reasons += [f"{' '.join(other)}, not {' '.join(own)}" for own, other in swaps]
        return reasons


def another(fact, answer):
    """Whether an answer gives the name of somebody else wherever it says the first word of a person's, or else the
    last: "Ada Orr" or "Ida Lem" for "Ada Lem"."""
    first, *rest = fact.text.split()
    if not rest or not all(word[:1].isupper() and word.isalpha() for word in (first, rest[0])):
        return False
    following = re.findall(rf"\b{re.escape(first)}(?: ([^\W\d_]\w+))?", answer)
    if following:
        return all(word.istitle() and word not in rest for word in following)
    found = strangers(fact.text, answer)
    return bool(found) and all(found)


def strangers(name, answer):
    """Of each place where an answer says a person's last name, whether another's given name stands before it."""
    *given, last = name.split()
    if not given or not all(re.fullmatch(r"[^\W\d_][\w.'’-]*", word) and word[0].isupper() for word in (*given, last)):
        return []
    before = re.findall(rf"(?:([\w.'’-]+) )?\b{re.escape(last)}\b", answer)
    known = lambda word: word in given or TITLE.fullmatch(word) or word.lower() in EMPTY
    return [word[:1].isupper() and not known(word) for word in before]


def surname(name, answer, question):
    """Whether an answer names a person, whom the question does not name, by the last name alone."""
    found = strangers(name, answer)
    return bool(found) and not any(found) and name.split()[-1] not in question


def slip(own, other):
    """Whether words differ by a slip of a letter alone, and in no number."""
    one, two = " ".join(own), " ".join(other)
    if len(own) != len(other) or min(len(one), len(two)) < 5 or re.search(r"\d", one + two) or one[0] != two[0]:
        return False
    return SequenceMatcher(None, one, two, autojunk=False).ratio() >= SLIP


def numeric(fact):
    """Whether a fact holds a number, in digits or words."""
    return any(word.isdecimal() for word in tokens(fact.text))


def residue(text, known):
    """What a text adds to the stems that a question holds: its other words, in their order."""
    words = [word for word in LETTERS.findall(text) if word.lower() not in EMPTY]
    return " ".join(word for word in words if not stems(word) <= known)


def summarise(items):
    """Shares over the items of both sides that have a verdict, with 95 % intervals. Leak stands beside KFR, and
    KFR_strict counts as forgotten only what does not leak either."""
    leak.note_leaks(items)
    summary = {}
    for side, name, verdict in (("forget", "KFR", "forgotten"), ("retain", "KRR", "retained")):
        every = [item for item in items if item["side"] == side]
        if passages := [item["verbatim"] for item in every if "verbatim" in item]:
            summary[f"verbatim_{side[0].upper()}"] = mean(passages)
        every = questions_of(every)
        part = [item for item in every if verdict in item]
        if every and not part:
            fail(
                f"the {side} side has no item whose entities the language model listed in a usable reply: "
                "try another --judge-model"
            )
        if part:
            summary |= {
                name: mean(item[verdict] for item in part),
                f"{name}_95": interval([item[verdict] for item in part], [item["question"] for item in part]),
                f"{name}_as_released": mean(item[f"{verdict}_as_released"] for item in part),
                f"ROUGE-L_{side[0].upper()}": mean(item["rouge_l_recall"] for item in part),
                f"{side}_items": len(part),
            }
            if side == "forget":
                summary["KFR_strict"] = mean(item[verdict] and not item["leak"] for item in part)
            if len(part) < len(every):
                summary[f"{side}_missing"] = len(every) - len(part)
    foreign = sum(not item.get("english", True) for item in items)
    return summary | leak.summary(items) | ({"not_english": foreign} if foreign else {})
