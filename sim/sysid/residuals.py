"""What is left after a fit: how much, how coloured, and what it goes with, in words.

Letters: S samples, N joints. Innovations (whitened residuals, joint by joint) are regressed on signs of effects; each
share is of their variance, beyond that of chance (adjusted R^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, f

from robot_rl.types import FloatArray
from sim.sysid.fit import Fit
from sim.sysid.log import MotionLog

LAGS = 10
SURE = 0.01
"""Findings with a larger p-value are chance; so is whiteness rejected."""
WORTH = 0.02
"""Smaller shares of the variance are not told."""
SLOW_RAD_S = 0.05
LOOKING_BACK_S = 0.2

EFFECTS = {
    "dry friction": "goes with the direction of motion: dry friction of another size",
    "Stribeck": "appears at low speed: static friction falls off by another law, or sticks",
    "viscous": "goes with the square of the speed: friction is not linear in it",
    "inertia": "goes with the acceleration: an inertia is off",
    "play": "follows reversals: play or compliance of another kind",
    "load": "goes with the arm's posture: a load, or gravity, is off",
    "cogging": "repeats over the angle: cogging, or a gear that is not round",
}


@dataclass(frozen=True)
class JointResidual:
    """One joint."""

    rms_rad: float
    """Of what is left."""
    nominal_rms_rad: float
    """With nominal parameters."""
    explained: float
    """Share of the nominal residual's variance that the fit explains."""
    whiteness_p: float
    """Ljung-Box (1978) on the innovations: small when they are not white."""
    effects: dict[str, float]
    """Share of the innovations' variance that goes with each of `EFFECTS`; 0 where it may be chance."""

    def words(self, joint: int) -> list[str]:
        """What to make of it."""
        found = [
            f"joint {joint}: {100 * share:.0f} % of what is left {EFFECTS[name]}"
            for name, share in sorted(self.effects.items(), key=lambda one: -one[1])
            if share >= WORTH
        ]
        if not found and self.whiteness_p < SURE:
            found = [f"joint {joint}: what is left is not white, and goes with none of the effects that are tried"]
        return found


def analyse(log: MotionLog, fit: Fit) -> list[JointResidual]:
    """Each joint's residual."""
    signs = _signs(log)
    innovations = fit.whitening.innovations(fit.residuals_rad, [int(one) for one in _starts(log)])
    joints = []
    for joint in range(log.joints):
        left, nominal = fit.residuals_rad[:, joint], fit.nominal_rad[:, joint]
        effects = {name: _share(innovations[:, joint], columns[:, joint]) for name, columns in signs.items()}
        explained = 1.0 - float(np.square(left).sum() / max(np.square(nominal).sum(), 1e-300))
        joints.append(JointResidual(_rms(left), _rms(nominal), explained, ljung_box(innovations[:, joint]), effects))
    return joints


def ljung_box(series: FloatArray, lags: int = LAGS) -> float:
    """p-value of whiteness of `series` (S,)."""
    return float(chi2.sf(_portmanteau(series, lags), lags))


def autocorrelation(series: FloatArray, lags: int) -> FloatArray:
    """(lags + 1,) of `series` (S,), 1 at lag 0."""
    centred = series - series.mean()
    power = max(float(centred @ centred), 1e-300)
    return np.array([float(centred[: len(centred) - lag] @ centred[lag:]) / power for lag in range(lags + 1)])


def _portmanteau(series: FloatArray, lags: int) -> float:
    count = len(series)
    rho = autocorrelation(series, lags)[1:]
    return count * (count + 2.0) * float((np.square(rho) / (count - np.arange(1, lags + 1))).sum())


def _share(target: FloatArray, columns: FloatArray) -> float:
    """Adjusted R^2 of `target` (S,) on `columns` (S, K) and a constant; 0 where an F-test takes it for chance."""
    count, known = len(target), columns.shape[1]
    design = np.column_stack([np.ones(count), columns])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    total = float(np.square(target - target.mean()).sum())
    r2 = 1.0 - float(np.square(target - fitted).sum()) / max(total, 1e-300)
    rest = count - known - 1
    if f.sf(r2 / known / max((1.0 - r2) / rest, 1e-300), known, rest) > SURE:
        return 0.0
    return max(1.0 - (1.0 - r2) * (count - 1) / rest, 0.0)


def _signs(log: MotionLog) -> dict[str, FloatArray]:
    """Columns (S, N, K) of each of `EFFECTS`."""
    parts: dict[str, list[FloatArray]] = {name: [] for name in EFFECTS}
    back = max(round(LOOKING_BACK_S * log.rate_hz), 1)
    for run in log.runs:
        joints = run.joints_rad
        speed = np.gradient(joints, 1.0 / log.rate_hz, axis=0)
        direction, slow = np.tanh(speed / 0.02), np.exp(-np.square(speed / SLOW_RAD_S))
        turned = np.abs(np.diff(np.sign(speed), axis=0, prepend=np.sign(speed[:1]))) > 0
        recent = sum(np.roll(turned, lag, 0) * (1.0 - lag / back) for lag in range(back))
        parts["dry friction"].append(np.stack([direction], -1))
        parts["Stribeck"].append(np.stack([direction * slow], -1))
        parts["viscous"].append(np.stack([speed * np.abs(speed)], -1))
        parts["inertia"].append(np.stack([np.gradient(speed, 1.0 / log.rate_hz, axis=0)], -1))
        parts["play"].append(np.stack([recent * direction], -1))
        parts["load"].append(np.stack([np.sin(joints), np.cos(joints)], -1))
        parts["cogging"].append(np.concatenate([_waves(joints, order) for order in (8, 12, 16, 24)], -1))
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def _waves(joints_rad: FloatArray, order: int) -> FloatArray:
    return np.stack([np.sin(order * joints_rad), np.cos(order * joints_rad)], -1)


def _starts(log: MotionLog) -> FloatArray:
    return np.cumsum([0, *(len(run.joints_rad) for run in log.runs)])[:-1]


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.square(values).mean()))
