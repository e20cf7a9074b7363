"""What the page shows, where it is served, and how the person's hand scales to actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_rl.errors import ConfigError, SpecError
from robot_rl.typed import convert
from robot_rl.types import ActionSpec

Vector3 = tuple[float, float, float]
DEFAULT_MODEL = "fr3"
POSITIVE = (
    "service_timeout_s",
    "image_rate_hz",
    "image_width_px",
    "scene_rate_hz",
    "joy_rate_hz",
    "success_window",
)


@dataclass(frozen=True)
class TeleopConfig:
    """From the person's hand to normalised actions, and when control is taken away."""

    action: tuple[str, ...] = ("x", "y", "z", "gripper")
    """The env's action names, in its order (`robot_rl.types.ActionSpec`)."""
    translation_m: float = 0.02
    """Largest translation per env step and axis, as in the env's configuration."""
    rotation_rad: float = 0.1
    """Largest rotation per env step and axis, as in the env's configuration."""
    key_speed: float = 0.6
    """Share of a full step that a held key asks for."""
    key_speed_fine: float = 0.2
    """The same while Shift is held."""
    linger_s: float = 0.4
    """The person stays in control this long after letting go, to bridge the gap between two keys."""
    gripper_pulse_s: float = 0.6
    """Longest time that a gripper command is repeated when its effect is not seen."""
    dead_man_s: float = 1.0
    """Control is released when the page has been silent for this long."""
    tcp_timeout_s: float = 0.5
    """Control is released when the arm's pose is older than this."""

    def __post_init__(self) -> None:
        try:
            spec = self.spec
        except SpecError as error:
            raise ConfigError(str(error)) from error
        if min(spec.translation_m, spec.rotation_rad) <= 0:
            raise ConfigError("translation_m and rotation_rad must be positive")

    @property
    def spec(self) -> ActionSpec:
        return ActionSpec(self.action, self.translation_m, self.rotation_rad)


@dataclass(frozen=True)
class ObjectBox:
    """What stands for an object in the 3D view."""

    name: str
    """Name in the task state."""
    size_m: Vector3
    """Full size of the box along its axes."""


@dataclass(frozen=True)
class GuiConfig:
    """Everything that the page needs to know about the cell."""

    host: str = "127.0.0.1"
    """Address to serve the page on; one that other machines reach needs a token as well."""
    port: int = 8080
    """Port of the page; 0 takes a free one."""
    task: str = ""
    """File in conf/task whose action names and scales the person's hand gives, in place of `teleop`'s."""
    overrides: tuple[str, ...] = ()
    """Overrides of the task's configuration, the same as the actor's."""
    robot: str = ""
    """Name in conf/robot, or a YAML file: its `model` and its guard's workspace are used."""
    model: str = ""
    """Arm drawn in 3D, one of `hardware.gui.robot_model.ROBOTS`; the robot's when empty (without meshes: rods)."""
    cameras: tuple[str, ...] = ("front", "wrist")
    """Camera names; images come on `<camera>/color/image_raw`."""
    compressed: bool = False
    """Take `<camera>/color/image_raw/compressed` instead: less to carry from a robot on the network."""
    objects: tuple[ObjectBox, ...] = ()
    """Boxes drawn for objects of the task state; objects not named here are drawn as 4 cm cubes."""
    workspace_low_m: Vector3 | None = None
    """Lower corner of the box drawn as workspace, in the base frame; the robot's guard's when not given."""
    workspace_high_m: Vector3 | None = None
    """Upper corner of the box drawn as workspace, in the base frame; the robot's guard's when not given."""
    teleop: TeleopConfig = TeleopConfig()
    """Take-over by gizmo and keys."""
    arm_service: str = "guard/arm"
    """Service (Trigger) that lets commands through."""
    disarm_service: str = "guard/disarm"
    """Service (Trigger) that holds the arm where it is."""
    recover_service: str = "guard/recover"
    """Service (Trigger) that clears a fault."""
    reset_service: str = "reset_world"
    """Service (Trigger) that brings arm and objects to a start state, or that hears that a person has done so."""
    reset_label: str = "Reset"
    """Of its button."""
    reset_while_armed: bool = False
    """Whether that service may be called while the guard is armed. It may not where it makes the measured pose jump."""
    start_episode_service: str = "actor/start_episode"
    """Service (Trigger) that starts the next episode; empty hides the button."""
    end_episode_service: str = "actor/end_episode"
    """Service (Trigger) that ends the running episode; empty hides the button."""
    service_timeout_s: float = 30.0
    """A service that has not answered for this long is given up."""
    image_rate_hz: float = 5.0
    """Most images per second and camera that are sent to the page."""
    image_width_px: int = 320
    """Width of the frame that images are fitted into before they are sent."""
    scene_rate_hz: float = 10.0
    """Updates per second of the 3D arm, the objects and the gizmo."""
    joy_rate_hz: float = 20.0
    """Rate of `human/joy` while the person is engaged."""
    figures: tuple[str, ...] = (
        *("rate_hz", "late_ticks", "real_time_factor", "staleness_ms"),
        *("steering.value", "steering.spread", "steering.base_rank", "steering.samples"),
        *("subgoal.moves", "subgoal.value"),
        *("chunks.held", "chunks.failed"),
        *("service.promotion", "service.interventions", "service.success", "service.rolled_back"),
    )
    """Values of `/diagnostics` shown as live figures, by key, whichever node sends them."""
    success_window: int = 20
    """Episodes in the sliding window of the success and intervention rates."""

    def __post_init__(self) -> None:
        low, high = self.workspace_low_m, self.workspace_high_m
        if low and high and any(a >= b for a, b in zip(low, high, strict=True)):
            raise ConfigError("workspace_low_m must lie below workspace_high_m on every axis")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port must be in 0 to 65535 (0 takes a free one), got {self.port}")
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")

    def for_robot(self, robot: Mapping[str, Any]) -> GuiConfig:
        """With what is not given taken from the robot's YAML."""
        guard = robot.get("guard", {})
        return dataclasses.replace(
            self,
            model=self.model or str(robot.get("model", DEFAULT_MODEL)),
            workspace_low_m=self.workspace_low_m or _corner(guard, "workspace_low_m"),
            workspace_high_m=self.workspace_high_m or _corner(guard, "workspace_high_m"),
        )


def _corner(guard: Mapping[str, Any], name: str) -> Vector3 | None:
    return None if name not in guard else convert(Vector3, guard[name], f"guard.{name}")
