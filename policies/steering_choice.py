"""How many candidates, and how greedy a choice: told by held-out episodes, without a robot.

A critic that chooses and then judges its own choice always wants more candidates. Here one half of the ensemble
chooses and the other half judges, and the other way round, as in double Q-learning (1509.06461): what the judges do
not see as better was the choosers' error. The halves learned from the same data, so errors that all members share
remain; a trial run on held-out start states is the stricter test.

Shape letters: N members, M states, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from policies.steered import SteeringConfig, lower_bound
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

SAMPLES = (1, 2, 5, 10, 20, 30, 50, 100)
TEMPERATURES = (0.0, 0.02, 0.1, 0.5)
"""In units of the spread that a state's candidates have in value (mean over states)."""


ROUNDING = 1e-6
"""Spread, relative to the largest value, up to which candidates are the same one: those of a deterministic policy."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the judges say of one setting."""

    samples: int
    temperature: float
    gain: float
    """Value above that of the policy's own candidate, mean over states."""
    error: float
    """Standard error of that mean."""


def try_settings(
    values: FloatArray,
    pessimism: float,
    samples: Sequence[int] = SAMPLES,
    temperatures: Sequence[float] = TEMPERATURES,
) -> list[Trial]:
    """Every setting on values (N, M, K) of candidates, of which the first is the policy's own.

    One candidate is all there is to try where all are the same.
    """
    members, states, count = values.shape
    if members < 2:
        raise ConfigError("one half of the critics chooses, the other judges: it takes critic.members of at least 2")
    halves = (values[: members // 2], values[members // 2 :])
    spread = float(values.mean(0).std(1).mean())
    alike = spread <= ROUNDING * float(np.abs(values).max())
    trials = []
    for size in (one for one in samples if one <= (1 if alike else count)):
        for share in temperatures if size > 1 else (0.0,):
            gains = [
                _judged(lower_bound(choosers, pessimism)[:, :size], judges.mean(0), share * spread)
                for choosers, judges in (halves, halves[::-1])
            ]
            gain = np.mean(gains, axis=0)
            trials.append(Trial(size, share * spread, float(gain.mean()), float(gain.std() / math.sqrt(states))))
    return trials


def _judged(bound: FloatArray, value: FloatArray, temperature: float) -> FloatArray:
    """Expected value above the first candidate's (M,), for choosing by `bound` (M, K)."""
    if temperature:
        shares = np.exp((bound - bound.max(1, keepdims=True)) / temperature)
    else:
        shares = (np.arange(bound.shape[1]) == bound.argmax(1)[:, None]).astype(float)
    shares /= shares.sum(1, keepdims=True)
    return (shares * value[:, : bound.shape[1]]).sum(1) - value[:, 0]


def best_setting(trials: Sequence[Trial], config: SteeringConfig) -> SteeringConfig:
    """The fewest candidates, then the mildest choice, within one standard error of the best gain."""
    best = max(trials, key=lambda one: one.gain)
    good = [one for one in trials if one.gain >= best.gain - best.error]
    chosen = min(good, key=lambda one: (one.samples, -one.temperature))
    return replace(config, samples=chosen.samples, temperature=chosen.temperature)
