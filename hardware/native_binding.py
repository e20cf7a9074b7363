"""The maker's driver of one arm: its topics, services and units, as `native` in the robot's YAML names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.typed import check_positive

Qos = Literal["sensor_data", "reliable", "latched"]
CommandKind = Literal[
    "pose",
    "joint_state",
    "float64_position",
    "float64_velocity",
    "joint_trajectory",
    "twist",
    "twist_stamped",
]
GripperKind = Literal["none", "float64_array", "joint_state", "gripper_command", "parallel_gripper_command"]


@dataclass(frozen=True)
class TopicBinding:
    """A topic of the driver."""

    topic: str
    """Name, relative to the driver's namespace."""
    qos: Qos = "sensor_data"
    """Quality of service that matches the driver's."""


@dataclass(frozen=True)
class WrenchBinding(TopicBinding):
    """A wrench topic of the driver."""

    frame: Literal["base", "flange"] = "base"
    """Axes that the wrench is given in; it is turned to the base's."""


@dataclass(frozen=True)
class StateBinding:
    """Where the arm's measured state comes from. What has no topic is computed from the joints."""

    joints: TopicBinding
    """JointState; may be partial, in any order, and shared with other devices."""
    pose: TopicBinding | None = None
    """PoseStamped of the TCP; without it, forward kinematics."""
    wrench: WrenchBinding | None = None
    """WrenchStamped; without it, no `external_wrench`."""
    stamps: Literal["driver", "arrival"] = "driver"
    """`arrival` when the driver's clock is not synchronised with this machine's."""
    timeout_s: float = 0.2
    """State older than this is not acted upon."""

    def __post_init__(self) -> None:
        check_positive(self, "timeout_s")


@dataclass(frozen=True)
class CommandBinding:
    """What the driver takes, and how to speak to it."""

    kind: CommandKind
    """Message and meaning: see `hardware/commanders.py`."""
    topic: str
    """Name, relative to the driver's namespace."""
    qos: Qos = "reliable"
    """Quality of service that matches the driver's."""
    stale_s: float = 0.2
    """A guard that has been silent for so long is not obeyed any more."""
    on_stale: Literal["hold", "stop"] = "hold"
    """`hold`: the measured position is sent once; `stop`: nothing more is sent. Velocities go to zero."""
    velocity_scale: float = 0.5
    """Share of the joints' velocity limits that joint commands may use."""
    horizon_s: float = 0.1
    """joint_trajectory: how far ahead the one point lies."""
    max_lead_rad: float = 0.2
    """Joint commands stop advancing so far ahead of the measured joints."""
    max_jump_rad: float = 0.5
    """A target whose joint solution is farther than this from the last command is refused."""
    gain_per_s: float = 4.0
    """Velocity kinds: speed towards the target per distance left."""
    linear_m_s: float = 0.25
    """Twist kinds: fastest translation."""
    angular_rad_s: float = 0.8
    """Twist kinds: fastest rotation."""

    def __post_init__(self) -> None:
        if not 0.0 < self.velocity_scale <= 1.0:
            raise ConfigError(f"velocity_scale {self.velocity_scale} must be in (0, 1]")
        check_positive(self, "stale_s", "horizon_s", "max_lead_rad", "max_jump_rad")
        check_positive(self, "gain_per_s", "linear_m_s", "angular_rad_s")


@dataclass(frozen=True)
class GripperBinding:
    """The driver's gripper; `closed` and `open` are its own numbers for 0 and 1."""

    kind: GripperKind = "none"
    """Message or action that moves it."""
    command: str = ""
    """Topic or action name."""
    state: TopicBinding | None = None
    """JointState that reports it; None on an arm without gripper."""
    joint: str = ""
    """Its joint's name in that JointState."""
    closed: float = 0.0
    """Native value when closed."""
    open: float = 1.0
    """Native value when open."""
    max_effort: float = 0.0
    """Actions: largest effort (N or N m; 0 is the driver's own choice)."""

    def __post_init__(self) -> None:
        if self.closed == self.open or not np.isfinite([self.closed, self.open]).all():
            raise ConfigError(f"gripper: closed and open must differ and be finite, got {self.closed}, {self.open}")
        if not 0.0 <= self.max_effort < np.inf:
            raise ConfigError(f"gripper: max_effort must not be negative, got {self.max_effort}")
        if self.kind != "none" and not (self.command and self.state and self.joint):
            raise ConfigError(f"gripper kind {self.kind} needs command, state and joint")


@dataclass(frozen=True)
class FaultBinding:
    """A topic that says whether the arm may move."""

    topic: str
    """Name, relative to the driver's namespace."""
    type: str
    """Message type, `package/msg/Name`."""
    field: str
    """Field of that message to look at; dots go deeper."""
    ok: tuple[Any, ...]
    """Values with which the arm may move; every other one is a fault."""
    qos: Qos = "reliable"
    """Quality of service that matches the driver's."""
    required: bool = True
    """Refuse to move until an ok value has been heard; else a missing message type is only reported."""


@dataclass(frozen=True)
class CallBinding:
    """A call into the driver: a Trigger service, or an action with an empty goal."""

    name: str
    """Service or action name, relative to the driver's namespace."""
    action_type: str = ""
    """`package/action/Name`; empty for std_srvs/Trigger."""


@dataclass(frozen=True)
class NativeBinding:
    """The maker's driver."""

    state: StateBinding
    command: CommandBinding
    namespace: str = "/"
    """Namespace that the driver runs in; must differ from the graph's when topic names are the same."""
    gripper: GripperBinding = GripperBinding()
    faults: tuple[FaultBinding, ...] = ()
    recover: tuple[CallBinding, ...] = ()
    """Called in order to leave a fault."""
    stop: tuple[CallBinding, ...] = ()
    """Called in order to stop the arm's program."""

    def __post_init__(self) -> None:
        topics = [fault.topic for fault in self.faults]
        if len(set(topics)) < len(topics) or not all(fault.ok for fault in self.faults):
            raise ConfigError(f"each fault needs a topic of its own, and values that are ok; got topics {topics}")
