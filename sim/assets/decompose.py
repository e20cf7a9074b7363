"""Convex decomposition of meshes by CoACD (2205.02961), kept on disk by content."""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_rl.errors import ConfigError, DataError
from robot_rl.types import FloatArray
from sim.assets.geometry import Mesh, hull, volume

CACHE = Path("runs/assets")
"""Where results are kept: below the git-ignored `runs`."""


@dataclass(frozen=True)
class DecompositionConfig:
    """How finely meshes are cut into convex pieces."""

    threshold: float = 0.05
    """CoACD's concavity at which a piece is cut no further (0.01 fine ... 1 coarse)."""
    max_pieces: int = 32
    """Pieces are merged down to so many."""
    hollow: float = 0.03
    """Share of the hull that may be empty for the hull alone to do."""
    seed: int = 0
    """Of the search for cuts."""
    cache: Path = CACHE
    """Folder of results."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.threshold <= 1.0 or self.max_pieces < 1 or not 0.0 <= self.hollow < 1.0:
            raise ConfigError(f"need threshold in [0.01, 1], max_pieces >= 1, hollow in [0, 1); got {self}")


def silent(text: str) -> None:
    """Says nothing."""


def decompose(mesh: Mesh, config: DecompositionConfig, say: Callable[[str], None] = silent) -> list[FloatArray]:
    """Vertices (N, 3) of convex pieces; the hull alone for what is convex enough. `say` is told of a long search."""
    whole = hull(mesh.vertices_m)
    if abs(volume(mesh)) >= (1.0 - config.hollow) * volume(whole):
        return [whole.vertices_m]
    path = config.cache / f"{_key(mesh, config)}.npz"
    if not path.exists():
        say(
            f"{len(mesh.faces)} triangles are cut into convex pieces by CoACD: may take minutes, kept in {config.cache}"
        )
        _save(path, _run(mesh, config))
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in stored.files]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged; delete it to have it made again: {error}") from error


def _run(mesh: Mesh, config: DecompositionConfig) -> list[FloatArray]:
    try:
        coacd = importlib.import_module("coacd")
    except ImportError as error:
        raise ConfigError("convex decomposition needs CoACD: `pip install coacd`, or decomposition: null") from error
    coacd.set_log_level("error")
    found = coacd.run_coacd(
        coacd.Mesh(mesh.vertices_m, mesh.faces),
        threshold=config.threshold,
        max_convex_hull=config.max_pieces,
        seed=config.seed,
    )
    return [np.asarray(vertices, np.float64) for vertices, _ in found]


def _key(mesh: Mesh, config: DecompositionConfig) -> str:
    settings = f"coacd {config.threshold} {config.max_pieces} {config.seed} {mesh.vertices_m.shape}"
    content = settings.encode() + mesh.vertices_m.astype("<f8").tobytes() + mesh.faces.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def _save(path: Path, pieces: list[FloatArray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        np.savez(stream, *pieces)
    partial.replace(path)
