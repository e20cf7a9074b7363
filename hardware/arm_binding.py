"""How one arm is bound to ROS 2: topics, joint names, command kind, gripper, faults, limits. By YAML alone.

`robot_rl/conf/robot/<name>.yaml` becomes one `ArmBinding`. Topics and services below `native` are the
maker's driver's; what the rest of the system sees are the contract topics of the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import robot_rl
from hardware import robots
from hardware.ik import IkConfig, Kinematics
from hardware.yaml_files import override, read_mapping
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import to_dataclass
from robot_rl.types import FloatArray

CONF_DIR = Path(robot_rl.__file__).parent / "conf" / "robot"

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
class JointBinding:
    """One joint, in the order of the chain."""

    name: str
    """Name on the contract topic `joint_states`."""
    lower_rad: float
    """Lower position limit."""
    upper_rad: float
    """Upper position limit."""
    velocity_rad_s: float
    """Velocity limit."""
    native: str = ""
    """Name that the driver uses; empty for the same."""

    def __post_init__(self) -> None:
        if not self.lower_rad < self.upper_rad:
            raise ConfigError(f"joint {self.name}: lower_rad {self.lower_rad} must be below {self.upper_rad}")
        if not self.velocity_rad_s > 0:
            raise ConfigError(f"joint {self.name}: velocity_rad_s must be positive")

    @property
    def native_name(self) -> str:
        return self.native or self.name


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
        if not min(self.stale_s, self.horizon_s, self.max_lead_rad, self.max_jump_rad) > 0.0:
            raise ConfigError("stale_s, horizon_s, max_lead_rad and max_jump_rad must be positive")


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
        if self.closed == self.open:
            raise ConfigError("gripper: closed and open must differ")
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


@dataclass(frozen=True)
class ArmBinding:
    """One arm: what it is, what it may do, and how its driver is spoken to."""

    name: str
    """Same as the file's name."""
    model: str
    """File in `hardware/robots/` with its kinematic chain."""
    base_frame: str
    """Frame of all poses."""
    joints: tuple[JointBinding, ...]
    """In the chain's order."""
    home_joints_rad: tuple[float, ...]
    """Start position; also where a redundant arm's elbow is pulled to."""
    model_options: Mapping[str, Any] = field(default_factory=dict)
    """Passed to the model's file, for instance a calibration."""
    pose_flange_tcp: tuple[float, float, float, float, float, float, float] = (0, 0, 0, 1, 0, 0, 0)
    """Tool centre point in the flange frame: x y z (m) qw qx qy qz."""
    rate_hz: float = 100.0
    """Rate of commands, and of the state topics at most."""
    guard: Mapping[str, Any] = field(default_factory=dict)
    """Limits of the guard process for this arm: fields of `hardware.guard.GuardConfig`."""
    sim_robot: str = ""
    """robosuite's name for this arm, for simulated ones."""
    native: NativeBinding | None = None
    """None when something (a simulated arm) answers the contract topics itself."""

    def __post_init__(self) -> None:
        if self.model not in robots.names():
            raise UnknownNameError("robot model", self.model, robots.names())
        if len(self.home_joints_rad) != len(self.joints):
            raise ConfigError(f"home_joints_rad has {len(self.home_joints_rad)} values, not {len(self.joints)}")
        for joint, home in zip(self.joints, self.home_joints_rad, strict=True):
            if not joint.lower_rad <= home <= joint.upper_rad:
                raise ConfigError(f"home_joints_rad: {home} is outside the limits of {joint.name}")
        if abs(float(np.linalg.norm(self.pose_flange_tcp[3:])) - 1.0) > 1e-3:
            raise ConfigError(f"pose_flange_tcp: {self.pose_flange_tcp[3:]} is not a unit quaternion")
        if not self.rate_hz > 0:
            raise ConfigError(f"rate_hz {self.rate_hz} must be positive")

    def column(self, name: str) -> FloatArray:
        """(N,) values of one numeric field of the joints."""
        return np.array([getattr(joint, name) for joint in self.joints], np.float64)

    def kinematics(self, config: IkConfig | None = None) -> Kinematics:
        tcp = np.array(self.pose_flange_tcp, np.float64)
        tcp[3:] /= np.linalg.norm(tcp[3:])
        return Kinematics(
            robots.load_chain(self.model, self.model_options),
            self.column("lower_rad"),
            self.column("upper_rad"),
            np.array(self.home_joints_rad),
            tcp,
            config,
        )


def binding_names(conf_dir: Path = CONF_DIR) -> tuple[str, ...]:
    """Arms with a YAML file."""
    return tuple(sorted(path.stem for path in conf_dir.glob("*.yaml")))


def load_binding(name_or_path: str, overrides: Sequence[str] = (), conf_dir: Path = CONF_DIR) -> ArmBinding:
    """The binding of arm `name_or_path` (a name in `conf_dir` or a path to a .yaml file).

    `overrides` are `dotted.key=value`, values in YAML, as on the command line.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = conf_dir / f"{name_or_path}.yaml"
        if not path.exists():
            raise UnknownNameError("robot", name_or_path, binding_names(conf_dir))
    content = read_mapping(path)
    for assignment in overrides:
        content = override(content, assignment)
    return binding_from(content, str(path), path.stem)


def binding_from(content: Mapping[str, Any], where: str, name: str = "") -> ArmBinding:
    """The binding that `content` describes; `name`, when given, is what it must be called."""
    try:
        binding = to_dataclass(ArmBinding, content)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if name and binding.name != name:
        raise ConfigError(f"{where}: name is {binding.name!r} but the file is called {name!r}")
    return binding
