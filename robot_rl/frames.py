"""Rigid-body arithmetic on poses (x, y, z, qw, qx, qy, qz), and the relative (TCP) frame.

The relative frame is HIL-SERL's (2410.21845, section III-C): observations are seen from the pose at
the episode's start, actions are taken in the TCP frame, so that a policy does not depend on where
the base stands. All functions take and return float64.
"""

from __future__ import annotations

import numpy as np

from robot_rl.types import FloatArray

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def quat_multiply(a_wxyz: FloatArray, b_wxyz: FloatArray) -> FloatArray:
    """Hamilton product of two (4,) quaternions."""
    aw, ax, ay, az = a_wxyz
    bw, bx, by, bz = b_wxyz
    return np.array(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )


def quat_inverse(quat_wxyz: FloatArray) -> FloatArray:
    """Inverse of a unit quaternion (4,)."""
    return np.asarray(quat_wxyz, dtype=np.float64) * np.array([1.0, -1.0, -1.0, -1.0])


def quat_to_matrix(quat_wxyz: FloatArray) -> FloatArray:
    """(3, 3) rotation matrix of a unit quaternion (4,)."""
    w, x, y, z = quat_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quat(matrix: FloatArray) -> FloatArray:
    """Unit quaternion (4,) with w >= 0 of a rotation matrix (3, 3); stable for every angle (Shepperd)."""
    m = np.asarray(matrix, dtype=np.float64)
    four_squared = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(four_squared))
    rows = (
        (four_squared[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]),
        (m[2, 1] - m[1, 2], four_squared[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]),
        (m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], four_squared[2], m[1, 2] + m[2, 1]),
        (m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], four_squared[3]),
    )
    quat = np.array(rows[largest])
    quat /= np.linalg.norm(quat)
    return quat if quat[0] >= 0 else -quat


def rotvec_to_quat(rotvec_rad: FloatArray) -> FloatArray:
    """Unit quaternion (4,) of a rotation vector (3,)."""
    angle = float(np.linalg.norm(rotvec_rad))
    half_sinc = 0.5 * float(np.sinc(angle / (2 * np.pi)))
    return np.concatenate([[np.cos(angle / 2)], half_sinc * np.asarray(rotvec_rad, np.float64)])


def quat_to_rotvec(quat_wxyz: FloatArray) -> FloatArray:
    """Rotation vector (3,) with angle in [0, pi] of a unit quaternion (4,)."""
    quat = np.asarray(quat_wxyz, np.float64)
    quat = quat if quat[0] >= 0 else -quat
    sine = float(np.linalg.norm(quat[1:]))
    if sine < 1e-12:
        return 2.0 * quat[1:]
    return quat[1:] * (2.0 * np.arctan2(sine, quat[0]) / sine)


def compose(pose_ab: FloatArray, pose_bc: FloatArray) -> FloatArray:
    """Pose of c in a, from b in a and c in b; each (7,)."""
    position = pose_ab[:3] + quat_to_matrix(pose_ab[3:]) @ pose_bc[:3]
    quat = quat_multiply(pose_ab[3:], pose_bc[3:])
    return np.concatenate([position, quat / np.linalg.norm(quat)])


def inverse(pose_ab: FloatArray) -> FloatArray:
    """Pose of a in b, from b in a; each (7,)."""
    quat = quat_inverse(pose_ab[3:])
    return np.concatenate([-(quat_to_matrix(quat) @ pose_ab[:3]), quat])


def relative(pose_ab: FloatArray, pose_ac: FloatArray) -> FloatArray:
    """Pose of c in b, from b in a and c in a; each (7,)."""
    return compose(inverse(pose_ab), pose_ac)


def rotation_6d(quat_wxyz: FloatArray) -> FloatArray:
    """First two columns of the rotation matrix, (6,): continuous, for networks (1812.07035)."""
    return quat_to_matrix(quat_wxyz)[:, :2].T.reshape(6)


def geodesic_rad(a_wxyz: FloatArray, b_wxyz: FloatArray) -> float:
    """Angle in [0, pi] between two unit quaternions (4,)."""
    return float(np.linalg.norm(quat_to_rotvec(quat_multiply(quat_inverse(a_wxyz), b_wxyz))))
