"""The terms of the distance between an object and an asset: pure functions, each 0 (the same) ... 1."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.geometry import Mesh
from sim.cousins.profiles import Opening
from sim.cousins.scene import View

D2_PAIRS, D2_BINS, D2_REACH = 8192, 32, 3.0
"""Pairs of points, bins, and the longest distance in units of the mean one."""
DOUBLE = np.log(2.0)
"""Sizes that differ by a factor of two are as far apart as it goes."""
UNKNOWN = 0.5
RASTER = 96
"""Pixels along the longer side of an outline."""


def category_term(seen: str, confidence: float, asset: str) -> float:
    """1 for another category that is surely another; half for what is not known."""
    if seen == "unknown":
        return UNKNOWN
    return 0.0 if seen == asset else max(confidence, UNKNOWN)


def articulation_term(seen: tuple[Opening, ...], asset: tuple[Opening, ...], rotation: FloatArray) -> float:
    """Share of what opens that has no counterpart; of the same kind with another hinge side half a counterpart."""
    if not seen and not asset:
        return 0.0
    ours = Counter((one.kind, hinge_side(one.hinge)) for one in seen)
    theirs = Counter((one.kind, hinge_side(rotation @ one.hinge)) for one in asset)
    same = ours & theirs
    left, right = Counter(), Counter()
    for (kind, _), count in (ours - same).items():
        left[kind] += count
    for (kind, _), count in (theirs - same).items():
        right[kind] += count
    matched = same.total() + 0.5 * (left & right).total()
    return 1.0 - matched / max(len(seen), len(asset))


def hinge_side(hinge: FloatArray) -> str:
    """The axis that a hinge lies along, seen from the panel's middle: "-y" is the left of a front; "" for a drawer."""
    if not np.any(hinge):
        return ""
    axis = int(np.argmax(np.abs(hinge)))
    return ("+" if hinge[axis] > 0 else "-") + "xyz"[axis]


def size_terms(seen_half_m: FloatArray, asset_half_m: FloatArray) -> tuple[float, float]:
    """Difference of proportions and of overall size, from half extents (3,) along the same axes."""
    logs = np.log(asset_half_m) - np.log(seen_half_m)
    mean = logs.mean()
    return min(float(np.abs(logs - mean).mean() / DOUBLE), 1.0), min(float(abs(mean) / DOUBLE), 1.0)


def d2_histogram(points_m: FloatArray, seed: int = 0) -> FloatArray:
    """Osada's D2: distances of random pairs, in units of their mean; (D2_BINS,), sums to 1."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(points_m), size=(2, D2_PAIRS))
    distances = np.linalg.norm(points_m[first] - points_m[second], axis=1)
    scaled = np.minimum(distances / max(distances.mean(), 1e-12), D2_REACH)
    counts, _ = np.histogram(scaled, D2_BINS, (0.0, D2_REACH))
    return counts / counts.sum()


def shape_term(seen: FloatArray, asset: FloatArray) -> float:
    """Half the L1 distance of two D2 histograms (D2_BINS,)."""
    return float(np.abs(seen - asset).sum() / 2)


def handle_term(seen: FloatArray, asset: FloatArray) -> float:
    """Mean distance from each handle to the nearest of the other's, both ways; (H, 3) in units of half extents."""
    if not len(seen) and not len(asset):
        return 0.0
    if not len(seen) or not len(asset):
        return 1.0
    gaps = np.linalg.norm(seen[:, None] - asset[None], axis=-1)
    return min(float(gaps.min(1).mean() + gaps.min(0).mean()) / 4, 1.0)


def outline(mesh_base: Mesh, view: View, window: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Filled projection of a mesh onto `window` (left, top, right, bottom in pixels), at RASTER pixels."""
    camera = frames.inverse(np.asarray(view.pose_base_camera))
    local = mesh_base.vertices_m @ frames.quat_to_matrix(camera[3:]).T + camera[:3]
    fx, fy, cx, cy = view.intrinsics
    depth = np.maximum(local[:, 2], 1e-6)
    pixels = np.stack([fx * local[:, 0] / depth + cx, fy * local[:, 1] / depth + cy], -1)
    left, top, right, bottom = window
    scale = RASTER / max(right - left, bottom - top)
    image = np.zeros((max(round((bottom - top) * scale), 1), max(round((right - left) * scale), 1)), np.uint8)
    corners = np.clip(np.round((pixels - [left, top]) * scale), -(2**14), 2**14).astype(np.int32)
    for triangle in corners[mesh_base.faces]:
        cv2.fillConvexPoly(image, triangle, (1,))
    return image.astype(bool)


def silhouette_term(mask: NDArray[np.bool_], mesh_base: Mesh, view: View) -> float:
    """1 - IoU of the mesh's outline and the mask (H, W), in a window of both."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 1.0
    margin = 0.5 * max(np.ptp(rows), np.ptp(columns)) + 1.0
    window = (columns[0] - margin, rows[0] - margin, columns[-1] + 1 + margin, rows[-1] + 1 + margin)
    drawn = outline(mesh_base, view, window)
    height, width = drawn.shape
    u = np.floor(window[0] + (np.arange(width) + 0.5) * (window[2] - window[0]) / width).astype(int)
    v = np.floor(window[1] + (np.arange(height) + 0.5) * (window[3] - window[1]) / height).astype(int)
    inside = ((v >= 0) & (v < mask.shape[0]))[:, None] & ((u >= 0) & (u < mask.shape[1]))[None]
    seen = mask[np.clip(v, 0, mask.shape[0] - 1)[:, None], np.clip(u, 0, mask.shape[1] - 1)[None]] & inside
    return 1.0 - float((seen & drawn).sum() / max((seen | drawn).sum(), 1))
