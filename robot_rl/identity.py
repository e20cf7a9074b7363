"""Which policy a checkpoint is: its weights, and the experiment that they are built into and act in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot_rl.errors import DataError
from robot_rl.files import file_hash

POLICY, EXPERIMENT = "policy.safetensors", "experiment.json"


@dataclass(frozen=True)
class Identity:
    """Hashes are SHA-256, in hexadecimal."""

    checkpoint: str
    """Of its policy.safetensors."""
    experiment: str
    """Of its run's experiment.json; "" where it is not known."""


def identity_of(run_dir: Path, checkpoint: Path) -> Identity:
    """Of a checkpoint of a run."""
    return Identity(checkpoint_hash(checkpoint), experiment_hash(run_dir))


def checkpoint_hash(checkpoint: Path) -> str:
    """Of a checkpoint's policy; `DataError` when it holds none."""
    return _hash(checkpoint / POLICY, f"{checkpoint} holds no readable policy")


def experiment_hash(run_dir: Path) -> str:
    """Of a run's configuration; `DataError` when it is not there."""
    return _hash(run_dir / EXPERIMENT, f"{run_dir} holds no readable {EXPERIMENT}")


def _hash(path: Path, problem: str) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DataError(f"{problem}: {error}") from error
