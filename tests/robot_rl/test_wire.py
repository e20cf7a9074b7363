"""Bytes from elsewhere: what was sent comes back exactly, and anything else is a `WireError`."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot_rl.errors import WireError
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from robot_rl.wire import (
    Ack,
    Envelope,
    EpisodeDecoder,
    EpisodeEncoder,
    Event,
    SequenceGapError,
    decode_ack,
    decode_parameters,
    encode_ack,
    encode_envelope,
    encode_parameters,
)
from robot_rl.wire_events import decode_envelope
from tests.data.episodes import events, observation, transition

FUZZ = settings(max_examples=300, deadline=None)
EPISODE = list(events(1, 4, interventions=(2,)))
FRAMES = [encode_envelope(Envelope("session", number, event)) for number, event in enumerate(EPISODE)]
PARAMETERS = encode_parameters(3, {"w": np.ones((2, 3), np.float32), "n": np.arange(4)})
MESSAGES = [FRAMES[0], FRAMES[1], FRAMES[-1], PARAMETERS, encode_ack(Ack("session", 4))]
READERS: list[Callable[[bytes], Any]] = [decode_envelope, decode_parameters, decode_ack]


def pack(body: Any) -> bytes:
    return bytes(msgpack.Packer().pack(body))


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, EpisodeStart | Transition | EpisodeEnd):
        assert type(one) is type(other)
        for name in type(one).__dataclass_fields__:
            assert_same(getattr(one, name), getattr(other, name))
    else:
        assert type(one) is type(other)
        assert one == other


def accepts_or_refuses(data: bytes) -> None:
    """The property of every reader: a value, or a `WireError`, and nothing else."""
    for read in READERS:
        with suppress(WireError):
            read(data)
    with suppress(WireError):
        EpisodeDecoder().decode(data)


def test_an_episode_comes_back_as_it_was():
    encoder, decoder = EpisodeEncoder("session-1"), EpisodeDecoder()
    for number, event in enumerate(EPISODE):
        sent, data = encoder.encode(event)
        received = decoder.decode(data)
        assert received is not None
        assert (received.session, received.sequence) == (sent.session, sent.sequence) == ("session-1", number)
        assert_same(received.event, event)
        assert decoder.last("session-1") == number


def test_the_operator_travels_and_senders_that_know_of_none_are_understood():
    start = EPISODE[0]
    assert isinstance(start, EpisodeStart)
    named = decode_envelope(encode_envelope(Envelope("session", 0, replace(start, operator="clumsy")))).event
    assert isinstance(named, EpisodeStart) and named.operator == "clumsy"
    assert "operator" not in msgpack.unpackb(FRAMES[0])
    nobody = decode_envelope(FRAMES[0]).event
    assert isinstance(nobody, EpisodeStart) and nobody.operator == ""
    with pytest.raises(WireError, match="operator"):
        encode_envelope(Envelope("session", 0, replace(start, operator="../x")))
    with pytest.raises(WireError, match="operator"):
        decode_envelope(pack({**msgpack.unpackb(FRAMES[0]), "operator": 3}))


def test_each_frame_travels_once():
    image_bytes = 4 * 5 * 3
    assert len(FRAMES[2]) < 2 * image_bytes + 500
    assert msgpack.unpackb(FRAMES[1]).keys() >= {"next_observation"}
    assert "observation" not in msgpack.unpackb(FRAMES[1])


def test_repeats_are_dropped_and_gaps_are_named():
    decoder = EpisodeDecoder()
    for frame in FRAMES[:3]:
        assert decoder.decode(frame) is not None
    assert decoder.decode(FRAMES[1]) is None
    assert decoder.decode(FRAMES[2]) is None
    with pytest.raises(SequenceGapError, match="messages 3 to 3 are missing, got 4") as caught:
        decoder.decode(FRAMES[4])
    assert (caught.value.session, caught.value.expected, caught.value.got) == ("session", 3, 4)
    for number in (3, 4, 5):  # the sender repeats from there
        received = decoder.decode(FRAMES[number])
        assert received is not None
        assert_same(received.event, EPISODE[number])


def test_episodes_and_senders_may_interleave():
    one, two = list(events(1, 3)), list(events(2, 3))
    decoder = EpisodeDecoder()
    first, second = EpisodeEncoder("a"), EpisodeEncoder("b")
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    for event in mixed:
        for encoder in (first, second):
            received = decoder.decode(encoder.encode(event)[1])
            assert received is not None
            assert_same(received.event, event)


def test_a_late_receiver_joins_at_the_next_episode():
    later = [encode_envelope(Envelope("session", 6 + i, event)) for i, event in enumerate(events(2, 2))]
    decoder = EpisodeDecoder()
    with pytest.raises(SequenceGapError, match="0 to 2"):
        decoder.decode(FRAMES[3])
    assert decoder.decode(later[0]) is not None
    assert decoder.decode(later[1]) is not None


def test_forgetting_a_session_lets_it_join_anew():
    decoder = EpisodeDecoder()
    decoder.decode(FRAMES[0])
    lost = encode_envelope(Envelope("session", 9, next(events(2, 2))))
    with pytest.raises(SequenceGapError):
        decoder.decode(lost)
    decoder.forget("session")
    assert decoder.decode(lost) is not None
    with pytest.raises(WireError, match="never started"):
        decoder.decode(encode_envelope(Envelope("session", 10, EPISODE[1])))


def test_a_restarted_receiver_continues_where_it_was():
    before = EpisodeDecoder()
    received = [envelope for frame in FRAMES[:3] if (envelope := before.decode(frame))]
    after = EpisodeDecoder()
    after.restore({"session": -1, "other": 41}, received)
    assert after.last("session") == 2
    assert after.last("other") == 41
    assert after.decode(FRAMES[2]) is None
    continued = after.decode(FRAMES[3])
    assert continued is not None
    assert_same(continued.event, EPISODE[3])


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (transition(1, 2), "goes on with step 2, expected 0"),
        (replace(transition(1, 0), next_observation={"state": np.zeros(3, np.float32)}), "layout"),
        (EPISODE[0], "started twice"),
        (transition(5, 0), "never started"),
    ],
)
def test_impossible_streams_are_refused_and_leave_the_decoder_as_it_was(event: Event, what: str):
    decoder = EpisodeDecoder()
    decoder.decode(FRAMES[0])
    with pytest.raises(WireError, match=what):
        decoder.decode(encode_envelope(Envelope("session", 1, event)))
    received = decoder.decode(FRAMES[1])
    assert received is not None
    assert_same(received.event, EPISODE[1])


def test_parameters_come_back_and_are_writable():
    weight = torch.arange(6.0).reshape(2, 3).t()
    tensors = {"a.weight": weight, "step": torch.tensor(7), "e": torch.zeros(0, 4)}
    version, arrays = decode_parameters(encode_parameters(12, tensors))
    assert version == 12
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
        assert torch.from_numpy(arrays[name]).dtype == tensor.dtype
        arrays[name][...] = 0


def test_acks_come_back():
    for ack in (Ack("s", -1), Ack("another.session_1", 2**40)):
        assert decode_ack(encode_ack(ack)) == ack


@pytest.mark.parametrize(
    "event",
    [
        replace(transition(1, 0), reward=float("nan")),
        replace(transition(1, 0), next_observation={"state": np.array([np.inf], np.float32)}),
        replace(transition(1, 0), next_observation={"state": np.array(["text"])}),
        replace(transition(1, 0), next_observation={"state": np.array([object()])}),
        replace(transition(1, 0), episode_id="../../etc/passwd"),
        EpisodeStart("", "learn", observation(1, 0), 0.0),
        EpisodeStart("e", "learn", observation(1, 0), 0.0, seed=2**70),
    ],
)
def test_what_could_not_be_decoded_is_not_encoded(event: Event):
    with pytest.raises(WireError):
        encode_envelope(Envelope("session", 0, event))


def test_parameters_that_would_break_the_policy_are_not_sent():
    with pytest.raises(WireError, match="NaN"):
        encode_parameters(1, {"w": np.array([1.0, np.nan])})
    with pytest.raises(WireError, match="dtype"):
        encode_parameters(1, {"w": np.array(["a"])})


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes(data: bytes):
    accepts_or_refuses(data)


@pytest.mark.parametrize("message", MESSAGES, ids=["start", "step", "end", "parameters", "ack"])
def test_truncation_at_every_byte(message: bytes):
    for read in READERS:
        for end in range(len(message)):
            with pytest.raises(WireError):
                read(message[:end])


@FUZZ
@given(st.sampled_from(MESSAGES), st.lists(st.integers(0, 2**20), min_size=1, max_size=4))
def test_flipped_bits(message: bytes, bits: list[int]):
    data = bytearray(message)
    for bit in bits:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    accepts_or_refuses(bytes(data))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@FUZZ
@given(st.sampled_from(MESSAGES), st.integers(0, 100), JUNK, st.booleans())
def test_well_formed_messages_with_a_wrong_field(message: bytes, index: int, junk: Any, nested: bool):
    body = msgpack.unpackb(message)
    target = body
    if nested and (maps := [value for value in body.values() if isinstance(value, dict)]):
        target = maps[index % len(maps)]
        if nested and (maps := [value for value in target.values() if isinstance(value, dict)]):
            target = maps[index % len(maps)]
    target[sorted(target)[index % len(target)]] = junk
    accepts_or_refuses(pack(body))


def _parameters_with(header: bytes, body: bytes = b"") -> bytes:
    tensors = struct.pack("<Q", len(header)) + header + body
    return pack({"schema": 1, "kind": "parameters", "version": 1, "tensors": tensors})


HOSTILE = {
    "nested arrays that announce 2^32 - 1 elements": b"\xdd\xff\xff\xff\xff" * 2000,
    "nested arrays that announce as many as bytes follow": b"\xdc\x20\x00" * 3000,
    "a map of 2^32 - 1": b"\xdf\xff\xff\xff\xff",
    "4 GB of bytes": b"\x81\xa6schema\xc6\xff\xff\xff\xff",
    "an extension type": pack({"schema": msgpack.ExtType(5, b"x" * 10)}),
    "a timestamp": pack({"schema": msgpack.Timestamp(1)}),
    "a map as a key": b"\x81\x80\x01",
    "text that is not UTF-8": b"\x81\xa1\xff\x01",
    "a header of 2^60 bytes": _parameters_with(b"")[:-8] + struct.pack("<Q", 2**60),
    "a shape of 2^60": _parameters_with(
        b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}', b"1234"
    ),
    "an empty shape of 2^60": _parameters_with(
        b'{"a":{"dtype":"F32","shape":[0,1152921504606846976,64],"data_offsets":[0,0]}}'
    ),
    "a dtype without numpy equivalent": _parameters_with(
        b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}', b"1234"
    ),
    "parameters of NaN": _parameters_with(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', struct.pack("<f", float("nan"))
    ),
    "a pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_messages_are_refused_without_large_allocations(data: bytes):
    tracemalloc.start()
    try:
        for read in READERS:
            with pytest.raises(WireError):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@FUZZ
@given(
    st.lists(st.integers(-3, 2**40) | st.booleans() | st.none(), max_size=10),
    st.sampled_from(["float32", "uint8", "object", "float128", "V8", "bool"]),
    st.binary(max_size=24),
)
@example([0, 2**62], "uint8", b"")
@example([2**31, 2**33], "float32", b"")
def test_arrays_of_any_announced_shape(shape: list[Any], dtype: str, data: bytes):
    body = msgpack.unpackb(FRAMES[0])
    body["observation"] = {"state": {"dtype": dtype, "shape": shape, "data": data}}
    accepts_or_refuses(pack(body))


def test_messages_of_another_schema_or_size_are_refused(monkeypatch: pytest.MonkeyPatch):
    body = msgpack.unpackb(FRAMES[0])
    with pytest.raises(WireError, match="schema version 2"):
        decode_envelope(pack(body | {"schema": 2}))
    with pytest.raises(WireError, match="unknown fields"):
        decode_envelope(pack(body | {"more": 1}))
    monkeypatch.setattr("robot_rl.wire_events.MAX_EVENT_BYTES", 100)
    with pytest.raises(WireError, match="limit of 100"):
        decode_envelope(FRAMES[0])
    with pytest.raises(WireError, match="limit of 100"):
        encode_envelope(Envelope("session", 0, EPISODE[0]))
