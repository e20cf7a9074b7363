"""Steering: the candidate that is played, what is told of it, and how a setting is chosen without a robot."""

from typing import Any

import numpy as np
import pytest
import torch

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.gcbc import GCBCConfig
from policies.inputs import InputConfig
from policies.q_chunking import QChunkingPolicyConfig
from policies.score import ScoreConfig
from policies.sources import as_many
from policies.steered import (
    SteeredPolicy,
    SteeredSource,
    Steering,
    SteeringConfig,
    TorchCritic,
    lower_bound,
    pick,
)
from policies.steering_choice import best_setting, try_settings
from policies.torch_source import TorchSource
from policies.values import ChunkCriticConfig
from robot_rl.critics import CriticConfig
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import ActionSpec, ArraySpec, Goal, ObservationSpec

SPEC = ObservationSpec({"state": ArraySpec((2,), names=("x", "y"))})
MIXED = ObservationSpec({**SPEC.arrays, "image/front": ArraySpec((32, 32, 3), "uint8", 0, 255)})
ACTION = ActionSpec(("x", "y"), 0.1, 0.1)
SEEN = {"state": np.zeros(2, np.float32)}
PLAIN = InputConfig(goal=False)


class Likes:
    """Two members that value how near a chunk's first actions are to what they like; the second is less sure."""

    told = False

    def __init__(self, x=1.0, horizon=1, spread=0.0):
        self.x, self.horizon, self.spread = x, horizon, spread
        self.goals = []

    def values(self, observation, goal, chunks):
        self.goals.append(goal)
        assert all(len(value) == 1 for value in observation.values())
        near = -np.abs(chunks[:, : self.horizon, 0] - self.x).mean(1)
        return np.stack([near, near + self.spread * np.arange(len(near))])


def source(spec=SPEC, inputs=PLAIN, horizon=4, **options):
    torch.manual_seed(0)
    return TorchSource(ScoreConfig(inputs=inputs, horizon=horizon, **options).build(spec, ACTION))


def chunk_policy(base, **options):
    return ChunkPolicy(base, ExecutionConfig(execute=2), SPEC, ACTION, seed=3, **options)


def test_the_lower_bound_is_the_mean_less_deviations():
    values = np.array([[1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(lower_bound(values, 0.5), [2.0 - 0.5, 0.0])


def test_the_best_is_picked_or_one_by_softmax_and_never_what_is_no_number():
    random = np.random.default_rng(0)
    bound = lower_bound(np.array([[0.0, 1.0, np.nan, -1.0]]), 0.0)
    assert pick(bound, 0.0, random) == 1
    drawn = np.bincount([pick(bound, 1.0, random) for _ in range(4000)], minlength=4) / 4000
    shares = np.exp([0.0, 1.0, -np.inf, -1.0])
    np.testing.assert_allclose(drawn, shares / shares.sum(), atol=0.03)
    assert pick(lower_bound(np.full((1, 3), np.nan), 0.0), 1.0, random) == 0  # the policy's own


def test_one_candidate_is_the_policy_as_it_is():
    steered = SteeredPolicy(chunk_policy(source()), Likes(), SteeringConfig(samples=1))
    plain = chunk_policy(source())
    for policy in (steered, plain):
        policy.reset()
    for _ in range(5):
        np.testing.assert_array_equal(steered.act(SEEN), plain.act(SEEN))


def test_more_candidates_come_nearer_to_what_the_critic_likes():
    reached = []
    for samples in (1, 4, 64):
        policy = SteeredPolicy(chunk_policy(source()), Likes(x=0.6), SteeringConfig(samples=samples))
        off = []
        for _ in range(30):
            policy.reset()
            off.append(abs(policy.act(SEEN)[0] - 0.6))
            assert policy.choice is not None and policy.choice.samples == samples
        reached.append(np.mean(off))
    assert reached[2] < 0.3 * reached[1] < 0.3 * reached[0]


def test_what_is_told_of_a_choice():
    steering = Steering(Likes(x=0.5, spread=0.1), SteeringConfig(samples=3, pessimism=0.0))
    chunks = np.array([0.1, 0.4, -0.9])[:, None, None] * np.ones((3, 4, 2))
    assert steering.choose({"state": np.zeros((1, 2))}, {}, chunks, seed=0) == 1
    choice = steering.choice
    assert choice is not None
    assert (choice.index, choice.base_rank, choice.samples) == (1, 1, 3)
    assert choice.value == pytest.approx(-0.1 + 0.05) and choice.spread == pytest.approx(0.05)


def test_an_unsure_critic_is_not_followed():
    sure = Steering(Likes(x=1.0, spread=0.5), SteeringConfig(samples=3, pessimism=3.0))
    chunks = np.array([0.0, 0.1, 0.2])[:, None, None] * np.ones((3, 1, 2))
    assert sure.choose({"state": np.zeros((1, 2))}, {}, chunks, seed=0) == 0


@pytest.mark.parametrize("spec", [SPEC, MIXED], ids=["state", "mixed"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_many_chunks_are_those_that_single_ones_are(spec, guidance):
    one = source(spec, InputConfig(history=2), guidance=guidance, max_prefix=2)
    rng = np.random.default_rng(0)
    seen = {
        key: rng.integers(0, 255, (2, *a.shape), np.uint8)
        if a.dtype == "uint8"
        else rng.normal(size=(2, *a.shape)).astype(np.float32)
        for key, a in spec.arrays.items()
    }
    goal = {key: value[0] for key, value in seen.items()}
    noise = rng.standard_normal((5, 4, 2), np.float32)
    prefix = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
    for told, given in ((goal, None), (None, prefix), (goal, prefix)):
        together = one.sample_many(seen, told, noise, 0, given)
        apart = np.stack([one.sample(seen, told, each, 0, given) for each in noise])
        np.testing.assert_allclose(together, apart, atol=2e-5)


def test_the_image_is_encoded_once():
    base = source(MIXED, InputConfig(goal=False))
    calls = []
    base.model.inputs.cameras[0].register_forward_hook(lambda module, given, out: calls.append(given[0].shape))
    seen = {key: np.zeros((1, *a.shape), a.dtype) for key, a in MIXED.arrays.items()}
    base.sample_many(seen, None, np.zeros((32, 4, 2), np.float32), 0, None)
    assert calls == [(1, 32, 32, 3)]
    net = ChunkCriticConfig(inputs=InputConfig(goal=False)).build(MIXED, ACTION)
    net.inputs.cameras[0].register_forward_hook(lambda module, given, out: calls.append(given[0].shape))
    assert TorchCritic(net).values(seen, {}, np.zeros((32, 4, 2), np.float32)).shape == (2, 32)
    assert len(calls) == 2 and calls[1] == (1, 32, 32, 3)


def test_a_deterministic_regression_gives_the_same_many_times():
    torch.manual_seed(0)
    base = TorchSource(GCBCConfig(inputs=PLAIN, horizon=4).build(SPEC, ACTION))
    chunks = base.sample_many({"state": np.ones((1, 2), np.float32)}, None, np.zeros((3, 4, 2), np.float32), 0, None)
    assert chunks.shape[1:] == (4, 2) and np.ptp(chunks, axis=0).max() == 0.0


def test_the_critic_is_told_the_goal_that_the_policy_is_told():
    critic = Likes()
    critic.told = True
    policy = SteeredPolicy(chunk_policy(source(inputs=InputConfig())), critic, SteeringConfig(samples=2))
    goal = {"state": np.array([0.3, 0.7], np.float32)}
    policy.reset(Goal(goal))
    policy.act(SEEN)
    np.testing.assert_array_equal(critic.goals[0]["state"], goal["state"])
    policy.reset()
    with pytest.raises(SpecError, match="told none"):
        policy.act(SEEN)
    with pytest.raises(ConfigError, match="observations alone"):
        SteeredSource(source(inputs=InputConfig()), Steering(critic, SteeringConfig())).tell({}, "lift it", SEEN)


def test_a_critic_of_goals_steers_a_policy_that_knows_none():
    critic, goal = Likes(x=0.5), {"state": np.array([0.3, 0.7], np.float32)}
    critic.told = True
    for base in (chunk_policy(source()), Draws()):
        policy = SteeredPolicy(base, critic, SteeringConfig(samples=20), goal=goal)
        policy.reset()
        policy.act(SEEN)
        np.testing.assert_array_equal(critic.goals[-1]["state"], goal["state"])
        policy.reset(Goal({"state": np.ones(2, np.float32)}))  # what an episode tells comes first
        policy.act(SEEN)
        np.testing.assert_array_equal(critic.goals[-1]["state"], 1.0)


class Draws:
    """Any policy: one action at a time, drawn at random; remote ones look like this."""

    version = 7

    def __init__(self):
        self.random, self.asked, self.deterministic = np.random.default_rng(0), 0, True

    def reset(self, goal=None, seed=None):
        pass

    def act(self, observation):
        self.asked += 1
        return np.zeros(2, np.float32) if self.deterministic else self.random.uniform(-1, 1, 2).astype(np.float32)


def test_a_policy_that_acts_step_by_step_is_asked_several_times():
    base = Draws()
    policy = SteeredPolicy(base, Likes(x=0.5), SteeringConfig(samples=50))
    policy.reset()
    assert abs(policy.act(SEEN)[0] - 0.5) < 0.1
    assert base.asked == 50 and policy.version == 7
    with pytest.raises(ConfigError, match="step by step"):
        SteeredPolicy(base, Likes(horizon=3), SteeringConfig())


@pytest.mark.parametrize("deterministic", [True, False])
def test_candidate_0_is_the_action_of_the_policy_by_itself(deterministic):
    steered, plain = SteeredPolicy(Draws(), Likes(), SteeringConfig(samples=1)), Draws()
    steered.deterministic = plain.deterministic = deterministic
    for _ in range(3):
        np.testing.assert_array_equal(steered.act(SEEN), plain.act(SEEN))
    several = SteeredPolicy(Draws(), Likes(x=0.0), SteeringConfig(samples=5))
    several.act(SEEN)
    assert several.choice is not None and several.choice.base_rank == 0  # the deterministic one is just what it likes


def test_a_base_that_the_critic_has_no_number_for_ranks_last():
    critic = Likes()
    critic.values = lambda observation, goal, chunks: np.array([[np.nan, 0.2, 0.1]])
    steering = Steering(critic, SteeringConfig(samples=3))
    assert steering.choose({"state": np.zeros((1, 2))}, {}, np.zeros((3, 1, 2), np.float32), 0) == 1
    assert steering.choice is not None and steering.choice.base_rank == 2


def test_a_policy_that_gives_one_chunk_at_a_time_is_asked_once_for_each():
    networks = {"state_features": 8, "critics": CriticConfig(hidden=(8,)), "samples": 2, "horizon": 4}
    config = QChunkingPolicyConfig(**networks, execution=ExecutionConfig(execute=2))
    plain = config.build_policy(SPEC, ACTION, seed=3)
    noise = np.random.default_rng(0).standard_normal((6, 4, 2), np.float32)
    seen = {"state": np.zeros((1, 2), np.float32)}
    chunks = as_many(plain.source).sample_many(seen, None, noise, 5, None)
    np.testing.assert_array_equal(chunks[0], plain.source.sample(seen, None, noise[0], 5, None))
    assert chunks.shape == (6, 4, 2) and len(np.unique(chunks[:, 0, 0])) == 6
    policy = SteeredPolicy(plain, Likes(x=0.5), SteeringConfig(samples=6))
    policy.reset()
    policy.act(SEEN)
    assert policy.choice is not None and policy.choice.samples == 6


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="values 8 actions, the policy gives 4"):
        SteeredPolicy(chunk_policy(source()), Likes(horizon=8), SteeringConfig())
    numbers = ({"temperature": one} for one in (-1.0, np.nan, np.inf))
    wrong_ones: list[dict[str, Any]] = [
        {"samples": 0},
        {"samples": 10**9},
        {"pessimism": -0.1},
        {"pessimism": np.nan},
        *numbers,
    ]
    for wrong in wrong_ones:
        with pytest.raises(ConfigError):
            SteeringConfig(**wrong)


def candidates(noise, states=400, count=100, members=10, seed=0):
    """Values of candidates as members see them: the truth, and an error of each member's own."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(states, count))
    return truth + noise * rng.normal(size=(members, states, count))


def test_good_critics_ask_for_many_candidates_and_noisy_ones_for_few_or_none():
    config = SteeringConfig()
    good = best_setting(try_settings(candidates(0.1), 0.0), config)
    assert good.samples == 100
    rng = np.random.default_rng(0)
    nothing = rng.normal(size=(10, 400, 100))  # members that agree on nothing
    assert best_setting(try_settings(nothing, 0.0), config).samples <= 2


def test_judges_do_not_see_what_the_choosers_dreamt():
    """A chooser that judges itself would report the expected maximum of its own errors: 2.5 for 100 candidates."""
    nothing = np.random.default_rng(1).normal(size=(2, 2000, 100))
    gains = {one.samples: one.gain for one in try_settings(nothing, 0.0) if one.temperature == 0.0}
    assert abs(gains[100]) < 0.1
    exact = np.repeat(np.random.default_rng(2).normal(size=(1, 2000, 100)), 2, 0)
    gains = {one.samples: one.gain for one in try_settings(exact, 0.0) if one.temperature == 0.0}
    assert gains[100] == pytest.approx(2.508, abs=0.05)  # expected maximum of 100 standard normals


def test_a_policy_whose_candidates_are_all_alike_keeps_its_own():
    alike = 30.0 + np.repeat(np.random.default_rng(0).normal(size=(10, 20, 1)), 100, 2)
    rounded = (alike + 1e-6 * np.random.default_rng(1).normal(size=alike.shape)).astype(np.float32)
    assert best_setting(try_settings(rounded, 1.0), SteeringConfig()).samples == 1


def test_one_member_cannot_judge_itself():
    with pytest.raises(ConfigError, match="members"):
        try_settings(candidates(0.1, members=1, states=3), 0.0)


class Warns:
    """Each candidate's risk, by members; `told` as critics are."""

    told, horizon = False, 1

    def __init__(self, *risk):
        self.risk = np.array(risk, np.float64)

    def values(self, observation, goal, chunks):
        assert np.abs(chunks).max() <= 1.0
        return self.risk[:, : len(chunks)]


def vetoed(*risk, x=1.0, temperature=0.0):
    """Candidates at 0.1, 0.5 and 0.9, of which the critic likes the nearest to `x`."""
    steering = Steering(Likes(x=x), SteeringConfig(samples=3, temperature=temperature), Warns(*risk))
    chunks = np.array([0.1, 0.5, 0.9])[:, None, None] * np.ones((3, 4, 2))
    return steering, lambda seed=0: steering.choose({"state": np.zeros((1, 2))}, {}, chunks, seed)


def test_a_veto_removes_what_any_member_holds_for_unsafe():
    steering, choose = vetoed([-0.5, -0.5, -0.5], [-0.5, -0.1, 0.1])
    assert choose() == 1  # 0.9 is what the critic likes best
    assert steering.choice is not None
    assert (steering.choice.vetoed, steering.choice.unsafe) == (1, 0) and steering.choice.risk == pytest.approx(-0.1)
    unhindered, choose = vetoed([-0.5, -0.5, 0.0])
    assert choose() == 2 and unhindered.choice is not None and unhindered.choice.vetoed == 0


def test_by_softmax_a_vetoed_candidate_is_never_drawn():
    for risk, allowed in (([-1.0, -1.0, 0.2], {0, 1}), ([0.2, -1.0, np.nan], {1}), ([-1.0, -1.0, -1.0], {0, 1, 2})):
        _, choose = vetoed(risk, temperature=10.0)
        assert {choose(seed) for seed in range(60)} == allowed


def test_where_nothing_is_safe_the_smallest_violation_is_played_and_counted():
    steering, choose = vetoed([0.5, 0.3, np.nan], [0.1, 0.4, 0.2])
    assert [choose(), choose()] == [1, 1]
    assert steering.choice is not None
    assert (steering.choice.vetoed, steering.choice.unsafe) == (3, 2) and steering.choice.risk == pytest.approx(0.4)


def test_a_safe_candidate_is_chosen_even_if_the_critic_has_no_number_for_it():
    steering, choose = vetoed([0.5, 0.5, -0.5], x=np.nan)
    assert choose() == 2 and steering.unsafe == 0


def test_a_vetoed_policy_does_what_is_safe():
    """What goes right is liked and forbidden."""

    class Left:
        told, horizon = False, 2

        def values(self, observation, goal, chunks):
            return chunks[None, :, :2, 0].max(-1)

    free, bound = (
        SteeredPolicy(chunk_policy(source()), Likes(x=1.0), SteeringConfig(samples=32), veto=veto)
        for veto in (None, Left())
    )
    for policy, wanted in ((free, lambda x: x > 0.0), (bound, lambda x: x <= 0.0)):
        for _ in range(10):
            policy.reset()
            assert wanted(policy.act(SEEN)[0])
    assert bound.choice is not None and bound.choice.unsafe == 0 and bound.choice.vetoed > 0


def test_a_veto_that_does_not_fit_is_refused():
    veto: Any = Warns([0.0])
    veto.horizon = 9
    with pytest.raises(ConfigError, match="values 9 actions"):
        SteeredPolicy(chunk_policy(source()), Likes(), SteeringConfig(), veto=veto)
    veto.horizon, veto.told = 1, True
    with pytest.raises(SpecError, match="goals"):
        Steering(Likes(), SteeringConfig(), veto).choose(SEEN, {}, np.zeros((2, 1, 2)), 0)
