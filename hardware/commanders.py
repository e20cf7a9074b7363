"""From a TCP target to what one kind of arm controller takes; one small class per way of commanding.

A commander is asked once per control period and answers with numbers only; the node puts them into the
message of its command kind. Shape letters: N joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hardware.arm_binding import ArmBinding
from hardware.ik import Kinematics, UnreachableError
from hardware.native_binding import CommandBinding
from robot_rl import frames
from robot_rl.errors import ConfigError, HardwareError
from robot_rl.types import FloatArray


class LagError(HardwareError):
    """The arm does not follow its commands; they must not run further ahead."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The arm as its driver last reported it."""

    stamp_s: float
    joint_pos_rad: FloatArray  # (N,)
    joint_vel_rad_s: FloatArray  # (N,)
    pose_base_tcp: FloatArray  # (7,)


class Commander(Protocol):
    """`track` moves towards a target for `dt_s`; `hold` keeps the arm where it is."""

    repeats_hold: bool
    """Whether `hold` must be sent again and again (velocities), or once (positions)."""

    def track(self, pose_base_tcp: FloatArray, measured: Measured, dt_s: float) -> FloatArray: ...

    def hold(self, measured: Measured) -> FloatArray: ...

    def reset(self) -> None:
        """Forget what was commanded before."""
        ...


def limit_ratio(values: FloatArray, bounds: FloatArray) -> FloatArray:
    """`values` scaled as a whole, keeping their direction, so that none exceeds its bound (> 0)."""
    return values / max(1.0, float(np.max(np.abs(values) / bounds)))


class PoseCommander:
    """The controller takes TCP poses (7,): the guard's target is passed on."""

    repeats_hold = False

    def track(self, pose_base_tcp: FloatArray, measured: Measured, dt_s: float) -> FloatArray:
        return pose_base_tcp

    def hold(self, measured: Measured) -> FloatArray:
        return measured.pose_base_tcp

    def reset(self) -> None:
        """Nothing is kept."""


class JointCommander:
    """The controller takes joint positions (N,): inverse kinematics, then a velocity limited step."""

    repeats_hold = False

    def __init__(self, binding: ArmBinding, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self._velocity_rad_s = _velocity_limits(binding)
        command = _command(binding)
        self._max_lead_rad, self._max_jump_rad = command.max_lead_rad, command.max_jump_rad
        self._reference: FloatArray | None = None

    def track(self, pose_base_tcp: FloatArray, measured: Measured, dt_s: float) -> FloatArray:
        """Next joint command. Raises `UnreachableError` or `LagError`, and then nothing has advanced."""
        reference = measured.joint_pos_rad if self._reference is None else self._reference
        goal = self._kinematics.inverse(pose_base_tcp, reference)
        jump = float(np.max(np.abs(goal - reference)))
        if jump > self._max_jump_rad:
            raise UnreachableError(f"the target asks for a joint jump of {jump:.2f} rad")
        stepped = reference + limit_ratio(goal - reference, self._velocity_rad_s * dt_s)
        lead = np.abs(stepped - measured.joint_pos_rad)
        if np.any((lead > self._max_lead_rad) & (lead > np.abs(reference - measured.joint_pos_rad))):
            raise LagError(f"the arm is {float(lead.max()):.2f} rad behind its command")
        self._reference = stepped
        return stepped

    def hold(self, measured: Measured) -> FloatArray:
        return measured.joint_pos_rad

    def reset(self) -> None:
        self._reference = None


class JointVelocityCommander:
    """The controller takes joint velocities (N,): proportional to the distance to the joint solution."""

    repeats_hold = True

    def __init__(self, binding: ArmBinding, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self._velocity_rad_s = _velocity_limits(binding)
        self._gain_per_s = _command(binding).gain_per_s
        self._max_jump_rad = _command(binding).max_jump_rad

    def track(self, pose_base_tcp: FloatArray, measured: Measured, dt_s: float) -> FloatArray:
        """Joint velocities. Raises `UnreachableError`."""
        joints = measured.joint_pos_rad
        goal = self._kinematics.inverse(pose_base_tcp, joints)
        jump = float(np.max(np.abs(goal - joints)))
        if jump > self._max_jump_rad:
            raise UnreachableError(f"the target asks for a joint jump of {jump:.2f} rad")
        return limit_ratio((goal - joints) * self._gain_per_s, self._velocity_rad_s)

    def hold(self, measured: Measured) -> FloatArray:
        return np.zeros_like(measured.joint_pos_rad)

    def reset(self) -> None:
        """Nothing is kept."""


class TwistCommander:
    """The controller takes a twist (6,) along the base's axes: proportional to the distance left."""

    repeats_hold = True

    def __init__(self, binding: ArmBinding, kinematics: Kinematics) -> None:
        command = _command(binding)
        self._gain_per_s = command.gain_per_s
        self._linear_m_s, self._angular_rad_s = command.linear_m_s, command.angular_rad_s

    def track(self, pose_base_tcp: FloatArray, measured: Measured, dt_s: float) -> FloatArray:
        pose = measured.pose_base_tcp
        turn = frames.quat_multiply(pose_base_tcp[3:], frames.quat_inverse(pose[3:]))
        linear = (pose_base_tcp[:3] - pose[:3]) * self._gain_per_s
        angular = frames.quat_to_rotvec(turn) * self._gain_per_s
        return np.concatenate([_shorten(linear, self._linear_m_s), _shorten(angular, self._angular_rad_s)])

    def hold(self, measured: Measured) -> FloatArray:
        return np.zeros(6)

    def reset(self) -> None:
        """Nothing is kept."""


def _shorten(vector: FloatArray, length: float) -> FloatArray:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-12))


def _command(binding: ArmBinding) -> CommandBinding:
    if binding.native is None:
        raise ConfigError(f"robot {binding.name!r} has no native driver, so there is nothing to command")
    return binding.native.command


def _velocity_limits(binding: ArmBinding) -> FloatArray:
    return binding.column("velocity_rad_s") * _command(binding).velocity_scale


COMMANDERS: dict[str, Callable[[ArmBinding, Kinematics], Commander]] = {
    "pose": lambda binding, kinematics: PoseCommander(),
    "joint_state": JointCommander,
    "float64_position": JointCommander,
    "joint_trajectory": JointCommander,
    "float64_velocity": JointVelocityCommander,
    "twist": TwistCommander,
    "twist_stamped": TwistCommander,
}
"""By command kind."""
