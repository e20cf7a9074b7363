"""A log repeated with many parameters at once, in one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from robot_rl.types import FloatArray
from sim.cousins.physics import Physics
from sim.pools import process_pool
from sim.sysid.batch import repeat_together
from sim.sysid.log import MotionLog
from sim.sysid.lone_arm import LoneArm
from sim.sysid.parameters import to_fields


@dataclass(frozen=True)
class Repetition:
    """Repeats a log at several `z` at once; a class, so that it travels to other processes."""

    log: MotionLog
    """What was measured."""

    def __call__(self, batch: Sequence[FloatArray]) -> FloatArray:
        """(B, S, N) predicted joints, all runs one after the other."""
        arms = [LoneArm(self.log.robot, Physics(**to_fields(z, self.log.joints))) for z in batch]
        return np.concatenate([repeat_together(arms, run, self.log.rate_hz) for run in self.log.runs], 1)


@contextmanager
def rollouts(log: MotionLog, jobs: int = 1) -> Iterator[Callable[[Sequence[FloatArray]], FloatArray]]:
    """A function of several z (B of (P,)) that repeats `log` with each, in `jobs` processes."""
    repeat = Repetition(log)
    if jobs == 1:
        yield repeat
        return
    with process_pool(jobs) as together:
        yield lambda batch: np.concatenate(list(together(repeat, _shares(batch, jobs))))


def _shares(batch: Sequence[FloatArray], jobs: int) -> list[Sequence[FloatArray]]:
    size = -(-len(batch) // jobs)
    return [batch[at : at + size] for at in range(0, len(batch), size)]
