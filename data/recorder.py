"""Records the episode loop: every step into a journal at once, whole episodes into the store.

The control loop only appends to a file. Waiting for the disk, closing and sealing happen in a thread
of the recorder's own; its queue holds names of journals, the data wait on the disk. So a slow disk
costs neither time in the loop nor memory, and whatever is not sealed when the process dies is sealed
when the store is opened for writing again.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.journal import Journal
from data.layout import RECORDINGS
from data.recovery import journal_path, recover, seal
from data.store import EpisodeStore
from robot_rl.errors import DataError, RobotRlError
from robot_rl.files import write_file
from robot_rl.types import ActionSpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition
from robot_rl.wire import Envelope, EpisodeEncoder, Event

SYNC_PERIOD_S = 1.0
"""At most this much is lost to a power cut (nothing is to a killed process)."""
QUEUE_LENGTH = 64
"""Ended episodes that may wait to be sealed; further ones wait in their journals for the next opening."""
VERSIONED = ("robot-rl", "numpy", "torch", "mujoco", "robosuite", "gymnasium", "zarr")

log = logging.getLogger(__name__)


class EpisodeRecorder:
    """Subscriber of the episode loop, or keeper of what a receiver gets, that writes an `EpisodeStore`.

    A step is safe from `kill -9` when `on_step` (or `write`) returns.
    """

    def __init__(
        self,
        path: Path,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        *,
        configuration: Mapping[str, Any] | None = None,
        keep_open: bool = False,
    ) -> None:
        """Open or create the store at `path`, and seal what a killed writer left.

        With `keep_open`, episodes without an end stay open and are listed in `unfinished`: for a
        receiver whose senders go on with them. Otherwise they are sealed as truncated.
        """
        self.store = EpisodeStore.writer(path, observation_spec, action_spec)
        self.unfinished: list[list[Envelope]] = []
        self.failures: list[str] = []
        self._name = uuid.uuid4().hex
        self._encoder = EpisodeEncoder(self._name)
        self._journals: dict[tuple[str, str], Journal] = {}
        try:
            for journal, envelopes in recover(self.store, keep_open=keep_open).unfinished.items():
                key = (envelopes[0].session, envelopes[0].event.episode_id)
                self._journals[key] = Journal(journal)
                self.unfinished.append(envelopes)
            description = {"configuration": dict(configuration or {}), "versions": software_versions()}
            text = json.dumps(description, indent=1, default=str)
            write_file(path / RECORDINGS / f"{self._name}.json", text)
        except BaseException:
            self.store.close()
            raise
        self._finished: queue.Queue[Journal | None] = queue.Queue(QUEUE_LENGTH)
        self._sealed = threading.Condition()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="episode-sealer", daemon=True)
        self._thread.start()

    def on_start(self, start: EpisodeStart) -> None:
        self.write(*self._encoder.encode(start))

    def on_step(self, transition: Transition) -> None:
        self.write(*self._encoder.encode(transition))

    def on_end(self, end: EpisodeEnd) -> None:
        self.write(*self._encoder.encode(end))

    def write(self, envelope: Envelope, data: bytes) -> None:
        """Journal one message, given decoded and as bytes; it may be acknowledged once this returns."""
        event = envelope.event
        self._check(event)
        key = (envelope.session, event.episode_id)
        if isinstance(event, EpisodeStart):
            self._journals[key] = Journal(journal_path(self.store, self._name, event.episode_id))
        journal = self._journals.get(key)
        if journal is None:
            raise DataError(f"episode {event.episode_id} is not being recorded")
        journal.append(data)
        if isinstance(event, EpisodeEnd):
            del self._journals[key]
            self._finish(journal)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Wait until all ended episodes are sealed; raises `DataError` if one could not be."""
        with self._sealed:
            if not self._sealed.wait_for(lambda: self._waiting == 0, timeout_s):
                raise DataError(f"{self.store.path}: {self._waiting} episodes not sealed in {timeout_s} s")
        if self.failures:
            raise DataError(f"{self.store.path}: could not seal; the journals are kept: {'; '.join(self.failures)}")

    def close(self) -> None:
        """Seal what has ended and let go of the store. Open episodes stay in their journals."""
        self._finished.put(None)
        self._thread.join()
        for journal in self._journals.values():
            journal.sync()
            journal.close()
        self._journals.clear()
        self.store.close()
        self.flush(0.0)

    def _check(self, event: Event) -> None:
        """Refuse what could not be sealed, before it is in the journal."""
        if isinstance(event, EpisodeStart):
            self.store.observation_spec.check(event.observation)
        elif isinstance(event, Transition):
            self.store.observation_spec.check(event.next_observation)
            self.store.action_spec.check(event.executed_action)
            self.store.action_spec.check(event.proposed_action)

    def _finish(self, journal: Journal) -> None:
        with self._sealed:
            self._waiting += 1
        try:
            self._finished.put_nowait(journal)
        except queue.Full:
            log.warning("the disk is too slow to seal; %s waits for the next opening", journal.path)
            journal.close()
            with self._sealed:
                self._waiting -= 1

    def _run(self) -> None:
        while True:
            try:
                journal = self._finished.get(timeout=SYNC_PERIOD_S)
            except queue.Empty:
                for open_journal in tuple(self._journals.values()):
                    self._try(open_journal, open_journal.sync)
                continue
            if journal is None:
                return
            self._try(journal, lambda journal=journal: self._seal(journal))
            with self._sealed:
                self._waiting -= 1
                self._sealed.notify_all()

    def _try(self, journal: Journal, action: Callable[[], None]) -> None:
        """Run `action`; a failure is kept for `flush`, for the recording must go on and the journal stays."""
        try:
            action()
        except (RobotRlError, OSError, ValueError, RuntimeError) as error:
            log.exception("trouble with %s", journal.path)
            self.failures.append(f"{journal.path.name}: {error}")

    def _seal(self, journal: Journal) -> None:
        journal.sync()
        journal.close()
        seal(journal.path, self.store)


def software_versions() -> dict[str, str]:
    """Versions of what decides an episode's content, as far as installed."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
