"""What stands between the guard's targets and one arm's driver: pure logic, no ROS, no clock of its own.

It merges the driver's state by joint name, watches the faults, and decides in each period whether, and
what, the arm is commanded. Nothing is sent before the guard has spoken, nor after it fell silent, nor
while a fault is up. `now_s` is a monotonic clock; stamps are the wall clock's.

Shape letters: N joints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hardware import limits
from hardware.arm_binding import ArmBinding
from hardware.commanders import COMMANDERS, LagError, Measured
from hardware.ik import UnreachableError
from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

CLOCK_RESET_S = 1.0
"""A stamp that lies so far in the past is a clock set back (a driver started anew), not a late message."""
QUAT_TOLERANCE = 1e-2
"""Drivers round: a quaternion's norm may be off 1 by so much before it is scaled to 1."""


class JointMerger:
    """Collects the arm's joints from JointState messages that may be partial and in any order."""

    def __init__(self, native_names: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(native_names)}
        self._pos = np.full(len(native_names), np.nan)
        self._vel = np.full(len(native_names), np.nan)
        self._stamps = np.full(len(native_names), -np.inf)

    def update(
        self, names: Sequence[str], position: Sequence[float], velocity: Sequence[float], stamp_s: float
    ) -> bool:
        """Take what concerns this arm; whether anything did. NaN and missing entries change nothing."""
        known = False
        for entry, name in enumerate(names):
            index = self._index.get(name)
            if index is None or entry >= len(position) or not np.isfinite(position[entry]):
                continue
            moved = position[entry] - self._pos[index]
            elapsed = stamp_s - self._stamps[index]
            if -CLOCK_RESET_S < elapsed < 0.0:
                continue
            self._pos[index] = position[entry]
            if entry < len(velocity) and np.isfinite(velocity[entry]):
                self._vel[index] = velocity[entry]
            elif elapsed > 0.0:
                self._vel[index] = moved / elapsed if np.isfinite(moved / elapsed) else 0.0
            self._stamps[index] = stamp_s
            known = True
        return known

    def missing(self) -> list[str]:
        """Joints that have not been heard of."""
        return [name for name, index in self._index.items() if not np.isfinite(self._pos[index])]

    def state(self) -> tuple[float, FloatArray, FloatArray] | None:
        """(stamp of the oldest joint, positions (N,), velocities (N,)), once every joint is known."""
        if self.missing():
            return None
        return float(self._stamps.min()), self._pos.copy(), np.nan_to_num(self._vel)


class ArmAdapter:
    """One arm between guard and driver. Feed it what arrives; ask `tick` each period what to send."""

    def __init__(self, binding: ArmBinding) -> None:
        if binding.native is None:
            raise ConfigError(
                f"robot {binding.name!r} has no native driver: it answers the contract topics itself, "
                "so it needs no arm node"
            )
        self.binding = binding
        self.native = binding.native
        self.kinematics = binding.kinematics()
        self.commander = COMMANDERS[self.native.command.kind](binding, self.kinematics)
        self.joints = JointMerger([joint.native_name for joint in binding.joints])
        self.counts: Counter[str] = Counter()
        self.reason = "waiting for the guard"
        self._pose: tuple[float, FloatArray] | None = None
        self._joints_at_s = self._pose_at_s = -np.inf
        self._target: tuple[float, FloatArray] | None = None
        self._sent_at_s: float | None = None
        self._has_sent = False
        self._held = False
        self._fault_values: dict[str, str] = {
            fault.topic: "not heard from" for fault in self.native.faults if fault.required
        }
        self._fault = ""

    def on_joints(
        self,
        names: Sequence[str],
        position: Sequence[float],
        velocity: Sequence[float],
        stamp_s: float,
        now_s: float,
    ) -> None:
        """A JointState of the driver."""
        if self.joints.update(names, position, velocity, stamp_s):
            self._joints_at_s = now_s

    def on_pose(self, frame_id: str, pose_base_tcp: FloatArray, stamp_s: float, now_s: float) -> None:
        """A TCP pose of the driver. One in another frame would send the arm elsewhere: it is refused."""
        if frame_id.lstrip("/") not in ("", self.binding.base_frame):
            self.counts[f"poses in frame {frame_id!r}"] += 1
            return
        pose = _sound(pose_base_tcp)
        if pose is None:
            self.counts["poses that are not sound"] += 1
            return
        self._pose, self._pose_at_s = (stamp_s, pose), now_s

    def on_target(self, frame_id: str, pose_base_tcp: FloatArray, now_s: float) -> None:
        """A target of the guard."""
        pose = _sound(pose_base_tcp)
        if pose is None or frame_id.lstrip("/") not in ("", self.binding.base_frame):
            self.counts["targets refused"] += 1
            return
        self._target = (now_s, pose)

    def forget_target(self) -> None:
        """Obey no target from before now."""
        self._target = None

    def on_fault(self, topic: str, value: object) -> None:
        """A value on a fault topic. A fault stays up until `recover`, also when the value is well again."""
        (fault,) = (fault for fault in self.native.faults if fault.topic == topic)
        if value in fault.ok:
            self._fault_values.pop(topic, None)
            return
        self._fault_values[topic] = f"is {value!r}, not {' or '.join(map(repr, fault.ok))}"
        if not self._fault:
            self.counts["faults"] += 1
        self._fault = f"{topic} {self._fault_values[topic]}"

    def recover(self) -> None:
        """Forget a fault that is over, and every target from before. A fault still up stays up."""
        self.forget_target()
        self._fault = ""
        for topic, value in self._fault_values.items():
            if value != "not heard from":
                self._fault = f"{topic} {value}"

    @property
    def fault(self) -> str:
        """Why the arm may not move; empty when it may."""
        return self._fault

    def measured(self) -> Measured | None:
        """The arm as the driver last reported it; None until every joint is known."""
        state = self.joints.state()
        if state is None:
            return None
        stamp_s, pos, vel = state
        if self.native.state.pose is None:
            return Measured(stamp_s, pos, vel, self.kinematics.forward(pos))
        if self._pose is None:
            return None
        return Measured(min(stamp_s, self._pose[0]), pos, vel, self._pose[1])

    def twist(self, measured: Measured) -> FloatArray:
        """(6,) TCP twist along the base's axes, from the joint velocities."""
        return self.kinematics.jacobian(measured.joint_pos_rad) @ measured.joint_vel_rad_s

    def wrench_base(self, wrench: FloatArray, measured: Measured) -> FloatArray:
        """(6,) wrench along the base's axes, from one along the axes that the binding names."""
        topic = self.native.state.wrench
        if topic is None or topic.frame == "base":
            return wrench
        tcp_in_flange = np.asarray(self.binding.pose_flange_tcp, np.float64)
        flange = frames.compose(measured.pose_base_tcp, frames.inverse(tcp_in_flange))
        rotation = frames.quat_to_matrix(flange[3:])
        return np.concatenate([rotation @ wrench[:3], rotation @ wrench[3:]])

    def tick(self, now_s: float) -> FloatArray | None:
        """What to send to the driver now, or None for nothing; `reason` says why."""
        measured = self.measured()
        self.reason = self._obstacle(now_s, measured)
        if self.reason or measured is None or self._target is None:
            return self._quiet(measured)
        period_s = 1.0 / self.binding.rate_hz
        # A late tick may catch up by two periods, not by however long the process stood still.
        dt_s = period_s if self._sent_at_s is None else min(now_s - self._sent_at_s, 2.0 * period_s)
        try:
            values = self.commander.track(self._target[1], measured, dt_s)
        except (UnreachableError, LagError) as error:
            self.counts[type(error).__name__] += 1
            self.reason = str(error)
            return self.commander.hold(measured) if self.commander.repeats_hold and self._has_sent else None
        self._sent_at_s, self._has_sent, self._held = now_s, True, False
        return values

    def _obstacle(self, now_s: float, measured: Measured | None) -> str:
        """Why the arm may not be commanded now; empty when it may."""
        if self._fault:
            return f"fault: {self._fault}; call recover"
        for topic, value in self._fault_values.items():
            return f"{topic} {value}"
        if measured is None:
            missing = ", ".join(self.joints.missing())
            return f"no state of {missing}" if missing else "no pose from the driver"
        heard_at_s = self._joints_at_s
        if self.native.state.pose is not None:
            heard_at_s = min(heard_at_s, self._pose_at_s)
        if now_s - heard_at_s > self.native.state.timeout_s:
            return f"the driver's state is {now_s - heard_at_s:.2f} s old"
        if self._target is None:
            return "waiting for the guard"
        age_s = now_s - self._target[0]
        return f"the guard has been silent for {age_s:.2f} s" if age_s > self.native.command.stale_s else ""

    def _quiet(self, measured: Measured | None) -> FloatArray | None:
        """The arm must not be commanded: forget the command; hold if it was moving."""
        self.commander.reset()
        self._sent_at_s = None
        if not self._has_sent or measured is None:
            return None
        if self.commander.repeats_hold:
            return self.commander.hold(measured)
        if self._held or self._fault or self.native.command.on_stale == "stop":
            return None
        self._held = True
        return self.commander.hold(measured)


def _sound(pose: FloatArray) -> FloatArray | None:
    """`pose` with a quaternion of norm 1, or None when it is not a pose."""
    return None if limits.pose_fault(pose, QUAT_TOLERANCE) else limits.unit_pose(pose)
