"""Typed bytes for everything that crosses a process boundary or lies in a journal. Never pickle.

A message is one msgpack map with the schema version and a kind; arrays are (dtype, shape, raw
little-endian bytes), parameters are safetensors. Whatever the bytes, `decode_*` either returns a
checked value or raises `WireError`, and allocates no more than a small multiple of the message.

A step carries its `next_observation` only: its observation is the start's at step 0 and the
previous step's `next_observation` afterwards; `EpisodeDecoder` puts it back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from robot_rl.errors import WireError
from robot_rl.types import EpisodeEnd, EpisodeStart, Observation
from robot_rl.wire_events import Envelope, Event, decode_envelope, encode_envelope
from robot_rl.wire_fields import Fields, check_finite, check_name, pack

__all__ = [
    "Ack", "Envelope", "EpisodeDecoder", "EpisodeEncoder", "Event", "SequenceGapError",
    "decode_ack", "decode_parameters", "encode_ack", "encode_envelope", "encode_parameters",
]  # fmt: skip

MAX_ACK_BYTES = 1024
MAX_PARAMETER_BYTES = 1024 * 1024 * 1024
MAX_SESSIONS = 64
MAX_OPEN_EPISODES = 256
PARAMETER_DTYPES = {
    "F16": "float16", "F32": "float32", "F64": "float64",
    "U8": "uint8", "I32": "int32", "I64": "int64",
}  # fmt: skip


class SequenceGapError(WireError):
    """Messages of a session are missing; the sender must repeat from `expected` on."""

    def __init__(self, session: str, expected: int, got: int) -> None:
        super().__init__(f"session {session}: messages {expected} to {got - 1} are missing, got {got}")
        self.session = session
        self.expected = expected
        self.got = got


@dataclass(frozen=True, slots=True)
class Ack:
    """The receiver holds every message of `session` up to `sequence` safely; -1 for none."""

    session: str
    sequence: int


def encode_ack(ack: Ack) -> bytes:
    body = {"session": check_name(ack.session, "session"), "sequence": ack.sequence}
    return pack("ack", body, MAX_ACK_BYTES)


def decode_ack(data: bytes) -> Ack:
    fields = Fields.parse(data, MAX_ACK_BYTES)
    fields.choice("kind", ("ack",))
    ack = Ack(fields.name("session"), fields.integer("sequence", low=-1))
    fields.done()
    return ack


def encode_parameters(version: int, tensors: Mapping[str, Any]) -> bytes:
    """`tensors`: arrays or CPU tensors by name, finite; dtypes as in `PARAMETER_DTYPES`."""
    arrays = {name: np.array(value, order="C") for name, value in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.name not in PARAMETER_DTYPES.values():
            valid = sorted(PARAMETER_DTYPES.values())
            raise WireError(f"parameter {name!r} is {array.dtype}; valid dtypes: {valid}")
        check_finite(array, f"parameter {name!r}")
    payload = safetensors.numpy.save(arrays)
    return pack("parameters", {"version": version, "tensors": payload}, MAX_PARAMETER_BYTES)


def decode_parameters(data: bytes) -> tuple[int, dict[str, NDArray[Any]]]:
    """(version, arrays by name); the arrays are copies and may be written to."""
    fields = Fields.parse(data, MAX_PARAMETER_BYTES)
    fields.choice("kind", ("parameters",))
    version, payload = fields.integer("version"), fields.take("tensors", bytes)
    fields.done()
    try:
        entries = safetensors.deserialize(payload)
    except safetensors.SafetensorError as error:
        raise WireError(f"parameters are not valid safetensors: {error}") from error
    return version, {name: _parameter(name, entry) for name, entry in entries}


class EpisodeEncoder:
    """Numbers and encodes the events of one sender."""

    def __init__(self, session: str) -> None:
        self.session = check_name(session, "session")
        self._sequence = 0

    def encode(self, event: Event) -> tuple[Envelope, bytes]:
        """The next message, as envelope and as bytes."""
        envelope = Envelope(self.session, self._sequence, event)
        data = encode_envelope(envelope)
        self._sequence += 1
        return envelope, data


@dataclass(slots=True)
class _Episode:
    """An episode under way: the observation before its next step."""

    observation: Observation
    next_step: int = 0


class EpisodeDecoder:
    """Decodes the streams of any number of senders, in order; drops repeats, detects gaps.

    After an error the decoder is as it was, so the sender may repeat the message.
    """

    def __init__(self, *, gaps_allowed: bool = False) -> None:
        """`gaps_allowed`: for one episode's messages, kept apart from others of the same sender."""
        self._gaps_allowed = gaps_allowed
        self._last: dict[str, int] = {}
        self._episodes: dict[tuple[str, str], _Episode] = {}

    def last(self, session: str) -> int:
        """Highest sequence number received from `session`, -1 before the first: what to acknowledge."""
        return self._last.get(session, -1)

    def decode(self, data: bytes) -> Envelope | None:
        """The event, complete with its observation; None for a repeat of one already decoded.

        A session not met before may join at sequence 0 or at any `EpisodeStart`. Raises
        `SequenceGapError` when messages are missing and `WireError` for everything else.
        Arrays are read-only views of `data`.
        """
        envelope = decode_envelope(data)
        session, sequence = envelope.session, envelope.sequence
        expected = self.last(session) + 1
        if sequence < expected:
            return None
        joins = session not in self._last and isinstance(envelope.event, EpisodeStart)
        if sequence > expected and not (joins or self._gaps_allowed):
            raise SequenceGapError(session, expected, sequence)
        envelope = replace(envelope, event=self._follow(session, envelope.event))
        if session not in self._last and len(self._last) >= MAX_SESSIONS:
            self.forget(next(iter(self._last)))
        self._last[session] = sequence
        return envelope

    def forget(self, session: str) -> None:
        """Give up on missing messages: the session joins anew at its next `EpisodeStart`."""
        self._last.pop(session, None)
        self._episodes = {key: value for key, value in self._episodes.items() if key[0] != session}

    def restore(self, last: Mapping[str, int], unfinished: Iterable[Envelope]) -> None:
        """Continue after a restart: what was received per session, and the events of open episodes."""
        self._last |= {session: max(last[session], self.last(session)) for session in last}
        for envelope in unfinished:
            self._follow(envelope.session, envelope.event)
            self._last[envelope.session] = max(envelope.sequence, self.last(envelope.session))

    def _follow(self, session: str, event: Event) -> Event:
        key = (session, event.episode_id)
        what = f"session {session}, episode {event.episode_id}"
        if isinstance(event, EpisodeStart):
            if key in self._episodes or len(self._episodes) >= MAX_OPEN_EPISODES:
                raise WireError(f"{what}: started twice, or {MAX_OPEN_EPISODES} episodes are open")
            self._episodes[key] = _Episode(event.observation)
            return event
        episode = self._episodes.get(key)
        if episode is None:
            raise WireError(f"{what}: continues but never started")
        if isinstance(event, EpisodeEnd):
            del self._episodes[key]
            return event
        if event.step != episode.next_step:
            raise WireError(f"{what}: goes on with step {event.step}, expected {episode.next_step}")
        if _layout(event.next_observation) != _layout(episode.observation):
            raise WireError(f"{what}: observation changes its layout at step {event.step}")
        event = replace(event, observation=episode.observation)
        episode.observation, episode.next_step = event.next_observation, event.step + 1
        return event


def _parameter(name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = PARAMETER_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise WireError(f"parameter {name!r} is {entry['dtype']}; valid: {sorted(PARAMETER_DTYPES)}")
    shape = entry["shape"]
    if math.prod(shape) * np.dtype(dtype).itemsize != len(entry["data"]):
        raise WireError(f"parameter {name!r} of shape {shape} has {len(entry['data'])} bytes")
    try:
        array = np.frombuffer(entry["data"], dtype).reshape(shape).copy()
    except ValueError as error:
        raise WireError(f"parameter {name!r} has shape {shape}: {error}") from error
    check_finite(array, f"parameter {name!r}")
    return array


def _layout(observation: Observation) -> dict[str, tuple[tuple[int, ...], str]]:
    return {key: (array.shape, array.dtype.name) for key, array in observation.items()}
