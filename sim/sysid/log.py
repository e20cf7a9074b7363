"""A log of an arm's motion: what it was told and what its joints did. Kept as `.npz`, never pickled.

Letters: T steps, N joints.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl import frames
from robot_rl.env import EnvConfig
from robot_rl.errors import ConfigError, DataError
from robot_rl.protocols import Env
from robot_rl.types import FloatArray
from sim.sysid.motion import MotionLimits, absolute, violations

SCHEMA = 1
MOTION_ENV = EnvConfig(rate_hz=20.0, max_steps=100_000, action=("x", "y", "z", "rx", "ry", "rz"))
"""How excitation is sent: twice the rate of policies, so that delay and stiffness show."""
FEWEST_S = 1.0
"""A run that is shorter tells nothing."""
OLD_S = 0.015
"""A state is rarely older when it is seen: drivers publish at 100 Hz and more."""
ARRAYS = ("targets_base", "joints_rad", "poses_base", "stamps_s")


@dataclass(frozen=True)
class Run:
    """One movement from rest."""

    targets_base: FloatArray
    """(T, 7) commanded TCP poses, as executed; each holds for one period."""
    joints_rad: FloatArray
    """(T + 1, N) measured, the first before the first command."""
    poses_base: FloatArray
    """(T + 1, 7) measured TCP poses."""
    stamps_s: FloatArray
    """(T + 1,) of the measurements, from the first."""

    def sent_s(self, rate_hz: float) -> FloatArray:
        """When each target was sent (T,): a period after the one before, on time or not.

        The state seen before it is a little older, each time by another bit; where it is not near that moment, the
        step was late (or the one before), and the state's stamp tells when.
        """
        found = [0.0]
        for stamp_s in self.stamps_s[1:-1]:
            due_s = found[-1] + 1.0 / rate_hz
            found.append(due_s if abs(stamp_s - due_s) <= OLD_S else float(stamp_s))
        return np.array(found)


@dataclass(frozen=True)
class MotionLog:
    """Movements of one arm."""

    robot: str
    """`sim.robosuite_arm.ROBOTS`: whose model is fitted."""
    rate_hz: float
    """Commands per second."""
    runs: tuple[Run, ...]
    """Each from rest."""

    @property
    def joints(self) -> int:
        return self.runs[0].joints_rad.shape[1]


def record(env: Env, offsets: FloatArray, seed: int = 0, limits: MotionLimits | None = None) -> Run:
    """Send the TCP along `offsets` (T, 7), poses seen from where it starts (position in base axes, rotation in the
    TCP's), and log what came of it. What a guard changed is logged as it was executed.

    `ConfigError` before anything moves where the way would break `limits`.
    """
    env.reset(seed=seed)
    arm, spec = env.snapshot().arm, env.action_spec
    start = target = np.asarray(arm.pose_base_tcp, np.float64)
    targets, states, way = [], [arm], absolute(start, offsets)
    if limits is not None and (broken := violations(way, limits, env.rate_hz)):
        raise ConfigError(f"the movement would break the guard's limits: {'; '.join(broken)}")
    for wanted in way:
        step = frames.relative(target, wanted)
        turn = frames.quat_to_rotvec(step[3:])
        action = np.concatenate([step[:3] / spec.translation_m, turn / spec.rotation_rad])
        *_, info = env.step(action)
        done = np.asarray(info["executed_action"], np.float64)
        turn = frames.rotvec_to_quat(done[3:] * spec.rotation_rad)
        target = frames.compose(target, np.concatenate([done[:3] * spec.translation_m, turn]))
        targets.append(target)
        states.append(env.snapshot().arm)
    stamps = np.array([one.stamp_s for one in states])
    return Run(
        np.array(targets),
        np.array([one.joint_pos_rad for one in states], np.float64),
        np.array([one.pose_base_tcp for one in states], np.float64),
        stamps - stamps[0],
    )


def write_log(path: Path, log: MotionLog) -> None:
    """Write `log`, whole or not at all."""
    arrays: dict[str, Any] = {f"{name}_{i}": getattr(run, name) for i, run in enumerate(log.runs) for name in ARRAYS}
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, schema=SCHEMA, robot=log.robot, rate_hz=log.rate_hz, runs=len(log.runs), **arrays)
    partial.replace(path)


def read_log(path: Path) -> MotionLog:
    """The log in `path`; `DataError` says what is wrong with it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["schema"]) != SCHEMA:
                raise DataError(f"{path} has schema {int(file['schema'])}; this version reads {SCHEMA}")
            runs = [Run(*(np.asarray(file[f"{name}_{i}"], np.float64) for name in ARRAYS)) for i in range(file["runs"])]
            log = MotionLog(str(file["robot"]), float(file["rate_hz"]), tuple(runs))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no log of motion: {error}") from error
    _check(path, log.runs, log.rate_hz)
    return log


def _check(path: Path, runs: Sequence[Run], rate_hz: float) -> None:
    if not 0.0 < rate_hz < np.inf:
        raise DataError(f"{path} has rate_hz {rate_hz}: commands a second, such as {MOTION_ENV.rate_hz:.0f}")
    for index, run in enumerate(runs):
        steps, joints = len(run.targets_base), run.joints_rad.shape[-1]
        shapes = ((steps, 7), (steps + 1, joints), (steps + 1, 7), (steps + 1,))
        arrays = [getattr(run, name) for name in ARRAYS]
        if [one.shape for one in arrays] != list(shapes) or not all(np.isfinite(one).all() for one in arrays):
            raise DataError(f"{path}: run {index} has shapes {[one.shape for one in arrays]} or is not finite")
        if run.stamps_s[0] != 0.0 or (np.diff(run.stamps_s) < 0.0).any():
            raise DataError(f"{path}: the stamps of run {index} do not begin at 0, or go back")
        if steps < FEWEST_S * rate_hz:
            raise DataError(
                f"{path}: run {index} lasts {steps / rate_hz:.2g} s; under {FEWEST_S:.0f} s nothing is told"
            )
    if not runs or len({run.joints_rad.shape[1] for run in runs}) > 1:
        raise DataError(f"{path} holds no runs, or runs of different arms")
