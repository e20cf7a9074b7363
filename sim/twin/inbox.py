"""What may enter a twin: every measurement is checked here, and what is wrong is counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import FloatArray

UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class InboxConfig:
    """Ages and rates that measurements may have."""

    future_s: float = 0.02
    """A stamp may be ahead of the clock by so much."""
    joint_timeout_s: float = 0.2
    """Joints older than this: the twin is blind and holds still."""
    pose_timeout_s: float = 0.5
    """An object not seen for so long: the same. Up to then physics alone carries it."""
    max_joint_rad_s: float = 10.0
    """Faster joints are a fault of the measurement."""


@dataclass
class Inbox:
    """Newest sound measurements. N joints of the arm; stamps in s of one clock."""

    joint_names: tuple[str, ...]
    """Of the arm, in the twin's order."""
    object_names: tuple[str, ...]
    """Tracked objects."""
    config: InboxConfig = field(default_factory=InboxConfig)
    """See there."""
    rejected: Counter[str] = field(default_factory=Counter)
    """How many measurements were refused, by reason."""
    joint_stamp_s: float = -np.inf
    """Of the newest joints."""
    joints: FloatArray | None = None
    """(N,) newest; None before the first."""
    velocity: FloatArray | None = None
    """(N,) between the newest two."""
    pose_stamps_s: dict[str, float] = field(default_factory=dict)
    """Of the newest pose of each object."""

    def take_joints(self, stamp_s: float, positions: Mapping[str, float], now_s: float) -> bool:
        """Whether `positions` by name are newer, complete and sound."""
        values = np.array([positions.get(name, np.nan) for name in self.joint_names], np.float64)
        if not np.isfinite(values).all():
            return self._refuse("joints: incomplete or not finite")
        if not self._is_timely("joints", stamp_s, self.joint_stamp_s, now_s):
            return False
        elapsed_s = stamp_s - self.joint_stamp_s
        if self.joints is None or elapsed_s > self.config.joint_timeout_s:
            velocity = np.zeros_like(values)
        else:
            velocity = (values - self.joints) / elapsed_s
            if float(np.abs(velocity).max()) > self.config.max_joint_rad_s:
                return self._refuse("joints: jump")
        self.joint_stamp_s, self.joints, self.velocity = stamp_s, values, velocity
        return True

    def take_pose(self, name: str, stamp_s: float, pose: FloatArray, now_s: float) -> FloatArray | None:
        """The pose (7,) with a quaternion of norm 1, when it is newer and sound."""
        if name not in self.object_names:
            self._refuse("pose: unknown object")
            return None
        if pose.shape != (7,) or not np.isfinite(pose).all():
            self._refuse("pose: not finite")
            return None
        norm = float(np.linalg.norm(pose[3:]))
        if abs(norm - 1.0) > UNIT_TOLERANCE:
            self._refuse("pose: quaternion not of norm 1")
            return None
        if not self._is_timely("pose", stamp_s, self.pose_stamps_s.get(name, -np.inf), now_s):
            return None
        self.pose_stamps_s[name] = stamp_s
        return np.concatenate([pose[:3], pose[3:] / norm])

    def blind(self, now_s: float) -> str:
        """What is missing to follow the robot; empty when nothing is."""
        if self.joints is None or now_s - self.joint_stamp_s > self.config.joint_timeout_s:
            return "no joints"
        lost = [
            name
            for name in self.object_names
            if now_s - self.pose_stamps_s.get(name, -np.inf) > self.config.pose_timeout_s
        ]
        return f"no pose of {', '.join(lost)}" if lost else ""

    def clear(self) -> None:
        """The clock was set back: what was measured before cannot be compared with what comes."""
        self.joint_stamp_s, self.joints, self.velocity = -np.inf, None, None
        self.pose_stamps_s.clear()

    def _is_timely(self, kind: str, stamp_s: float, newest_s: float, now_s: float) -> bool:
        if not np.isfinite(stamp_s) or stamp_s > now_s + self.config.future_s:
            return self._refuse(f"{kind}: from the future")
        if stamp_s <= newest_s:
            return self._refuse(f"{kind}: not newer than the last")
        return True

    def _refuse(self, reason: str) -> bool:
        self.rejected[reason] += 1
        return False
