"""What is published of an object: it moves as the twin's object does and takes corrections in over a time constant.

The twin itself is corrected at once, several millimetres at times; whoever acts on it should not see that as motion.
"""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray


class PoseSmoother:
    """First-order approach of a moving pose; exact while the estimate of its past does not change."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._pose: FloatArray | None = None

    def restart(self) -> None:
        """The next pose is taken as it is."""
        self._pose = None

    def step(self, before: FloatArray, pose: FloatArray, dt_s: float) -> FloatArray:
        """(7,) to publish, from the twin's `pose` (7,) now and where it now has the object `dt_s` ago; world frame."""
        if self._pose is not None and self._time_constant_s > 0.0:
            moved = shifted(self._pose, difference(before, pose))
            pose = shifted(moved, (1.0 - np.exp(-dt_s / self._time_constant_s)) * difference(moved, pose))
        self._pose = pose
        return pose


def shifted(pose: FloatArray, step: FloatArray) -> FloatArray:
    """(7,) moved by `step` (6,): position and rotation vector in the world frame."""
    quat = frames.quat_multiply(frames.rotvec_to_quat(step[3:]), pose[3:])
    return np.concatenate([pose[:3] + step[:3], quat / np.linalg.norm(quat)])


def difference(pose: FloatArray, other: FloatArray) -> FloatArray:
    """(6,) that `shifted` takes from `pose` to `other`."""
    turn = frames.quat_multiply(other[3:], frames.quat_inverse(pose[3:]))
    return np.concatenate([other[:3] - pose[:3], frames.quat_to_rotvec(turn)])
