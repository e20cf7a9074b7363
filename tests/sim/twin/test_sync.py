"""The twin in step: late is as good as in time, corrections obey joints and contacts, gate, blindness, lead."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import FloatArray
from sim.twin.correction import correct
from sim.twin.estimate import Estimate, mean_pose
from sim.twin.lead import LeadConfig, Leader
from sim.twin.model import Factors, TwinPlan, apply_factors, make_twin, measured_pose
from sim.twin.pace import PaceKeeper
from sim.twin.particles import BankConfig
from sim.twin.sync import SyncConfig, TwinSync
from tests.twin_scene import BLOCK, PERIOD_S, XML, follow, handle, joints_at, small_twin

ONE = SyncConfig(bank=BankConfig(particles=1))


def moved(x: float, y: float) -> FloatArray:
    """(7,) of the block, somewhere else on the table."""
    return np.add(BLOCK, [x, y, 0.0, 0.0, 0.0, 0.0, 0.0])


def pushed(late_ticks: int, particles: int = 1) -> list[FloatArray]:
    """Positions of the block, pushed by the finger, whose poses come so many ticks after they were measured."""
    sync = TwinSync(small_twin("block"), replace(ONE, smoothing_s=0.0, bank=BankConfig(particles=particles)))
    rng, mail, found = np.random.default_rng(3), [], []
    for tick in range(90):
        # on the integrator's grid of 2 ms, so that both see exactly the same moments
        now_s = 50.0 + tick * 0.016
        x = 0.1 + 0.002 * min(tick, 60)
        sync.joints(now_s, joints_at(x, 0.0, -0.03), now_s)
        mail.append((now_s, moved(max(0.2, x + 0.05) - 0.2, 0.0) + np.append(rng.normal(0.0, 0.002, 3), np.zeros(4))))
        while len(mail) > late_ticks or tick == 0:
            stamp_s, pose = mail.pop(0)
            sync.pose("block", stamp_s, pose, now_s)
            if tick == 0:
                break
        estimate = sync.tick(now_s)
        assert estimate is not None
        found.append(sync.best.data.qpos.copy())
    for stamp_s, pose in mail:
        sync.pose("block", stamp_s, pose, now_s)
    sync.tick(now_s + 1e-6)
    found.append(sync.best.data.qpos.copy())
    sync.close()
    return found


def test_late_measurements_leave_the_twin_where_timely_ones_do() -> None:
    timely, late = pushed(0), pushed(2)
    assert np.linalg.norm(timely[-1] - timely[0]) > 0.05  # it was pushed
    assert np.abs(np.array(timely[30:-1]) - np.array(late[30:-1])).max() > 1e-5  # meanwhile they differ
    np.testing.assert_array_equal(timely[-1], late[-1])


def test_a_measurement_that_agrees_changes_nothing() -> None:
    sync = TwinSync(small_twin("door"), replace(ONE, smoothing_s=0.0))
    estimate = follow(sync, {"door": handle(0.3)}, 30, 10.0, late_s=0.02)
    assert np.abs(estimate.objects["door"].innovation).max() < 1e-9
    assert np.abs(estimate.objects["door"].wrench).max() < 1e-6
    np.testing.assert_allclose(estimate.objects["door"].pose, handle(0.3), atol=1e-9)


def test_corrections_reach_the_measured_pose_and_obey_hinge_and_contact() -> None:
    twin = small_twin()
    model, data = twin.model, mujoco.MjData(twin.model)
    data.qpos[twin.qpos] = 0.0, 0.0, 0.1
    mujoco.mj_forward(model, data)
    block, door = twin.tracked
    assert len(block.dofs) == 6 and len(door.dofs) == 1
    correct(model, data, door, np.array([0.05, 0.0]))
    np.testing.assert_allclose(measured_pose(data, door), handle(data.qpos[-1]), atol=1e-9)
    assert data.qpos[-1] == pytest.approx(0.05, rel=0.05)
    change = np.array([0.001, 0.0005, 0.0, 0.0, 0.0, 0.01, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
    correct(model, data, block, change)
    np.testing.assert_allclose(data.qpos[3:6] - [0.2, 0.0, 0.02], change[:3], atol=1e-4)
    np.testing.assert_allclose(data.qvel[block.dofs], change[6:])
    assert data.eq_active[block.weld_id] == 0 and data.time == 0.0
    before = data.qpos[5]
    correct(model, data, block, np.array([0.0, 0.0, -0.004, *np.zeros(9)]))
    assert before - data.qpos[5] < 0.003  # the table is in the way
    np.testing.assert_array_equal(data.qpos[twin.qpos], [0.0, 0.0, 0.1])


def test_a_wrong_twin_is_drawn_to_the_measurements() -> None:
    sync = TwinSync(small_twin(), ONE)
    follow(sync, {"block": BLOCK, "door": handle(0.2)}, 1, 10.0)
    there = moved(0.004, -0.003)
    estimate = follow(sync, {"block": there, "door": handle(0.21)}, 60, 10.0 + PERIOD_S, late_s=0.01)
    np.testing.assert_allclose(estimate.objects["block"].pose[:3], there[:3], atol=5e-4)
    np.testing.assert_allclose(estimate.objects["door"].pose, handle(0.21), atol=1e-3)
    assert estimate.failures == 0 and estimate.blind == ""


def test_hard_reset_only_past_the_gate_and_told() -> None:
    sync = TwinSync(small_twin("block"), ONE)
    follow(sync, {"block": BLOCK}, 10, 10.0)
    far = moved(0.1, 0.1)
    estimate = follow(sync, {"block": far}, ONE.reset_after - 1, 10.0 + 10 * PERIOD_S)
    assert estimate.failures == 0 and not estimate.predictive
    np.testing.assert_allclose(estimate.objects["block"].pose[:3], BLOCK[:3], atol=1e-3)  # outliers move nothing
    estimate = follow(sync, {"block": far}, 1, 10.0 + (9 + ONE.reset_after) * PERIOD_S)
    assert estimate.failures == 1
    np.testing.assert_allclose(estimate.objects["block"].pose[:3], far[:3], atol=1e-3)
    assert any("tracking failure: 15 poses of block" in event for event in sync.events)
    after = follow(sync, {"block": far}, 30, 10.0 + (10 + ONE.reset_after) * PERIOD_S)
    assert after.failures == 1 and after.predictive


def test_blind_holds_the_last_state_and_sees_again() -> None:
    sync = TwinSync(small_twin("block"), ONE)
    assert sync.tick(9.0) is None
    before = follow(sync, {"block": BLOCK}, 10, 10.0)
    at_s = 10.0 + 9 * PERIOD_S
    sync.joints(at_s + 1.0, joints_at(0.3, 0.0, 0.1), at_s + 1.0)  # the arm goes on, the tracker has stopped
    blind = sync.tick(at_s + 1.0)
    assert blind is not None and blind.blind == "no pose of block"
    np.testing.assert_array_equal(blind.objects["block"].pose, before.objects["block"].pose)
    np.testing.assert_array_equal(blind.joints, before.joints)
    far = moved(0.1, 0.0)
    again = follow(sync, {"block": far}, 5, at_s + 2.0)
    assert again.blind == "" and again.failures == 0
    np.testing.assert_allclose(again.objects["block"].pose[:3], far[:3], atol=1e-3)


def test_wrong_inputs_leave_the_twin_as_it_is() -> None:
    sync = TwinSync(small_twin("block"), ONE)
    before = follow(sync, {"block": BLOCK}, 10, 10.0)
    now_s = 10.0 + 10 * PERIOD_S
    sync.pose("block", now_s, BLOCK * np.nan, now_s)
    sync.pose("cup", now_s, BLOCK, now_s)
    sync.pose("block", 9.0, BLOCK, now_s)
    sync.joints(now_s, {"x": 0.0}, now_s)
    after = sync.tick(now_s)
    assert after is not None and sum(after.rejected.values()) == 4
    np.testing.assert_allclose(after.objects["block"].pose, before.objects["block"].pose, atol=1e-4)


def test_a_clock_that_goes_back_begins_anew() -> None:
    sync = TwinSync(small_twin("block"), ONE)
    follow(sync, {"block": BLOCK}, 10, 10.0)
    blind = sync.tick(5.0)
    assert blind is not None and blind.blind == "no joints"
    there = moved(0.1, 0.0)
    again = follow(sync, {"block": there}, 3, 5.1)
    np.testing.assert_allclose(again.objects["block"].pose[:3], there[:3], atol=1e-3)
    assert any("clock went back" in event for event in sync.events)


def shoved(friction: float) -> list[tuple[FloatArray, FloatArray]]:
    """Joints (3,) and pose (7,) of the block every 16 ms: shoved, it slides on for as long as friction lets it."""
    twin = small_twin("block")
    apply_factors(twin, twin.model, Factors())
    twin.model.geom_friction[:, 0] *= friction
    data, path = mujoco.MjData(twin.model), []
    x, z = 0.1, -0.03
    data.qpos[:3] = x, 0.0, z
    for tick in range(300):
        speed = 0.5 if tick % 50 < 18 else -0.1 if tick % 50 < 25 else 0.0
        for _ in range(8):
            x += speed * twin.model.opt.timestep
            data.ctrl[twin.servos] = x + speed * twin.lead_s, 0.0, z
            mujoco.mj_step(twin.model, data)
        path.append((data.qpos[:3].copy(), data.qpos[3:10].copy()))
    return path


@pytest.mark.parametrize("friction", [0.5, 2.0])
def test_particles_find_the_friction(friction: float) -> None:
    rng = np.random.default_rng(0)
    sync = TwinSync(small_twin("block"), SyncConfig(bank=BankConfig(particles=8)))
    estimate: Estimate | None = None
    for tick, (joints, pose) in enumerate(shoved(friction)):
        now_s = 20.0 + tick * 0.016
        sync.joints(now_s, joints_at(*joints), now_s)
        sync.pose("block", now_s, pose + np.append(rng.normal(0.0, 0.002, 3), np.zeros(4)), now_s)
        estimate = sync.tick(now_s)
    assert estimate is not None and estimate.failures == 0
    assert estimate.factors.friction == pytest.approx(friction, rel=0.35)
    assert estimate.weights.sum() == pytest.approx(1.0)


def test_dropping_particles_keeps_the_best() -> None:
    sync = TwinSync(small_twin("block"), SyncConfig(bank=BankConfig(particles=3)))
    follow(sync, {"block": BLOCK}, 5, 10.0)
    best = sync.best
    assert sync.drop_particle() and sync.drop_particle() and not sync.drop_particle()
    assert sync.best is best
    assert follow(sync, {"block": BLOCK}, 5, 10.0 + 5 * PERIOD_S).weights.tolist() == [1.0]


def test_pace_is_kept_by_leaving_out_particles() -> None:
    sync = TwinSync(small_twin("block"), SyncConfig(bank=BankConfig(particles=3)))
    pace = PaceKeeper(sync, budget=0.5)
    for _ in range(500):
        pace.took(0.4 * PERIOD_S)
    assert not sync.events
    for _ in range(500):
        pace.took(2.0 * PERIOD_S)
    assert len(sync.events) == 2  # one stays
    assert len(follow(sync, {"block": BLOCK}, 2, 10.0).weights) == 1


def test_mean_pose_by_hand() -> None:
    poses = np.array([BLOCK, moved(0.1, 0.0)])
    poses[0, 3:] *= -1.0  # the same orientation
    np.testing.assert_allclose(mean_pose(poses, np.array([0.25, 0.75])), moved(0.075, 0.0))


def test_leading_reaches_the_target_within_speed_and_waits_for_the_robot() -> None:
    leader = Leader(small_twin("block"), LeadConfig(speed_m_s=0.3))
    goal = np.concatenate([leader.tcp(np.array([0.05, 0.02, 0.12]))[:3], [1.0, 0.0, 0.0, 0.0]])
    start = np.array([0.0, 0.0, 0.1])
    assert leader.target(10.0, goal, 10.0)
    assert not leader.target(10.1, goal * np.nan, 10.1) and not leader.target(9.0, goal, 10.0)
    assert not leader.target(110.0, goal, 10.0)  # of the future: it would outlive all that follow
    assert leader.target(10.0, goal, 10.0)
    reference, velocity = leader.step(start, 10.0, PERIOD_S)
    assert np.linalg.norm(reference - start) == pytest.approx(0.3 * PERIOD_S, rel=0.02)
    assert np.linalg.norm(velocity) == pytest.approx(0.3, rel=0.02)
    for tick in range(30):
        reference, _ = leader.step(reference, 10.0 + tick / 100, PERIOD_S)
    np.testing.assert_allclose(leader.tcp(reference)[:3], goal[:3], atol=1e-3)
    assert leader.target(11.0, np.append(goal[:3] + 0.3, goal[3:]), 11.0)
    for _ in range(60):
        ahead, velocity = leader.step(start, 11.0, PERIOD_S)
    assert np.linalg.norm(ahead - start) < 0.05 + 0.3 * PERIOD_S + 0.01 and not velocity.any()
    assert not leader.step(start, 13.0, PERIOD_S)[1].any()  # an old target


def test_what_is_not_in_the_scene_is_named() -> None:
    def make(**changes: object) -> None:
        make_twin(mujoco.MjSpec.from_string(XML), replace(TwinPlan(("x",), {"block": "body:block"}), **changes))

    with pytest.raises(UnknownNameError, match="valid choices"):
        make(joints=("elbow",))
    with pytest.raises(UnknownNameError, match="tracked body"):
        make(objects={"cup": "body:cup"})
    with pytest.raises(UnknownNameError, match="kind of tracked frame"):
        make(objects={"cup": "geom:cup"})
    with pytest.raises(ConfigError, match="no part of the arm"):
        make(objects={"finger": "body:finger"})
    with pytest.raises(ConfigError, match="at least 1"):
        SyncConfig(threads=0)
