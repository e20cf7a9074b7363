"""Offline RL: losses against cases computed by hand, and where it must win over imitation and over its own variants."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.goals import GoalConfig
from data.windows import WindowConfig, WindowSampler
from policies.denoisers import MLPConfig
from policies.gcbc import GCBCConfig
from policies.inputs import InputConfig
from policies.score import ScoreConfig
from policies.values import ChunkCriticConfig
from robot_rl.algorithms.cal_ql import CalQLConfig
from robot_rl.algorithms.imitation import ImitationConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.offline import AWR, DDPGBC
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec
from robot_rl.value_heads import ClassHead, ScalarHead

SPEC = ObservationSpec({"state": ArraySpec((1,), names=("x",))})
ACTION = ActionSpec(("x",), 0.1, 0.1)
NO_GOAL = InputConfig(goal=False)
QUICK: dict[str, Any] = {
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "warmup_updates": 0,
    "ema_decay": 0.98,
    "final_rate": 1.0,
    "target_rate": 0.05,
}


def corridor(episodes=80, length=15, seed=0, reach=1.0, corrupt=0.0):
    """A point that is pushed at random from within [-0.5, 0.5]; at `reach` it has succeeded, reward 1, the end."""
    rng = np.random.default_rng(seed)
    states, actions, rewards, ended, ends = [], [], [], [], []
    for _ in range(episodes):
        x = rng.uniform(-0.5, 0.5)
        drift = rng.uniform(-0.6, 0.6)
        states.append(x)
        for _ in range(length):
            a = float(np.clip(drift + rng.normal(0, 0.5), -1, 1))
            x += 0.2 * a
            success = x >= reach
            states.append(x)
            actions.append(a)
            rewards.append(float(success) if rng.random() >= corrupt else rng.uniform(-3, 3))
            ended.append(success)
            if success:
                break
        ends.append(len(actions))
    arrays = {
        "observation/state": np.asarray(states, np.float32)[:, None],
        "executed_action": np.asarray(actions, np.float32)[:, None],
        "reward": np.asarray(rewards, np.float32),
        "terminated": np.asarray(ended, bool),
    }
    return arrays, np.asarray(ends)


def bandit(episodes=600, seed=0, corrupt=0.0):
    """One push each from x in [-1, 1]: at least x + 0.2 is a success, reward 1. Some rewards may be nonsense."""
    rng = np.random.default_rng(seed)
    x, action = rng.uniform(-1.0, 0.5, episodes), rng.uniform(-1.0, 1.0, episodes)
    success = action >= x + 0.2
    reward = np.where(rng.random(episodes) < corrupt, rng.uniform(-3.0, 3.0, episodes), success)
    arrays = {
        "observation/state": np.repeat(x, 2).astype(np.float32)[:, None],
        "executed_action": action.astype(np.float32)[:, None],
        "reward": reward.astype(np.float32),
        "terminated": np.ones(episodes, bool),
    }
    return arrays, 1 + np.arange(episodes)


def learn(config, critic, policy, data, updates, batch=64, goals=None, value_goals=None):
    arrays, ends = data
    torch.manual_seed(config.seed)
    model, net = policy.build(SPEC, ACTION), critic.build(SPEC, ACTION)
    state, action = arrays["observation/state"], arrays["executed_action"]
    moments = {"state": (state.mean(0), state.std(0)), "action": (action.mean(0), action.std(0))}
    model.fit_normalizers(moments)
    net.fit_normalizers(moments)
    window = WindowConfig(horizon=policy.horizon, goals=goals or GoalConfig(), value_goals=value_goals)
    returns = config.returns(critic.horizon) if hasattr(config, "returns") else None
    sampler = WindowSampler(arrays, ends, window, seed=config.seed, returns=returns)
    learner = config.build(model, net, None)
    for number in range(updates):
        learner.update(sampler.batch(number, batch))
    return learner, sampler


def acts(learner, at, goal=None):
    observation = {"state": torch.tensor(at)[:, None, None]}
    told = None if goal is None else {"state": torch.full((len(at), 1), goal)}
    model = learner.acting
    noise = torch.randn((len(at), model.horizon, 1), generator=torch.Generator().manual_seed(0))
    return model.sample(observation, told, noise)[:, 0, 0].clamp(-1, 1)


def values(learner, at, action, goal=None):
    observation, told = {"state": torch.tensor(at)[:, None, None]}, {}
    if goal is not None:
        told = {"state": torch.full((len(at), 1), goal)}
    with torch.no_grad():
        features = learner.critic.features(observation, told)
        chunks = torch.full((len(at), learner.critic.horizon, 1), action)
        return learner.critic.head.value(learner.critic.q(features, chunks))


class Table(nn.Module):
    """A critic that can be computed by hand: Q = w0 x + w1 a for one member, twice that for the other, V = u x."""

    def __init__(self):
        super().__init__()
        self.head, self.horizon, self.told = ScalarHead(), 1, True
        self.w = nn.Parameter(torch.tensor([[1.0, 0.5], [2.0, 1.0]]))
        self.u = nn.Parameter(torch.tensor([0.8]))

    def features(self, observation, goal):
        return observation["state"][:, -1]

    def q(self, features, actions, frozen=False):
        both = torch.cat([features, actions[:, 0]], -1)
        return (both @ (self.w.detach() if frozen else self.w).T).T.unsqueeze(-1)

    def v(self, features):
        return features * self.u


class Still(nn.Module):
    """A policy that always does the same."""

    horizon, action_dim = 1, 1

    def __init__(self, action):
        super().__init__()
        self.action = nn.Parameter(torch.tensor(action))

    def propose(self, observation, goal, noise):
        return self.action.expand(len(next(iter(observation.values()))), 1, 1)

    def loss(self, windows, generator):
        error = (windows.action - self.action).square().squeeze(-1)
        return (error * windows.mask).sum() / windows.mask.sum(), {}


def one_window(learner):
    """x = 2, a = 0.4, next x = 3, reward 0.3, return to go 5."""
    arrays = {
        "observation/state": np.array([[2.0], [3.0], [9.0]], np.float32),
        "executed_action": np.array([[0.4], [0.0]], np.float32),
        "reward": np.array([0.3, 5.2222], np.float32),
        "terminated": np.array([False, True]),
    }
    returns = learner.offline.returns(1)
    sampler = WindowSampler(arrays, np.array([2]), WindowConfig(horizon=1), returns=returns)
    return sampler.windows(np.array([0]), np.random.default_rng(0))


def test_iql_by_hand():
    learner = IQLConfig(expectile=0.9, discount=0.9, value_range=None).build(Still(0.0), Table())
    loss, _ = learner.critic_loss(learner.load(one_window(learner)))
    q = np.array([2.0 + 0.2, 4.0 + 0.4])
    v, aim, target = 1.6, q.min(), 0.3 + 0.9 * (0.8 * 3.0)
    wanted = 0.9 * (aim - v) ** 2 + ((q - target) ** 2).sum()  # aim > v: the expectile's weight is 0.9
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("told", "own_goals", "computed"), [(True, False, 1), (False, True, 1), (True, True, 2)])
def test_the_advantage_takes_the_targets_values_from_the_critics_update(told, own_goals, computed):
    """Unless the goals are others, and matter."""
    learner = IQLConfig(value_range=None).build(Still(0.0), Table())
    learner.critic.told = told
    asked, q = [], learner.target.q
    learner.target.q = lambda *given: asked.append(given) or q(*given)
    data = learner.load(one_window(learner))
    if own_goals:
        data = replace(data, goal={"state": torch.ones(1, 1)})
    learner.critic_loss(data)
    with torch.no_grad():
        learner._target.w.mul_(10.0)
    after = 22.0 if computed == 2 else 2.2  # least of the members
    assert float(learner.advantage(data)) == pytest.approx(after - 1.6, rel=1e-5) and len(asked) == computed
    another = learner.load(one_window(learner))
    assert float(learner.advantage(another)) == pytest.approx(22.0 - 1.6, rel=1e-5)


def test_a_quantile_of_the_members_stands_for_their_minimum():
    learner = IQLConfig(quantile=1.0, discount=0.9, value_range=None).build(Still(0.0), Table())
    _, metrics = learner.critic_loss(learner.load(one_window(learner)))
    assert float(metrics["v_loss"]) == pytest.approx(0.7 * (4.4 - 1.6) ** 2, rel=1e-5)
    assert float(learner.advantage(learner.load(one_window(learner)))) == pytest.approx(4.4 - 1.6, rel=1e-5)


def test_hubers_error_is_of_q_alone():
    """RIQL (2310.12955): V stays an expectile, of squared errors."""
    critic = Table()
    critic.head = ScalarHead(huber=0.1)
    learner = IQLConfig(quantile=0.25, discount=0.9, value_range=None).build(Still(0.0), critic)
    loss, metrics = learner.critic_loss(learner.load(one_window(learner)))
    aim, target = 2.2 + 0.25 * 2.2, 0.3 + 0.9 * (0.8 * 3.0)
    q_loss = sum(2 * 0.1 * (abs(q - target) - 0.05) for q in (2.2, 4.4))
    assert float(metrics["v_loss"]) == pytest.approx(0.7 * (aim - 1.6) ** 2, rel=1e-5)
    assert float(loss.detach() - metrics["v_loss"]) == pytest.approx(q_loss, rel=1e-4)


def test_targets_stay_within_the_values_that_are_possible():
    learner = IQLConfig(discount=0.9, value_range=(0.0, 1.0)).build(Still(0.0), Table())
    loss, metrics = learner.critic_loss(learner.load(one_window(learner)))
    q_loss = float(loss.detach()) - float(metrics["v_loss"])
    assert q_loss == pytest.approx((2.2 - 1.0) ** 2 + (4.4 - 1.0) ** 2, rel=1e-5)


def test_what_a_chunk_holds_past_the_end_tells_the_critic_nothing():
    learner = IQLConfig().build(Still(0.0), Table())
    arrays = {
        "observation/state": np.zeros((3, 1), np.float32),
        "executed_action": np.array([[5.0], [6.0]], np.float32),
        "reward": np.zeros(2, np.float32),
        "terminated": np.array([False, True]),
    }
    sampler = WindowSampler(arrays, np.array([2]), WindowConfig(horizon=3))
    data = learner.load(sampler.windows(np.array([1] * 50), np.random.default_rng(0)))
    assert (data.action[:, 0] == 6.0).all() and (data.policy.action == 6.0).all()
    assert float(data.action[:, 1:].abs().max()) <= 1.0 and float(data.action[:, 1:].std()) > 0.4


@pytest.mark.parametrize("calibrated", [True, False])
def test_cal_ql_by_hand(calibrated):
    config = CalQLConfig(draws=1, conservatism=2.0, discount=0.9, value_range=None, calibrated=calibrated)
    learner = config.build(Still(0.5), Table())
    loss, metrics = learner.critic_loss(learner.load(one_window(learner)))
    chance = float(torch.rand((1, 1, 1, 1), generator=_after(learner, config)) * 2 - 1)
    w = np.array([[1.0, 0.5], [2.0, 1.0]])
    q_data, q_chance, q_policy = w @ [2.0, 0.4], w @ [2.0, chance], w @ [2.0, 0.5]
    target = 0.3 + 0.9 * min(w @ [3.0, 0.5])
    had = 0.3 + 0.9 * 5.2222
    raised = np.maximum(q_policy, had) if calibrated else q_policy
    gap = np.log(np.exp(q_chance) + 2 * np.exp(raised) + np.exp(q_data)) - q_data  # here and at the next x alike
    td, v = ((q_data - target) ** 2).sum(), (1.6 - q_policy.min()) ** 2
    assert float(metrics["td_loss"]) == pytest.approx(td, rel=1e-4)
    assert float(loss.detach()) == pytest.approx(td + v + 2.0 * gap.sum(), rel=1e-4)


def _after(learner, config):
    """The generator as it was when the random actions were drawn: after those past the end, the policy's two noises."""
    generator = torch.Generator().manual_seed(config.seed)
    torch.rand((1, 1, 1), generator=generator)
    for _ in range(2):
        torch.randn((1, 1, 1), generator=generator)
    return generator


def test_ddpg_bc_climbs_q_in_units_of_its_magnitude_and_imitates():
    learner = IQLConfig(extraction=DDPGBC(bc_weight=3.0)).build(Still(0.1), Table())
    data = learner.load(one_window(learner))
    loss, _ = learner.offline.extraction.loss(learner, data)
    assert float(loss.detach()) == pytest.approx(3.0 * (0.4 - 0.1) ** 2 - 1.0, rel=1e-5)
    (slope,) = torch.autograd.grad(loss, learner.model.parameters())
    q = 2.0 + 0.05
    assert float(slope) == pytest.approx(3.0 * 2.0 * (0.1 - 0.4) - 0.5 / q, rel=1e-5)


def test_the_critic_takes_no_gradient_from_the_policy():
    learner = IQLConfig(extraction=DDPGBC()).build(Still(0.1), Table())
    loss, _ = learner.offline.extraction.loss(learner, learner.load(one_window(learner)))
    assert torch.autograd.grad(loss, [learner.critic.w], allow_unused=True) == (None,)


SMALL = ChunkCriticConfig(inputs=NO_GOAL, hidden=(32, 32))
CLONE = GCBCConfig(inputs=NO_GOAL, hidden=(32, 32), normalize=True)
AT = [-0.3, 0.0, 0.3]


@pytest.mark.parametrize(
    "config",
    [
        IQLConfig(**QUICK, extraction=AWR(temperature=0.1)),
        IQLConfig(**QUICK, extraction=DDPGBC(bc_weight=0.1)),
        CalQLConfig(**QUICK, draws=2, conservatism=0.2, extraction=DDPGBC(bc_weight=0.1)),
    ],
    ids=["iql_awr", "iql_ddpg", "cal_ql"],
)
def test_offline_rl_does_what_succeeds_and_not_what_was_done(config):
    learner, _ = learn(config, SMALL, CLONE, bandit(), 300)
    cloned, _ = learn(
        ImitationConfig(learning_rate=1e-3, warmup_updates=0, ema_decay=0.98), SMALL, CLONE, bandit(), 300
    )
    assert float(acts(cloned, AT).abs().max()) < 0.3  # the mean of what was done
    assert (acts(learner, AT) > torch.tensor(AT) + 0.2).all()
    assert (values(learner, AT, 0.9) > values(learner, AT, -0.9) + 0.4).all()


def test_a_diffusion_policy_is_extracted_as_any_other():
    policy = ScoreConfig(inputs=NO_GOAL, horizon=2, network=MLPConfig(width=32, blocks=1))
    config = IQLConfig(**QUICK, extraction=DDPGBC(bc_weight=0.1))
    learner, _ = learn(config, replace(SMALL, horizon=2), policy, bandit(), 300)
    at = torch.linspace(-0.8, 0.4, 200)
    assert float((acts(learner, at.tolist()) > at + 0.2).float().mean()) > 0.8  # 0.5 of what was done


def test_values_are_learned_by_classification_as_well():
    learner, _ = learn(IQLConfig(**QUICK), replace(SMALL, head=ClassHead()), CLONE, bandit(), 300)
    assert (values(learner, AT, 0.9) > 0.75).all() and (values(learner, AT, -0.9) < 0.25).all()


def test_values_are_carried_over_steps_that_have_no_reward():
    learner, _ = learn(IQLConfig(**QUICK, discount=0.9), SMALL, CLONE, corridor(), 400)
    q = values(learner, [-0.3, 0.2, 0.7], 0.8).amin(0)
    assert (q.diff() > 0.05).all()


def test_calibration_keeps_values_above_the_returns_that_were_had():
    """Cal-QL's claim (2303.05479, figure 2): conservatism alone drives values below the data's returns."""
    below = {}
    for calibrated in (True, False):
        config = CalQLConfig(**QUICK, draws=2, conservatism=1.0, value_range=None, calibrated=calibrated)
        learner, sampler = learn(config, SMALL, CLONE, bandit(), 250)
        loaded = learner.load(sampler.batch(10**6, 256))
        with torch.no_grad():
            q = learner.policy_values(loaded.observation, loaded.goal).mean(0)
        below[calibrated] = float((loaded.returns_to_go - q).clamp(min=0.0).mean())
    assert below[True] < 0.5 * below[False]


def test_robust_iql_stands_corrupted_rewards_better():
    """RIQL's claim (2310.12955, table 1)."""
    plain, errors = replace(SMALL, members=5), []
    for critic, quantile in ((plain, 0.0), (replace(plain, head=ScalarHead(huber=0.1)), 0.25)):
        config = IQLConfig(**QUICK, value_range=None, quantile=quantile)
        learner, _ = learn(config, critic, CLONE, bandit(corrupt=0.3), 300)
        errors.append(float((values(learner, AT, 0.9) - 1.0).abs().mean()))
    assert errors[1] < 0.6 * errors[0]


def test_gciql_knows_how_far_goals_are_and_acts_towards_them():
    critic, policy = ChunkCriticConfig(hidden=(32, 32)), GCBCConfig(hidden=(32, 32), normalize=True)
    config = IQLConfig(
        **QUICK, rewards="goal", discount=0.9, expectile=0.9, value_range=(-10.0, 0.0), extraction=DDPGBC(bc_weight=0.1)
    )
    mixture = GoalConfig(present=0.2, future=0.5, random=0.3, discount=0.9)
    learner, _ = learn(config, critic, policy, corridor(reach=9.0), 700, value_goals=mixture)
    near, far = (float(values(learner, [0.0], 1.0, goal).mean()) for goal in (0.2, 1.0))
    assert near > far + 0.5
    assert float(acts(learner, [0.0], 0.6)) > 0.4 and float(acts(learner, [0.0], -0.6)) < -0.4


def test_it_resumes_exactly():
    data = corridor(episodes=20)
    config = CalQLConfig(**QUICK)
    learner, sampler = learn(config, SMALL, CLONE, data, 5)
    again, _ = learn(replace(config, seed=0), SMALL, CLONE, data, 1)
    again.load_state_dict(learner.state_dict())
    for number in (5, 6):
        one, two = (each.update(sampler.batch(number, 64)) for each in (learner, again))
        assert {key: float(value) for key, value in one.items()} == {key: float(value) for key, value in two.items()}
    for name, tensor in learner.state_dict().items():
        torch.testing.assert_close(tensor, again.state_dict()[name], rtol=0, atol=0)
    state = learner.state_dict()
    with pytest.raises(DataError):
        again.load_state_dict({key: value for key, value in state.items() if not key.startswith("critic.")})


def test_nonsense_is_refused():
    nonsense: list[dict[str, Any]] = [
        {"discount": 1.5},
        {"target_rate": 0.0},
        {"expectile": 1.0},
        {"rewards": "gaol"},
        {"compile": True},
    ]
    for wrong in nonsense:
        with pytest.raises(ConfigError):
            IQLConfig(**wrong)
    with pytest.raises(ConfigError, match="needs a critic"):
        IQLConfig().build(Still(0.0), None)
    with pytest.raises(ConfigError, match="one observation"):
        ChunkCriticConfig(inputs=InputConfig(history=2))
    with pytest.raises(ConfigError):
        AWR(temperature=0.0)
