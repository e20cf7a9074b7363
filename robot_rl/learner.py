"""The learner: experience in, updates at a fixed and logged ratio to the data, parameters out.

The update-to-data ratio (UTD) is a promise: the learner never runs ahead of it, so that a faster
computer does not change what is learned, and reports the one it realised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from robot_rl.algorithms import Algorithm
from robot_rl.batch import Batch
from robot_rl.checkpoints import load_checkpoint, save_checkpoint
from robot_rl.errors import ConfigError
from robot_rl.interrupts import uninterrupted
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition

Event = EpisodeStart | Transition | EpisodeEnd


class Memory(Protocol):
    """Online and demonstration experience."""

    def add(self, event: Event) -> None: ...

    def sample(self, batch_size: int) -> Batch: ...

    @property
    def online_steps(self) -> int:
        """Online transitions ever received (the D of UTD)."""
        ...

    @property
    def demo_steps(self) -> int:
        """Demonstration and intervention transitions held."""
        ...


@dataclass(frozen=True)
class LearnerConfig:
    """How much and when to learn."""

    batch_size: int = 256
    """Transitions per update; half from demonstrations and interventions."""
    utd: float = 2.0
    """Updates per online transition."""
    warmup_steps: int = 100
    """Online transitions before the first online update."""
    pretrain_updates: int = 1000
    """Updates on the demonstrations alone, before the first online transition; after the algorithm's imitation, if
    it has any."""
    capacity: int = 200_000
    """Transitions kept in each buffer."""
    publish_every: int = 20
    """Updates between two publications of parameters."""
    checkpoint_every_s: float = 60.0
    """Wall-clock time between two checkpoints."""
    keep_checkpoints: int = 5
    """Older ones are deleted."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.publish_every, self.capacity, self.keep_checkpoints) < 1:
            raise ConfigError(
                "batch_size, publish_every, capacity and keep_checkpoints must be at least 1; "
                f"got {self.batch_size}, {self.publish_every}, {self.capacity}, {self.keep_checkpoints}"
            )
        if min(self.utd, self.warmup_steps, self.pretrain_updates, self.checkpoint_every_s) < 0:
            raise ConfigError(
                "utd, warmup_steps, pretrain_updates and checkpoint_every_s must not be negative; "
                f"got {self.utd}, {self.warmup_steps}, {self.pretrain_updates}, {self.checkpoint_every_s}"
            )


class Learner:
    """Owns algorithm and memory; knows how many updates are due."""

    def __init__(self, algorithm: Algorithm, memory: Memory, config: LearnerConfig) -> None:
        self.algorithm = algorithm
        self.memory = memory
        self.config = config
        self.updates = 0
        self._at_first = algorithm.imitation_updates + config.pretrain_updates
        self.metrics: Mapping[str, Tensor] = {}
        """The newest value of each: not every update tells all of them."""
        self._learning = False

    def receive(self, event: Event) -> None:
        """Remember `event`; the first episode of phase `learn` makes the updates on demonstrations due."""
        self._learning |= isinstance(event, EpisodeStart) and event.phase == "learn"
        self.memory.add(event)

    @property
    def due(self) -> int:
        """Updates that the data received so far allow and that have not been done yet."""
        if self.memory.demo_steps + self.memory.online_steps == 0:
            return 0
        allowed = self._at_first if self._learning and self.memory.demo_steps else 0
        online = self.memory.online_steps - self.config.warmup_steps
        if online > 0:
            allowed = self._at_first + int(self.config.utd * self.memory.online_steps)
        return max(allowed - self.updates, 0)

    @property
    def realized_utd(self) -> float:
        """Online updates per online transition, as it really happened."""
        online_updates = max(self.updates - self._at_first, 0)
        return online_updates / max(self.memory.online_steps, 1)

    def update(self) -> None:
        """One gradient step, whether or not it is due (see `due`). Ctrl-C waits for its end."""
        with uninterrupted():
            self.metrics = {**self.metrics, **self.algorithm.update(self.memory.sample(self.config.batch_size))}
            self.updates += 1

    def scalars(self) -> dict[str, float]:
        """Figures to log. Reads tensors back, so call it now and then, not at every update."""
        figures = {name: float(value) for name, value in self.metrics.items()}
        return figures | {
            "updates": float(self.updates),
            "online_steps": float(self.memory.online_steps),
            "demo_steps": float(self.memory.demo_steps),
            "realized_utd": self.realized_utd,
            "target_utd": self.config.utd,
        }

    def save(self, directory: Path) -> Path:
        """Write a checkpoint `step_<updates>`, visible only when complete. Experience is not in it."""
        return save_checkpoint(directory, self.updates, self.algorithm, self.config.keep_checkpoints)

    def load(self, checkpoint: Path) -> None:
        """Resume from a checkpoint directory; `DataError` when it is not a whole one."""
        self.updates = load_checkpoint(checkpoint, self.algorithm)
