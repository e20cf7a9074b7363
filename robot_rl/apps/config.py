"""Hydra's YAML becomes frozen dataclasses, once, here; nothing below sees a DictConfig."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar, cast

from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.typed import to_dataclass

CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
T = TypeVar("T")


def add_overrides(parser: argparse.ArgumentParser, example: str = "policy.steps=10 policy.guidance=2") -> None:
    """Accept trailing `key=value` overrides, as `args.overrides`; `example`: some that make sense there."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"{example} ...")


def add_found_run(parser: argparse.ArgumentParser) -> None:
    """What to do with a run that is in the folder already: --resume or --overwrite it, never both."""
    found = parser.add_mutually_exclusive_group()
    found.add_argument("--resume", action="store_true", help="continue the run found there")
    found.add_argument("--overwrite", action="store_true", help="delete the run found there first")


def positive(text: str) -> int:
    """An argument that counts something."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def not_negative(text: str) -> int:
    """A seed."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {value}")
    return value


def check_writable(path: Path) -> None:
    """`ConfigError` before hours of work when their result could not be written."""
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a directory")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path}: no such directory, or not yours to write")


def make_folder(path: Path) -> None:
    """The same of a folder, which is there then."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to the folder {path}: {error.strerror}; name another one") from error
    check_writable(path / "any")


def compose(config_name: str, overrides: Sequence[str] = (), cls: type[T] | None = None) -> T:
    """Compose `conf/<config_name>.yaml` with `overrides` and convert it to `cls`.

    Without `cls` the file names its own class by `_target_`. Raises `ConfigError` with the valid choices.
    """
    mapping = compose_mapping(config_name, overrides)
    _check_numbers(mapping, "")
    return cast(T, to_dataclass(cls or object, mapping, ""))


def _check_numbers(value: Any, key: str) -> None:
    """`ConfigError` names what is NaN or infinite: few comparisons that a configuration makes would refuse it."""
    if isinstance(value, dict):
        for name, one in value.items():
            _check_numbers(one, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            _check_numbers(one, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {value}")


def compose_mapping(config_name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The composed configuration as plain dicts and lists, interpolations resolved.

    A group takes a name of conf/ or a file: task=lift, task=runs/kitchen/family.json.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_overrides(overrides)
    files = {key: Path(value) for key, _, value in (one.partition("=") for one in overrides) if _is_file(key, value)}
    inside = [one for one in overrides if one.partition("=")[0].split(".")[0] in files]
    try:
        with initialize_config_dir(config_dir=str(CONF_DIR), version_base="1.3"):
            config = hydra_compose(config_name, overrides=[_forced(one) for one in overrides if one not in inside])
        for group, path in files.items():
            OmegaConf.update(config, group, _content(path), merge=False, force_add=True)
        for key, _, value in (one.partition("=") for one in inside):
            if key not in files:
                OmegaConf.update(config, key, _value(value), force_add=True)
        mapping = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"configuration {config_name!r}: {_one_line(error)}") from error
    return cast(dict[str, Any], mapping)


def read_configuration(run_dir: Path, cls: type[T], overrides: Sequence[str] = ()) -> T:
    """The configuration that a run was begun with, as `to_plain` wrote it, with `key=value` overrides.

    With `cls` `object` the file says itself what it is. `DataError` when it cannot be read.
    """
    _check_overrides(overrides)
    path = run_dir / "experiment.json"
    try:
        mapping = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for override in overrides:
        key, _, value = override.partition("=")
        *parents, name = key.split(".")
        place = mapping
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                raise ConfigError(f"there is no {key!r} in {path}")
            place = place[parent]
        before, place[name] = place.get(name), _value(value)
        if isinstance(before, dict) and not isinstance(place[name], dict | None):
            raise ConfigError(f"{override}: a run keeps its {name}; give single values, as {key}.NAME=...")
    return to_dataclass(cls, mapping)


def _is_file(group: str, value: str) -> bool:
    """Whether `group=value` names a file of the user's own instead of one in conf/."""
    return (CONF_DIR / group).is_dir() and names_file(value)


def names_file(value: str) -> bool:
    """Whether a task and the like is given by a file instead of by a name."""
    return Path(value).suffix in (".yaml", ".yml", ".json")


def read_file(path: str, cls: type[T]) -> T:
    """What a file says that stands for a name of conf/, as in task=WORK/family.json; `ConfigError` if it cannot."""
    return to_dataclass(cls, _content(Path(path)), path)


def _content(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration: a mapping with _target_ is expected")
    return content


def _value(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def group_choices(group: str) -> list[str]:
    """Names that `group=` accepts."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


def check_choice(group: str, overrides: Sequence[str], command: str, fits: Callable[[type], bool]) -> None:
    """`UnknownNameError` unless `group=NAME` names a class of conf/ that is for this command."""

    def is_for_it(name: str) -> bool:
        return fits(resolve_name(_content(CONF_DIR / group / f"{name}.yaml")["_target_"]))

    names = group_choices(group)
    for key, _, value in (one.partition("=") for one in overrides):
        if key == group and not names_file(value) and not (value in names and is_for_it(value)):
            raise UnknownNameError(f"{group} of robot-rl {command}", value, filter(is_for_it, names))


def _forced(override: str) -> str:
    """Let an override set what the YAML leaves at its default; `to_dataclass` checks the key later."""
    key = override.partition("=")[0]
    is_group = (CONF_DIR / key.split("@")[0]).is_dir()
    return override if is_group or key[:1] in "+~" else f"++{override}"


def _check_overrides(overrides: Sequence[str]) -> None:
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise ConfigError(f"cannot read {override!r}: overrides are key=value, such as task=lift")


def _one_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
