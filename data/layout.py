"""The arrays of an episode store: how each is made, and made anew when its metadata is lost."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data.episode import array_layout
from robot_rl.errors import DataError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

SCHEMA = 1
ENDS = "episode_ends"
UNCOMMITTED = -1
CHUNK_BYTES = 1 << 20  # few files and quick appends; training reads from RAM or memmap instead
MAX_CHUNK_ROWS = 1024
JOURNAL, EPISODES, RECORDINGS, QUARANTINE, LOCK = "journal", "episodes", "recordings", "quarantine", "lock"
Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def create_store(path: Path, observation_spec: ObservationSpec, action_spec: ActionSpec) -> None:
    """Build an empty store aside and put it in place as a whole."""
    if path.exists() and any(path.iterdir()):
        raise DataError(f"{path} is neither an episode store nor empty; choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        group = zarr.create_group(partial, attributes=_attributes(observation_spec, action_spec))
        for key, (shape, dtype) in _layout(observation_spec, action_spec).items():
            _create_array(group, key, shape, dtype)
        for folder in (JOURNAL, EPISODES, RECORDINGS):
            (partial / folder).mkdir()
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def mend_metadata(path: Path) -> dict[str, Path | None]:
    """Write anew each array's `zarr.json` that cannot be read, from the specs in the store's own and its chunks' names.

    Returns the arrays' keys and where what was left of their files, if anything, is now. `DataError` when the
    store's own is lost.
    """
    try:
        group = zarr.open_group(path, mode="r")
        layout = _layout(*read_specs(cast("Mapping[str, Any]", group.attrs.asdict())))
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{path} is not an episode store, or its own zarr.json is lost: {error!r}") from error
    mended = {}
    for key, (shape, dtype) in layout.items():
        try:
            group[key]
        except (KeyError, ValueError, TypeError, OSError):
            mended[key] = _mend_array(path, key, shape, dtype)
    return mended


def _mend_array(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Path | None:
    chunks = [int(one.name) for one in (path / key / "c").glob("*") if one.name.isdigit()]
    scratch = path / f".{uuid.uuid4().hex}.partial"
    try:
        made = _create_array(zarr.create_group(scratch), key, shape, dtype)
        made.resize(((max(chunks, default=-1) + 1) * made.chunks[0], *shape))
        metadata, kept = path / key / "zarr.json", None
        if metadata.exists():
            kept = Path(QUARANTINE, ".".join((*Path(key).parts, "zarr.json", uuid.uuid4().hex[:8])))
            (path / QUARANTINE).mkdir(exist_ok=True)
            metadata.rename(path / kept)
        metadata.parent.mkdir(parents=True, exist_ok=True)
        (scratch / key / "zarr.json").replace(metadata)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return kept


def _layout(observation_spec: ObservationSpec, action_spec: ActionSpec) -> Layout:
    """Shape of a row and its type, of every array."""
    return array_layout(observation_spec, action_spec.dim) | {ENDS: ((), np.dtype(np.int64))}


def _create_array(group: zarr.Group, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array:
    rows = max(min(CHUNK_BYTES // (int(np.prod(shape)) * dtype.itemsize), MAX_CHUNK_ROWS), 1)
    return group.create_array(
        key,
        shape=(0, *shape),
        chunks=(rows, *shape),
        dtype=dtype,
        compressors=ZstdCodec(level=1),
        fill_value=UNCOMMITTED if key == ENDS else 0,
    )


def _attributes(observation_spec: ObservationSpec, action_spec: ActionSpec) -> dict[str, Any]:
    arrays = {
        key: {
            "shape": list(spec.shape),
            "dtype": spec.dtype,
            "low": str(spec.low),  # text, for JSON has no infinity
            "high": str(spec.high),
            "names": list(spec.names),
        }
        for key, spec in observation_spec.arrays.items()
    }
    action = {
        "names": list(action_spec.names),
        "translation_m": action_spec.translation_m,
        "rotation_rad": action_spec.rotation_rad,
        "gripper": action_spec.gripper,
    }
    return {"format": "robot-rl episodes", "schema": SCHEMA, "observation": arrays, "action": action}


def read_specs(attributes: Mapping[str, Any]) -> tuple[ObservationSpec, ActionSpec]:
    arrays = {
        key: ArraySpec(tuple(one["shape"]), one["dtype"], float(one["low"]), float(one["high"]), tuple(one["names"]))
        for key, one in attributes["observation"].items()
    }
    action = attributes["action"]
    gripper = action.get("gripper", "command")  # stores written before there was a choice
    spec = ActionSpec(tuple(action["names"]), action["translation_m"], action["rotation_rad"], gripper)
    return ObservationSpec(arrays), spec
