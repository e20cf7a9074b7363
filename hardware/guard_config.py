"""Limits of the guard, with where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class GuardConfig:
    """Limits of one robot in one cell. There is no default workspace: each cell states its own."""

    workspace_low_m: tuple[float, float, float]
    """Lower corner of the TCP's box in the base frame; -inf leaves an axis open, 0 is a bound."""
    workspace_high_m: tuple[float, float, float]
    """Upper corner of the TCP's box in the base frame; inf leaves an axis open, 0 is a bound."""
    control_period_s: float = 0.1
    """Period of the actor that sends commands; HIL-SERL acts at 10 Hz (2410.21845)."""
    expire_periods: float = 2.0
    """A command computed from an observation older than this many control periods is stale."""
    tick_period_s: float = 0.02
    """Period of the published target: 50 Hz, well above the actor's rate."""
    state_timeout_s: float = 0.2
    """An arm state older than this disarms: 10 missed samples of a 50 Hz driver."""
    clock_jump_s: float = 1.0
    """A clock that goes backwards, or forwards by more than this between two ticks, disarms."""
    future_tolerance_s: float = 0.02
    """How far in the future a stamp may lie: twice the offset of two clocks kept by NTP on a LAN (10 ms)."""
    first_command_m: float = 0.05
    """The first command after arming is refused when further than this from the measured TCP."""
    first_command_rad: float = 0.3
    """The same for the orientation."""
    step_m: float = 0.05
    """Largest distance between target and measured TCP: 2.5 steps of 0.02 m, as SERL's tasks use."""
    step_rad: float = 0.3
    """Largest angle between target and measured TCP: 3 steps of 0.1 rad."""
    speed_m_s: float = 0.25
    """Largest speed of the target: reduced speed of ISO 10218-1:2011, 5.6.2 (250 mm/s)."""
    speed_rad_s: float = 0.8
    """Largest angular speed of the target: MoveIt Servo's default rotational scale (0.8 rad/s)."""
    hold_time_constant_s: float = 0.1
    """The target approaches the held pose with this time constant, so its velocity ramps to zero."""
    release_s: float = 0.3
    """After a source fell silent, lower ones wait this long beyond the expiry of its last command."""
    handover_s: float = 0.1
    """Least time in which the target reaches what a new source asks for."""
    interpolation_periods: float = 0.8
    """The target reaches a new command in this share of a control period, in a straight line: smooth at
    the rate of the ticks, and there before the next command, so that what is executed is what was asked."""
    pose_jump_m: float = 0.1
    """A measured TCP that moves further between two states is a fault: 5 m/s at 50 Hz, no arm does that."""
    pose_jump_rad: float = 0.5
    """The same for the orientation: 25 rad/s at 50 Hz."""
    quat_tolerance: float = 1e-3
    """Largest deviation of a quaternion's norm from 1; float32 rounding stays below 1e-6."""

    def __post_init__(self) -> None:
        for name in ("workspace_low_m", "workspace_high_m"):
            corner = getattr(self, name)
            numbers = len(corner) == 3 and all(isinstance(value, int | float) for value in corner)
            if not numbers or np.isnan(corner).any():
                raise ConfigError(f"{name} must be three numbers (m; use .inf for no bound), got {corner}")
        pairs = zip(self.workspace_low_m, self.workspace_high_m, strict=True)
        if any(low >= high for low, high in pairs):
            low, high = self.workspace_low_m, self.workspace_high_m
            raise ConfigError(f"workspace_low_m {low} must be below workspace_high_m {high} on every axis")
        for name, value in vars(self).items():
            if name.startswith("workspace"):
                continue
            may_be_zero = name in ("release_s", "handover_s", "future_tolerance_s", "interpolation_periods")
            if not np.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
                raise ConfigError(f"{name} must be a positive number, got {value}")

    @property
    def expire_s(self) -> float:
        """Age of the observation at which a command expires."""
        return self.control_period_s * self.expire_periods
