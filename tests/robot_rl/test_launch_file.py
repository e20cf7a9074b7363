"""What the launch file hands to ROS's launch is what `robot-rl up` starts, in an order that heeds dependencies.

ROS's launch comes with a full ROS 2 install alone. Here stand-ins note what they are given, and say "ready" for each
process; `test_graph.py` runs the file with the real one where it is installed (done with launch 3.7.1).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from robot_rl.apps.graph import graph_names, graph_path, read_graph, resolve

LAUNCH_FILE = Path(__file__).resolve().parents[2] / "launch" / "robot_rl.launch.py"
MODULES = {
    "launch": ("LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"),
    "launch.actions": (
        *("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess"),
        *("OpaqueFunction", "RegisterEventHandler", "TimerAction"),
    ),
    "launch.event_handlers": ("OnProcessIO",),
    "launch.events": ("Shutdown",),
    "launch.events.process": ("ProcessIO",),
    "launch.substitutions": ("LaunchConfiguration",),
}


class Noted:
    """Keeps what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.__dict__.update(kwargs)

    def perform(self, context: dict[str, str]) -> str:
        """Of a LaunchConfiguration."""
        return context[self.args[0]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, classes in MODULES.items():
        module = ModuleType(name)
        module.__dict__.update({one: type(one, (Noted,), {}) for one in classes})
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("robot_rl_launch", LAUNCH_FILE)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def started(launch_file: ModuleType, **given: str) -> Iterator[tuple[Any, set[str]]]:
    """The processes in the order of their start, and which ones have said before that they are ready."""
    entities = launch_file.generate_launch_description().args[0]
    context = {one.args[0]: one.default_value for one in entities if type(one).__name__ == "DeclareLaunchArgument"}
    assert set(given) <= set(context)
    (opaque,) = (one for one in entities if type(one).__name__ == "OpaqueFunction")
    waiting, handlers, ready = opaque.function(context | given), {}, set()
    while waiting or handlers:
        for entity in waiting:
            if type(entity).__name__ == "RegisterEventHandler":
                handlers[entity.args[0].target_action.name] = entity.args[0].on_stdout
            elif type(entity).__name__ == "ExecuteProcess":
                yield entity, set(ready)
        waiting = []
        if handlers:
            name = next(iter(handlers))
            on_stdout = handlers.pop(name)
            assert on_stdout(SimpleNamespace(text=b"starting\n")) is None
            waiting = on_stdout(SimpleNamespace(text=b"[INFO] [guard]: ready\n"))
            ready.add(name)
            assert on_stdout(SimpleNamespace(text=b"[INFO] [guard]: ready\n")) is None


@pytest.mark.parametrize("use_sim", ["true", "false"])
@pytest.mark.parametrize("name", graph_names())
def test_the_launch_file_starts_the_processes_of_robot_rl_up(launch_file: ModuleType, name: str, use_sim: str) -> None:
    given = {"graph": name, "use_fake_hardware": use_sim, "namespace": "left", "overrides": "seed=7 twin=true"}
    overrides = {"use_sim": use_sim, "namespace": "left", "seed": "7", "twin": "true"}
    config = read_graph(graph_path(name))
    specs = {one.node.name: one for one in resolve(config, overrides).processes}
    done = set()
    for process, ready in started(launch_file, **given):
        spec = specs[process.name]
        assert (tuple(process.cmd), process.env) == (spec.command, spec.env)
        assert process.respawn == (spec.node.restart == "on-failure" and not spec.node.required)
        assert (process.on_exit is not None) == spec.node.required
        for other in spec.node.depends_on:
            assert other in (ready if specs[other].node.ready.line else done)
        done.add(process.name)
    assert done == set(specs)
