"""Points in pictures: pixels of points, and what of a cloud each pixel shows."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.fusion import FusionConfig, back_project, clean_depth
from sim.cousins.scan import ScanView
from sim.cousins.scene import View


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
