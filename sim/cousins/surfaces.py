"""The points that are seen of one thing, and the directions that their normals have.

Shape letters: N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robot_rl.types import FloatArray

UP = np.array([0.0, 0.0, 1.0])
AGREES = np.cos(np.deg2rad(22.0))
"""A normal this near to what the solid has there is explained by it."""
UPRIGHT = np.cos(np.deg2rad(9.0))
MIN_FACE = 25
"""Fewer points do not make a face."""


@dataclass(frozen=True)
class Surface:
    """Points of one thing, with their normals, and the height of what it stands on."""

    points: FloatArray
    """(N, 3) in the base frame, m."""
    normals: FloatArray
    """(N, 3) unit, towards the camera."""
    ground_m: float
    """z of the support below."""


def upright_axes(surface: Surface) -> FloatArray:
    """Rotation (3, 3) with z up and x, y along the sides: by their normals, or by the outline where no side is seen."""
    normals = surface.normals
    side = np.abs(normals[:, 2]) < 0.35
    if side.sum() > 2 * MIN_FACE:
        heading = np.arctan2(normals[side, 1], normals[side, 0])
        yaw = np.angle(np.exp(4j * heading).sum()) / 4
        for _ in range(5):  # without what is rounded by smoothing at the edges
            off = np.angle(np.exp(4j * (heading - yaw))) / 4
            near = np.abs(off) < np.deg2rad(15)
            if near.sum() < MIN_FACE:
                break
            yaw += float(off[near].mean())
    else:
        yaw = np.deg2rad(cv2.minAreaRect(surface.points[:, :2].astype(np.float32))[2])
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def tilted_axes(surface: Surface) -> FloatArray | None:
    """Axes (3, 3) of a tilted box from its faces' normals; None for an upright one."""
    modes = _modes(surface.normals)
    if not modes or any(abs(mode[2]) > UPRIGHT for mode in modes[:2]):
        return None
    if all(abs(mode[2]) < np.sqrt(1 - UPRIGHT**2) for mode in modes):
        return None
    first = modes[0]
    second = next((mode for mode in modes[1:] if abs(mode @ first) < 0.3), None)
    if second is None:
        level = np.cross(UP, first)
        second = level / np.linalg.norm(level)
    second = second - (second @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], -1)


def round_axis(surface: Surface) -> FloatArray:
    """Where (2,) the normals' lines meet, seen from above, by weighted least squares; the outline's centre without."""
    points, normals = surface.points[:, :2], surface.normals[:, :2]
    length = np.linalg.norm(normals, axis=1)
    usable = length > 0.35
    if usable.sum() < MIN_FACE:
        return np.array(cv2.minEnclosingCircle(points.astype(np.float32))[0])
    points, across = points[usable], np.stack([-normals[:, 1], normals[:, 0]], -1)[usable] / length[usable, None]
    weights = np.ones(len(points))
    centre = points.mean(0)
    for _ in range(6):
        matrix = (across * weights[:, None]).T @ across
        centre = np.linalg.lstsq(matrix, (across * weights[:, None]).T @ (across * points).sum(1), rcond=None)[0]
        weights = 1 / (1 + (((points - centre) * across).sum(1) / 0.005) ** 2)
    return centre


def lying_axis(normals: FloatArray) -> FloatArray:
    """The level direction that most normals are square to, or that they have (an end)."""
    angles = np.deg2rad(np.arange(0, 180, 3))
    axes = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], -1)
    along = np.abs(axes @ normals.T)
    score = ((along < 0.25) | (along > 0.97)).mean(1)
    axis = axes[np.argmax(score)]
    for _ in range(3):
        square = normals[np.abs(normals @ axis) < 0.3][:, :2]
        if len(square) < MIN_FACE:
            break
        flat = np.linalg.eigh(square.T @ square)[1][:, 0]
        axis = np.array([flat[0], flat[1], 0.0])
    return axis


def _modes(normals: FloatArray, most: int = 3, share: float = 0.12) -> list[FloatArray]:
    """Directions that many of the normals (N, 3) have, the most frequent first."""
    rest, modes = normals, []
    for _ in range(most):
        if len(rest) < max(share * len(normals), MIN_FACE):
            break
        seeds = rest[:: max(len(rest) // 300, 1)]
        mode = seeds[np.argmax((seeds @ rest.T > AGREES).sum(1))]
        for _ in range(4):
            mode = rest[rest @ mode > AGREES].mean(0)
            mode /= np.linalg.norm(mode)
        near = rest @ mode > AGREES
        if near.sum() < share * len(normals):
            break
        modes.append(mode)
        rest = rest[rest @ mode < np.cos(np.deg2rad(35))]
    return modes
