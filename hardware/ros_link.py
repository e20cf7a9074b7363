"""A node that a background thread spins, and blocking calls to services on top of it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.client import Client
from rclpy.context import Context
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from robot_rl.errors import HardwareError, StaleError

SPIN_S = 0.2
RESEND_S = 5.0


class RosLink:
    """Owns a context, a node and the thread that serves the node's callbacks. Start it when all is created.

    A context of its own keeps it apart from whatever else the process does with ROS 2.
    """

    def __init__(self, name: str, namespace: str = "") -> None:
        self._context = Context()
        rclpy.init(
            args=without_node_name(sys.argv), context=self._context, signal_handler_options=SignalHandlerOptions.NO
        )
        self.node = Node(name, namespace=namespace or None, context=self._context)
        self.changed = threading.Condition()
        self._executor = EventsExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name}-spin", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def now_s(self) -> float:
        return self.node.get_clock().now().nanoseconds * 1e-9

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition` came true within `timeout_s`; looked at whenever `changed` is notified."""
        with self.changed:
            done = self.changed.wait_for(lambda: self._error is not None or condition(), timeout_s)
        self.check()
        return done

    def call(self, client: Client[Any, Any], request: object, timeout_s: float) -> Any:
        """The response of a service. Raises `StaleError` when it is absent or silent.

        The request is sent again while nobody answers: a server that has not yet discovered this client's
        ear answers into the void. So the service must bear being called twice.
        """
        name, deadline_s = client.service_name, time.monotonic() + timeout_s
        if not client.wait_for_service(timeout_s):
            raise StaleError(f"service {name} is not there after {timeout_s} s; is its node running?")
        answered = threading.Event()
        futures = []
        while True:
            future = client.call_async(request)
            future.add_done_callback(lambda _future: answered.set())
            futures.append(future)
            left_s = deadline_s - time.monotonic()
            if answered.wait(max(0.0, min(RESEND_S, left_s))) or left_s < RESEND_S:
                break
        for future in futures:
            if not future.done():
                client.remove_pending_request(future)
        self.check()
        answers = [future.result() for future in futures if future.done()]
        if not answers:
            raise StaleError(f"service {name} did not answer within {timeout_s} s; is its node busy?")
        return answers[0]

    def check(self) -> None:
        """Raise `HardwareError` when the thread ended by an exception."""
        if self._error is not None:
            raise HardwareError(f"the ROS 2 thread ended: {self._error!r}") from self._error

    def close(self) -> None:
        self._stop.set()
        self._executor.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._executor.remove_node(self.node)  # else a late event meets a node that is gone
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._executor.spin_once(timeout_sec=SPIN_S)
        except Exception as error:  # raised again in the main thread by check()
            with self.changed:
                self._error = error
                self.changed.notify_all()


def without_node_name(arguments: Sequence[str]) -> list[str]:
    """Command-line `arguments` without `-r __node:=...`: it renames the process's main node, not this one, too."""
    kept: list[str] = []
    for argument in arguments:
        if argument.startswith(("__node:=", "__name:=")):
            if kept and kept[-1] in ("-r", "--remap"):
                kept.pop()
            continue
        kept.append(argument)
    return kept
