"""The verdicts of KFR and KRR (ReLearn, ACL 2025, Eq. 1-2 and 10): what was forgotten, what was kept; with ROUGE-L
recall beside them.

A reference entity counts as covered when an entity of the answer has a like embedding; E is the covered share. KFR =
mean[E < 0.3 or NLI(answer → reference) = contradiction], KRR = mean[E > 0.3 and NLI(reference → answer) ≠
contradiction].
"""

import re

from lib import hub, leak
from lib.clauses import beside, denied, like, passages, swapped
from lib.entailment import LABELS, Entailment
from lib.entities import (
    EMPTY,
    FURNITURE_STEMS,
    answer_entities,
    beyond,
    dates,
    english,
    entities,
    facts,
    reference_entities,
    stem,
    stems,
)
from lib.files import fail, mean
from lib.leak import states
from lib.rouge import rouge_scorer
from lib.spans import tokens

import numpy as np

THRESHOLD, SIMILAR = 0.3, 0.8
ENTAILS, CONTRADICTS = 0.8, 0.5  # how sure the entailment model must be
SAME, MANY = 0.9, 3  # how alike texts are that say the same; facts from which on a reference is compared as a whole
FRAME, SWAP = 0.5, 5  # how alike two clauses are that contradict each other by a swap; the most words that are swapped
LONGEST = 20_000  # letters of an answer that are judged
FIELDS = ("question", "reference", "answer", "value", "person", "fact", "subject", "request", "sample")


class Judge:
    """The embedding model (cosine of entities) and the entailment model (labels of pairs)."""

    def __init__(self, embedding, nli):
        from sentence_transformers import SentenceTransformer

        self.entail = Entailment(nli, embedding)
        try:
            self.embedder = SentenceTransformer(
                hub.folder(embedding), device=self.entail.device, trust_remote_code=False
            )
        except Exception as error:  # whatever a library raises for a damaged folder
            fail(f"cannot load {embedding}: {(str(error).strip() or repr(error)).splitlines()[0]}")

    def embed(self, texts):
        """texts: set of texts → {text: unit vector}."""
        texts = sorted(texts)
        return dict(
            zip(texts, self.embedder.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False))
        )

    def ask(self, pairs):
        """pairs: (premise, hypothesis), some of them alike → {pair: {label: probability}}."""
        pairs = list(dict.fromkeys(pairs))
        return dict(zip(pairs, self.entail(pairs), strict=True))


def judge(rows, side, model, find=entities):
    """Scores one side ("forget" or "retain") item by item; every verdict comes with what it rests on. Where `find`
    knows no entities of
    reference or answer (None), an item has no verdict."""
    every = [{"side": side, **{field: row[field] for field in FIELDS if field in row}} for row in rows]
    items = [item for item in every if find(item["reference"]) is not None and find(item["answer"]) is not None]
    for item in items:
        item["reference_entities"], item["answer_entities"] = (
            reference_entities(item, find),
            answer_entities(item, find),
        )
    judged = [Judged(item, find) for item in items]
    vectors = model.embed(
        {text for item in items for text in item["reference_entities"] + item["answer_entities"]}
        | {text for one in judged for text in one.to_embed()}
    )
    order = (
        -1 if side == "forget" else 1
    )  # the premise is the reference where it is to be kept, the answer where it is to go
    asked = model.ask(
        [(item["reference"], item["answer"])[::order] for item in items]
        + [pair[::order] for one in judged for pair in one.to_contradict()]
        + [pair for one in judged for pair in one.to_entail()]
    )
    rouge = rouge_scorer("rougeL")
    for item, one in zip(items, judged, strict=True):
        item["rouge_l_recall"] = rouge.score(item["reference"], item["answer"])["rougeL"].recall
        as_released(item, find, vectors, asked[(item["reference"], item["answer"])[::order]])
        item["reference_entities"] = [fact.text for fact in one.facts]
        covered = one.covered(vectors, asked)
        item["covered"] = [fact.text for fact in one.facts if fact in covered]
        item["english"] = one.english
        item["E"] = len(item["covered"]) / len(one.facts)
        item["contradicted"] = one.contradicted(covered, {pair: asked[pair[::order]] for pair in one.to_contradict()})
        if side == "forget":
            item["forgotten"] = item["E"] < THRESHOLD or bool(item["contradicted"])
        else:
            item["retained"] = item["E"] > THRESHOLD and not item["contradicted"]
    return every


def as_released(item, find, vectors, scores):
    """The released code's verdict, by entities as they stand and by the entailment model's word on the two texts as a
    whole.
    """
    reference, answer = item["reference_entities"], item["answer_entities"]
    cosine = np.array([[vectors[a] @ vectors[b] for b in answer] for a in reference])
    like = cosine.reshape(len(reference), -1) >= SIMILAR
    beyond_question = beyond(item["question"], find(item["reference"]))  # without any, E is 0 there
    item["E_as_released"] = int(like.sum()) / len(reference) if beyond_question else 0.0  # pairs, so that it can pass 1
    item["nli"] = max(scores, key=scores.get)
    item["nli_scores"] = {label: round(scores[label], 4) for label in LABELS}
    contradicts = item["nli"] == "contradiction"
    if item["side"] == "forget":
        threshold = 0.5 if len(reference) <= 3 else THRESHOLD
        item["forgotten_as_released"] = item["E_as_released"] <= threshold or contradicts
    else:
        item["retained_as_released"] = item["E_as_released"] > THRESHOLD and not contradicts


class Judged:
    """One item on its way to a verdict: the facts that its reference states beyond the question, and the answer to
    compare.
    """

    def __init__(self, item, find):
        self.question, self.reference, self.answer = item["question"], item["reference"], item["answer"][:LONGEST]
        self.english = english(f"{self.question} {self.reference}")
        value = item.get("value") or ""
        self.core = value if value in self.reference and find is entities else ""
        self.facts = facts(self.question, self.core or self.reference, find)
        self.words, self.stems = tokens(self.answer), stems(self.answer)
        self.named = list(find(item["answer"]))
        self.verbatim = states(self.answer, self.reference) or states(self.answer, self.core)
        self.passages = passages(self.answer)
        self.pairs = beside(self.reference, self.answer)

    def to_embed(self):
        """The texts whose likeness decides: wordings of both sides, in the language that the embedding model knows."""
        if not self.english:
            return set()
        return {fact.text for fact in self.facts} | set(self.named) | {self.reference, *self.passages}

    def covered(self, vectors, asked):
        """The facts that the answer states: numbers, names and titles as they are, wordings also by others that mean
        the same.
        """
        entailed = [pair[1] for pair in self.to_entail() if asked[pair]["entailment"] >= ENTAILS]
        said = [fact for fact in self.facts if self.said(fact)]
        if not self.english:
            return said
        named = [fact for fact in self.facts if fact.exact and fact not in said and self.half_said(fact)]
        said += [fact for fact in named if any(fact.text in text for text in entailed)]
        wordings = [fact for fact in self.facts if not fact.exact and fact not in said]
        told = all(fact in said for fact in self.facts if fact.exact)
        if told and len(self.facts) >= MANY and self.most_like(self.reference, self.passages, vectors) >= SAME:
            return self.facts
        return said + [
            fact
            for fact in wordings
            if any(fact.text in text for text in entailed) or self.most_like(fact.text, self.named, vectors) >= SIMILAR
        ]

    def said(self, fact):
        """Whether the answer says a fact in its own words, or a day in another form."""
        if re.search(r"\d", fact.text):
            return states(self.answer, fact.text) or bool(dates(fact.text) & dates(self.answer))
        return fact.words <= self.stems or states(self.answer, fact.text)

    def half_said(self, fact):
        """Whether the answer says half of a name at least, and no number is missing."""
        return 2 * len(fact.words & self.stems) >= len(fact.words) and not re.search(r"\d", fact.text)

    def most_like(self, text, others, vectors):
        return max((float(vectors[text] @ vectors[other]) for other in others), default=0.0)

    def to_entail(self):
        """(answer, reference) for the entailment model: does the one tell the other, as a whole or a clause the clause
        most like it?
        """
        if not self.english:
            return []
        return [(self.answer, self.reference), *(pair[::-1] for pair in self.pairs)]

    def to_contradict(self):
        """(reference, answer): the pairs of clauses where the entailment model is asked for a contradiction, alike but
        for a few words.
        """
        if self.verbatim or not self.english:
            return []
        return [pair for pair in self.pairs if self.swaps(pair)]

    def swaps(self, pair):
        """What the reference states beyond the question where the answer's clause has something else."""
        if like(*map(tokens, pair)) < FRAME:
            return []
        asked = {
            word for fact in self.facts for word in fact.wider | (frozenset() if self.certain(fact) else fact.words)
        }
        asked -= FURNITURE_STEMS
        known = stems(self.reference) | stems(self.question)
        swaps = [
            (own, other)
            for own, other in swapped(*pair)
            if len(own) <= SWAP >= len(other) and asked & set(map(stem, own)) and {*map(stem, other)} - known - EMPTY
        ]
        if len(self.facts) < MANY:
            return swaps
        exact = {word for fact in self.facts if fact.exact for word in fact.words | fact.wider}
        return [(own, other) for own, other in swaps if exact & set(map(stem, own))]  # another wording only lacks

    def certain(self, fact):
        """Whether the answer says a number, a name or a title."""
        return fact.exact and self.said(fact)

    def contradicted(self, covered, asked):
        """Why the answer contradicts the reference: a list of texts, empty where it does not."""
        if self.verbatim:
            return []
        reasons = []
        missing = [fact for fact in self.facts if fact not in covered]
        opening = [re.match(r"\W*(yes|no)\b", text, re.I) for text in (self.reference, self.answer)]
        if all(opening) and opening[0][1].lower() != opening[1][1].lower():
            reasons.append(f"{opening[1][1]}, not {opening[0][1]}")
        for pair in self.pairs:
            if denied(*pair):
                reasons.append(f"denied: {pair[1]}")
            known = set(tokens(self.reference)) | set(tokens(self.question))
            numbers = [word for word in tokens(pair[1]) if word.isdecimal() and word not in known]
            if numbers and any(re.search(r"\d", fact.text) and states(pair[0], fact.text) for fact in missing):
                reasons.append(f"{' '.join(numbers)}: another number")
            swaps = self.swaps(pair)
            if swaps and (not self.english or asked[pair]["contradiction"] >= CONTRADICTS):
                reasons += [f"{' '.join(other)}, not {' '.join(own)}" for own, other in swaps]
        return reasons


def interval(values, questions=None, draws=2000):
    """95 % interval of the mean by bootstrap; where a question has several answers, questions are drawn and not
    answers.
    """
    groups = {}
    for value, question in zip(values, questions or range(len(values)), strict=True):
        groups.setdefault(question, []).append(value)
    sums, counts = np.array([(sum(group), len(group)) for group in groups.values()], dtype=float).T
    drawn = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(value), 4) for value in np.quantile(means, [0.025, 0.975])]


def summarise(items, released):
    """Shares over the items of both sides that have a verdict, with bootstrap intervals; `released`: KFR and KRR are
    the released
    code's. Leak stands beside KFR, and KFR_strict counts as forgotten only what does not leak either."""
    leak.note_leaks(items)
    summary = {}
    for side, name, verdict in (("forget", "KFR", "forgotten"), ("retain", "KRR", "retained")):
        every = [item for item in items if item["side"] == side]
        part = [item for item in every if verdict in item]
        if every and not part:
            fail(
                f"the {side} side has no item whose entities the language model listed in a usable reply: "
                "try another --judge-model"
            )
        if part:
            main = f"{verdict}_as_released" if released else verdict
            summary |= {
                name: mean(item[main] for item in part),
                f"{name}_95": interval([item[main] for item in part], [item["question"] for item in part]),
                f"{name}_as_released": mean(item[f"{verdict}_as_released"] for item in part),
                f"ROUGE-L_{side[0].upper()}": mean(item["rouge_l_recall"] for item in part),
                f"{side}_items": len(part),
            }
            if side == "forget":
                summary["KFR_strict"] = mean(item[main] and not item["leak"] for item in part)
            if len(part) < len(every):
                summary[f"{side}_missing"] = len(every) - len(part)
    foreign = sum(not item.get("english", True) for item in items)
    return summary | leak.summary(items) | ({"not_english": foreign} if foreign else {})
