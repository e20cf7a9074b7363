"""Where a camera is when no one has told: above the plane that it sees most of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.cousins.fusion import back_project
from sim.cousins.planes import PlaneConfig, facing, largest_plane

STRIDE = 3
MIN_SHARE = 0.15
"""A plane with a smaller share of the picture is not taken for the support."""
GRAVITY_TOLERANCE_DEG = 15.0


def pose_from_plane(
    depth_m: FloatArray, intrinsics: Sequence[float], gravity_camera: Sequence[float] | None
) -> FloatArray:
    """Camera pose (7,) in a frame with the plane as z = 0, its origin below the camera and x where the camera looks.

    `depth_m` (H, W); `gravity_camera` (3,) points down in the camera's frame and rules out planes that are not level.
    """
    sparse = np.zeros_like(depth_m)
    sparse[::STRIDE, ::STRIDE] = depth_m[::STRIDE, ::STRIDE]
    points, _ = back_project(sparse, intrinsics)
    accept = None
    if gravity_camera is not None:
        down = np.asarray(gravity_camera) / max(float(np.linalg.norm(gravity_camera)), 1e-12)
        cosine = np.cos(np.deg2rad(GRAVITY_TOLERANCE_DEG))
        accept = lambda normals: np.abs(normals @ down) > cosine  # noqa: E731
    config = PlaneConfig()
    plane = largest_plane(points, config, np.random.default_rng(0), accept)
    if plane is None or (np.abs(plane.height_m(points)) < config.threshold_m).mean() < MIN_SHARE:
        raise DataError(
            f"no {'plane' if accept is None else 'level plane, by gravity_camera,'} fills {MIN_SHARE:.0%} of the"
            " picture, so the camera's pose cannot be estimated; give pose.json (pose_base_camera) or look at the"
            " table from where more of it is seen"
        )
    plane = facing(plane, np.zeros(3))
    up = np.asarray(plane.normal)
    forward = np.array([0.0, 0.0, 1.0]) - up[2] * up
    if np.linalg.norm(forward) < 0.1:  # it looks straight down: x is up in the picture
        forward = np.array([0.0, -1.0, 0.0]) + up[1] * up
    forward /= np.linalg.norm(forward)
    base_from_camera = np.stack([forward, np.cross(up, forward), up])
    return np.concatenate([[0.0, 0.0, -plane.offset_m], frames.matrix_to_quat(base_from_camera)])
