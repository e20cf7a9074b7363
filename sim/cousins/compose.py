"""Assets placed in a scene, with a robot, settled: the model that a cousin is.

World and base frame are one: the arm stands at the origin. Assets are put where they touch what the objects touched;
loose ones are moved clear of what they overlap and dropped, without the robot; what remains of gaps and overlaps
afterwards is reported and not hidden.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.arm import ArmModel
from sim.assets.asset import ROOT, Affordance
from sim.cousins.layout import PlacedAsset, SceneLayout
from sim.cousins.physics import Physics
from sim.cousins.placing import Choice, keep_relations
from sim.cousins.scene import Scene, Vector3
from sim.cousins.settling import Settled, settle
from sim.rendering import VISUAL_GROUP
from sim.robosuite_arm import robot_spec

TIMESTEP_S = 0.002
PAYLOAD_KG = 3.0
"""The Panda's rated payload (Franka Emika, datasheet 2020): heavier things are taken as fixed."""
CAMERA_FROM_OPENCV = np.array([0.0, 1.0, 0.0, 0.0])
"""MuJoCo's cameras look along -z with y up; ours along z with y down."""


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
    bare, choices = _surroundings(scene, appearance), keep_relations(scene, choices)
    placed = [
        _place(bare, choice, physics, appearance, np.random.default_rng([seed, i])) for i, choice in enumerate(choices)
    ]
    loose = sorted((one for one in placed if one.is_loose), key=lambda one: (scene.depth(one.name), one.pose_base[2]))
    settled = settle(
        bare,
        [one.name for one in loose],
        [(one.name, relation) for one in placed for relation in one.relations],
    )
    placed = [_rested(one, settled) for one in placed]
    spec = _surroundings(scene, appearance)
    arm_spec, arm = robot_spec(robot, robot_faces)
    spec.attach(arm_spec, prefix="", frame=spec.worldbody.add_frame())
    for i, (choice, one) in enumerate(zip(choices, placed, strict=True)):
        _place(spec, replace(choice, pose_base=one.pose_base), physics, appearance, np.random.default_rng([seed, i]))
    layout = SceneLayout(
        name, robot, tuple(placed), physics, scene.views, settled.contacts, settled.moved_m, seed, robot_faces
    )
    return spec, arm, layout


def _rested(one: PlacedAsset, settled: Settled) -> PlacedAsset:
    relations = tuple(replace(each, gap_m=settled.gaps_m[one.name, each.other]) for each in one.relations)
    return replace(one, pose_base=settled.poses.get(one.name, one.pose_base), relations=relations)


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
    draw_what_collides(model)
    _apply(physics, model)
    tint(model, choice.color_rgb, rng.normal(0.0, appearance.color_noise, 3))
    try:
        mass_kg = float(model.compile().body(ROOT).subtreemass[0])
    except ValueError as error:
        size = " x ".join(f"{2000 * half:.1f}" for half in asset.half_extents_m)
        raise DataError(f"{name}: {asset.name} cannot be built {size} mm large; correct its box ({error})") from error
    is_hung = any(one.kind == "hanging" for one in choice.relations)
    is_loose = not asset.joints and mass_kg <= PAYLOAD_KG and not is_hung
    frame = spec.worldbody.add_frame(pos=list(choice.pose_base[:3]), quat=list(choice.pose_base[3:]))
    body = frame.attach_body(model.body(ROOT), f"{name}/", "")
    if is_loose:
        body.add_freejoint()
    joints = tuple(replace(one, name=f"{name}/{one.name}") for one in asset.joints)
    affordances = tuple(_renamed(one, name) for one in asset.affordances)
    return PlacedAsset(
        name,
        asset.name,
        choice.pose_base,
        asset.half_extents_m,
        is_loose,
        choice.distance,
        joints,
        affordances,
        choice.relations,
    )


def tint(model: mujoco.MjSpec, color_rgb: Vector3 | None, shift: FloatArray) -> None:
    """Shift all colours alike, by `shift` (3,) from where the median one is `color_rgb`."""
    if color_rgb is not None:
        own = [geom.rgba[:3] for geom in model.geoms if geom.group == VISUAL_GROUP]
        shift = shift + color_rgb - np.median(own, axis=0)
    for geom in model.geoms:
        geom.rgba[:3] = np.clip(geom.rgba[:3] + shift, 0.0, 1.0)


def draw_what_collides(model: mujoco.MjSpec) -> None:
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
