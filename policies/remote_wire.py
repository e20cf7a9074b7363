"""What a remote policy and its server say to each other: one request, one reply, as `robot_rl.wire` writes bytes.

Each request holds all that its answer depends on, so that the server keeps nothing of a client and either side may be
started anew.

Shape letters: K candidates, T observations, H horizon, A action, P prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import WireError
from robot_rl.typed import to_plain
from robot_rl.types import ActionSpec, FloatArray, Observation, ObservationSpec
from robot_rl.wire_fields import Fields, check_text, pack, pack_array, pack_observation

MAX_BYTES = 64 * 1024 * 1024
"""Of one message, either way."""
MAX_FAILURE_BYTES = 2000
REQUESTS = ("describe", "tell", "sample")
REPLIES = ("description", "told", "chunks", "failure")
FAILURES = ("message", "spec", "config", "policy")
"""Kinds: the bytes are none of ours; arrays do not fit; the policy cannot be told that; it failed."""


@dataclass(frozen=True, slots=True)
class Describe:
    """What is served?"""


@dataclass(frozen=True, slots=True)
class Tell:
    """`policies.sources.ChunkSource.tell`."""

    goal: Observation
    text: str
    start: Observation


@dataclass(frozen=True, slots=True)
class Sample:
    """`policies.sources.ManySource.sample_many`: observations each (T, ...)."""

    observation: Observation
    goal: Observation | None
    noise: FloatArray  # (K, H, A)
    seed: int
    prefix: FloatArray | None  # (P, A)


@dataclass(frozen=True, slots=True)
class Description:
    """The policy that is served, and what it was learned with."""

    horizon: int
    history: int
    version: int
    specs: dict[str, Any]
    """As `plain_specs` makes them."""


@dataclass(frozen=True, slots=True)
class Told:
    """What `Sample` is to be given for the goal."""

    goal: Observation | None


@dataclass(frozen=True, slots=True)
class Chunks:
    """The answer to `Sample`."""

    chunks: FloatArray  # (K, H, A)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer."""

    kind: str
    text: str


Request = Describe | Tell | Sample
Reply = Description | Told | Chunks | Failure


def plain_specs(observation_spec: ObservationSpec, action_spec: ActionSpec, rate_hz: float) -> dict[str, Any]:
    """What client and server must agree in, as both can compare it."""
    specs = {"observation_spec": observation_spec, "action_spec": action_spec, "rate_hz": rate_hz}
    return json.loads(json.dumps(to_plain(specs)))


def encode_request(request: Request) -> bytes:
    """`WireError` for what is no number, or too large."""
    if isinstance(request, Describe):
        return pack("describe", {}, MAX_BYTES)
    if isinstance(request, Tell):
        text = check_text(request.text, "a goal in words")
        body = {"text": text} | _observations(goal=request.goal, start=request.start)
        return pack("tell", body, MAX_BYTES)
    body = {"noise": pack_array(request.noise, "noise"), "seed": request.seed}
    body |= _observations(observation=request.observation, goal=request.goal or {})
    if request.prefix is not None:
        body["prefix"] = pack_array(request.prefix, "prefix")
    return pack("sample", body, MAX_BYTES)


def decode_request(data: bytes) -> Request:
    """The request; `WireError` for anything else."""
    fields = Fields.parse(data, MAX_BYTES)
    unpack = (_unpack_describe, _unpack_tell, _unpack_sample)[REQUESTS.index(fields.choice("kind", REQUESTS))]
    request = unpack(fields)
    fields.done()
    return request


def encode_reply(reply: Reply) -> bytes:
    """`WireError` for what is no number, or too large."""
    if isinstance(reply, Description):
        numbers = {"horizon": reply.horizon, "history": reply.history, "version": reply.version}
        return pack("description", {**numbers, "specs": json.dumps(reply.specs).encode()}, MAX_BYTES)
    if isinstance(reply, Told):
        return pack("told", _observations(goal=reply.goal or {}), MAX_BYTES)
    if isinstance(reply, Chunks):
        return pack("chunks", {"chunks": pack_array(reply.chunks, "chunks")}, MAX_BYTES)
    return pack("failure", {"failure": reply.kind, "text": reply.text.encode()[:MAX_FAILURE_BYTES]}, MAX_BYTES)


def decode_reply(data: bytes) -> Reply:
    """The reply; `WireError` for anything else."""
    fields = Fields.parse(data, MAX_BYTES)
    kind = fields.choice("kind", REPLIES)
    unpack = (_unpack_description, _unpack_told, _unpack_chunks, _unpack_failure)[REPLIES.index(kind)]
    reply = unpack(fields)
    fields.done()
    return reply


def _unpack_describe(fields: Fields) -> Describe:
    return Describe()


def _unpack_tell(fields: Fields) -> Tell:
    goal, start = (_writable(fields.optional_observation(name)) or {} for name in ("goal", "start"))
    return Tell(goal, fields.take("text", str), start)


def _unpack_sample(fields: Fields) -> Sample:
    prefix = fields.optional_array("prefix")
    return Sample(
        _writable(fields.observation("observation")) or {},
        _writable(fields.optional_observation("goal")),
        np.array(fields.array("noise")),
        fields.integer("seed"),
        None if prefix is None else np.array(prefix),
    )


def _unpack_description(fields: Fields) -> Description:
    text = fields.take("specs", bytes)
    try:
        specs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the served policy's specs are not JSON: {error}") from error
    if not isinstance(specs, dict):
        raise WireError(f"the served policy's specs are a {type(specs).__name__}, not a mapping")
    return Description(
        fields.integer("horizon", low=1), fields.integer("history", low=1), fields.integer("version"), specs
    )


def _unpack_told(fields: Fields) -> Told:
    return Told(_writable(fields.optional_observation("goal")))


def _unpack_chunks(fields: Fields) -> Chunks:
    return Chunks(np.array(fields.array("chunks")))


def _unpack_failure(fields: Fields) -> Failure:
    return Failure(fields.choice("failure", FAILURES), fields.take("text", bytes).decode(errors="replace"))


def _observations(**given: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Those that hold anything: a message leaves out what there is nothing of."""
    return {name: pack_observation(dict(value)) for name, value in given.items() if value}


def _writable(observation: Observation | None) -> Observation | None:
    """Copies: torch warns of arrays that must not be written to."""
    return None if observation is None else {key: np.array(value) for key, value in observation.items()}
