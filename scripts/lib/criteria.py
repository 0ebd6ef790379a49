"""What one model is preferred to another by, in tuning and in choosing a point of a training."""

from pathlib import Path

from lib.formats import read_pairs

CRITERION = "HM_strict"  # of `strict_hm`, in records and in the report: more is better


def harmonic(one, other):
    """Harmonic mean of two shares; 0 where both are."""
    return 2 * one * other / (one + other) if one + other else 0.0


def strict_hm(summary):
    """Harmonic mean of KFR_strict and KRR.

    Args:
        summary: of a model's judged answers, as eval/01_kfr_krr.py writes it.
    """
    return harmonic(summary["KFR_strict"], summary["KRR"])


def tuned_on_asked(data, tune=None):
    """Are the questions to tune on, of either side, among those of the table? 01_data.py makes them so where the data
    brings no others. Says it.

    Args:
        data: folder made by 01_data.py. tune: the one file to tune on, if that is all: pairs to be kept.
    """
    sides = {"retain": tune} if tune else {side: Path(data, f"{side}_tune.jsonl") for side in ("forget", "retain")}
    questions = lambda path: {pair["question"] for pair in read_pairs(path)}
    files = [(path, Path(data, f"{side}_val.jsonl")) for side, path in sides.items()]
    found = any(asked.is_file() and questions(path) <= questions(asked) for path, asked in files)
    if found:
        print(f"{data}: has no questions to tune on but those that the table asks, which will flatter what is chosen")
    return found
