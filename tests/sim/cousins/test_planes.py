"""Supports from synthetic points."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from sim.cousins.planes import Plane, PlaneConfig, facing, find_supports, largest_plane, top_plane

CAMERA = np.array([-0.5, 0.0, 1.0])


def patch(x: tuple[float, float], y: tuple[float, float], z: float, count: int, sigma: float = 0.001) -> np.ndarray:
    rng = np.random.default_rng(count)
    flat = rng.uniform((x[0], y[0]), (x[1], y[1]), (count, 2))
    return np.concatenate([flat, z + rng.normal(0, sigma, (count, 1))], 1)


def test_the_largest_plane_is_fitted_among_outliers() -> None:
    normal = np.array([0.1, -0.2, 0.97])
    normal /= np.linalg.norm(normal)
    flat = patch((0, 1), (0, 1), 0.0, 6000)
    flat[:, 2] = (0.3 - flat[:, :2] @ normal[:2]) / normal[2] + flat[:, 2]
    points = np.concatenate([flat, np.random.default_rng(1).uniform(-1, 1, (4000, 3))])
    plane = largest_plane(points, PlaneConfig(), np.random.default_rng(0))
    assert plane is not None
    plane = facing(plane, np.array([0.0, 0.0, 5.0]))
    assert np.allclose(plane.normal, normal, atol=2e-3) and plane.offset_m == pytest.approx(0.3, abs=1e-3)


def test_a_plane_turns_to_the_camera() -> None:
    plane = Plane((0.0, 0.0, -1.0), -0.4)
    assert facing(plane, CAMERA) == Plane((0.0, 0.0, 1.0), 0.4)
    assert facing(Plane((0.0, 0.0, 1.0), 0.4), CAMERA).height_m(np.array([[0, 0, 1.0]])) == pytest.approx(0.6)


def test_table_floor_wall_and_shelf_are_told_apart_and_lids_are_none() -> None:
    wall = patch((-0.5, 0.5), (0.0, 0.8), 0.0, 20000)[:, [2, 0, 1]] + (1.0, 0.0, 0.0)
    points = np.concatenate(
        [
            patch((0.1, 0.9), (-0.4, 0.4), 0.0, 30000),
            patch((-1, 1), (-1, 1), -0.7, 20000),
            patch((0.5, 0.9), (0.0, 0.4), 0.25, 8000),
            patch((0.2, 0.35), (-0.3, -0.15), 0.1, 3000),  # the top of a box
            wall,
        ]
    )
    supports = {one.name: one for one in find_supports(points, CAMERA, PlaneConfig())}
    assert set(supports) == {"table_0", "floor", "shelf_0", "wall_0"}
    table, inner = supports["table_0"], supports["wall_0"]
    assert top_plane(table).offset_m == pytest.approx(0.0, abs=1e-3)
    assert np.allclose(sorted(table.box.half_extents_m)[1:], (0.4, 0.4), atol=0.02)
    assert np.allclose(table.box.pose_base[:2], (0.5, 0.0), atol=0.01)
    assert top_plane(supports["shelf_0"]).offset_m == pytest.approx(0.25, abs=1e-3)
    assert np.allclose(top_plane(inner).normal, (-1, 0, 0), atol=5e-3)  # towards the camera
    assert top_plane(inner).offset_m == pytest.approx(-1.0, abs=2e-3)
    rotation = frames.quat_to_matrix(np.asarray(inner.box.pose_base[3:]))
    assert rotation[2, 2] == pytest.approx(1.0, abs=1e-3)


def test_one_level_plane_is_a_table() -> None:
    supports = find_supports(patch((-1, 1), (-1, 1), 0.0, 40000), CAMERA, PlaneConfig())
    assert [one.kind for one in supports] == ["table"]


def test_nothing_level_is_no_support() -> None:
    points = patch((0, 1), (0, 1), 0.0, 20000)
    points[:, 2] += points[:, 0]  # 45 degrees
    assert find_supports(points, CAMERA, PlaneConfig()) == ()
