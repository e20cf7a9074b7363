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
    """Loose objects start within this distance of their place, per axis."""
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
        self._loose = [
            int(model.joint(model.body(f"{one.name}/{ROOT}").jntadr[0]).qposadr[0])
            for one in layout.objects
            if one.is_loose
        ]
        self._fixed = [model.body(f"{one.name}/{ROOT}").id for one in layout.objects if not one.is_loose]
        self._fixed_pos, self._fixed_quat = model.body_pos[self._fixed].copy(), model.body_quat[self._fixed].copy()
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
        for address in self._loose:
            pose = data.qpos[address : address + 7]
            pose[:] = _moved(pose, config.loose_noise_m, config.loose_noise_yaw_rad, random)
        for body, pos, quat in zip(self._fixed, self._fixed_pos, self._fixed_quat, strict=True):
            pose = _moved(np.concatenate([pos, quat]), config.fixed_noise_m, config.fixed_noise_yaw_rad, random)
            self.model.body_pos[body], self.model.body_quat[body] = pose[:3], pose[3:]
        self._sensor_random = np.random.default_rng([seed, 3])
        self._bias = config.pose_bias_m * random.standard_normal(3)


def _moved(pose: FloatArray, distance_m: float, angle_rad: float, random: np.random.Generator) -> FloatArray:
    """`pose` (7,) moved sideways and turned about the vertical, each by up to so much either way."""
    offset = np.append(random.uniform(-1.0, 1.0, 2) * distance_m, 0.0)
    turn = frames.rotvec_to_quat(np.array([0.0, 0.0, random.uniform(-1.0, 1.0) * angle_rad]))
    return np.concatenate([pose[:3] + offset, frames.quat_multiply(turn, pose[3:])])


def make_cousin_world(folder: Path, task: SceneTask, config: CousinWorldConfig) -> CousinWorld:
    """The world of `task` in the scene kept in `folder`."""
    return CousinWorld(*read_folder(folder), task, config)


def make_cousin_env(folder: Path, task: SceneTask, config: CousinWorldConfig | None = None) -> RobotEnv:
    """The `Env` over it."""
    config = replace(config or CousinWorldConfig(), image_hw=task.env.image_hw)
    return RobotEnv(make_cousin_world(folder, task, config), task.env)
