"""Runs the graph `deploy` on a simulated robot, hears what guard and robot say, and recovers the guard from faults."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from hardware.nodes.guard import STATUS_QOS
from hardware.nodes.lifecycle import ros_environment
from hardware.ros_link import RosLink
from hardware.ros_messages import read_diagnostics

DOMAINS = 101
"""Ids up to this one keep clear of the ephemeral ports."""


class GraphEar:
    """What was heard. After a fault somebody has to recover the guard: here the ear does."""

    def __init__(self) -> None:
        self.guard: dict[str, str] = {}
        """Newest status; its counts are of all since the guard began."""
        self.faults: list[str] = []
        """Why the guard was in fault, once each time."""
        self.robot: list[dict[str, str]] = []
        """How the simulated robot kept time, about every second."""
        self.link = RosLink("ear")
        self._recover = self.link.node.create_client(Trigger, "guard/recover")
        self.link.node.create_subscription(DiagnosticArray, "guard/status", self._on_guard, STATUS_QOS)
        self.link.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self.link.start()

    def counts(self, kind: str) -> dict[str, int]:
        """The guard's counts of `rejected` requests by reason, or of `clipped` targets by filter."""
        return {
            name.removeprefix(f"{kind}."): int(count)
            for name, count in self.guard.items()
            if name.startswith(f"{kind}.")
        }

    def _on_guard(self, message: DiagnosticArray) -> None:
        was, self.guard = self.guard.get("mode"), read_diagnostics(message)
        if self.guard["mode"] != "fault":
            return
        if was != "fault":
            self.faults.append(self.guard["reason"])
        self._recover.call_async(Trigger.Request())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if any(status.name == "sim_robot" for status in message.status):
            self.robot.append(read_diagnostics(message))


def deploy(words: Sequence[str]) -> GraphEar:
    """Run `robot-rl up graph=deploy` with these words to its end, in a ROS domain of its own on this machine."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + (os.getpid() + int(time.time())) % DOMAINS)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    ros_environment()
    command = [sys.executable, "-m", "robot_rl.apps.cli", "up", "graph=deploy", "headless=true", "--quiet", *words]
    ear = GraphEar()
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    finally:
        ear.link.close()
    return ear
