"""An interval of a real success rate that holds for any number of trials, tightened by simulation where that helps.

SureSim (2510.04354): the outcomes of its algorithm 2 (UniformPPI), the hedged capital of Waudby-Smith & Ramdas (WSR,
2010.09686) of its algorithm 4. A gambler with predictable bets that the mean is above m does not gain, in expectation,
while it is at most m; so (Ville's inequality) the capital ever exceeds 2/alpha with probability alpha/2 at most, and
every m at which it does is left out. The same from above with failures for successes.

Unlike the paper:
- A round is a real trial and its share of the lone simulated ones; bets are set before a round, and capital counts at
  its end. With a fixed number of real trials the paper's outcomes, one by one, are not independent. A round's are, and
  by the inequality of means their product does not gain.
- The capital is spread over `WEIGHTS` of the simulation, and the sum counts. SureSim-UB intersects the intervals with
  and without simulation, which is never narrower than the same shares as a sum. The weight 0 is WSR of the real trials.
- Bets go by the variance of the rounds' means, and up to `CAP` of what can be lost.

Shape letters: n real trials, N simulated ones without a real one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar

WEIGHTS = (0.0, 0.5, 1.0)
"""Of the simulation; the capital is spread evenly over these, as nobody knows the best one beforehand."""
CAP = 0.99
"""Largest share of what a bet can lose (2510.04354, algorithm 4)."""
MEAN, VARIANCE = 0.5, 0.25
"""Of the one imagined outcome that the first bet goes by (same place)."""
TOLERANCE = 1e-4
"""Of the bounds, added to the width."""


@dataclass(frozen=True)
class Bets:
    """Bets of one weight that a mean lies above m."""

    pairs: NDArray[np.float64]
    """(n,) simulated outcome, and what is real beyond it times `sizes`."""
    lone: NDArray[np.float64]
    """(N,) simulated outcomes."""
    rounds: NDArray[np.int64]
    """(N,) round of each."""
    sizes: NDArray[np.int64]
    """(n,) outcomes in each round."""
    stakes: NDArray[np.float64]
    """(n,) on each round's mean."""
    weight: float

    def log_capital(self, mean: float) -> NDArray[np.float64]:
        """(n,) after each round, of bets against `mean`. It falls with the mean."""
        loss = mean + self.weight * (self.sizes - 1)  # of a pair that fails where the simulation succeeds
        most = np.divide(CAP, loss, out=np.full(len(loss), np.inf), where=loss > 0.0)
        stakes = np.minimum(self.stakes / self.sizes, most)
        gains = np.log1p(stakes * (self.pairs - mean))
        np.add.at(gains, self.rounds, np.log1p(stakes[self.rounds] * (self.lone - mean)))
        return np.cumsum(gains)


def place_bets(real: NDArray, paired: NDArray, alone: NDArray, weight: float, alpha: float) -> Bets:
    """Bets of one weight on outcomes as in `betting_interval`; without simulated ones nothing but the real trials."""
    n, lone = len(real), weight * (alone if weight > 0.0 else alone[:0])
    rounds = np.arange(len(lone)) * n // max(len(lone), 1)
    sizes = 1 + np.bincount(rounds, minlength=n)
    pairs = weight * paired + sizes * (real - weight * paired)
    means = (pairs + np.bincount(rounds, lone, n)) / sizes
    count = np.arange(2, n + 2)
    centres = (MEAN + np.cumsum(means)) / count
    variances = (VARIANCE + np.cumsum((means - centres) ** 2)) / count
    known = np.append(VARIANCE, variances[:-1])
    stakes = np.sqrt(2.0 * math.log(2.0 / alpha) / (n * known))
    return Bets(pairs, lone, rounds, sizes, stakes, weight)


def betting_interval(
    real: ArrayLike, paired: ArrayLike = (), alone: ArrayLike = (), alpha: float = 0.05
) -> tuple[float, float]:
    """Interval of the real success rate that holds it with probability 1 - `alpha` at least, whatever n and N.

    Outcomes `real` (n,) in [0, 1], what the simulation says of the same starts, `paired` (n,), and of others, `alone`
    (N,); by default of real trials alone. All starts are drawn alike; their order and n must not depend on outcomes.
    """
    y, f, g = (np.asarray(one, np.float64) for one in (real, paired, alone))
    if not len(f) and not len(g):
        f = np.zeros_like(y)
    if y.ndim != 1 or y.shape != f.shape or g.ndim != 1 or not len(y):
        raise ValueError(f"need real trials, paired if any are simulated; got shapes {y.shape}, {f.shape}, {g.shape}")
    if any(((one < 0.0) | (one > 1.0)).any() for one in (y, f, g)):
        raise ValueError("outcomes lie in [0, 1]")
    low, high = _lower_bound(y, f, g, alpha), 1.0 - _lower_bound(1.0 - y, 1.0 - f, 1.0 - g, alpha)
    return min(low, high), max(low, high)  # trials in an order that drifts may leave out every mean


def _lower_bound(y: NDArray, f: NDArray, g: NDArray, alpha: float) -> float:
    weights = WEIGHTS if len(g) else (0.0,)
    bets = [place_bets(y, f, g, weight, alpha) for weight in weights]

    def excess(mean: float) -> float:
        capital = np.logaddexp.reduce([one.log_capital(mean) for one in bets]) - math.log(len(bets))
        return float(capital.max()) - math.log(2.0 / alpha)

    if excess(0.0) < 0.0:
        return 0.0
    if excess(1.0) >= 0.0:
        return 1.0
    return max(root_scalar(excess, bracket=(0.0, 1.0), xtol=TOLERANCE).root - TOLERANCE, 0.0)
