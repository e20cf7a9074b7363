"""Operational-space pose controller of the simulated arms: absolute TCP pose in, joint torques out.

Letters: N arm joints. Everything is in world coordinates here.

The law is Khatib's (1987) with a joint-space posture task in the null space, as in robosuite's
`OSC_POSE`, in a form that needs two small solves and no pseudo-inverse:

    a    = kp (reference - pose) + kd (reference velocity - velocity)            task acceleration (6,)
    q''0 = kp_null (q_home - q) - kd_null q'                                     posture (N,)
    tau  = J^T (J M^-1 J^T + damping I)^-1 (a - J q''0) + M q''0 + bias - passive

With a damped inverse instead of robosuite's pseudo-inverse it stays finite at singularities. The
reference moves to the commanded pose in a straight line over `interpolation_s` and its velocity is
fed forward: an arm that is sent a target 2 cm ahead of itself ten times per second moves at 0.2 m/s
(robosuite's controller, a spring without feed-forward, moves at half of that).
"""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.types import FloatArray

MIN_DIAGONAL = 1e-15  # mjMINVAL, mujoco's mjmodel.h


@dataclass(frozen=True)
class OscConfig:
    """Gains of the pose controller. Damping ratios are 1."""

    rate_hz: float = 100.0
    """Torque updates per simulated second; torques are held in between."""
    position_kp: float = 400.0
    """1/s^2. robosuite uses 150."""
    rotation_kp: float = 400.0
    """1/s^2. robosuite uses 150."""
    posture_kp: float = 10.0
    """1/s^2, pull of the null space towards the home posture. robosuite uses 10."""
    damping: float = 1e-3
    """1/kg, regularises the task-space inertia near singularities."""
    interpolation_s: float = 0.1
    """Time in which the reference reaches a new target: one control period at 10 Hz."""
    max_speed_m_s: float = 0.5
    """Farther targets are approached at this speed."""
    max_rotation_rad_s: float = 2.0
    """As `max_speed_m_s`, for rotations."""


AT_REST = np.zeros(6)


@dataclass(frozen=True)
class Segment:
    """A straight way of the reference, from `start_s` on; it rests at its end."""

    start_s: float
    travel_s: float
    position: FloatArray  # (3,) where it starts
    quat: FloatArray  # (4,)
    goal_position: FloatArray  # (3,)
    goal_quat: FloatArray  # (4,)
    velocity: FloatArray  # (6,) on the way
    axis: FloatArray  # (3,) of the rotation
    rate_rad_s: float

    def at(self, time_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Position (3,), quaternion (4,) and velocity (6,) at a time."""
        elapsed = time_s - self.start_s
        if elapsed >= self.travel_s:
            return self.goal_position, self.goal_quat, AT_REST
        turned, quat = np.empty(4), np.empty(4)
        mujoco.mju_axisAngle2Quat(turned, self.axis, self.rate_rad_s * elapsed)
        mujoco.mju_mulQuat(quat, turned, self.quat)
        return self.position + self.velocity[:3] * elapsed, quat, self.velocity


class Reference:
    """Where the controller wants the site: in straight lines from each target to the next.

    A target may be due between two updates of the torques. The velocity fed forward is then the mean over the period
    until the next one, so that delays of any length make a difference.
    """

    def __init__(self, config: OscConfig, position: FloatArray, quat_wxyz: FloatArray, time_s: float) -> None:
        self._config = config
        rest = Segment(time_s, 0.0, position, quat_wxyz, position, quat_wxyz, AT_REST, np.zeros(3), 0.0)
        self._last = self._now = rest

    def command(self, position: FloatArray, quat_wxyz: FloatArray, at_s: float) -> None:
        """Move from `at_s` on in a straight line from where the reference is then to this world pose."""
        start_position, start_quat = self._now.at(at_s)[:2]
        config = self._config
        rotation = frames.quat_to_rotvec(frames.quat_multiply(quat_wxyz, frames.quat_inverse(start_quat)))
        travel, angle = position - start_position, float(np.linalg.norm(rotation))
        travel_s = max(
            config.interpolation_s,
            float(np.linalg.norm(travel)) / config.max_speed_m_s,
            angle / config.max_rotation_rad_s,
        )
        velocity = np.concatenate([travel, rotation]) / travel_s
        axis = rotation / angle if angle > 0.0 else rotation
        self._last, self._now = (
            self._now,
            Segment(at_s, travel_s, start_position, start_quat, position, quat_wxyz, velocity, axis, angle / travel_s),
        )

    def at(self, time_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Position (3,), quaternion (4,) and velocity (6,) at a time."""
        early_s = self._now.start_s - time_s
        if early_s <= 0.0:
            return self._now.at(time_s)
        position, quat, velocity = self._last.at(time_s)
        share = min(early_s * self._config.rate_hz, 1.0)
        return position, quat, share * velocity + (1.0 - share) * self._now.velocity


class PoseController:
    """Torques that bring one site to a commanded pose."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        site_id: int,
        dof_ids: NDArray[np.intp],
        qpos_ids: NDArray[np.intp],
        torque_limit: FloatArray,
        config: OscConfig,
    ) -> None:
        self._model, self._data, self._config = model, data, config
        self._site_id, self._dofs, self._qpos = site_id, dof_ids, qpos_ids
        self._torque_limit = torque_limit
        self._jacobian = np.zeros((6, model.nv))
        self._mass = np.zeros((model.nv, model.nv))
        self._dof_grid = np.ix_(dof_ids, dof_ids)
        self._kp = np.repeat([config.position_kp, config.rotation_kp], 3)
        self._kd = 2 * np.sqrt(self._kp)
        self._damping = config.damping * np.eye(6)
        self.hold()

    def hold(self) -> None:
        """Forget the target: reference and home posture become the present ones."""
        self._home = self._data.qpos[self._qpos].copy()
        quat = frames.matrix_to_quat(self._data.site_xmat[self._site_id].reshape(3, 3))
        position = self._data.site_xpos[self._site_id].copy()
        self.reference = Reference(self._config, position, quat, self._data.time)

    def command(self, position: FloatArray, quat_wxyz: FloatArray, at_s: float) -> None:
        """Move the reference to this world pose from `at_s` on: at the latest the next update of the torques."""
        self.reference.command(position, quat_wxyz, at_s)

    def torques(self) -> FloatArray:
        """Joint torques (N,) in N m for the present state (positions and velocities must be fresh)."""
        model, data, dofs = self._model, self._data, self._dofs
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self._site_id)
        mujoco.mj_fullM(model, self._mass, data.qM)
        jacobian, mass = self._jacobian[:, dofs], self._mass[self._dof_grid]
        joint_velocity = data.qvel[dofs]
        position, quat, velocity = self.reference.at(data.time)
        error = np.empty(6)
        error[:3] = position - data.site_xpos[self._site_id]
        error[3:] = rotation_error(quat, data.site_xmat[self._site_id])
        acceleration = self._kp * error + self._kd * (velocity - jacobian @ joint_velocity)
        posture_kp = self._config.posture_kp
        posture = posture_kp * (self._home - data.qpos[self._qpos]) - 2 * posture_kp**0.5 * joint_velocity
        inverse_inertia = jacobian @ solve_positive(mass, jacobian.T) + self._damping
        force = solve_positive(inverse_inertia, acceleration - jacobian @ posture)
        torque = jacobian.T @ force + mass @ posture
        torque += data.qfrc_bias[dofs] - data.qfrc_passive[dofs]
        return np.minimum(np.maximum(torque, -self._torque_limit), self._torque_limit)


def solve_positive(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """`matrix^-1 right` for a small symmetric positive matrix (N, N) and `right` (N,) or (N, M), by Cholesky.

    MuJoCo's routine: numpy's has other last bits with another number of threads, and trajectories should repeat.
    """
    factor = np.array(matrix, order="C")
    mujoco.mju_cholFactor(factor, MIN_DIAGONAL)
    columns = np.ascontiguousarray(right.T).reshape(-1, len(matrix))
    solution = np.empty_like(columns)
    for column, result in zip(columns, solution, strict=True):
        mujoco.mju_cholSolve(result, factor, column)
    return solution.reshape(right.T.shape).T


def rotation_error(quat_wxyz: FloatArray, matrix9: FloatArray) -> FloatArray:
    """Rotation vector (3,) from a rotation matrix (9,) to a quaternion, by MuJoCo's own routines."""
    present, error, rotvec = np.empty(4), np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(present, matrix9)
    mujoco.mju_negQuat(present, present)
    mujoco.mju_mulQuat(error, quat_wxyz, present)
    mujoco.mju_quat2Vel(rotvec, error, 1.0)
    return rotvec
