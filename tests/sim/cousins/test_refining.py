"""Pictures of few pixels: planes stay planes, steps stay steps, and what is too coarse is refused."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import DataError
from sim.cousins.fusion import back_project
from sim.cousins.refining import refined
from sim.cousins.scan import Scan, ScanView
from sim.cousins.scene import View


def view(depth_m: np.ndarray, focal_px: float) -> ScanView:
    height, width = depth_m.shape
    pose = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    look = View(pose, (focal_px, focal_px, (width - 1) / 2, (height - 1) / 2), (height, width))
    return ScanView(np.full((height, width, 3), 90, np.uint8), depth_m.astype(np.float32), look)


def tilted(focal_px: float, height: int = 12, width: int = 16) -> np.ndarray:
    """Depth of the plane z = 1 + 0.5 x."""
    column = (np.arange(width) - (width - 1) / 2) / focal_px
    return np.tile(1.0 / (1.0 - 0.5 * column), (height, 1))


def test_a_plane_stays_a_plane_of_the_same_place() -> None:
    scan = refined(Scan((view(tilted(150.0), 150.0),)), 1.5)
    (fine,) = scan.views
    assert fine.depth_m.shape == (48, 64) == fine.color.shape[:2] == fine.view.image_hw
    points, _ = back_project(fine.depth_m[4:-4, 4:-4], _cut(fine.view.intrinsics, 4))
    np.testing.assert_allclose(points[:, 2], 1.0 + 0.5 * points[:, 0], atol=2e-6)
    assert scan.assumptions == ("16 x 12 pixels are few: interpolated to 64 x 48",)


def _cut(intrinsics: tuple[float, ...], border: int) -> tuple[float, ...]:
    fx, fy, cx, cy = intrinsics
    return fx, fy, cx - border, cy - border


def test_nothing_hangs_between_two_surfaces_and_holes_stay() -> None:
    depth = np.full((12, 16), 0.9)
    depth[:, 8:], depth[5, 3] = 0.7, 0.0
    (fine,) = refined(Scan((view(depth, 150.0),)), 1.5).views
    assert set(np.unique(fine.depth_m.round(6))) == {np.float32(0.0), np.float32(0.7), np.float32(0.9)}
    share = [(fine.depth_m == np.float32(one)).mean() for one in (0.0, 0.7)]
    assert share == pytest.approx([1 / 192, 0.5])  # as much of each as there was


def test_what_is_fine_is_left_as_it_is_and_what_is_too_coarse_is_refused() -> None:
    fine = Scan((view(tilted(600.0), 600.0),))
    assert refined(fine, 1.5) is fine
    with pytest.raises(DataError, match=r"16 x 12 pixels are 50 mm apart .* take 34 or more in width"):
        refined(Scan((view(np.ones((12, 16)), 20.0),)), 1.5)


def test_what_is_too_far_to_be_used_does_not_count() -> None:
    depth = tilted(600.0)
    depth[:, 4:] = 30.0
    scan = Scan((view(depth, 600.0),))
    assert refined(scan, 1.5) is scan
    millimetres = Scan((view(1000.0 * tilted(600.0), 600.0),))
    assert refined(millimetres, 1.5) is millimetres  # fusion asks for the scale of depth
