"""The front of a cabinet as a picture: colours on the plane of its panels, and the seams between them.

Seams are lines across a panel: a narrow stripe unlike both of its sides, the whole way. A front is cut in two along the
strongest one, and each part again (guillotine cuts), until no line is clear.

Shape letters: R rows (from the bottom up), C columns (from -y to +y), one per millimetre.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robot_rl import frames
from robot_rl.types import BoolArray, FloatArray
from sim.cousins.projection import project
from sim.cousins.scan import ScanView
from sim.cousins.scene import OrientedBox

CELL_M = 0.001
Cell = tuple[int, int, int, int, float]
"""First and last row, first and last column, confidence."""


@dataclass(frozen=True)
class SeamConfig:
    """What is a seam."""

    half_width_m: float = 0.006
    """A stripe is compared with what is this far to both of its sides."""
    border_m: float = 0.02
    """Panels are at least this wide and high; lines nearer to an edge of the front are its frame."""
    contrast: float = 4.0
    """A stripe that differs by so many times the front's noise in this sense is a seam for sure."""
    min_contrast: float = 1.6
    """The least that counts."""
    along: float = 0.8
    """Share of its length on which a seam must show."""


@dataclass(frozen=True)
class Panel:
    """A rectangle of the front, in metres from its middle."""

    y0: float
    """Left edge, seen from in front."""
    y1: float
    """Right edge."""
    z0: float
    """Lower edge."""
    z1: float
    """Upper edge."""
    confidence: float = 1.0
    """Of the weakest of its seams."""


def front_picture(view: ScanView, box: OrientedBox) -> FloatArray:
    """Colours (R, C, 3) float on the +x face of `box`; NaN outside of the picture."""
    _, half_y, half_z = box.half_extents_m
    rows, columns = (max(round(2 * half / CELL_M), 1) for half in (half_z, half_y))
    y = (np.arange(columns) + 0.5) / columns * 2 * half_y - half_y
    z = (np.arange(rows) + 0.5) / rows * 2 * half_z - half_z
    grid = np.stack(np.meshgrid(np.array([box.half_extents_m[0]]), y, z, indexing="ij"), -1).reshape(-1, 3)
    rotation = frames.quat_to_matrix(np.asarray(box.pose_base[3:]))
    pixels = project(view.view, grid @ rotation.T + np.asarray(box.pose_base[:3]))
    # (1, C, R) -> (R, C)
    across, down = (pixels[:, one].reshape(columns, rows).T.astype(np.float32) for one in (0, 1))
    picture = cv2.remap(view.color.astype(np.float32), across, down, cv2.INTER_LINEAR, borderValue=(np.nan,) * 3)
    return np.asarray(picture, np.float64)


def find_panels(picture: FloatArray, ignored: BoolArray, config: SeamConfig, wanted: int | None = None) -> list[Panel]:
    """Panels of a front (R, C, 3); cells of `ignored` (R, C) (handles) do not count. `wanted`: cut into so many."""
    stripes = [_stripes(picture, axis, config) for axis in (0, 1)]
    for one in stripes:
        one[ignored] = np.nan
    rows, columns = ignored.shape
    noise = [max(float(np.nanmedian(one)), 1.0) for one in stripes]
    cells: list[Cell] = [(0, rows, 0, columns, 1.0)]
    while True:
        cuts = [(_best_cut(stripes, noise, cell, config), cell) for cell in cells]
        (strength, axis, place), cell = max(cuts, key=lambda one: one[0][0])
        least = config.min_contrast if wanted is None else 1e-6
        if strength < least or len(cells) == wanted:
            return [_panel(cell, rows, columns) for cell in cells]
        cells = [one for one in cells if one is not cell]
        cells += _split(cell, axis, place, strength / config.contrast)


def _stripes(picture: FloatArray, axis: int, config: SeamConfig) -> FloatArray:
    """How much each cell (R, C) differs, in the same sense, from both sides across `axis`."""
    reach = round(config.half_width_m / CELL_M)
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    before, after = np.roll(smooth, reach, axis), np.roll(smooth, -reach, axis)
    first, second = smooth - before, smooth - after
    same = np.where(np.sign(first) == np.sign(second), np.minimum(np.abs(first), np.abs(second)), 0.0)
    return same.sum(-1)


def _best_cut(stripes: list[FloatArray], noise: list[float], cell: Cell, config: SeamConfig) -> tuple[float, int, int]:
    """Strength, axis (0: level line) and row or column of the clearest seam through a cell."""
    r0, r1, c0, c1, _ = cell
    border = round(config.border_m / CELL_M)
    best = (0.0, 0, 0)
    for axis, (low, high) in enumerate(((r0, r1), (c0, c1))):
        if high - low < 2 * border + 1:
            continue
        part = stripes[axis][r0:r1, c0:c1]
        part = part[border:-border] if axis == 0 else part[:, border:-border]
        # Lines are a little askew: a cell counts with the strongest within 1 mm.
        near = np.fmax(np.fmax(part, np.roll(part, 1, axis)), np.roll(part, -1, axis))
        enough = np.isfinite(near).mean(1 - axis) > 0.3
        if not enough.any():
            continue
        lines = np.compress(enough, near, axis)
        strength = np.zeros(len(enough))
        strength[enough] = np.nanquantile(lines, 1 - config.along, axis=1 - axis) / noise[axis] / 2
        place = int(np.argmax(strength))
        if strength[place] > best[0]:
            best = (float(strength[place]), axis, low + border + place)
    return best


def _split(cell: Cell, axis: int, place: int, confidence: float) -> tuple[Cell, Cell]:
    r0, r1, c0, c1, before = cell
    sure = min(before, confidence, 1.0)
    if axis == 0:
        return (r0, place, c0, c1, sure), (place, r1, c0, c1, sure)
    return (r0, r1, c0, place, sure), (r0, r1, place, c1, sure)


def _panel(cell: Cell, rows: int, columns: int) -> Panel:
    r0, r1, c0, c1, confidence = cell
    y0, y1 = ((c - columns / 2) * CELL_M for c in (c0, c1))
    z0, z1 = ((r - rows / 2) * CELL_M for r in (r0, r1))
    return Panel(y0, y1, z0, z1, confidence)
