"""A simulated arm with a gripper: whichever model it is part of, it answers as `robot_rl.protocols.Arm`."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import ArmState, ArmTarget, FloatArray
from sim.arm_joints import ArmJoints, ArmPhysics
from sim.osc import OscConfig, PoseController, solve_positive

START_QUAT_BASE_TCP = frames.matrix_to_quat(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]))
"""Every episode starts with the gripper level: TCP x along base y, y along base x, z down. (robosuite's Panda
starts tilted by 7 degrees, which matters to agents that do not control rotation.)"""


CLOCK_TOLERANCE_S = 1e-9


@dataclass(frozen=True)
class ArmModel:
    """Where an arm with its gripper is found in a model, by names."""

    base_body: str
    """Its frame is the arm's base frame."""
    tcp_site: str
    """Between the finger tips: z points away from the hand, the fingers open along x."""
    wrist_site: str
    """Where the force-torque sensor is; everything beyond it is the hand."""
    wrist_sensors: tuple[str, str]
    """Force and torque sensor, in the wrist site's frame."""
    joints: tuple[str, ...]
    """From the base to the hand."""
    actuators: tuple[str, ...]
    """One torque motor per joint."""
    home_joint_rad: tuple[float, ...]
    """(N,) the arm's own home pose."""
    finger_actuators: tuple[str, ...] = ()
    """Position-controlled fingers; none without a gripper."""
    finger_closed: tuple[float, ...] = ()
    """Commands of the closed fingers."""
    finger_open: tuple[float, ...] = ()
    """Commands of the open fingers."""


@dataclass(frozen=True)
class ArmConfig:
    """How an arm starts and how it is driven."""

    start_noise_m: float = 0.02
    """The TCP starts within this distance of its home position, per axis."""
    home_joint_rad: tuple[float, ...] | None = None
    """Joints (N,) of the home pose; the arm model's own when None. Its orientation is then levelled as below."""
    start_rotvec_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The gripper starts turned by this rotation vector, in the TCP frame, from `START_QUAT_BASE_TCP`."""
    start_noise_yaw_rad: float = 0.0
    """And about the TCP's z by up to this angle, either way."""
    gripper_travel_s: float = 0.5
    """Time of a full gripper stroke; robosuite's grippers take 10 steps at 20 Hz."""
    controller: OscConfig = field(default_factory=OscConfig)
    """Gains of the arm controller."""
    delay_s: float = 0.0
    """Time from a command to the controller's new target, as drivers and buses have it."""
    joints: ArmPhysics = field(default_factory=ArmPhysics)
    """How the joints differ from the model that the controller knows."""


class SimArm:
    """The arm and gripper of a `SimWorld`; implements `robot_rl.protocols.Arm`."""

    def __init__(
        self,
        mj_model: mujoco.MjModel,
        data: mujoco.MjData,
        arm: ArmModel,
        config: ArmConfig,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._clock = config, clock
        self._model, self._data = mj_model, data
        self.site_id = self._model.site(arm.tcp_site).id
        self._base_id = self._model.body(arm.base_body).id
        self._ft_site = self._model.site(arm.wrist_site).id
        self._hand_body = int(self._model.site_bodyid[self._ft_site])
        self._hand_mass_kg = float(self._model.body_subtreemass[self._hand_body])
        sensors = [self._model.sensor(name) for name in arm.wrist_sensors]
        self._ft_sensors = np.concatenate([sensor.adr[0] + np.arange(3) for sensor in sensors])
        self.joint_names: tuple[str, ...] = arm.joints
        joints = [self._model.joint(name) for name in self.joint_names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self.actuator_ids = np.array([self._model.actuator(name).id for name in arm.actuators])
        self.torque_limit = self._model.actuator_ctrlrange[self.actuator_ids, 1]
        self._gripper = _Gripper(arm, mj_model, data, config)
        self.use(ArmJoints(mj_model, data, self._dofs, self._qpos, self.site_id))
        self._waiting: deque[tuple[float, FloatArray, float]] = deque()
        home = arm.home_joint_rad if config.home_joint_rad is None else config.home_joint_rad
        self._home_joint_rad = np.array(home, np.float64)

    def use(self, joints: ArmJoints) -> None:
        """Act on and read `joints`, with the configured physics; a start must follow."""
        joints.set(self._config.joints)
        self.joints = joints
        self._controller = PoseController(
            joints.view_model,
            joints.view,
            self.site_id,
            self._dofs,
            self._qpos,
            self.torque_limit,
            self._config.controller,
        )

    @property
    def has_gripper(self) -> bool:
        return self._gripper.present

    def state(self) -> ArmState:
        self.joints.look()
        data = self.joints.view
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(self._model, data, mujoco.mjtObj.mjOBJ_SITE, self.site_id, velocity, 0)
        to_base = data.xmat[self._base_id].reshape(3, 3).T
        return ArmState(
            self._clock(),
            self.in_base(data.site_xpos[self.site_id], data.site_xmat[self.site_id]),
            np.concatenate([to_base @ velocity[3:], to_base @ velocity[:3]]),
            data.qpos[self._qpos].copy(),
            self._gripper.position(),
            self._external_wrench(to_base),
        )

    def reading(self) -> tuple[FloatArray, FloatArray]:
        """Joints (N,) and TCP pose (7,) in the base frame alone: `state` without its costlier parts."""
        self.joints.look()
        view = self.joints.view
        return view.qpos[self._qpos].copy(), self.in_base(view.site_xpos[self.site_id], view.site_xmat[self.site_id])

    def command(self, target: ArmTarget) -> None:
        """Go to an absolute pose in the base frame; raises `ConfigError` for a malformed pose."""
        pose = np.asarray(target.pose_base_tcp, np.float64)
        norm = float(np.linalg.norm(pose[3:])) if pose.shape == (7,) else 0.0
        if not np.isfinite(pose).all() or abs(norm - 1.0) > 1e-3:
            raise ConfigError(f"target pose must be (7,), finite, with a unit quaternion; got {pose}")
        due_s = self._data.time + self.joints.command_delay_s(self._config.delay_s)
        self._waiting.append((due_s, pose, target.gripper_position))
        self._take_commands()

    def _take_commands(self) -> None:
        """Take what is due before the next update of the torques."""
        soon_s = self._data.time + 1.0 / self._config.controller.rate_hz - CLOCK_TOLERANCE_S
        while self._waiting and self._waiting[0][0] < max(soon_s, self._data.time):
            due_s, pose, gripper_position = self._waiting.popleft()
            world_pose = frames.compose(self._base_pose(), pose)
            self._controller.command(world_pose[:3], world_pose[3:], due_s)
            self._gripper.command(gripper_position)

    def actuate(self) -> None:
        """Write torques and gripper command for the coming controller period."""
        self._take_commands()
        self.joints.act()
        self._data.ctrl[self.actuator_ids] = self._controller.torques()
        self._gripper.actuate()

    def start(self, rng: np.random.Generator) -> None:
        """Put the arm at its home pose plus noise, at rest, gripper open, and hold there."""
        config, data = self._config, self._data
        data.qpos[self._qpos] = self._home_joint_rad
        data.qvel[self._dofs] = 0.0
        mujoco.mj_forward(self._model, data)
        position = data.site_xpos[self.site_id] + rng.uniform(-1.0, 1.0, 3) * config.start_noise_m
        yaw = np.array([0.0, 0.0, rng.uniform(-1.0, 1.0) * config.start_noise_yaw_rad])
        turned = frames.rotvec_to_quat(np.asarray(config.start_rotvec_rad, np.float64))
        turned = frames.quat_multiply(turned, frames.rotvec_to_quat(yaw))
        quat = frames.quat_multiply(START_QUAT_BASE_TCP, turned)
        quat = frames.quat_multiply(data.xquat[self._base_id], quat)
        self._solve_inverse_kinematics(position, quat)
        self._waiting.clear()
        self._gripper.start()
        self.hold()

    def start_at(self, joint_rad: FloatArray) -> None:
        """Put the arm at given joints (N,), at rest, gripper open, and hold there."""
        self._data.qpos[self._qpos], self._data.qvel[self._dofs] = joint_rad, 0.0
        self._waiting.clear()
        self._gripper.start()
        self.hold()

    def hold(self) -> None:
        """Stay where the arm was just placed."""
        mujoco.mj_forward(self._model, self._data)
        self.joints.start()
        self._controller.hold()

    def _solve_inverse_kinematics(self, position: FloatArray, quat: FloatArray) -> None:
        """Gauss-Newton with damping from the present joints; the start noise is small, so it converges."""
        model, data, jacobian = self._model, self._data, np.zeros((6, self._model.nv))
        for _ in range(20):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            present = frames.matrix_to_quat(data.site_xmat[self.site_id].reshape(3, 3))
            turn = frames.quat_to_rotvec(frames.quat_multiply(quat, frames.quat_inverse(present)))
            error = np.concatenate([position - data.site_xpos[self.site_id], turn])
            if float(np.abs(error).max()) < 1e-6:
                break
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self.site_id)
            arm = jacobian[:, self._dofs]
            data.qpos[self._qpos] += arm.T @ solve_positive(arm @ arm.T + 1e-6 * np.eye(6), error)

    def _external_wrench(self, to_base: FloatArray) -> FloatArray:
        """What the surroundings (a held object's weight too) exert on the hand at the TCP, (6,), base frame.

        From the wrist's force-torque sensor less the hand's own weight; its accelerations are not removed.
        """
        data, site = self._data, self._ft_site
        sensed = data.site_xmat[site].reshape(3, 3) @ data.sensordata[self._ft_sensors].reshape(2, 3).T
        weight = self._hand_mass_kg * self._model.opt.gravity
        force = -sensed[:, 0] - weight
        arm_weight = data.subtree_com[self._hand_body] - data.site_xpos[site]
        torque = -sensed[:, 1] - _cross(arm_weight, weight)
        torque += _cross(data.site_xpos[site] - data.site_xpos[self.site_id], force)
        return np.concatenate([to_base @ force, to_base @ torque])

    def _base_pose(self) -> FloatArray:
        return np.concatenate([self._data.xpos[self._base_id], self._data.xquat[self._base_id]])

    def in_base(self, position: FloatArray, matrix9: FloatArray) -> FloatArray:
        """Pose (7,) in the base frame of a world position (3,) and rotation matrix (9,)."""
        to_base = self._data.xmat[self._base_id].reshape(3, 3).T
        relative, quat = to_base @ matrix9.reshape(3, 3), np.empty(4)
        mujoco.mju_mat2Quat(quat, relative.ravel())
        return np.concatenate([to_base @ (position - self._data.xpos[self._base_id]), quat])


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Of two vectors (3,), in a tenth of the time of numpy's, which takes any shape."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


class _Gripper:
    """Maps 0 closed ... 1 open to position-controlled fingers, at a limited speed."""

    def __init__(self, arm: ArmModel, mj_model: mujoco.MjModel, data: mujoco.MjData, config: ArmConfig) -> None:
        self._data = data
        self.present = bool(arm.finger_actuators)
        self._target = self._command = 1.0
        self._step = 1.0 / (config.gripper_travel_s * config.controller.rate_hz)
        if not self.present:
            return
        self._actuators = np.array([mj_model.actuator(name).id for name in arm.finger_actuators])
        self._closed, self._open = np.array(arm.finger_closed), np.array(arm.finger_open)
        self._qpos = mj_model.jnt_qposadr[mj_model.actuator_trnid[self._actuators, 0]]

    def position(self) -> float:
        if not self.present:
            return 0.0
        travelled = (self._data.qpos[self._qpos] - self._closed) / (self._open - self._closed)
        return min(max(float(travelled.mean()), 0.0), 1.0)

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
            self._command += min(max(self._target - self._command, -self._step), self._step)
            self._data.ctrl[self._actuators] = self._closed + self._command * (self._open - self._closed)
