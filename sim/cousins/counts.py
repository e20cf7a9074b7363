"""What a user says about moving parts: how many of which kind an object has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from robot_rl.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class PartCounts:
    """How many moving parts a user says that an object has."""

    doors: int = 0
    """Hinged at a side."""
    drawers: int = 0
    """Pulled out."""
    lids: int = 0
    """Hinged at the back of the top; at most one."""

    def __post_init__(self) -> None:
        if min(self.doors, self.drawers, self.lids) < 0 or self.lids > 1:
            raise ConfigError(f"counts must not be negative, and there is at most one lid; got {self}")


def read_counts(texts: Sequence[str]) -> dict[str, PartCounts]:
    """Counts by object from texts such as `object_0:doors=1,drawers=2`."""
    counts = {}
    for text in texts:
        name, colon, parts = text.partition(":")
        if not colon or not name:
            raise ConfigError(f"parts {text!r}: expected OBJECT:doors=1,drawers=2")
        counts[name] = PartCounts(**dict(_read_count(text, part) for part in parts.split(",")))
    return counts


def _read_count(text: str, part: str) -> tuple[str, int]:
    kind, _, number = part.partition("=")
    kinds = [one.name for one in fields(PartCounts)]
    if kind not in kinds:
        raise UnknownNameError(f"kind of part in {text!r}", kind, kinds)
    if not number.isdecimal():
        raise ConfigError(f"parts {text!r}: {kind} needs a whole number, got {number!r}")
    return kind, int(number)
