"""The verdicts of KFR and KRR (ReLearn, ACL 2025, Eq. 1-2 and 10): what was forgotten, what was kept; with ROUGE-L recall beside them.

A reference entity counts as covered when an entity of the answer has a like embedding; E is the covered share.
KFR = mean[E < 0.3 or NLI(answer → reference) = contradiction], KRR = mean[E > 0.3 and NLI(reference → answer) ≠ contradiction].
"""

from lib import hub
from lib.entailment import LABELS, Entailment
from lib.entities import answer_entities, beyond, entities, reference_entities
from lib.files import fail, mean
from lib.rouge import rouge_scorer

import numpy as np

THRESHOLD, SIMILAR = 0.3, 0.8


class Judge:
    """The embedding model (cosine of entities) and the entailment model (labels of pairs)."""

    def __init__(self, embedding, nli):
        from sentence_transformers import SentenceTransformer

        self.entail = Entailment(nli, embedding)
        try:
            self.embedder = SentenceTransformer(hub.folder(embedding), device=self.entail.device, trust_remote_code=False)
        except (OSError, ValueError) as error:
            fail(f"cannot load {embedding}: {str(error).strip().splitlines()[0]}")

    def embed(self, texts):
        """texts: set of texts → {text: unit vector}."""
        texts = sorted(texts)
        return dict(
            zip(texts, self.embedder.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False))
        )


def judge(rows, side, model, find=entities):
    """Scores one side ("forget" or "retain") item by item; every verdict comes with what it rests on. Where `find` knows no entities of
    reference or answer (None), an item has no verdict."""
    every = [{"side": side, **{field: row[field] for field in ("question", "reference", "answer")}} for row in rows]
    items = [item for item in every if find(item["reference"]) is not None and find(item["answer"]) is not None]
    for item in items:
        item["reference_entities"], item["answer_entities"] = (
            reference_entities(item, find),
            answer_entities(item, find),
        )
    vectors = model.embed({text for item in items for text in item["reference_entities"] + item["answer_entities"]})
    pairs = [
        (item["answer"], item["reference"]) if side == "forget" else (item["reference"], item["answer"])
        for item in items
    ]
    rouge = rouge_scorer("rougeL")
    for item, scores in zip(items, model.entail(pairs), strict=True):
        cosine = np.array(
            [[vectors[a] @ vectors[b] for b in item["answer_entities"]] for a in item["reference_entities"]]
        )
        like = cosine.reshape(len(item["reference_entities"]), -1) >= SIMILAR
        item["covered"] = [entity for entity, row in zip(item["reference_entities"], like) if row.any()]
        item["E"] = len(item["covered"]) / len(item["reference_entities"])
        judged = beyond(
            item["question"], find(item["reference"])
        )  # no fallback in the released code: without any, E is 0
        item["E_as_released"] = (
            int(like.sum()) / len(item["reference_entities"]) if judged else 0.0
        )  # pairs, so that it can pass 1
        item["nli"], item["nli_scores"] = (
            max(scores, key=scores.get),
            {label: round(scores[label], 4) for label in LABELS},
        )
        item["rouge_l_recall"] = rouge.score(item["reference"], item["answer"])["rougeL"].recall
        contradicts = item["nli"] == "contradiction"
        if side == "forget":
            item["forgotten"] = item["E"] < THRESHOLD or contradicts
            item["forgotten_as_released"] = (
                item["E_as_released"] <= (0.5 if len(item["reference_entities"]) <= 3 else THRESHOLD) or contradicts
            )
        else:
            item["retained"] = item["E"] > THRESHOLD and not contradicts
            item["retained_as_released"] = item["E_as_released"] > THRESHOLD and not contradicts
    return every


def interval(values, questions=None, draws=2000):
    """95 % interval of the mean by bootstrap; where a question has several answers, questions are drawn and not answers."""
    groups = {}
    for value, question in zip(values, questions or range(len(values)), strict=True):
        groups.setdefault(question, []).append(value)
    sums, counts = np.array([(sum(group), len(group)) for group in groups.values()], dtype=float).T
    drawn = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(value), 4) for value in np.quantile(means, [0.025, 0.975])]


def summarise(items, as_released):
    """Shares over the items of both sides that have a verdict, with bootstrap intervals."""
    summary = {}
    for side, name, verdict in (("forget", "KFR", "forgotten"), ("retain", "KRR", "retained")):
        every = [item for item in items if item["side"] == side]
        part = [item for item in every if verdict in item]
        if every and not part:
            fail(
                f"the {side} side has no item whose entities the language model listed in a usable reply: try another --judge-model"
            )
        if part:
            main = f"{verdict}_as_released" if as_released else verdict
            summary |= {
                name: mean(item[main] for item in part),
                f"{name}_95": interval([item[main] for item in part], [item["question"] for item in part]),
                f"{name}_as_released": mean(item[f"{verdict}_as_released"] for item in part),
                f"ROUGE-L_{side[0].upper()}": mean(item["rouge_l_recall"] for item in part),
                f"{side}_items": len(part),
            }
            if len(part) < len(every):
                summary[f"{side}_missing"] = len(every) - len(part)
    return summary
