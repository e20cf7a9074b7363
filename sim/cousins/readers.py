"""Where sites and objects of a compiled scene are."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.assets.asset import ROOT

Frame = tuple[FloatArray, FloatArray]
"""World position (3,) and rotation matrix (9,)."""


def site_frame(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> Callable[[], Frame]:
    """Reader of a site's frame; `ConfigError` when the scene lacks it."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    if index < 0:
        raise ConfigError(f"the scene has no site {name!r}")
    return lambda: (data.site_xpos[index], data.site_xmat[index])


def body_frame(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> Callable[[], Frame]:
    """Reader of an object's frame: the centre of its box."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"{name}/{ROOT}")
    if index < 0:
        raise ConfigError(f"the scene has no object {name!r}")
    return lambda: (data.xpos[index], data.xmat[index])


def site_at_rest(model: mujoco.MjModel, site: str) -> Frame:
    """World position (3,) and rotation (3, 3) of a site with every joint as the model begins."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    found = data.site(site)
    return found.xpos.copy(), found.xmat.reshape(3, 3).copy()


def quat_z_to(axis: FloatArray) -> FloatArray:
    """A rotation (4,) that turns z onto the unit vector `axis` (3,)."""
    quat = np.empty(4)
    mujoco.mju_quatZ2Vec(quat, axis)
    return quat
