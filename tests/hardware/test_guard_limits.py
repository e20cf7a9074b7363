"""Each filter, by numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import limits
from robot_rl import frames
from robot_rl.types import FloatArray

X = np.array([1.0, 0.0, 0.0])
HOME = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
coordinates = st.floats(-2.0, 2.0)


def pose(x: float, y: float, z: float, rotvec: FloatArray | None = None) -> FloatArray:
    return np.concatenate([[x, y, z], frames.rotvec_to_quat(np.zeros(3) if rotvec is None else rotvec)])


poses = st.builds(
    lambda p, r: pose(p[0], p[1], p[2], np.array(r)),
    st.tuples(coordinates, coordinates, coordinates),
    st.tuples(coordinates, coordinates, coordinates),
)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (HOME, None),
        (HOME[:6], "shape"),
        (HOME.reshape(1, 7), "shape"),
        ("home", "shape"),
        (np.where(np.arange(7) == 0, np.nan, HOME), "not finite"),
        (np.where(np.arange(7) == 5, np.inf, HOME), "not finite"),
        (HOME * [1, 1, 1, 0, 1, 1, 1], "quaternion"),
        (HOME * [1, 1, 1, 1.002, 1, 1, 1], "quaternion"),
        (HOME * [1, 1, 1, 1.0005, 1, 1, 1], None),
    ],
)
def test_pose_fault(values: FloatArray, fault: str | None) -> None:
    assert limits.pose_fault(values, 1e-3) == fault


def test_clip_step_keeps_direction_and_axis() -> None:
    far = pose(0.5 + 0.3, 0.4, 0.3, 0.8 * X)
    clipped = limits.clip_step(far, HOME, 0.05, 0.2)
    np.testing.assert_allclose(clipped[:3], [0.53, 0.04, 0.3], atol=1e-12)
    np.testing.assert_allclose(frames.quat_to_rotvec(clipped[3:]), 0.2 * X, atol=1e-12)


def test_clip_step_limits_rotation_alone() -> None:
    clipped = limits.clip_step(pose(0.51, 0.0, 0.3, -1.0 * X), HOME, 0.05, 0.2)
    np.testing.assert_allclose(clipped[:3], [0.51, 0.0, 0.3], atol=1e-12)
    np.testing.assert_allclose(frames.quat_to_rotvec(clipped[3:]), -0.2 * X, atol=1e-12)


@given(poses, poses, st.floats(1e-3, 1.0), st.floats(1e-3, 1.0))
def test_clip_step_is_within_its_limits_and_changes_nothing_inside(
    target: FloatArray, reference: FloatArray, translation_m: float, rotation_rad: float
) -> None:
    clipped = limits.clip_step(target, reference, translation_m, rotation_rad)
    moved_m, turned_rad = limits.distance(reference, clipped)
    assert moved_m <= translation_m + 1e-9
    assert turned_rad <= rotation_rad + 1e-6
    again = limits.clip_step(clipped, reference, translation_m * 1.001, rotation_rad * 1.001)
    np.testing.assert_allclose(again, clipped, atol=1e-6)


def test_velocity_limit() -> None:
    ahead = pose(1.5, 0.0, 0.3, 3.0 * X)
    after = limits.limit_velocity(ahead, HOME, 0.02, 0.25, 0.8)
    np.testing.assert_allclose(after[:3], [0.505, 0.0, 0.3], atol=1e-12)
    np.testing.assert_allclose(frames.quat_to_rotvec(after[3:]), 0.016 * X, atol=1e-12)
    np.testing.assert_allclose(limits.limit_velocity(ahead, HOME, 0.0, 0.25, 0.8), HOME, atol=1e-12)


def test_ramp_slows_down_to_zero_without_overshoot() -> None:
    now, steps = HOME, []
    goal = pose(0.52, 0.0, 0.3)
    for _ in range(60):
        following = limits.ramp_to(goal, now, 0.02, 0.1)
        steps.append(following[0] - now[0])
        now = following
    assert np.all(np.diff(steps) <= 0)
    assert steps[0] == pytest.approx(0.02 * (1 - np.exp(-0.2)))
    assert 0 <= goal[0] - now[0] < 1e-6


def test_interpolate_takes_the_shorter_rotation() -> None:
    middle = limits.interpolate(pose(0, 0, 0, 3.0 * X), pose(1, 0, 0, -3.0 * X), 0.5)
    assert frames.geodesic_rad(middle[3:], frames.rotvec_to_quat(np.pi * X)) == pytest.approx(0.0, abs=1e-9)
    assert middle[0] == 0.5


LOW, HIGH = np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("reference_z", "wanted_z", "allowed_z"),
    [
        (0.2, -0.1, 0.0),  # a bound of 0 is a bound
        (0.2, 0.9, 0.5),
        (-0.1, -0.3, -0.1),  # outside: not further out
        (-0.1, -0.1, -0.1),  # outside: may stay
        (-0.1, -0.05, -0.05),  # outside: may come back
        (-0.1, 0.9, 0.5),
        (0.7, 0.6, 0.6),
        (0.7, 0.8, 0.7),
    ],
)
def test_box(reference_z: float, wanted_z: float, allowed_z: float) -> None:
    inside = limits.keep_inside(pose(0.5, -0.5, wanted_z), pose(0.5, -0.5, reference_z), LOW, HIGH)
    np.testing.assert_allclose(inside[:3], [0.5, -0.5, allowed_z])


def test_box_upper_bound_of_zero_and_open_axis() -> None:
    high = np.array([np.inf, 0.0, np.inf])
    inside = limits.keep_inside(pose(50.0, 0.2, 70.0), pose(0, -0.5, 0), -np.full(3, np.inf), high)
    np.testing.assert_array_equal(inside[:3], [50.0, 0.0, 70.0])


def test_first_command_gate() -> None:
    assert not limits.too_far(pose(0.549, 0.0, 0.3), HOME, 0.05, 0.3)
    assert limits.too_far(pose(0.551, 0.0, 0.3), HOME, 0.05, 0.3)
    assert limits.too_far(pose(0.5, 0.0, 0.3, 0.31 * X), HOME, 0.05, 0.3)


def test_arguments_are_left_alone() -> None:
    target, reference = pose(2.0, 2.0, 2.0, X), HOME.copy()
    before = target.copy()
    limits.clip_step(target, reference, 0.1, 0.1)
    limits.keep_inside(target, reference, LOW, HIGH)
    limits.unit_pose(target)
    np.testing.assert_array_equal(target, before)
    np.testing.assert_array_equal(reference, HOME)
