"""Mean, spread and range of arrays, gathered while they pass by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import DataError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of the rows of an array, element by element; standard deviation of the population."""

    count: int
    mean: FloatArray
    std: FloatArray
    low: FloatArray
    high: FloatArray


class RunningStatistics:
    """Updated block by block, in float64 (Chan, Golub and LeVeque 1983, eq. 2.1: blocks are merged, not summed up)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._count = 0
        self._mean, self._squares = np.zeros(shape), np.zeros(shape)
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)

    def update(self, rows: NDArray[np.floating]) -> None:
        """`rows` (N, ...), finite."""
        if not len(rows):
            return
        block = rows.astype(np.float64)
        count, mean = len(block), block.mean(0)
        total, shift = self._count + count, mean - self._mean
        self._squares += ((block - mean) ** 2).sum(0) + shift**2 * (self._count * count / total)
        self._mean = self._mean + shift * (count / total)
        self._count = total
        self._low, self._high = np.minimum(self._low, block.min(0)), np.maximum(self._high, block.max(0))

    def result(self) -> Statistics:
        """What was seen so far; without any row mean 0, spread 0 and an empty range."""
        std = np.sqrt(self._squares / max(self._count, 1))
        return Statistics(self._count, self._mean.copy(), std, self._low.copy(), self._high.copy())


def write_statistics(path: Path, statistics: Mapping[str, Statistics]) -> None:
    plain = {
        key: {"count": one.count, **{name: getattr(one, name).tolist() for name in ("mean", "std", "low", "high")}}
        for key, one in statistics.items()
    }
    path.write_text(json.dumps(plain))


def read_statistics(path: Path) -> dict[str, Statistics]:
    """`DataError` when the file is not there or not readable."""
    try:
        plain = json.loads(path.read_text())
        return {
            key: Statistics(int(one["count"]), *(np.array(one[name]) for name in ("mean", "std", "low", "high")))
            for key, one in plain.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no statistics: {error}") from error
