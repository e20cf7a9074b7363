"""What plug-ins saw, beside the geometry: kept as a file, its masks part things and its names name them.

Shape letters: H W image height and width, K masks, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from robot_rl.errors import DataError
from robot_rl.types import FloatArray, IntArray
from sim.assets.asset import CATEGORIES
from sim.cousins.plugins import Perceiver, Percept
from sim.cousins.projection import project
from sim.cousins.scan import ScanView
from sim.cousins.scene import SceneObject


def perceive(view: ScanView, perceivers: Sequence[Perceiver]) -> Percept:
    """What all perceivers found, one after another."""
    found = Percept()
    for perceiver in perceivers:
        found = perceiver.add(view.color, found)
    return found


def write_percept(path: Path, percept: Percept) -> None:
    """As arrays in one `.npz`; what was not found is left out."""
    arrays = {one.name: getattr(percept, one.name) for one in fields(percept)}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **{name: np.asarray(value) for name, value in arrays.items() if value is not None})


def read_percept(path: Path) -> Percept:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content: dict[str, Any] = dict(arrays)
        names = tuple(map(str, content.pop("names")))
        return Percept(names=names, caption=str(content.pop("caption")), **content)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is no percept: {error}; delete it to look anew") from error


def masks_of(points: FloatArray, view: ScanView, percept: Percept) -> IntArray:
    """Number of the mask that each point (N, 3) is seen in, -1 for none; the surest where several overlap."""
    numbers = np.full(len(points), -1)
    if percept.masks is None:
        return numbers
    height, width = view.depth_m.shape
    pixels = project(view.view, points)
    inside = np.isfinite(pixels).all(1) & (pixels > -0.5).all(1) & (pixels < (width - 0.5, height - 0.5)).all(1)
    column, row = np.round(pixels[inside]).astype(int).T
    for number in np.argsort(percept.scores):
        seen = np.flatnonzero(inside)[percept.masks[number, row, column]]
        numbers[seen] = number
    return numbers


def named(one: SceneObject, points: FloatArray, view: ScanView, percept: Percept) -> SceneObject:
    """`one` with the category of the mask that holds most of its points (N, 3), where the detector knows one."""
    masks = masks_of(points, view, percept)
    masks = masks[masks >= 0]
    if 2 * len(masks) <= len(points):
        return one
    number = int(np.bincount(masks).argmax())
    said = percept.names[number].lower()
    category = next((name for name in CATEGORIES if name.replace("_", " ") in said), None)
    if category is None:
        return one
    return replace(one, category=category, category_confidence=float(percept.scores[number]))
