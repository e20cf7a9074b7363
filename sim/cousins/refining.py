"""Pictures of few pixels, drawn out to the spacing of points that extraction's radii and counts are made for.

Shape letters: H W image height and width.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from robot_rl.errors import DataError
from robot_rl.types import FloatArray, IntArray
from sim.cousins.scan import Scan, ScanView

FINE_M = 0.003
"""Distance of neighbouring pixels at the median depth that is left as it is: 320 x 240 pixels at 0.9 m."""
AIM_M = 0.002
"""What a coarser one is divided to."""
COARSE_M = 0.024
"""What is coarser shows too little of things of a hand's size: 40 x 30 pixels at 0.9 m."""
SLOPE = 4.0
"""Neighbours that differ by more than so many of their distances are of two surfaces (one seen at 76 degrees)."""


def refined(scan: Scan, reach_m: float) -> Scan:
    """The scan with its coarse views interpolated within surfaces, which is said among the assumptions.

    Coarse is what is so within `reach_m`: what is farther is not used.
    """
    factors = [factor_of(view, reach_m) for view in scan.views]
    if max(factors) == 1:
        return scan
    views = tuple(_refine(view, factor) for view, factor in zip(scan.views, factors, strict=True))
    coarse, fine = (one[int(np.argmax(factors))].view.image_hw for one in (scan.views, views))
    words = f"{coarse[1]} x {coarse[0]} pixels are few: interpolated to {fine[1]} x {fine[0]}"
    return replace(scan, views=views, assumptions=(*scan.assumptions, words))


def factor_of(view: ScanView, reach_m: float) -> int:
    """By how much a view has to be drawn out, 1 if it is fine enough; `DataError` where that would not help."""
    spacing_m, (height, width) = spacing_of(view, reach_m), view.view.image_hw
    if spacing_m > COARSE_M:
        least = int(np.ceil(width * spacing_m / COARSE_M))
        raise DataError(
            f"the depth's {width} x {height} pixels are {1000 * spacing_m:.0f} mm apart at its median distance and"
            f" must be {1000 * COARSE_M:.0f} mm or less: take {least} or more in width, or go nearer (is fx right?)"
        )
    return 1 if spacing_m <= FINE_M else int(np.ceil(spacing_m / AIM_M))


def spacing_of(view: ScanView, reach_m: float) -> float:
    """Distance of neighbouring pixels at the median depth within `reach_m`, m; 0 where there is none."""
    known = view.depth_m[(view.depth_m > 0.0) & (view.depth_m < reach_m)]
    return float(np.median(known)) / min(view.view.intrinsics[:2]) if len(known) else 0.0


def _refine(view: ScanView, factor: int) -> ScanView:
    if factor == 1:
        return view
    height, width = view.depth_m.shape
    fx, fy, cx, cy = view.view.intrinsics
    middle = (factor - 1) / 2
    fine = replace(
        view.view,
        intrinsics=(fx * factor, fy * factor, cx * factor + middle, cy * factor + middle),
        image_hw=(height * factor, width * factor),
    )
    color = cv2.resize(view.color, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)
    depth = _within_surfaces(view.depth_m, factor, min(fx, fy))
    return replace(view, view=fine, color=color.astype(np.uint8), depth_m=depth.astype(view.depth_m.dtype))


def _within_surfaces(depth_m: FloatArray, factor: int, focal_px: float) -> FloatArray:
    """Depth (factor H, factor W): linear in 1 / depth, as planes are, where the four around agree; else the nearest."""
    (row, row_after, down), (column, column_after, right) = (_neighbours(size, factor) for size in depth_m.shape[:2])
    four = np.stack([depth_m[np.ix_(r, c)] for r in (row, row_after) for c in (column, column_after)])
    nearest, farthest = four.min(0), four.max(0)
    agree = (nearest > 0.0) & (farthest - nearest < SLOPE * nearest / focal_px)
    inverse = 1.0 / np.where(agree, four, 1.0)
    upper = inverse[0] * (1 - right) + inverse[1] * right
    lower = inverse[2] * (1 - right) + inverse[3] * right
    between = 1.0 / (upper * (1 - down[:, None]) + lower * down[:, None])
    return np.where(agree, between, np.kron(depth_m, np.ones((factor, factor))))


def _neighbours(size: int, factor: int) -> tuple[IntArray, IntArray, FloatArray]:
    """For every fine pixel the coarse ones before and after it, and how far it is from the one to the other."""
    place = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0.0, size - 1.0)
    before = np.minimum(place.astype(np.int64), max(size - 2, 0))
    return before, np.minimum(before + 1, size - 1), place - before
