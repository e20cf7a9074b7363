"""HIQL and OTA: losses against cases computed by hand, and where each must win."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.goals import GoalConfig
from data.windows import WindowConfig, WindowSampler
from policies.chunk_net import Request
from policies.gcbc import GCBCConfig
from policies.hiql import HIQLCriticConfig, HIQLPolicyConfig, on_sphere
from policies.inputs import InputConfig, InputTokens
from policies.words import WordsConfig
from robot_rl import losses, offline_losses
from robot_rl.algorithms.hiql import HIQLConfig, OTAConfig
from robot_rl.algorithms.imitation import ImitationConfig
from robot_rl.algorithms.offline import AWR
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec
from robot_rl.value_heads import ScalarHead

SPEC = ObservationSpec({"state": ArraySpec((2,), names=("x", "y"))})
ACTION = ActionSpec(("x",), 0.1, 0.1)
QUICK: dict[str, Any] = {"learning_rate": 1e-3, "warmup_updates": 0, "ema_decay": 0.98, "final_rate": 1.0}
CRITIC_QUICK: dict[str, Any] = {"critic_learning_rate": 1e-3, "target_rate": 0.1}
PLACES = InputConfig(goal_difference=False)
CRITIC = HIQLCriticConfig(inputs=PLACES, hidden=(64, 64))
OTA_CRITIC = HIQLCriticConfig(inputs=PLACES, hidden=(64, 64), levels=2)
POLICY = HIQLPolicyConfig(inputs=PLACES, hidden=(64, 64))
MIXTURE = GoalConfig(present=0.2, future=0.5, random=0.3, discount=0.99)


class Slopes(nn.Module):
    """V = w |s - g| of each member, phi = (s, g)."""

    def __init__(self, *slopes):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(slopes))

    def values(self, observation, goal):
        apart = (observation["state"][:, -1] - goal["state"]).abs()
        return (apart * self.w).T.unsqueeze(-1)

    def represent(self, observation, goal):
        return torch.cat([observation["state"][:, -1], goal["state"]], -1)


class Levels(nn.Module):
    """A critic that can be computed by hand."""

    def __init__(self, shared=True):
        super().__init__()
        self.head, self.representation = ScalarHead(), 2
        self.low = Slopes(-0.5, -1.0)
        self.high = self.low if shared else Slopes(-0.1, -0.4)


class Guess(nn.Module):
    """A policy whose high level always proposes (p, p), and whose low level always does the same."""

    representation = 2
    loss = None  # that of imitation: nobody asks for it

    def __init__(self, proposal=1.0, action=0.1):
        super().__init__()
        self.p, self.a = nn.Parameter(torch.tensor(proposal)), nn.Parameter(torch.tensor(action))

    def level_losses(self, windows, subgoal, high_weight):
        high = losses.cloning_loss(self.p.expand_as(subgoal), subgoal, high_weight)
        return high, losses.cloning_loss(self.a.expand_as(windows.action), windows.action, windows.mask)


def hand(learner, steps, goals, value_goals):
    """Windows of one episode that is at 0, 1, 2, 4, 7, 11, 16 at steps 0 to 6, its actions 0, 0.1, ..."""
    arrays = {
        "observation/state": np.array([0, 1, 2, 4, 7, 11, 16], np.float32)[:, None],
        "executed_action": 0.1 * np.arange(6, dtype=np.float32)[:, None],
        "reward": np.full(6, 9.0, np.float32),
        "terminated": np.zeros(6, bool),
    }
    config = WindowConfig(horizon=1, goals=goals, value_goals=value_goals, subgoals=learner.hiql.subgoals())
    sampler = WindowSampler(arrays, np.array([6]), config, returns=learner.hiql.returns(1))
    return learner.load(sampler.windows(np.asarray(steps), np.random.default_rng(0)))


FINAL, PRESENT, NEXT = GoalConfig(future=0, final=1), GoalConfig(future=0, present=1), GoalConfig(max_steps=1)


def test_the_value_loss_by_hand():
    critic = Levels()
    learner = HIQLConfig(discount=0.9, expectile=0.7).build(Guess(), critic)
    with torch.no_grad():  # the online values differ from those of the target network
        critic.low.w.copy_(torch.tensor([-0.2, -0.3]))
    loss, metrics = learner.critic_loss(hand(learner, [3], FINAL, None))
    known, following = -np.array([0.5, 1.0]) * 12.0, -np.array([0.5, 1.0]) * 9.0
    target = -1.0 + 0.9 * following
    weight = 0.7 if target.min() - known.mean() >= 0 else 0.3  # -9.1 is better than nothing of -9
    assert weight == 0.3
    online = -np.array([0.2, 0.3]) * 12.0
    assert float(loss.detach()) == pytest.approx(weight * ((target - online) ** 2).sum(), rel=1e-5)
    assert float(metrics["v"]) == pytest.approx(online.mean())


@pytest.mark.parametrize(("goals", "target"), [(PRESENT, 0.0), (NEXT, -1.0)])
def test_nothing_is_bootstrapped_at_the_goal(goals, target):
    learner = HIQLConfig(discount=0.9).build(Guess(), Levels())
    loss, _ = learner.critic_loss(hand(learner, [3], FINAL, goals))
    apart = 0.0 if goals is PRESENT else 3.0
    known = -np.array([0.5, 1.0]) * apart
    weight = 0.7 if target - known.mean() >= 0 else 0.3
    assert float(loss.detach()) == pytest.approx(weight * ((target - known) ** 2).sum(), abs=1e-5)


def test_advantages_and_weights_of_both_levels_by_hand():
    config = HIQLConfig(subgoal_steps=2, extraction=AWR(temperature=2.0), high_extraction=AWR(4.0, largest=3.0))
    learner = config.build(Guess(), Levels())
    data = hand(learner, [1, 3], FINAL, None)  # from 1 by 2 to the subgoal 4; from 4 by 7 to the subgoal 11
    slope = 0.75  # the members' mean
    low, high = slope * np.array([1.0, 3.0]), slope * np.array([3.0, 7.0])
    np.testing.assert_allclose(learner.advantage(data), low, rtol=1e-6)
    np.testing.assert_allclose(learner.high_advantage(data), high, rtol=1e-6)
    loss, metrics = learner.policy_loss(data)
    w, high_w = np.exp(low / 2.0), np.minimum(np.exp(high / 4.0), 3.0)
    assert high_w[1] == 3.0  # e^1.31 is more than is allowed
    subgoal = np.array([[1.0, 4.0], [4.0, 11.0]])
    high_loss = 0.5 * (((subgoal - 1.0) ** 2).sum(1) * high_w).sum() / high_w.sum()
    low_loss = 0.5 * ((np.array([0.1, 0.3]) - 0.1) ** 2 * w).sum() / w.sum()
    assert float(metrics["high_loss"]) == pytest.approx(high_loss, rel=1e-5)
    assert float(metrics["low_loss"]) == pytest.approx(low_loss, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(high_loss + low_loss, rel=1e-5)


def test_the_critic_takes_no_gradient_from_the_policy():
    critic = Levels()
    learner = HIQLConfig().build(Guess(), critic)
    loss, _ = learner.policy_loss(hand(learner, [1], FINAL, None))
    assert torch.autograd.grad(loss, [critic.low.w], allow_unused=True) == (None,)


def test_targets_of_options_by_hand():
    learner = OTAConfig(discount=0.9, option_steps=3).build(Guess(), Levels(shared=False))
    far = learner.as_options(hand(learner, [1], FINAL, None))  # from 1 by 7 to 16
    assert (float(far.reward), float(far.terminated), float(far.discount)) == pytest.approx((-1.0, 0.0, 0.9))
    assert float(far.next_observation["state"]) == 7.0
    loss, _ = learner.critic_loss(hand(learner, [1], FINAL, None))
    high, low = np.array([0.1, 0.4]), np.array([0.5, 1.0])
    wanted = 0.0
    for slopes, following in ((high, 7.0), (low, 2.0)):
        known, target = -slopes * 15.0, -1.0 + 0.9 * -slopes * (16.0 - following)
        wanted += (0.7 if target.min() >= known.mean() else 0.3) * ((target - known) ** 2).sum()
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


def test_an_option_ends_at_its_goal_and_costs_one_however_long_it_took():
    reward, ended = offline_losses.option_outcome(torch.tensor([0, 1, 3, 4, -1]), 3)
    assert reward.tolist() == [0, -1, -1, -1, -1] and ended.tolist() == [1, 1, 1, 0, 0]


def test_the_weight_of_an_error_is_decided_by_the_least_target_and_the_mean_value():
    target, known = torch.tensor([[1.0, -1.0], [3.0, 5.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert offline_losses.implicit_value_weight(target, known, 0.9).tolist() == pytest.approx([0.9, 0.1])


def test_goals_are_told_as_points_on_a_sphere():
    assert on_sphere(torch.tensor([[3.0, 0.0, 0.0, 4.0]])).tolist() == [pytest.approx([1.2, 0.0, 0.0, 1.6])]
    net = CRITIC.build(SPEC, ACTION)
    observation, goal = {"state": torch.randn(5, 1, 2)}, {"state": torch.randn(5, 2)}
    represented = net.low.represent(observation, goal)
    torch.testing.assert_close(represented.norm(dim=-1), torch.full((5,), math.sqrt(10)))
    (slope,) = torch.autograd.grad(net.low.values(observation, goal).sum(), [net.low._represent.layers[0]])
    assert float(slope.abs().max()) > 0.0  # V teaches it


def test_the_low_level_knows_the_goal_by_the_subgoal_alone():
    net = POLICY.build(SPEC, ACTION)
    observation, fixed = {"state": torch.randn(4, 1, 2)}, torch.randn(4, 10)
    one, other = (net.inputs(observation, {"state": torch.randn(4, 2)}) for _ in range(2))
    torch.testing.assert_close(net.reach(one, fixed), net.reach(other, fixed), rtol=0, atol=0)
    assert not torch.allclose(net.propose_subgoal(one), net.propose_subgoal(other), atol=1e-3)
    goal, noise = {"state": torch.randn(4, 2)}, torch.randn(4, 1, 1)
    tokens = net.inputs(observation, goal)
    wanted = net.actions.inverse(net.reach(tokens, on_sphere(net.propose_subgoal(tokens))))
    request = Request(observation, goal, torch.ones(4), noise, noise[None][:0], torch.zeros_like(noise), noise[..., 0])
    torch.testing.assert_close(net.sample(observation, goal, noise), wanted)
    assert net.answer(request).shape == (4, 1, 1)


STRAIGHT, FOLDED = 40, 80
"""Steps at full speed from one end of the corridor to the other."""


def straight(u):
    return np.stack([u, np.zeros_like(u)], -1).astype(np.float32)


def folded(u):
    """A corridor folded in two: its ends are close to each other, and far apart for whoever walks."""
    return np.stack([1.0 - np.abs(2.0 * u - 1.0), (u > 0.5) * 0.2], -1).astype(np.float32)


def walks(place, steps, episodes, length, seed, turn, drift, noise):
    """Somebody drifts along the corridor, u in [0, 1], and turns now and then."""
    rng = np.random.default_rng(seed)
    states, actions = [], []
    for _ in range(episodes):
        u, along = rng.uniform(), drift(rng)
        states.append(u)
        for _ in range(length):
            along = drift(rng) if rng.random() < turn else along
            action = float(np.clip(along + rng.normal(0.0, noise), -1.0, 1.0))
            u = float(np.clip(u + action / steps, 0.0, 1.0))
            states.append(u)
            actions.append(action)
    arrays = {
        "observation/state": place(np.array(states)),
        "executed_action": np.array(actions, np.float32)[:, None],
        "reward": np.zeros(len(actions), np.float32),
        "terminated": np.zeros(len(actions), bool),
    }
    return arrays, length * np.arange(1, episodes + 1)


def learn(config, critic, policy, data, updates, batch=128):
    arrays, ends = data
    torch.manual_seed(config.seed)
    model, net = policy.build(SPEC, ACTION), None if critic is None else critic.build(SPEC, ACTION)
    state, action = arrays["observation/state"], arrays["executed_action"]
    moments = {"state": (state.mean(0), state.std(0)), "action": (action.mean(0), action.std(0))}
    for one in (model, net):
        if one is not None:
            one.fit_normalizers(moments)
    window = WindowConfig(horizon=1, value_goals=MIXTURE, subgoals=config.subgoals())
    returns = None if net is None else config.returns(1)
    sampler = WindowSampler(arrays, ends, window, seed=config.seed, returns=returns)
    learner = config.build(model, net, None)
    for number in range(updates):
        learner.update(sampler.batch(number, batch))
    return learner, sampler


def arrives(learner, within_steps):
    """Share of walks from one end of the straight corridor to the other that arrive in time."""
    u = np.concatenate([np.linspace(0.0, 0.2, 10), np.linspace(0.8, 1.0, 10)])
    goal, there = 1.0 - u, np.zeros(20, bool)
    for _ in range(within_steps):
        observation = {"state": torch.from_numpy(straight(u))[:, None]}
        told = {"state": torch.from_numpy(straight(goal))}
        action = learner.acting.sample(observation, told, torch.zeros(20, 1, 1))[:, 0, 0].clamp(-1, 1).numpy()
        u = np.clip(u + action / STRAIGHT, 0.0, 1.0)
        there |= np.abs(u - goal) < 0.05
    return there.mean()


def ordered(net, step=10):
    """Share of pairs of places, a few steps apart and far from the goal, of which the closer one has the higher V."""
    u, right = np.linspace(0.0, 1.0, FOLDED + 1), []
    for goal in (0.0, 1.0):
        observation = {"state": torch.from_numpy(folded(u))[:, None]}
        told = {"state": torch.from_numpy(folded(np.full(len(u), goal)))}
        with torch.no_grad():
            v = net.values(observation, told).squeeze(-1).mean(0).numpy()
        rises = np.sign(0.5 - goal) * (v[:-step] - v[step:]) > 0.0
        right.append(rises[np.abs(u - goal)[:-step] > 0.4].mean())
    return float(np.mean(right))


def test_options_order_far_places_where_single_steps_do_not():
    """OTA's claim (2505.12737, section 5): over long distances V of single steps is wrong about which is closer."""

    def drift(rng):
        return rng.choice([-1, 1]) * rng.uniform(0.3, 1.0)

    data = walks(folded, FOLDED, episodes=60, length=100, seed=0, turn=0.03, drift=drift, noise=0.6)
    policy = HIQLPolicyConfig(inputs=PLACES, hidden=(8,))  # only V matters here
    learner, _ = learn(OTAConfig(**QUICK, **CRITIC_QUICK), OTA_CRITIC, policy, data, 300)
    # the low level's V is HIQL's: same data, networks and updates
    assert ordered(learner.levels.high) > max(ordered(learner.levels.low) + 0.15, 0.5)


def test_it_arrives_sooner_than_those_it_learned_from():
    """HIQL's claim over cloning (2307.11949, table 1), of data that wanders about."""

    def drift(rng):
        return rng.uniform(-0.8, 0.8)

    data = walks(straight, STRAIGHT, episodes=80, length=60, seed=0, turn=0.2, drift=drift, noise=0.4)
    learner, _ = learn(HIQLConfig(**QUICK, **CRITIC_QUICK, subgoal_steps=5), CRITIC, POLICY, data, 300)
    clone = GCBCConfig(inputs=PLACES, hidden=(64, 64), normalize=True)
    cloned, _ = learn(ImitationConfig(**QUICK), None, clone, data, 300)
    assert arrives(learner, 55) >= 0.8 and arrives(cloned, 55) <= 0.4


def test_it_resumes_exactly():
    data = walks(straight, STRAIGHT, 5, 30, 0, 0.2, lambda rng: rng.uniform(-1, 1), 0.4)
    config = OTAConfig(**QUICK, **CRITIC_QUICK)
    learner, sampler = learn(config, OTA_CRITIC, POLICY, data, 4, batch=32)
    again, _ = learn(config, OTA_CRITIC, POLICY, data, 1, batch=32)
    again.load_state_dict(learner.state_dict())
    for number in (4, 5):
        one, two = (each.update(sampler.batch(number, 32)) for each in (learner, again))
        assert {key: float(value) for key, value in one.items()} == {key: float(value) for key, value in two.items()}
    for name, tensor in learner.state_dict().items():
        torch.testing.assert_close(tensor, again.state_dict()[name], rtol=0, atol=0)
    found = learner.evaluate(sampler.batch(9, 32))
    assert {"loss", "critic_loss", "high_loss", "low_loss"} <= set(found)
    flat, _ = learn(HIQLConfig(), CRITIC, POLICY, data, 0)
    with pytest.raises(DataError):
        flat.load_state_dict(learner.state_dict())


def test_the_tokens_seen_are_those_that_tell_nothing_of_the_goal():
    spec = ObservationSpec({"state": ArraySpec((6,), names=("a.x", "a.y", "a.z", "b.x", "b.y", "b.z"))})
    inputs = InputTokens(InputConfig(history=2, offsets_from="a"), spec)
    observation = {"state": torch.randn(3, 2, 6)}
    one, other = (inputs(observation, {"state": torch.randn(3, 6)}) for _ in range(2))
    same = (one == other).all(-1).all(0)
    assert same.tolist() == [True, True, True, False, False] and inputs.seen == 3


def test_nonsense_is_refused():
    nonsense: list[dict[str, Any]] = [
        {"expectile": 1.0},
        {"rewards": "task"},
        {"subgoal_steps": 0},
        {"option_steps": 0},
    ]
    for wrong in nonsense:
        with pytest.raises(ConfigError):
            OTAConfig(**wrong)
    critics: list[dict[str, Any]] = [{"levels": 3}, {"representation": 0}, {"inputs": InputConfig(goal=False)}]
    for wrong in critics:
        with pytest.raises(ConfigError):
            HIQLCriticConfig(**wrong)
    words = InputConfig(words=WordsConfig(encoder=""))
    policies: list[dict[str, Any]] = [{"hidden": ()}, {"inputs": InputConfig(goal=False)}, {"inputs": words}]
    for wrong in policies:
        with pytest.raises(ConfigError):
            HIQLPolicyConfig(**wrong)
    with pytest.raises(ConfigError, match=r"levels=2"):
        OTAConfig().build(POLICY.build(SPEC, ACTION), CRITIC.build(SPEC, ACTION))
    with pytest.raises(ConfigError, match="must agree"):
        HIQLConfig().build(HIQLPolicyConfig(representation=3).build(SPEC, ACTION), CRITIC.build(SPEC, ACTION))
    with pytest.raises(ConfigError, match="needs a critic"):
        HIQLConfig().build(POLICY.build(SPEC, ACTION), None)
