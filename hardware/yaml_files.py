"""YAML files as plain mappings, and `dotted.key=value` overrides; `robot_rl.typed` makes dataclasses of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

import robot_rl
from robot_rl.errors import ConfigError, UnknownNameError

ROBOT_DIR = Path(robot_rl.__file__).parent / "conf" / "robot"


def robot_file(name_or_path: str, folder: Path = ROBOT_DIR) -> Path:
    """The robot's YAML, by its name in `folder` or its path. Raises `UnknownNameError` listing the names."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    path = folder / f"{name_or_path}.yaml"
    if not path.exists():
        raise UnknownNameError("robot", name_or_path, robot_names(folder))
    return path


def robot_names(folder: Path = ROBOT_DIR) -> tuple[str, ...]:
    """Robots with a YAML file in `folder`."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice: YAML would keep the last one in silence, be it another workspace."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML file whose top level is a mapping."""
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping at the top level, got {type(content).__name__}")
    return content


def override(content: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """`content` with one `dotted.key=value` (value in YAML; list elements by number) put in."""
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {assignment!r}: expected dotted.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {assignment!r}: {error}") from error
    return _with(content, key.split("."), value, assignment)


def _with(content: Any, path: list[str], value: Any, assignment: str) -> Any:
    if not path:
        return value
    head, *rest = path
    if isinstance(content, list):
        if not head.isdigit() or int(head) >= len(content):
            raise ConfigError(f"override {assignment!r}: {head!r} is not an index below {len(content)}")
        copy = list(content)
        copy[int(head)] = _with(content[int(head)], rest, value, assignment)
        return copy
    if content is not None and not isinstance(content, Mapping):
        raise ConfigError(f"override {assignment!r}: {head!r} is below a plain value")
    return {**(content or {}), head: _with((content or {}).get(head), rest, value, assignment)}
