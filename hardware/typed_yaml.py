"""YAML to frozen dataclasses, by their type hints; errors name the file, the key and the valid choices."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from robot_rl.errors import ConfigError

T = TypeVar("T")


def read_mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML file whose top level is a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def parse(kind: type[T], content: Any, where: str) -> T:
    """An instance of dataclass `kind` from a mapping; `where` names file and key in errors."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected a mapping for {kind.__name__}, got {content!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(map(str, content)) - set(fields)):
        raise ConfigError(f"{where}: unknown key {', '.join(unknown)}; valid choices: {', '.join(fields)}")
    hints = get_type_hints(kind)
    values = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _convert(hints[name], content[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: key {name} is missing; valid choices: {', '.join(fields)}")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _convert(inner, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r}; valid choices: {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    return _plain(hint, value, where)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(f"{where}: expected {len(arguments)} values, got {len(value)}")
    return tuple(
        _convert(argument, item, f"{where}[{index}]")
        for index, (argument, item) in enumerate(zip(arguments, value, strict=True))
    )


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    expected = get_origin(hint) or hint
    if isinstance(value, expected) and (expected is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {getattr(expected, '__name__', expected)}, got {value!r}")
