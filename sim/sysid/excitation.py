"""Movements that tell most about an arm, and that a guard lets through.

Fourier series of six directions (Swevers et al., "Optimal robot excitation and identification", T-RA 1997), periodic
and at rest at both ends. Of several draws within the limits that one is taken whose regressors (per joint: sign of the
speed, speed, acceleration, torque of a load) have the largest log-determinant: D-optimal among the draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.sysid.motion import MotionLimits, absolute, as_poses, rates, violations

RIDGE = 1e-3


@dataclass(frozen=True)
class ExcitationConfig:
    """What is drawn."""

    runs: int = 1
    """Movements, each from the start."""
    period_s: float = 8.0
    """Of each."""
    harmonics: int = 8
    """Of each direction: the fastest is `harmonics / period_s`."""
    translation_m: float = 0.12
    """Farthest along an axis."""
    rotation_rad: float = 0.4
    """Farthest about an axis."""
    upward_m: float = 0.0
    """The TCP moves about a point so far above where it starts."""
    draws: int = 16
    """Of which the best is taken."""
    rest_s: float = 0.5
    """At rest before and after."""
    use: float = 0.8
    """Share of the speed limits that is used."""


def excitation(
    config: ExcitationConfig,
    start: FloatArray,
    limits: MotionLimits,
    predict: Callable[[FloatArray], FloatArray],
    rate_hz: float,
    seed: int = 0,
    obstacles: Callable[[FloatArray], Sequence[str]] = lambda joints: (),
) -> list[FloatArray]:
    """Offsets (T, 7) of every run, from `start` (7,).

    `predict` gives joints (T + 1, N) on the way along targets; `obstacles` says in words what these would run into.
    `ConfigError` says why no draw can be used.
    """
    rng, chosen = np.random.default_rng(seed), []
    for _ in range(config.runs):
        best, score, reasons = None, -np.inf, list[str]()
        for _ in range(config.draws):
            offsets = scaled(fourier(config, rng, rate_hz), limits, rate_hz, config.use)
            targets = absolute(start, offsets)
            joints = None
            if not (problems := violations(targets, limits, rate_hz)):
                joints = predict(targets)
                problems = obstacles(joints)
            if problems or joints is None:
                reasons.append(problems[0])
                continue
            found = information(joints, rate_hz)
            best, score = (offsets, found) if found > score else (best, score)
        if best is None:
            raise ConfigError(
                f"no excitation of {config.translation_m} m fits in the box {limits.low_m} to {limits.high_m} from "
                f"{np.round(start[:3], 3).tolist()}; make translation_m smaller or begin elsewhere "
                f"({Counter(reasons).most_common(1)[0][0]})"
            )
        chosen.append(best)
    return chosen


def fourier(config: ExcitationConfig, rng: np.random.Generator, rate_hz: float) -> FloatArray:
    """Offsets (T, 7) of one draw: amplitudes as asked, speeds not yet limited."""
    count = round(config.period_s * rate_hz)
    times = np.arange(1, count + 1) / count
    order = np.arange(1, config.harmonics + 1)
    waves = np.concatenate([np.sin(2 * np.pi * np.outer(times, order)), np.cos(2 * np.pi * np.outer(times, order)) - 1])
    waves = waves.reshape(2, count, -1).transpose(1, 0, 2).reshape(count, -1)  # (T, 2 H), all zero at both ends
    path = waves @ (rng.standard_normal((2 * config.harmonics, 6)) / np.tile(order, 2)[:, None] ** 0.5)
    ramp = np.minimum(1.0, np.minimum(times, 1.0 - times) * config.period_s)  # a second to get going and to stop
    path *= (ramp**2 * (3.0 - 2.0 * ramp))[:, None]
    path *= np.repeat([config.translation_m, config.rotation_rad], 3) / np.abs(path).max(0)
    path[:, 2] += config.upward_m * (ramp**2 * (3.0 - 2.0 * ramp))
    rest = np.zeros((round(config.rest_s * rate_hz), 6))
    return as_poses(np.concatenate([rest, path, rest]))


def scaled(offsets: FloatArray, limits: MotionLimits, rate_hz: float, use: float) -> FloatArray:
    """`offsets` made smaller until speeds and accelerations are at most a share `use` of the limits."""
    path = np.concatenate([offsets[:, :3], [frames.quat_to_rotvec(quat) for quat in offsets[:, 3:]]], 1)
    peaks = rates(as_poses(path), rate_hz)
    moving, turning = (use * min(1.0, *ratios) for ratios in _room(peaks, limits, use))
    path[:, :3] *= moving / use
    path[:, 3:] *= turning / use
    return as_poses(path)


def _room(peaks: FloatArray, limits: MotionLimits, use: float) -> tuple[tuple[float, float], tuple[float, float]]:
    speed, turn, acceleration, spin = (float(one) for one in np.maximum(peaks, 1e-9))
    moving = use * limits.speed_m_s / speed, use * limits.acceleration_m_s2 / acceleration
    return moving, (use * limits.speed_rad_s / turn, use * limits.acceleration_rad_s2 / spin)


def information(joints_rad: FloatArray, rate_hz: float) -> float:
    """Log-determinant of the regressors of joints (T, N): what friction, damping, inertia and a load would show in."""
    speed = np.gradient(joints_rad, 1.0 / rate_hz, axis=0)
    acceleration = np.gradient(speed, 1.0 / rate_hz, axis=0)
    total = 0.0
    for joint in range(joints_rad.shape[1]):
        angle = joints_rad[:, joint]
        columns = [
            np.tanh(speed[:, joint] / 0.02),
            speed[:, joint],
            acceleration[:, joint],
            np.sin(angle),
            np.cos(angle),
        ]
        regressor = np.stack(columns, 1)
        gram = regressor.T @ regressor / len(regressor)
        total += float(np.linalg.slogdet(gram + RIDGE * np.eye(len(gram)))[1])
    return total


def reaches(
    rng: np.random.Generator, limits: MotionLimits, rate_hz: float, count: int = 4, reach_m: float = 0.15
) -> FloatArray:
    """Offsets (T, 7) of movements as tasks have them: straight, from rest to rest (minimum jerk), with waits between.

    To judge an identification by, on another kind of motion than it was fitted to. They lead upwards more than down.
    """
    here, way = np.zeros(6), [np.zeros((round(0.3 * rate_hz), 6))]
    for _ in range(count):
        aside = rng.uniform(-reach_m, reach_m, 2)
        there = np.concatenate([aside, rng.uniform(-0.2 * reach_m, 1.3 * reach_m, 1), rng.uniform(-0.3, 0.3, 3)])
        distance, angle = np.linalg.norm((there - here).reshape(2, 3), axis=1)
        fastest_s = max(distance / limits.speed_m_s, angle / limits.speed_rad_s)
        steps = int(np.ceil(max(1.875 * fastest_s / 0.8, 0.6) * rate_hz))  # minimum jerk peaks at 1.875 times its mean
        s = np.arange(1, steps + 1)[:, None] / steps
        way.append(here + (there - here) * (10 * s**3 - 15 * s**4 + 6 * s**5))
        way.append(np.tile(there, (round(0.4 * rate_hz), 1)))
        here = there
    return as_poses(np.concatenate(way))
