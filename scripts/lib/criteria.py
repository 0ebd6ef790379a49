"""What one model is preferred to another by, in tuning and in choosing a point of a training."""

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
