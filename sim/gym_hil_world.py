"""gym-hil's `PandaPickCubeBase-v0` as a lockstep `World`, for comparison with LeRobot's benchmark.

gym-hil 0.1.14 needs mujoco < 3.9 and this project's robosuite runs on 3.9.0, so it has an environment of its
own: `make gym-hil` sets it up (`.venv-gym-hil`) and runs `robot-rl train task=gym_hil_pick` in it.

What is gym-hil's: model, controller, placement of the cube (random: `random_block_position`), success (raised
by 0.1 m). What differs: the gripper is 0 closed ... 1 open and not gym-hil's increment (+1 closes), the agent
steers by absolute pose targets (the controller ignores their rotation), and a cube that leaves the sampling
area does not end the episode, it raises the scalar `out_of_bounds`.

Frames: the base frame is the Panda's `link0`. The TCP is gym-hil's `pinch` site: z points out along the
gripper, the fingers open along y.
"""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import ArmState, ArmTarget, FloatArray, TaskState
from sim.rendering import RenderConfig, SceneRenderer, SimCamera, choose_gl, light_model, make_cameras, use_gl
from sim.seeding import seeded

TASKS = {"gym_hil_pick": "gym_hil/PandaPickCubeBase-v0"}
CAMERAS = {"front": "front", "wrist": "handcam_rgb"}
GEOM_GROUPS = (0, 2)  # floor and block, visual meshes
SAMPLING_AREA_M = np.array([[0.3, -0.15], [0.5, 0.15]])  # gym_hil's panda_pick_gym_env.py
AREA_MARGIN_M = 0.05
CLOSED_DRIVER_RAD = 0.8  # range of the Robotiq 2F-85's driver joint


def make_world(
    task: str = "gym_hil_pick",
    robot: str = "panda",
    *,
    image_hw: tuple[int, int] = (64, 64),
    render: RenderConfig | None = None,
    stream_seed: int = 0,
) -> GymHilWorld:
    """A lockstep world for `task`; the robot is gym-hil's Panda, whatever `robot` says of it."""
    if task not in TASKS:
        raise UnknownNameError("gym-hil task", task, TASKS)
    if robot != "panda":
        raise UnknownNameError("gym-hil robot", robot, ("panda",))
    return GymHilWorld(TASKS[task], image_hw, render or RenderConfig(), stream_seed)


class GymHilWorld:
    """Implements `robot_rl.protocols.World`."""

    def __init__(self, env_id: str, image_hw: tuple[int, int], render: RenderConfig, stream_seed: int) -> None:
        self.env = _make_env(env_id)
        self.model: mujoco.MjModel = self.env.model
        self.data: mujoco.MjData = self.env.data
        light_model(self.model, (), render)
        self.arm = GymHilArm(self)
        self._renderer = SceneRenderer(self.model, self.data, image_hw, render, GEOM_GROUPS)
        self.cameras: Mapping[str, SimCamera] = make_cameras(
            CAMERAS, self._renderer, self.model, lambda: self.data.time
        )
        self._episode_seeds = np.random.SeedSequence(stream_seed)
        self.reset(stream_seed)

    def task_state(self) -> TaskState:
        block = self.data.body("block")
        outside = np.any(block.xpos[:2] < SAMPLING_AREA_M[0] - AREA_MARGIN_M) or np.any(
            block.xpos[:2] > SAMPLING_AREA_M[1] + AREA_MARGIN_M
        )
        poses = {"cube": self.arm.in_base(block.xpos, block.xmat)}
        success = bool(self.env._compute_reward() == 1.0)
        return TaskState(self.data.time, poses, {"out_of_bounds": float(outside)}, success)

    def reset(self, seed: int | None) -> None:
        """gym-hil draws the cube's place from numpy's global generator, whatever seed it is given."""
        if seed is None:
            seed = int(self._episode_seeds.spawn(1)[0].generate_state(1)[0])
        with seeded(None, seed):
            self.env.reset(seed=seed)
        self.arm.hold()

    def advance(self, duration_s: float) -> ArmTarget | None:
        """One gym-hil step, whose length is fixed; raises `ConfigError` for any other duration."""
        if abs(duration_s - self.env.control_dt) > 1e-9:
            rate_hz = 1.0 / self.env.control_dt
            raise ConfigError(f"gym-hil steps by {self.env.control_dt} s; set env.rate_hz={rate_hz:g}")
        self.env.apply_action(self.arm.increments())
        mujoco.mj_forward(self.model, self.data)
        return None

    def close(self) -> None:
        self._renderer.close()
        self.env.close()


class GymHilArm:
    """Turns absolute targets into the increments that gym-hil adds to its own target."""

    def __init__(self, world: GymHilWorld) -> None:
        self._model, self._data, self._env = world.model, world.data, world.env
        self._site, self._base = self._data.site("pinch"), self._data.body("link0")
        self._joints = [self._model.joint(f"joint{index}").qposadr[0] for index in range(1, 8)]
        self._driver = self._data.joint("right_driver_joint")
        self.hold()

    def hold(self) -> None:
        self._goal = self._data.mocap_pos[0].copy()
        self._gripper = 1.0

    def state(self) -> ArmState:
        velocity = np.empty(6)
        kind = mujoco.mjtObj.mjOBJ_SITE
        mujoco.mj_objectVelocity(self._model, self._data, kind, self._site.id, velocity, 0)
        to_base = self._base.xmat.reshape(3, 3).T
        return ArmState(
            self._data.time,
            self.in_base(self._site.xpos, self._site.xmat),
            np.concatenate([to_base @ velocity[3:], to_base @ velocity[:3]]),
            self._data.qpos[self._joints].copy(),
            float(np.clip(1.0 - self._driver.qpos[0] / CLOSED_DRIVER_RAD, 0.0, 1.0)),
        )

    def command(self, target: ArmTarget) -> None:
        pose = np.asarray(target.pose_base_tcp, np.float64)
        if pose.shape != (7,) or not np.isfinite(pose).all():
            raise ConfigError(f"target pose must be (7,) and finite; got {pose}")
        self._goal = self._base.xpos + self._base.xmat.reshape(3, 3) @ pose[:3]
        self._gripper = target.gripper_position

    def increments(self) -> FloatArray:
        """gym-hil's action (7,): translation of its target in m, rotation (ignored), change of closing."""
        closing = self._data.ctrl[self._env._gripper_ctrl_id] / 255.0
        travel = self._goal - self._data.mocap_pos[0]
        return np.array([*travel, 0.0, 0.0, 0.0, (1.0 - self._gripper) - closing])

    def in_base(self, position: FloatArray, matrix9: FloatArray) -> FloatArray:
        """Pose (7,) in the base frame of a world position (3,) and rotation matrix (9,)."""
        to_base, quat = self._base.xmat.reshape(3, 3).T, np.empty(4)
        mujoco.mju_mat2Quat(quat, (to_base @ matrix9.reshape(3, 3)).ravel())
        return np.concatenate([to_base @ (position - self._base.xpos), quat])


def _make_env(env_id: str) -> Any:
    """gym-hil's environment without Gymnasium's wrappers; it opens an OpenGL context even without images."""
    try:
        import gym_hil  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"gym-hil is not installed in {sys.prefix} ({error}); it needs an environment of its own, "
            "see sim/gym_hil_world.py"
        ) from error
    import gymnasium as gym

    use_gl(choose_gl())
    return gym.make(env_id, random_block_position=True, disable_env_checker=True).unwrapped
