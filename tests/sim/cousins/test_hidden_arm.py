"""Hidden arms: repeatable, richer than the fitted class, and no other draw of the seed knows of them."""

from __future__ import annotations

import numpy as np
import pytest

from sim.cousins.hidden import draw_truth, hidden_arm_env
from sim.cousins.hidden_arm import HiddenJoints, draw_arm
from sim.sysid.excitation import ExcitationConfig, fourier
from sim.sysid.log import MOTION_ENV, record


def test_a_seed_says_all_of_an_arm_and_disturbs_no_other_draw() -> None:
    before = draw_truth("door", 5)
    assert draw_arm(5) == draw_arm(5) != draw_arm(6)
    assert draw_truth("door", 5).physics == before.physics
    offsets = fourier(ExcitationConfig(period_s=2.0, harmonics=2, translation_m=0.05), np.random.default_rng(0), 20.0)
    first, second = (record(hidden_arm_env(5), offsets, 3) for _ in range(2))
    np.testing.assert_array_equal(first.joints_rad, second.joints_rad)
    assert np.abs(first.poses_base[-1, :3] - first.poses_base[0, :3]).max() < 0.02
    assert MOTION_ENV.rate_hz == 20.0


def test_friction_has_another_law_and_grows_with_load() -> None:
    env = hidden_arm_env(7)
    env.reset(seed=0)
    world = env.world
    joints = world.arm.joints  # type: ignore[attr-defined]
    assert isinstance(joints, HiddenJoints)
    physics, hidden = draw_arm(7)
    world.data.ctrl[:7] = 10.0  # type: ignore[attr-defined]
    kinetic = np.array(physics.arm.friction_nm)
    load = 10.0 * hidden.load_friction
    np.testing.assert_allclose(joints.friction(np.full(7, 1e6)), kinetic + load)
    at_fall = joints.friction(np.full(7, hidden.fall_rad_s))
    np.testing.assert_allclose(at_fall, kinetic * (1.0 + physics.arm.stribeck / 2.0) + load)


def test_encoders_count_and_sit_before_the_compliance() -> None:
    env = hidden_arm_env(8)
    env.reset(seed=0)
    joints = env.world.arm.joints  # type: ignore[attr-defined]
    hidden = draw_arm(8)[1]
    env.world.data.ctrl[:7] = 0.0  # type: ignore[attr-defined]
    free = joints.measured()[0]
    np.testing.assert_allclose(free / hidden.count_rad, np.round(free / hidden.count_rad), atol=1e-6)
    env.world.data.ctrl[:7] = 40.0  # type: ignore[attr-defined]
    wound_up = joints.measured()[0] - free
    np.testing.assert_allclose(wound_up, 40.0 / hidden.stiffness_nm_rad, atol=1.01 * hidden.count_rad)


def test_commands_stay_in_order_though_their_delay_changes() -> None:
    env = hidden_arm_env(9)
    env.reset(seed=0)
    joints = env.world.arm.joints  # type: ignore[attr-defined]
    hidden = draw_arm(9)[1]
    delays = [joints.command_delay_s(0.04) for _ in range(50)]
    assert np.all(np.diff(delays) >= 0.0) and max(delays) <= 0.04 + hidden.jitter_s
    joints.start()
    assert joints.command_delay_s(0.04) == pytest.approx(delays[0])
