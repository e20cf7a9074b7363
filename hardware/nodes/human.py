"""What the person says (`human/joy`, `human/verdict`) and is told (`training/phase`), over topics."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Joy
from std_msgs.msg import String

from hardware import ros_messages
from robot_rl.types import ACTION_NAMES, HumanInput, Verdict

FRESH_S = 0.3
"""Age beyond which a message of the person's device no longer counts: a dead device has let go."""
PHASE = "training/phase"
PHASE_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SCRIPTED = "scripted_person"
"""Frame of the scripted person's messages; whoever else engages comes first."""


@dataclass(frozen=True, slots=True)
class PhaseMessage:
    """Which episode is coming or under way."""

    phase: str  # demo | learn | evaluate
    episode: int  # rises with every episode
    state: str  # reset: being prepared; run: under way; idle: over, or waiting

    def to_json(self) -> str:
        return json.dumps({"phase": self.phase, "episode": self.episode, "state": self.state})

    @staticmethod
    def from_json(text: str) -> PhaseMessage | None:
        """None for anything else."""
        try:
            content = json.loads(text)
            return PhaseMessage(str(content["phase"]), int(content["episode"]), str(content["state"]))
        except (ValueError, TypeError, KeyError):
            return None


class TopicHuman:
    """Implements `robot_rl.protocols.Human`. Several devices may speak, told apart by their frame."""

    def __init__(self, node: Node, names: Sequence[str]) -> None:
        """`names` of the action's directions. A device gives these, or all seven, of which these are taken."""
        self.malformed = 0
        self._dim = len(names)
        self._taken = [ACTION_NAMES.index(name) for name in names]
        self._log = node.get_logger()
        self._clock = node.get_clock()
        self._devices: dict[str, tuple[float, HumanInput]] = {}
        self._verdict: Verdict | None = None
        self._held = False
        self._changed = threading.Condition()
        self._idle = HumanInput(False, np.zeros(self._dim))
        node.create_subscription(Joy, "human/joy", self._on_joy, 10)
        node.create_subscription(String, "human/verdict", self._on_verdict, 10)

    def reset(self, phase: str) -> None:
        """Labels given before an episode do not count for it."""
        self._verdict = None

    def read(self) -> HumanInput:
        with self._changed:
            return self._newest()

    def verdict(self) -> Verdict | None:
        with self._changed:
            verdict, self._verdict = self._verdict, None
            return verdict

    def judge(self, verdict: Verdict) -> None:
        """Give a label in the person's name."""
        with self._changed:
            self._verdict = verdict

    def hold(self, engaged: bool) -> None:
        """Take over, or give back, without a device: the arm keeps still until somebody steers."""
        with self._changed:
            self._held = engaged
            self._changed.notify_all()

    def wait_until_engaged(self, timeout_s: float, give_up: Callable[[], bool]) -> bool:
        """Whether somebody took hold of the controls within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: give_up() or self._newest().engaged, timeout_s)

    def _newest(self) -> HumanInput:
        oldest_s = self._clock.now().nanoseconds * 1e-9 - FRESH_S
        engaged = {
            frame: said for frame, (stamp_s, said) in self._devices.items() if said.engaged and stamp_s > oldest_s
        }
        if self._held and not engaged.keys() - {SCRIPTED}:
            return HumanInput(True, np.zeros(self._dim))
        if not engaged:
            return self._idle
        return min(engaged.items(), key=lambda item: item[0] == SCRIPTED)[1]

    def _on_joy(self, message: Joy) -> None:
        axes = np.array(message.axes, np.float64)
        if len(axes) == len(ACTION_NAMES):
            axes = axes[self._taken]
        engaged = bool(message.buttons and message.buttons[0])
        if engaged and (axes.shape != (self._dim,) or not np.isfinite(axes).all()):
            self._complain(
                f"human/joy has axes {axes.tolist()}, expected {self._dim} finite ones, or {len(ACTION_NAMES)}"
            )
            return
        stamp_s = ros_messages.seconds_of(message.header.stamp)
        now_s = self._clock.now().nanoseconds * 1e-9
        if not math.isfinite(stamp_s) or stamp_s > now_s + FRESH_S:
            self._complain(f"human/joy is stamped {stamp_s - now_s:.1f} s in the future")
            return
        with self._changed:
            said = HumanInput(True, np.clip(axes, -1.0, 1.0)) if engaged else self._idle
            self._devices[message.header.frame_id] = (stamp_s, said)
            self._changed.notify_all()

    def _on_verdict(self, message: String) -> None:
        try:
            verdict = Verdict(message.data.strip())
        except ValueError:
            valid = ", ".join(one.value for one in Verdict)
            self._complain(f"human/verdict {message.data!r} is none of {valid}")
            return
        self.judge(verdict)

    def _complain(self, text: str) -> None:
        self.malformed += 1
        self._log.warning(f"ignored: {text} ({self.malformed} so far)", throttle_duration_sec=5.0)
