"""Worlds that stand for reality: their model class is richer than any twin's, and nobody is told their parameters.

Built from other primitives than the asset library's, with its own time step and integrator, static friction above
kinetic friction (Stribeck), backlash between a handle and its part, joint friction in the arm, delay, a tracker that
is off and shakes, and a depth camera with noise. `hidden_world(family, seed)` draws one; everything else reaches it
through `Env` in another process (`sim.process_env`) and through what its camera sees.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.env import RobotEnv
from robot_rl.errors import UnknownNameError
from robot_rl.types import CameraFrame, FloatArray
from sim.arm import ArmModel
from sim.assets.asset import Asset
from sim.cousins.compose import Appearance, compose
from sim.cousins.hidden_arm import HiddenArm, HiddenJoints, draw_arm
from sim.cousins.hidden_things import Rng, cabinet, item, vessel
from sim.cousins.layout import SceneLayout
from sim.cousins.physics import Physics
from sim.cousins.placing import Choice
from sim.cousins.scene import OrientedBox, Pose, Scene, SceneObject, Support, View
from sim.cousins.scene_task import FreeMotion, SceneTask
from sim.cousins.tasks import OpenPart, PutIn
from sim.cousins.world import CousinWorld, CousinWorldConfig
from sim.osc import OscConfig
from sim.rendering import RenderConfig, SceneRenderer
from sim.sysid.log import MOTION_ENV

CAMERA_HW = (480, 640)
PARKED_JOINT_RAD = {"panda": (0.0, -1.6, 0.0, -2.9, 0.0, 1.6, 0.785), "ur5e": (0.0, -2.4, 2.6, -1.8, -1.57, 0.0)}
"""Out of the camera's way, as the arm is when the bench is scanned; a part of it may be in the picture."""


@dataclass(frozen=True)
class Unmodelled:
    """What no twin has."""

    stribeck_ratio: float = 1.0
    """Static over kinetic friction of hinges and slides."""
    stribeck_rad_s: float = 0.05
    """Velocity (rad/s, m/s of a slide) at which friction has come down by 1/e."""
    arm_friction_nm: float = 0.0
    """Dry friction of the arm's joints."""
    timestep_s: float = 0.002
    """Of the integrator."""
    depth_noise: float = 0.0015
    """Standard deviation of depth at 1 m; it grows with the square (stereo)."""


@dataclass(frozen=True)
class HiddenConfig(CousinWorldConfig):
    """Reality's sensors, and what is different in it."""

    unmodelled: Unmodelled = field(default_factory=Unmodelled)
    """See there."""
    arm: HiddenArm | None = None
    """What no twin's arm has, where more than dry friction is asked for."""


class HiddenWorld(CousinWorld):
    """A `CousinWorld` with physics that its format cannot say."""

    config: HiddenConfig

    def __init__(
        self, model: mujoco.MjModel, arm: ArmModel, layout: SceneLayout, task: SceneTask, config: HiddenConfig
    ) -> None:
        model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICIT
        model.opt.timestep = config.unmodelled.timestep_s
        parts = [joint.name for one in layout.objects for joint in one.joints]
        self._parts = np.array([model.joint(name).dofadr[0] for name in parts], np.intp)
        self._kinetic = model.dof_frictionloss[self._parts].copy()
        arm_dofs = [model.joint(name).dofadr[0] for name in arm.joints]
        model.dof_frictionloss[arm_dofs] = config.unmodelled.arm_friction_nm
        super().__init__(model, arm, layout, task, config)
        if config.arm is not None:
            self.arm.use(HiddenJoints(self.arm, config.arm, config.stream_seed))
            self.reset(0)

    def _before_torques(self) -> None:
        hidden = self.config.unmodelled
        speed = self.data.qvel[self._parts]
        excess = (hidden.stribeck_ratio - 1.0) * np.exp(-np.square(speed / hidden.stribeck_rad_s))
        self.model.dof_frictionloss[self._parts] = self._kinetic * (1.0 + excess)

    def look(self, seed: int = 0) -> tuple[CameraFrame, View, FloatArray]:
        """What the bench camera sees now, the arm out of the way: colour, noisy depth, calibration, joints."""
        view = self.layout.views[0]
        data = copy(self.data)
        joints = [self.model.joint(name).qposadr[0] for name in self.arm.joint_names]
        parked = np.array(PARKED_JOINT_RAD[self.layout.robot])
        data.qpos[joints] = parked
        mujoco.mj_forward(self.model, data)
        renderer = SceneRenderer(self.model, data, view.image_hw, RenderConfig(depth=True, shadows=True))
        try:
            frame = renderer.render("view_0", self.clock())
        finally:
            renderer.close()
        assert frame.depth_m is not None
        noisy = _noisy(frame.depth_m, self.config.unmodelled.depth_noise, seed)
        return replace(frame, depth_m=noisy), view, parked


@dataclass(frozen=True)
class Truth:
    """What `family` and `seed` say of a world, before it is built."""

    scene: Scene
    """Supports and camera; objects by name."""
    choices: tuple[Choice, ...]
    """The real things in their places."""
    task: SceneTask
    """What is to be done."""
    physics: Physics
    """What can be said in a twin's terms."""
    look: Appearance
    """Light and colours."""
    unmodelled: Unmodelled
    """And what cannot."""


def draw_truth(family: str, seed: int) -> Truth:
    """The draw of `seed`; `UnknownNameError` lists the families."""
    if family not in FAMILIES:
        raise UnknownNameError("family of hidden worlds", family, FAMILIES)
    rng = np.random.default_rng([seed, *family.encode()])
    things, task = FAMILIES[family](rng)
    table_m = float(rng.uniform(-0.12, 0.0))
    table = Support("table_0", "table", OrientedBox((0.6, 0.0, table_m - 0.02, 1.0, 0.0, 0.0, 0.0), (0.45, 0.7, 0.02)))
    choices = tuple(_standing(name, asset, place, table_m) for name, asset, place in things)
    physics = Physics(
        friction=float(np.exp(rng.uniform(*np.log((0.6, 1.5))))),
        density=float(np.exp(rng.uniform(*np.log((0.5, 2.0))))),
        joint_friction=float(np.exp(rng.uniform(*np.log((0.4, 3.0))))),
        joint_damping=float(np.exp(rng.uniform(*np.log((0.4, 3.0))))),
        arm_gain=float(rng.uniform(0.7, 1.2)),
        delay_s=float(rng.uniform(0.02, 0.07)),
    )
    slant = (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.6, 0.6)), -1.0)
    scene = Scene((table,), tuple(one.object for one in choices), (_camera(rng),))
    unmodelled = Unmodelled(
        stribeck_ratio=float(rng.uniform(1.3, 2.0)),
        arm_friction_nm=float(rng.uniform(0.1, 0.6)),
        timestep_s=0.001,
        depth_noise=float(rng.uniform(0.001, 0.002)),
    )
    return Truth(scene, choices, task, physics, Appearance(0.0, slant, 0.8, (0.45, 0.35, 0.25)), unmodelled)


def hidden_world(
    family: str,
    seed: int,
    robot: str = "panda",
    rich_arm: bool = False,
    interpolation_s: float = OscConfig.interpolation_s,
) -> HiddenWorld:
    """The world that `family` and `seed` name; with `rich_arm` its arm is `sim.cousins.hidden_arm`'s of that seed.

    `interpolation_s` is the period of what commands it: 0.1 s for an `Env` in lockstep, the guard's 0.02 s over ROS 2.
    """
    truth, hidden = draw_truth(family, seed), None
    if rich_arm:
        drawn, hidden = draw_arm(seed, len(PARKED_JOINT_RAD[robot]))
        truth = replace(
            truth, physics=replace(truth.physics, arm_gain=drawn.arm_gain, delay_s=drawn.delay_s, arm=drawn.arm)
        )
    spec, arm, layout = compose(
        truth.scene,
        truth.choices,
        name="hidden",
        robot=robot,
        physics=truth.physics,
        appearance=truth.look,
        seed=seed,
    )
    config = HiddenConfig(
        fixed_noise_m=0.03,
        fixed_noise_yaw_rad=0.15,
        pose_noise_m=0.001,
        pose_bias_m=0.002,
        unmodelled=truth.unmodelled,
        arm=hidden,
        stream_seed=seed,
        controller=OscConfig(interpolation_s=interpolation_s),
    )
    return HiddenWorld(spec.compile(), arm, layout, truth.task, config)


def hidden_env(family: str, seed: int, robot: str = "panda", rich_arm: bool = False) -> RobotEnv:
    """The `Env` over `hidden_world`."""
    world = hidden_world(family, seed, robot, rich_arm)
    return RobotEnv(world, world.task.env)


Place = tuple[float, float, float]  # x, y and yaw
Things = list[tuple[str, Asset, Place]]


def _door(rng: Rng) -> tuple[Things, SceneTask]:
    return [("cabinet", cabinet(rng, drawers=0), _facing(rng))], OpenPart("cabinet")


def _drawer(rng: Rng) -> tuple[Things, SceneTask]:
    return [("cabinet", cabinet(rng, drawers=int(rng.integers(1, 3))), _facing(rng))], OpenPart("cabinet")


def _put_in_bowl(rng: Rng) -> tuple[Things, SceneTask]:
    side = float(rng.choice((-1.0, 1.0)))
    near = (float(rng.uniform(0.42, 0.52)), side * float(rng.uniform(0.08, 0.16)), float(rng.uniform(-0.6, 0.6)))
    far = (float(rng.uniform(0.45, 0.58)), -side * float(rng.uniform(0.08, 0.18)), 0.0)
    return [("item", item(rng), near), ("bowl", vessel(rng), far)], PutIn("item", "bowl")


FAMILIES: dict[str, Callable[[Rng], tuple[Things, SceneTask]]] = {
    "door": _door,
    "drawer": _drawer,
    "put_in_bowl": _put_in_bowl,
}


def _facing(rng: Rng) -> Place:
    """A place at which a cabinet's front looks at the robot, more or less."""
    return float(rng.uniform(0.58, 0.66)), float(rng.uniform(-0.08, 0.08)), np.pi + float(rng.uniform(-0.25, 0.25))


def _standing(name: str, asset: Asset, place: Place, table_m: float) -> Choice:
    x, y, yaw = place
    half = asset.half_extents_m
    pose: Pose = (x, y, table_m + half[2] + 0.001, float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))
    return Choice(SceneObject(name, OrientedBox(pose, half), (0.5, 0.5, 0.5)), asset, pose)


def _camera(rng: Rng) -> View:
    """Beside the robot, looking over the bench at the fronts of things."""
    side = float(rng.choice((-1.0, 1.0)))
    eye = np.array([rng.uniform(-0.05, 0.1), side * rng.uniform(0.35, 0.5), rng.uniform(0.45, 0.6)])
    forward = np.array([0.58, 0.0, 0.05]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    quat = frames.matrix_to_quat(np.stack([right, np.cross(forward, right), forward], 1))
    x, y, z, qw, qx, qy, qz = (float(one) for one in (*eye, *quat))
    height, width = CAMERA_HW
    return View((x, y, z, qw, qx, qy, qz), (615.0, 615.0, (width - 1) / 2, (height - 1) / 2), CAMERA_HW)


def _noisy(depth_m: FloatArray, noise: float, seed: int) -> FloatArray:
    """Stereo noise that grows with the square of the distance, millimetre steps, holes at edges and at random."""
    rng = np.random.default_rng(seed)
    shaken = depth_m + rng.standard_normal(depth_m.shape) * noise * np.square(depth_m)
    shaken = np.round(shaken, 3)
    jump = np.maximum(
        np.abs(np.diff(depth_m, axis=0, prepend=depth_m[:1])), np.abs(np.diff(depth_m, axis=1, prepend=depth_m[:, :1]))
    )
    lost = ((jump > 0.02) & (rng.random(depth_m.shape) < 0.7)) | (rng.random(depth_m.shape) < 0.005)
    return np.where(lost, 0.0, shaken).astype(np.float32)


def hidden_arm_env(seed: int, robot: str = "panda", family: str | None = None) -> RobotEnv:
    """An arm on a cleared bench, for identification: `sim.cousins.hidden_arm`'s of that seed, or that of a world."""
    truth = draw_truth(family or "door", seed)
    physics, hidden, unmodelled = truth.physics, None, truth.unmodelled
    if family is None:
        physics, hidden = draw_arm(seed, len(PARKED_JOINT_RAD[robot]))
        unmodelled = Unmodelled(timestep_s=0.001)
    scene = replace(truth.scene, objects=())
    spec, arm, layout = compose(scene, [], name="hidden", robot=robot, physics=physics, seed=seed)
    config = HiddenConfig(cameras={}, unmodelled=unmodelled, arm=hidden, stream_seed=seed)
    return RobotEnv(HiddenWorld(spec.compile(), arm, layout, FreeMotion(MOTION_ENV), config), MOTION_ENV)
