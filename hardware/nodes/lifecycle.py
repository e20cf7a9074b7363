"""What every node shares: lifecycle, typed configuration, one thread, a clean end.

A node is a `ManagedNode` with a configuration dataclass and four hooks; its module ends in

    def main(argv: Sequence[str] | None = None) -> int:
        return run("guard", GuardNode, GuardNodeConfig, __doc__, argv)

It configures and activates itself unless `--no-autostart` leaves that to a lifecycle manager.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import rclpy
import yaml
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.executors import Executor
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from hardware.yaml_files import read_mapping, robot_file
from robot_rl.errors import ConfigError, HardwareError, RobotRlError
from robot_rl.typed import to_dataclass

T = TypeVar("T")
IDLE_S = 0.2
"""Longest wait in the executor: a signal is noticed after at most this time."""
BUILT_IN_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides", "config")


class ManagedNode(LifecycleNode, Generic[T]):
    """Lifecycle node with a typed configuration. Subclasses fill in the hooks; none of them may block."""

    def __init__(self, name: str, config_class: type[T], context: Context, config_text: str = "") -> None:
        super().__init__(name, context=context, automatically_declare_parameters_from_overrides=True)
        self.config: T = to_dataclass(config_class, self._read_parameters(config_text), name)
        self.active = False

    def configure(self) -> None:
        """Create publishers, subscriptions, services and timers."""

    def activate(self) -> None:
        """Start to act."""

    def deactivate(self) -> None:
        """Stop to act; subscriptions may go on."""

    def cleanup(self) -> None:
        """Release devices. What `configure` and later hooks created of ROS is destroyed after this."""

    def work(self) -> float:
        """Called whenever there is no message to handle. Returns the time in s until it is due again."""
        return IDLE_S

    def now_s(self) -> float:
        """The node's clock: system time, or simulated time when `use_sim_time` says so."""
        return self.get_clock().now().nanoseconds * 1e-9

    def publishers_of(self, topic: str) -> int:
        """How many publish on `topic`, wherever it is remapped to (`count_publishers` does not follow)."""
        return self.count_publishers(self.resolve_topic_name(topic))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._lasting = set(self._entities())
        result = self._guarded(self.configure)
        if result is not TransitionCallbackReturn.SUCCESS:
            self._destroy_configured()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._guarded(self.activate)
        self.active = result is TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        return self._guarded(self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._guarded(self.cleanup)
        self._destroy_configured()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        return self._guarded(self.cleanup)

    def _entities(self) -> dict[Any, Callable[[Any], bool]]:
        """Everything of ROS that the node has, each with what destroys it."""
        return {
            entity: destroy
            for entities, destroy in (
                (self.timers, self.destroy_timer),
                (self.subscriptions, self.destroy_subscription),
                (self.services, self.destroy_service),
                (self.clients, self.destroy_client),
                (self.publishers, self.destroy_publisher),
            )
            for entity in entities
        }

    def _destroy_configured(self) -> None:
        """Configured again, a guard that kept its publisher would take itself for an intruder."""
        for entity, destroy in self._entities().items():
            if entity not in self._lasting:
                destroy(entity)

    def _guarded(self, hook: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            hook()
        except RobotRlError as error:
            self.get_logger().error(str(error))
            # A device that is absent now may be back soon, unlike a wrong configuration: worth another start.
            absent = isinstance(error, HardwareError)
            return TransitionCallbackReturn.ERROR if absent else TransitionCallbackReturn.FAILURE
        except NameValidationException as error:
            self.get_logger().error(f"not a name that ROS 2 can use: {' '.join(str(error).split())}")
            return TransitionCallbackReturn.FAILURE
        except Exception:  # rclpy would turn it into an ERROR transition without a word
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _read_parameters(self, config_text: str) -> dict[str, Any]:
        """`config` (a file or inline YAML), and over it every ROS parameter; dots go deeper."""
        parameters = self.get_parameters_by_prefix("")
        text = config_text or (parameters["config"].value if "config" in parameters else "")
        content = read_config(str(text))
        for name, parameter in parameters.items():
            if name.split(".")[0] in BUILT_IN_PARAMETERS:
                continue
            value = parameter.value
            plain = value if value is None or isinstance(value, bool | int | float | str) else list(value)
            *path, last = name.split(".")
            inner = content
            for key in path:
                inner = inner.setdefault(key, {})
                if not isinstance(inner, dict):
                    raise ConfigError(f"parameter {name}: {key} is a plain value in the configuration")
            inner[last] = plain
        return content


def read_config(text: str) -> dict[str, Any]:
    """Mapping from the YAML or JSON file called `text`, or from `text` itself; empty for an empty one."""
    if not text.strip():
        return {}
    if ":" not in text or Path(text).suffix in (".yaml", ".yml", ".json"):
        return read_mapping(Path(text))
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"inline configuration: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"inline configuration must be a mapping, got {text!r}")
    return content


def read_robot(name_or_path: str) -> dict[str, Any]:
    """Content of the robot's YAML, by its name in conf/robot or its path; empty for an empty name."""
    return read_mapping(robot_file(name_or_path)) if name_or_path else {}


def ros_environment() -> None:
    """Transport that carries images whole: the default one loses 7 of 8 frames of 640x480."""
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")


def run(
    name: str,
    node_class: Callable[[str, type[T], Context, str], ManagedNode[T]],
    config_class: type[T],
    description: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Run one node until SIGINT or SIGTERM. Returns the exit status: 2 for a wrong configuration, 1 for a defect or an
    absent device."""
    given = list(sys.argv[1:] if argv is None else argv)
    split = given.index("--ros-args") if "--ros-args" in given else len(given)
    parser = argparse.ArgumentParser(
        f"python -m hardware.nodes.{name}",
        description=description,
        epilog="Everything after --ros-args goes to ROS 2: -r __ns:=/arm1 -p key:=value ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="", help="YAML or JSON: a file, or the mapping itself")
    parser.add_argument("--no-autostart", action="store_true", help="wait for a lifecycle manager")
    options = parser.parse_args(given[:split])
    ros_environment()
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: stopped.append(received))
    context = Context()
    try:
        rclpy.init(args=given[split:], context=context, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # what rcl raises for arguments that it cannot parse, and for its log folder
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    try:
        node = node_class(name, config_class, context, options.config)
        executor = EventsExecutor(context=context)
        executor.add_node(node)
        return _spin(node, executor, stopped, autostart=not options.no_autostart)
    except RobotRlError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown(context=context)


def _spin(node: ManagedNode[Any], executor: Executor, stopped: list[int], *, autostart: bool) -> int:
    try:
        if autostart:
            for trigger in (node.trigger_configure, node.trigger_activate):
                result = trigger()
                if result is not TransitionCallbackReturn.SUCCESS:
                    return 2 if result is TransitionCallbackReturn.FAILURE else 1
            node.get_logger().info("ready")
        while not stopped:
            executor.spin_once(timeout_sec=node.work())
        return 0
    finally:
        node.trigger_shutdown()
        executor.remove_node(node)
        executor.shutdown()
        node.destroy_node()
