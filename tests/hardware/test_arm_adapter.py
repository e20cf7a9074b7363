"""The adapter and the commanders without ROS: merging, staleness, faults, limits, hand by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.arm_adapter import ArmAdapter, JointMerger
from hardware.arm_binding import load_binding
from hardware.commanders import limit_ratio
from hardware.gripper import Changes, from_native, reported, to_native
from hardware.native_binding import GripperBinding, TopicBinding
from robot_rl import frames
from robot_rl.types import FloatArray

NO_FAULTS = "native.faults=[]"


class Arm:
    """An adapter fed by an arm that is where it is told to be, 100 times a second."""

    def __init__(self, name: str, *overrides: str) -> None:
        self.adapter = ArmAdapter(load_binding(name, overrides))
        self.joints = np.array(self.adapter.binding.home_joints_rad)
        self.now_s = 100.0
        self.frame = self.adapter.binding.base_frame

    def feed(self) -> None:
        names = [joint.native_name for joint in self.adapter.binding.joints]
        self.adapter.on_joints(names, self.joints.tolist(), [], self.now_s, self.now_s)
        if self.adapter.native.state.pose is not None:
            self.adapter.on_pose(self.frame, self.pose(), self.now_s, self.now_s)

    def pose(self) -> FloatArray:
        return self.adapter.kinematics.forward(self.joints)

    def target(self, offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> FloatArray:
        pose = self.pose()
        pose[:3] += offset
        return pose

    def tick(self, target: FloatArray | None = None) -> FloatArray | None:
        self.now_s += 0.01
        self.feed()
        if target is not None:
            self.adapter.on_target(self.frame, target, self.now_s)
        return self.adapter.tick(self.now_s)


def test_merger_takes_partial_shuffled_and_foreign_messages() -> None:
    merger = JointMerger(["a", "b", "c"])
    assert merger.update(["c", "finger", "a"], [3.0, 9.0, 1.0], [0.3, 0.9, 0.1], 10.0)
    assert merger.missing() == ["b"] and merger.state() is None
    assert not merger.update(["finger"], [9.0], [], 11.0)
    assert not merger.update(["b"], [], [], 11.0), "a name without a position"
    assert not merger.update(["b"], [float("nan")], [1.0], 11.0)
    assert merger.update(["b"], [2.0], [], 12.0)
    state = merger.state()
    assert state is not None
    assert state[0] == 10.0, "the state is as old as its oldest joint"
    np.testing.assert_array_equal(state[1], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(state[2], [0.1, 0.0, 0.3])


def test_merger_differences_and_order_of_time() -> None:
    merger = JointMerger(["a"])
    merger.update(["a"], [1.0], [], 10.0)
    merger.update(["a"], [1.5], [], 10.5)
    state = merger.state()
    assert state is not None and state[2][0] == pytest.approx(1.0)
    assert not merger.update(["a"], [0.0], [], 10.2), "an older message"
    assert merger.update(["a"], [0.7], [], 1.0), "a clock that was set back"


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9)), min_size=1, max_size=7))
def test_limit_ratio_keeps_direction_and_bounds(pairs: list[tuple[float, float]]) -> None:
    values, bounds = np.array(pairs).T
    limited = limit_ratio(values, bounds)
    assert np.all(np.abs(limited) <= bounds * (1 + 1e-9))
    largest = np.max(np.abs(values) / bounds)
    np.testing.assert_allclose(limited * max(1.0, largest), values, atol=1e-9)


@pytest.mark.parametrize(("name", "fault"), [("fr3", ""), ("ur5e", NO_FAULTS)])
def test_nothing_before_the_guard_and_nothing_long_after(name: str, fault: str) -> None:
    arm = Arm(name, *[fault] if fault else [])
    assert arm.tick() is None and arm.adapter.reason == "waiting for the guard"
    target = arm.target((0.0, 0.01, 0.0))
    assert arm.tick(target) is not None and arm.adapter.reason == ""
    for _ in range(18):
        assert arm.tick() is not None  # up to 0.2 s after the guard's last word
    sent = [values for values in (arm.tick() for _ in range(40)) if values is not None]
    assert "silent" in arm.adapter.reason
    # fr3: on_stale hold, so the measured pose comes last, once; ur5e: on_stale stop.
    assert len(sent) <= 3
    if name == "fr3":
        np.testing.assert_allclose(sent[-1], arm.pose(), atol=1e-12)
        assert all(np.array_equal(values, target) for values in sent[:-1])


def test_joint_commands_respect_the_velocity_limit_and_reach_the_target() -> None:
    arm = Arm("ur5e", NO_FAULTS, "native.command.velocity_scale=0.1")
    target = arm.target((0.0, 0.1, 0.05))
    step = arm.adapter.binding.column("velocity_rad_s") * 0.1 * 0.01
    fastest = np.zeros(6)
    for _ in range(200):
        before = arm.joints
        values = arm.tick(target)
        assert values is not None
        arm.joints = values
        assert np.all(np.abs(values - before) <= step * (1 + 1e-6))
        fastest = np.maximum(fastest, np.abs(values - before))
    assert np.max(fastest / step) > 0.99, "the limit was never met: the test shows nothing"
    np.testing.assert_allclose(arm.pose()[:3], target[:3], atol=1e-4)


def test_joint_commands_stay_within_position_limits() -> None:
    # An elbow that may only move a little: the target beyond is refused, and the arm stays inside.
    arm = Arm("ur5e", NO_FAULTS, "joints.2.lower_rad=1.45", "joints.2.upper_rad=1.65")
    target = arm.target((0.10, 0.0, 0.0))
    for _ in range(12):
        values = arm.tick(target)
        arm.joints = arm.joints if values is None else values
        assert 1.45 <= arm.joints[2] <= 1.65
    assert arm.adapter.counts["UnreachableError"] == 12
    assert "left after" in arm.adapter.reason


def test_an_arm_that_does_not_follow_is_not_run_away_from() -> None:
    arm = Arm("ur5e", NO_FAULTS, "native.command.max_lead_rad=0.05")
    target = arm.target((0.0, 0.15, 0.0))
    commands = [arm.tick(target) for _ in range(100)]  # the arm stands still
    last = [values for values in commands if values is not None][-1]
    assert np.max(np.abs(last - arm.joints)) <= 0.05
    assert arm.adapter.counts["LagError"] > 0 and "behind its command" in arm.adapter.reason


def test_a_late_tick_does_not_leap() -> None:
    arm = Arm("ur5e", NO_FAULTS)
    target = arm.target((0.0, 0.1, 0.0))
    first = arm.tick(target)
    assert first is not None
    arm.now_s += 0.15  # the process stood still
    second = arm.tick(target)
    assert second is not None
    allowed = arm.adapter.binding.column("velocity_rad_s") * 0.5 * 2 * 0.01
    assert np.all(np.abs(second - first) <= allowed * (1 + 1e-6))


def test_a_joint_jump_is_refused() -> None:
    arm = Arm("ur5e", NO_FAULTS, "native.command.max_jump_rad=0.05")
    assert arm.tick(arm.target((0.0, 0.2, 0.0))) is None
    assert "joint jump" in arm.adapter.reason


VELOCITY_KINDS = [
    ("float64_velocity", "forward_velocity_controller/commands"),
    ("twist", "twist_controller/commands"),
    ("twist_stamped", "servo_node/delta_twist_cmds"),
]


@pytest.mark.parametrize(("kind", "topic"), VELOCITY_KINDS)
def test_velocity_kinds_converge_and_go_to_zero_when_stale(kind: str, topic: str) -> None:
    arm = Arm("ur5e", NO_FAULTS, f"native.command.kind={kind}", f"native.command.topic={topic}")
    target = arm.target((0.0, 0.05, -0.03))
    target[3:] = frames.quat_multiply(target[3:], frames.rotvec_to_quat(np.array([0.0, 0.0, 0.1])))
    for _ in range(300):
        values = arm.tick(target)
        assert values is not None
        if kind == "float64_velocity":
            assert np.all(np.abs(values) <= arm.adapter.binding.column("velocity_rad_s") * 0.5 + 1e-12)
            velocity = values
        else:
            assert np.linalg.norm(values[:3]) <= 0.25 + 1e-12 and np.linalg.norm(values[3:]) <= 0.8 + 1e-12
            velocity = np.linalg.solve(arm.adapter.kinematics.jacobian(arm.joints), values)
        arm.joints = arm.joints + velocity * 0.01
    np.testing.assert_allclose(arm.pose()[:3], target[:3], atol=1e-3)
    assert frames.geodesic_rad(arm.pose()[3:], target[3:]) < 1e-2
    late = [arm.tick() for _ in range(60)]
    for values in late[30:]:
        assert values is not None and not values.any(), "a velocity must be taken back, again and again"


@pytest.mark.parametrize(("kind", "topic"), VELOCITY_KINDS[:1])
def test_velocity_goes_to_zero_for_an_unreachable_target(kind: str, topic: str) -> None:
    arm = Arm("ur5e", NO_FAULTS, f"native.command.kind={kind}", f"native.command.topic={topic}")
    assert arm.tick(arm.target((3.0, 0.0, 0.0))) is None, "nothing was commanded yet"
    assert arm.tick(arm.target((0.0, 0.05, 0.0))) is not None
    values = arm.tick(arm.target((3.0, 0.0, 0.0)))
    assert values is not None and not values.any()


def test_required_fault_topic_must_be_heard_and_faults_latch() -> None:
    arm = Arm("ur5e")
    topic = "io_and_status_controller/robot_program_running"
    assert arm.tick(arm.target()) is None and "not heard from" in arm.adapter.reason
    arm.adapter.on_fault(topic, True)
    assert arm.tick(arm.target()) is not None
    arm.adapter.on_fault(topic, False)
    assert arm.tick(arm.target()) is None and "is False, not True" in arm.adapter.fault
    arm.adapter.on_fault(topic, True)
    assert arm.tick(arm.target()) is None, "a fault that is over still needs recover"
    arm.adapter.recover()
    assert arm.adapter.fault == ""
    assert arm.tick() is None, "targets from before recover are void"
    assert arm.tick(arm.target()) is not None
    arm.adapter.on_fault(topic, False)
    arm.adapter.recover()
    assert arm.adapter.fault, "recover does not hide a fault that is still up"


def test_state_that_stops_or_lacks_joints_stops_commands() -> None:
    arm = Arm("fr3")
    assert arm.tick(arm.target()) is not None
    arm.now_s += 0.5
    arm.adapter.on_target("base", arm.target(), arm.now_s)
    arm.adapter.tick(arm.now_s)
    assert "state is 0.5" in arm.adapter.reason
    names = [joint.name for joint in arm.adapter.binding.joints]
    arm.adapter.on_joints(names, arm.joints.tolist(), [], arm.now_s, arm.now_s)
    arm.adapter.tick(arm.now_s)
    assert "state is 0.5" in arm.adapter.reason, "the pose topic alone has stopped"
    fresh = ArmAdapter(load_binding("fr3"))
    fresh.on_joints(["fr3_joint2"], [0.0], [], 1.0, 1.0)
    assert fresh.tick(1.0) is None and "no state of fr3_joint1, fr3_joint3" in fresh.reason


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(7), np.ones(6), np.array([0, 0, 0, 2.0, 0, 0, 0])])
def test_unsound_poses_change_nothing(bad: FloatArray) -> None:
    arm = Arm("fr3")
    assert arm.tick(arm.target()) is not None
    arm.adapter.on_target("base", bad, arm.now_s)
    arm.adapter.on_target("other", arm.target((0.0, 0.0, 0.5)), arm.now_s)
    arm.adapter.on_pose("other", arm.target((0.0, 0.0, 0.5)), arm.now_s, arm.now_s)
    arm.adapter.on_pose("base", bad, arm.now_s, arm.now_s)
    values = arm.tick()
    assert values is not None
    np.testing.assert_allclose(values, arm.pose(), atol=1e-12)
    assert arm.adapter.counts["targets refused"] == 2


def test_twist_and_wrench_are_along_the_bases_axes() -> None:
    arm = Arm("ur5e", NO_FAULTS)
    arm.feed()
    measured = arm.adapter.measured()
    assert measured is not None
    spinning = type(measured)(measured.stamp_s, measured.joint_pos_rad, np.eye(6)[0], measured.pose_base_tcp)
    x, y = measured.pose_base_tcp[:2]
    np.testing.assert_allclose(arm.adapter.twist(spinning), [-y, x, 0, 0, 0, 1], atol=1e-9)  # pan about z
    wrench = np.array([0.0, 0.0, 5.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(arm.adapter.wrench_base(wrench, measured), [0, 0, -5, 0, 0, -1], atol=1e-6)
    assert arm.adapter.wrench_base(wrench, measured).shape == (6,)
    franka = Arm("fr3")
    franka.feed()
    state = franka.adapter.measured()
    assert state is not None and franka.adapter.wrench_base(wrench, state) is wrench


ROBOTIQ = GripperBinding("gripper_command", "gripper_cmd", TopicBinding("joint_states"), "knuckle", 0.8, 0.0)


@given(st.floats(0, 1))
def test_gripper_range_and_back(opening: float) -> None:
    assert from_native(ROBOTIQ, to_native(ROBOTIQ, opening)) == pytest.approx(opening)


def test_gripper_numbers() -> None:
    assert to_native(ROBOTIQ, 0.0) == 0.8 and to_native(ROBOTIQ, 1.0) == 0.0 and to_native(ROBOTIQ, 7.0) == 0.0
    assert reported(ROBOTIQ, ["other", "knuckle"], [0.0, 0.4]) == pytest.approx(0.5)
    assert reported(ROBOTIQ, ["other"], [0.0]) is None
    assert reported(ROBOTIQ, ["other", "knuckle"], [0.0]) is None
    assert reported(ROBOTIQ, ["knuckle"], [float("nan")]) is None
    changes = Changes()
    assert [changes.passes(value) for value in (1.0, 1.0, 0.99, 0.5, float("nan"), 0.5)] == [
        *(True, False, False, True, False, False)
    ]


def test_gripper_goals_hold_what_the_actions_expect() -> None:
    """control_msgs is not among the wheels: objects with its goals' fields stand for them."""
    from hardware.nodes.gripper import fill_gripper_command, fill_parallel_gripper_command

    goal = SimpleNamespace(command=SimpleNamespace(position=None, max_effort=None))
    fill_gripper_command(goal, ROBOTIQ, 0.4)
    assert (goal.command.position, goal.command.max_effort) == (0.4, 0.0)
    goal = SimpleNamespace(command=SimpleNamespace(name=None, position=None, effort=None))
    fill_parallel_gripper_command(goal, ROBOTIQ, 0.4)
    assert (goal.command.name, goal.command.position, goal.command.effort) == (["knuckle"], [0.4], [])
