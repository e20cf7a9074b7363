"""Updates of a trainer from windows of recorded episodes: a progress bar, checkpoints, what is held out, resuming."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard.writer import SummaryWriter

from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.apps.imitation import Material
from robot_rl.checkpoints import load_checkpoint, resume, save_checkpoint
from robot_rl.interrupts import uninterrupted

LOG_EVERY = 100
HELD_OUT_EVERY = 2000
HELD_OUT_WINDOWS = 1024

log = logging.getLogger(__name__)


class Plan(Protocol):
    """How an experiment learns: see `robot_rl.apps.imitation.ImitationExperiment`."""

    @property
    def algorithm(self) -> ImitationConfig: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def workers(self) -> int: ...

    @property
    def checkpoint_every_s(self) -> float: ...

    @property
    def keep_checkpoints(self) -> int: ...


class SupervisedRun:
    """Learns what an experiment plans, resumable from its directory."""

    def __init__(self, experiment: Plan, run_dir: Path, material: Material, algorithm: Imitation) -> None:
        self.experiment = experiment
        self.run_dir = run_dir
        self.material = material
        self.algorithm = algorithm
        self._saved_s = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint now."""
        keep = self.experiment.keep_checkpoints
        save_checkpoint(self.run_dir / "checkpoints", self.algorithm.updates, self.algorithm, keep)
        self._saved_s = time.monotonic()

    def restore(self) -> None:
        """Go on from the newest sound checkpoint, if there is any."""
        resume(self.run_dir / "checkpoints", lambda path: load_checkpoint(path, self.algorithm), log.warning)

    def run(self, console: Console) -> None:
        """All updates that are left, with a progress bar."""
        self.restore()
        total, algorithm = self.experiment.algorithm.updates, self.algorithm
        columns = (TextColumn("learn"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        board = SummaryWriter(str(self.run_dir / "tensorboard"), flush_secs=10)
        with board, Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
            bar = bars.add_task("learn", total=total, completed=algorithm.updates, note="")
            note = ""
            for windows in self.material.batches(self.experiment, algorithm.updates):
                with uninterrupted():
                    metrics = algorithm.update(windows)
                done = algorithm.updates
                if done % HELD_OUT_EVERY == 0 and self.material.held_out is not None:
                    held_out = self._held_out()
                    for name, value in held_out.items():
                        board.add_scalar(f"held_out/{name}", value, done)
                    note = f"held out {held_out['loss']:.4f}"
                if done % LOG_EVERY == 0 or done == total:
                    for name, value in metrics.items():
                        board.add_scalar(f"train/{name}", float(value), done)
                    bars.update(bar, completed=done, note=f"loss {float(metrics['loss']):.4f} {note}")
                    if not math.isfinite(float(metrics["loss"])):
                        break  # saving says why
                if time.monotonic() - self._saved_s > self.experiment.checkpoint_every_s:
                    self.save()
        self.save()

    def _held_out(self) -> dict[str, float]:
        assert self.material.held_out is not None
        found = self.algorithm.evaluate(self.material.held_out.batch(0, HELD_OUT_WINDOWS))
        return {name: float(value) for name, value in found.items()}
