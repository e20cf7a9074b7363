"""What extraction found, drawn into the picture: masks, boxes, panels and names."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_rl.types import BoolArray
from sim.cousins.projection import project
from sim.cousins.scan import ScanView
from sim.cousins.scene import OrientedBox, Scene

EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]
"""Of `OrientedBox.corners`: those whose numbers differ in one bit."""
PART_RGB, HANDLE_RGB, TEXT_RGB = (255, 220, 0), (255, 0, 255), (255, 255, 255)


def draw_scene(view: ScanView, scene: Scene, masks: Mapping[str, BoolArray]) -> NDArray[np.uint8]:
    """Colour (H, W, 3) uint8 with everything in `scene`; `masks` (H, W) bool by object."""
    image = view.color.copy()
    for number, one in enumerate(scene.objects):
        rgb = _color(number)
        mask = masks.get(one.name)
        if mask is not None:
            image[mask] = (0.65 * image[mask] + 0.35 * np.array(rgb)).astype(np.uint8)
        _draw_box(image, view, one.box, rgb)
        for part in one.parts:
            _draw_box(image, view, part.panel, PART_RGB)
            if part.handle is not None:
                _draw_box(image, view, part.handle, HANDLE_RGB)
    for one in scene.objects:
        kinds = [part.kind for part in one.parts]
        what = " ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        text = f"{one.name} {one.category} {one.category_confidence:.2f} {what}"
        _write(image, view, one.box, text)
    return image


def _draw_box(image: NDArray[np.uint8], view: ScanView, box: OrientedBox, rgb: tuple[int, int, int]) -> None:
    corners = project(view.view, box.corners())
    if not np.isfinite(corners).all():
        return
    for a, b in EDGES:
        (ax, ay), (bx, by) = np.round(corners[[a, b]]).astype(int).tolist()
        cv2.line(image, (ax, ay), (bx, by), rgb, 1, cv2.LINE_AA)


def _write(image: NDArray[np.uint8], view: ScanView, box: OrientedBox, text: str) -> None:
    x, y = project(view.view, np.array([box.corners()[box.corners()[:, 2].argmax()]]))[0]
    if np.isfinite([x, y]).all():
        place = (int(np.clip(x - 30, 2, image.shape[1] - 180)), int(np.clip(y - 6, 10, image.shape[0] - 4)))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, TEXT_RGB, 1, cv2.LINE_AA)


def _color(number: int) -> tuple[int, int, int]:
    """Hues by the golden ratio: neighbours differ."""
    r, g, b = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.8, 1.0)
    return round(255 * r), round(255 * g), round(255 * b)
