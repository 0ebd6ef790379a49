"""Distance to the retrained model: one number for how far a model is from exact unlearning, over all metrics at hand.

A metric counts by its values on single questions. d_i is the model's value less the retrained model's on question i.
Were the two models alike, each d_i would as likely have the other sign, and the mean of d the standard error
sqrt(Σ d_i²) / n; so z = |mean d| / that = |Σ d_i| / sqrt(Σ d_i²), from 0 to √n (of a yes or no it is McNemar's). An AUC
is a mean over the forget answers and over the holdout's at once (DeLong et al. 1988); the two parts' variances add up:
z = |mean d| / sqrt(Σ_forget d² / m² + Σ_holdout d² / n²).

Metrics belong to one of three families. Distance = root mean square over the families that are there of the root mean
square of z within each; so it is 0 for the retrained model, and no family weighs more for having more metrics. Another
retrained model is not at 0, nor at 1: its UDS can only be lower, and it differs on many questions at once. A metric
without values of both models on the same questions is left out and named.
"""

import math
from statistics import fmean
from typing import NamedTuple

from lib.statistics import asked_by_all


class Metric(NamedTuple):
    """One metric: its family, the metrics file that holds it, which items count, and an item's value or None."""

    family: str
    file: str
    counts: object
    value: object


def _side(name, field="side"):
    return lambda item: item.get(field) == name


def _field(name):
    return lambda item: None if item.get(name) is None else float(item[name])


EVERY = lambda item: True  # noqa: E731
METRICS = {
    "KFR": Metric("forgetting", "kfr_krr", _side("forget"), _field("forgotten")),
    "leak": Metric("forgetting", "kfr_krr", _side("forget"), _field("leak")),
    "ROUGE-L F": Metric("forgetting", "kfr_krr", _side("forget"), _field("rouge_l_recall")),
    "leak@1": Metric("forgetting", "sampling", EVERY, lambda item: item["leaks"] / len(item["samples"])),
    "leak@n": Metric("forgetting", "sampling", EVERY, lambda item: float(item["leaks"] > 0)),
    "MEMO": Metric("forgetting", "memorization", EVERY, _field("MEMO")),
    "EM": Metric("forgetting", "memorization", EVERY, _field("EM")),
    "ES": Metric("forgetting", "memorization", EVERY, _field("ES")),
    "probability F": Metric("forgetting", "tofu", _side("forget", "set"), _field("probability")),
    "truth share F": Metric("forgetting", "tofu", _side("forget", "set"), _field("truth_share")),
    "choice F": Metric("forgetting", "tofu", _side("forget", "set"), _field("chosen")),
    "choice entropy F": Metric("forgetting", "tofu", _side("forget", "set"), _field("choice_entropy")),
    "GenEx": Metric("forgetting", "exposure", EVERY, _field("GenEx_per_token")),
    "UDS": Metric("forgetting", "depth", EVERY, _field("UDS")),
    "worst by fact": Metric("forgetting", "robustness", EVERY, _field("forgotten")),
    **{
        f"AUC {name}": Metric("privacy", "membership", EVERY, lambda item, name=name: item["placements"][name])
        for name in ("loss", "zlib", "min_k", "min_k++", "gradient", "reference")
    },
    "KRR": Metric("utility", "kfr_krr", _side("retain"), _field("retained")),
    "ROUGE-L R": Metric("utility", "kfr_krr", _side("retain"), _field("rouge_l_recall")),
    "LS F": Metric("utility", "linguistic_forget", EVERY, _field("LS")),
    "LS R": Metric("utility", "linguistic_retain", EVERY, _field("LS")),
    **{
        f"{what} {name}": Metric("utility", "tofu", _side(name, "set"), _field(field))
        for name in ("retain", "real_authors", "world_facts")
        for what, field in (("probability", "probability"), ("truth share", "truth_share"), ("choice", "chosen"))
    },
}
SHARED = 0.9  # of the questions of either model: a language model that finds entities leaves some without a verdict
FAMILIES = ("forgetting", "privacy", "utility")
FILES = tuple(dict.fromkeys(metric.file for metric in METRICS.values()))


def values(metric: Metric, found: dict | None) -> list[dict] | None:
    """A metric's values in a metrics file, {question: value}, a dict for each part of the mean; None where it has none.

    Args:
        found: the file's object, as `files.write_results` writes it.
    """
    parts = {}
    items = (found or {}).get("items")
    if metric.file == "robustness" and isinstance(items, list):  # as its column "by fact"
        items = asked_by_all([item for item in items if isinstance(item, dict) and {"attack", "row"} <= item.keys()])
    for item in items if isinstance(items, list) else ():
        try:
            value = metric.value(item) if metric.counts(item) else None
            if value is None or not math.isfinite(value):
                continue
        except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):  # an older file's, or broken
            continue
        part = str(item.get("side")) if metric.file == "membership" else ""
        asked = str(item.get("question")), str(item.get("reference", item.get("answer")))  # what two models share
        if "samples" in item:  # one of 32 samples is no one of 4
            asked += (len(item["samples"]),)
        key = str(item.get("row")) if metric.file == "robustness" else asked
        parts.setdefault(part, {}).setdefault(key, []).append(value)
    one = min if metric.file == "robustness" else fmean  # whatever is tried on a fact; several samples of an answer
    return [{key: one(numbers) for key, numbers in part.items()} for part in parts.values()] or None


def z_value(model: list[dict] | None, retrained: list[dict] | None) -> float | None:
    """How many standard errors two models' values of one metric are apart; None where they are not of the same
    questions, but for a few without a verdict.

    Args:
        model, retrained: as `values` gives them.
    """
    if not model or not retrained or len(model) != len(retrained):
        return None
    variance, mean = 0.0, 0.0
    for ours, theirs in zip(model, retrained, strict=True):
        differences = [ours[key] - theirs[key] for key in ours if key in theirs]
        if len(differences) < SHARED * max(len(ours), len(theirs)):
            return None
        mean = math.fsum(differences) / len(differences)
        variance += math.fsum(value * value for value in differences) / len(differences) ** 2
    return abs(mean) / math.sqrt(variance) if variance else 0.0


def distance(model: dict[str, dict], retrained: dict[str, dict]) -> dict:
    """A model's distance to the retrained one.

    Args:
        model, retrained: {name of a metrics file, without its ending: its object}, of FILES those that are there.
    Returns:
        {"distance": number, None where no metric is there; "families": {family: number}; "z": {metric: number};
        "missing": names of the metrics left out}.
    """
    z, missing = {}, []
    for name, metric in METRICS.items():
        both = (values(metric, found.get(metric.file)) for found in (model, retrained))
        found = z_value(*both)
        if found is None:
            missing.append(name)
        else:
            z[name] = found
    square_mean = lambda numbers: math.sqrt(math.fsum(number * number for number in numbers) / len(numbers))
    families = {family: [z[name] for name in z if METRICS[name].family == family] for family in FAMILIES}
    families = {family: square_mean(numbers) for family, numbers in families.items() if numbers}
    return {
        "distance": square_mean(families.values()) if families else None,
        "families": families,
        "z": z,
        "missing": missing,
    }
