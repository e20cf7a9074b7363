"""A simulated world behind the guard's limits, in lockstep: what the guard changes or refuses is changed or refused.

The guard ticks once per control step, so a command reaches its end within the step unless a limit forbids it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hardware.guard import Guard
from hardware.guard_config import GuardConfig
from robot_rl.protocols import Arm, Camera, World
from robot_rl.types import ArmState, ArmTarget, TaskState


def lockstep_limits(config: GuardConfig, period_s: float) -> GuardConfig:
    """The same limits for a guard that ticks once per control period."""
    jump = period_s / config.tick_period_s  # states come as much later
    return replace(
        config,
        control_period_s=period_s,
        tick_period_s=period_s,
        interpolation_periods=0.0,
        handover_s=0.0,
        pose_jump_m=config.pose_jump_m * jump,
        pose_jump_rad=config.pose_jump_rad * jump,
        clock_jump_s=max(config.clock_jump_s, 2.0 * period_s),
        state_timeout_s=max(config.state_timeout_s, 2.0 * period_s),
    )


class GuardedWorld:
    """Implements `robot_rl.protocols.World` over another one in lockstep; counts of the present episode."""

    def __init__(self, world: World, config: GuardConfig) -> None:
        """`config` is that of `lockstep_limits`."""
        self._world = world
        self.arm = _GuardedArm(world.arm, config)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return self._world.cameras

    @property
    def limited_steps(self) -> int:
        """Steps whose command a limit changed."""
        return self.arm.limited

    @property
    def refused_steps(self) -> int:
        """Steps whose command was refused: the arm went on as before, or held."""
        return self.arm.refused

    def task_state(self) -> TaskState:
        return self._world.task_state()

    def reset(self, seed: int | None) -> None:
        self._world.reset(seed)
        self.arm.restart()

    def advance(self, duration_s: float) -> ArmTarget | None:
        """The target that was executed where it is not the one that was asked for."""
        self._world.advance(duration_s)
        return self.arm.changed

    def close(self) -> None:
        self._world.close()


class _GuardedArm:
    """Passes commands on as the guard lets them through."""

    def __init__(self, arm: Arm, config: GuardConfig) -> None:
        self._arm, self._config = arm, config
        self.restart()

    def restart(self) -> None:
        """A new episode: another clock, an armed guard, counts at zero."""
        self._guard = Guard(self._config)
        self._armed = False
        self.changed: ArmTarget | None = None
        self.limited = self.refused = 0

    def state(self) -> ArmState:
        state = self._arm.state()
        self._guard.update_state(state)
        self._now_s = state.stamp_s
        if not self._armed:
            self._guard.arm(self._now_s)
            self._armed = True
        return state

    def command(self, target: ArmTarget) -> None:
        refused = self._guard.request(target.source, target, self._now_s) is not None
        executed = self._guard.tick(self._now_s)
        self.refused += refused or executed is None
        if executed is None:  # disarmed: nothing is published, the arm keeps its last target
            self.changed = None
            return
        is_same = np.allclose(executed.pose_base_tcp[:3], target.pose_base_tcp[:3], rtol=0.0, atol=1e-9) and bool(
            abs(abs(executed.pose_base_tcp[3:] @ target.pose_base_tcp[3:]) - 1.0) < 1e-9
        )
        self.limited += not refused and not is_same
        self.changed = None if is_same else executed
        self._arm.command(target if is_same else executed)
