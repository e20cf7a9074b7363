"""Views to one cloud: bilateral smoothing, removal of flying pixels and outliers, fusion by voxels; normals.

Shape letters: H W image height and width, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from scipy.spatial import KDTree

from robot_rl import frames
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.scan import Scan, ScanView


@dataclass(frozen=True)
class FusionConfig:
    """How depth becomes points."""

    voxel_m: float = 0.0025
    """Edge of a voxel: all points in one become their mean."""
    max_range_m: float = 1.5
    """Depth beyond is not used."""
    smoothing_m: float = 0.012
    """Bilateral filter (Tomasi & Manduchi 1998): neighbours differing by more are another surface."""
    smoothing_px: float = 2.0
    """Bilateral filter: standard deviation of its window."""
    flying_m: float = 0.012
    """A pixel flies if most of its neighbours differ by more, at 0.6 m; grows with distance."""
    outlier_radius_m: float = 0.008
    """Points with fewer than `min_neighbours` others within are outliers."""
    min_neighbours: int = 6
    """See `outlier_radius_m`."""

    def __post_init__(self) -> None:
        if not min(self.voxel_m, self.max_range_m) > 0.0:
            raise ConfigError(f"voxel_m and max_range_m must be positive, got {self.voxel_m}, {self.max_range_m}")


@dataclass(frozen=True)
class Cloud:
    """Fused points with what was seen at each."""

    points: FloatArray
    """(N, 3) in the base frame, m."""
    colors: FloatArray
    """(N, 3) RGB, 0 ... 1."""
    origins: FloatArray
    """(N, 3) where the camera was that saw it."""

    def __getitem__(self, keep: BoolArray | IntArray) -> Cloud:
        return Cloud(self.points[keep], self.colors[keep], self.origins[keep])

    def __len__(self) -> int:
        return len(self.points)

    def write(self, path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, points=self.points, colors=self.colors, origins=self.origins)

    @staticmethod
    def read(path: Path) -> Cloud:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Cloud(arrays["points"], arrays["colors"], arrays["origins"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{path} is no cloud (points, colors, origins): {error}; delete it to fuse anew") from error


def back_project(depth_m: FloatArray, intrinsics: Sequence[float]) -> tuple[FloatArray, IntArray]:
    """Points (N, 3) in the camera's frame of the pixels with depth, and their (row, column) (N, 2)."""
    fx, fy, cx, cy = intrinsics
    pixels = np.argwhere(depth_m > 0.0)
    z = depth_m[pixels[:, 0], pixels[:, 1]].astype(np.float64)
    points = np.stack([(pixels[:, 1] - cx) * z / fx, (pixels[:, 0] - cy) * z / fy, z], -1)
    return points, pixels


def clean_depth(depth_m: FloatArray, config: FusionConfig) -> FloatArray:
    """Depth (H, W) with flying pixels set to 0 and the rest smoothed within surfaces."""
    depth = np.where(depth_m < config.max_range_m, depth_m, 0.0).astype(np.float32)
    tolerance = config.flying_m * np.maximum(depth / 0.6, 0.5) ** 2
    agreeing = np.zeros(depth.shape, np.int32)
    padded = np.pad(depth, 2)
    height, width = depth.shape
    for row in range(5):
        for column in range(5):
            shifted = padded[row : row + height, column : column + width]
            agreeing += np.abs(shifted - depth) < tolerance
    # Half of the window: a pixel on a straight edge of its own surface has as many.
    depth[(agreeing < 12) | (depth == 0.0)] = 0.0
    smooth = cv2.bilateralFilter(depth, d=-1, sigmaColor=config.smoothing_m, sigmaSpace=config.smoothing_px)
    return np.where(depth > 0.0, smooth, 0.0)


def view_points(view: ScanView, config: FusionConfig) -> tuple[FloatArray, FloatArray]:
    """Points (N, 3) in the base frame and colours (N, 3) of one view."""
    points, pixels = back_project(clean_depth(view.depth_m, config), view.view.intrinsics)
    pose = np.asarray(view.view.pose_base_camera)
    base = points @ frames.quat_to_matrix(pose[3:]).T + pose[:3]
    return base, view.color[pixels[:, 0], pixels[:, 1]] / 255.0


def fuse(scan: Scan, config: FusionConfig) -> Cloud:
    """One cloud of all views: the mean of the points in each voxel, without outliers."""
    parts = [view_points(view, config) for view in scan.views]
    cameras = [np.asarray(view.view.pose_base_camera[:3]) for view in scan.views]
    origins = np.concatenate([np.tile(at, (len(seen), 1)) for at, (seen, _) in zip(cameras, parts, strict=True)])
    points, colors = (np.concatenate(one) for one in zip(*parts, strict=True))
    if not len(points):
        raise DataError(f"no depth within max_range_m = {config.max_range_m}; is the depth scale right?")
    keys = np.floor(points / config.voxel_m).astype(np.int64)
    keys -= keys.min(0)
    span = keys.max(0) + 1
    _, voxel = np.unique((keys[:, 0] * span[1] + keys[:, 1]) * span[2] + keys[:, 2], return_inverse=True)
    count = np.bincount(voxel)
    points, colors, origins = (
        np.stack([np.bincount(voxel, one[:, axis]) for axis in range(3)], -1) / count[:, None]
        for one in (points, colors, origins)
    )
    least = config.min_neighbours + 1  # a point finds itself, too
    distance = KDTree(points).query(points, k=least, distance_upper_bound=config.outlier_radius_m)[0]
    return Cloud(points, colors, origins)[np.isfinite(distance).all(1)]


def fit_normals(points: FloatArray, origins: FloatArray, radius_m: float, most: int = 24) -> FloatArray:
    """Normals (N, 3) towards `origins` (N, 3) by PCA over up to `most` neighbours."""
    distance, index = KDTree(points).query(points, k=min(most, len(points)), distance_upper_bound=radius_m)
    known = np.isfinite(distance)
    neighbours = points[np.where(known, index, 0)] * known[..., None]
    mean = neighbours.sum(1) / known.sum(1)[:, None]
    offsets = (neighbours - mean[:, None]) * known[..., None]
    covariance = np.einsum("nki,nkj->nij", offsets, offsets)
    normals = np.linalg.eigh(covariance)[1][:, :, 0]
    away = ((origins - points) * normals).sum(1) < 0
    normals[away] *= -1
    return normals
