"""What can be asked for in a generated scene: tasks that follow from affordances, not from the scene's author."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from robot_rl.env import EnvConfig
from robot_rl.errors import ConfigError
from robot_rl.types import ArmState
from sim.assets.asset import ROOT, Asset, PartKind
from sim.cousins.affordances import affordance_site, has_affordance, is_liftable
from sim.cousins.fitting import slimmed
from sim.cousins.layout import PlacedAsset, SceneLayout
from sim.cousins.placing import Choice
from sim.cousins.readers import Frame, body_frame, quat_z_to, site_at_rest, site_frame
from sim.cousins.scene import Vector3
from sim.cousins.scene_task import BoundTask

REACHING_FORWARD: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "panda": (
        (-0.149, -0.522, 0.460, -2.863, 1.616, 3.160, -0.493),
        (0.152, -0.441, 0.155, -2.761, 1.944, 3.310, 0.663),
    ),
    "ur5e": ((-0.537, -2.082, 2.505, -2.704, -1.201, -1.969), (-0.537, -2.082, 2.505, -2.704, -1.201, -0.398)),
}
"""Joints that hold the TCP at (0.40, 0, 0.30) m, pitched 45 degrees forward: fingers level, and turned by 90 degrees.
Inverse kinematics with the joints as far from their limits as they go."""
FORWARD_ROTVEC = ((-0.7854, 0.0, 0.0), (-0.6139, 0.6139, 1.4822))
"""The same orientations as rotations from the level start (`sim.arm.START_QUAT_BASE_TCP`)."""
BELOW_RIM_M = 0.005
"""What is put in reaches so far below the opening: it may stand out of it, as a bottle does from a bowl."""
RELEASED = 0.5
"""Gripper position above which nothing is held."""


@dataclass(frozen=True)
class OpenPart:
    """Open a door or pull out a drawer by its handle."""

    object: str
    """What has it."""
    handle_base: Vector3 | None = None
    """The part whose handle is nearest to this point of the base frame; the first one when None."""
    kind: PartKind | None = None
    """Only doors, only drawers, or only lids."""
    open_rad: float = 0.4
    """Done when a door or lid is open by so much (robosuite's Door: 0.3), ..."""
    open_m: float = 0.06
    """... or a drawer; by 80 % of its way at most."""
    max_steps: int = 200
    """Steps of an episode."""

    expert = "open_part"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.object,)

    @property
    def env(self) -> EnvConfig:
        return EnvConfig(translation_m=0.025, max_steps=self.max_steps, objects=("handle", "object"))

    def start(self, robot: str, layout: SceneLayout, model: mujoco.MjModel) -> Mapping[str, object]:
        """Hand pitched forward; fingers across the handle's bar."""
        _, site = self._handle(layout.placed(self.object), model)
        bar = site_at_rest(model, site)[1][:, 2]
        is_level = int(abs(bar[2]) < 0.7)
        return {"home_joint_rad": REACHING_FORWARD[robot][is_level], "start_rotvec_rad": FORWARD_ROTVEC[is_level]}

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        placed = layout.placed(self.object)
        joint_name, site = self._handle(placed, model)
        joint = model.joint(joint_name)
        open_at = next(one.open_at for one in placed.joints if one.name == joint_name)

        is_drawer = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
        enough = min(self.open_m if is_drawer else self.open_rad, 0.8 * open_at)

        def opened() -> float:
            return float(data.qpos[joint.qposadr[0]]) / enough

        def axis() -> Frame:
            rotation = np.empty(9)
            mujoco.mju_quat2Mat(rotation, quat_z_to(data.xaxis[joint.id]))
            return data.xanchor[joint.id], rotation

        return BoundTask(
            {"handle": site_frame(model, data, site), "object": body_frame(model, data, placed.name), "axis": axis},
            {"opened": opened, "is_drawer": lambda: float(is_drawer)},
            lambda arm: opened() >= 1.0,
        )

    def suits(self, name: str, asset: Asset) -> bool:
        return name != self.object or bool(self._handles(asset))

    def fit(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        return choices

    def _handle(self, placed: PlacedAsset, model: mujoco.MjModel) -> tuple[str, str]:
        """(joint, handle site)."""
        handles = self._handles(placed)
        if not handles:
            raise ConfigError(f"{placed.name} ({placed.asset}) has no {self.kind or 'part'} with a handle")
        if self.handle_base is None:
            return handles[0]
        wanted = np.asarray(self.handle_base)
        return min(handles, key=lambda one: float(np.linalg.norm(site_at_rest(model, one[1])[0] - wanted)))

    def _handles(self, thing: PlacedAsset | Asset) -> list[tuple[str, str]]:
        """(joint, handle site) of every part that counts."""
        kinds = {one.name: one.kind for one in thing.joints}
        return [
            (one.joint, one.site)
            for one in thing.affordances
            if one.kind == "handle" and one.joint in kinds and self.kind in (None, kinds[one.joint])
        ]


class _Carrying:
    """What tasks have in common in which something is carried by a hand that hangs down."""

    max_steps: int

    @property
    def env(self) -> EnvConfig:
        return EnvConfig(
            action=("x", "y", "z", "rz", "gripper"),
            translation_m=0.025,
            rotation_rad=0.15,
            max_steps=self.max_steps,
            gripper_hold_s=0.4,
            objects=("item", "target"),
        )

    def fit(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        return choices

    def start(self, robot: str, layout: SceneLayout, model: mujoco.MjModel) -> Mapping[str, object]:
        return {}


@dataclass(frozen=True)
class PutIn(_Carrying):
    """Put one thing into another."""

    item: str
    """What is carried."""
    container: str
    """What has an opening."""
    max_steps: int = 200
    """Steps of an episode."""

    expert = "put_in"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.item, self.container)

    def suits(self, name: str, asset: Asset) -> bool:
        return is_liftable(asset) if name == self.item else name != self.container or has_affordance(asset, "opening")

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        container, item = layout.placed(self.container), layout.placed(self.item)
        opening = affordance_site(container, "opening")
        half, item_half = np.array(container.half_extents_m), np.array(item.half_extents_m)
        centre, mouth = body_frame(model, data, item.name), site_frame(model, data, opening)
        around = body_frame(model, data, container.name)

        def inside(arm: ArmState) -> bool:
            position, rotation = centre()
            lowest = position[2] - float(np.abs(rotation.reshape(3, 3)[2]) @ item_half)
            box_position, box_rotation = around()
            local = box_rotation.reshape(3, 3).T @ (position - box_position)
            is_over = bool((np.abs(local[:2]) < half[:2]).all())
            return is_over and lowest < mouth()[0][2] - BELOW_RIM_M and _is_free(arm)

        return BoundTask(_carried(model, data, item, opening), {}, inside)


@dataclass(frozen=True)
class Stack(_Carrying):
    """Put one thing on top of another and leave it there."""

    item: str
    """What is carried."""
    base: str
    """What it is put on."""
    max_steps: int = 200
    """Steps of an episode."""

    expert = "put_on"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.item, self.base)

    def suits(self, name: str, asset: Asset) -> bool:
        return name != self.item or is_liftable(asset)

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        item, base = layout.placed(self.item), layout.placed(self.base)
        height = item.half_extents_m[2] + base.half_extents_m[2]
        reach = np.array(base.half_extents_m[:2])
        top, centre = body_frame(model, data, base.name), body_frame(model, data, item.name)

        def target() -> Frame:
            position, rotation = top()
            return position + rotation.reshape(3, 3)[:, 2] * base.half_extents_m[2], rotation

        def stacked(arm: ArmState) -> bool:
            offset = data.body(f"{item.name}/{ROOT}").xpos - data.body(f"{base.name}/{ROOT}").xpos
            local = data.body(f"{base.name}/{ROOT}").xmat.reshape(3, 3).T @ offset
            rests = abs(local[2] - height) < 0.01 and bool((np.abs(local[:2]) < reach).all())
            return rests and _is_free(arm) and _touching(model, data, item.name, base.name)

        def underside() -> Frame:
            position, rotation = centre()
            return position - rotation.reshape(3, 3)[:, 2] * item.half_extents_m[2], rotation

        return BoundTask({**_carried(model, data, item, target), "underside": underside}, {}, stacked)


@dataclass(frozen=True)
class Insert(_Carrying):
    """Put the tip of one thing into a fitting hole of another."""

    item: str
    """What has the tip."""
    socket: str
    """What has the hole."""
    depth_m: float = 0.01
    """Done when the tip is so deep in the hole."""
    lateral_m: float = 0.005
    """And so close to its axis."""
    max_steps: int = 200
    """Steps of an episode."""

    expert = "insert"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.item, self.socket)

    def suits(self, name: str, asset: Asset) -> bool:
        if name == self.item:
            return is_liftable(asset) and has_affordance(asset, "tip")
        return name != self.socket or has_affordance(asset, "opening")

    def fit(self, choices: Sequence[Choice]) -> Sequence[Choice]:
        """The item is made as slim as the socket's hole wants it."""
        assets = {one.object.name: one.asset for one in choices}
        item, socket = assets[self.item], assets[self.socket]
        asset = slimmed(item, affordance_site(item, "tip"), socket, affordance_site(socket, "opening"), self.depth_m)
        return [replace(one, asset=asset) if one.object.name == self.item else one for one in choices]

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData, layout: SceneLayout) -> BoundTask:
        item, socket = layout.placed(self.item), layout.placed(self.socket)
        tip, hole = (
            site_frame(model, data, affordance_site(item, "tip")),
            site_frame(model, data, affordance_site(socket, "opening")),
        )

        def inserted(arm: ArmState) -> bool:
            position, rotation = hole()
            local = rotation.reshape(3, 3).T @ (tip()[0] - position)
            return bool(np.linalg.norm(local[:2]) < self.lateral_m and local[2] < -self.depth_m)

        frames = _carried(model, data, item, affordance_site(socket, "opening"))
        return BoundTask({**frames, "tip": tip}, {}, inserted)


def _carried(
    model: mujoco.MjModel, data: mujoco.MjData, item: PlacedAsset, target: str | Callable[[], Frame]
) -> dict[str, Callable[[], Frame]]:
    """What every carrying task reports: the item, where to take hold of it, and where it should go."""
    grasp = next((one.site for one in item.affordances if one.kind == "grasp"), "")
    centre = body_frame(model, data, item.name)
    return {
        "item": centre,
        "grasp": site_frame(model, data, grasp) if grasp else centre,
        "target": site_frame(model, data, target) if isinstance(target, str) else target,
    }


def _is_free(arm: ArmState) -> bool:
    return arm.gripper_position > RELEASED


def _touching(model: mujoco.MjModel, data: mujoco.MjData, first: str, second: str) -> bool:
    roots = {model.body(f"{name}/{ROOT}").id for name in (first, second)}
    bodies = model.body_rootid[model.geom_bodyid[data.contact.geom]]  # (contacts, 2)
    return any(set(pair) == roots for pair in bodies.tolist())
