"""Ways of the TCP and the limits that they keep to. Ways are poses (T, 7), one per period."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray


@dataclass(frozen=True)
class MotionLimits:
    """What a movement keeps to, as the guard has it."""

    low_m: tuple[float, float, float] = (-np.inf, -np.inf, -np.inf)
    """Lower corner of the TCP's box in the base frame."""
    high_m: tuple[float, float, float] = (np.inf, np.inf, np.inf)
    """Upper corner."""
    speed_m_s: float = 0.25
    """Largest speed."""
    speed_rad_s: float = 0.8
    """Largest angular speed."""
    acceleration_m_s2: float = 1.5
    """Largest acceleration."""
    acceleration_rad_s2: float = 5.0
    """Largest angular acceleration."""


def absolute(start: FloatArray, offsets: FloatArray) -> FloatArray:
    """Poses (T, 7) in the base frame of `offsets` (T, 7) from `start` (7,)."""
    turned = np.array([frames.quat_multiply(start[3:], quat) for quat in offsets[:, 3:]])
    return np.concatenate([start[:3] + offsets[:, :3], turned], 1)


def as_poses(path: FloatArray) -> FloatArray:
    """Offsets (T, 7) of positions and rotation vectors (T, 6)."""
    return np.concatenate([path[:, :3], [frames.rotvec_to_quat(turn) for turn in path[:, 3:]]], 1)


def rates(poses: FloatArray, rate_hz: float) -> FloatArray:
    """Largest speed, angular speed, acceleration and angular acceleration on a way (T, 7), from rest to rest."""
    first, last = poses[:1], poses[-1:]
    way = np.concatenate([first, poses, last])
    velocity = np.diff(way[:, :3], axis=0) * rate_hz
    steps = [frames.quat_multiply(frames.quat_inverse(a[3:]), b[3:]) for a, b in pairwise(way)]
    spin = np.array([frames.quat_to_rotvec(step) for step in steps]) * rate_hz
    return np.array(
        [
            *(float(np.linalg.norm(one, axis=1).max()) for one in (velocity, spin)),
            *(float(np.linalg.norm(np.diff(one, axis=0), axis=1).max() * rate_hz) for one in (velocity, spin)),
        ]
    )


def violations(targets: FloatArray, limits: MotionLimits, rate_hz: float) -> list[str]:
    """What `targets` (T, 7) in the base frame would do that `limits` forbid, in words; empty when nothing."""
    found = []
    for axis, name in enumerate("xyz"):
        low, high = float(targets[:, axis].min()), float(targets[:, axis].max())
        if low < limits.low_m[axis] or high > limits.high_m[axis]:
            span = f"[{limits.low_m[axis]:g}, {limits.high_m[axis]:g}]"
            found.append(f"{name} runs from {low:.3f} to {high:.3f} m; the box allows {span}")
    most = (limits.speed_m_s, limits.speed_rad_s, limits.acceleration_m_s2, limits.acceleration_rad_s2)
    names = ("speed (m/s)", "angular speed (rad/s)", "acceleration (m/s^2)", "angular acceleration (rad/s^2)")
    for name, value, limit in zip(names, rates(targets, rate_hz), most, strict=True):
        if value > limit * (1.0 + 1e-6):
            found.append(f"{name} reaches {value:.3f}, limit {limit:g}")
    return found
