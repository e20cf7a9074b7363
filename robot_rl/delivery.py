"""Delivery of an actor's events to the learner over a line that may lose, repeat or break.

The sender keeps every message until the receiver has acknowledged it and repeats from the oldest
one on when the line stalls (go-back-N), a bounded window at a time, so that a learner that comes
back is not flooded. The receiver takes messages in order, puts them on disk and only then
acknowledges them. Nothing here knows which line it is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgpack

from robot_rl.errors import StaleError
from robot_rl.types import EpisodeEnd, EpisodeStart
from robot_rl.wire import Ack, Envelope, EpisodeDecoder, EpisodeEncoder, Event, SequenceGapError


class OutboxFullError(StaleError):
    """The receiver has been away for so long that no more may be kept."""


@dataclass(frozen=True)
class DeliveryConfig:
    """Bounds of the sender."""

    limit_bytes: int = 512 * 1024 * 1024
    """Memory for messages that are not acknowledged; a step beyond it raises `OutboxFullError`."""
    window_messages: int = 64
    """Messages under way at once."""
    window_bytes: int = 4 * 1024 * 1024
    """Bytes under way at once (one message may always go)."""
    stall_s: float = 0.5
    """Silence of the receiver after which the window is sent again."""


@dataclass(frozen=True, slots=True)
class _Message:
    sequence: int
    data: bytes
    opens_episode: bool


class Outbox:
    """What was sent and not yet acknowledged. Thread safe; sends nothing itself."""

    def __init__(self, session: str, config: DeliveryConfig) -> None:
        self.config = config
        self.session = session
        self.skipped = 0
        """Messages given up because the receiver had lost the beginning of their episode."""
        self._encoder = EpisodeEncoder(session)
        self._lock = threading.Lock()
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._in_flight = 0  # the first so many messages are under way
        self._in_flight_bytes = 0
        self._last_sequence = -1
        self._quiet_since_s = 0.0

    @property
    def last_sequence(self) -> int:
        """Sequence number of the newest message, -1 before the first."""
        return self._last_sequence

    @property
    def pending(self) -> int:
        """Messages not acknowledged yet."""
        return len(self._messages)

    @property
    def pending_bytes(self) -> int:
        return self._bytes

    def put(self, event: Event) -> None:
        """Queue an event. An episode's end always fits, so that every episode can be closed.

        Raises `OutboxFullError` when the receiver has not acknowledged `limit_bytes`.
        """
        with self._lock:
            if self._bytes >= self.config.limit_bytes and not isinstance(event, EpisodeEnd):
                raise OutboxFullError(
                    f"the learner has not acknowledged {len(self._messages)} messages "
                    f"({self._bytes / 1e6:.0f} MB, the limit); is it running?"
                )
            envelope, data = self._encoder.encode(event)
            self._messages.append(_Message(envelope.sequence, data, isinstance(event, EpisodeStart)))
            self._bytes += len(data)
            self._last_sequence = envelope.sequence

    def due(self, now_s: float) -> list[bytes]:
        """Messages to send now, oldest first; they count as under way from here on."""
        with self._lock:
            if self._in_flight and now_s - self._quiet_since_s >= self.config.stall_s:
                self._go_back()
            if not self._in_flight:
                self._quiet_since_s = now_s
            return self._fill_window()

    def acknowledge(self, ack: Ack, now_s: float) -> None:
        """Forget what the receiver holds; repeat at once when it says that something is missing."""
        if ack.session != self.session or ack.sequence > self._last_sequence:
            return
        with self._lock:
            if not self._messages:
                return
            expected = self._messages[0].sequence
            if ack.sequence >= expected:
                self._quiet_since_s = now_s
                while self._messages and self._messages[0].sequence <= ack.sequence:
                    self._drop_first()
            elif ack.sequence == expected - 1:
                self._repeat_soon(now_s)
            elif ack.sequence < 0:
                self._skip_to_episode()

    def _repeat_soon(self, now_s: float) -> None:
        """A repeated acknowledgement: the first message under way got lost, or both just crossed."""
        if self._in_flight and now_s - self._quiet_since_s >= self.config.stall_s / 10:
            self._go_back()

    def _skip_to_episode(self) -> None:
        """The receiver no longer knows this session, so it cannot use the rest of an open episode."""
        while self._messages and not self._messages[0].opens_episode:
            self._drop_first()
            self.skipped += 1
        self._go_back()

    def _go_back(self) -> None:
        self._in_flight = self._in_flight_bytes = 0

    def _drop_first(self) -> None:
        size = len(self._messages.popleft().data)
        self._bytes -= size
        if self._in_flight:
            self._in_flight -= 1
            self._in_flight_bytes -= size

    def _fill_window(self) -> list[bytes]:
        config, sending = self.config, []
        last = min(len(self._messages), config.window_messages)
        for index in range(self._in_flight, last):
            data = self._messages[index].data
            if self._in_flight and self._in_flight_bytes + len(data) > config.window_bytes:
                break
            sending.append(data)
            self._in_flight += 1
            self._in_flight_bytes += len(data)
        return sending


def actor_of(session: str) -> str:
    """The sender's name in a session `<name>-<unique>`: what stays the same when it restarts."""
    return session.rpartition("-")[0] or session


GAP_PATIENCE = 5
"""Repetitions of a message that does not follow, after which its predecessors are taken for lost."""


class Inbox:
    """Takes the messages of any number of senders in order, each exactly once.

    `keep` puts the bytes on disk, and does so before `accept` returns the acknowledgement; when it
    raises, the inbox must not be used any more. Feeding the kept bytes to `restore` of a new inbox
    puts that into the same state and yields the same events.
    """

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self.repeats = 0
        self.gaps = 0
        self._keep = keep
        self._decoder = EpisodeDecoder()
        self._open: dict[str, tuple[str, EpisodeEnd]] = {}  # actor -> session, end if it ended now
        self._gap = ("", 0, 0)  # session, expected, oldest got instead
        self._gap_repeats = 0

    def accept(self, data: bytes) -> tuple[list[Event], Ack]:
        """The new events in these bytes (none for a repeat) and the acknowledgement to send.

        An actor that starts an episode within another one was killed in between: the open one is
        closed first, as a failure, its steps being as good as any. Raises `WireError`.
        """
        try:
            envelope = self._decoder.decode(data)
        except SequenceGapError as gap:
            return [], self._miss(gap)
        if envelope is None:
            self.repeats += 1
            session = msgpack.unpackb(data)["session"]
            return [], Ack(session, self.last(session))
        self._keep(data)
        return self._follow(envelope), Ack(envelope.session, envelope.sequence)

    def restore(self, data: bytes) -> list[Event]:
        """The events of bytes that were kept earlier, without keeping them again."""
        try:
            envelope = self._decoder.decode(data)
        except SequenceGapError as gap:  # this session was forgotten here and joined anew
            self._decoder.forget(gap.session)
            envelope = self._decoder.decode(data)
        return [] if envelope is None else self._follow(envelope)

    def last(self, session: str) -> int:
        """Highest sequence number taken from `session`, -1 before the first."""
        return self._decoder.last(session)

    def _miss(self, gap: SequenceGapError) -> Ack:
        """Ask again; forget the session when its sender has nothing older to repeat."""
        self.gaps += 1
        session, expected, oldest = self._gap
        if (session, expected) != (gap.session, gap.expected) or gap.got < oldest:
            self._gap, self._gap_repeats = (gap.session, gap.expected, gap.got), 0
        elif gap.got == oldest:
            self._gap_repeats += 1
        if self._gap_repeats >= GAP_PATIENCE:
            self._decoder.forget(gap.session)
        return Ack(gap.session, self.last(gap.session))

    def _follow(self, envelope: Envelope) -> list[Event]:
        session, event = envelope.session, envelope.event
        actor = actor_of(session)
        before, ended = self._open.pop(actor, (session, None))
        if isinstance(event, EpisodeEnd):
            return [event]
        if isinstance(event, EpisodeStart):
            self._open[actor] = session, EpisodeEnd(event.episode_id, False, 0, 0.0, 0)
            if before != session:
                self._decoder.forget(before)
            return [event] if ended is None else [ended, event]
        interventions = event.is_intervention + (ended.interventions if ended else 0)
        self._open[actor] = session, EpisodeEnd(event.episode_id, False, event.step + 1, 0.0, interventions)
        return [event]
