"""One node of a graph: its settings, and the command line and environment that come out of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import yaml

from robot_rl.errors import ConfigError, UnknownNameError

Scalar = str | int | float | bool | None
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Ready:
    """When a node counts as ready, for those that depend on it; at once when nothing is given."""

    line: str = ""
    """Regular expression that a line of its output matches."""
    port: int = 0
    """TCP port on 127.0.0.1 that accepts connections."""
    timeout_s: float = 120.0
    """Give up (and stop the graph) when it is not ready by then."""


@dataclass(frozen=True)
class NodeConfig:
    """One process of the graph."""

    name: str
    """The ROS node's and log file's name; unique among the nodes that `when` leaves in."""
    module: str = ""
    """Python module to run with `python -m`; takes ROS arguments."""
    command: tuple[str, ...] = ()
    """Or any command line (no ROS arguments are added)."""
    args: tuple[str, ...] = ()
    """Arguments before the ROS arguments."""
    params: dict[str, Any] = field(default_factory=dict)
    """ROS parameters (modules only); nested ones get dots, an empty string leaves the node's default."""
    remap: dict[str, str] = field(default_factory=dict)
    """ROS remappings (modules only)."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to the environment."""
    when: str = ""
    """`arg`, `not arg`, or several joined by `and`: leave the node out otherwise."""
    depends_on: tuple[str, ...] = ()
    """Nodes that must be ready first; those left out by `when` do not count."""
    ready: Ready = Ready()
    """When others may start."""
    restart: Literal["on-failure", "never"] = "on-failure"
    """What to do when it ends with an error."""
    required: bool = False
    """The whole graph ends when this node ends for good."""
    outlives: bool = False
    """Keep running when the supervisor is killed (the guard: it goes on holding the arm)."""
    threads: int = 1
    """Threads for numeric libraries; two busy processes with two threads each collapse on two cores."""
    nice: int = 0
    """Lower priority (0 to 19) for work that must not disturb the control loop."""
    grace_s: float = 10.0
    """Time to end after an interrupt, before it is terminated."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to start: what `robot-rl up` and the launch file both read."""

    node: NodeConfig
    command: tuple[str, ...]
    env: Mapping[str, str]
    """Complete environment."""


def substitute(node: NodeConfig, args: Mapping[str, Scalar]) -> NodeConfig:
    """Fill in `${arg}` in every string of the node."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(item) for item in value]
        if isinstance(value, Mapping):
            return {key: text(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        whole = re.fullmatch(r"\$\{(\w+)\}", value)
        return argument(whole) if whole else re.sub(r"\$\{(\w+)\}", lambda m: _plain(argument(m)), value)

    def argument(match: re.Match[str]) -> Scalar:
        if match[1] not in args:
            raise UnknownNameError(f"${{...}} in node {node.name!r}", match[1], args)
        return args[match[1]]

    return replace(
        node,
        command=tuple(_plain(text(item)) for item in node.command),
        args=tuple(_plain(text(item)) for item in node.args),
        params={key: text(value) for key, value in node.params.items()},
        remap={key: _plain(text(value)) for key, value in node.remap.items()},
        env={key: _plain(text(value)) for key, value in node.env.items()},
    )


def build(node: NodeConfig, namespace: str, base: Mapping[str, str]) -> ProcessSpec:
    """The command line and environment of a node; `base` is the environment that all nodes share."""
    threads = {name: str(node.threads) for name in THREAD_VARIABLES}
    command = (*node.command, *node.args)
    if node.module:
        # -P: a folder called data/ where the user stands must not hide the package.
        command = (sys.executable, "-P", "-m", node.module, *node.args, *_ros_arguments(node, namespace))
    return ProcessSpec(node, command, {**base, **threads, **node.env})


def _ros_arguments(node: NodeConfig, namespace: str) -> list[str]:
    arguments = ["--ros-args", "-r", f"__node:={node.name}"]
    if namespace != "/":
        arguments += ["-r", f"__ns:={namespace}"]
    for source, target in node.remap.items():
        arguments += ["-r", f"{source}:={target}"]
    for key, value in _flat(node.params):
        arguments += ["-p", f"{key}:={_yaml_value(_parameter(value, f'{node.name}: params.{key}'))}"]
    return arguments


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters as ROS names them: nested mappings with dots, unset ones left out."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in ("", None):
            yield prefix + key, value


def _parameter(value: Any, where: str) -> Any:
    """`value` as a ROS parameter may be: the elements of a list are of one type. Raises `ConfigError`."""
    if not isinstance(value, list):
        return value
    kinds = {type(item) for item in value}
    if kinds == {int, float}:
        return [float(item) for item in value]
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        raise ConfigError(
            f"node {where}: ROS parameters cannot be {value}, only lists of texts, of numbers or of true and false "
            "with one element or more; our own nodes also take `config`, a text in YAML: config: '{cameras: []}'"
        )
    return value


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _yaml_value(value: Any) -> str:
    """A value as ROS's parameter parser reads it: strings quoted, so that "1" and "true" stay strings."""
    return (
        yaml.safe_dump(
            value,
            default_flow_style=True,
            default_style='"' if isinstance(value, str) else None,
            width=10_000,
        )
        .strip()
        .removesuffix("...")
        .strip()
    )
