"""Intervals of shares and means, the AUC that pairs give, and which answers may be compared."""

from collections.abc import Hashable, Sequence

from lib.files import mean

import numpy as np

Z = 1.959964  # standard deviations of a normal distribution that hold its middle 95 %


def wilson(hits: float, number: int) -> tuple[float, float]:
    """95 % interval of a share, hits of number (Wilson 1927): [p + z²/2n ∓ z √(p(1-p)/n + z²/4n²)] / (1 + z²/n)."""
    middle = (hits + Z * Z / 2) / (number + Z * Z)
    half = Z * (hits * (number - hits) / number + Z * Z / 4) ** 0.5 / (number + Z * Z)
    return middle - half, middle + half


def interval(values: Sequence[float], questions: Sequence[Hashable] | None = None, draws: int = 2000) -> list[float]:
    """95 % interval of the mean by bootstrap; where a question has several answers, questions are drawn and not
    answers. Where all values are 0, or all 1, no draw differs, and it is Wilson's interval of that share of questions.
    """
    groups = {}
    for value, question in zip(values, questions or range(len(values)), strict=True):
        groups.setdefault(question, []).append(value)
    if len(set(values)) == 1 and values[0] in (0, 1):
        return [round(end, 4) for end in wilson(values[0] * len(groups), len(groups))]
    sums, counts = np.array([(sum(group), len(group)) for group in groups.values()], dtype=float).T
    drawn = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(value), 4) for value in np.quantile(means, [0.025, 0.975])]


def wins(values: Sequence[float], others: Sequence[float]) -> list[list[float]]:
    """A row for each value, a column for each other: 1 where the value is higher, 1/2 where they are equal, else 0.
    Their mean is the AUC.
    """
    return [[(value > other) + (value == other) / 2 for other in others] for value in values]


def auc(values: Sequence[float], others: Sequence[float]) -> float:
    """The chance that one of the values is higher than one of the others, equal ones counting half."""
    return mean(map(mean, wins(values, others)))


def asked_by_all(items: list[dict]) -> list[dict]:
    """The items of the questions that every attack asks: relearning does not ask what it learns."""
    rows = {}
    for item in items:
        rows.setdefault(item["attack"], set()).add(item["row"])
    common = set.intersection(*rows.values()) if rows else set()
    return [item for item in items if item["row"] in common]
