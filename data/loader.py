"""Batches of windows ahead of time: worker processes draw them while the learner computes.

Memory stays bounded: every worker maps the same files and holds `PREFETCH` batches, whatever the data's size.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch.utils.data import DataLoader, Dataset

from data.windows import WindowSampler
from robot_rl.batch import Windows
from robot_rl.interrupts import uninterrupted

PREFETCH = 2  # batches that each worker holds ready


class _Batches(Dataset[dict[str, Any]]):
    """Batch k of `size` windows, as an indexed data set."""

    def __init__(self, sampler: WindowSampler, size: int) -> None:
        self._sampler = sampler
        self._size = size

    def __getitem__(self, number: int) -> dict[str, Any]:
        windows = self._sampler.batch(number, self._size)
        return {one.name: getattr(windows, one.name) for one in fields(Windows)}


def load_batches(sampler: WindowSampler, size: int, *, start: int, stop: int, workers: int = 0) -> Iterator[Windows]:
    """Batches `start` to `stop` (excluded) of `size` windows, the same for any number of `workers`.

    Without workers they are drawn in this process, when asked for.
    """
    loader = DataLoader(
        _Batches(sampler, size),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        # forked workers share the memory maps; a pickled map would be a copy of the data
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_leave_interrupts if workers else None,
    )
    batches = iter(loader)
    while True:
        with uninterrupted():  # a worker whose batch is taken by halves ends with a traceback
            tensors = next(batches, None)
        if tensors is None:
            return
        yield Windows(**{name: _arrays(value) for name, value in tensors.items()})


def _leave_interrupts(_worker: int) -> None:
    """Ctrl-C is the parent's to handle, which may want one more batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _arrays(value: Any) -> Any:
    """Tensors (in memory shared with the worker) as arrays, without a copy."""
    return {key: one.numpy() for key, one in value.items()} if isinstance(value, dict) else value.numpy()
