"""Prediction-powered inference: a few real trials and many simulated ones give one tighter interval.

PPI++ (2311.01453) with its tuned weight, for robots as in SureSim (2510.04354): every real trial has a simulated twin
from the same start, and many more starts are simulated alone. A useless simulation gets the weight 0, and the interval
is that of the real trials. It is Wilson's with the trials counted that the estimate is worth, and asymptotic in their
number; `robot_rl/betting.py` has SureSim's, which holds for any number.

Shape letters: n real trials, N simulated ones without a real one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from robot_rl.statistics import Z_95, Estimate, wilson_bounds

FITTED = 2
"""Degrees of freedom that mean and weight take."""
IMAGINED, COUNTED = np.array([[1.0, 0.0], [0.0, 1.0]]), 0.5
"""Pairs (real, simulated) that disagree, each counted so much where the simulation's worth is estimated, as Agresti
and Coull (1998) count imagined trials: that a few pairs all agree does not show that all would."""


@dataclass(frozen=True)
class PredictionPowered:
    """A real success rate, as real and simulated trials tell it together."""

    rate: Estimate
    """With its 95 % interval."""
    weight: float
    """Of the simulation, by PPI++; 0 where it tells nothing."""
    trials: int
    """Real ones, n."""
    worth: float
    """Real trials that would give so tight an interval alone."""

    @property
    def trials_saved(self) -> float:
        """Share of `worth` that need not be run on the robot."""
        return 1.0 - self.trials / self.worth


def prediction_powered(real: ArrayLike, paired: ArrayLike, alone: ArrayLike, z: float = Z_95) -> PredictionPowered:
    """Success rate of reality.

    Outcomes `real` (n,) in [0, 1], what the simulation says of the same starts, `paired` (n,) (a mean over an
    ensemble's members lies between 0 and 1), and of others, `alone` (N,).
    """
    y, f, g = (np.asarray(one, np.float64) for one in (real, paired, alone))
    if y.ndim != 1 or y.shape != f.shape or g.ndim != 1 or not len(y) or not len(g):
        raise ValueError(f"need paired trials and simulated ones; got shapes {y.shape}, {f.shape}, {g.shape}")
    n = len(y)
    weight, share = _worth(y, f, g)
    rate = float(np.clip(y.mean() + weight * (g.mean() - f.mean()), 0.0, 1.0))
    worth = n / share
    low, high = wilson_bounds(rate, worth, z)
    return PredictionPowered(Estimate(rate, low, high), weight, n, worth)


def _worth(y: np.ndarray, f: np.ndarray, g: np.ndarray) -> tuple[float, float]:
    """The simulation's weight, and the estimate's variance as a share of that of the real trials' mean.

    The weight is Cov(Y, f) / ((1 + n / N) Var f) (2311.01453, example 6.1), never against the simulation.
    """
    pairs = np.concatenate([np.stack([y, f], 1), IMAGINED])
    counts = np.append(np.ones(len(y)), np.full(len(IMAGINED), COUNTED))
    n, m = float(counts.sum()), len(g)
    if len(y) <= FITTED or m < 2:
        return 0.0, 1.0
    (real, both), (_, simulated) = np.cov(pairs.T, aweights=counts, ddof=0)
    predicted = (n * simulated + m * float(g.var())) / (n + m)
    weight = float(np.clip(both / ((1.0 + n / m) * predicted), 0.0, 1.0))
    residual = (real - 2.0 * weight * both + weight * weight * simulated) / (n - FITTED)
    share = (residual + weight * weight * float(g.var()) / (m - 1)) * (n - 1.0) / real
    return (weight, share) if share < 1.0 else (0.0, 1.0)
