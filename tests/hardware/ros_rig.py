"""Nodes of one test in one process, spun by one thread, in a ROS domain of their own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.node import Node

from robot_rl.errors import DataError

PATIENCE_S = 20.0


class Ros:
    """Creates, spins and kills nodes."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=50 + os.getpid() % 50)
        self.executor = EventsExecutor(context=self.context)
        self.nodes: list[Node] = []
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def node(self, name: str) -> Node:
        return self.add(Node(name, context=self.context))

    def add(self, node: Node) -> Node:
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def kill(self, node: Node) -> None:
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for node in list(self.nodes):
            self.kill(node)
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)

    def _spin(self) -> None:
        while not self._stop.is_set():
            try:
                self.executor.spin_once(timeout_sec=0.05)
            except DataError as error:
                self.errors.append(error)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ros]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    ros = Ros()
    yield ros
    ros.close()


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never happened: {what}"
        time.sleep(0.01)
