"""Weights of a bank of particles: which friction and mass explain the measurements, and when to draw anew.

Arulampalam et al., "A tutorial on particle filters" (2002): weights by likelihood (eq. 47), effective sample size
(eq. 50), systematic resampling (algorithm 2). Old evidence fades, since friction changes along a table. N particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from robot_rl.types import FloatArray
from sim.twin.model import Factors


@dataclass(frozen=True)
class BankConfig:
    """The bank."""

    particles: int = 8
    """How many worlds run side by side; 1 keeps the model's own friction and mass."""
    factor_range: tuple[float, float] = (0.4, 2.5)
    """Factors on friction and mass that are held for possible."""
    memory_s: float = 3.0
    """Evidence counts less by 1/e after so long."""
    min_effective: float = 0.5
    """Drawn anew when the effective share of the particles falls below this."""
    jitter: float = 0.1
    """Standard deviation of the logarithms of what is drawn anew."""


def first_factors(config: BankConfig, seed: int) -> list[Factors]:
    """The model's own, then a low-discrepancy set over the range's logarithm."""
    low, high = np.log(config.factor_range)
    points = qmc.Halton(2, rng=seed).random(config.particles - 1) if config.particles > 1 else np.zeros((0, 2))
    return [Factors(), *(Factors(*map(float, np.exp(low + (high - low) * point))) for point in points)]


def weights_of(log_weights: FloatArray) -> FloatArray:
    """(N,) summing to 1."""
    shifted = np.exp(log_weights - log_weights.max())
    return shifted / shifted.sum()


def weigh(log_weights: FloatArray, log_likelihoods: FloatArray, elapsed_s: float, memory_s: float) -> FloatArray:
    """(N,) log weights after one measurement: the old evidence faded, the new one added."""
    weighed = log_weights * np.exp(-elapsed_s / memory_s) + log_likelihoods
    return weighed - weighed.max()


def effective_share(weights: FloatArray) -> float:
    """1/N ... 1: the share of the particles that still counts."""
    return float(1.0 / (np.square(weights).sum() * len(weights)))


def systematic(weights: FloatArray, offset: float) -> NDArray[np.intp]:
    """(N,) parents by systematic resampling; `offset` in [0, 1)."""
    points = (np.arange(len(weights)) + offset) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), points, side="right"), len(weights) - 1)


def jittered(factors: Factors, config: BankConfig, rng: np.random.Generator) -> Factors:
    """A neighbour within the range."""
    moved = [value * np.exp(config.jitter * rng.standard_normal()) for value in (factors.friction, factors.mass)]
    friction, mass = np.clip(moved, *config.factor_range)
    return Factors(float(friction), float(mass))
