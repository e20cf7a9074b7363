"""The node graph as data: one YAML file names the processes, `robot-rl up` and ROS's launch start them.

A file lists `nodes` and declares the `args` it takes. `${arg}` is replaced in every string below `nodes`, and
`when: learn and not use_sim` leaves a node out otherwise. A file that says `extends: arm` is that graph with its own
keys over it, and its own `args` among the others. What comes out is a list of `ProcessSpec`, in start order: a
command line, an environment and rules, nothing about ROS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from hardware.yaml_files import read_mapping
from robot_rl.apps.config import CONF_DIR
from robot_rl.apps.graph_node import NodeConfig, ProcessSpec, Scalar, build, substitute
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import to_dataclass

GRAPH_DIR = CONF_DIR / "graph"
SIM_ALIASES = ("use_fake_hardware", "use_mock_hardware")
"""Other names that labs type for `use_sim`."""
DEFAULT_ENV = {
    "ROS_DOMAIN_ID": "0",
    # The default transport drops most 640x480 frames; this one carries them over shared memory.
    "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
    "PYTHONUNBUFFERED": "1",
}
SIM_ENV = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
"""A simulated arm has the topics of the real one: it stays on this machine."""


@dataclass(frozen=True)
class GraphConfig:
    """A graph file."""

    nodes: tuple[NodeConfig, ...]
    """Processes, in start order where `depends_on` leaves it open."""
    name: str = ""
    """Names the run directory; the file's name when empty."""
    description: str = ""
    """One line for `robot-rl up --list`."""
    args: dict[str, Scalar] = field(default_factory=dict)
    """What may be given on the command line, with the defaults; `null` is a number that need not be given."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment of all nodes; a variable that the user has set already wins."""


@dataclass(frozen=True)
class Graph:
    """A graph with its arguments filled in."""

    name: str
    namespace: str
    args: Mapping[str, Scalar]
    processes: tuple[ProcessSpec, ...]

    @property
    def domain_id(self) -> str:
        return self.processes[0].env["ROS_DOMAIN_ID"]


def graph_names() -> list[str]:
    """Graphs that come with the package."""
    return sorted(path.stem for path in GRAPH_DIR.glob("*.yaml"))


def graph_path(name_or_file: str) -> Path:
    """A graph's file, from its name or from a path. Raises `ConfigError` when there is none."""
    path = Path(name_or_file)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"no graph file {str(path)!r}")
        return path
    if name_or_file not in graph_names():
        raise UnknownNameError("graph", name_or_file, graph_names())
    return GRAPH_DIR / f"{name_or_file}.yaml"


def read_graph(path: Path) -> GraphConfig:
    """Parse and check a graph file. Raises `ConfigError`."""
    mapping = read_mapping(path)
    if "extends" in mapping:
        base = read_mapping(graph_path(str(mapping.pop("extends"))))
        args = {**(base.get("args") or {}), **(mapping.get("args") or {})}
        mapping = {**base, **mapping, "args": args}
    config = to_dataclass(GraphConfig, mapping, path.name)
    _check_nodes(config, path.name)
    return config if config.name else replace(config, name=path.stem)


def resolve(config: GraphConfig, overrides: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Graph:
    """Fill in the arguments: drop nodes whose `when` does not hold, order the rest, build command lines."""
    args = _arguments(config, overrides)
    namespace = _namespace(str(args.get("namespace", "")))
    base = {**DEFAULT_ENV, **(SIM_ENV if args.get("use_sim") else {}), **config.env}
    base |= os.environ if environ is None else environ
    base["ROS_DOMAIN_ID"] = _domain_id(base["ROS_DOMAIN_ID"])
    kept = [node for node in config.nodes if _holds(node.when, args, node.name)]
    if not kept:
        raise ConfigError(f"graph {config.name!r} has no nodes with these arguments: {dict(args)}")
    names = [node.name for node in kept]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"graph {config.name!r}: two nodes are called {', '.join(sorted(twice))}")
    kept = [replace(node, depends_on=tuple(name for name in node.depends_on if name in names)) for node in kept]
    specs = tuple(build(substitute(node, args), namespace, base) for node in _ordered(kept))
    return Graph(config.name, namespace, args, specs)


def parse_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """`key=value` strings as a dict."""
    pairs = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read {override!r}: arguments are key=value, such as headless=true")
        pairs[key] = value
    return pairs


def _check_nodes(config: GraphConfig, file: str) -> None:
    names = [node.name for node in config.nodes]
    for node in config.nodes:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", node.name):
            raise ConfigError(f"{file}: node name {node.name!r} must be letters, digits and underscores")
        if bool(node.module) == bool(node.command):
            raise ConfigError(f"{file}: node {node.name!r} needs either `module` or `command`")
        if node.command and (node.params or node.remap):
            raise ConfigError(f"{file}: node {node.name!r}: `params` and `remap` need `module`")
        try:
            re.compile(node.ready.line)
        except re.error as error:
            raise ConfigError(f"{file}: node {node.name!r}: ready.line is no regular expression: {error}") from error
        if not 0 <= node.nice <= 19:
            raise ConfigError(f"{file}: node {node.name!r}: nice must be in 0..19, got {node.nice}")
        for other in node.depends_on:
            if other not in names:
                raise UnknownNameError(f"dependency of node {node.name!r}", other, names)


def _arguments(config: GraphConfig, overrides: Mapping[str, str]) -> dict[str, Scalar]:
    args = dict(config.args)
    for key, text in overrides.items():
        name = "use_sim" if key in SIM_ALIASES else key
        if name not in args:
            raise UnknownNameError(f"argument of graph {config.name!r}", key, args)
        args[name] = _parse_value(name, text, type(config.args[name]))
    return args


def _parse_value(name: str, text: str, kind: type) -> Scalar:
    if kind is str:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} must be {kind.__name__}, got {text!r}") from error
    if kind is type(None) and type(value) in (int, float):
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or value is None:
        raise ConfigError(f"{name} must be {'a number' if kind is type(None) else kind.__name__}, got {text!r}")
    return value


def _namespace(text: str) -> str:
    """`/lab/arm1`, or `/` for none."""
    parts = [part for part in text.split("/") if part]
    if bad := [part for part in parts if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part)]:
        raise ConfigError(f"namespace {text!r}: {bad[0]!r} must be letters, digits and underscores")
    return "/" + "/".join(parts)


def _domain_id(text: str) -> str:
    """In one spelling, since the lock of a graph is named after it. DDS has ports for 0 to 232."""
    if not re.fullmatch(r"\s*\d*\s*", text, re.ASCII) or int(text.strip() or 0) > 232:
        raise ConfigError(f"ROS_DOMAIN_ID must be a number from 0 to 232, got {text!r}")
    return str(int(text.strip() or 0))


def _holds(when: str, args: Mapping[str, Scalar], node: str) -> bool:
    flags = {key: value for key, value in args.items() if isinstance(value, bool)}
    for condition in filter(None, when.split(" and ")):
        negated, name = condition.startswith("not "), condition.removeprefix("not ").strip()
        if name not in flags:
            raise UnknownNameError(f"`when` of node {node!r}", name, flags)
        if flags[name] == negated:
            return False
    return True


def _ordered(nodes: Sequence[NodeConfig]) -> list[NodeConfig]:
    """File order, moved only where a dependency asks for it."""
    ordered: list[NodeConfig] = []
    waiting = list(nodes)
    while waiting:
        done = {node.name for node in ordered}
        node = next((node for node in waiting if done.issuperset(node.depends_on)), None)
        if node is None:
            raise ConfigError(f"nodes wait for each other: {', '.join(node.name for node in waiting)}")
        ordered.append(node)
        waiting.remove(node)
    return ordered
