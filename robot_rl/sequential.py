"""A test that may look after every episode: has a mean of values in [0, 1] risen above that of a reference?

Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024): a gambler who stakes
a fixed share of the wealth on every value being above m cannot, in expectation, gain while the mean is at most m. So
(Ville's inequality) the chance that the wealth ever exceeds 1/alpha is at most alpha, however long one watches.
Of two samples: were the reference's mean m, betting that it is below m gains nothing, nor does betting that the other
is above m + margin, nor does one wealth times the other. The smallest product over all m is evidence whatever m is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from robot_rl.types import FloatArray

STAKES = np.geomspace(0.005, 0.95, 16)
"""Shares of the wealth; the gambler spreads it evenly over these, as nobody knows the best one beforehand."""
MEANS = np.linspace(0.0, 1.0, 201)
"""Means that the reference might have, step by step."""


def log_wealth_above(values: Sequence[float], means: FloatArray) -> FloatArray:
    """Log wealth (M,) after betting that `values` (N,) in [0, 1] have a mean above each of `means` (M,) in (0, 1].

    It falls with the mean.
    """
    gains = np.asarray(values, np.float64) / means[:, None] - 1.0  # (M, N)
    wealth = np.log1p(STAKES[:, None, None] * gains).sum(2)  # (stakes, M)
    return logsumexp(wealth, 0) - np.log(len(STAKES))


def evidence_of_rise(reference: Sequence[float], running: Sequence[float], margin: float) -> float:
    """Log evidence that the mean of `running` (N,) exceeds that of `reference` (R,) by more than `margin` > 0.

    If it does not, this ever exceeds log(1/alpha) with probability alpha at most. Values are in [0, 1]. Between two of
    `MEANS` both wealths are taken at their worse end, so that the steps cost power and not validity.
    """
    low, high = MEANS[:-1], MEANS[1:]
    below = log_wealth_above([1.0 - value for value in reference], 1.0 - low)
    bound = high + margin
    above = np.zeros_like(bound)  # a mean above 1 cannot be bet on
    possible = bound <= 1.0
    above[possible] = log_wealth_above(running, bound[possible])
    return float((below + above).min())
