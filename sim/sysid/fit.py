"""Gauss-Newton over batched rollouts: the most probable parameters, and a posterior that allows for what is unmodelled.

Letters: S samples, N joints, P parameters, B blocks. Residuals r (S, N) are measured less predicted joints.
They are far from white: what the model lacks comes back at every similar moment. So

 1. a first fit takes all joints as equally sure, and what is left as lasting for half a second;
 2. from its residuals, each joint's autocorrelation (AR(1)) and the innovations' covariance are estimated, and the fit
    goes on with whitened residuals: slow drifts then count for one observation, not for hundreds;
 3. the posterior adds to Laplace's inverse Hessian the sandwich H^-1 S H^-1 of scores summed over blocks of time
    (Huber, 1967; White, 1982; blocks for dependence: Newey and West, 1987), and `Parameter.shift_z`: a model that is
    wrong is wrong in its parameters, too (Brynjarsdottir and O'Hagan, "Learning about physical parameters: the
    importance of model discrepancy", 2014).

The prior is a standard normal in `z`, so that what the data cannot tell stays as wide as it was. Derivatives are finite
differences, all columns one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl.types import FloatArray
from sim.sysid.log import MotionLog
from sim.sysid.parameters import ArmPosterior, parameters

Predict = Callable[[Sequence[FloatArray]], FloatArray]
"""(B, S, N) joints of several z."""
STEP_Z = 0.1
"""Of finite differences."""
FIRST_PHI, FIRST_STD_RAD = 0.9, 3e-4
FLOOR_RAD = 5e-5
"""Innovations are taken as no smaller: encoders count in such steps."""
BLOCK_S = 0.5
DAMPINGS = (0.0, 0.1, 10.0)
ENOUGH = 0.02
"""A pass that gains less than this share of the cost is the last."""
HIGHEST_Z = 4.0


@dataclass(frozen=True)
class Whitening:
    """r -> L^-1 (r_t - phi r_{t-1})."""

    phi: FloatArray
    """(N,) autocorrelations."""
    inverse_factor: FloatArray
    """(N, N), L^-1 of the innovations' covariance L L^T."""

    def __call__(self, residuals: FloatArray, starts: Sequence[int]) -> FloatArray:
        """`residuals` (..., S, N), whitened; runs begin at `starts`."""
        return self.innovations(residuals, starts) @ self.inverse_factor.T

    def innovations(self, residuals: FloatArray, starts: Sequence[int]) -> FloatArray:
        """r_t - phi r_{t-1} (..., S, N), in rad."""
        shifted = np.zeros_like(residuals)
        shifted[..., 1:, :] = residuals[..., :-1, :]
        shifted[..., list(starts), :] = 0.0
        return residuals - self.phi * shifted


@dataclass(frozen=True)
class Fit:
    """What a log says of an arm."""

    posterior: ArmPosterior
    """Of the parameters."""
    residuals_rad: FloatArray
    """(S, N) at its mean."""
    nominal_rad: FloatArray
    """(S, N) at the prior's median."""
    whitened: FloatArray
    """(S, N) at its mean."""
    whitening: Whitening
    """What was used."""
    information: FloatArray
    """(P,) share of each parameter's prior variance that the data took away."""


def fit(log: MotionLog, predict: Predict, passes: tuple[int, int] = (5, 1)) -> Fit:
    """Fit to `log`; `passes` are the most batches of derivatives before and after residuals are whitened."""
    measured = np.concatenate([run.joints_rad for run in log.runs])
    starts = np.cumsum([0, *(len(run.joints_rad) for run in log.runs)])[:-1].tolist()
    count = measured.shape[1]
    problem = Problem(measured, starts, predict)
    nominal = problem.residuals
    problem.solve(Whitening(np.full(count, FIRST_PHI), np.eye(count) / FIRST_STD_RAD), passes[0])
    problem.solve(estimate_whitening(problem.residuals, starts), passes[1])
    whitening = estimate_whitening(problem.residuals, starts)
    whitened = whitening(problem.residuals, starts)
    covariance = posterior_covariance(whitened, whitening(problem.slopes, starts), _blocks(log))
    covariance += np.diag([one.shift_z**2 for one in parameters(count)])
    mean = tuple(map(float, problem.z))
    posterior = ArmPosterior(mean, tuple(tuple(map(float, row)) for row in covariance), count)
    told = 1.0 - np.minimum(np.diag(covariance), 1.0)
    return Fit(posterior, problem.residuals, nominal, whitened, whitening, told)


class Problem:
    """The present z with its residuals and their derivatives; begins at the prior's median."""

    def __init__(self, measured: FloatArray, starts: Sequence[int], predict: Predict) -> None:
        self._measured, self._starts, self._predict = measured, starts, predict
        every = parameters(measured.shape[1])
        self._lowest = np.array([one.lowest_z for one in every])
        self.z = np.zeros(len(every))
        self.residuals = measured - predict([self.z])[0]
        self.slopes = np.zeros((len(every), *measured.shape))
        """(P, S, N)"""

    def linearise(self) -> None:
        """Derivatives by forward differences, as one batch of rollouts."""
        steps = STEP_Z * np.where(self.z + STEP_Z > HIGHEST_Z, -1.0, 1.0)
        moved = self._measured - self._predict([self.z + row for row in np.diag(steps)])
        self.slopes = (moved - self.residuals) / steps[:, None, None]

    def solve(self, whitening: Whitening, passes: int) -> None:
        """Towards the most probable z, with fixed whitening; ends early where nothing improves.

        Each pass tries steps of several dampings as one batch: the best is taken (Levenberg-Marquardt).
        """
        for _ in range(passes):
            self.linearise()
            white = whitening(self.residuals, self._starts).ravel()
            columns = whitening(self.slopes, self._starts).reshape(len(self.z), -1)
            hessian, slope = columns @ columns.T + np.eye(len(self.z)), columns @ white + self.z
            damped = [hessian + damping * np.diag(np.diag(hessian)) for damping in DAMPINGS]
            trials = [np.clip(self.z - np.linalg.solve(one, slope), self._lowest, HIGHEST_Z) for one in damped]
            residuals = self._measured - self._predict(trials)
            costs = [self._cost(whitening, *one) for one in zip(residuals, trials, strict=True)]
            best, before = int(np.argmin(costs)), self._cost(whitening, self.residuals, self.z)
            if costs[best] < before:
                self.z, self.residuals = trials[best], residuals[best]
            if costs[best] > (1.0 - ENOUGH) * before:
                return

    def _cost(self, whitening: Whitening, residuals: FloatArray, z: FloatArray) -> float:
        """Twice the negative logarithm of the posterior's density, but for a constant."""
        return float(np.square(whitening(residuals, self._starts)).sum() + z @ z)


def estimate_whitening(residuals: FloatArray, starts: Sequence[int]) -> Whitening:
    """AR(1) and innovations of residuals (S, N)."""
    keeps = np.ones(len(residuals) - 1, bool)
    keeps[[start - 1 for start in starts if start]] = False
    now, before = residuals[1:][keeps], residuals[:-1][keeps]
    phi = np.clip((now * before).sum(0) / np.maximum(np.square(before).sum(0), 1e-300), 0.0, 0.98)
    innovations = now - phi * before
    covariance = innovations.T @ innovations / len(innovations) + FLOOR_RAD**2 * np.eye(len(phi))
    return Whitening(phi, np.linalg.inv(np.linalg.cholesky(covariance)))


def posterior_covariance(whitened: FloatArray, columns: FloatArray, blocks: Sequence[slice]) -> FloatArray:
    """(P, P) from whitened residuals (S, N) and their derivatives (P, S, N); see the module's docstring."""
    flat = columns.reshape(len(columns), -1)
    inverse = np.linalg.inv(flat @ flat.T + np.eye(len(columns)))
    scores = np.array([np.einsum("sn,psn->p", whitened[block], columns[:, block]) for block in blocks])
    scores -= scores.mean(0)
    spread = scores.T @ scores * len(blocks) / max(len(blocks) - 1, 1)
    covariance = inverse + inverse @ spread @ inverse
    return (covariance + covariance.T) / 2.0


def _blocks(log: MotionLog) -> list[slice]:
    length, blocks, start = max(round(BLOCK_S * log.rate_hz), 1), [], 0
    for run in log.runs:
        end = start + len(run.joints_rad)
        blocks += [slice(at, min(at + length, end)) for at in range(start, end, length)]
        start = end
    return blocks
