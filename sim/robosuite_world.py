"""robosuite's tasks as a lockstep `World`, without robosuite's Python step.

robosuite builds the model, places the objects and judges success; its controllers and observables
(88 % of its step time) are replaced by `sim.osc` and direct reads of MuJoCo's arrays.

Frames: the base frame is the arm's own `robot0_base` body. The TCP is the gripper's grip site, midway
between the finger tips: z points out along the gripper (away from the hand), the fingers open along x.
Stamps are simulation time, or what `RobosuiteWorldConfig.clock` says.
"""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from robot_rl.errors import UnknownNameError
from robot_rl.types import ArmTarget, FloatArray, TaskState
from sim.robosuite_arm import GRIPPER, PREFIXES, arm_model, check_robot, quiet_import
from sim.seeding import seeded
from sim.world import SimWorld, SimWorldConfig

CAMERAS = {"front": "agentview", "wrist": "robot0_eye_in_hand"}
ARENA = "64M"
"""MuJoCo's memory for contacts and constraints of one world. robosuite asks for 5000 of each, 1.3 GB of addresses, and
a process with more addresses than the machine has memory cannot fork."""
PoseSpec = str | Callable[[Any], FloatArray]
"""`body:<name>`, `site:<name>`, or a function of the robosuite environment: a world position (3,)."""


@dataclass(frozen=True)
class RobosuiteWorldConfig(SimWorldConfig):
    """Which robosuite environment, and how it is driven."""

    env_name: str = "Lift"
    """robosuite's registered name."""
    robot: str = "panda"
    """One of `ROBOTS`."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the robosuite environment, such as `gripper_types`."""
    objects: Mapping[str, PoseSpec] = field(default_factory=dict)
    """Name in the task state -> where its pose is read."""
    scalars: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    """Name in the task state -> function of the robosuite environment."""
    after_tick: Callable[[Any], None] | None = None
    """Called with the robosuite environment after every `advance`, for tasks that keep score as they go."""
    parked_bodies: tuple[str, ...] = ()
    """Bodies that robosuite drops far away (the task's unused objects): they collide with nothing."""
    model_seed: int = 0
    """Sizes that robosuite draws when it builds a model (Lift's cube) come from this."""
    cameras: Mapping[str, str] = field(default_factory=lambda: dict(CAMERAS))
    """Our camera name -> the model's."""


class RobosuiteWorld(SimWorld):
    """A robosuite environment as a `World`."""

    def __init__(self, config: RobosuiteWorldConfig) -> None:
        self.config = config
        self.env = env = _make_env(config)
        model, data = env.sim.model._model, env.sim.data._data
        robot = env.robots[0]
        arm = arm_model(robot.robot_model, robot.gripper["right"], robot.init_qpos, model)
        super().__init__(model, data, arm, config, PREFIXES)
        self._objects = {name: _pose_source(env, spec) for name, spec in config.objects.items()}
        for name in config.parked_bodies:
            geoms = self.model.geom_bodyid == self.model.body(name).id
            self.model.geom_contype[geoms] = self.model.geom_conaffinity[geoms] = 0
        self.reset(config.model_seed)

    def task_state(self) -> TaskState:
        poses = {name: self.arm.in_base(*source()) for name, source in self._objects.items()}
        scalars = {name: float(read(self.env)) for name, read in self.config.scalars.items()}
        return TaskState(self.clock(), poses, scalars, bool(self.env._check_success()))

    def _place(self, seed: int) -> None:
        with seeded(self.env.rng, seed):
            self.env.reset()

    def advance(self, duration_s: float) -> ArmTarget | None:
        super().advance(duration_s)
        if self.config.after_tick is not None:
            self.config.after_tick(self.env)
        return None

    def close(self) -> None:
        super().close()
        self.env.close()


def _pose_source(env: Any, spec: PoseSpec) -> Callable[[], tuple[FloatArray, FloatArray]]:
    """Reader of a world position (3,) and rotation matrix (9,)."""
    if not isinstance(spec, str):
        return lambda: (spec(env), np.eye(3).ravel())
    model, data = env.sim.model._model, env.sim.data._data
    kind, _, name = spec.partition(":")
    if kind not in ("body", "site"):
        raise UnknownNameError("object kind", kind, ("body", "site"))
    count, access = (model.nbody, model.body) if kind == "body" else (model.nsite, model.site)
    present = [access(index).name for index in range(count)]
    if name not in present:
        raise UnknownNameError(kind, name, present)
    index = present.index(name)
    positions, matrices = (data.xpos, data.xmat) if kind == "body" else (data.site_xpos, data.site_xmat)
    return lambda: (positions[index], matrices[index])


def _make_env(config: RobosuiteWorldConfig) -> Any:
    """Build the robosuite environment once; the model is never rebuilt afterwards."""
    robosuite, robot = quiet_import(), check_robot(config.robot)
    if config.env_name not in robosuite.ALL_ENVIRONMENTS:
        raise UnknownNameError("robosuite environment", config.env_name, robosuite.ALL_ENVIRONMENTS)
    with seeded(None, config.model_seed):
        return _env_class(config.env_name)(
            robots=robot,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
            initialization_noise=None,
            hard_reset=False,
            seed=config.model_seed,
            **{"gripper_types": GRIPPER, **config.env_options},
        )


@cache
def _env_class(name: str) -> Any:
    """robosuite's class with the `ARENA`; the registry keeps robosuite's own."""
    registry = quiet_import().environments.REGISTERED_ENVS
    own = registry[name]

    def edit_model_xml(self: Any, xml: str) -> str:
        return re.sub(r"<size [^>]*/>", f'<size memory="{ARENA}"/>', own.edit_model_xml(self, xml))

    small = type(own)(name, (own,), {"edit_model_xml": edit_model_xml})
    registry[name] = own
    return small
