"""Starts the graph of `robot-rl up` with ROS's launch: the same file, command lines and environment.

  ros2 launch robot_rl robot_rl.launch.py graph:=demo headless:=true
  ros2 launch robot_rl robot_rl.launch.py graph:=fr3 robot_ip:=172.16.0.2 namespace:=left

An argument that is left empty takes the graph file's own default.
"""

from __future__ import annotations

import re

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessIO
from launch.substitutions import LaunchConfiguration

from robot_rl.apps.graph import Graph, graph_path, parse_overrides, read_graph, resolve
from robot_rl.apps.graph_node import ProcessSpec

ARGUMENTS = {
    "namespace": "ROS namespace of every node",
    "use_sim": "serve the arm from the simulator",
    "use_fake_hardware": "the same as use_sim",
    "use_mock_hardware": "the same as use_sim",
    "robot_ip": "address of the arm's controller",
    "headless": "no browser page",
    "twin": "a twin in step beside the graph",
}
RESTART_DELAY_S = 1.0


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("graph", default_value="demo", description="a graph's name or YAML file"),
            DeclareLaunchArgument(
                "overrides", default_value="", description="other key=value arguments, separated by spaces"
            ),
            *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in ARGUMENTS.items()),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides = {name: value for name, value in given.items() if value}
    overrides |= parse_overrides(LaunchConfiguration("overrides").perform(context).split())
    path = graph_path(LaunchConfiguration("graph").perform(context))
    return _Starter(resolve(read_graph(path), overrides)).begin()


class _Starter:
    """Starts each node as soon as those it depends on are ready."""

    def __init__(self, graph: Graph) -> None:
        self._waiting = list(graph.processes)
        self._ready: set[str] = set()

    def begin(self) -> list[LaunchDescriptionEntity]:
        return self._unblocked()

    def _unblocked(self) -> list[LaunchDescriptionEntity]:
        actions: list[LaunchDescriptionEntity] = []
        progress = True
        while progress:
            free = [spec for spec in self._waiting if self._ready.issuperset(spec.node.depends_on)]
            for spec in free:
                self._waiting.remove(spec)
                actions += self._actions(spec)
            progress = bool(free)
        return actions

    def _actions(self, spec: ProcessSpec) -> list[LaunchDescriptionEntity]:
        node = spec.node
        process = ExecuteProcess(
            cmd=list(spec.command),
            name=node.name,
            env=dict(spec.env),
            output="both",
            respawn=node.restart == "on-failure" and not node.required,
            respawn_delay=RESTART_DELAY_S,
            sigterm_timeout=str(node.grace_s),
            on_exit=[EmitEvent(event=Shutdown(reason=f"{node.name} ended"))] if node.required else None,
        )
        if not node.ready.line:
            # A port cannot be watched from here; its dependents find it over DDS when it comes.
            self._ready.add(node.name)
            return [process]

        def on_output(event: ProcessIO) -> list[LaunchDescriptionEntity] | None:
            text = event.text.decode("utf-8", errors="replace")
            if node.name in self._ready or not re.search(node.ready.line, text):
                return None
            self._ready.add(node.name)
            return self._unblocked()

        def check_ready(context: LaunchContext) -> list[LaunchDescriptionEntity]:
            if node.name in self._ready:
                return []
            reason = f"{node.name} was not ready within {node.ready.timeout_s:g} s"
            return [EmitEvent(event=Shutdown(reason=reason))]

        return [
            RegisterEventHandler(OnProcessIO(target_action=process, on_stdout=on_output, on_stderr=on_output)),
            TimerAction(period=node.ready.timeout_s, actions=[OpaqueFunction(function=check_ready)]),
            process,
        ]
