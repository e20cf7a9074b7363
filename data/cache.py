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
from data.store import EpisodeStore
from robot_rl.errors import DataError

CACHE = "cache"
STATISTICS = "statistics.json"
LAYOUT = 2
"""Of the cache's files; another one is built anew."""
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Cache:
    """Memory maps of whole arrays (rows as in the store), the episodes' ends in steps, descriptions.

    `statistics` are those of the arrays of floats, over the usable episodes; they were taken while copying.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    ends: NDArray[np.int64]
    infos: tuple[EpisodeInfo, ...]
    statistics: Mapping[str, Statistics]


def open_cache(store: EpisodeStore) -> Cache:
    """Map the cache of `store`, building it first when there is none of the present content."""
    path = store.path / CACHE / fingerprint(store)
    cache = _map(store, path)
    if cache is None:
        _build(store, path)
        cache = _map(store, path)
        if cache is None:
            raise DataError(f"{path} cannot be read back; check the disk")
    return cache


def fingerprint(store: EpisodeStore) -> str:
    """Checksum over the checksums of all episodes' arrays, and which may be used."""
    episodes = [[info.usable, dict(sorted(info.crc32.items()))] for info in store.infos]
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
        statistics = read_statistics(path / STATISTICS)
    except DataError:
        return None
    return Cache(path, arrays, store.ends, store.infos, statistics)


def _build(store: EpisodeStore, path: Path) -> None:
    """Copy block by block into a folder aside, put it in place, and remove caches of older content."""
    needed = sum(store.length(key) * _row_bytes(array) for key, array in store.arrays.items())
    if (free := shutil.disk_usage(store.path).free) < needed:
        raise DataError(f"the cache of {store.path} needs {needed >> 20} MiB, {free >> 20} MiB are free")
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.mkdir()
    statistics: dict[str, Statistics] = {}
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
            running = RunningStatistics(array.shape[1:]) if array.dtype == np.float32 else None
            used = _used_rows(store, key)
            for begin in range(0, length, block):
                rows = slice(begin, min(begin + block, length))
                target[rows] = array[rows]
                if running is not None:
                    running.update(target[rows][used[rows]])
            target.flush()
            if running is not None:
                statistics[key] = running.result()
        write_statistics(partial / STATISTICS, statistics)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for other in path.parent.iterdir():
        if other != path and not other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)


def _used_rows(store: EpisodeStore, key: str) -> NDArray[np.bool_]:
    """Which rows of array `key` belong to usable episodes."""
    used = np.zeros(store.length(key), bool)
    for index, info in enumerate(store.infos):
        used[store.rows(index, key)] = info.usable
    return used


def _row_bytes(array: Any) -> int:
    return int(np.prod(array.shape[1:])) * array.dtype.itemsize
