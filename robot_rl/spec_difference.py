"""In which parts two specs differ, for a person to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec


def difference(one: ObservationSpec | ActionSpec, other: ObservationSpec | ActionSpec, names: tuple[str, str]) -> str:
    """What `one` has otherwise than `other`, called by their `names`; empty where they are equal."""
    mine, theirs = _parts(one), _parts(other)
    found = [
        f"{key}: {_told(mine.get(key), theirs.get(key))} ({names[0]}), "
        f"{_told(theirs.get(key), mine.get(key))} ({names[1]})"
        for key in dict.fromkeys([*mine, *theirs])
        if mine.get(key) != theirs.get(key)
    ]
    return "; ".join(found)


def _parts(spec: ObservationSpec | ActionSpec) -> Mapping[str, Any]:
    return spec.arrays if isinstance(spec, ObservationSpec) else asdict(spec)


def _told(part: Any, beside: Any) -> str:
    """One part; of an array the names that the other one lacks and bounds that are others, if there are any."""
    if part is None:
        return "none"
    if not isinstance(part, ArraySpec):
        return str(part)
    other = beside if isinstance(beside, ArraySpec) else part
    own = [name for name in part.names if name not in other.names]
    bounds = f" in [{part.low:g}, {part.high:g}]" if (part.low, part.high) != (other.low, other.high) else ""
    return f"{part.dtype} {part.shape}{bounds}" + (f" with {', '.join(own)}" if own else "")
