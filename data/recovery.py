"""From journals to sealed episodes: after an episode's end, and after a writer was killed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.episode import Episode, assemble
from data.journal import read_journal
from data.layout import JOURNAL
from data.store import EpisodeStore
from robot_rl.errors import RobotRlError
from robot_rl.types import EpisodeEnd
from robot_rl.wire import Envelope, EpisodeDecoder

SUFFIX = ".journal"

log = logging.getLogger(__name__)


@dataclass
class Recovered:
    """What `recover` did; `unfinished` are the journals that it left open, with their events."""

    sealed: int = 0
    damaged: list[str] = field(default_factory=list)
    unfinished: dict[Path, list[Envelope]] = field(default_factory=dict)


def journal_path(store: EpisodeStore, recording: str, episode_id: str) -> Path:
    """Where a new episode is journalled; names sort by time."""
    return store.path / JOURNAL / f"{time.time_ns():020d}.{recording}.{episode_id}{SUFFIX}"


def journals(store: EpisodeStore) -> list[Path]:
    """Journals not sealed yet, oldest first."""
    return sorted((store.path / JOURNAL).glob(f"*{SUFFIX}"))


def read_envelopes(path: Path) -> tuple[list[Envelope], str]:
    """The events of a journal up to its first damage, and what the damage is (empty when whole or torn)."""
    content = read_journal(path)
    decoder = EpisodeDecoder(gaps_allowed=True)
    envelopes: list[Envelope] = []
    for number, frame in enumerate(content.frames):
        try:
            envelope = decoder.decode(frame)
        except RobotRlError as error:
            return envelopes, f"frame {number}: {error}"
        if envelope is not None:
            envelopes.append(envelope)
    return envelopes, content.damage


def read_episode(path: Path, store: EpisodeStore) -> tuple[Episode | None, str]:
    """The episode in a journal as far as it is sound (None when nothing is), and what is wrong."""
    envelopes, damage = read_envelopes(path)
    if not envelopes:
        return None, damage
    recording = path.name.split(".")[1]
    try:
        return assemble(envelopes, store.observation_spec, store.action_spec.dim, recording), damage
    except RobotRlError as error:
        return None, str(error)


def seal(path: Path, store: EpisodeStore) -> str:
    """Append a journal's episode to the store and remove the journal; returns what was damaged.

    A damaged journal is sealed up to the damage and kept in the quarantine.
    """
    episode, damage = read_episode(path, store)
    if episode is not None:
        store.append(replace(episode, info=replace(episode.info, sealed_s=time.time())))
    if damage:
        kept = store.quarantine(path)
        log.warning("%s: %s; sealed up to there, the journal is kept as %s", path.name, damage, kept)
    else:
        path.unlink()
    return damage


def recover(store: EpisodeStore, *, keep_open: bool = False) -> Recovered:
    """Seal every journal that a writer left. With `keep_open`, sound ones without an end are left."""
    result = Recovered()
    known = {info.episode_id for info in store.infos}
    for path in journals(store):
        envelopes, damage = read_envelopes(path)
        if not envelopes and not damage:
            path.unlink()  # killed before its first event
        elif envelopes and envelopes[0].event.episode_id in known:
            path.unlink()  # killed after sealing it
        elif keep_open and not damage and not isinstance(envelopes[-1].event, EpisodeEnd):
            result.unfinished[path] = envelopes
        else:
            if found := seal(path, store):
                result.damaged.append(f"{path.name}: {found}")
            result.sealed += 1
    return result
