"""Listens to everything that a fault test judges by."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String, UInt8MultiArray

from hardware import ros_messages
from hardware.nodes.human import PHASE, PHASE_QOS, PhaseMessage
from robot_rl.types import FloatArray
from robot_rl.wire import decode_ack

DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
STATE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
STATUS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True, slots=True)
class Heard:
    """A pose, and when it was heard."""

    time_s: float  # monotonic
    pose: FloatArray  # (7,)


@dataclass
class Record:
    """Everything heard, in the order of hearing."""

    targets: list[Heard] = field(default_factory=list)
    states: list[Heard] = field(default_factory=list)
    modes: list[tuple[float, str]] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)
    phases: list[tuple[float, PhaseMessage]] = field(default_factory=list)
    episodes: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    @property
    def acked(self) -> int:
        """Messages that the learner has acknowledged, all sessions together."""
        return sum(last + 1 for last in self.acks.values())


class Recorder:
    """Fills `record` from a thread of its own."""

    def __init__(self, domain_id: int) -> None:
        self.record = Record()
        self._context = Context()
        rclpy.init(
            args=[],
            context=self._context,
            domain_id=domain_id,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = node = Node("fault_recorder", context=self._context)
        record = self.record
        node.create_subscription(
            PoseStamped, "target_pose", lambda message: record.targets.append(_heard(message)), DEEP
        )
        node.create_subscription(
            PoseStamped, "current_pose", lambda message: record.states.append(_heard(message)), STATE
        )
        node.create_subscription(DiagnosticArray, "guard/status", self._on_status, STATUS)
        node.create_subscription(UInt8MultiArray, "learner/ack", self._on_ack, DEEP)
        node.create_subscription(String, PHASE, self._on_phase, PHASE_QOS)
        node.create_subscription(
            String, "training/episode", lambda message: record.episodes.append(json.loads(message.data)), DEEP
        )
        node.create_subscription(
            String,
            "training/metrics",
            lambda message: record.metrics.append((time.monotonic(), json.loads(message.data))),
            DEEP,
        )
        self._executor = EventsExecutor(context=self._context)
        self._executor.add_node(node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[], object], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _on_status(self, message: DiagnosticArray) -> None:
        mode = ros_messages.read_diagnostics(message).get("mode", "unknown")
        self.record.modes.append((time.monotonic(), mode))

    def _on_ack(self, message: UInt8MultiArray) -> None:
        ack = decode_ack(bytes(message.data))
        if ack.sequence > self.record.acks.get(ack.session, -1):
            self.record.acks[ack.session] = ack.sequence

    def _on_phase(self, message: String) -> None:
        told = PhaseMessage.from_json(message.data)
        assert told is not None, message.data
        self.record.phases.append((time.monotonic(), told))


def _heard(message: PoseStamped) -> Heard:
    return Heard(time.monotonic(), ros_messages.read_pose(message))
