"""Checkpoints on disk: directories `step_<updates>`, visible only when whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from robot_rl.errors import DataError

ALGORITHM = "algorithm.safetensors"
"""In a checkpoint: all that was learned, for going on."""


class Resumable(Protocol):
    """What learns: see `robot_rl.algorithms.Algorithm`."""

    def policy_state(self) -> Mapping[str, Tensor]: ...

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


def save_checkpoint(directory: Path, updates: int, algorithm: Resumable, keep: int | None = None) -> Path:
    """Write `step_<updates>` with what resuming needs and, apart, what acting needs.

    Of the checkpoints up to this one all but the `keep` newest are deleted, if that is given, and what killed writers
    left. `DataError`, and the checkpoints before it kept, when learning has diverged or it cannot be written.
    """
    tensors = {name: value.contiguous() for name, value in algorithm.state_dict().items()}
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise DataError(
                f"learning has diverged: {name} holds NaN or Inf after {updates} updates, which is not saved. Look for "
                "values far off in the data (robot-rl data verify), or lower algorithm.learning_rate"
            )
    final = directory / f"step_{updates:09d}"
    partial = directory / f".partial_{updates:09d}_{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        save_file(tensors, partial / ALGORITHM)
        policy = {name: value.contiguous() for name, value in algorithm.policy_state().items()}
        save_file(policy, partial / "policy.safetensors")
        (partial / "learner.json").write_text(json.dumps({"updates": updates}))
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"cannot write {final}: {error}") from error
    if keep is not None:
        _remove_old(directory, keep, final)
    return final


def _remove_old(directory: Path, keep: int, newest: Path) -> None:
    before = sorted(path for path in directory.glob("step_*") if path.name < newest.name)
    for path in [*before[: max(len(before) - keep + 1, 0)], *directory.glob(".partial_*")]:
        shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(checkpoint: Path, algorithm: Resumable) -> int:
    """Resume `algorithm`; returns the updates done. `DataError` when it is not a whole checkpoint."""
    try:
        meta = json.loads((checkpoint / "learner.json").read_text())
        algorithm.load_state_dict(load_file(checkpoint / ALGORITHM))
        return int(meta["updates"])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{checkpoint} is not a usable checkpoint: {error}") from error


def load_newest(directory: Path, load: Callable[[Path], object], warn: Callable[[str], object]) -> Path | None:
    """`load` the newest checkpoint that can be read, and return it; damaged ones are put aside, with a warning."""
    for checkpoint in sorted(directory.glob("step_*"), reverse=True):
        try:
            load(checkpoint)
        except DataError as error:
            warn(f"{error}; putting it aside and trying the one before")
            checkpoint.rename(checkpoint.with_name(f"unusable_{checkpoint.name}_{time.time_ns()}"))
            continue
        return checkpoint
    return None


def resume(directory: Path, load: Callable[[Path], object], warn: Callable[[str], object]) -> None:
    """`load_newest`, if there is a checkpoint at all; `DataError` when there are, and none is sound."""
    if latest_checkpoint(directory) is not None and load_newest(directory, load, warn) is None:
        raise DataError(f"no checkpoint in {directory} is usable; the same command again begins without one")


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint below `directory`, or None."""
    found = sorted(directory.glob("step_*")) if directory.is_dir() else []
    return found[-1] if found else None
