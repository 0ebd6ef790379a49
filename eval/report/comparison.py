"""Which differences between two rows hold: paired tests over the same questions, corrected for how many are made.

KFR, KFR_strict and KRR are means over questions, of 0 or 1 (over seeds and samples: of shares). If two models were
alike, each question's difference would be as likely the other way round: the exact sign-flip test gives the chance of a
sum as far from 0 (with one seed it is McNemar's exact test). HM is no mean: there the two models' outcomes are swapped
question by question, at random. Holm's correction (1979) is made over all pairs of rows of one metric.
"""

import itertools
import math
from collections import defaultdict

import numpy as np

from report.columns import REFERENCE

LEVEL = 0.05  # of the corrected p-values
DRAWS = 20_000  # random swaps for HM, at least: see `draws`
SHARED = 0.9  # of the questions: what two rows must have in common to be compared
VERDICTS = {  # metric: side, and the verdict on an item
    "KFR": ("forget", lambda item: item["forgotten"]),
    "KFR_strict": ("forget", lambda item: item["forgotten"] and not item["leak"]),
    "KRR": ("retain", lambda item: item["retained"]),
}


def outcomes(runs: list[list[dict]]) -> dict[str, dict]:
    """A model's outcome on each question: {metric: {question: (sum of verdicts, how many)}}.

    Args:
        runs: its judged items, a list a seed.
    """
    found = {}
    for metric, (side, verdict) in VERDICTS.items():
        part = defaultdict(lambda: (0, 0))
        for item in itertools.chain.from_iterable(runs):
            if item["side"] == side and (metric != "KFR_strict" or "leak" in item):
                key = item["question"], item["reference"]
                part[key] = part[key][0] + bool(verdict(item)), part[key][1] + 1
        if part:
            found[metric] = dict(part)
    return found


def sign_flip_p(differences: list[int]) -> float:
    """Exact two-sided p-value of whole-number differences: the chance that their sum, each with a random sign, is as
    far from 0 as it is.
    """
    sizes = [abs(difference) for difference in differences if difference]
    chances = np.ones(1)  # of the sums -total, …, total
    for size in sizes:
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    total = sum(sizes)
    sums = np.arange(-total, total + 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(sum(differences))].sum()))


def whole_differences(one: dict, other: dict) -> list[int]:
    """Differences of two models' shares, question by question, as whole numbers: times all that they were counted
    over.
    """
    parts = math.lcm(*(count for outcome in (one, other) for _, count in outcome.values()))
    share = lambda outcome: outcome[0] * (parts // outcome[1])
    return [share(one[key]) - share(other[key]) for key in one]


def holm(p_values: dict) -> dict:
    """Holm's step-down correction: {key: p} → {key: corrected p}."""
    corrected, largest = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        corrected[key] = largest
    return {key: corrected[key] for key in p_values}


def harmonic(kfr, krr):
    """Harmonic mean, 0 where both are: of numbers or arrays."""
    return 2 * kfr * krr / np.maximum(kfr + krr, 1e-12)


def draws(pairs: int) -> int:
    """How many swaps to draw where so many pairs are tested: the smallest p-value, 1 / (1 + draws), times their number,
    Holm's first correction, is to be half of LEVEL at most."""
    return max(DRAWS, math.ceil(2 * pairs / LEVEL))


def swap_p(one: dict, other: dict, rng: np.random.Generator, count: int = DRAWS) -> float:
    """Two-sided p-value of the difference of HM, by random swaps.

    Args:
        one, other: two models' outcomes, as `outcomes` gives them, on the same questions. count: how many swaps.
    """
    rates, changes = [], []
    for metric in ("KFR", "KRR"):
        values = [np.array([total / count for total, count in model[metric].values()]) for model in (one, other)]
        difference = values[1] - values[0]
        swapped = rng.integers(0, 2, (count, len(difference)), dtype=np.int8) @ difference / len(difference)
        rates.append([value.mean() for value in values])
        changes.append(swapped)
    observed = harmonic(rates[0][0], rates[1][0]) - harmonic(rates[0][1], rates[1][1])
    drawn = harmonic(rates[0][0] + changes[0], rates[1][0] + changes[1]) - harmonic(
        rates[0][1] - changes[0], rates[1][1] - changes[1]
    )
    return float((1 + np.sum(np.abs(drawn) >= abs(observed) - 1e-9)) / (1 + count))


def shared(one: dict, other: dict) -> tuple[dict, dict] | None:
    """Two models' outcomes of one metric on the questions that both have; None where more than a tenth of them is one's
    alone, or all (a language model's reply may give no verdict on a few).
    """
    both = [key for key in one if key in other]
    if not both or len(both) < SHARED * max(len(one), len(other)):
        return None
    return {key: one[key] for key in both}, {key: other[key] for key in both}


def compare(models: dict[str, dict]) -> dict[str, dict]:
    """Every pair of rows on every metric that both have: {metric: {(model, model): corrected p-value}}.

    Args:
        models: {name: what `outcomes` gives}. Pairs of rows that share too few questions are left out.
    """
    found, swaps = {}, draws(math.comb(len(models), 2))
    for metric in (*VERDICTS, "HM"):
        p_values = {}
        needed = ("KFR", "KRR") if metric == "HM" else (metric,)
        for one, other in itertools.combinations(models, 2):
            pairs = [shared(models[one].get(name, {}), models[other].get(name, {})) for name in needed]
            if None in pairs:
                continue
            if metric == "HM":
                mine, theirs = (dict(zip(needed, model, strict=True)) for model in zip(*pairs))
                p_values[one, other] = swap_p(mine, theirs, np.random.default_rng(0), swaps)
            else:
                p_values[one, other] = sign_flip_p(whole_differences(*pairs[0]))
        if p_values:
            found[metric] = holm(p_values)
    return found


def apart(p_values: dict, model: str) -> set[str]:
    """The other rows that the tests tell apart from a model."""
    return {name for pair, p in p_values.items() if model in pair and p < LEVEL for name in pair} - {model}


def alike(p_values: dict, model: str) -> list[str]:
    """The other rows that the tests do not tell apart from a model, in the order of the table."""
    pairs = {pair: p for pair, p in p_values.items() if model in pair}
    return [one if other == model else other for (one, other), p in pairs.items() if p >= LEVEL]


def best(rows: list[dict], metric: str, p_values: dict) -> set[str]:
    """The highest of the unlearned models, and those that were tested beside it and not told apart, maybe all; none
    where there is one alone.
    """
    unlearned = [row for row in rows if row["model"] not in REFERENCE and row.get(metric) is not None]
    if len(unlearned) < 2:
        return set()
    values = {row["model"]: row[metric] for row in unlearned}
    highest = {name for name, value in values.items() if value == max(values.values())}
    tested = {name for one in highest for name in alike(p_values, one)}
    return highest | values.keys() & tested - {name for one in highest for name in apart(p_values, one)}
