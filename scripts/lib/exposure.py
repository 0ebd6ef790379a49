"""Exposure (Baluta et al. 2024, arXiv:2411.04388), in bits, and the mean of exponentials that it and TOFU's truth
ratio need.
"""

import math


def log_mean_exp(values):
    """log of the mean of exp(values), without overflow."""
    top = max(values)
    return (
        top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))
        if math.isfinite(top)
        else top
    )


def generalized_exposure(unlearned, reference):
    """GenEx(x) = log E_u[p(x|θ_u)] - log E_r[p(x|θ_r)] (Baluta et al. 2024, arXiv:2411.04388), in bits; near 0:
    unlearned.

    The expectations are means over seeds; the reference models never saw the forget set. The paper's text was not at
    hand:
    this is the definition as its reviews give it.

    Args:
        unlearned, reference: log p(x) in nats, a number a seed; divided by the answer's tokens for the
        length-normalised form.
    """
    return (log_mean_exp(unlearned) - log_mean_exp(reference)) / math.log(2)


def relative_exposure(logprob, fresh):
    """RelEx(x) = log p(x|θ_u) - log mean_z p(z|θ_u) (Baluta et al. 2024, arXiv:2411.04388), in bits; near 0: unlearned.

    z runs over fresh examples of x's distribution that no model saw, so no reference model is needed. The paper's text
    was not at hand: this is the definition as its reviews give it. Raw, the mean is ruled by the shortest z; compare
    normalised values.

    Args:
        logprob: log p(x|θ_u) in nats. fresh: log p(z|θ_u) in nats, a number a z. Both divided by the answer's tokens,
        or neither.
    """
    return (logprob - log_mean_exp(fresh)) / math.log(2)
