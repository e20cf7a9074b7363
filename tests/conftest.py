"""Keeps test runs apart from each other and from a robot on the same network."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports torch or rclpy: two busy processes with two threads each collapse on two cores, and
# what a test publishes must not reach an arm.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
# Ids 1 to 101 keep clear of the ephemeral ports; the process number keeps two test runs apart.
if "ROS_DOMAIN_ID" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)

# A shell starts what runs in the background with Ctrl-C ignored, and what that starts ignores it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, and no verdict on how fast a busy machine is.
settings.register_profile("robot-rl", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("robot-rl")

WITHOUT_PROCESSES = {
    "test_arm_adapter.py", "test_camera.py", "test_checks.py", "test_guard.py", "test_guard_limits.py",
    "test_gui_logic.py", "test_ik.py", "test_mux.py", "test_robots.py",
}  # fmt: skip
"""What is in the folders of such tests, and is arithmetic alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes over DDS or in a browser get a second try: a starved machine is not a fault."""
    for item in items:
        starts_processes = {"hardware", "faults"} & set(item.path.parts) and item.path.name not in WITHOUT_PROCESSES
        if starts_processes or item.path.name in ("test_up.py", "test_doctor.py"):
            item.add_marker(pytest.mark.processes)
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=2))
