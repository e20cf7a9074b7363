"""Log, excitation, rollouts, fit and posterior of an arm's identification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.guard import Guard
from hardware.guard_config import GuardConfig
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import ArmState, ArmTarget, FloatArray
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior, with_arm
from sim.sysid.clearance import Clearance
from sim.sysid.excitation import ExcitationConfig, excitation, fourier, information, reaches, scaled
from sim.sysid.fit import Problem, Whitening, estimate_whitening, fit, posterior_covariance
from sim.sysid.log import MOTION_ENV, MotionLog, Run, read_log, record, write_log
from sim.sysid.lone_arm import LoneArm
from sim.sysid.motion import MotionLimits, absolute, as_poses, rates, violations
from sim.sysid.parameters import ArmPosterior, parameters, physics_values, to_fields
from sim.sysid.residuals import _share, analyse, ljung_box
from sim.sysid.rollouts import rollouts

START = np.array([0.45, 0.0, 0.3, 0.0, 0.7071067811865476, 0.7071067811865476, 0.0])
RATE_HZ = MOTION_ENV.rate_hz
COUNT = len(parameters(7))


def short_log(z: FloatArray, period_s: float = 2.0, seed: int = 0) -> MotionLog:
    """What an arm with parameters `z` does in one short movement."""
    offsets = fourier(ExcitationConfig(period_s=period_s, harmonics=3), np.random.default_rng(seed), RATE_HZ)
    offsets = scaled(offsets, MotionLimits(), RATE_HZ, 0.8)
    env = RobotEnv(LoneArm("panda", Physics(**to_fields(z, 7))), MOTION_ENV)
    return MotionLog("panda", RATE_HZ, (record(env, offsets),))


def some_z(seed: int) -> FloatArray:
    return np.clip(np.random.default_rng(seed).standard_normal(COUNT), -1.5, 1.5)


def test_excitation_passes_the_guard_untouched() -> None:
    config = GuardConfig((0.2, -0.5, 0.05), (0.8, 0.5, 0.7), control_period_s=1.0 / RATE_HZ, tick_period_s=0.01)
    limits = MotionLimits(config.workspace_low_m, config.workspace_high_m, config.speed_m_s, config.speed_rad_s)
    joints = np.zeros((1, 7))

    def predict(targets: FloatArray) -> FloatArray:
        return np.concatenate([joints, targets])

    (offsets,) = excitation(ExcitationConfig(draws=4), START, limits, predict, RATE_HZ)
    targets = absolute(START, offsets)
    guard = Guard(config)
    guard.update_state(ArmState(0.0, START, np.zeros(6), np.zeros(7), 1.0))
    guard.arm(0.0)
    pose, now_s = START, 0.0
    for target in targets:
        assert guard.request("policy", ArmTarget(now_s, target, 1.0), now_s) is None
        for _ in range(5):
            guard.update_state(ArmState(now_s, pose, np.zeros(6), np.zeros(7), 1.0))
            out = guard.tick(now_s)
            assert out is not None
            pose, now_s = out.pose_base_tcp, now_s + 0.01
    assert not guard.status().rejections and set(guard.status().clips) <= {"velocity"}
    np.testing.assert_allclose(pose[:3], targets[-1, :3], atol=2e-3)
    assert np.abs(offsets[:, :3]).max() > 0.03


def test_limits_are_said_in_words_and_nothing_moves() -> None:
    way = as_poses(np.linspace(0.0, 1.0, 11)[1:, None] * np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.5]))
    speed, spin, acceleration, _ = rates(way, 10.0)
    assert (speed, spin, acceleration) == pytest.approx((0.1, 0.5, 1.0))
    limits = MotionLimits(low_m=(0.0, -1.0, -1.0), high_m=(0.5, 1.0, 1.0), speed_m_s=0.05)
    found = violations(absolute(START, way), limits, 10.0)
    assert [text.split()[0] for text in found] == ["x", "speed"]
    env = RobotEnv(LoneArm("panda", Physics()), MOTION_ENV)
    with pytest.raises(ConfigError, match=r"would break the guard's limits: .*speed"):
        record(env, way, limits=limits)
    assert env.world.time_s == 0.0  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"no excitation of 0\.12 m fits"):
        excitation(
            ExcitationConfig(draws=2), START, MotionLimits(low_m=(0.4,) * 3, high_m=(0.41,) * 3), lambda t: t, 20.0
        )


def test_reaches_keep_to_the_limits_and_rest_at_their_ends() -> None:
    limits = MotionLimits()
    way = reaches(np.random.default_rng(0), limits, RATE_HZ)
    assert violations(absolute(START, way), limits, RATE_HZ) == []
    np.testing.assert_array_equal(way[-1], way[-5])


def test_richer_motion_informs_more() -> None:
    times = np.arange(160)[:, None] / 20.0
    one = np.sin(2.0 * np.pi * 0.25 * times) * np.ones(7)
    many = one + 0.5 * np.sin(2.0 * np.pi * 0.9 * times + np.arange(7))
    assert information(many, 20.0) > information(one, 20.0) > information(0.0 * one, 20.0)


def test_a_log_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    run = Run(np.tile(START, (20, 1)), np.zeros((21, 7)), np.tile(START, (21, 1)), np.arange(21.0))
    write_log(tmp_path / "log.npz", MotionLog("panda", 20.0, (run, run)))
    log = read_log(tmp_path / "log.npz")
    assert (log.robot, log.rate_hz, log.joints, len(log.runs)) == ("panda", 20.0, 7, 2)
    np.testing.assert_array_equal(log.runs[1].targets_base, run.targets_base)
    write_log(
        tmp_path / "bad.npz",
        MotionLog("panda", 20.0, (Run(run.targets_base, run.joints_rad[:3], run.poses_base, run.stamps_s),)),
    )
    with pytest.raises(DataError, match="run 0 has shapes"):
        read_log(tmp_path / "bad.npz")
    for rate_hz, told in ((0.0, "rate_hz 0.0"), (float("nan"), "rate_hz nan"), (30.0, "run 0 lasts 0.67 s")):
        write_log(tmp_path / "bad.npz", MotionLog("panda", rate_hz, (run,)))
        with pytest.raises(DataError, match=told):
            read_log(tmp_path / "bad.npz")
    for stamps_s in (run.stamps_s + 1.0, -run.stamps_s):
        write_log(tmp_path / "bad.npz", MotionLog("panda", 20.0, (replace(run, stamps_s=stamps_s),)))
        with pytest.raises(DataError, match="do not begin at 0, or go back"):
            read_log(tmp_path / "bad.npz")
    (tmp_path / "none.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="is no log of motion"):
        read_log(tmp_path / "none.npz")


def test_arms_together_do_what_each_does_alone() -> None:
    batch = [np.zeros(COUNT), some_z(0), some_z(1)]
    log = short_log(batch[0])
    with rollouts(log) as predict:
        together = predict(batch)
    for z, joints in zip(batch, together, strict=True):
        alone = LoneArm("panda", Physics(**to_fields(z, 7))).repeat(log.runs[0], RATE_HZ)[0]
        np.testing.assert_allclose(joints, alone, atol=1e-9)
    assert np.abs(together[0] - log.runs[0].joints_rad).max() < 1e-7  # the arm that made the log


def test_a_late_machine_is_no_slow_arm() -> None:
    """Steps that last 50 to 120 ms, seen through states up to 10 ms old: repeated as they were, not by the clock."""
    rng, run = np.random.default_rng(0), short_log(np.zeros(COUNT)).runs[0]
    ticks = 5 + (rng.random(len(run.targets_base)) < 0.2) * rng.integers(2, 8, len(run.targets_base))
    arm = LoneArm("panda", Physics(**to_fields(np.zeros(COUNT), 7)))
    arm.reset(0)
    arm.arm.start_at(run.joints_rad[0])
    joints = [arm.arm.reading()[0]]
    for target, lasts in zip(run.targets_base, ticks, strict=True):
        arm.arm.command(ArmTarget(arm.time_s, target, 1.0))
        for _ in range(lasts):
            arm.advance(0.01)
            joints.append(arm.arm.reading()[0])
    sent = np.concatenate([[0], np.cumsum(ticks)])

    def error_rad(seen: NDArray[np.int64], stamps_s: FloatArray) -> float:
        measured = replace(run, joints_rad=np.array(joints)[seen], stamps_s=stamps_s)
        with rollouts(MotionLog("panda", RATE_HZ, (measured,))) as predict:
            return float(np.abs(predict([np.zeros(COUNT)])[0] - measured.joints_rad).max())

    clock_s = np.arange(len(sent)) / RATE_HZ
    assert error_rad(sent, 0.01 * sent) < 1e-3 < 0.02 < error_rad(sent, clock_s)
    old = np.maximum(sent - rng.integers(0, 2, len(sent)), 0)
    assert error_rad(old, 0.01 * old) < 0.25 * error_rad(old, clock_s)


def test_small_differences_of_age_are_not_taken_for_late_steps() -> None:
    pose, stamps_s = np.tile(START, (5, 1)), np.array([0.0, 0.045, 0.1, 0.19, 0.24, 0.3])
    run = Run(pose, np.zeros((6, 7)), np.tile(START, (6, 1)), stamps_s)
    np.testing.assert_allclose(run.sent_s(20.0), [0.0, 0.05, 0.1, 0.19, 0.24])


def test_parameters_and_physics_are_the_same_thing() -> None:
    z = some_z(2)
    physics = Physics(**to_fields(z, 7))
    values = [one.value(at) for one, at in zip(parameters(7), z, strict=True)]
    np.testing.assert_allclose(physics_values(physics, 7), values)
    assert physics.delay_s == pytest.approx(max(0.04 + 0.023 * z[1], 0.0))
    assert parameters(7)[0].z(parameters(7)[0].value(0.3)) == pytest.approx(0.3)


def test_the_posterior_is_drawn_jointly_and_survives_a_file() -> None:
    covariance = 0.01 * np.eye(COUNT)
    covariance[0, 1] = covariance[1, 0] = 0.009
    arm = ArmPosterior((0.5,) * COUNT, tuple(map(tuple, covariance.tolist())), 7)
    posterior = with_arm(PhysicsPrior(), arm)
    again = to_dataclass(PhysicsPosterior, to_plain(posterior))
    assert again == posterior
    draws = [again.sample(np.random.default_rng(seed)) for seed in range(400)]
    pairs = np.array([[np.log(one.arm_gain), one.delay_s] for one in draws])
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.9, abs=0.05)
    assert again.nominal().delay_s == pytest.approx(0.04 + 0.5 * 0.023)
    assert again.nominal().friction == PhysicsPrior().nominal().friction
    assert len({one.friction for one in draws}) == 400


def linear_problem(seed: int, samples: int = 400) -> tuple[FloatArray, FloatArray]:
    """Sensitivities (P, S, 2) of random joints, and z."""
    rng = np.random.default_rng(seed)
    return 1e-3 * rng.standard_normal((COUNT, samples, 2)), rng.standard_normal(COUNT)


def test_the_fit_of_a_linear_model_is_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    slopes, truth = linear_problem(0)
    noise = 1e-3 * np.random.default_rng(1).standard_normal(slopes.shape[1:])
    measured = np.tensordot(truth, slopes, 1) + noise

    def predict(batch: Sequence[FloatArray]) -> FloatArray:
        return np.array([np.tensordot(z, slopes, 1) for z in batch])

    monkeypatch.setattr("sim.sysid.fit.parameters", lambda joints: parameters(7))
    problem = Problem(measured, [0], predict)
    problem.solve(Whitening(np.zeros(2), 1e3 * np.eye(2)), 3)
    flat = 1e3 * slopes.reshape(COUNT, -1)
    ridge = np.linalg.solve(flat @ flat.T + np.eye(COUNT), flat @ (1e3 * measured.ravel()))
    np.testing.assert_allclose(problem.z, ridge, atol=1e-6)


def test_whitening_finds_autocorrelation_and_covariance() -> None:
    rng, residuals = np.random.default_rng(0), np.zeros((4000, 2))
    factor = np.array([[2e-3, 0.0], [1e-3, 1e-3]])
    for step in range(1, 4000):
        residuals[step] = np.array([0.9, 0.5]) * residuals[step - 1] + factor @ rng.standard_normal(2)
    whitening = estimate_whitening(residuals, [0])
    np.testing.assert_allclose(whitening.phi, [0.9, 0.5], atol=0.03)
    white = whitening(residuals, [0])
    np.testing.assert_allclose(np.cov(white.T), np.eye(2), atol=0.06)
    assert ljung_box(white[:, 0]) > 1e-3 > ljung_box(residuals[:, 0])


def test_misfit_widens_the_posterior() -> None:
    """Residuals that go with a parameter's sensitivity in every block cost more than noise of the same size."""
    slopes, _ = linear_problem(2)
    blocks = [slice(at, at + 10) for at in range(0, 400, 10)]
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(slopes.shape[1:])
    signs = np.repeat(rng.choice((-1.0, 1.0), 40), 10)[:, None]
    coloured = signs * 1e3 * slopes[5]
    with_noise = posterior_covariance(noise, 1e3 * slopes, blocks)
    with_colour = posterior_covariance(coloured, 1e3 * slopes, blocks)
    assert with_colour[5, 5] > 2.0 * with_noise[5, 5]
    assert (np.linalg.eigvalsh(with_noise) > 0.0).all()


@pytest.mark.slow
def test_an_arm_of_the_fitted_class_is_found_and_its_residual_is_nothing() -> None:
    z = np.zeros(COUNT)
    labels = [one.label for one in parameters(7)]
    z[labels.index("delay_s")], z[labels.index("friction_nm[6]")], z[labels.index("arm_gain")] = 0.8, 1.0, -0.8
    log = short_log(z, period_s=3.0)
    with rollouts(log) as predict:
        found = fit(log, predict, (3, 1))
    estimate = found.posterior.nominal()
    assert estimate["delay_s"] == pytest.approx(0.04 + 0.8 * 0.023, abs=5e-4)
    assert estimate["arm_gain"] == pytest.approx(0.917 * np.exp(-0.8 * 0.245), rel=0.02)
    assert estimate["arm"].friction_nm[6] == pytest.approx(0.8 * np.exp(0.8), rel=0.1)
    joints = analyse(log, found)
    assert min(one.explained for one in joints) > 0.95


def test_effects_are_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    speed = np.sin(np.arange(300) / 10.0)
    noise = rng.standard_normal(300)
    assert _share(noise, np.sign(speed)[:, None]) == 0.0
    share = _share(noise + np.sign(speed), np.sign(speed)[:, None])
    assert share == pytest.approx(0.5, abs=0.08)


def test_an_arm_is_not_sent_where_it_would_touch_itself_or_the_end_of_a_joint() -> None:
    clearance = Clearance("ur5e")
    home = np.array([-0.54, -1.8, 2.55, -2.33, -1.57, -2.1])
    assert clearance.obstacles(np.tile(home, (3, 1))) == []
    folded = np.stack([home, home + np.array([0.0, -0.6, 0.15, 0.7, 0.3, -0.8])])  # the hand comes to the upper arm
    assert any("upper_arm" in text for text in clearance.obstacles(folded))
    bent = np.stack([home, home + np.array([0.0, 0.0, 0.58, 0.0, 0.0, 0.0])])
    assert any("elbow_joint runs from 2.55 to 3.13" in text for text in clearance.obstacles(bent))
    with pytest.raises(ConfigError, match="somewhere else"):
        excitation(
            ExcitationConfig(draws=2),
            START,
            MotionLimits(),
            lambda t: t,
            20.0,
            obstacles=lambda joints: ["somewhere else"],
        )
