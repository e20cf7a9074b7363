"""robosuite's tasks as a lockstep `World`, without robosuite's Python step.

robosuite builds the model, places the objects and judges success; its controllers and observables
(88 % of its step time) are replaced by `sim.osc` and direct reads of MuJoCo's arrays.

Frames: the base frame is the arm's own `robot0_base` body. The TCP is the gripper's grip site, midway
between the finger tips: z points out along the gripper (away from the hand), the fingers open along x.
Stamps are simulation time, or what `RobosuiteWorldConfig.clock` says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import ArmState, ArmTarget, FloatArray, TaskState
from sim.osc import OscConfig, PoseController
from sim.rendering import RenderConfig, SceneRenderer, SimCamera, light_model, make_cameras
from sim.seeding import seeded

ROBOTS = {"panda": "Panda", "ur5e": "UR5e"}
GRIPPER = "PandaGripper"
"""On either arm. robosuite's Robotiq 85, the UR5e's default, jams on collisions among its own links when it
closes on less than about 5 cm."""
CAMERAS = {"front": "agentview", "wrist": "robot0_eye_in_hand"}
ROBOT_PREFIXES = ("robot0_", "gripper0_", "fixed_mount0_")
START_QUAT_BASE_TCP = frames.matrix_to_quat(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]))
"""Every episode starts with the gripper level: TCP x along base y, y along base x, z down. (robosuite's Panda
starts tilted by 7 degrees, which matters to agents that do not control rotation.)"""


PoseSpec = str | Callable[[Any], FloatArray]
"""`body:<name>`, `site:<name>`, or a function of the robosuite environment that returns a world position (3,)."""


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
    """Name in the task state -> `body:<name>` or `site:<name>` of the model, or a function (see `PoseSpec`)."""
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
    controller: OscConfig = OscConfig()
    """Gains of the arm controller."""
    cameras: Mapping[str, str] = field(default_factory=lambda: dict(CAMERAS))
    """Our camera name -> the model's."""
    image_hw: tuple[int, int] = (64, 64)
    """Height and width of images."""
    render: RenderConfig = RenderConfig()
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
        light_model(self.model, ROBOT_PREFIXES, config.render)
        self.clock = config.clock or (lambda: self.time_s)
        self.arm = SimArm(self)
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


class SimArm:
    """The arm and gripper of a `RobosuiteWorld`; implements `robot_rl.protocols.Arm`."""

    def __init__(self, world: RobosuiteWorld) -> None:
        self._world, self._model, self._data = world, world.model, world.data
        robot = world.env.robots[0]
        self._site_id = self._model.site(robot.gripper["right"].important_sites["grip_site"]).id
        self._base_id = self._model.body("robot0_base").id
        self.joint_names: tuple[str, ...] = tuple(robot.robot_joints)
        joints = [self._model.joint(name) for name in self.joint_names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self._actuators = np.array([self._model.actuator(name).id for name in robot.robot_model.actuators])
        self._gripper = _Gripper(world)
        self._controller = PoseController(
            self._model,
            self._data,
            self._site_id,
            self._dofs,
            self._qpos,
            self._model.actuator_ctrlrange[self._actuators, 1],
            world.config.controller,
        )
        home = robot.init_qpos if world.config.home_joint_rad is None else world.config.home_joint_rad
        self._home_joint_rad = np.array(home, np.float64)

    @property
    def has_gripper(self) -> bool:
        return self._gripper.present

    def state(self) -> ArmState:
        data = self._data
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_SITE, self._site_id, velocity, 0)
        to_base = data.xmat[self._base_id].reshape(3, 3).T
        return ArmState(
            self._world.clock(),
            self.in_base(data.site_xpos[self._site_id], data.site_xmat[self._site_id]),
            np.concatenate([to_base @ velocity[3:], to_base @ velocity[:3]]),
            data.qpos[self._qpos].copy(),
            self._gripper.position(),
        )

    def command(self, target: ArmTarget) -> None:
        """Go to an absolute pose in the base frame; raises `ConfigError` for a malformed pose."""
        pose = np.asarray(target.pose_base_tcp, np.float64)
        norm = float(np.linalg.norm(pose[3:])) if pose.shape == (7,) else 0.0
        if not np.isfinite(pose).all() or abs(norm - 1.0) > 1e-3:
            raise ConfigError(f"target pose must be (7,), finite, with a unit quaternion; got {pose}")
        world_pose = frames.compose(self._base_pose(), pose)
        self._controller.command(world_pose[:3], world_pose[3:])
        self._gripper.command(target.gripper_position)

    def actuate(self) -> None:
        """Write torques and gripper command for the coming controller period."""
        self._data.ctrl[self._actuators] = self._controller.torques()
        self._gripper.actuate()

    def start(self, rng: np.random.Generator) -> None:
        """Put the arm at its home pose plus noise, at rest, gripper open, and hold there."""
        config, data = self._world.config, self._data
        data.qpos[self._qpos] = self._home_joint_rad
        data.qvel[self._dofs] = 0.0
        mujoco.mj_forward(self._model, data)
        position = data.site_xpos[self._site_id] + rng.uniform(-1.0, 1.0, 3) * config.start_noise_m
        yaw = np.array([0.0, 0.0, rng.uniform(-1.0, 1.0) * config.start_noise_yaw_rad])
        turned = frames.rotvec_to_quat(np.asarray(config.start_rotvec_rad, np.float64))
        quat = frames.quat_multiply(START_QUAT_BASE_TCP, frames.quat_multiply(turned, frames.rotvec_to_quat(yaw)))
        quat = frames.quat_multiply(data.xquat[self._base_id], quat)
        self._solve_inverse_kinematics(position, quat)
        self._gripper.start()
        mujoco.mj_forward(self._model, data)
        self._controller.hold()

    def _solve_inverse_kinematics(self, position: FloatArray, quat: FloatArray) -> None:
        """Gauss-Newton with damping from the present joints; the start noise is small, so it converges."""
        model, data, jacobian = self._model, self._data, np.zeros((6, self._model.nv))
        for _ in range(20):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            present = frames.matrix_to_quat(data.site_xmat[self._site_id].reshape(3, 3))
            turn = frames.quat_to_rotvec(frames.quat_multiply(quat, frames.quat_inverse(present)))
            error = np.concatenate([position - data.site_xpos[self._site_id], turn])
            if float(np.abs(error).max()) < 1e-6:
                break
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._site_id)
            arm = jacobian[:, self._dofs]
            data.qpos[self._qpos] += arm.T @ np.linalg.solve(arm @ arm.T + 1e-6 * np.eye(6), error)

    def _base_pose(self) -> FloatArray:
        return np.concatenate([self._data.xpos[self._base_id], self._data.xquat[self._base_id]])

    def in_base(self, position: FloatArray, matrix9: FloatArray) -> FloatArray:
        """Pose (7,) in the base frame of a world position (3,) and rotation matrix (9,)."""
        to_base = self._data.xmat[self._base_id].reshape(3, 3).T
        relative, quat = to_base @ matrix9.reshape(3, 3), np.empty(4)
        mujoco.mju_mat2Quat(quat, relative.ravel())
        return np.concatenate([to_base @ (position - self._data.xpos[self._base_id]), quat])


class _Gripper:
    """Maps 0 closed ... 1 open to robosuite's position-controlled fingers, at a limited speed."""

    def __init__(self, world: RobosuiteWorld) -> None:
        self._model, self._data = world.model, world.data
        gripper = world.env.robots[0].gripper["right"]
        self.present = gripper.dof > 0
        self._target = self._command = 1.0
        self._step = 1.0 / (world.config.gripper_travel_s * world.config.controller.rate_hz)
        if not self.present:
            return
        self._actuators = np.array([self._model.actuator(name).id for name in gripper.actuators])
        self._closed, self._open = (_ctrl_at(gripper, sign, self._model, self._actuators) for sign in (1.0, -1.0))
        joints = self._model.actuator_trnid[self._actuators, 0]
        self._qpos = self._model.jnt_qposadr[joints]

    def position(self) -> float:
        if not self.present:
            return 0.0
        travelled = (self._data.qpos[self._qpos] - self._closed) / (self._open - self._closed)
        return float(np.clip(travelled.mean(), 0.0, 1.0))

    def command(self, position: float) -> None:
        self._target = float(np.clip(position, 0.0, 1.0))

    def start(self) -> None:
        """Open at once."""
        self._target = self._command = 1.0
        if self.present:
            self._data.qpos[self._qpos] = self._open
            self._data.ctrl[self._actuators] = self._open

    def actuate(self) -> None:
        if self.present:
            self._command += float(np.clip(self._target - self._command, -self._step, self._step))
            self._data.ctrl[self._actuators] = self._closed + self._command * (self._open - self._closed)


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


def _ctrl_at(gripper: Any, sign: float, model: mujoco.MjModel, actuators: FloatArray) -> FloatArray:
    """Actuator commands at one end of the stroke: robosuite maps +1 to closed, -1 to open."""
    gripper.current_action = np.zeros(len(actuators))
    for _ in range(100):
        action = gripper.format_action(np.full(gripper.dof, sign))
    low, high = model.actuator_ctrlrange[actuators].T
    return low + (np.asarray(action) + 1.0) / 2.0 * (high - low)


def _make_env(config: RobosuiteWorldConfig) -> Any:
    """Build the robosuite environment once; the model is never rebuilt afterwards."""
    import robosuite
    from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER

    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)
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
