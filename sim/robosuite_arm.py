"""The arm and gripper of a `RobosuiteWorld`."""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import ArmState, ArmTarget, FloatArray
from sim.osc import PoseController, solve_positive

if TYPE_CHECKING:
    from sim.robosuite_world import RobosuiteWorldConfig

START_QUAT_BASE_TCP = frames.matrix_to_quat(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]))
"""Every episode starts with the gripper level: TCP x along base y, y along base x, z down. (robosuite's Panda
starts tilted by 7 degrees, which matters to agents that do not control rotation.)"""


class RobosuiteArm:
    """The arm and gripper of a `RobosuiteWorld`; implements `robot_rl.protocols.Arm`."""

    def __init__(self, env: Any, config: RobosuiteWorldConfig, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self._model, self._data = env.sim.model._model, env.sim.data._data
        robot = env.robots[0]
        self._site_id = self._model.site(robot.gripper["right"].important_sites["grip_site"]).id
        self._base_id = self._model.body("robot0_base").id
        hand = robot.gripper["right"]
        self._ft_site = self._model.site(f"{hand.naming_prefix}ft_frame").id
        self._hand_body = int(self._model.site_bodyid[self._ft_site])
        self._hand_mass_kg = float(self._model.body_subtreemass[self._hand_body])
        sensors = [self._model.sensor(f"{hand.naming_prefix}{kind}_ee") for kind in ("force", "torque")]
        self._ft_sensors = np.concatenate([sensor.adr[0] + np.arange(3) for sensor in sensors])
        self.joint_names: tuple[str, ...] = tuple(robot.robot_joints)
        joints = [self._model.joint(name) for name in self.joint_names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self._actuators = np.array([self._model.actuator(name).id for name in robot.robot_model.actuators])
        self._gripper = _Gripper(robot.gripper["right"], self._model, self._data, config)
        self._controller = PoseController(
            self._model,
            self._data,
            self._site_id,
            self._dofs,
            self._qpos,
            self._model.actuator_ctrlrange[self._actuators, 1],
            config.controller,
        )
        home = robot.init_qpos if config.home_joint_rad is None else config.home_joint_rad
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
            self._clock(),
            self.in_base(data.site_xpos[self._site_id], data.site_xmat[self._site_id]),
            np.concatenate([to_base @ velocity[3:], to_base @ velocity[:3]]),
            data.qpos[self._qpos].copy(),
            self._gripper.position(),
            self._external_wrench(to_base),
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
        config, data = self._config, self._data
        data.qpos[self._qpos] = self._home_joint_rad
        data.qvel[self._dofs] = 0.0
        mujoco.mj_forward(self._model, data)
        position = data.site_xpos[self._site_id] + rng.uniform(-1.0, 1.0, 3) * config.start_noise_m
        yaw = np.array([0.0, 0.0, rng.uniform(-1.0, 1.0) * config.start_noise_yaw_rad])
        turned = frames.rotvec_to_quat(np.asarray(config.start_rotvec_rad, np.float64))
        turned = frames.quat_multiply(turned, frames.rotvec_to_quat(yaw))
        quat = frames.quat_multiply(START_QUAT_BASE_TCP, turned)
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
        torque = -sensed[:, 1] - np.cross(arm_weight, weight)
        torque += np.cross(data.site_xpos[site] - data.site_xpos[self._site_id], force)
        return np.concatenate([to_base @ force, to_base @ torque])

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

    def __init__(self, gripper: Any, model: mujoco.MjModel, data: mujoco.MjData, config: RobosuiteWorldConfig) -> None:
        self._model, self._data = model, data
        self.present = gripper.dof > 0
        self._target = self._command = 1.0
        self._step = 1.0 / (config.gripper_travel_s * config.controller.rate_hz)
        if not self.present:
            return
        self._actuators = np.array([self._model.actuator(name).id for name in gripper.actuators])
        self._closed = _ctrl_at(gripper, 1.0, self._model, self._actuators)
        self._open = _ctrl_at(gripper, -1.0, self._model, self._actuators)
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


def _ctrl_at(gripper: Any, sign: float, model: mujoco.MjModel, actuators: NDArray[np.intp]) -> FloatArray:
    """Actuator commands at one end of the stroke: robosuite maps +1 to closed, -1 to open."""
    gripper.current_action = action = np.zeros(len(actuators))
    for _ in range(100):
        action = gripper.format_action(np.full(gripper.dof, sign))
    low, high = model.actuator_ctrlrange[actuators].T
    return low + (np.asarray(action) + 1.0) / 2.0 * (high - low)
