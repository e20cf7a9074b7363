"""Which policy is in service on an arm, and how it came there. Files alone, readable after a kill at any time.

  in_service.json          the one pointer: the newest event. It is replaced as a whole.
  history/000003.json      one file per event, never altered; each names the one before it
  policies/SHA/            what was promoted, copied: a run in itself, so that rolling back needs nothing else
  deployments/000003.jsonl how the policy of that promotion fared on the arm, one line per episode

An event that was written but not pointed to (the process was killed in between) has not happened.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from robot_rl.errors import ConfigError, DataError
from robot_rl.files import read_object, write_file
from robot_rl.identity import EXPERIMENT, POLICY, Identity, identity_of
from robot_rl.typed import to_dataclass

POINTER = "in_service.json"


@dataclass(frozen=True)
class Promoted:
    """A policy that was let onto the arm."""

    name: str
    """As the evaluation calls it."""
    source: str
    """The checkpoint's folder at that time."""
    checkpoint: str
    """SHA-256 of its policy's bytes."""
    copy: str
    """The copied checkpoint, below the registry."""
    evaluation: str = ""
    """Folder of the evaluation it was judged by."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What the evaluation says of it."""
    refusals: tuple[str, ...] = ()
    """Why it would have been refused, where it was forced."""
    experiment: str = ""
    """SHA-256 of its experiment.json; records of before lack it."""

    @property
    def identity(self) -> Identity:
        return Identity(self.checkpoint, self.experiment)


@dataclass(frozen=True)
class Event:
    """A promotion or a roll-back. Events are numbered from 1; a promotion is known by its event's number."""

    number: int
    parent: int
    """The event before it; 0 for the first."""
    kind: Literal["promoted", "rolled back"]
    serving: tuple[int, ...]
    """Promotions that a roll-back could return to, oldest first; the last one is in service from here on."""
    at: str
    """ISO 8601, UTC."""
    by: str
    why: str
    promoted: Promoted | None = None
    """Of a promotion."""

    @property
    def in_service(self) -> int:
        return self.serving[-1]


@dataclass(frozen=True)
class DeployedEpisode:
    """One episode of a policy in service."""

    episode_id: str
    at: str
    run_dir: str
    steps: int
    interventions: int
    """Steps in which the person acted."""
    success: bool
    discarded: bool
    guard_rejected: int = 0
    """Requests that the guard refused meanwhile."""
    guard_clipped: int = 0
    """Ticks in which its limits changed the target."""


class Registry:
    """Reads and writes a registry's folder. Several processes may: changes are made one at a time."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(
                f"{folder} is no folder: a registry is one; --service (of a deployment: service) names it"
            )
        self.folder = folder
        self._turn, self._held = threading.RLock(), False

    @property
    def newest(self) -> Event | None:
        """The event that the pointer names; None before the first promotion."""
        pointer = self.folder / POINTER
        if not pointer.exists():
            return None
        number = read_object(pointer).get("event")
        if type(number) is not int:
            raise DataError(f'{pointer} names no event: {{"event": 3}} would name {self._path(3)}, got {number!r}')
        return self.event(number)

    def event(self, number: int) -> Event:
        """`DataError` when it cannot be read."""
        path = self._path(number)
        try:
            event = to_dataclass(Event, read_object(path), str(path))
        except ConfigError as error:
            raise DataError(f"{path} is no event: {error}") from error
        if event.number != number or event.parent >= number or not event.serving:
            raise DataError(f"{path} is not event {number}: it was altered, or is another registry's")
        return event

    def history(self) -> list[Event]:
        """Everything that happened, oldest first."""
        events, event = [], self.newest
        while event is not None:
            events.append(event)
            event = self.event(event.parent) if event.parent else None
        return events[::-1]

    def in_service(self) -> tuple[int, Promoted] | None:
        """The promotion in service and its number."""
        newest = self.newest
        return None if newest is None else (newest.in_service, self.promoted(newest.in_service))

    def promoted(self, number: int) -> Promoted:
        """What event `number` promoted."""
        promoted = self.event(number).promoted
        if promoted is None:
            raise DataError(f"{self._path(number)} is no promotion")
        return promoted

    def checkpoint(self, promoted: Promoted) -> Path:
        """The copied checkpoint; `DataError` unless its bytes are those that were promoted."""
        if altered := self.altered(promoted):
            raise DataError(altered)
        return self.folder / promoted.copy

    def altered(self, promoted: Promoted) -> str:
        """What of the copy is not as it was promoted, in words; empty where all is."""
        path = self.folder / promoted.copy
        try:
            found = identity_of(path.parents[1], path)
        except DataError as error:
            return str(error)
        if found.checkpoint != promoted.checkpoint:
            return f"{path} was altered: its policy hashes to {found.checkpoint[:12]}, not {promoted.checkpoint[:12]}"
        known = promoted.experiment or "".join(
            path.parents[1].name.split("_")[1:2]
        )  # the folder's name has 8 digits of it
        if not found.experiment.startswith(known):
            return f"{path} was altered: its {EXPERIMENT} hashes to {found.experiment[:12]}, not {known[:12]}"
        return ""

    def promote(
        self,
        run_dir: Path,
        checkpoint: Path,
        *,
        name: str,
        why: str,
        evaluation: str = "",
        figures: Mapping[str, Any] | None = None,
        refusals: Sequence[str] = (),
    ) -> Event:
        """Copy the checkpoint and put it in service."""
        with self.changing():
            made, copy = self._copy(run_dir, checkpoint)
            source, known = str(checkpoint.resolve()), (evaluation, figures or {}, tuple(refusals))
            promoted = Promoted(name, source, made.checkpoint, str(copy), *known, made.experiment)
            return self._append("promoted", lambda number, serving: (*serving, number), why, promoted)

    def roll_back(self, why: str, expected: int | None = None) -> Event:
        """Return to what was in service before.

        With `expected` only if that promotion is in service still: a person may have been faster. `ConfigError`
        when there is nothing to return to.
        """
        with self.changing():
            newest = self.newest
            if newest is not None and expected not in (None, newest.in_service):
                raise ConfigError(f"promotion {expected} is not in service any more, but {newest.in_service}")
            if newest is None or len(newest.serving) < 2:
                raise ConfigError(f"there is nothing to roll back to in {self.folder}; `robot-rl promote --list`")
            return self._append("rolled back", lambda number, serving: serving[:-1], why)

    def add_episode(self, promotion: int, episode: DeployedEpisode) -> None:
        path = self._deployments(promotion)
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a kill within the last line
        with path.open("a") as stream:
            stream.write("\n" * torn + json.dumps(asdict(episode)) + "\n")

    def episodes(self, promotion: int) -> list[DeployedEpisode]:
        """How it fared so far, oldest first; lines that a kill has torn are left out."""
        path = self._deployments(promotion)
        found = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            try:
                found.append(to_dataclass(DeployedEpisode, json.loads(line)))
            except (ValueError, ConfigError):
                continue
        return found

    def _append(self, kind: Any, serve: Any, why: str, promoted: Promoted | None = None) -> Event:
        newest = self.newest
        numbers = [int(path.stem) for path in (self.folder / "history").glob("[0-9]*.json")]
        number = max(numbers, default=0) + 1
        serving = serve(number, newest.serving if newest else ())
        event = Event(number, newest.number if newest else 0, kind, serving, now(), person(), why, promoted)
        self._path(number).parent.mkdir(parents=True, exist_ok=True)
        write_file(self._path(number), json.dumps(asdict(event), indent=1, allow_nan=False) + "\n")
        write_file(self.folder / POINTER, json.dumps({"event": number}) + "\n")
        return event

    def _copy(self, run_dir: Path, checkpoint: Path) -> tuple[Identity, Path]:
        """(what it is, copied checkpoint below the registry): what acting needs, laid out as a run."""
        partial = self.folder / "policies" / ".partial"  # one change at a time: a killed one left it
        shutil.rmtree(partial, ignore_errors=True)
        inner = partial / "checkpoints" / checkpoint.name
        inner.mkdir(parents=True)
        try:
            shutil.copyfile(run_dir / EXPERIMENT, partial / EXPERIMENT)
            shutil.copyfile(checkpoint / POLICY, inner / POLICY)
        except OSError as error:
            raise DataError(f"{checkpoint} cannot be copied: {error}") from error
        made = identity_of(partial, inner)
        run = Path("policies") / f"{made.checkpoint[:16]}_{made.experiment[:8]}_{checkpoint.name}"
        copy = run / "checkpoints" / checkpoint.name
        with suppress(DataError):
            if identity_of(self.folder / run, self.folder / copy) == made:  # it is there, and whole
                shutil.rmtree(partial)
                return made, copy
        shutil.rmtree(self.folder / run, ignore_errors=True)
        partial.rename(self.folder / run)
        return made, copy

    def _path(self, number: int) -> Path:
        return self.folder / "history" / f"{number:06d}.json"

    def _deployments(self, promotion: int) -> Path:
        return self.folder / "deployments" / f"{promotion:06d}.jsonl"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes the registry within. The lock of a killed process is gone with it."""
        with self._turn:  # the same thread may enter again
            if self._held:
                yield
                return
            with self._lock() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._held = True
                try:
                    yield
                finally:
                    self._held = False

    def _lock(self) -> IO[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / ".lock").open("w")
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be changed: {error}; --service names another registry") from error


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def person() -> str:
    """Who did it, as this machine knows them."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container without a user database
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
