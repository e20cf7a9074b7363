"""Actor and learner over ROS 2: events up in step, the newest parameters down.

What is on the line: `learner/transitions` (messages of `robot_rl.wire`), `learner/ack`, and
`learner/parameters` (transient local, depth 1: only the newest is ever waiting), all of them
UInt8MultiArray, and the service `learner/flush`. Both ends live on a node that another thread spins.
"""

from __future__ import annotations

import array
import json
import queue
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger

from data.journal import Journal, read_journal
from robot_rl.delivery import DeliveryConfig, Inbox, Outbox
from robot_rl.errors import StaleError, WireError
from robot_rl.wire import Event, decode_ack, decode_parameters, encode_ack, encode_parameters

TRANSITIONS = "learner/transitions"
ACK = "learner/ack"
PARAMETERS = "learner/parameters"
FLUSH = "learner/flush"
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# Parameters travel behind: magic, crc32 of the rest, the learner's process (random), payload.
PARAMETER_MAGIC = b"RRP1"
PARAMETER_HEADER = struct.Struct("<4sIQ")


@dataclass(frozen=True)
class TransportConfig:
    """The actor's side of the line."""

    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    """Bounds of what waits for the learner."""
    patience_s: float = 60.0
    """How long `flush` waits for a learner that makes no progress."""


@dataclass(frozen=True, slots=True)
class _Parameters:
    learner: int
    version: int
    tensors: Mapping[str, torch.Tensor]


def frame_parameters(learner: int, version: int, tensors: Mapping[str, Any]) -> bytes:
    """Parameters with a checksum and the number of the learner process that made them."""
    payload = encode_parameters(version, tensors)
    tail = learner.to_bytes(8, "little") + payload
    return PARAMETER_MAGIC + zlib.crc32(tail).to_bytes(4, "little") + tail


def read_parameters(data: bytes) -> tuple[int, int, dict[str, torch.Tensor]]:
    """(learner process, version, tensors). Raises `WireError`."""
    if len(data) < PARAMETER_HEADER.size:
        raise WireError(f"parameters of {len(data)} bytes are shorter than their header")
    magic, crc, learner = PARAMETER_HEADER.unpack_from(data)
    if magic != PARAMETER_MAGIC:
        raise WireError(f"parameters begin with {magic!r}, expected {PARAMETER_MAGIC!r}")
    if zlib.crc32(memoryview(data)[8:]) != crc:
        raise WireError("parameters are damaged (checksum)")
    version, arrays = decode_parameters(data[PARAMETER_HEADER.size :])
    return learner, version, {name: torch.from_numpy(one) for name, one in arrays.items()}


class RosTransport:
    """The actor's end: implements `robot_rl.actor.FlushingTransport`.

    `send` and `parameters` return at once. An event is repeated until the learner has acknowledged
    it; when the learner is away for so long that the outbox is full, `send` raises `OutboxFullError`.
    """

    def __init__(self, node: Node, config: TransportConfig = TransportConfig(), name: str = "actor") -> None:
        self.config = config
        self.outbox = Outbox(f"{name}-{uuid.uuid4().hex[:12]}", config.delivery)
        self.malformed = 0
        self._log = node.get_logger()
        self._lock = threading.Lock()
        self._newest: _Parameters | None = None
        self._is_new = False
        self._newer = threading.Condition(self._lock)
        depth = config.delivery.window_messages
        self._events = node.create_publisher(UInt8MultiArray, TRANSITIONS, _reliable(depth))
        node.create_subscription(UInt8MultiArray, ACK, self._on_ack, _reliable(depth))
        node.create_subscription(UInt8MultiArray, PARAMETERS, self._on_parameters, NEWEST)
        self._flush = node.create_client(Trigger, FLUSH)
        self._sending = threading.Lock()  # keeps messages in order between the two threads
        node.create_timer(config.delivery.stall_s / 2, self._pump)

    def send(self, event: Event) -> None:
        self.outbox.put(event)
        self._pump()

    def parameters(self) -> tuple[int, Mapping[str, torch.Tensor]] | None:
        with self._lock:
            if not self._is_new or self._newest is None:
                return None
            self._is_new = False
            return self._newest.version, self._newest.tensors

    def flush(self) -> tuple[int, Mapping[str, torch.Tensor]]:
        """Wait until the learner has received everything and done all updates due; the result.

        Raises `StaleError` when the learner makes no progress for `patience_s`. A learner that
        restarts meanwhile only takes longer.
        """
        state, since_s = "", time.monotonic()
        while True:
            answer = self._ask() if self.outbox.pending == 0 else None
            if answer is not None and answer.get("settled"):
                newest = self._wait_for(int(answer["learner"]), int(answer["version"]))
                if newest is not None:
                    return newest.version, newest.tensors
            seen = f"{self.outbox.pending} messages to deliver, learner: {answer or 'no answer yet'}"
            if seen != state:
                state, since_s = seen, time.monotonic()
                self._log.info(f"waiting for the learner to finish: {seen}", throttle_duration_sec=5.0)
            if time.monotonic() - since_s > self.config.patience_s:
                raise StaleError(f"no progress of the learner for {self.config.patience_s:.0f} s: {seen}")
            time.sleep(0.2)

    def _ask(self) -> dict[str, Any] | None:
        """What the learner says about being finished; None when it does not answer."""
        if not self._flush.service_is_ready():
            return None
        answered = threading.Event()
        future = self._flush.call_async(Trigger.Request())
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(2.0):
            self._flush.remove_pending_request(future)
            return None
        response = future.result()
        return json.loads(response.message) if response is not None else None

    def _wait_for(self, learner: int, version: int) -> _Parameters | None:
        """The newest parameters once they are those; None when they do not come."""

        def arrived() -> bool:
            newest = self._newest
            return newest is not None and newest.learner == learner and newest.version >= version

        with self._newer:
            if not self._newer.wait_for(arrived, timeout=5.0):
                return None
            self._is_new = False
            return self._newest

    def _pump(self) -> None:
        with self._sending:
            for data in self.outbox.due(time.monotonic()):
                self._events.publish(to_message(data))

    def _on_ack(self, message: UInt8MultiArray) -> None:
        try:
            ack = decode_ack(bytes(message.data))
        except WireError as error:
            self._complain(f"acknowledgement ignored: {error}")
            return
        skipped = self.outbox.skipped
        self.outbox.acknowledge(ack, time.monotonic())
        if self.outbox.skipped > skipped:
            self._log.error(
                f"the learner has lost its record of this run: {self.outbox.skipped - skipped} steps of an "
                "episode under way are of no use to it"
            )
        self._pump()

    def _on_parameters(self, message: UInt8MultiArray) -> None:
        try:
            learner, version, tensors = read_parameters(bytes(message.data))
        except WireError as error:
            self._complain(f"parameters ignored: {error}")
            return
        with self._newer:
            newest = self._newest
            if newest is not None and newest.learner == learner and version <= newest.version:
                return
            self._newest, self._is_new = _Parameters(learner, version, tensors), True
            self._newer.notify_all()

    def _complain(self, text: str) -> None:
        self.malformed += 1
        self._log.warning(f"{text} ({self.malformed} so far)", throttle_duration_sec=5.0)


class RosLearnerEndpoint:
    """The learner's end: each event goes to the journal, then is acknowledged, then waits in `incoming`.

    `restore` must be consumed before `open`. Callbacks run in the thread that spins the node; a
    journal that cannot be written raises `DataError` there, and nothing is acknowledged any more.
    """

    def __init__(self, node: Node, journal: Path) -> None:
        self.incoming: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.received = 0
        """Events put into `incoming` so far."""
        self.malformed = 0
        self.flush_wanted = threading.Event()
        """Someone waits for `settle`."""
        self._node = node
        self._log = node.get_logger()
        self._learner = uuid.uuid4().int & (2**64 - 1)
        self._version = 0
        self._settled = -1
        self._path = journal
        self._journal = Journal(journal)
        self.inbox = Inbox(self._journal.append)
        self._parameters = node.create_publisher(UInt8MultiArray, PARAMETERS, NEWEST)
        self._acks = node.create_publisher(UInt8MultiArray, ACK, _reliable(64))

    def restore(self) -> Iterator[Event]:
        """Everything received before the last stop, in order."""
        for frame in read_journal(self._path).frames:
            yield from self.inbox.restore(bytes(frame))

    def open(self) -> None:
        """Begin to receive."""
        self._node.create_service(Trigger, FLUSH, self._on_flush)
        self._node.create_subscription(UInt8MultiArray, TRANSITIONS, self._on_message, _reliable(1000))

    def publish(self, version: int, tensors: Mapping[str, Any]) -> int:
        """Offer parameters to all actors, in place of older ones; returns the size in bytes."""
        data = frame_parameters(self._learner, version, tensors)
        self._parameters.publish(to_message(data))
        self._version = version
        return len(data)

    def settle(self, taken: int) -> None:
        """Nothing is due after `taken` events of `incoming`, and the parameters are published."""
        self.flush_wanted.clear()
        self._settled = taken

    def sync(self) -> None:
        """Force the journal to the disk: what survives a power cut, beyond what survives a kill."""
        self._journal.sync()

    def close(self) -> None:
        self._journal.sync()
        self._journal.close()

    def _on_message(self, message: UInt8MultiArray) -> None:
        try:
            events, ack = self.inbox.accept(bytes(message.data))
        except WireError as error:
            self.malformed += 1
            self._log.error(f"message refused, {self.malformed} so far: {error}", throttle_duration_sec=5.0)
            return
        self._acks.publish(to_message(encode_ack(ack)))
        for event in events:
            self.received += 1
            self.incoming.put(event)

    def _on_flush(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._settled == self.received
        if not response.success:
            self.flush_wanted.set()
        answer = {"settled": response.success, "version": self._version, "learner": self._learner}
        response.message = json.dumps(answer | {"received": self.received})
        return response


def to_message(data: bytes) -> UInt8MultiArray:
    message = UInt8MultiArray()
    message.data = array.array("B", data)
    return message


def _reliable(depth: int) -> QoSProfile:
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
