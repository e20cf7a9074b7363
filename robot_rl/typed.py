"""Plain data (from YAML) to frozen dataclasses, strictly; errors name the key and the valid choices.

A mapping names its own class with `_target_: package.module.ClassName` where the place that holds it allows
several (any algorithm, any robot); elsewhere the annotation of the field says it.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import importlib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from robot_rl.errors import ConfigError, UnknownNameError

TARGET_KEY = "_target_"
TARGET_PACKAGES = ("robot_rl", "sim", "hardware", "policies", "data")
T = TypeVar("T")


def to_dataclass(cls: type[T], mapping: Mapping[str, Any], path: str = "", base: T | None = None) -> T:
    """Build `cls` (and what it holds) from plain data, strictly.

    Unknown keys, missing keys and wrong types raise `ConfigError` naming the full key (`path` is its prefix)
    and the valid choices. Integers are accepted where floats are wanted, lists where tuples are.
    What is not given is as in `base`, else the class's default. So are the fields of a dataclass that a field's
    default holds, where the mapping names no class itself.
    """
    cls, mapping = _resolve_target(cls, mapping, path)
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls)) if field.init}
    values = {} if base is None else {name: getattr(base, name) for name in fields}
    for key, value in mapping.items():
        if key not in fields:
            raise ConfigError(_unknown_key(cls, _join(path, str(key)), str(key), list(fields)))
        default = values[key] if base is not None else _default(fields[key])
        values[key] = _convert_onto(default, hints[key], value, _join(path, key))
    missing = [name for name, field in fields.items() if name not in values and _default(field) is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"{path or cls.__name__} lacks {', '.join(missing)} (needed by {cls.__name__})")
    try:
        return cls(**values)
    except ConfigError as error:
        error.args = (f"{path}: {error}" if path else str(error),)
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path or cls.__name__}: {error}") from error


def check_positive(config: Any, *names: str) -> None:
    """`ConfigError` for the first of the fields that is not a positive number: with a deadline or limit of NaN or
    infinity, nothing would ever be late or too far."""
    for name in names:
        if not 0.0 < getattr(config, name) < math.inf:
            raise ConfigError(f"{name} must be a positive number, got {getattr(config, name)}")


def to_plain(value: Any) -> Any:
    """What `to_dataclass` reads back: dataclasses as mappings that name their class, containers, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {one.name: to_plain(getattr(value, one.name)) for one in dataclasses.fields(value) if one.init}
        return {TARGET_KEY: f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def convert(hint: Any, value: Any, path: str) -> Any:
    """Check `value` against a type annotation and convert containers; raises `ConfigError`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return convert(arguments[0], value, path)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise UnknownNameError(path, value, map(str, arguments))
        return value
    if origin in (tuple, list, Sequence, typing.Sequence) or hint in (tuple, list):
        return _convert_sequence(origin or hint, arguments, value, path)
    if (origin or hint) in (dict, Mapping):
        return _convert_mapping(arguments or (Any, Any), value, path)
    if isinstance(value, Mapping) and (dataclasses.is_dataclass(hint) or TARGET_KEY in value):
        return to_dataclass(cast(type, hint), value, path)
    return _convert_scalar(hint, value, path)


def _convert_onto(default: Any, hint: Any, value: Any, path: str) -> Any:
    """As `convert`; a mapping that names no class changes a `default` that is a dataclass, where it fits that."""
    is_part = isinstance(value, Mapping) and TARGET_KEY not in value
    if is_part and dataclasses.is_dataclass(default) and not isinstance(default, type):
        names = {field.name for field in dataclasses.fields(default) if field.init}
        if set(value) <= names:
            return to_dataclass(type(default), value, path, default)
    return convert(hint, value, path)


def _convert_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return convert(option, value, path)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError("; or ".join(errors))


def _convert_sequence(kind: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{path} must be a list, got {value!r}")
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{path} must have {len(arguments)} elements, got {len(value)}: {value!r}")
        hints = list(arguments)
    else:
        hints = [arguments[0] if arguments else Any] * len(value)
    items = [convert(hint, item, f"{path}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True))]
    return items if kind is list else tuple(items)


def _convert_mapping(arguments: tuple[Any, ...], value: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a mapping, got {value!r}")
    key_hint, value_hint = arguments
    return {
        convert(key_hint, key, path): convert(value_hint, item, _join(path, str(key))) for key, item in value.items()
    }


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint in (Any, object):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        by_value = {member.value: member for member in hint}
        if isinstance(value, hint):
            return value
        if value not in by_value:
            raise UnknownNameError(path, str(value), map(str, by_value))
        return by_value[value]
    if getattr(hint, "_is_protocol", False):
        raise ConfigError(f"{path} must be a mapping with `{TARGET_KEY}: package.module.Class`, got {value!r}")
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    is_text = isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", value, re.IGNORECASE)
    tip = "; YAML takes this for a text: write 1.0e-3 or 0.001 for 1e-3" if is_text else ""
    raise ConfigError(f"{path} must be {wanted}, got {value!r} ({type(value).__name__}){tip}")


def _resolve_target(cls: Any, mapping: Mapping[str, Any], path: str) -> tuple[Any, Mapping[str, Any]]:
    """The class that `_target_` names (it must fit `cls`), and the mapping without that key."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{path or 'configuration'} must be a mapping, got {mapping!r}")
    if TARGET_KEY in mapping:
        target = _load(str(mapping[TARGET_KEY]), path)
        if dataclasses.is_dataclass(cls) and not issubclass(target, wanted := cast(type, cls)):
            raise ConfigError(f"{_join(path, TARGET_KEY)}: {target.__name__} is not a {wanted.__name__}")
        return target, {key: value for key, value in mapping.items() if key != TARGET_KEY}
    if not dataclasses.is_dataclass(cls):
        raise ConfigError(f"{path or 'configuration'} needs `{TARGET_KEY}: package.module.Class`")
    return cls, mapping


def _load(target: str, path: str) -> type:
    module_name, _, name = target.rpartition(".")
    if module_name.split(".")[0] not in TARGET_PACKAGES:
        raise UnknownNameError(f"package in {_join(path, TARGET_KEY)}", target, TARGET_PACKAGES)
    try:
        loaded = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"{_join(path, TARGET_KEY)}: cannot find {target!r}: {error}") from error
    if not (isinstance(loaded, type) and dataclasses.is_dataclass(loaded)):
        raise ConfigError(f"{_join(path, TARGET_KEY)}: {target!r} is not a dataclass")
    return loaded


def _unknown_key(cls: type, path: str, key: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(key, valid, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown key {path!r}{hint}; valid keys of {cls.__name__}: {', '.join(sorted(valid))}"


def _default(field: dataclasses.Field[Any]) -> Any:
    """`MISSING` where there is none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
