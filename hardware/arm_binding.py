"""How one arm is bound to ROS 2: topics, joint names, command kind, gripper, faults, limits. By YAML alone.

`robot_rl/conf/robot/<name>.yaml` becomes one `ArmBinding`. What stands below `native` is the maker's driver's
(`hardware/native_binding.py`); what the rest of the system sees are the contract topics of the project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hardware import robots
from hardware.ik import IkConfig, Kinematics
from hardware.native_binding import NativeBinding
from hardware.yaml_files import ROBOT_DIR, override, read_mapping, robot_file
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import check_positive, to_dataclass
from robot_rl.types import FloatArray

FULL_TURNS_RAD = 4.0 * np.pi
"""No joint of an arm goes further, or as far in a second: such a number is in degrees."""


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
        if max(-self.lower_rad, self.upper_rad, self.velocity_rad_s) > FULL_TURNS_RAD:
            raise ConfigError(f"joint {self.name}: limits are in rad and rad/s; {self} looks like degrees")

    @property
    def native_name(self) -> str:
        return self.native or self.name


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
        for kind in ("name", "native_name"):
            if len({getattr(joint, kind) for joint in self.joints}) < len(self.joints):
                raise ConfigError(f"two joints have the same {kind}: {[getattr(one, kind) for one in self.joints]}")
        if not np.isfinite(self.pose_flange_tcp).all() or max(map(abs, self.pose_flange_tcp[:3])) > 1.0:
            raise ConfigError(f"pose_flange_tcp: {self.pose_flange_tcp[:3]} must be finite, and in m")
        if abs(float(np.linalg.norm(self.pose_flange_tcp[3:])) - 1.0) > 1e-3:
            raise ConfigError(f"pose_flange_tcp: {self.pose_flange_tcp[3:]} is not a unit quaternion")
        check_positive(self, "rate_hz")

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


def load_binding(name_or_path: str, overrides: Sequence[str] = (), folder: Path = ROBOT_DIR) -> ArmBinding:
    """The binding of arm `name_or_path` (a name in `folder` or a path to a .yaml or .yml file).

    `overrides` are `dotted.key=value`, values in YAML, as on the command line.
    """
    path = robot_file(name_or_path, folder)
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
