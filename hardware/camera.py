"""What all cameras share: cropping and scaling a frame to the size that the agent sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import CameraFrame


@dataclass(frozen=True)
class CameraConfig:
    """Which part of the image is used, and at what size."""

    image_hw: tuple[int, int] | None = None
    """Height and width of the result; None leaves the size alone."""
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right, bottom edge of the part used, as shares of width and height. It is then cut further,
    around its middle, to the aspect of `image_hw`, so that nothing is stretched."""

    def __post_init__(self) -> None:
        left, top, right, bottom = self.crop
        if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
            raise ConfigError(f"crop {self.crop}: expected left < right and top < bottom, all within 0 and 1")
        if self.image_hw is not None and min(self.image_hw) < 1:
            raise ConfigError(f"image_hw {self.image_hw} must be positive")


def fit(frame: CameraFrame, config: CameraConfig) -> CameraFrame:
    """`frame` cropped and scaled, its intrinsics along with it.

    Colours are averaged over the area of a pixel; depths are picked, since the mean of two depths at an
    edge is a surface that is not there.
    """
    height, width = frame.color.shape[:2]
    left, top, right, bottom = _window(config, height, width)
    out_h, out_w = config.image_hw or (bottom - top, right - left)
    if (left, top, right, bottom, out_h, out_w) == (0, 0, width, height, height, width):
        return frame
    area = (slice(top, bottom), slice(left, right))
    color = cv2.resize(frame.color[area], (out_w, out_h), interpolation=cv2.INTER_AREA)
    depth_m = frame.depth_m
    if depth_m is not None:
        depth_m = np.asarray(cv2.resize(depth_m[area], (out_w, out_h), interpolation=cv2.INTER_NEAREST), np.float32)
    intrinsics = frame.intrinsics
    if intrinsics is not None:
        fx, fy, cx, cy = intrinsics
        sx, sy = out_w / (right - left), out_h / (bottom - top)
        # The middle of the first pixel is at 0: half a pixel lies outside before and after scaling.
        intrinsics = (fx * sx, fy * sy, (cx - left + 0.5) * sx - 0.5, (cy - top + 0.5) * sy - 0.5)
    return replace(frame, color=np.asarray(color, np.uint8), depth_m=depth_m, intrinsics=intrinsics)


def _window(config: CameraConfig, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels."""
    left, right = round(config.crop[0] * width), round(config.crop[2] * width)
    top, bottom = round(config.crop[1] * height), round(config.crop[3] * height)
    if config.image_hw is not None:
        out_h, out_w = config.image_hw
        keep_w = min(right - left, max(1, round((bottom - top) * out_w / out_h)))
        keep_h = min(bottom - top, max(1, round((right - left) * out_h / out_w)))
        left += (right - left - keep_w) // 2
        top += (bottom - top - keep_h) // 2
        right, bottom = left + keep_w, top + keep_h
    return left, top, max(right, left + 1), max(bottom, top + 1)
