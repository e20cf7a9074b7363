"""Assets placed in a scene, with a robot, settled: the model that a cousin is.

World and base frame are one: the arm stands at the origin. Loose objects are moved clear of what they overlap and
dropped, without the robot; what remains of overlaps afterwards is reported and not hidden.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.arm import ArmModel
from sim.assets.asset import ROOT, Affordance, Asset
from sim.cousins.layout import Contact, PlacedAsset, SceneLayout
from sim.cousins.physics import Physics
from sim.cousins.scene import Pose, Scene, SceneObject, Vector3
from sim.rendering import VISUAL_GROUP
from sim.robosuite_arm import robot_spec

TIMESTEP_S = 0.002
PAYLOAD_KG = 3.0
"""The Panda's rated payload (Franka Emika, datasheet 2020): heavier things are taken as fixed."""
SETTLE_S = 2.0
RESTING_M_S = 2e-3
REPORTED_M = 1e-4
CLEAR_M = 1e-3
CLEAR_TRIES = 50
LEVEL = 0.7
"""Vertical part of a contact's normal above which one thing is on the other and not beside it."""
CAMERA_FROM_OPENCV = np.array([0.0, 1.0, 0.0, 0.0])
"""MuJoCo's cameras look along -z with y up; ours along z with y down."""


@dataclass(frozen=True)
class Choice:
    """What stands for an extracted object."""

    object: SceneObject
    """As extracted."""
    asset: Asset
    """Scaled to its size."""
    pose_base: Pose
    """Where the centre of the asset's bounding box goes."""
    distance: float = 0.0
    """Between the two, by `sim.cousins.matching`."""
    color_rgb: Vector3 | None = None
    """Median colour that it takes; the asset's own when None."""


@dataclass(frozen=True)
class Appearance:
    """Colours and light of one draw."""

    color_noise: float = 0.0
    """Standard deviation of each object's colour channels about what was seen."""
    light_direction: tuple[float, float, float] = (0.2, 0.3, -1.0)
    """Where the light shines to."""
    light_diffuse: float = 0.7
    """Its strength."""
    table_rgb: tuple[float, float, float] | None = None
    """Colour of supports; a neutral grey when None."""


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """A random look: colours, light, table."""
    direction = (float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.7, 0.7)), -1.0)
    shade = rng.uniform(0.2, 0.9) + rng.normal(0.0, 0.05, 3)
    table = tuple(float(one) for one in np.clip(shade, 0.0, 1.0))
    return Appearance(0.1, direction, float(rng.uniform(0.4, 1.0)), (table[0], table[1], table[2]))


def compose(
    scene: Scene,
    choices: Sequence[Choice],
    *,
    name: str = "twin",
    robot: str = "panda",
    robot_faces: int = 0,
    physics: Physics | None = None,
    appearance: Appearance | None = None,
    seed: int = 0,
) -> tuple[mujoco.MjSpec, ArmModel, SceneLayout]:
    """Model, arm and layout of one settled scene; `DataError` when its things fly apart."""
    physics, appearance = physics or Physics(), appearance or Appearance()
    bare = _surroundings(scene, appearance)
    placed = [
        _place(bare, choice, physics, appearance, np.random.default_rng([seed, i])) for i, choice in enumerate(choices)
    ]
    poses, contacts, moved_m = settle(bare, [one.name for one in _carriers_first(placed, scene) if one.is_loose])
    placed = [replace(one, pose_base=poses.get(one.name, one.pose_base)) for one in placed]
    spec = _surroundings(scene, appearance)
    arm_spec, arm = robot_spec(robot, robot_faces)
    spec.attach(arm_spec, prefix="", frame=spec.worldbody.add_frame())
    for i, (choice, one) in enumerate(zip(choices, placed, strict=True)):
        _place(spec, replace(choice, pose_base=one.pose_base), physics, appearance, np.random.default_rng([seed, i]))
    layout = SceneLayout(name, robot, tuple(placed), physics, scene.views, contacts, moved_m, seed, robot_faces)
    return spec, arm, layout


def _carriers_first(placed: Sequence[PlacedAsset], scene: Scene) -> list[PlacedAsset]:
    """What stands on the table before what stands on or in it, and so on; lower things first."""
    return sorted(placed, key=lambda one: (len(scene.carriers(one.name)), one.pose_base[2]))


def settle(spec: mujoco.MjSpec, loose: Sequence[str]) -> tuple[Mapping[str, Pose], tuple[Contact, ...], float]:
    """Resting poses of the `loose` objects, residual penetrations, and the farthest move in metres.

    Those that others stand on come first in `loose`.
    """
    model = spec.compile()
    data = mujoco.MjData(model)
    addresses = {name: int(model.joint(model.body(f"{name}/{ROOT}").jntadr[0]).qposadr[0]) for name in loose}
    _move_clear(model, data, addresses)
    before = {name: data.body(f"{name}/{ROOT}").xpos.copy() for name in loose}
    steps = round(SETTLE_S / model.opt.timestep)
    for step in range(steps):
        mujoco.mj_step(model, data)
        # the slow roll of a bottle is rest enough; checked rarely because numpy costs as much as a step
        if step % 50 == 49 and step > 100 and float(np.abs(data.qvel).max(initial=0.0)) < RESTING_M_S:
            break
    if not np.isfinite(data.qpos).all() or data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
        raise DataError("the scene does not settle: its simulation diverges")
    mujoco.mj_forward(model, data)
    after = {name: data.body(f"{name}/{ROOT}").xpos for name in loose}
    moved_m = max((float(np.linalg.norm(after[name] - before[name])) for name in loose), default=0.0)
    poses = {name: _pose(data.qpos[address : address + 7]) for name, address in addresses.items()}
    return poses, _penetrations(model, data), moved_m


def _move_clear(model: mujoco.MjModel, data: mujoco.MjData, addresses: Mapping[str, int]) -> None:
    """Move loose objects until none overlaps, by more than a millimetre, what is fixed or comes before it.

    Aside where they overlap sideways, while that helps; else up.
    """
    waiting = {name: int(model.body(f"{name}/{ROOT}").id) for name in addresses}
    for name, address in addresses.items():
        body = waiting.pop(name)
        for attempt in range(2 * CLEAR_TRIES):
            mujoco.mj_forward(model, data)
            pairs = model.body_rootid[model.geom_bodyid[data.contact.geom]]  # (contacts, 2)
            counts = (pairs == body).any(1) & ~np.isin(pairs, list(waiting.values())).any(1)
            depths = np.where(counts, -data.contact.dist, 0.0)
            if not (depths > CLEAR_M).any():
                break
            deepest = int(depths.argmax())
            away = data.contact.frame[deepest, :3] * (1.0 if pairs[deepest, 1] == body else -1.0)
            if abs(away[2]) > LEVEL or attempt >= CLEAR_TRIES:
                away = np.array([0.0, 0.0, 1.0])
            data.qpos[address : address + 3] += depths[deepest] * away
    mujoco.mj_forward(model, data)


def _penetrations(model: mujoco.MjModel, data: mujoco.MjData) -> tuple[Contact, ...]:
    """The deepest overlap of every pair of things."""
    deepest: dict[tuple[str, str], float] = {}
    for (first, second), dist in zip(data.contact.geom, data.contact.dist, strict=True):
        roots = [int(model.body_rootid[model.geom_bodyid[one]]) for one in (first, second)]
        names = [
            model.body(root).name.removesuffix(f"/{ROOT}") if root else model.geom(int(geom)).name
            for root, geom in zip(roots, (first, second), strict=True)
        ]
        if -dist > REPORTED_M and roots[0] != roots[1]:
            pair = (min(names), max(names))
            deepest[pair] = max(deepest.get(pair, 0.0), float(-dist))
    return tuple(Contact(first, second, depth) for (first, second), depth in sorted(deepest.items()))


def _surroundings(scene: Scene, appearance: Appearance) -> mujoco.MjSpec:
    """Supports, light and cameras."""
    spec = mujoco.MjSpec()
    spec.modelname = "cousin"
    spec.option.timestep = TIMESTEP_S
    # as robosuite's arms are tuned for: elliptic cones, contacts hardly slip
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 20.0
    spec.worldbody.add_light(
        pos=[0.0, 0.0, 2.5],
        dir=list(appearance.light_direction),
        diffuse=[appearance.light_diffuse] * 3,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )
    table = appearance.table_rgb or (0.6, 0.6, 0.6)
    for support in scene.supports:
        spec.worldbody.add_geom(
            name=support.name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=list(support.box.half_extents_m),
            pos=list(support.box.pose_base[:3]),
            quat=list(support.box.pose_base[3:]),
            rgba=[*table, 1.0],
            group=VISUAL_GROUP,
        )
    for index, view in enumerate(scene.views):
        pose = np.asarray(view.pose_base_camera)
        height, focal = view.image_hw[0], view.intrinsics[1]
        spec.worldbody.add_camera(
            name=f"view_{index}",
            pos=pose[:3].tolist(),
            quat=frames.quat_multiply(pose[3:], CAMERA_FROM_OPENCV).tolist(),
            fovy=float(np.rad2deg(2.0 * np.arctan(height / (2.0 * focal)))),
        )
    return spec


def _place(
    spec: mujoco.MjSpec, choice: Choice, physics: Physics, appearance: Appearance, rng: np.random.Generator
) -> PlacedAsset:
    """Attach one asset under its object's name, with factors of `physics` applied."""
    name, asset = choice.object.name, choice.asset
    model = asset.build()
    _draw_what_collides(model)
    _apply(physics, model)
    _tint(model, choice.color_rgb, rng.normal(0.0, appearance.color_noise, 3))
    mass_kg = float(model.compile().body(ROOT).subtreemass[0])
    is_loose = not asset.joints and mass_kg <= PAYLOAD_KG
    frame = spec.worldbody.add_frame(pos=list(choice.pose_base[:3]), quat=list(choice.pose_base[3:]))
    body = frame.attach_body(model.body(ROOT), f"{name}/", "")
    if is_loose:
        body.add_freejoint()
    joints = tuple(replace(one, name=f"{name}/{one.name}") for one in asset.joints)
    affordances = tuple(_renamed(one, name) for one in asset.affordances)
    return PlacedAsset(
        name, asset.name, choice.pose_base, asset.half_extents_m, is_loose, choice.distance, joints, affordances
    )


def _tint(model: mujoco.MjSpec, color_rgb: Vector3 | None, shift: FloatArray) -> None:
    """Shift all colours alike, by `shift` (3,) from where the median one is `color_rgb`."""
    if color_rgb is not None:
        own = [geom.rgba[:3] for geom in model.geoms if geom.group == VISUAL_GROUP]
        shift = shift + color_rgb - np.median(own, axis=0)
    for geom in model.geoms:
        geom.rgba[:3] = np.clip(geom.rgba[:3] + shift, 0.0, 1.0)


def _draw_what_collides(model: mujoco.MjSpec) -> None:
    """Bodies without geoms for the eye show those that collide."""
    for body in model.bodies:
        if all(geom.group != VISUAL_GROUP for geom in body.geoms):
            for geom in body.geoms:
                geom.group = VISUAL_GROUP


def _renamed(affordance: Affordance, name: str) -> Affordance:
    joint = f"{name}/{affordance.joint}" if affordance.joint else ""
    return replace(affordance, site=f"{name}/{affordance.site}", joint=joint)


def _apply(physics: Physics, model: mujoco.MjSpec) -> None:
    for geom in model.geoms:
        geom.friction[0] *= physics.friction
        geom.density *= physics.density
        if np.isfinite(geom.mass):
            geom.mass *= physics.density
    for body in model.bodies:
        if body.explicitinertial:
            body.mass *= physics.density
            body.inertia = np.asarray(body.inertia) * physics.density
    for joint in model.joints:
        joint.frictionloss *= physics.joint_friction
        joint.damping = np.asarray(joint.damping) * physics.joint_damping


def _pose(values: FloatArray) -> Pose:
    x, y, z, *quat = (float(one) for one in values)
    return (x, y, z, quat[0], quat[1], quat[2], quat[3])
