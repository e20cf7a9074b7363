"""Small tables of an evaluation in twins, with the columns of a real one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from robot_rl.evaluation_description import Described
from robot_rl.identity import Identity

ENSEMBLE = tuple(f"ensemble_{number:02d}" for number in range(4))
WORLDS = ("point", *ENSEMBLE)


def digest(policy: str) -> str:
    return hashlib.sha256(policy.encode()).hexdigest()


def rows(
    rates: Mapping[str, Mapping[str, float]], starts: int = 60, hashes: Mapping[str, str] | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """`rates[policy][world]` of success; a start that is hard in a world is so for every policy."""
    rng = np.random.default_rng(seed)
    worlds = list(dict.fromkeys(world for by_world in rates.values() for world in by_world))
    hardness = {world: rng.permutation(np.linspace(0.0, 1.0, starts, endpoint=False)) for world in worlds}
    places = rng.uniform((0.35, -0.15), (0.65, 0.15), (starts, 2))
    return [
        {
            "policy": policy,
            "checkpoint": (hashes or {}).get(policy, digest(policy)),
            "world": world,
            "kind": world.split("_")[0],
            "scene": "scene_0000",
            "variant": "",
            "start": start,
            "seed": start,
            "success": bool(hardness[world][start] < rate),
            "steps": 100,
            "return": float(hardness[world][start] < rate),
            "limited_steps": 5,
            "refused_steps": 0,
            "tcp_x_m": places[start, 0],
            "tcp_y_m": places[start, 1],
            "tcp_z_m": 0.1,
            "object_x_m": places[start, 0],
            "object_y_m": places[start, 1],
            "object_yaw_rad": 0.0,
            "film": "",
        }
        for policy, by_world in rates.items()
        for world, rate in by_world.items()
        for start in range(starts)
    ]


def columns(found: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.asarray([row[name] for row in found]) for name in found[0]}


def write(folder: Path, found: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(found), folder / "episodes.parquet")
    return folder


def described(found: list[dict[str, Any]], guarded: bool | None = True) -> Described:
    """What such an evaluation says of itself: every policy was configured as its name says."""
    pairs = {(row["policy"], row["checkpoint"]) for row in found}
    return Described({pair: digest(f"experiment of {pair[0]}") for pair in pairs}, guarded)


def identity(policy: str) -> Identity:
    """Of a policy of such a table."""
    return Identity(digest(policy), digest(f"experiment of {policy}"))


def even(point: float, ensemble: float) -> dict[str, float]:
    """The same rate in every world of the ensemble."""
    return {"point": point, **dict.fromkeys(ENSEMBLE, ensemble)}
