"""One whole episode as arrays, and what is known about it.

Shape letters: T steps, A action. Observation arrays have T + 1 rows: the last one is the episode's own
final observation.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError
from robot_rl.types import EpisodeEnd, EpisodeStart, Observation, ObservationSpec, Transition
from robot_rl.wire import Envelope, Event

OBSERVATION = "observation/"
STEP_DTYPES = {
    "proposed_action": "float32",  # (T, A)
    "executed_action": "float32",  # (T, A)
    "is_intervention": "bool",
    "reward": "float32",
    "terminated": "bool",
    "truncated": "bool",
    "stamp_s": "float64",
    "policy_version": "int64",
}
ACTIONS = ("proposed_action", "executed_action")


@dataclass(frozen=True)
class EpisodeInfo:
    """What is stored about an episode beside its arrays."""

    episode_id: str
    phase: str
    seed: int | None
    success: bool
    discarded: bool
    """Kept, but never trained on."""
    recovered: bool
    """The writer was killed before the episode's end; its last step counts as truncated."""
    steps: int
    duration_s: float
    started_s: float
    """Stamp of the first observation."""
    intervention_spans: tuple[tuple[int, int], ...]
    """Steps `begin <= i < end` in which the person acted."""
    policy_versions: tuple[int, ...]
    """Distinct parameter versions that acted, ascending."""
    recording: str
    """Name of the file under `recordings/` with configuration and software versions."""
    sender: str
    """Session that sent the events, and the last sequence number received from it."""
    last_sequence: int
    sealed_s: float = 0.0
    """Clock when the episode was sealed."""
    crc32: Mapping[str, int] = field(default_factory=dict)
    """Checksum of each array's rows."""
    damage: str = ""
    """Why `data verify` took the episode out of use; empty for a sound one."""
    operator: str = ""
    """Who was at the controls, where that is known."""
    synthetic: bool = False
    """Sampled from a model of the data, never seen on a robot or in a simulation."""

    @property
    def usable(self) -> bool:
        return not self.discarded and not self.damage

    def has_checksum(self, key: str, rows: NDArray[Any]) -> bool:
        """Whether the rows of array `key` are those that were recorded."""
        return checksum(rows) == self.crc32.get(key)

    @staticmethod
    def lost(steps: int, damage: str) -> EpisodeInfo:
        """Stands for a description that cannot be read."""
        return EpisodeInfo(
            episode_id="", phase="", seed=None, success=False, discarded=False, recovered=False, steps=steps,
            duration_s=0.0, started_s=0.0, intervention_spans=(), policy_versions=(), recording="", sender="",
            last_sequence=-1, damage=damage,
        )  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str, source: str) -> EpisodeInfo:
        try:
            values = json.loads(text)
            known = {one.name for one in fields(EpisodeInfo)}
            info = EpisodeInfo(**{key: value for key, value in values.items() if key in known})
            spans = tuple((int(begin), int(end)) for begin, end in info.intervention_spans)
            return replace(info, intervention_spans=spans, policy_versions=tuple(info.policy_versions))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{source} is not the description of an episode: {error}") from error


@dataclass(frozen=True)
class Episode:
    """`arrays`: `observation/<key>` with T + 1 rows, and the keys of `STEP_DTYPES` with T rows."""

    info: EpisodeInfo
    arrays: Mapping[str, NDArray[Any]]

    def observation(self, index: int) -> Observation:
        """Observation 0 ... T."""
        return {
            key.removeprefix(OBSERVATION): array[index]
            for key, array in self.arrays.items()
            if key.startswith(OBSERVATION)
        }

    def events(self) -> Iterator[Event]:
        """The stream that the episode came from."""
        info, arrays = self.info, self.arrays
        following = self.observation(0)
        yield EpisodeStart(
            info.episode_id,
            info.phase,
            following,
            info.started_s,
            info.seed,
            operator=info.operator,
            synthetic=info.synthetic,
        )
        for step in range(info.steps):
            observation, following = following, self.observation(step + 1)
            yield Transition(
                episode_id=info.episode_id,
                step=step,
                observation=observation,
                proposed_action=arrays["proposed_action"][step],
                executed_action=arrays["executed_action"][step],
                is_intervention=bool(arrays["is_intervention"][step]),
                reward=float(arrays["reward"][step]),
                next_observation=following,
                terminated=bool(arrays["terminated"][step]),
                truncated=bool(arrays["truncated"][step]),
                stamp_s=float(arrays["stamp_s"][step]),
                policy_version=int(arrays["policy_version"][step]),
            )
        interventions = int(np.count_nonzero(arrays["is_intervention"]))
        yield EpisodeEnd(info.episode_id, info.success, info.steps, info.duration_s, interventions, info.discarded)


def array_layout(
    observation_spec: ObservationSpec, action_dim: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Row shape and dtype of every array of an episode."""
    layout: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        OBSERVATION + key: (spec.shape, np.dtype(spec.dtype)) for key, spec in observation_spec.arrays.items()
    }
    for key, dtype in STEP_DTYPES.items():
        layout[key] = ((action_dim,) if key in ACTIONS else (), np.dtype(dtype))
    return layout


def assemble(
    envelopes: Sequence[Envelope], observation_spec: ObservationSpec, action_dim: int, recording: str
) -> Episode:
    """Build an episode from its events; without an `EpisodeEnd` it is marked `recovered`."""
    start, last = envelopes[0].event, envelopes[-1].event
    if not isinstance(start, EpisodeStart):
        raise DataError(f"episode {start.episode_id} has no start")
    steps = [envelope.event for envelope in envelopes if isinstance(envelope.event, Transition)]
    observations = [start.observation, *(step.next_observation for step in steps)]
    for observation in observations:
        observation_spec.check(observation)
    arrays: dict[str, NDArray[Any]] = {}
    for key, (shape, dtype) in array_layout(observation_spec, action_dim).items():
        if key.startswith(OBSERVATION):
            rows = [observation[key.removeprefix(OBSERVATION)] for observation in observations]
        else:
            rows = [getattr(step, key) for step in steps]
        arrays[key] = np.asarray(rows, dtype).reshape(len(rows), *shape)
    recovered = not isinstance(last, EpisodeEnd)
    if recovered and steps and not steps[-1].terminated:
        arrays["truncated"][-1] = True
    info = EpisodeInfo(
        episode_id=start.episode_id,
        phase=start.phase,
        seed=start.seed,
        success=bool(steps and steps[-1].terminated and steps[-1].reward > 0) if recovered else last.success,
        discarded=False if recovered else last.discarded,
        recovered=recovered,
        steps=len(steps),
        duration_s=(steps[-1].stamp_s if steps else start.stamp_s) - start.stamp_s if recovered else last.duration_s,
        started_s=start.stamp_s,
        intervention_spans=spans(arrays["is_intervention"]),
        policy_versions=tuple(int(version) for version in np.unique(arrays["policy_version"])),
        recording=recording,
        sender=envelopes[-1].session,
        last_sequence=envelopes[-1].sequence,
        crc32={key: checksum(array) for key, array in arrays.items()},
        operator=start.operator,
        synthetic=start.synthetic,
    )
    return Episode(info, arrays)


def spans(flags: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Maximal runs of True in `flags` (T,) as (begin, end), end exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple((int(begin), int(end)) for begin, end in edges.reshape(-1, 2))


def checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B")) if array.size else 0
