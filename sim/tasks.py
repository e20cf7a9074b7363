"""The simulated tasks: what robosuite builds, what the agent sees and may do, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.protocols import World
from robot_rl.types import ActionSpec, ObservationSpec
from sim.rendering import RenderConfig
from sim.robosuite_world import PoseSpec, RobosuiteWorld, RobosuiteWorldConfig


@dataclass(frozen=True)
class SimTask:
    """One task: a robosuite environment and the default `EnvConfig` for it."""

    env_name: str
    """robosuite's registered name."""
    objects: Mapping[str, PoseSpec]
    """Name in the task state -> where its pose is read; poses in the base frame."""
    env: EnvConfig
    """Rate, actions, scales, horizon, and which objects and scalars the agent sees."""
    scalars: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    """Name in the task state -> function of the robosuite environment."""
    after_tick: Callable[[Any], None] | None = None
    """See `RobosuiteWorldConfig.after_tick`."""
    home_joint_rad: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Home joints by robot, where robosuite's are not suitable."""
    world_options: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of `RobosuiteWorldConfig` fields (start noise, options of the robosuite environment)."""


def _hinge_rad(env: Any) -> float:
    return env.sim.data.qpos[env.hinge_qpos_addr]


def _latch_rad(env: Any) -> float:
    return env.sim.data.qpos[env.handle_qpos_addr]


def _wiped_fraction(env: Any) -> float:
    return len(env.wiped_markers) / env.num_markers


def _dirt_left(env: Any) -> np.ndarray:
    """World positions (M, 3) of the markers that are not wiped yet; the last one's when all are."""
    wiped = {marker.root_body for marker in env.wiped_markers}
    left = [marker.root_body for marker in env.model.mujoco_arena.markers if marker.root_body not in wiped]
    left = left or [env.model.mujoco_arena.markers[-1].root_body]
    bodies = [env.sim.model.body_name2id(name) for name in left]
    return env.sim.data._data.xpos[bodies]


def _dirt_centroid(env: Any) -> np.ndarray:
    return _dirt_left(env).mean(0)


def _dirt_nearest(env: Any) -> np.ndarray:
    left = _dirt_left(env)
    tool = env.sim.data.site_xpos[env.robots[0].eef_site_id["right"]]
    return left[np.linalg.norm(left - tool, axis=1).argmin()]


def _score_wiping(env: Any) -> None:
    """robosuite notes which markers are wiped as a side effect of its reward."""
    env.reward()


REACH = ("x", "y", "z")
GRASP = ("x", "y", "z", "gripper")
GRASP_TURN = ("x", "y", "z", "rz", "gripper")

TASKS: dict[str, SimTask] = {
    # Success: the cube's centre is 4 cm higher than the table top (it rests at 2 cm).
    "lift": SimTask(
        "Lift",
        {"cube": "body:cube_main"},
        EnvConfig(action=GRASP, translation_m=0.025, max_steps=150, objects=("cube",)),
    ),
    # Success: hinge angle above 0.3 rad. The handle has to be pressed first (use_latch).
    # The hand starts level, pointing at the door with one finger above the other: it turns with the handle
    # (rz) and needs no other rotation. Pointing down, as elsewhere, it would touch the panel.
    "door": SimTask(
        "Door",
        {"handle": "site:Door_handle"},
        EnvConfig(
            action=GRASP_TURN,
            translation_m=0.025,
            rotation_rad=0.15,
            max_steps=200,
            objects=("handle",),
            scalars=("hinge_rad", "latch_rad"),
        ),
        scalars={"hinge_rad": _hinge_rad, "latch_rad": _latch_rad},
        home_joint_rad={
            "panda": (0.54, 0.18, -0.14, -2.47, -1.20, 1.41, -1.25),
            "ur5e": (-2.65, -1.86, -2.04, -2.38, 0.50, 3.14),
        },
        # Half a turn about (-1, 0, 1): TCP z into the door, x up. With x down, the Panda could not turn far enough.
        world_options={"start_rotvec_rad": (-np.pi / 2**0.5, 0.0, np.pi / 2**0.5)},
    ),
    # Success: the nut's centre is within 3 cm of the peg's axis sideways and below 5 cm above the table, and
    # the TCP is more than 4.2 cm from it (true when it is held by its handle).
    "nut_assembly_square": SimTask(
        "NutAssemblySquare",
        {"nut": "body:SquareNut_main", "peg": "body:peg1"},
        EnvConfig(action=GRASP_TURN, translation_m=0.025, rotation_rad=0.15, max_steps=200, objects=("nut", "peg")),
        world_options={"parked_bodies": ("RoundNut_main",)},
    ),
    # Success: the can is in its compartment of the other bin and the TCP more than 4.2 cm from its centre.
    "pick_place_can": SimTask(
        "PickPlaceCan",
        {"can": "body:Can_main", "goal": "body:VisualCan_main"},
        EnvConfig(action=GRASP, translation_m=0.025, max_steps=300, gripper_hold_s=0.6, objects=("can", "goal")),
        world_options={"parked_bodies": ("Milk_main", "Bread_main", "Cereal_main")},
    ),
    # Success: the red cube rests on the green one, lifted, touching it, and is not held.
    "stack": SimTask(
        "Stack",
        {"red": "body:cubeA_main", "green": "body:cubeB_main"},
        EnvConfig(action=GRASP_TURN, translation_m=0.025, rotation_rad=0.15, max_steps=150, objects=("red", "green")),
    ),
    # Success: every marker has been under the wiper while it was in contact. No gripper.
    "wipe": SimTask(
        "Wipe",
        {"nearest": _dirt_nearest, "centroid": _dirt_centroid},
        EnvConfig(
            action=REACH,
            translation_m=0.025,
            max_steps=300,
            objects=("nearest", "centroid"),
            scalars=("wiped_fraction",),
        ),
        scalars={"wiped_fraction": _wiped_fraction},
        after_tick=_score_wiping,
        world_options={"env_options": {"gripper_types": "WipingGripper"}},
    ),
}


@dataclass(frozen=True)
class TaskConfig:
    """A file of conf/task: which world, and what the agent sees and does in it."""

    name: str
    """The task's name for its world, its expert (`sim.experts`) and in logs."""
    env: EnvConfig
    """What the agent sees and does."""
    world: str = "sim.tasks:make_world"
    """`package.module:function` that builds the simulated world from (task, robot, image_hw=...)."""

    @property
    def observation_spec(self) -> ObservationSpec:
        return self.env.observation_spec

    @property
    def action_spec(self) -> ActionSpec:
        return self.env.action_spec

    @property
    def rate_hz(self) -> float:
        return self.env.rate_hz

    def build_world(self, robot: str, **options: Any) -> World:
        """The world in lockstep simulation, with `robot` in it; `options` are fields of its `SimWorldConfig`."""
        module, _, function = self.world.partition(":")
        make = getattr(importlib.import_module(module), function, None)
        if make is None:
            raise ConfigError(f"task.world: {module} has no function {function!r}")
        return make(self.name, robot, **{"image_hw": self.env.image_hw, **options})

    def seeing(self, other: TaskConfig) -> TaskConfig:
        """The same task, with what is seen in `other` as well; `ConfigError` when it is not the same otherwise."""
        if (self.name, self.world) != (other.name, other.world):
            raise ConfigError(f"{self.name} ({self.world}) is not {other.name} ({other.world})")
        return replace(self, env=self.env.seeing(other.env))


def sim_task(name: str) -> SimTask:
    """The task registered as `name`; `UnknownNameError` lists the others."""
    if name not in TASKS:
        raise UnknownNameError("simulated task", name, TASKS)
    return TASKS[name]


def make_world(
    task: str,
    robot: str = "panda",
    *,
    image_hw: tuple[int, int] = (64, 64),
    render: RenderConfig | None = None,
    **overrides: Any,
) -> RobosuiteWorld:
    """A lockstep world for `task`; `overrides` are fields of `RobosuiteWorldConfig`."""
    spec = sim_task(task)
    config = RobosuiteWorldConfig(
        env_name=spec.env_name,
        robot=robot,
        objects=spec.objects,
        scalars=spec.scalars,
        after_tick=spec.after_tick,
        home_joint_rad=spec.home_joint_rad.get(robot),
        image_hw=image_hw,
        render=render or RenderConfig(),
    )
    return RobosuiteWorld(replace(config, **{**spec.world_options, **overrides}))


def env_config(
    task: str,
    *,
    cameras: tuple[str, ...] = (),
    image_hw: tuple[int, int] = (64, 64),
    include_object_state: bool = True,
    **overrides: Any,
) -> EnvConfig:
    """The task's `EnvConfig`; without object state the agent has to rely on its cameras."""
    config = replace(sim_task(task).env, cameras=tuple(cameras), image_hw=tuple(image_hw))
    if not include_object_state:
        config = replace(config, objects=(), scalars=())
    return replace(config, **overrides)


def make_env(
    task: str,
    robot: str = "panda",
    *,
    seed: int = 0,
    cameras: tuple[str, ...] = (),
    image_hw: tuple[int, int] = (64, 64),
    include_object_state: bool = True,
    render: RenderConfig | None = None,
    **overrides: Any,
) -> RobotEnv:
    """`RobotEnv` over a lockstep world.

    `seed` begins the stream that `reset(seed=None)` draws from; `overrides` are fields of `EnvConfig`.
    """
    config = env_config(
        task, cameras=cameras, image_hw=image_hw, include_object_state=include_object_state, **overrides
    )
    return RobotEnv(make_world(task, robot, image_hw=image_hw, render=render, stream_seed=seed), config)
