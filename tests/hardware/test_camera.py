"""Cropping and scaling of frames: what stays, what is averaged, and where the intrinsics go."""

from __future__ import annotations

import numpy as np
import pytest

from hardware.camera import CameraConfig, fit
from robot_rl.errors import ConfigError
from robot_rl.types import CameraFrame


def frame(height: int = 48, width: int = 64) -> CameraFrame:
    """Red is the column, green the row; depth is the column in metres, 0 in every second row."""
    color = np.zeros((height, width, 3), np.uint8)
    color[..., 0], color[..., 1] = np.arange(width), np.arange(height)[:, None]
    depth = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    depth[::2] = 0.0
    return CameraFrame(7.0, color, depth, (60.0, 61.0, 31.5, 23.5))


def test_without_wishes_the_frame_is_the_same() -> None:
    given = frame()
    assert fit(given, CameraConfig()) is given
    assert fit(given, CameraConfig(image_hw=(48, 64))) is given


def test_square_is_cut_from_the_middle_and_scaled() -> None:
    result = fit(frame(), CameraConfig(image_hw=(24, 24)))
    assert result.color.shape == (24, 24, 3) and result.stamp_s == 7.0
    # Columns 8 to 55 remain; two by two are averaged (x.5 is rounded to even or up, by the version).
    np.testing.assert_allclose(result.color[0, :, 0], np.arange(8.5, 56, 2), atol=0.51)
    np.testing.assert_allclose(result.color[:, 0, 1], np.arange(0.5, 48, 2), atol=0.51)
    assert result.depth_m is not None and result.depth_m.dtype == np.float32
    assert set(np.unique(result.depth_m)) <= set(range(64)), "depths were mixed"


def test_intrinsics_point_at_the_same_thing() -> None:
    """A ray through the middle of a pixel of the result meets the middle of the pixels that made it."""
    given = frame()
    config = CameraConfig(image_hw=(12, 12), crop=(0.25, 0.5, 1.0, 1.0))
    result = fit(given, config)
    assert given.intrinsics is not None and result.intrinsics is not None
    fx, fy, cx, cy = given.intrinsics
    gx, gy, dx, dy = result.intrinsics
    assert (gx, gy) == (fx / 2, fy / 2)  # columns 28 to 51, rows 24 to 47
    for u, v in ((0, 0), (5, 7), (11, 11)):
        column, row = 28 + 2 * u + 0.5, 24 + 2 * v + 0.5
        assert (u - dx) / gx == pytest.approx((column - cx) / fx)
        assert (v - dy) / gy == pytest.approx((row - cy) / fy)
        np.testing.assert_allclose(result.color[v, u, :2], [column, row], atol=0.51)


@pytest.mark.parametrize("hw", [(1, 1), (7, 64), (64, 7), (96, 128)])
def test_any_size_comes_out(hw: tuple[int, int]) -> None:
    result = fit(frame(), CameraConfig(image_hw=hw))
    assert result.color.shape == (*hw, 3)
    assert result.depth_m is not None and result.depth_m.shape == hw


@pytest.mark.parametrize("crop", [(0.5, 0.0, 0.5, 1.0), (-0.1, 0.0, 1.0, 1.0), (0.0, 0.9, 1.0, 0.1)])
def test_wrong_crops_are_named(crop: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="crop"):
        CameraConfig(crop=crop)
