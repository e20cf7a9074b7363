"""What a thing is called, by simple cues of its shape; `unknown` where none speaks clearly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl import frames
from sim.cousins.shapes import Shape
from sim.cousins.surfaces import AGREES, Surface


@dataclass(frozen=True)
class CategoryConfig:
    """Cues."""

    min_explained: float = 0.6
    """A solid that explains fewer of the normals gives no name."""
    hollow_share: float = 0.12
    """A round thing is hollow if so many of its points face inwards."""
    mug_height: float = 1.4
    """A hollow thing at least this many radii high is a mug, a lower one a bowl."""
    neck: float = 0.7
    """A round thing is a bottle if its uppermost eighth is narrower than this share of its radius."""


def categorize(shape: Shape, surface: Surface, config: CategoryConfig) -> tuple[str, float]:
    """Category and confidence, 0 ... 1. Cabinets are recognised by their parts, elsewhere."""
    if shape.explained < config.min_explained:
        return "unknown", 0.0
    if shape.kind == "box":
        return "box", shape.explained
    if shape.kind == "lying":
        return "can", shape.explained
    return _round_category(shape, surface, config)


def _round_category(shape: Shape, surface: Surface, config: CategoryConfig) -> tuple[str, float]:
    radius, _, half_height = shape.box.half_extents_m
    local = shape.box.to_local(surface.points)
    distance = np.linalg.norm(local[:, :2], axis=1)
    normals = surface.normals @ frames.quat_to_matrix(np.asarray(shape.box.pose_base[3:]))
    inward = -(normals[:, :2] * local[:, :2]).sum(1) / np.maximum(distance, 1e-9)
    across = np.linalg.norm(normals[:, :2], axis=1)
    faces_in = (inward > AGREES * across) & (across > 0.35) & (distance > 0.3 * radius)
    hollow = float(faces_in.mean())
    if hollow > config.hollow_share:
        name = "mug" if 2 * half_height > config.mug_height * radius else "bowl"
        return name, shape.explained * min(1.0, 0.5 + hollow)
    top = distance[local[:, 2] > 0.75 * half_height]
    width = float(np.percentile(top, 90)) / radius if len(top) else 1.0
    name = "bottle" if width < config.neck else "can"
    return name, shape.explained * min(1.0, 0.5 + 2 * abs(width - config.neck))
