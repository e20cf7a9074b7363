"""How the three events of an episode look as bytes; `robot_rl.wire` is the way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.errors import WireError
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from robot_rl.wire_fields import Fields, check_name, pack, pack_array, pack_number, pack_observation

MAX_EVENT_BYTES = 64 * 1024 * 1024
PHASES = ("demo", "play", "learn", "evaluate")
EVENT_KINDS = ("start", "step", "end")

Event = EpisodeStart | Transition | EpisodeEnd


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with its place in the sender's stream; sequence numbers rise by one from 0."""

    session: str
    sequence: int
    event: Event


def encode_envelope(envelope: Envelope) -> bytes:
    """Bytes of an event; `WireError` when a value is not finite, too large or of an unknown dtype."""
    event = envelope.event
    kind = EVENT_KINDS[(EpisodeStart, Transition, EpisodeEnd).index(type(event))]
    body = {
        "session": check_name(envelope.session, "session"),
        "sequence": envelope.sequence,
        "episode_id": check_name(event.episode_id, "episode_id"),
    }
    return pack(kind, body | _pack_event(event), MAX_EVENT_BYTES)


def decode_envelope(data: bytes) -> Envelope:
    """The event as sent: a step's `observation` is empty, see `robot_rl.wire.EpisodeDecoder`."""
    fields = Fields.parse(data, MAX_EVENT_BYTES)
    kind = fields.choice("kind", EVENT_KINDS)
    session, sequence = fields.name("session"), fields.integer("sequence")
    unpack = (_unpack_start, _unpack_step, _unpack_end)[EVENT_KINDS.index(kind)]
    event = unpack(fields)
    fields.done()
    return Envelope(session, sequence, event)


def _pack_event(event: Event) -> dict[str, Any]:
    if isinstance(event, EpisodeStart):
        return {
            "phase": event.phase,
            "observation": pack_observation(event.observation),
            "stamp_s": pack_number(event.stamp_s, "stamp_s"),
            "seed": None if event.seed is None else int(event.seed),
            **({"operator": check_name(event.operator, "operator")} if event.operator else {}),
            **({"synthetic": True} if event.synthetic else {}),
        }
    if isinstance(event, EpisodeEnd):
        return {
            "success": bool(event.success),
            "steps": int(event.steps),
            "duration_s": pack_number(event.duration_s, "duration_s"),
            "interventions": int(event.interventions),
            "discarded": bool(event.discarded),
        }
    return {
        "step": int(event.step),
        "next_observation": pack_observation(event.next_observation),
        "proposed_action": pack_array(np.asarray(event.proposed_action, np.float32), "proposed_action"),
        "executed_action": pack_array(np.asarray(event.executed_action, np.float32), "executed_action"),
        "is_intervention": bool(event.is_intervention),
        "reward": pack_number(event.reward, "reward"),
        "terminated": bool(event.terminated),
        "truncated": bool(event.truncated),
        "stamp_s": pack_number(event.stamp_s, "stamp_s"),
        "policy_version": int(event.policy_version),
    }


def _unpack_start(fields: Fields) -> EpisodeStart:
    return EpisodeStart(
        episode_id=fields.name("episode_id"),
        phase=fields.choice("phase", PHASES),
        observation=fields.observation("observation"),
        stamp_s=fields.number("stamp_s"),
        seed=fields.optional_integer("seed"),
        operator=fields.optional_name("operator"),
        synthetic=fields.optional_flag("synthetic"),
    )


def _unpack_step(fields: Fields) -> Transition:
    proposed, executed = fields.vector("proposed_action"), fields.vector("executed_action")
    if proposed.shape != executed.shape:
        raise WireError(f"proposed action is {proposed.shape}, executed action is {executed.shape}")
    return Transition(
        episode_id=fields.name("episode_id"),
        step=fields.integer("step"),
        observation={},
        proposed_action=proposed,
        executed_action=executed,
        is_intervention=fields.take("is_intervention", bool),
        reward=fields.number("reward"),
        next_observation=fields.observation("next_observation"),
        terminated=fields.take("terminated", bool),
        truncated=fields.take("truncated", bool),
        stamp_s=fields.number("stamp_s"),
        policy_version=fields.integer("policy_version"),
    )


def _unpack_end(fields: Fields) -> EpisodeEnd:
    return EpisodeEnd(
        episode_id=fields.name("episode_id"),
        success=fields.take("success", bool),
        steps=fields.integer("steps"),
        duration_s=fields.number("duration_s"),
        interventions=fields.integer("interventions"),
        discarded=fields.take("discarded", bool),
    )
