"""Points in pictures: pixels of points, and what of a cloud each pixel shows."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.fusion import FusionConfig, back_project, clean_depth
from sim.cousins.scan import ScanView
from sim.cousins.scene import View

BACKGROUND = 128
"""Grey behind what is cut out."""


def to_camera(view: View, points_base: FloatArray) -> FloatArray:
    """Points (N, 3) of the base frame in the camera's."""
    pose = np.asarray(view.pose_base_camera)
    return (points_base - pose[:3]) @ frames.quat_to_matrix(pose[3:])


def project(view: View, points_base: FloatArray) -> FloatArray:
    """Pixels (N, 2) as (column, row) of points (N, 3) of the base frame; NaN behind the camera."""
    fx, fy, cx, cy = view.intrinsics
    camera = to_camera(view, points_base)
    z = np.where(camera[:, 2] > 1e-6, camera[:, 2], np.nan)
    return np.stack([fx * camera[:, 0] / z + cx, fy * camera[:, 1] / z + cy], -1)


def label_pixels(
    view: ScanView, points: FloatArray, labels: IntArray, reach_m: float, fusion: FusionConfig
) -> IntArray:
    """Label (H, W) of each pixel: that of the nearest of `points` (N, 3) within reach; -1 for none."""
    image = np.full(view.depth_m.shape, -1)
    if not len(points):
        return image
    camera, pixels = back_project(clean_depth(view.depth_m, fusion), view.view.intrinsics)
    pose = np.asarray(view.view.pose_base_camera)
    base = camera @ frames.quat_to_matrix(pose[3:]).T + pose[:3]
    candidate = ((base > points.min(0) - reach_m) & (base < points.max(0) + reach_m)).all(1)
    base, pixels = base[candidate], pixels[candidate]
    distance, nearest = map(np.asarray, KDTree(points).query(base, distance_upper_bound=reach_m))
    found = np.isfinite(distance)
    image[pixels[found, 0], pixels[found, 1]] = labels[nearest[found]]
    return image


def silhouette(mask: BoolArray, taken: BoolArray) -> BoolArray:
    """A mask (H, W) bool without gaps and holes, except where something else is seen (`taken`, H, W)."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(closed, outlines, -1, (1,), cv2.FILLED)
    return (closed > 0) & ~taken


def framed(picture: NDArray[np.uint8], mask: BoolArray) -> NDArray[np.uint8] | None:
    """What the mask (H, W) leaves of a picture (H, W, 3), in a square on grey; None if that is nothing."""
    if picture.shape[:2] != mask.shape:  # extraction looks at coarse pictures more finely
        picture = np.asarray(cv2.resize(picture, mask.shape[::-1]), np.uint8)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    kept = np.where(mask[:, :, None], picture, BACKGROUND).astype(np.uint8)
    kept = kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = kept.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), BACKGROUND, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = kept
    return square
