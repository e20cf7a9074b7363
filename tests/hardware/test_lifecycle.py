"""What every node shares: a lifecycle that can go round, and wrong names that are told from defects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn

from hardware.nodes.guard import GuardNode, GuardNodeConfig
from hardware.nodes.lifecycle import ManagedNode
from hardware.nodes.realsense import RealSenseNode, RealSenseNodeConfig
from tests.hardware.guard_rig import GUARD

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def context() -> Iterator[Context]:
    made = Context()
    rclpy.init(args=["--ros-args", "-r", "__ns:=/lifecycle"], context=made)
    yield made
    rclpy.try_shutdown(context=made)


def belongings(node: ManagedNode[GuardNodeConfig]) -> dict[str, Counter[str]]:
    """Topics and services of a node, and how often it has each."""
    return {
        "publishers": Counter(one.topic_name for one in node.publishers),
        "subscriptions": Counter(one.topic_name for one in node.subscriptions),
        "services": Counter(one.service_name for one in node.services),
        "timers": Counter("timer" for _ in node.timers),
    }


def test_a_node_that_is_configured_again_has_everything_once(context: Context) -> None:
    """Else a guard would find a second publisher of its targets, itself, and never arm again."""
    node = GuardNode("guard", GuardNodeConfig, context, json.dumps({"guard": GUARD}))
    before = belongings(node)
    assert node.trigger_configure() is SUCCESS
    configured = belongings(node)
    assert node.count_publishers("target_pose") == 1
    for trigger in (node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup):
        assert trigger() is SUCCESS
    assert belongings(node) == before
    assert node.trigger_configure() is SUCCESS
    assert belongings(node) == configured
    node.destroy_node()


def test_a_name_that_ros_cannot_use_is_a_wrong_configuration(context: Context) -> None:
    """Not a defect, after which the node would be started again and again."""
    node = RealSenseNode("camera", RealSenseNodeConfig, context, json.dumps({"camera": "front cam"}))
    before = len(list(node.publishers))
    assert node.trigger_configure() is FAILURE
    assert len(list(node.publishers)) == before
    node.destroy_node()


def test_arguments_that_ros_cannot_read_end_the_node_with_a_line() -> None:
    command = [sys.executable, "-m", "hardware.nodes.guard", "--ros-args", "-r", "__node:=my-guard"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "guard: failed to initialize rcl: Couldn't parse remap rule" in ended.stderr
    assert "Traceback" not in ended.stderr
