"""Runs the graph `deploy`; an ear for what a deployed policy says on /diagnostics."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from hardware.ros_messages import read_diagnostics

Heard = list[dict[str, str]]


def deploy(trained: Path, run_dir: Path, *words: str, domain: int) -> subprocess.CompletedProcess[str]:
    """`robot-rl up graph=deploy` with these words, to its end."""
    command = [sys.executable, "-m", "robot_rl.apps.cli", "up", "graph=deploy", "headless=true", "--quiet"]
    command += [f"policy={trained}", f"run_dir={run_dir}", *words]
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@contextmanager
def diagnostics(domain: int, name: str = "listener", prepare: Callable[[Node], None] | None = None) -> Iterator[Heard]:
    """What the deploy node says of itself, heard by a node that `prepare` may give more to do."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    node, heard, over = rclpy.create_node(name, context=context), [], threading.Event()

    def hear(message: DiagnosticArray) -> None:
        heard.extend([read_diagnostics(message)] if message.status[0].name == "deploy" else [])

    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 100)
    if prepare is not None:
        prepare(node)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while not over.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
