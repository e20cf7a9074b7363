"""Intervals for success rates."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion (Wilson 1927); (0, 1) without trials."""
    if not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    return wilson_bounds(successes / trials, trials, z)


def wilson_bounds(rate: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """The same of a rate in [0, 1] that is worth so many trials; neither these nor the successes need be whole."""
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return (0.0 if rate == 0.0 else (centre - spread) / scale), (1.0 if rate == 1.0 else (centre + spread) / scale)
