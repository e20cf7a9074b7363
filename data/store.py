"""Episodes at rest: zarr 3 arrays, each concatenated over all episodes, with `episode_ends` committed last.

    zarr.json               schema, observation and action spec
    observation/<key>       (sum of T + 1, ...): images once, as uint8
    <step key>              (sum of T, ...): see `data.episode.STEP_DTYPES`
    episode_ends            (E,) int64: steps up to and with episode e; -1 where nothing is committed
    episodes/<e>.json       `EpisodeInfo`
    recordings/<name>.json  configuration and software versions
    journal/                episodes under way, and those not sealed yet
    quarantine/             what `data verify --repair` took out

A reader trusts only what lies below `episode_ends`. Arrays may be longer (they grow by whole chunks),
and whatever an interrupted writer left there is overwritten by the next episode. Observation rows of
episode e begin at `ends[e - 1] + e`.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from data.episode import OBSERVATION, Episode, EpisodeInfo, array_layout
from data.journal import lock_file
from data.layout import (
    ENDS,
    EPISODES,
    LOCK,
    QUARANTINE,
    RECORDINGS,
    SCHEMA,
    UNCOMMITTED,
    create_store,
    read_specs,
)
from robot_rl.errors import DataError, SpecError
from robot_rl.files import write_file
from robot_rl.spec_difference import difference
from robot_rl.types import ActionSpec, ObservationSpec
from robot_rl.wire import Event

log = logging.getLogger(__name__)

UNREADABLE = (ValueError, RuntimeError, OSError)
"""What reading a damaged chunk raises."""


class EpisodeStore:
    """Reads the sealed episodes; opened by `writer`, also appends to them."""

    def __init__(self, path: Path) -> None:
        """Open for reading; shows the episodes sealed by now. Raises `DataError` if there is no store."""
        self.path = Path(path)
        self._lock: int | None = None
        self._open("r")

    @classmethod
    def writer(cls, path: Path, observation_spec: ObservationSpec, action_spec: ActionSpec) -> EpisodeStore:
        """Open for appending, and create it if need be; only one process may. `close` it afterwards."""
        if not (path / "zarr.json").exists():
            create_store(path, observation_spec, action_spec)
        store = cls(path)
        pairs = ((store.observation_spec, observation_spec), (store.action_spec, action_spec))
        if apart := "; ".join(filter(None, (difference(*pair, ("there", "new")) for pair in pairs))):
            raise SpecError(f"{path} holds episodes of another kind, choose another folder; they differ in {apart}")
        store.lock()
        return store

    def lock(self) -> None:
        """Become the one writer; raises `DataError` while another process is."""
        self._lock = lock_file(self.path / LOCK)
        self._open("r+")

    def close(self) -> None:
        """Give up the writer's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def steps(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def number_of(self, which: str) -> int:
        """Of the episode with that id, or that number; `DataError` if there is none."""
        numbers = {info.episode_id: index for index, info in enumerate(self.infos)}
        number = numbers.get(which, int(which) if which.isdecimal() else -1)
        if not 0 <= number < len(self):
            raise DataError(f"{self.path} has no episode {which!r}: need an id, or a number below {len(self)}")
        return number

    def rows(self, index: int, key: str) -> slice:
        """Rows of episode `index` in array `key`."""
        begin, end = (int(self.ends[index - 1]) if index else 0), int(self.ends[index])
        return slice(begin + index, end + index + 1) if key.startswith(OBSERVATION) else slice(begin, end)

    def length(self, key: str) -> int:
        """Committed rows of array `key`."""
        return self.steps + len(self) * key.startswith(OBSERVATION)

    def chunks(self, key: str, rows: slice) -> dict[int, Path]:
        """The files that hold `rows` of array `key`, by the first row that each holds."""
        array = self.arrays.get(key, self._ends)
        size, inner = array.chunks[0], ["0"] * (array.ndim - 1)
        numbers = range(rows.start // size, -(-rows.stop // size))
        return {number * size: self.path.joinpath(key, "c", str(number), *inner) for number in numbers}

    def episode(self, index: int) -> Episode:
        """One episode in memory; `DataError` when its rows cannot be read."""
        try:
            arrays = {key: np.asarray(array[self.rows(index, key)]) for key, array in self.arrays.items()}
        except UNREADABLE as error:
            raise DataError(
                f"episode {index} of {self.path} cannot be read ({error}); "
                f"run `robot-rl data verify {self.path} --repair`"
            ) from error
        return Episode(self.infos[index], arrays)

    def recording(self, name: str) -> dict[str, Any]:
        """Configuration and software versions of a recording."""
        try:
            return json.loads((self.path / RECORDINGS / f"{name}.json").read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: no readable description of recording {name}: {error}") from error

    def last_sequences(self) -> dict[str, int]:
        """Highest sequence number stored per sender, to continue its stream after a restart."""
        last: dict[str, int] = {}
        for info in self.infos:
            last[info.sender] = max(info.last_sequence, last.get(info.sender, -1))
        return last

    def load_into(
        self,
        consume: Callable[[Event], None],
        *,
        phases: Collection[str] = ("demo", "learn", "evaluate"),
        successes_only: bool = False,
    ) -> int:
        """Replay usable recorded episodes, in their order, into e.g. `ReplayBuffer.feed`; returns their number."""
        count = 0
        for index, info in enumerate(self.infos):
            wanted = info.usable and not info.synthetic and info.phase in phases
            if wanted and (info.success or not successes_only):
                for event in self.episode(index).events():
                    consume(event)
                count += 1
        return count

    def append(self, episode: Episode) -> None:
        """Seal an episode: arrays and description first, `episode_ends` last, each safe on the disk."""
        if self._lock is None:
            raise DataError(f"{self.path} is open for reading; use EpisodeStore.writer")
        index, steps = len(self), episode.info.steps
        touched = [self.path / EPISODES / f"{index:08d}.json"]
        write_file(touched[0], episode.info.to_json())
        ends = np.append(self.ends, self.steps + steps)
        for key, array in self.arrays.items():
            stop = int(ends[-1]) + (index + 1) * key.startswith(OBSERVATION)
            start = stop - len(episode.arrays[key])
            touched += self._put(key, array, start, episode.arrays[key])
        _sync(touched)
        _sync(self._put(ENDS, self._ends, index, ends[-1:]))
        self.ends = ends
        self.infos = (*self.infos, episode.info)

    def truncate(self, episodes: int) -> None:
        """Take all but the first `episodes` out of use; what lies beyond is overwritten later."""
        self._ends[episodes:] = UNCOMMITTED
        self._open("r+")

    def replace_info(self, index: int, info: EpisodeInfo) -> None:
        write_file(self.path / EPISODES / f"{index:08d}.json", info.to_json())
        self.infos = (*self.infos[:index], info, *self.infos[index + 1 :])

    def quarantine(self, path: Path) -> Path:
        """Move a file of the store out of the way, to be looked at by a person; returns where it is now."""
        folder = self.path / QUARANTINE
        folder.mkdir(exist_ok=True)
        kept = folder / ".".join(path.relative_to(self.path).parts)
        while kept.exists():
            kept = kept.with_name(f"{kept.name}.{uuid.uuid4().hex[:8]}")
        return path.rename(kept)

    def _put(self, key: str, array: zarr.Array, start: int, rows: NDArray[Any]) -> list[Path]:
        """Write `rows` from row `start` on; returns the files that this touched."""
        stop, size = start + len(rows), array.chunks[0]
        files = []
        if array.shape[0] < stop:  # whole chunks at a time, so that few episodes change the metadata
            array.resize((-(-stop // size) * size, *array.shape[1:]))
            files.append(self.path / key / "zarr.json")
        if len(rows):
            array[start:stop] = rows
            files += self.chunks(key, slice(start, stop)).values()
        return files

    def _open(self, mode: str) -> None:
        try:
            group = zarr.open_group(self.path, mode=cast("Any", mode))
            attributes = cast("Mapping[str, Any]", group.attrs.asdict())
            if attributes["schema"] != SCHEMA:
                raise DataError(f"{self.path} has schema {attributes['schema']}, this program reads {SCHEMA}")
            self.observation_spec, self.action_spec = read_specs(attributes)
            # the ends before the arrays: a writer may be extending them now
            self._ends = cast("zarr.Array", group[ENDS])
            ends = np.asarray(self._ends[:], np.int64)
            layout = array_layout(self.observation_spec, self.action_spec.dim)
            self.arrays = {key: cast("zarr.Array", group[key]) for key in layout}
        except (KeyError, TypeError, *UNREADABLE) as error:
            raise DataError(
                f"{self.path} is not an episode store, or a damaged one: {error!r}; if there are episodes in it, "
                f"run `robot-rl data verify {self.path} --repair`"
            ) from error
        uncommitted = np.flatnonzero(ends == UNCOMMITTED)
        self.ends: NDArray[np.int64] = ends[: uncommitted[0]] if len(uncommitted) else ends
        self.infos = tuple(self._info(index) for index in range(len(self.ends)))

    def _info(self, index: int) -> EpisodeInfo:
        """Description of an episode; one that cannot be read takes only that episode out of use."""
        path = self.path / EPISODES / f"{index:08d}.json"
        try:
            return EpisodeInfo.from_json(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError, DataError) as error:
            log.warning("episode %d of %s is left out: %s", index, self.path, error)
            rows = self.rows(index, ENDS)
            return EpisodeInfo.lost(rows.stop - rows.start, f"no readable description: {error}")


def _sync(files: list[Path]) -> None:
    for path in files:
        if path.exists():  # zarr stores no file for a chunk of fill values
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
