"""Every fault that the guard must stand, by numbers, without ROS and without waiting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import limits
from hardware.guard import Guard, Mode
from hardware.guard_config import GuardConfig
from robot_rl import frames
from robot_rl.errors import ConfigError, HardwareError, UnknownNameError
from robot_rl.types import ArmState, ArmTarget, FloatArray

TICK_S = 0.02
CONFIG = GuardConfig((0.2, -0.4, 0.0), (0.8, 0.4, 0.6))
START = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])


def moved(by: tuple[float, float, float] = (0, 0, 0), base: FloatArray = START) -> FloatArray:
    return np.concatenate([base[:3] + by, base[3:]])


@dataclass
class Cell:
    """A guard with a clock, and an arm that goes where it is told when `follows`."""

    config: GuardConfig = CONFIG
    follows: bool = True
    now_s: float = 1000.0
    pose: FloatArray = field(default_factory=START.copy)
    gripper: float = 1.0

    def __post_init__(self) -> None:
        self.guard = Guard(self.config)
        self.outputs: list[ArmTarget] = []

    def sense(self) -> None:
        self.guard.update_state(ArmState(self.now_s, self.pose, np.zeros(6), np.zeros(7), self.gripper))

    def arm(self) -> Cell:
        self.sense()
        self.guard.tick(self.now_s)
        self.guard.arm(self.now_s)
        return self

    def ask(self, pose: FloatArray, source: str = "policy", age_s: float = 0.0, gripper: float = 1.0) -> str | None:
        return self.guard.request(source, ArmTarget(self.now_s - age_s, pose, gripper), self.now_s)

    def tick(self, sense: bool = True) -> ArmTarget | None:
        self.now_s += TICK_S
        if sense:
            self.sense()
        output = self.guard.tick(self.now_s)
        if output is not None:
            self.outputs.append(output)
            if self.follows:
                self.pose = output.pose_base_tcp
        return output

    def run(self, ticks: int) -> ArmTarget:
        outputs = [self.tick() for _ in range(ticks)]
        assert outputs[-1] is not None
        return outputs[-1]

    def rejections(self) -> dict[str, int]:
        return dict(self.guard.status().rejections)


def test_starts_disarmed_and_says_nothing() -> None:
    cell = Cell()
    assert [cell.tick() for _ in range(100)] == [None] * 100
    assert cell.guard.mode is Mode.DISARMED


def test_requests_while_disarmed_are_refused_and_not_remembered() -> None:
    cell = Cell()
    cell.sense()
    assert cell.ask(moved((0.02, 0, 0))) == "not armed"
    cell.arm()
    np.testing.assert_allclose(cell.run(20).pose_base_tcp, START)


def test_arming_needs_a_fresh_state() -> None:
    guard = Guard(CONFIG)
    with pytest.raises(HardwareError, match="no arm state"):
        guard.arm(0.0)
    cell = Cell()
    cell.sense()
    with pytest.raises(HardwareError, match=r"0\.500 s old"):
        cell.guard.arm(cell.now_s + 0.5)
    with pytest.raises(HardwareError, match="clocks"):
        cell.guard.arm(cell.now_s - 0.5)


def test_armed_without_commands_holds_the_measured_pose_and_leaves_the_gripper_alone() -> None:
    cell = Cell(gripper=0.4, follows=False).arm()
    cell.pose = moved((0, 0, -0.01))  # sags after arming
    output = cell.run(50)
    np.testing.assert_allclose(output.pose_base_tcp, START)
    assert output.source == "hold"
    assert cell.guard.gripper_target is None


def test_a_command_is_reached_within_the_control_period() -> None:
    cell = Cell().arm()
    goal = moved((0.01, -0.01, 0.01))
    assert cell.ask(goal, gripper=0.0) is None
    stamp_s = cell.now_s
    output = cell.run(5)
    np.testing.assert_allclose(output.pose_base_tcp, goal, atol=1e-9)
    assert (output.stamp_s, output.gripper_position, output.source) == (stamp_s, 0.0, "policy")
    steps = np.diff([START[0], *(o.pose_base_tcp[0] for o in cell.outputs)])
    np.testing.assert_allclose(steps, 0.002, atol=1e-9)  # a straight, even way


@pytest.mark.parametrize(
    ("pose", "kind"),
    [
        (np.full(7, np.nan), "not finite"),
        (np.where(np.arange(7) == 1, np.inf, START), "not finite"),
        (START[:6], "shape"),
        (np.zeros(7), "quaternion"),
        (START * [1, 1, 1, 1.01, 1, 1, 1], "quaternion"),
    ],
)
def test_malformed_commands_are_refused_and_counted(pose: FloatArray, kind: str) -> None:
    cell = Cell().arm()
    assert cell.ask(pose) == cell.ask(pose) == kind
    assert cell.rejections() == {kind: 2}
    np.testing.assert_allclose(cell.run(10).pose_base_tcp, START)


@pytest.mark.parametrize("gripper", [np.nan, np.inf])
def test_malformed_gripper_or_stamp(gripper: float) -> None:
    cell = Cell().arm()
    assert cell.ask(START, gripper=gripper) == "not finite"
    assert cell.ask(START, age_s=gripper) == "not finite"


def test_gripper_is_clipped_to_its_range() -> None:
    cell = Cell().arm()
    cell.ask(START, gripper=7.0)
    assert cell.run(1).gripper_position == 1.0


def test_stamps_must_be_fresh_in_order_and_not_in_the_future() -> None:
    cell = Cell().arm()
    assert cell.ask(START, age_s=0.201) == "stale"
    assert cell.ask(START, age_s=-0.03) == "future"
    assert cell.ask(START, age_s=0.05) is None
    assert cell.ask(START, age_s=0.06) == "out of order"
    assert cell.ask(START, age_s=0.06, source="human") is None
    assert cell.rejections() == {"stale": 1, "future": 1, "out of order": 1}


def test_unknown_source() -> None:
    with pytest.raises(UnknownNameError, match="valid choices"):
        Cell().arm().ask(START, source="nobody")


def test_first_command_gate_stays_shut_until_a_near_command_and_shuts_again_on_arming() -> None:
    cell = Cell(replace(CONFIG, step_m=1.0)).arm()
    far = moved((0.06, 0, 0))
    assert cell.ask(far) == cell.ask(far, source="human") == "first command too far"
    np.testing.assert_allclose(cell.run(5).pose_base_tcp, START)
    assert cell.ask(moved((0.04, 0, 0))) is None
    assert cell.ask(far) is None
    cell.guard.disarm()
    cell.guard.arm(cell.now_s)
    assert cell.ask(moved((0.06, 0, 0), base=cell.pose)) == "first command too far"


def test_stale_command_becomes_a_latched_hold_whose_velocity_ramps_to_zero() -> None:
    """The commander dies while the arm trails its target by a constant lag."""
    cell = Cell(follows=False).arm()
    for step in range(10):
        cell.ask(moved((0.01 * (step + 1) + 0.01, 0, 0)))
        for _ in range(5):
            cell.tick()
            cell.pose = moved((0.0025, 0, 0), base=cell.pose)
            cell.pose[0] = min(cell.pose[0], cell.outputs[-1].pose_base_tcp[0])
    died_s = cell.now_s
    held, first_hold = None, 0
    for _ in range(100):
        output = cell.tick()
        assert output is not None
        if held is None and output.source == "hold":
            held = cell.pose.copy()
            assert died_s + 0.08 < cell.now_s <= died_s + 0.12 + 1e-9  # 0.2 s after the last observation
            assert output.stamp_s == cell.now_s
            first_hold = len(cell.outputs) - 1
            cell.pose = moved((0, 0, -0.02), base=cell.pose)  # sags: the held pose must not follow
    assert held is not None
    np.testing.assert_allclose(cell.outputs[-1].pose_base_tcp, held, atol=1e-6)
    tail = np.array([o.pose_base_tcp[:3] for o in cell.outputs[first_hold - 1 :]])
    speeds = np.linalg.norm(np.diff(tail, axis=0), axis=1) / TICK_S
    assert np.all(np.diff(speeds) <= 1e-9)
    assert speeds[-1] < 1e-4
    assert cell.guard.mode is Mode.ARMED


def test_gripper_keeps_its_target_during_hold() -> None:
    cell = Cell().arm()
    cell.ask(START, gripper=0.0)
    assert cell.run(50).gripper_position == 0.0
    assert cell.outputs[-1].source == "hold"


def test_step_is_limited_about_the_measured_pose() -> None:
    """Something blocks the arm: the target must not run away from it."""
    cell = Cell(replace(CONFIG, speed_m_s=5.0), follows=False).arm()
    for step in range(30):
        cell.ask(moved((0.01 * (step + 1), 0, 0)))
        cell.run(5)
    assert cell.outputs[-1].pose_base_tcp[0] == pytest.approx(0.55)
    assert cell.guard.status().clips["step"] > 0


def test_velocity_is_limited_in_translation_and_rotation() -> None:
    cell = Cell(replace(CONFIG, first_command_m=1.0, first_command_rad=3.0, step_m=1.0, step_rad=3.0)).arm()
    goal = np.concatenate([moved((0.2, 0, 0))[:3], frames.rotvec_to_quat(np.array([0, 0, 2.0]))])
    cell.ask(goal)
    cell.run(5)
    poses = [START, *(output.pose_base_tcp for output in cell.outputs)]
    for before, after in pairwise(poses):
        speed = np.array(limits.distance(before, after)) / TICK_S
        assert speed[0] == pytest.approx(0.25)
        assert speed[1] == pytest.approx(0.8)


def test_a_late_tick_does_not_earn_a_long_step() -> None:
    slow = replace(CONFIG, first_command_m=1.0, step_m=1.0, expire_periods=10.0, state_timeout_s=1.0)
    cell = Cell(slow).arm()
    cell.ask(moved((0.2, 0, 0)))
    cell.now_s += 0.5
    output = cell.tick()
    assert output is not None
    assert output.pose_base_tcp[0] - START[0] == pytest.approx(0.25 * 2 * TICK_S)


def test_workspace_with_a_bound_of_zero() -> None:
    cell = Cell().arm()
    cell.pose = moved((0, 0, -0.27))
    cell.guard.disarm()
    cell.arm()
    for _ in range(20):
        cell.ask(moved((0, 0, -0.02), base=cell.pose))
        cell.run(5)
    lowest = min(output.pose_base_tcp[2] for output in cell.outputs)
    assert lowest == 0.0
    assert cell.guard.status().clips["workspace"] > 0


def test_outside_the_workspace_it_stays_or_comes_in_and_never_goes_further_out() -> None:
    cell = Cell(pose=moved((0, 0, -0.35))).arm()  # z = -0.05
    cell.ask(moved((0, 0, -0.04), base=cell.pose))
    assert cell.run(5).pose_base_tcp[2] == pytest.approx(-0.05)
    cell.ask(moved((0, 0, 0.02), base=cell.pose))
    assert cell.run(5).pose_base_tcp[2] == pytest.approx(-0.03)
    cell.ask(moved((0, 0, -0.01), base=cell.pose))  # what was gained is not given back
    assert cell.run(5).pose_base_tcp[2] == pytest.approx(-0.03)


def test_stale_state_disarms() -> None:
    cell = Cell().arm()
    cell.ask(START)
    outputs = [cell.tick(sense=False) for _ in range(15)]
    assert outputs[5] is not None
    assert outputs[11:] == [None] * 4
    assert cell.guard.mode is Mode.DISARMED
    assert "arm state is 0.2" in cell.guard.status().reason
    cell.sense()
    assert cell.tick() is None  # and it does not come back by itself


@pytest.mark.parametrize("jump_s", [-3600.0, -0.001, 1.5, 86400.0])
def test_clock_jump_disarms_and_arming_works_again_in_the_new_time(jump_s: float) -> None:
    cell = Cell().arm()
    cell.run(3)
    cell.now_s += jump_s - TICK_S
    assert cell.tick() is None
    assert "clock jumped" in cell.guard.status().reason
    cell.tick()
    cell.arm()
    cell.run(3)


def test_unusable_states_are_counted_and_ignored() -> None:
    cell = Cell().arm()
    zeros = np.zeros(6)
    for pose in (np.full(7, np.nan), np.zeros(7), np.zeros(3)):
        cell.guard.update_state(ArmState(cell.now_s, pose, zeros, zeros, 1.0))
    cell.guard.update_state(ArmState(cell.now_s, START, zeros, zeros, np.nan))
    cell.guard.update_state(ArmState(cell.now_s - 0.01, START, zeros, zeros, 1.0))
    assert cell.rejections() == {
        "state not finite": 2,
        "state quaternion": 1,
        "state shape": 1,
        "state out of order": 1,
    }
    np.testing.assert_allclose(cell.run(3).pose_base_tcp, START)


def test_a_jump_of_the_measured_pose_is_a_fault_that_needs_recover_and_arm() -> None:
    cell = Cell().arm()
    cell.run(3)
    cell.pose = moved((0.15, 0, 0))
    assert cell.tick() is None
    assert cell.guard.mode is Mode.FAULT
    assert "0.150 m" in cell.guard.status().reason
    with pytest.raises(HardwareError, match="recover"):
        cell.guard.arm(cell.now_s)
    cell.guard.disarm()
    assert cell.guard.mode is Mode.FAULT
    cell.guard.recover()
    assert cell.guard.mode is Mode.DISARMED
    assert cell.tick() is None
    cell.guard.arm(cell.now_s)
    np.testing.assert_allclose(cell.run(3).pose_base_tcp, moved((0.15, 0, 0)))


def test_reported_fault_and_disarm_stop_the_output() -> None:
    for stop in (lambda guard: guard.fault("reflex"), lambda guard: guard.disarm("person")):
        cell = Cell().arm()
        cell.ask(moved((0.02, 0, 0)))
        cell.run(2)
        stop(cell.guard)
        assert cell.tick() is None
        assert cell.ask(START) == "not armed"


def test_handover_to_a_person_and_back_is_smooth() -> None:
    """Two sources that want opposite things: the target never jumps, and takes the hand-over's time."""
    config = replace(CONFIG, speed_m_s=10.0, handover_s=0.4)
    cell = Cell(config, follows=False).arm()
    left, right = moved((-0.03, 0, 0)), moved((0.03, 0, 0))
    for tick in range(150):
        if tick % 5 == 0:
            cell.ask(left, "policy")
            if 50 <= tick < 100:
                cell.ask(right, "human")
        if tick == 100:
            cell.guard.withdraw("human")
        cell.tick()
    x = np.array([output.pose_base_tcp[0] for output in cell.outputs])
    sources = [output.source for output in cell.outputs]
    assert sources[49:52] == ["policy", "human", "human"]
    assert sources[99:102] == ["human", "policy", "policy"]
    assert np.abs(np.diff(x)).max() < 0.06 / (0.4 / TICK_S) * 1.6
    assert x[49] == pytest.approx(0.47)
    assert x[99] == pytest.approx(0.53)
    assert x[-1] == pytest.approx(0.47)


actions = st.lists(
    st.tuples(
        st.sampled_from(["policy", "human", "reset", "hold"]),
        st.floats(-0.3, 0.5),  # age of the observation
        st.lists(st.floats(-1.5, 1.5) | st.just(float("nan")), min_size=6, max_size=6),
        st.integers(1, 15),  # ticks until the next one
        st.sampled_from(["", "", "", "withdraw", "push", "disarm", "blind"]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(actions, st.booleans())
def test_whatever_is_asked_every_target_is_within_the_limits(
    script: list[tuple[str, float, list[float], int, str]], follows: bool
) -> None:
    cell = Cell(follows=follows).arm()
    before = START
    for source, age_s, numbers, ticks, event in script:
        rotation = np.array(numbers[3:])
        quat = frames.rotvec_to_quat(rotation) if np.isfinite(rotation).all() else np.full(4, np.nan)
        pose = np.concatenate([cell.pose[:3] + 0.1 * np.array(numbers[:3]), quat])
        cell.ask(pose, source, age_s, gripper=numbers[0])
        if event == "withdraw":
            cell.guard.withdraw(source)
        if event == "push":
            cell.pose = moved((0.0, 0.05, 0.0), base=cell.pose)
        if event == "disarm":
            cell.guard.disarm()
        for _ in range(ticks):
            output = cell.tick(sense=event != "blind")
            if output is None:
                continue
            pose = output.pose_base_tcp
            assert limits.pose_fault(pose, 1e-9) is None
            moved_m, turned_rad = limits.distance(before, pose)
            assert moved_m <= CONFIG.speed_m_s * TICK_S * (1 + 1e-6)
            assert turned_rad <= CONFIG.speed_rad_s * TICK_S * (1 + 1e-5) + 1e-7
            assert np.all(pose[:3] >= np.minimum(CONFIG.workspace_low_m, before[:3]) - 1e-12)
            assert np.all(pose[:3] <= np.maximum(CONFIG.workspace_high_m, before[:3]) + 1e-12)
            assert 0.0 <= output.gripper_position <= 1.0
            before = pose
        if cell.guard.mode is not Mode.ARMED:
            assert cell.tick() is None
            cell.guard.recover()
            cell.arm()
            before = cell.pose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workspace_low_m": (0.9, 0.0, 0.0)}, "must be below"),
        ({"workspace_low_m": (0.0, 0.0)}, "three numbers"),
        ({"workspace_high_m": (1.0, 1.0, float("nan"))}, "three numbers"),
        ({"speed_m_s": 0.0}, "speed_m_s"),
        ({"expire_periods": float("inf")}, "expire_periods"),
        ({"step_rad": -0.1}, "step_rad"),
    ],
)
def test_configuration_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)
