"""Poses against scipy's rotations."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_rl import frames


def scipy_rotation(quat_wxyz):
    return Rotation.from_quat(np.roll(quat_wxyz, -1))


@pytest.fixture
def poses():
    random = np.random.default_rng(0)
    quats = random.standard_normal((50, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return np.concatenate([random.standard_normal((50, 3)), quats], axis=1)


def test_rotations_agree_with_scipy(poses):
    for pose in poses:
        quat, reference = pose[3:], scipy_rotation(pose[3:])
        np.testing.assert_allclose(frames.quat_to_matrix(quat), reference.as_matrix(), atol=1e-12)
        np.testing.assert_allclose(frames.quat_to_rotvec(quat), reference.as_rotvec(), atol=1e-10)
        back = frames.matrix_to_quat(reference.as_matrix())
        np.testing.assert_allclose(back * np.sign(back @ quat), quat, atol=1e-10)
        np.testing.assert_allclose(
            frames.quat_to_matrix(frames.rotvec_to_quat(reference.as_rotvec())),
            reference.as_matrix(),
            atol=1e-10,
        )


def test_compose_relative_and_inverse_are_one_group(poses):
    for a, b in pairwise(poses):
        step = frames.relative(a, b)
        back = frames.compose(a, step)
        np.testing.assert_allclose(back[:3], b[:3], atol=1e-10)
        assert frames.geodesic_rad(back[3:], b[3:]) < 1e-7
        identity = frames.compose(a, frames.inverse(a))
        np.testing.assert_allclose(identity[:3], 0, atol=1e-10)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_and_tiny_turns_survive_the_round_trip(axis):
    for angle in (np.pi - 1e-9, 1e-9, 0.0):
        rotvec = np.zeros(3)
        rotvec[axis] = angle
        np.testing.assert_allclose(frames.quat_to_rotvec(frames.rotvec_to_quat(rotvec)), rotvec, atol=1e-8)
