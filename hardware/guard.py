"""The guard: the last word before the arm. A state machine, the mux and the filters; no ROS, no clock.

    DISARMED --arm()--> ARMED --disarm(), stale state, clock jump--> DISARMED
    ARMED --fault(), measured pose jumps--> FAULT --recover()--> DISARMED

It starts DISARMED and says nothing until armed. While armed, every `tick` returns one target: the
chosen source's, filtered, or the measured pose at the moment when the last command expired (latched
once, so that an arm that sags does not drag its own target along). Filters, in order: sanity and the
first-command gate on each request; then step, workspace box and velocity on each tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from hardware import limits
from hardware.guard_config import GuardConfig
from hardware.mux import Choice, Mux
from robot_rl.errors import HardwareError
from robot_rl.types import ArmState, ArmTarget, FloatArray


class Mode(Enum):
    """State of the guard."""

    DISARMED = "disarmed"
    ARMED = "armed"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """What the guard tells the world about itself."""

    mode: Mode
    source: str
    reason: str  # why it is in this mode
    rejections: Mapping[str, int]  # refused requests and states, by kind
    clips: Mapping[str, int]  # ticks in which a filter changed the target, by filter

    @property
    def armed(self) -> bool:
        return self.mode is Mode.ARMED

    @property
    def headline(self) -> tuple[Mode, str, str]:
        """What a change of is worth telling at once."""
        return self.mode, self.source, self.reason


@dataclass(frozen=True, slots=True)
class _Segment:
    """A straight way from `start` (7,) to `goal` (7,)."""

    start: FloatArray
    goal: FloatArray
    began_s: float
    duration_s: float

    def at(self, now_s: float) -> FloatArray:
        fraction = float(np.clip((now_s - self.began_s) / self.duration_s, 0.0, 1.0))
        return limits.interpolate(self.start, self.goal, fraction)


class Guard:
    """See the module's docstring. Every method that needs the time is given it."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.mux = Mux(config.expire_s, config.release_s, config.handover_s)
        self._mode = Mode.DISARMED
        self._reason = "not armed since the start"
        self._rejections: Counter[str] = Counter()
        self._clips: Counter[str] = Counter()
        self._low_m = np.asarray(config.workspace_low_m, np.float64)
        self._high_m = np.asarray(config.workspace_high_m, np.float64)
        self._state: ArmState | None = None
        self._ticked_s: float | None = None
        self._gated = True  # no command has passed since arming
        self._gripper: float | None = None
        self._output = self._held = np.zeros(7)
        self._segment = _Segment(self._output, self._output, 0.0, 0.0)

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def gripper_target(self) -> float | None:
        """Gripper position commanded since arming; None while nobody has asked for one."""
        return self._gripper

    def status(self) -> GuardStatus:
        return GuardStatus(self._mode, self.mux.source, self._reason, dict(self._rejections), dict(self._clips))

    def arm(self, now_s: float) -> None:
        """Start to publish: hold the measured pose. Raises `HardwareError` with the reason when refused."""
        if self._mode is Mode.ARMED:
            return
        if self._mode is Mode.FAULT:
            raise HardwareError(f"cannot arm: fault ({self._reason}); clear its cause, recover, then arm")
        if self._state is None:
            raise HardwareError("cannot arm: no arm state received; is the arm driver running?")
        if not self._is_fresh(self._state, now_s):
            raise HardwareError(
                f"cannot arm: the arm state is {now_s - self._state.stamp_s:.3f} s old, "
                f"limit {self.config.state_timeout_s} s; is the arm driver running, do the clocks agree?"
            )
        self.mux.clear()
        self._gated = True
        self._gripper = None
        self._output = self._held = limits.unit_pose(self._state.pose_base_tcp)
        self._mode, self._reason = Mode.ARMED, "armed"

    def disarm(self, reason: str = "requested") -> None:
        """Stop publishing. A fault stays a fault."""
        if self._mode is Mode.ARMED:
            self._mode, self._reason = Mode.DISARMED, reason
            self.mux.clear()

    def fault(self, reason: str) -> None:
        """Stop publishing until `recover` and `arm` are called."""
        if self._mode is not Mode.FAULT:
            self._mode, self._reason = Mode.FAULT, reason
            self.mux.clear()

    def recover(self) -> None:
        """Leave the fault; the guard is then disarmed. Nothing happens when there is no fault."""
        if self._mode is Mode.FAULT:
            self._mode, self._reason = Mode.DISARMED, "recovered, not armed"
            self._state = None  # the next arm() needs a state measured after the fault was cleared

    def reject(self, kind: str) -> str:
        """Count a request that was refused, here or before it could become an `ArmTarget`."""
        self._rejections[kind] += 1
        return kind

    def update_state(self, state: ArmState) -> None:
        """Take in a measured state; unusable ones are counted and ignored."""
        fault = limits.pose_fault(state.pose_base_tcp, self.config.quat_tolerance)
        if fault is None and not np.isfinite([state.stamp_s, state.gripper_position]).all():
            fault = "not finite"
        if fault is not None:
            self.reject(f"state {fault}")
            return
        last = self._state
        if self._mode is Mode.ARMED and last is not None:
            if state.stamp_s < last.stamp_s:
                self.reject("state out of order")
                return
            if limits.too_far(
                state.pose_base_tcp, last.pose_base_tcp, self.config.pose_jump_m, self.config.pose_jump_rad
            ):
                moved_m, turned_rad = limits.distance(last.pose_base_tcp, state.pose_base_tcp)
                self.fault(f"measured pose jumped by {moved_m:.3f} m, {turned_rad:.2f} rad")
        self._state = state

    def request(self, source: str, target: ArmTarget, now_s: float) -> str | None:
        """Ask for `target`. Returns None when taken, else the kind of rejection (also counted)."""
        fault = self._request_fault(source, target, now_s)
        if fault is not None:
            return self.reject(fault)
        gripper = float(np.clip(target.gripper_position, 0.0, 1.0))
        pose = limits.unit_pose(target.pose_base_tcp)
        self.mux.request(source, ArmTarget(target.stamp_s, pose, gripper, source))
        self._gated = False
        return None

    def withdraw(self, source: str) -> None:
        """`source` lets go of the arm."""
        self.mux.withdraw(source)

    def tick(self, now_s: float) -> ArmTarget | None:
        """The target to publish now, or None while not armed."""
        dt_s = self._elapsed(now_s)
        state = self._state
        if self._mode is not Mode.ARMED or state is None:
            return None
        if not self._is_fresh(state, now_s):
            self.disarm(f"arm state is {now_s - state.stamp_s:.3f} s old")
            return None
        choice = self.mux.choose(now_s)
        if choice.target is None:
            if choice.changed:
                self._held = limits.unit_pose(state.pose_base_tcp)
            stamp_s = state.stamp_s
            pose = limits.ramp_to(self._held, self._output, dt_s, self.config.hold_time_constant_s)
        else:
            stamp_s = choice.target.stamp_s
            self._gripper = choice.target.gripper_position
            pose = self._way_to(choice, now_s)
            near = limits.clip_step(pose, state.pose_base_tcp, self.config.step_m, self.config.step_rad)
            pose = self._count_clip("step", pose, near)
        self._output = self._bound(pose, dt_s)
        gripper = state.gripper_position if self._gripper is None else self._gripper
        return ArmTarget(stamp_s, self._output.copy(), gripper, choice.source)

    def _way_to(self, choice: Choice, now_s: float) -> FloatArray:
        """Where the target is now on its straight way to the chosen command."""
        assert choice.target is not None
        goal = choice.target.pose_base_tcp
        if choice.changed or not np.array_equal(goal, self._segment.goal):
            # This tick's share of the way is taken now, at the tick.
            began_s = now_s - self.config.tick_period_s
            interpolation_s = self.config.interpolation_periods * self.config.control_period_s
            duration_s = max(interpolation_s, choice.handover_left_s, self.config.tick_period_s)
            self._segment = _Segment(self._output, goal, began_s, duration_s)
        return self._segment.at(now_s)

    def _bound(self, pose: FloatArray, dt_s: float) -> FloatArray:
        """Box, then velocity: the box is convex, so moving part of the way stays inside it."""
        config = self.config
        inside = limits.keep_inside(pose, self._output, self._low_m, self._high_m)
        pose = self._count_clip("workspace", pose, inside)
        slow = limits.limit_velocity(pose, self._output, dt_s, config.speed_m_s, config.speed_rad_s)
        return self._count_clip("velocity", pose, slow)

    def _count_clip(self, name: str, before: FloatArray, after: FloatArray) -> FloatArray:
        if not np.allclose(before, after, rtol=0.0, atol=1e-9):
            self._clips[name] += 1
        return after

    def _elapsed(self, now_s: float) -> float:
        """Time since the last tick, at most two nominal periods; a jump of the clock disarms."""
        last_s, self._ticked_s = self._ticked_s, now_s
        if last_s is None:
            return self.config.tick_period_s
        elapsed_s = now_s - last_s
        if not 0.0 <= elapsed_s <= self.config.clock_jump_s:
            self.disarm(f"clock jumped by {elapsed_s:.3f} s")
            self._state = None  # its stamp is of the old clock
        return float(np.clip(elapsed_s, 0.0, 2.0 * self.config.tick_period_s))

    def _is_fresh(self, state: ArmState, now_s: float) -> bool:
        age_s = now_s - state.stamp_s
        return -self.config.future_tolerance_s <= age_s <= self.config.state_timeout_s

    def _request_fault(self, source: str, target: ArmTarget, now_s: float) -> str | None:
        config, state = self.config, self._state
        if self._mode is not Mode.ARMED or state is None:
            return "not armed"
        fault = limits.pose_fault(target.pose_base_tcp, config.quat_tolerance)
        if fault is not None:
            return fault
        if not np.isfinite([target.stamp_s, target.gripper_position]).all():
            return "not finite"
        if now_s - target.stamp_s > config.expire_s:
            return "stale"
        if target.stamp_s - now_s > config.future_tolerance_s:
            return "future"
        if target.stamp_s < self.mux.newest_stamp_s(source):
            return "out of order"
        if self._gated and limits.too_far(
            target.pose_base_tcp, state.pose_base_tcp, config.first_command_m, config.first_command_rad
        ):
            return "first command too far"
        return None
