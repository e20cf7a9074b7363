"""A generated scene as a `World`: an `Env` like any other, over a scene's folder."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.env import RobotEnv
from robot_rl.types import FloatArray, TaskState
from sim.arm import ArmModel
from sim.assets.asset import ROOT
from sim.cousins.folder import read_folder
from sim.cousins.layout import SceneLayout
from sim.cousins.scene_task import SceneTask
from sim.robosuite_arm import PREFIXES
from sim.world import SimWorld, SimWorldConfig

WRIST_CAMERA = "robot0_eye_in_hand"


@dataclass(frozen=True)
class CousinWorldConfig(SimWorldConfig):
    """How episodes in a generated scene begin and what its sensors do."""

    cameras: Mapping[str, str] = field(default_factory=lambda: {"front": "view_0", "wrist": WRIST_CAMERA})
    """Our camera name -> the model's."""
    loose_noise_m: float = 0.02
    """Loose objects start within this distance of their place, per axis; along a wall alone where they touch it."""
    loose_noise_yaw_rad: float = 0.2
    """And turned by up to this angle, either way."""
    fixed_noise_m: float = 0.0
    """Fixed objects stand within this distance of their place, per axis: nobody puts a cabinet back exactly."""
    fixed_noise_yaw_rad: float = 0.0
    """And turned by up to this angle, either way."""
    pose_noise_m: float = 0.0
    """Standard deviation of reported positions, in every reading."""
    pose_bias_m: float = 0.0
    """Standard deviation of a calibration error, per axis, drawn for every episode."""


class CousinWorld(SimWorld):
    """One scene and one task in it. Same seed and commands give the same bits, in any process."""

    def __init__(
        self, model: mujoco.MjModel, arm: ArmModel, layout: SceneLayout, task: SceneTask, config: CousinWorldConfig
    ) -> None:
        self.config, self.layout = config, layout
        gain = layout.physics.arm_gain
        controller = config.controller
        controller = replace(
            controller, position_kp=controller.position_kp * gain, rotation_kp=controller.rotation_kp * gain
        )
        start = {
            "delay_s": layout.physics.delay_s,
            "joints": layout.physics.arm,
            **task.start(layout.robot, layout, model),
        }
        render = replace(config.render, visual_robot=config.render.visual_robot or layout.robot_faces > 0)
        config = replace(config, controller=controller, render=render, **start)
        super().__init__(model, mujoco.MjData(model), arm, config, PREFIXES)
        self.task, self._task = task, task.bind(model, self.data, layout)
        bodies = {one.name: model.body(f"{one.name}/{ROOT}") for one in layout.objects}
        self._loose = {
            one.name: int(model.joint(bodies[one.name].jntadr[0]).qposadr[0]) for one in layout.objects if one.is_loose
        }
        self._fixed = {one.name: int(bodies[one.name].id) for one in layout.objects if not one.is_loose}
        self._rest = {name: model.qpos0[at : at + 7].copy() for name, at in self._loose.items()} | {
            name: np.concatenate([model.body_pos[body], model.body_quat[body]]) for name, body in self._fixed.items()
        }
        self._sensor_random = np.random.default_rng(0)
        self._bias = np.zeros(3)
        self.reset(0)

    def task_state(self) -> TaskState:
        config, random = self.config, self._sensor_random
        poses = {name: self.arm.in_base(*read()) for name, read in self._task.frames.items()}
        for pose in poses.values():
            pose[:3] += self._bias + config.pose_noise_m * random.standard_normal(3)
        scalars = {name: read() for name, read in self._task.scalars.items()}
        return TaskState(self.clock(), poses, scalars, bool(self._task.success(self.arm.state())))

    def _place(self, seed: int) -> None:
        """Everything as settled, then moved a little."""
        config, data, random = self.config, self.data, np.random.default_rng([seed, 2])
        mujoco.mj_resetData(self.model, data)
        loose, fixed = (
            (config.loose_noise_m, config.loose_noise_yaw_rad),
            (config.fixed_noise_m, config.fixed_noise_yaw_rad),
        )
        noise = {name: _drawn(*loose, random) for name in self._loose}
        noise |= {name: _drawn(*fixed, random) for name in self._fixed}
        starts: dict[str, FloatArray] = {}
        for name in noise:
            self._start(name, noise, starts)
        for name, address in self._loose.items():
            data.qpos[address : address + 7] = starts[name]
        for name, body in self._fixed.items():
            self.model.body_pos[body], self.model.body_quat[body] = starts[name][:3], starts[name][3:]
        self._sensor_random = np.random.default_rng([seed, 3])
        self._bias = config.pose_bias_m * random.standard_normal(3)

    def _start(self, name: str, noise: Mapping[str, FloatArray], starts: dict[str, FloatArray]) -> FloatArray:
        """The pose (7,) moved by its noise: what touches a side slides along it alone, and goes where that goes."""
        if name in starts:
            return starts[name]
        starts[name] = pose = self._rest[name].copy()  # what is against each other in a circle meets this
        touched = [one for one in self.layout.placed(name).relations if one.normal_base is not None]
        shift, turn_rad = noise[name][:2], float(noise[name][2])
        if touched:
            normals = np.array([one.normal_base for one in touched])[:, :2]
            shift, turn_rad = shift - np.linalg.pinv(normals) @ normals @ shift, 0.0
        pose[:2] += shift
        pose[3:] = frames.quat_multiply(frames.rotvec_to_quat(np.array([0.0, 0.0, turn_rad])), pose[3:])
        leader = next((one.other for one in touched if one.other in noise), None)
        if leader is not None:
            moved = self._start(leader, noise, starts)
            pose = frames.compose(moved, frames.relative(self._rest[leader], pose))
        starts[name] = pose
        return pose


def _drawn(distance_m: float, angle_rad: float, random: np.random.Generator) -> FloatArray:
    """A shift (x, y) and a turn about the vertical, each by up to so much either way."""
    return np.append(random.uniform(-1.0, 1.0, 2) * distance_m, random.uniform(-1.0, 1.0) * angle_rad)


def make_cousin_world(folder: Path, task: SceneTask, config: CousinWorldConfig) -> CousinWorld:
    """The world of `task` in the scene kept in `folder`."""
    return CousinWorld(*read_folder(folder), task, config)


def make_cousin_env(folder: Path, task: SceneTask, config: CousinWorldConfig | None = None) -> RobotEnv:
    """The `Env` over it."""
    config = replace(config or CousinWorldConfig(), image_hw=task.env.image_hw)
    return RobotEnv(make_cousin_world(folder, task, config), task.env)
