"""A table before a wall, drawn by MuJoCo, as a depth camera sees it."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl import frames
from sim.cousins.scan import Scan, ScanView
from sim.cousins.scene import View
from sim.cousins.tabletop_camera import DepthNoise, with_noise
from sim.rendering import choose_gl, use_gl

WALL_M = 0.75
"""x of the wall's face; the table's is z = 0."""
HW = (264, 352)
FOVY_DEG = 42.5
HALF_TURN = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Block:
    """A box or (`radius` = half[0]) an upright cylinder."""

    position_m: tuple[float, float, float]
    half_m: tuple[float, float, float]
    rgb: tuple[float, float, float]
    yaw: float = 0.0
    is_round: bool = False


def against_wall(y: float, half: tuple[float, float, float], rgb: tuple[float, float, float], z: float = 0.0) -> Block:
    """With its back on the wall and its lower face at `z`."""
    return Block((WALL_M - half[0], y, z + half[2]), half, rgb)


def cabinet(y: float, half: tuple[float, float, float], z: float = 0.0) -> list[Block]:
    """A body on the wall, of half sizes `half`, its front two drawers with level bars."""
    body = against_wall(y, half, (0.55, 0.35, 0.2), z)
    front, middle = WALL_M - 2 * half[0], body.position_m[2]
    seam = Block((front - 0.001, y, middle), (0.001, half[1], 0.003), (0.15, 0.1, 0.05))
    bars = [
        Block((front - 0.0125, y, middle + shift * half[2]), (0.0125, 0.04, 0.005), (0.2, 0.2, 0.25))
        for shift in (-0.5, 0.5)
    ]
    return [body, seam, *bars]


def look(*blocks: Block, seed: int = 0, eye: tuple[float, float, float] = (-0.1, 0.1, 0.6)) -> Scan:
    """One noisy picture of table, wall and blocks."""
    spec = mujoco.MjSpec()
    world = spec.worldbody
    spec.visual.global_.offheight, spec.visual.global_.offwidth = HW
    spec.visual.headlight.ambient[:] = 0.4
    spec.visual.map.znear = 0.01
    world.add_light(type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=(0.4, 0.3, -1.0), pos=(0, 0, 2))
    back = np.array([0.55, 0.0, 0.2]) - eye
    back /= np.linalg.norm(back)
    right = np.cross(back, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    quat = frames.matrix_to_quat(np.stack([right, np.cross(back, right), back], -1))
    turned = frames.quat_multiply(quat, np.array([0.0, 1.0, 0.0, 0.0]))
    world.add_camera(name="eye", pos=eye, quat=turned, fovy=FOVY_DEG)
    box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    world.add_geom(type=box, size=(0.4, 0.6, 0.02), pos=(WALL_M - 0.4, 0.0, -0.02), rgba=(0.6, 0.5, 0.4, 1))
    world.add_geom(type=box, size=(0.02, 1.0, 1.0), pos=(WALL_M + 0.02, 0.0, 0.3), rgba=(0.85, 0.85, 0.8, 1))
    for one in blocks:
        kind, size = (cylinder, (one.half_m[0], one.half_m[2], 0)) if one.is_round else (box, one.half_m)
        pose = (np.cos(one.yaw / 2), 0.0, 0.0, np.sin(one.yaw / 2))
        world.add_geom(type=kind, size=size, pos=one.position_m, quat=pose, rgba=(*one.rgb, 1))
    use_gl(choose_gl())
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, *HW)
    try:
        renderer.update_scene(data, "eye")
        color = renderer.render().copy()
        renderer.enable_depth_rendering()
        depth_m = renderer.render().copy()
    finally:
        renderer.close()
    color, depth_m = with_noise(np.random.default_rng(seed), color, depth_m, DepthNoise())
    focal = HW[0] / 2 / np.tan(np.deg2rad(FOVY_DEG) / 2)
    x, y, z, qw, qx, qy, qz = (float(one) for one in (*eye, *quat))
    view = View((x, y, z, qw, qx, qy, qz), (focal, focal, HW[1] / 2 - 0.5, HW[0] / 2 - 0.5), HW)
    return Scan((ScanView(color, depth_m, view),))
