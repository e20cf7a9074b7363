"""What stands in hidden worlds; on purpose not made by the asset library's generators."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mujoco
import numpy as np

from sim.assets.asset import ROOT, Affordance, Asset, AssetJoint

Rng = np.random.Generator
BOX, CAPSULE, CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
PANEL_KG_M3, METAL_KG_M3, GLAZED_KG_M3 = 650.0, 2700.0, 1100.0
"""Chipboard, aluminium, ceramics with their hollows (Engineering ToolBox, "Densities of solids")."""
GAP_M = 0.002
BACKLASH_M = 0.0015


def cabinet(rng: Rng, drawers: int) -> Asset:
    """A cabinet with one door, or with drawers; its handles arched, as bars, or with square posts."""
    width, depth = float(rng.uniform(0.22, 0.34)), float(rng.uniform(0.15, 0.22))
    height = float(rng.uniform(0.24, 0.34)) if not drawers else float(rng.uniform(0.12, 0.17)) * drawers
    side = float(rng.choice((-1.0, 1.0)))
    handle = {
        "length": float(rng.uniform(0.07, 0.12)),
        "standoff": float(rng.uniform(0.030, 0.045)),
        "radius": float(rng.uniform(0.004, 0.007)),
        "is_arched": float(rng.random() < 0.5),
    }
    from_edge, up = float(rng.uniform(0.025, 0.05)), float(rng.uniform(-0.05, 0.05))
    color = tuple(float(one) for one in rng.uniform(0.25, 0.9, 3))
    total = depth + handle["standoff"] + handle["radius"]
    build = partial(_cabinet, width, depth, height, total, drawers, side, handle, from_edge, up, color)
    if drawers:
        joints = tuple(AssetJoint(f"drawer_{i}", "drawer", 0.7 * depth) for i in range(drawers))
    else:
        joints = (AssetJoint("door_0", "door", 1.5),)
    affordances = tuple(Affordance("handle", f"handle_{i}", one.name) for i, one in enumerate(joints))
    return Asset("hidden/cabinet", "cabinet", "hidden", (total / 2, width / 2, height / 2), build, joints, affordances)


def _cabinet(
    width: float,
    depth: float,
    height: float,
    total: float,
    drawers: int,
    side: float,
    handle: dict[str, float],
    from_edge: float,
    up: float,
    color: Sequence[float],
) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    root = spec.worldbody.add_body(name=ROOT)
    wall, front = 0.011, total / 2 - (total - depth)
    back = -total / 2
    box = partial(_box, density=PANEL_KG_M3, color=color)
    middle, half = (front - 0.014 + back) / 2, (front - 0.014 - back) / 2
    box(root, (back + wall / 2, 0.0, 0.0), (wall / 2, width / 2, height / 2))
    for sign in (-1.0, 1.0):
        box(root, (middle, sign * (width - wall) / 2, 0.0), (half, wall / 2, height / 2))
        box(root, (middle, 0.0, sign * (height - wall) / 2), (half, width / 2, wall / 2))
    panel = (0.006, width / 2 - GAP_M, height / 2 - GAP_M)
    if not drawers:
        door = root.add_body(name="door", pos=[front - 0.006, -side * (width / 2 - GAP_M), 0.0])
        door.add_joint(
            name="door_0",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0.0, 0.0, -side],
            range=[0.0, 1.7],
            limited=1,
            frictionloss=0.12,
            damping=0.12,
            armature=0.002,
        )
        box(door, (0.0, side * panel[1], 0.0), panel)
        _handle(door, (0.006, side * (2 * panel[1] - from_edge), up), False, handle, 0)
        return spec
    each = height / drawers
    for index in range(drawers):
        z = -height / 2 + each * (index + 0.5)
        drawer = root.add_body(name=f"drawer_body_{index}", pos=[front - 0.006, 0.0, z])
        drawer.add_joint(
            name=f"drawer_{index}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[1.0, 0.0, 0.0],
            range=[0.0, 0.75 * depth],
            limited=1,
            frictionloss=1.0,
            damping=2.0,
        )
        box(drawer, (0.0, 0.0, 0.0), (panel[0], panel[1], each / 2 - GAP_M))
        inner = 0.4 * depth
        box(drawer, (-inner, 0.0, -each / 2 + 0.02), (inner, width / 2 - 0.02, 0.003))
        _handle(drawer, (0.006, 0.0, 0.3 * up), True, handle, index)
    return spec


def _handle(body: mujoco.MjsBody, at: Sequence[float], is_level: bool, handle: dict[str, float], index: int) -> None:
    """A bar on two posts, with play between it and its part."""
    along = np.array([0.0, 1.0, 0.0] if is_level else [0.0, 0.0, 1.0])
    loose = body.add_body(name=f"handle_body_{index}", pos=list(at))
    loose.add_joint(
        name=f"handle_play_{index}",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[1.0, 0.0, 0.0],
        range=[-BACKLASH_M / 2, BACKLASH_M / 2],
        limited=1,
        damping=1.0,
    )
    out, half, radius = handle["standoff"], handle["length"] / 2, handle["radius"]
    grey = (0.75, 0.75, 0.78)
    bar_half = half * (0.6 if handle["is_arched"] else 1.0)
    tip = np.array([out, 0.0, 0.0])
    _capsule(loose, tip - along * bar_half, tip + along * bar_half, radius, grey)
    for sign in (-1.0, 1.0):
        _capsule(loose, sign * half * along, tip + sign * bar_half * along, radius * 0.9, grey)
    quat = [np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0] if is_level else [1.0, 0.0, 0.0, 0.0]
    loose.add_site(name=f"handle_{index}", pos=tip.tolist(), quat=quat)


def item(rng: Rng) -> Asset:
    """A small carton or a tin, with a lid of another size."""
    is_round = rng.random() < 0.5
    half = (float(rng.uniform(0.016, 0.028)), float(rng.uniform(0.016, 0.028)), float(rng.uniform(0.025, 0.05)))
    if is_round:
        half = (half[0], half[0], half[2])
    color = tuple(float(one) for one in rng.uniform(0.2, 0.95, 3))

    def build() -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        root = spec.worldbody.add_body(name=ROOT)
        lid = 0.15 * half[2]
        for z, z_half, scale in ((-lid, half[2] - lid, 1.0), (half[2] - lid, lid, 0.92)):
            size = [half[0] * scale, z_half, 0.0] if is_round else [half[0] * scale, half[1] * scale, z_half]
            kind = CYLINDER if is_round else BOX
            root.add_geom(type=kind, size=size, pos=[0.0, 0.0, z], density=400.0, rgba=[*color, 1.0])
        root.add_site(name="grasp", pos=[0.0, 0.0, max(half[2] - 0.03, 0.0)])
        return spec

    return Asset(
        "hidden/item", "can" if is_round else "box", "hidden", half, build, (), (Affordance("grasp", "grasp"),)
    )


def vessel(rng: Rng) -> Asset:
    """A bowl with slanted sides."""
    radius, height = float(rng.uniform(0.06, 0.085)), float(rng.uniform(0.045, 0.065))
    color = tuple(float(one) for one in rng.uniform(0.3, 0.95, 3))
    sides = 20

    def build() -> mujoco.MjSpec:
        spec = mujoco.MjSpec()
        root = spec.worldbody.add_body(name=ROOT)
        foot, thick, slant = 0.62 * radius, 0.0035, np.arctan2(0.38 * radius, height)
        root.add_geom(
            type=CYLINDER, size=[foot, 0.004, 0.0], pos=[0.0, 0.0, -height / 2 + 0.004], density=GLAZED_KG_M3,
            rgba=[*color, 1.0],
        )  # fmt: skip
        middle = (foot + radius) / 2 - thick
        for index in range(sides):
            angle = 2.0 * np.pi * index / sides
            turn, lean = np.empty(4), np.empty(4)
            mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), angle)
            mujoco.mju_axisAngle2Quat(lean, np.array([0.0, 1.0, 0.0]), slant)
            quat = np.empty(4)
            mujoco.mju_mulQuat(quat, turn, lean)
            root.add_geom(
                type=BOX,
                size=[thick, np.pi * middle / sides * 1.15, 0.5 * height / np.cos(slant) - thick * np.sin(slant)],
                pos=[middle * np.cos(angle), middle * np.sin(angle), 0.0],
                quat=quat.tolist(),
                density=GLAZED_KG_M3,
                rgba=[*color, 1.0],
            )
        root.add_site(name="opening", pos=[0.0, 0.0, height / 2])
        return spec

    affordances = (Affordance("opening", "opening"),)
    return Asset("hidden/bowl", "bowl", "hidden", (radius, radius, height / 2), build, (), affordances)


def _box(
    body: mujoco.MjsBody, pos: Sequence[float], size: Sequence[float], *, density: float, color: Sequence[float]
) -> None:
    body.add_geom(type=BOX, pos=list(pos), size=list(size), density=density, rgba=[*color, 1.0])


def _capsule(body: mujoco.MjsBody, start: np.ndarray, end: np.ndarray, radius: float, color: Sequence[float]) -> None:
    ends = [*start.tolist(), *end.tolist()]
    body.add_geom(type=CAPSULE, fromto=ends, size=[radius, 0.0, 0.0], density=METAL_KG_M3, rgba=[*color, 1.0])
