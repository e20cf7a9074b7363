"""Kalman filter, particle weights, smoothing and the inbox of a twin, against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from sim.twin.inbox import Inbox, InboxConfig
from sim.twin.kalman import ErrorFilter, NoiseConfig, nis_bound
from sim.twin.model import Factors
from sim.twin.particles import BankConfig, effective_share, first_factors, jittered, systematic, weigh, weights_of
from sim.twin.smoothing import PoseSmoother, difference, shifted


def test_gain_settles_at_the_solution_of_the_riccati_equation() -> None:
    noise, dt_s = NoiseConfig(), 1.0 / 60.0
    kalman = ErrorFilter(noise)
    kalman.start(np.eye(6))
    gain = np.zeros((12, 6))
    for _ in range(500):
        kalman.predict(dt_s, np.eye(6))
        gain = kalman.gain(np.eye(6)).gain
        kalman.take(gain, np.eye(6))
    transition, h = np.array([[1.0, dt_s], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    for axis, std, accel in (
        (0, noise.position_m, noise.acceleration_m_s2),
        (3, noise.rotation_rad, noise.angular_rad_s2),
    ):
        step = np.array([[dt_s**2 / 2.0], [dt_s]])
        r = np.array([[std**2]])
        prior = solve_discrete_are(transition.T, h.T, accel**2 * step @ step.T, r)
        expected = prior @ h.T / (h @ prior @ h.T + r)
        np.testing.assert_allclose(gain[[axis, 6 + axis], axis], expected[:, 0], rtol=1e-6)


def test_a_hinge_is_told_by_all_six_numbers() -> None:
    noise = NoiseConfig(position_m=0.002, rotation_rad=0.02)
    jacobian = np.array([[0.0], [0.3], [0.0], [0.0], [0.0], [1.0]])
    kalman = ErrorFilter(noise)
    kalman.start(jacobian)
    # by weighted least squares: 1 / (0.3^2 / 0.002^2 + 1 / 0.02^2)
    assert kalman.covariance[0, 0] == pytest.approx(1.0 / (0.09 / 4e-6 + 1.0 / 4e-4))
    gain = kalman.gain(jacobian)
    assert gain.gain.shape == (2, 6)
    assert gain.gain[0, 1] * 0.3 + gain.gain[0, 5] == pytest.approx(0.5)  # as sure as the one before: half way
    assert gain.nis(np.zeros(6)) == 0.0


def test_nis_of_a_right_model_has_its_mean_and_bound() -> None:
    noise, rng, dt_s = NoiseConfig(), np.random.default_rng(0), 1.0 / 60.0
    kalman, error, found = ErrorFilter(noise), np.zeros(12), []
    kalman.start(np.eye(6))
    error[:6] = rng.standard_normal(6) * ([noise.position_m] * 3 + [noise.rotation_rad] * 3)
    error[6:] = rng.standard_normal(6) * ([noise.start_velocity_m_s] * 3 + [noise.start_rotation_rad_s] * 3)
    for _ in range(2000):
        push = rng.standard_normal(6) * ([noise.acceleration_m_s2] * 3 + [noise.angular_rad_s2] * 3)
        error[:6] += dt_s * error[6:] + dt_s**2 / 2.0 * push
        error[6:] += dt_s * push
        kalman.predict(dt_s, np.eye(6))
        gain = kalman.gain(np.eye(6))
        innovation = error[:6] + rng.standard_normal(6) * ([noise.position_m] * 3 + [noise.rotation_rad] * 3)
        found.append(gain.nis(innovation))
        kalman.take(gain.gain, np.eye(6))
        error -= gain.gain @ innovation
    assert np.mean(found) == pytest.approx(6.0, abs=0.3)
    assert np.mean(np.array(found) > nis_bound(0.95)) == pytest.approx(0.05, abs=0.015)
    assert nis_bound(0.95) == pytest.approx(12.592, abs=1e-3)  # table of chi-squared, 6 degrees of freedom


def test_weights_follow_bayes_and_old_evidence_fades() -> None:
    log = weigh(np.zeros(2), np.log([0.2, 0.6]), elapsed_s=0.0, memory_s=1.0)
    np.testing.assert_allclose(weights_of(log), [0.25, 0.75])
    log = weigh(log, np.log([0.9, 0.1]), elapsed_s=0.0, memory_s=1.0)
    np.testing.assert_allclose(weights_of(log), [0.75, 0.25])  # 0.25 * 0.9 : 0.75 * 0.1
    faded = weigh(log, np.zeros(2), elapsed_s=1.0, memory_s=1.0)
    ratio = 3.0 ** np.exp(-1.0)
    np.testing.assert_allclose(weights_of(faded), [ratio / (1.0 + ratio), 1.0 / (1.0 + ratio)])


def test_effective_share_and_systematic_resampling_by_hand() -> None:
    assert effective_share(np.full(4, 0.25)) == 1.0
    assert effective_share(np.array([1.0, 0.0, 0.0, 0.0])) == 0.25
    # points 0.125, 0.375, 0.625, 0.875 on the cumulative sum 0.1, 0.6, 0.7, 1.0
    assert systematic(np.array([0.1, 0.5, 0.1, 0.3]), 0.5).tolist() == [1, 1, 2, 3]


def test_the_bank_begins_with_the_model_itself_and_stays_in_its_range() -> None:
    config = BankConfig(particles=8)
    factors = first_factors(config, 0)
    assert factors[0] == Factors() and len(set(factors)) == 8
    rng, one = np.random.default_rng(0), Factors(2.4, 0.41)
    for _ in range(200):
        one = jittered(one, config, rng)
        assert 0.4 <= one.friction <= 2.5 and 0.4 <= one.mass <= 2.5
    assert first_factors(BankConfig(particles=1), 0) == [Factors()]


def test_smoothing_follows_motion_exactly_and_a_step_with_its_time_constant() -> None:
    smoother, before = PoseSmoother(0.05), np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    step = np.array([0.003, 0.0, 0.0, 0.0, 0.0, 0.02])
    for _ in range(20):
        pose = shifted(before, step)
        np.testing.assert_allclose(smoother.step(before, pose, 0.01), pose, atol=1e-12)
        before = pose
    before = shifted(before, np.array([0.01, 0.0, 0.0, 0.0, 0.0, 0.1]))  # a correction of the past
    for tick in range(10):
        pose = shifted(before, step)
        away = difference(smoother.step(before, pose, 0.01), pose)
        left = np.exp(-(tick + 1) * 0.01 / 0.05)
        assert away[0] == pytest.approx(0.01 * left) and away[5] == pytest.approx(0.1 * left)
        before = pose


def inbox() -> Inbox:
    return Inbox(("a", "b"), ("cube",), InboxConfig())


def test_bad_joints_are_refused_with_the_reason() -> None:
    box = inbox()
    assert box.take_joints(1.0, {"a": 0.0, "b": 1.0, "c": 9.0}, 1.0)
    for stamp_s, positions, reason in (
        (1.1, {"a": 0.0}, "joints: incomplete or not finite"),
        (1.1, {"a": 0.0, "b": float("nan")}, "joints: incomplete or not finite"),
        (1.0, {"a": 0.0, "b": 1.0}, "joints: not newer than the last"),
        (0.5, {"a": 0.0, "b": 1.0}, "joints: not newer than the last"),
        (2.0, {"a": 0.0, "b": 1.0}, "joints: from the future"),
        (float("nan"), {"a": 0.0, "b": 1.0}, "joints: from the future"),
        (1.01, {"a": 3.0, "b": 1.0}, "joints: jump"),
    ):
        before = box.rejected[reason]
        assert not box.take_joints(stamp_s, positions, 1.1) and box.rejected[reason] == before + 1
    assert box.take_joints(1.1, {"a": 0.1, "b": 1.0}, 1.1)
    assert box.velocity is not None
    np.testing.assert_allclose(box.velocity, [1.0, 0.0])


def test_bad_poses_are_refused_with_the_reason() -> None:
    box, pose = inbox(), np.array([1.0, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0])
    assert box.take_pose("cube", 1.0, pose, 1.02) is not None
    for name, stamp_s, bad, reason in (
        ("cup", 1.1, pose, "pose: unknown object"),
        ("cube", 1.1, pose * np.nan, "pose: not finite"),
        ("cube", 1.1, pose[:6], "pose: not finite"),
        ("cube", 1.1, pose * 1.01, "pose: quaternion not of norm 1"),
        ("cube", 1.0, pose, "pose: not newer than the last"),
        ("cube", 9.0, pose, "pose: from the future"),
    ):
        before = box.rejected[reason]
        assert box.take_pose(name, stamp_s, bad, 1.1) is None and box.rejected[reason] == before + 1


def test_blind_says_what_is_missing() -> None:
    box = inbox()
    assert box.blind(1.0) == "no joints"
    box.take_joints(1.0, {"a": 0.0, "b": 0.0}, 1.0)
    assert box.blind(1.0) == "no pose of cube"
    box.take_pose("cube", 1.0, np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]), 1.0)
    assert box.blind(1.1) == ""
    assert box.blind(1.3) == "no joints"
