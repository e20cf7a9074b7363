"""Steps that write one file each, and are skipped while that is newer than what it is made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from robot_rl.errors import ConfigError, DataError
from robot_rl.files import write_file
from robot_rl.typed import to_dataclass, to_plain
from sim.cousins.scan import read_json

T = TypeVar("T")


class Steps:
    """A folder of steps' files; `config/` holds what each was made with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "config"
        self._config.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, inputs: Sequence[Path], config: Any, make: Callable[[Path], None]) -> Path:
        """The file `name`, made by `make` (whole or not at all) unless newer than `inputs` and its configuration."""
        out, recorded = self._folder / name, self._config / f"{name.split('.')[0]}.json"
        text = json.dumps(to_plain(config), indent=1) + "\n"
        if not recorded.exists() or recorded.read_text() != text:
            write_file(recorded, text)
        newest = max(path.stat().st_mtime_ns for path in (*inputs, recorded))
        if not out.exists() or out.stat().st_mtime_ns < newest:
            partial = out.with_name(f".partial.{name}")
            make(partial)
            partial.replace(out)
        return out


def write_plain(path: Path, value: Any) -> None:
    """A dataclass as JSON."""
    write_file(path, json.dumps(to_plain(value), indent=1) + "\n")


def read_plain(path: Path, kind: type[T]) -> T:
    """The dataclass in a JSON file that a step, or a person, has written."""
    try:
        return to_dataclass(kind, read_json(path))
    except ConfigError as error:
        raise DataError(f"{path}: {error}; mend it, or delete it to have it made anew") from error
