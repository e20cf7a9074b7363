"""The guard's filters: tiny pure functions on poses, numpy in and numpy out, applied last.

Poses are (7,) x y z qw qx qy qz in the base frame, positions (3,) in metres, quaternions (w, x, y, z).
Every function returns new arrays and leaves its arguments alone.
"""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from robot_rl.types import FloatArray


def pose_fault(pose: FloatArray, quat_tolerance: float) -> str | None:
    """Why `pose` may not be used: `shape`, `not finite` or `quaternion`; None when it is sound.

    `quat_tolerance` is the largest accepted deviation of the quaternion's norm from 1.
    """
    try:
        values = np.asarray(pose, np.float64)
    except (TypeError, ValueError):
        return "shape"
    if values.shape != (7,):
        return "shape"
    if not np.isfinite(values).all():
        return "not finite"
    if abs(float(np.linalg.norm(values[3:])) - 1.0) > quat_tolerance:
        return "quaternion"
    return None


def unit_pose(pose: FloatArray) -> FloatArray:
    """`pose` as float64 (7,) with its quaternion scaled to norm 1."""
    values = np.array(pose, np.float64)
    values[3:] /= np.linalg.norm(values[3:])
    return values


def distance(pose_a: FloatArray, pose_b: FloatArray) -> tuple[float, float]:
    """Translation (m) and rotation (rad) between two poses."""
    return (
        float(np.linalg.norm(np.subtract(pose_a[:3], pose_b[:3]))),
        frames.geodesic_rad(pose_a[3:], pose_b[3:]),
    )


def interpolate(start: FloatArray, end: FloatArray, fraction: float) -> FloatArray:
    """Pose on the way from `start` (fraction 0) to `end` (1): straight line and shortest rotation."""
    rotvec = frames.quat_to_rotvec(frames.quat_multiply(frames.quat_inverse(start[3:]), end[3:]))
    quat = frames.quat_multiply(start[3:], frames.rotvec_to_quat(rotvec * fraction))
    position = start[:3] + (np.asarray(end[:3]) - start[:3]) * fraction
    return unit_pose(np.concatenate([position, quat]))


def clip_step(pose: FloatArray, reference: FloatArray, translation_m: float, rotation_rad: float) -> FloatArray:
    """The pose nearest to `pose` within `translation_m` and `rotation_rad` of `reference`.

    Direction of travel and axis of rotation are kept; only their lengths are cut.
    """
    moved_m, turned_rad = distance(reference, pose)
    if moved_m <= translation_m and turned_rad <= rotation_rad:
        return unit_pose(pose)
    along = translation_m / moved_m if moved_m > translation_m else 1.0
    around = rotation_rad / turned_rad if turned_rad > rotation_rad else 1.0
    return np.concatenate([interpolate(reference, pose, along)[:3], interpolate(reference, pose, around)[3:]])


def limit_velocity(
    pose: FloatArray, previous: FloatArray, dt_s: float, speed_m_s: float, speed_rad_s: float
) -> FloatArray:
    """`pose`, or as far towards it from `previous` as the two speeds allow within `dt_s`."""
    return clip_step(pose, previous, speed_m_s * dt_s, speed_rad_s * dt_s)


def ramp_to(pose: FloatArray, previous: FloatArray, dt_s: float, time_constant_s: float) -> FloatArray:
    """First-order approach from `previous` to `pose`: the velocity decays to zero, never overshooting."""
    return interpolate(previous, pose, 1.0 - float(np.exp(-dt_s / time_constant_s)))


def keep_inside(pose: FloatArray, reference: FloatArray, low_m: FloatArray, high_m: FloatArray) -> FloatArray:
    """`pose` with its position inside the box [low_m, high_m], (3,) each; 0 is a bound like any other.

    Where `reference` (the last target) is itself outside, that axis may stay where it is or move
    inwards, and never further out. Unbounded axes are -inf and inf.
    """
    low = np.minimum(low_m, reference[:3])
    high = np.maximum(high_m, reference[:3])
    inside = np.array(pose, np.float64)
    inside[:3] = np.clip(inside[:3], low, high)
    return inside


def too_far(pose: FloatArray, measured: FloatArray, translation_m: float, rotation_rad: float) -> bool:
    """The first-command gate: is `pose` further from `measured` than a first command may be?"""
    moved_m, turned_rad = distance(measured, pose)
    return moved_m > translation_m or turned_rad > rotation_rad
