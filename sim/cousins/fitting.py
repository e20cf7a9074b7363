"""Whether one asset's tip goes down another one's hole, by rays against what collides.

A profile is how far a wall is from an axis, in `DIRECTIONS` directions around it, counted from the x axis of the site.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, DataError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.variants import scaled_to

DIRECTIONS = 48
CLEARANCE_M = 0.001
"""Room that a tip needs on every side."""
DEPTHS = np.array([0.1, 0.5, 0.9])
"""Where a profile is measured, as shares of how deep the tip shall go; what counts is the narrowest place."""
ASIDE_RAD = 1e-3
"""Rays pass beside the edges of boxes: one that meets an edge may miss it."""
FAR_M = 0.3
OUTSIDE_M = 0.001
COLLIDING = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # geom groups: see `sim.assets.asset`

Ray = Callable[[FloatArray, FloatArray], float]


def slimmed(item: Asset, tip: str, socket: Asset, opening: str, depth_m: float) -> Asset:
    """The item, made slimmer across its tip's axis where it would not go `depth_m` down the socket's hole.

    `tip` and `opening` are their sites. It goes in with its x along the socket's x or y. `DataError` where the hole is
    not that deep, or the item would have to shrink beyond what scaling allows.
    """
    deep = hole_depth(socket, opening)
    if deep < depth_m:
        raise DataError(f"{socket.name}: its hole is {1e3 * deep:.0f} mm deep, the task wants {1e3 * depth_m:.0f}")
    hole, (shaft, axis) = hole_profile(socket, opening, depth_m), tip_profile(item, tip, depth_m)
    room = np.maximum(hole - CLEARANCE_M, 0.0)
    quarter = DIRECTIONS // 4
    fits = max(float((np.roll(room, turn * quarter) / shaft).min()) for turn in range(4))
    if fits >= 1.0:
        return item
    x, y, z = (half * (fits if i != axis else 1.0) for i, half in enumerate(item.half_extents_m))
    try:
        return scaled_to(item, (x, y, z))
    except ConfigError as error:
        raise DataError(f"{item.name} does not go into {socket.name}, whose hole is narrower: {error}") from error


@lru_cache(maxsize=1024)
def hole_depth(asset: Asset, site: str) -> float:
    """From the opening straight down, in metres; `FAR_M` where there is no bottom."""
    position, rotation, ray = _at(asset, site)
    return min(ray(position + OUTSIDE_M * rotation[:, 2], -rotation[:, 2]) - OUTSIDE_M, FAR_M)


@lru_cache(maxsize=1024)
def hole_profile(asset: Asset, site: str, depth_m: float) -> FloatArray:
    """Distance (DIRECTIONS,) from the hole's axis to its walls; `FAR_M` where there is none."""
    position, rotation, ray = _at(asset, site)
    around = _around(rotation, 1.0)
    walls = [[ray(position - deep * rotation[:, 2], one) for one in around] for deep in DEPTHS * depth_m]
    return np.minimum(np.min(walls, 0), FAR_M)


@lru_cache(maxsize=1024)
def tip_profile(asset: Asset, site: str, depth_m: float) -> tuple[FloatArray, int]:
    """Reach (DIRECTIONS,) of the tip from its axis, as the hole sees its directions; the asset's axis along the tip."""
    position, rotation, ray = _at(asset, site)
    around = _around(rotation, -1.0)  # the tip looks down the hole: the other way round
    shafts = [
        [FAR_M - ray(position - deep * rotation[:, 2] + FAR_M * one, -one) for one in around]
        for deep in DEPTHS * depth_m
    ]
    return np.maximum(np.max(shafts, 0), 1e-4), int(np.abs(rotation[:, 2]).argmax())


def _at(asset: Asset, site: str) -> tuple[FloatArray, FloatArray, Ray]:
    """Position (3,) and axes (3, 3) of a site with every joint at 0, and distances along rays from points."""
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    hit = np.zeros(1, np.int32)

    def ray(point: FloatArray, direction: FloatArray) -> float:
        distance = float(mujoco.mj_ray(model, data, point, direction, COLLIDING, 1, -1, hit))
        return distance if distance >= 0.0 else np.inf

    frame: Any = data.site(site)
    return frame.xpos.copy(), frame.xmat.reshape(3, 3).copy(), ray


def _around(rotation: FloatArray, sense: float) -> FloatArray:
    angles = sense * (np.arange(DIRECTIONS) * (2.0 * np.pi / DIRECTIONS) + ASIDE_RAD)
    return np.cos(angles)[:, None] * rotation[:, 0] + np.sin(angles)[:, None] * rotation[:, 1]
