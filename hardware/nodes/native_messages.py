"""Numbers to the message of each command kind, and the message types that a binding names by text."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from hardware.arm_binding import ArmBinding
from hardware.ros_messages import header, joints_message, pose_message, twist_message
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

QOS: dict[str, QoSProfile] = {
    "sensor_data": qos_profile_sensor_data,
    "reliable": QoSProfile(depth=1),
    "latched": QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}


def _native_names(binding: ArmBinding) -> list[str]:
    return [joint.native_name for joint in binding.joints]


def _pose(binding: ArmBinding, values: FloatArray, stamp_s: float) -> PoseStamped:
    return pose_message(values, stamp_s, binding.base_frame)


def _joint_state(binding: ArmBinding, values: FloatArray, stamp_s: float) -> JointState:
    return joints_message(_native_names(binding), values, stamp_s)


def _float64(binding: ArmBinding, values: FloatArray, stamp_s: float) -> Float64MultiArray:
    return Float64MultiArray(data=[float(value) for value in values])


def _trajectory(binding: ArmBinding, values: FloatArray, stamp_s: float) -> JointTrajectory:
    """One point, `horizon_s` ahead. Its zero stamp means: start when it arrives, whatever the clocks say."""
    horizon_s = binding.native.command.horizon_s if binding.native else 0.0
    seconds, fraction = divmod(horizon_s, 1.0)
    point = JointTrajectoryPoint(
        positions=[float(value) for value in values],
        time_from_start=Duration(sec=int(seconds), nanosec=round(fraction * 1e9)),
    )
    return JointTrajectory(header=header(0.0, binding.base_frame), joint_names=_native_names(binding), points=[point])


def _twist_stamped(binding: ArmBinding, values: FloatArray, stamp_s: float) -> TwistStamped:
    return twist_message(values, stamp_s, binding.base_frame)


def _twist(binding: ArmBinding, values: FloatArray, stamp_s: float) -> Twist:
    return _twist_stamped(binding, values, stamp_s).twist


COMMAND_MESSAGES: dict[str, tuple[type, Callable[[ArmBinding, FloatArray, float], Any]]] = {
    "pose": (PoseStamped, _pose),
    "joint_state": (JointState, _joint_state),
    "float64_position": (Float64MultiArray, _float64),
    "float64_velocity": (Float64MultiArray, _float64),
    "joint_trajectory": (JointTrajectory, _trajectory),
    "twist": (Twist, _twist),
    "twist_stamped": (TwistStamped, _twist_stamped),
}
"""By command kind: the type, and how its numbers and their stamp become one."""


def interface_type(name: str) -> Any:
    """The class of `package/msg/Name` (or srv, action). Raises `ConfigError` when it is not installed."""
    try:
        package, kind, class_name = name.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), class_name)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(
            f"ROS 2 interface {name!r} is not available ({error}); install its package beside ROS 2, "
            "or take what needs it out of the robot's YAML"
        ) from error


def field_value(message: Any, path: str) -> Any:
    """The value below `path` (dots go deeper). Raises `ConfigError` naming the fields there are."""
    value = message
    for name in path.split("."):
        if not hasattr(value, name):
            fields = getattr(value, "get_fields_and_field_types", dict)()
            raise ConfigError(f"{type(message).__name__} has no field {path!r}; valid choices: {', '.join(fields)}")
        value = getattr(value, name)
    return value.item() if isinstance(value, np.generic) else value
