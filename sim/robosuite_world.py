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

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import UnknownNameError
from robot_rl.types import ArmTarget, FloatArray, TaskState
from sim.osc import OscConfig
from sim.rendering import RenderConfig, SceneRenderer, SimCamera, light_model, make_cameras
from sim.robosuite_arm import RobosuiteArm
from sim.seeding import seeded

ROBOTS = {"panda": "Panda", "ur5e": "UR5e"}
GRIPPER = "PandaGripper"
"""On either arm. robosuite's Robotiq 85, the UR5e's default, jams on collisions among its own links when it
closes on less than about 5 cm."""
CAMERAS = {"front": "agentview", "wrist": "robot0_eye_in_hand"}
ROBOT_PREFIXES = ("robot0_", "gripper0_", "fixed_mount0_")
PoseSpec = str | Callable[[Any], FloatArray]
"""`body:<name>`, `site:<name>`, or a function of the robosuite environment: a world position (3,)."""


@dataclass(frozen=True)
class RobosuiteWorldConfig:
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
    start_noise_m: float = 0.02
    """The TCP starts within this distance of its home position, per axis."""
    home_joint_rad: tuple[float, ...] | None = None
    """Joints (N,) of the home pose; robosuite's when None. Its orientation is then levelled as below."""
    start_rotvec_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The gripper starts turned by this rotation vector, in the TCP frame, from `START_QUAT_BASE_TCP`."""
    start_noise_yaw_rad: float = 0.0
    """And about the TCP's z by up to this angle, either way."""
    parked_bodies: tuple[str, ...] = ()
    """Bodies that robosuite drops far away (the task's unused objects): they collide with nothing."""
    model_seed: int = 0
    """Sizes that robosuite draws when it builds a model (Lift's cube) come from this."""
    stream_seed: int = 0
    """Begins the stream of seeds used when `reset` is given none."""
    gripper_travel_s: float = 0.5
    """Time of a full gripper stroke; robosuite's grippers take 10 steps at 20 Hz."""
    controller: OscConfig = field(default_factory=OscConfig)
    """Gains of the arm controller."""
    cameras: Mapping[str, str] = field(default_factory=lambda: dict(CAMERAS))
    """Our camera name -> the model's."""
    image_hw: tuple[int, int] = (64, 64)
    """Height and width of images."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """Drawing quality."""
    clock: Callable[[], float] | None = None
    """Source of stamps in seconds; simulation time when None."""


class RobosuiteWorld:
    """Implements `robot_rl.protocols.World`. Same seed and commands give the same bits, in any process."""

    def __init__(self, config: RobosuiteWorldConfig) -> None:
        self.config = config
        self.env = _make_env(config)
        self.model: mujoco.MjModel = self.env.sim.model._model
        self.data: mujoco.MjData = self.env.sim.data._data
        # No air: robosuite's hands have the inertia of metre-sized boxes, which MuJoCo gives the drag of such.
        self.model.opt.density = self.model.opt.viscosity = 0.0
        light_model(self.model, ROBOT_PREFIXES, config.render)
        self.clock = config.clock or (lambda: self.time_s)
        self.arm = RobosuiteArm(self.env, config, self.clock)
        renderer = SceneRenderer(self.model, self.data, config.image_hw, config.render)
        self._renderer = renderer
        self.cameras: Mapping[str, SimCamera] = make_cameras(config.cameras, renderer, self.model, self.clock)
        self._objects = {name: _pose_source(self.env, spec) for name, spec in config.objects.items()}
        for name in config.parked_bodies:
            geoms = self.model.geom_bodyid == self.model.body(name).id
            self.model.geom_contype[geoms] = self.model.geom_conaffinity[geoms] = 0
        self._episode_seeds = np.random.SeedSequence(config.stream_seed)
        self._substeps = max(1, round(1.0 / (config.controller.rate_hz * self.model.opt.timestep)))
        self._tick = self._steps = 0
        self._due_s = 0.0
        self.reset(config.model_seed)

    @property
    def time_s(self) -> float:
        """Simulated seconds since the last reset."""
        return self.data.time

    def task_state(self) -> TaskState:
        poses = {name: self.arm.in_base(*source()) for name, source in self._objects.items()}
        scalars = {name: float(read(self.env)) for name, read in self.config.scalars.items()}
        return TaskState(self.clock(), poses, scalars, bool(self.env._check_success()))

    def reset(self, seed: int | None) -> None:
        """Place objects and arm as drawn from `seed`; without one, from the stream of `stream_seed`."""
        if seed is None:
            seed = int(self._episode_seeds.spawn(1)[0].generate_state(1)[0])
        with seeded(self.env.rng, seed):
            self.env.reset()
        self.arm.start(np.random.default_rng([seed, 1]))
        self._due_s, self._steps = 0.0, 0

    def advance(self, duration_s: float) -> ArmTarget | None:
        """Step physics by `duration_s`; durations that are no multiple of the time step even out."""
        model, data = self.model, self.data
        self._due_s += duration_s
        due_steps = round(self._due_s / model.opt.timestep)
        while self._steps < due_steps:
            # Torques are renewed on a fixed grid of steps, however time is cut into calls.
            if self._steps % self._substeps == 0:
                self.arm.actuate()
            count = min(self._substeps - self._steps % self._substeps, due_steps - self._steps)
            # The state is kept as mj_step1 leaves it: kinematics, velocities and contacts are those of the
            # present, and mj_step2 completes the step.
            mujoco.mj_step2(model, data)
            if count > 1:
                mujoco.mj_step(model, data, count - 1)
            mujoco.mj_step1(model, data)
            self._steps += count
        if self.config.after_tick is not None:
            self.config.after_tick(self.env)
        return None

    def close(self) -> None:
        self._renderer.close()
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


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _make_env(config: RobosuiteWorldConfig) -> Any:
    """Build the robosuite environment once; the model is never rebuilt afterwards."""
    logging.getLogger("robosuite_logs").addFilter(_is_error)  # first: the import itself warns of what is not needed
    import robosuite

    if config.robot not in ROBOTS:
        raise UnknownNameError("simulated robot", config.robot, ROBOTS)
    if config.env_name not in robosuite.ALL_ENVIRONMENTS:
        raise UnknownNameError("robosuite environment", config.env_name, robosuite.ALL_ENVIRONMENTS)
    with seeded(None, config.model_seed):
        return robosuite.make(
            config.env_name,
            robots=ROBOTS[config.robot],
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            use_object_obs=False,
            initialization_noise=None,
            hard_reset=False,
            seed=config.model_seed,
            **{"gripper_types": GRIPPER, **config.env_options},
        )
