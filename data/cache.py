"""Uncompressed copy of a store's arrays as memory maps, for training on more data than fits in RAM.

Reading 256 random frames from zarr takes hundreds of milliseconds, from a warm memory map tens. The
copy lies in the store's folder under a name that is a checksum of its content; it is built once, and
anew when episodes were added or changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.episode import EpisodeInfo
from data.statistics import RunningStatistics, Statistics, read_statistics, write_statistics
from data.store import UNREADABLE, EpisodeStore
from robot_rl.errors import DataError

CACHE = "cache"
STATISTICS, SYNTHETIC_STATISTICS = "statistics.json", "synthetic_statistics.json"
LAYOUT = 3
"""Of the cache's files; another one is built anew."""
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Cache:
    """Memory maps of whole arrays (rows as in the store), the episodes' ends in steps, descriptions.

    `statistics` are those of the arrays of floats, over the usable episodes that were recorded; they were taken while
    copying. Of the synthetic ones there are statistics apart.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    ends: NDArray[np.int64]
    infos: tuple[EpisodeInfo, ...]
    statistics: Mapping[str, Statistics]
    synthetic_statistics: Mapping[str, Statistics]

    def statistics_to_learn_from(self) -> Mapping[str, Statistics]:
        """Of what was recorded; where nothing was, of what is synthetic."""
        return self.statistics if any(one.count for one in self.statistics.values()) else self.synthetic_statistics


def open_cache(store: EpisodeStore) -> Cache:
    """Map the cache of `store`, building it first when there is none of the present content.

    `DataError` for a store whose usable episodes are not what was written.
    """
    path = store.path / CACHE / fingerprint(store)
    cache = _map(store, path)
    if cache is None:
        _build(store, path)
        cache = _map(store, path)
        if cache is None:
            raise DataError(f"{path} cannot be read back; check the disk")
    return cache


def fingerprint(store: EpisodeStore) -> str:
    """Checksum over the checksums of all episodes' arrays, which may be used and which are synthetic."""
    episodes = [[info.usable, info.synthetic, dict(sorted(info.crc32.items()))] for info in store.infos]
    content = [LAYOUT, [int(end) for end in store.ends], episodes]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _file(path: Path, key: str) -> Path:
    return path / f"{key.replace('/', '.')}.npy"


def _map(store: EpisodeStore, path: Path) -> Cache | None:
    """The maps, or None when the cache is absent, not whole, or does not have the shape of the store."""
    arrays: dict[str, NDArray[Any]] = {}
    for key, array in store.arrays.items():
        shape = (store.length(key), *array.shape[1:])
        try:
            # a map of no bytes is refused by the operating system
            mode = "r" if np.prod(shape) else None
            arrays[key] = np.load(_file(path, key), mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError):
            return None
        if arrays[key].shape != shape or arrays[key].dtype != array.dtype:
            return None
    try:
        statistics = [read_statistics(path / name) for name in (STATISTICS, SYNTHETIC_STATISTICS)]
    except DataError:
        return None
    return Cache(path, arrays, store.ends, store.infos, *statistics)


def _build(store: EpisodeStore, path: Path) -> None:
    """Copy block by block into a folder aside, put it in place, and remove caches of older content."""
    needed = sum(store.length(key) * _row_bytes(array) for key, array in store.arrays.items())
    if (free := shutil.disk_usage(store.path).free) < needed:
        raise DataError(f"the cache of {store.path} needs {needed >> 20} MiB, {free >> 20} MiB are free")
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.mkdir()
    statistics: dict[bool, dict[str, Statistics]] = {False: {}, True: {}}
    try:
        for key, array in store.arrays.items():
            length = store.length(key)
            file = _file(partial, key)
            if not length:
                np.save(file, np.empty((0, *array.shape[1:]), array.dtype))
                continue
            target = np.lib.format.open_memmap(file, "w+", array.dtype, (length, *array.shape[1:]))
            chunk = array.chunks[0]
            block = max(BLOCK_BYTES // (_row_bytes(array) * chunk), 1) * chunk
            is_float = array.dtype == np.float32
            running = {kind: RunningStatistics(array.shape[1:]) for kind in statistics if is_float}
            used = {kind: _used_rows(store, key, kind) for kind in running}
            for begin in range(0, length, block):
                rows = slice(begin, min(begin + block, length))
                target[rows] = _read(store, key, array, rows)
                for kind, one in running.items():
                    one.update(target[rows][used[kind][rows]])
            _check(store, key, target)
            target.flush()
            for kind, one in running.items():
                statistics[kind][key] = one.result()
        for kind, name in ((False, STATISTICS), (True, SYNTHETIC_STATISTICS)):
            write_statistics(partial / name, statistics[kind])
        shutil.rmtree(path, ignore_errors=True)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for other in path.parent.iterdir():
        if other != path and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)


def _read(store: EpisodeStore, key: str, array: Any, rows: slice) -> NDArray[Any]:
    try:
        return array[rows]
    except UNREADABLE as error:
        raise DataError(_damaged(store, f"{key} cannot be read ({error})")) from error


def _check(store: EpisodeStore, key: str, rows: NDArray[Any]) -> None:
    """`DataError` unless the usable episodes' rows of array `key` are those that were written."""
    for index, info in enumerate(store.infos):
        if info.usable and not info.has_checksum(key, rows[store.rows(index, key)]):
            raise DataError(_damaged(store, f"{key} of episode {index} is not what was recorded (checksum)"))


def _damaged(store: EpisodeStore, what: str) -> str:
    return (
        f"{store.path} is damaged: {what}; robot-rl data verify {store.path} --repair leaves out what cannot be mended"
    )


def _used_rows(store: EpisodeStore, key: str, synthetic: bool) -> NDArray[np.bool_]:
    """Which rows of array `key` belong to usable episodes, of those that are `synthetic` or of the others."""
    used = np.zeros(store.length(key), bool)
    for index, info in enumerate(store.infos):
        used[store.rows(index, key)] = info.usable and info.synthetic == synthetic
    return used


def _row_bytes(array: Any) -> int:
    return int(np.prod(array.shape[1:])) * array.dtype.itemsize
