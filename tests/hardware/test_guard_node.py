"""The guard as a process: what reaches the arm, with commanders that lie, hurry, intrude and die."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from hardware import ros_messages
from hardware.nodes.guard import GuardNodeConfig, guard_config
from hardware.nodes.lifecycle import read_config
from hardware.yaml_files import ROBOT_DIR
from robot_rl.errors import ConfigError
from robot_rl.typed import to_dataclass
from tests.hardware.guard_rig import GUARD, Rig, shifted

TICK_S, SPEED_M_S = 0.02, 0.25


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made.start_robot()


@pytest.fixture
def armed(rig: Rig) -> Iterator[Rig]:
    rig.call("guard/recover")
    rig.call("reset_world")
    time.sleep(0.1)  # the guard, too, has heard the new state
    rig.arm()
    rig.wait(lambda: rig.status["armed"] == "true", "the status")
    rig.targets.clear()
    rig.wait(lambda: len(rig.targets) > 0, "a target")
    yield rig
    rig.call("guard/disarm")


def test_nothing_is_published_and_nothing_moves_until_armed(rig: Rig) -> None:
    rig.call("guard/disarm")
    rig.call("reset_world")
    time.sleep(0.2)
    rig.targets.clear()
    start = rig.poses[-1].copy()
    refused = rig.rejected("not armed")
    for _ in range(15):
        rig.ask(shifted(start, 0.02))
        time.sleep(0.05)
    rig.wait(lambda: rig.rejected("not armed") > refused, "the rejections")
    assert rig.targets == []
    np.testing.assert_array_equal(rig.poses[-1], start)


def test_an_armed_guard_passes_a_good_command_on_and_then_holds(armed: Rig) -> None:
    start = armed.poses[-1].copy()
    goal = shifted(start, 0.02)
    for _ in range(10):
        armed.ask(goal)
        time.sleep(0.05)
    armed.wait(lambda: abs(armed.poses[-1][0] - goal[0]) < 1e-3, "the motion")
    armed.wait(lambda: armed.status["source"] == "hold", "the hold")
    time.sleep(0.3)
    np.testing.assert_allclose(armed.poses[-1], goal, atol=2e-3)


@pytest.mark.parametrize(
    ("offset", "age_s", "kind"),
    [
        (np.full(7, np.nan), 0.0, "not finite"),
        (np.array([0, 0, 0, 1.0, 0, 0, 0]), 0.0, "quaternion"),
        (np.array([0.01, 0, 0, 0, 0, 0, 0]), 5.0, "stale"),
        (np.array([0.01, 0, 0, 0, 0, 0, 0]), -5.0, "future"),
        (np.array([0.2, 0, 0, 0, 0, 0, 0]), 0.0, "first command too far"),
    ],
)
def test_bad_commands_are_counted_and_do_not_move_the_arm(
    armed: Rig, offset: np.ndarray, age_s: float, kind: str
) -> None:
    start, before = armed.poses[-1].copy(), armed.rejected(kind)
    for _ in range(10):
        armed.ask(start + offset, age_s)
        time.sleep(0.03)
    armed.wait(lambda: armed.rejected(kind) > before, "the rejection")
    assert all(np.array_equal(pose, start) for pose in armed.poses[-10:])
    assert all(np.isfinite(pose).all() for _, pose, _ in armed.targets)
    assert armed.status["armed"] == "true"


def test_commands_in_another_frame_are_refused(armed: Rig) -> None:
    start, before = armed.poses[-1].copy(), armed.rejected("frame")
    message = ros_messages.pose_message(shifted(start, 0.01), armed.link.now_s(), "camera")
    armed.requests.publish(message)
    armed.wait(lambda: armed.rejected("frame") == before + 1, "the rejection")
    np.testing.assert_array_equal(armed.poses[-1], start)


def test_a_second_publisher_disarms_and_blocks_arming_until_it_is_gone(armed: Rig) -> None:
    intruder = armed.link.node.create_publisher(PoseStamped, "target_pose", 1)
    try:
        armed.wait(lambda: armed.status["armed"] == "false", "the guard to disarm")
        assert "second publisher on target_pose" in armed.status["reason"]
        response = armed.call("guard/arm")
        assert not response.success
        assert "second publisher" in response.message
        start = armed.poses[-1].copy()
        target = ros_messages.pose_message(shifted(start, 0.1), armed.link.now_s(), "base")
        intruder.publish(target)
        time.sleep(0.3)
        np.testing.assert_array_equal(armed.poses[-1], start)  # the robot does not listen to two either
    finally:
        armed.link.node.destroy_publisher(intruder)
    armed.arm()


def test_a_fault_of_the_arm_needs_the_arm_and_then_the_guard_to_recover(armed: Rig) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    driver = armed.link.node.create_publisher(String, "arm/fault", latched)
    driver.publish(String(data="reflex"))
    armed.wait(lambda: armed.status["mode"] == "fault", "the fault")
    assert armed.status["reason"] == "arm: reflex"
    refused = armed.call("guard/recover")
    assert not refused.success and "reflex" in refused.message
    driver.publish(String(data=""))
    armed.wait(lambda: armed.call("guard/recover").success, "the guard to recover")
    assert armed.status["armed"] == "false"  # and it stays so until somebody arms it
    armed.arm()
    armed.link.node.destroy_publisher(driver)


def test_a_killed_commander_leaves_the_arm_holding(rig: Rig) -> None:
    rig.call("guard/disarm")
    rig.targets.clear()
    commander = rig.launch("commander", "-m", "tests.hardware.guard_commander", rig.namespace)
    rig.wait(lambda: rig.status["source"] == "policy" and len(rig.targets) > 50, "the commander to drive")
    moving = rig.poses[-1][0] - 0.5
    commander.kill()
    commander.wait()
    killed_s = time.monotonic()
    rig.wait(lambda: rig.status["source"] == "hold", "the hold")
    time.sleep(0.7)
    held = rig.poses[-1].copy()
    time.sleep(0.7)
    assert moving > 0.005
    np.testing.assert_allclose(rig.poses[-1], held, atol=1e-4)  # latched: it does not drift
    assert rig.status["armed"] == "true"
    times = np.array([heard_s for heard_s, _, _ in rig.targets])
    stream = np.array([pose for _, pose, _ in rig.targets])
    assert times[-1] > killed_s + 1.0  # the guard speaks on
    assert np.isfinite(stream).all()
    low, high = np.array(GUARD["workspace_low_m"]), np.array(GUARD["workspace_high_m"])
    assert np.all(stream[:, :3] >= low) and np.all(stream[:, :3] <= high)
    # A tick earns at most two periods of motion, and no more ticks than targets can have been in between.
    steps = np.linalg.norm(np.diff(stream[:, :3], axis=0), axis=1)
    assert np.all(steps <= SPEED_M_S * (np.diff(times) + 4 * TICK_S) + 1e-9)
    rig.call("guard/disarm")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(number: signal.Signals) -> None:
    with Rig() as rig:
        process = rig.start("guard", guard=GUARD)
        rig.wait(lambda: bool(rig.status), "the guard to speak")
        process.send_signal(number)
        assert process.wait(10.0) == 0


def test_wrong_configuration_ends_with_a_message() -> None:
    config = "guard: {workspace_low_m: [0, 0, 0], workspace_high_m: [1, 1, 1], sped: 1}"
    command = [sys.executable, "-m", "hardware.nodes.guard", "--config", config]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "unknown key 'guard.sped'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_node_whose_device_is_absent_may_be_started_again() -> None:
    """Exit status 2, of a wrong configuration, would keep an unplugged camera away for good."""
    command = [sys.executable, "-m", "hardware.nodes.realsense", "--config", "{serial: '123'}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "no RealSense camera 123" in ended.stdout + ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("robot: no_such_robot", "unknown robot 'no_such_robot'; valid choices: .*sim_panda"),
        ("guard: {}", "lacks workspace_low_m"),
        ("guard: {workspace_low_m: [0, 0], workspace_high_m: [1, 1, 1]}", "must have 3 elements"),
        ("status_rate: 3", "status_rate_hz"),
        ("status_rate_hz: 0", "status_rate_hz must be a positive number, got 0"),
        ("no_such_file.yaml", "no_such_file.yaml"),
        ("guard: [", "inline configuration"),
        ("guard: {x: 1", "inline configuration"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_said(config: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guard_config(to_dataclass(GuardNodeConfig, read_config(config), "guard"))


def test_every_robot_file_gives_a_valid_guard() -> None:
    for file in sorted(ROBOT_DIR.glob("*.yaml")):
        limits, base_frame = guard_config(GuardNodeConfig(robot=file.stem, guard={"speed_m_s": 0.125}))
        assert limits.speed_m_s == 0.125
        assert base_frame


def test_help_needs_no_ros() -> None:
    command = [sys.executable, "-m", "hardware.nodes.guard", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "withdraws" in ended.stdout
