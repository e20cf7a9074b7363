"""Doors and drawers: seams in pictures, handles as points, what users say."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import DataError
from sim.cousins.articulation import ArticulationConfig, find_parts, turned
from sim.cousins.counts import PartCounts
from sim.cousins.fronts import SeamConfig, find_panels, front_picture
from sim.cousins.projection import project
from sim.cousins.scan import ScanView
from sim.cousins.scene import OrientedBox, View

HW, INTRINSICS = (480, 640), (600.0, 600.0, 319.5, 239.5)
BOX = OrientedBox((0.5, 0.1, 0.15, 1.0, 0.0, 0.0, 0.0), (0.08, 0.12, 0.15))
EYE = np.array([1.1, 0.2, 0.45])


def camera() -> View:
    forward = np.asarray(BOX.pose_base[:3]) - EYE
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward], -1)
    return View((*map(float, EYE), *map(float, frames.matrix_to_quat(rotation))), INTRINSICS, HW)  # type: ignore[arg-type]


def paint(seams: list[tuple[str, float]]) -> ScanView:
    """The front of BOX in grey with dark lines 5 mm wide: ("y" or "z", place from the middle)."""
    view = camera()
    color = np.full((*HW, 3), 90, np.uint8)
    fine = np.stack(np.meshgrid(np.arange(-0.12, 0.12, 4e-4), np.arange(-0.15, 0.15, 4e-4), indexing="ij"), -1)
    y, z = fine.reshape(-1, 2).T
    shade = np.full(len(y), 180)
    for axis, place in seams:
        shade[np.abs((y if axis == "y" else z) - place) < 0.0025] = 60
    points = np.stack([np.full(len(y), 0.08), y, z], -1) + BOX.pose_base[:3]
    column, row = np.round(project(view, points)).astype(int).T
    color[row, column] = shade[:, None]
    noise = np.random.default_rng(0).normal(0, 3, color.shape)
    depth = np.full(HW, 0.7, np.float32)
    pixels = np.stack([column, row], -1)
    depth[row, column] = ((points - EYE) @ frames.quat_to_matrix(np.asarray(view.pose_base_camera[3:])))[:, 2]
    assert (pixels >= 0).all()
    return ScanView(np.clip(color + noise, 0, 255).astype(np.uint8), depth, view)


def bar(y: float, z: float, along: str, length: float = 0.08, reach: float = 0.025) -> np.ndarray:
    """Points of a handle in front of BOX."""
    line = np.arange(-length / 2, length / 2, 0.002)
    across = np.arange(-0.005, 0.0051, 0.0025)
    a, b = (one.ravel() for one in np.meshgrid(line, across))
    ends = (y + a, z + b) if along == "y" else (y + b, z + a)
    return np.stack([np.full(len(a), 0.08 + reach), *ends], -1) + BOX.pose_base[:3]


def front_points() -> np.ndarray:
    y, z = (one.ravel() for one in np.meshgrid(np.arange(-0.12, 0.12, 0.004), np.arange(-0.15, 0.15, 0.004)))
    return np.stack([np.full(len(y), 0.08), y, z], -1) + BOX.pose_base[:3]


def test_the_front_is_seen_the_right_way_round() -> None:
    view = paint([("y", 0.06), ("z", -0.1)])
    picture = front_picture(view, BOX).sum(-1)
    assert picture.shape == (300, 240)
    assert np.argmin(picture.mean(0)) == pytest.approx(120 + 60, abs=2)  # columns from -y to +y
    assert np.argmin(picture.mean(1)) == pytest.approx(150 - 100, abs=2)  # rows from the bottom up


def test_seams_cut_a_front_in_the_right_places() -> None:
    panels = find_panels(front_picture(paint([("z", 0.05)]), BOX), np.zeros((300, 240), bool), SeamConfig())
    low, high = sorted(panels, key=lambda panel: panel.z0)
    assert (low.z0, high.z1, low.y0, high.y1) == pytest.approx((-0.15, 0.15, -0.12, 0.12))
    assert low.z1 == high.z0 == pytest.approx(0.05, abs=0.002) and low.confidence > 0.9


def test_a_plain_front_is_one_panel_and_wanted_ones_are_made() -> None:
    picture = front_picture(paint([]), BOX)
    nothing = np.zeros((300, 240), bool)
    assert len(find_panels(picture, nothing, SeamConfig())) == 1
    assert len(find_panels(picture, nothing, SeamConfig(), wanted=3)) == 3


def test_two_drawers_by_seam_and_level_bars() -> None:
    handles = np.concatenate([bar(0.0, 0.1, "y"), bar(0.0, -0.05, "y")])
    box, parts = find_parts(
        "object_0", BOX, np.concatenate([front_points(), handles]), [paint([("z", 0.05)])], ArticulationConfig()
    )
    assert [part.kind for part in parts] == ["drawer", "drawer"]
    assert all(part.source == "panel edges" and part.confidence > 0.8 for part in parts)
    for part in parts:
        assert np.allclose(part.axis_base, (1, 0, 0), atol=1e-9) and part.handle is not None
        assert part.handle.pose_base[0] == pytest.approx(0.5 + 0.08 + 0.0125, abs=0.003)
    # The box is drawn out over the handles, its front is +x.
    assert box.half_extents_m == pytest.approx((0.08 + 0.0125, 0.12, 0.15), abs=0.002)
    assert box.pose_base[0] == pytest.approx(0.5 + 0.0125, abs=0.002)


@pytest.mark.parametrize(("y", "turn"), [(0.09, -1.0), (-0.09, 1.0)])
def test_a_door_opens_outwards_about_the_side_away_from_its_handle(y: float, turn: float) -> None:
    points = np.concatenate([front_points(), bar(y, 0.0, "z")])
    _, parts = find_parts("object_0", BOX, points, [paint([])], ArticulationConfig())
    (door,) = parts
    assert door.kind == "door" and np.allclose(door.axis_base, (0, 0, turn), atol=1e-9)
    assert door.axis_point_base[1] == pytest.approx(0.1 - np.sign(y) * 0.12, abs=1e-6)
    assert door.handle is not None
    grip = np.asarray(door.handle.pose_base[:3]) - door.axis_point_base
    moved = frames.quat_to_matrix(frames.rotvec_to_quat(0.3 * np.asarray(door.axis_base))) @ grip
    assert moved[0] > grip[0] + 0.03  # out of the front


def test_a_handle_on_each_side_makes_two_doors_though_no_seam_was_seen() -> None:
    points = np.concatenate([front_points(), bar(0.03, 0.0, "z"), bar(-0.03, 0.0, "z")])
    _, parts = find_parts("object_0", BOX, points, [paint([])], ArticulationConfig())
    assert [part.kind for part in parts] == ["door", "door"]
    assert max(part.confidence for part in parts) <= 0.5


def test_a_box_without_seams_and_handles_has_no_parts_and_stays_as_it_is() -> None:
    assert find_parts("object_0", BOX, front_points(), [paint([])], ArticulationConfig()) == (BOX, ())


def test_users_counts_are_obeyed_and_marked() -> None:
    config = ArticulationConfig(counts={"object_0": PartCounts(doors=1, drawers=2, lids=1)})
    handles = np.concatenate([bar(0.09, -0.1, "z", 0.06), bar(0.0, 0.1, "y")])
    view = paint([("z", 0.0), ("z", 0.06)])
    _, parts = find_parts("object_0", BOX, np.concatenate([front_points(), handles]), [view], config)
    assert sorted(part.kind for part in parts) == ["door", "drawer", "drawer", "lid"]
    assert all(part.source == "user" and part.confidence == 1.0 for part in parts)
    door = next(part for part in parts if part.kind == "door")
    assert door.panel.pose_base[2] < 0.15  # the lowest panel has the upright bar
    lid = next(part for part in parts if part.kind == "lid")
    out = frames.quat_to_matrix(np.asarray(lid.panel.pose_base[3:]))[:, 0]
    assert np.allclose(out, (0, 0, 1), atol=1e-9)
    front_edge = np.asarray(lid.panel.pose_base[:3]) - lid.axis_point_base
    moved = frames.quat_to_matrix(frames.rotvec_to_quat(0.5 * np.asarray(lid.axis_base))) @ front_edge
    assert moved[2] > front_edge[2] + 0.02  # up


def test_counts_that_no_front_can_have_are_refused() -> None:
    small = OrientedBox(BOX.pose_base, (0.08, 0.019, 0.019))  # panels are at least 2 cm wide and high
    config = ArticulationConfig(counts={"object_0": PartCounts(drawers=2)})
    with pytest.raises(DataError, match="object_0: no front in sight is large enough"):
        find_parts("object_0", small, front_points(), [paint([])], config)


def test_turning_a_box_keeps_its_corners() -> None:
    for quarters in range(4):
        corners = turned(BOX, quarters).corners()
        assert np.allclose(sorted(map(tuple, corners.round(9))), sorted(map(tuple, BOX.corners().round(9))))
