"""Trajectories of a linear system: what follows from what, and what a target policy would do."""

import math

import numpy as np
import pytest
import torch

from data.windows import WindowConfig, WindowSampler
from policies.denoisers import MLPConfig
from policies.gcbc import GCBCConfig
from policies.guidance import (
    LARGEST_ACTION,
    ClonedGaussian,
    GuidanceConfig,
    SquashedGaussian,
    policy_gradient,
)
from policies.inputs import InputConfig
from policies.trajectories import TrajectoryConfig
from robot_rl import losses
from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.errors import ConfigError, SpecError, UnknownNameError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

SPEC = ObservationSpec({"state": ArraySpec((2,), names=("position", "velocity"))})
ACTION = ActionSpec(("x",), 0.1, 0.1)
DRIFT, PUSH = np.array([[1.0, 0.2], [0.0, 0.8]]), np.array([0.0, 0.3])
WALL = 1.0
HORIZON = 8


def record(episodes=300, length=20, seed=0):
    """A mass that is pushed about; beyond the wall it has succeeded, reward 1, the end."""
    rng = np.random.default_rng(seed)
    states, actions, ended, ends = [], [], [], []
    for _ in range(episodes):
        state, aim = rng.normal(0.0, 0.5, 2), rng.uniform(-0.6, 0.6)
        states.append(state)
        for _ in range(length):
            action = np.clip(aim - 0.5 * state[0] + rng.normal(0.0, 0.4), -1.0, 1.0)
            state = DRIFT @ state + PUSH * action
            states.append(state)
            actions.append([action])
            ended.append(abs(state[0]) > WALL)
            if ended[-1]:
                break
        ends.append(len(actions))
    arrays = {
        "observation/state": np.array(states, np.float32),
        "executed_action": np.array(actions, np.float32),
        "reward": np.array(ended, np.float32),
        "terminated": np.array(ended),
    }
    return arrays, np.array(ends)


class Spring:
    """The target: a Gaussian of spread 0.3 about a spring's pull, which nobody who recorded followed."""

    def log_prob(self, state, action):
        mean = -0.5 * state[:, 0] - 0.8 * state[:, 1] - 0.2
        return -0.5 * ((action[:, 0] - mean) / 0.3).square()


def window_sampler(arrays, ends, horizon=HORIZON):
    return WindowSampler(arrays, ends, WindowConfig(horizon=horizon, future=True, outcome=True, whole=True))


@pytest.fixture(scope="module")
def learned():
    """A small model after 1500 updates, and the spread of the states."""
    arrays, ends = record()
    torch.manual_seed(0)
    model = TrajectoryConfig(HORIZON, network=MLPConfig(width=128, blocks=2)).build(SPEC, ACTION)
    plan = ImitationConfig(learning_rate=1e-3, warmup_updates=50, updates=1500, ema_decay=0.99)
    sampler = window_sampler(arrays, ends)
    trainer = Imitation(plan, model)
    windows = trainer.load_windows(sampler.batch(10**6, 2048))
    model.fit(windows)
    trainer.acting.fit(windows)
    for number in range(plan.updates):
        trainer.update(sampler.batch(number, 128))
    return trainer.acting, arrays["observation/state"].std(0)


def sample(model, target=None, weight=0.5):
    return model.sample(256, torch.Generator().manual_seed(1), target, GuidanceConfig(weight))


def apart(found, spread):
    """How far what follows (256, H, 2) is from what the dynamics say, in the data's spread; and what had not ended."""
    state, action = found.state.numpy(), found.action.clamp(-1, 1).numpy()
    ended = found.ended.numpy() > 0.5
    alive = np.cumsum(ended, 1) - ended == 0
    error = state[:, :-1] @ DRIFT.T + action * PUSH - state[:, 1:]
    return np.abs(error) / spread, alive


def test_rows_are_what_was_recorded_and_end_with_the_episode():
    arrays = {
        "observation/state": np.arange(10, dtype=np.float32).reshape(5, 2),
        "executed_action": np.array([[0.1], [0.2], [0.3]], np.float32),
        "reward": np.array([1.0, 2.0, 3.0], np.float32),
        "terminated": np.array([False, True, False]),
    }
    sampler = window_sampler(arrays, np.array([2, 3]), horizon=2)
    trainer = Imitation(ImitationConfig(), TrajectoryConfig(2).build(SPEC, ACTION))
    windows = trainer.load_windows(sampler.windows(np.array([0, 1, 2]), np.random.default_rng(0)))
    rows, known = trainer.model.table(windows)
    whole = [[0, 1, 0.1, 1, 0], [2, 3, 0.2, 2, 1], [4, 5, 0, 0, 0]]  # also from its second step: moved back
    np.testing.assert_allclose(rows[:2], [whole, whole])
    np.testing.assert_allclose(rows[2, :2], [[6, 7, 0.3, 3, 0], [8, 9, 0, 0, 0]])
    assert known.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_what_is_sampled_obeys_the_dynamics(learned):
    model, spread = learned
    error, alive = apart(sample(model), spread)
    whole = alive.all(1)
    assert whole.mean() > 0.9
    assert np.median(error[whole]) < 0.03 and np.sqrt((error[whole] ** 2).mean()) < 0.1


def test_it_ends_where_the_task_does_and_then_there_is_a_reward(learned):
    model, _ = learned
    found = sample(model)
    ended = found.ended.numpy() > 0.5
    some, first = np.flatnonzero(ended.any(1)), ended.argmax(1)[ended.any(1)]
    assert 0.04 < ended.any(1).mean() < 0.2  # of the windows 0.12 do; so short a training finds half of them
    assert np.mean(np.abs(found.state.numpy()[some, first + 1, 0]) > 0.95 * WALL) > 0.7
    assert np.mean(found.reward.numpy()[some, first] > 0.5) > 0.9


def test_guided_ones_are_likelier_under_the_target_and_obey_the_dynamics_still(learned):
    model, spread = learned
    target, likelihood, errors = Spring(), {}, {}
    for weight in (0.0, 0.25, 1.0):
        found = sample(model, target, weight)
        error, alive = apart(found, spread)
        each = target.log_prob(found.state[:, :-1].flatten(0, 1), found.action.flatten(0, 1).clamp(-1, 1)).reshape(
            256, -1
        )
        likelihood[weight] = np.array([one[kept].mean() for one, kept in zip(each.numpy(), alive, strict=True)])
        errors[weight] = np.median(error[alive.all(1)])
    for less, more in ((0.0, 0.25), (0.25, 1.0)):
        gain = likelihood[more] - likelihood[less]  # of the same noise
        assert gain.mean() > 4.0 * gain.std() / math.sqrt(len(gain))
    assert errors[1.0] < 0.1


def test_no_weight_is_no_guidance_and_the_same_noise_the_same_trajectories(learned):
    model, _ = learned
    plain = sample(model)
    for other in (sample(model), sample(model, Spring(), 0.0)):
        torch.testing.assert_close(other, plain, rtol=0, atol=0)


def test_the_gradient_of_a_gaussian_by_hand():
    state, action = torch.tensor([[[0.4, 0.5], [0.0, 0.0]]]), torch.tensor([[[0.3], [3.0]]])
    slope = policy_gradient(Spring(), state, action)
    means = [-0.2 - 0.4 - 0.2, -0.2]
    wanted = [(means[0] - 0.3) / 0.09, (means[1] - LARGEST_ACTION) / 0.09]
    assert slope.flatten().tolist() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_the_squashed_gaussian_by_hand():
    class Networks:
        arm_dim = 1

        def encoder(self, observation):
            return observation["state"]

        def actor(self, features):
            return 0.3 * features[:, :1], torch.full((len(features), 1), 0.7)

    action = torch.tensor([[[0.5, 1.0]]])  # the second element is the gripper's
    slope = policy_gradient(SquashedGaussian(Networks()), torch.tensor([[[2.0, 0.0]]]), action)
    before, slow = math.atanh(0.5), 1.0 - 0.5**2
    # log N(u; 0.6, 0.7) - log(1 - a^2) with u = atanh(a), du/da = 1 / (1 - a^2)
    wanted = (0.6 - before) / 0.49 / slow + 2.0 * 0.5 / slow
    assert slope[0, 0].tolist() == pytest.approx([wanted, 0.0], rel=1e-4)


def test_a_cloned_policy_is_a_gaussian_about_its_mean():
    model = GCBCConfig(InputConfig(goal=False), horizon=3, hidden=(8,), normalize=True).build(SPEC, ACTION)
    model.actions.fit(np.array([0.1]), np.array([0.2]))
    state, action = torch.tensor([[[0.3, -0.2]]]), torch.tensor([[[0.4]]])
    with torch.no_grad():
        mean = float(model({"state": state}, {})[0, 0, 0]) * 0.2 + 0.1
    slope = policy_gradient(ClonedGaussian(model), state, action)
    assert float(slope.detach()) == pytest.approx((mean - 0.4) / 0.2**2, rel=1e-4)
    with pytest.raises(ConfigError, match="goal=false"):
        ClonedGaussian(GCBCConfig().build(SPEC, ACTION))


def test_weights_fall_with_a_bump_and_end_with_nothing():
    assert GuidanceConfig(2.0, 0.0).weights(4) == (2.0, 1.5, 1.0, 0.0)
    bumped = GuidanceConfig(1.0, 0.5).weights(4)
    wanted = (1 + 0.5 * math.sin(math.pi / 4), 0.75 + 0.5, 0.5 + 0.5 * math.sin(math.pi * 0.75), 0.0)
    assert bumped == pytest.approx(wanted)


def test_every_trajectory_is_moved_alike():
    gradient = torch.tensor([[[3.0], [4.0]], [[0.0], [1e-6]], [[0.0], [0.0]]])
    scaled = losses.unit_rms(gradient)
    assert scaled[0].flatten().tolist() == pytest.approx([3.0 / math.sqrt(12.5), 4.0 / math.sqrt(12.5)])
    assert scaled[1].flatten().tolist() == pytest.approx([0.0, math.sqrt(2.0)])
    assert scaled[2].abs().max() == 0.0


def test_nonsense_is_refused():
    with pytest.raises(ConfigError):
        TrajectoryConfig(0)
    with pytest.raises(UnknownNameError):
        TrajectoryConfig(sampler="dimm")
    with pytest.raises(ConfigError):
        GuidanceConfig(-1.0)
    with pytest.raises(ConfigError, match="finite"):
        GuidanceConfig(cosine=float("nan"))
    seen = ObservationSpec({**SPEC.arrays, "image/front": ArraySpec((4, 4, 3), "uint8")})
    with pytest.raises(SpecError, match="without"):
        TrajectoryConfig().build(seen, ACTION)
