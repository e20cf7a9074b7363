"""Regularised offline RL: losses against cases computed by hand, neighbours by search, and what each does on a toy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.windows import WindowConfig, WindowSampler
from policies.family import FamilyConfig
from robot_rl import offline_losses
from robot_rl.algorithms.a2pr import A2PRConfig
from robot_rl.algorithms.dynamics import Dynamics
from robot_rl.algorithms.famo2o import FamO2OConfig
from robot_rl.algorithms.flat import FlatAdam, FlatParameters
from robot_rl.algorithms.prdc import Neighbours, PRDCConfig
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.algorithms.uni_o4 import UniO4Config
from robot_rl.errors import ConfigError
from tests.robot_rl.test_offline import (
    ACTION,
    AT,
    CLONE,
    NO_GOAL,
    QUICK,
    SMALL,
    SPEC,
    Still,
    Table,
    acts,
    bandit,
    one_window,
    values,
)


class TableWithFeatures(Table):
    feature_dim = 1


def learn(config, policy=CLONE, data=None, updates=300, study=True):
    arrays, ends = data or bandit()
    torch.manual_seed(config.seed)
    model, net = policy.build(SPEC, ACTION), SMALL.build(SPEC, ACTION)
    state, action = arrays["observation/state"], arrays["executed_action"]
    moments = {"state": (state.mean(0), state.std(0)), "action": (action.mean(0), action.std(0))}
    model.fit_normalizers(moments)
    net.fit_normalizers(moments)
    sampler = WindowSampler(arrays, ends, WindowConfig(horizon=1), seed=config.seed, returns=config.returns(1))
    learner = config.build(model, net, None)
    if study:
        learner.study(sampler.every(100))
    for number in range(updates):
        learner.update(sampler.batch(number, 64))
    return learner, sampler


def test_td3_bc_by_hand():
    config = TD3BCConfig(policy_noise=0.0, discount=0.9, value_range=None)
    learner = config.build(Still(0.5), TableWithFeatures())
    loss, _ = learner.critic_loss(learner.load(one_window(learner)))
    target = 0.3 + 0.9 * (3.0 + 0.25)  # the lesser member's Q at the next x, of the policy's action
    q = np.array([2.2, 4.4])
    assert float(loss.detach()) == pytest.approx(((q - target) ** 2).sum() + (1.6 - target) ** 2, rel=1e-5)


def test_noise_on_the_next_action_is_clipped():
    config = TD3BCConfig(policy_noise=100.0, noise_clip=0.1, discount=1.0, value_range=None)
    learner = config.build(Still(0.5), TableWithFeatures())
    data = learner.load(one_window(learner))
    targets = {round(0.3 + 3.0 + 0.5 * (0.5 + noise), 4) for noise in (-0.1, 0.1)}
    v = 1.6
    found = set()
    for _ in range(20):
        loss = float(learner.critic_loss(data)[0].detach())
        found |= {t for t in targets if (2.2 - t) ** 2 + (4.4 - t) ** 2 + (v - t) ** 2 == pytest.approx(loss, 1e-4)}
    assert found == targets


def test_neighbours_are_those_of_a_search_of_all():
    rng = np.random.default_rng(0)
    states, chunks = rng.normal(3.0, [0.5, 5.0], (200, 2)), rng.uniform(-1, 1, (200, 3, 2))
    for beta in (0.0, 2.0):
        at, proposed = rng.normal(3.0, [0.5, 5.0], (20, 2)), rng.uniform(-1, 1, (20, 3, 2))
        apart = (((at[:, None] - states) / states.std(0)) ** 2).sum(-1) * beta**2
        apart = apart + ((proposed[:, None] - chunks) ** 2).sum((-1, -2))
        np.testing.assert_array_equal(Neighbours(states, chunks, beta).nearest(at, proposed), chunks[apart.argmin(1)])


def test_prdc_by_hand():
    """The policy does 0.1 at x = 2; the data know 0.4 there and 0.0 at x = 3, nearer only if x hardly counts."""
    for beta, nearest in ((2.0, 0.4), (0.01, 0.0)):
        learner = PRDCConfig(beta=beta, weight=3.0).build(Still(0.1), TableWithFeatures())
        arrays = {
            "observation/state": np.array([[2.0], [3.0], [9.0]], np.float32),
            "executed_action": np.array([[0.4], [0.0]], np.float32),
            "reward": np.zeros(2, np.float32),
            "terminated": np.array([False, True]),
        }
        learner.study(WindowSampler(arrays, np.array([2]), WindowConfig(horizon=1)).every(1))
        loss, _ = learner.policy_loss(learner.load(one_window(learner)))
        (slope,) = torch.autograd.grad(loss, learner.model.parameters())
        q = 2.0 + 0.05
        assert float(loss.detach()) == pytest.approx(3.0 * (0.1 - nearest) ** 2 - 1.0, rel=1e-4)
        assert float(slope) == pytest.approx(3.0 * 2.0 * (0.1 - nearest) - 0.5 / q, rel=1e-4)


def test_the_better_of_two_actions_by_hand():
    known, offered = torch.full((4, 1, 1), 0.1), torch.full((4, 1, 1), 0.7)
    advantage, other = torch.tensor([1.0, 1.0, -1.0, -2.0]), torch.tensor([2.0, -1.0, 0.0, -1.0])
    better, weight = offline_losses.better_action(known, offered, advantage, other)
    assert better.flatten().tolist() == pytest.approx([0.7, 0.1, 0.7, 0.7])
    assert weight.tolist() == [2.0, 1.0, 1.0, 0.0]


def test_the_autoencoders_loss_by_hand():
    mean, log_std = torch.tensor([[0.5, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, math.log(2.0)], [0.0, 0.0]])
    loss = offline_losses.advantage_vae_loss(torch.tensor([3.0, 5.0]), mean, log_std, torch.tensor([0.1, -0.1]), 0.5)
    divergence = (0.5 * 0.25 + 0.5 * (4.0 - 1.0 - 2.0 * math.log(2.0))) / 4.0
    assert float(loss) == pytest.approx(3.0 / 2.0 + 0.5 * divergence)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.5, 2.0), torch.distributions.Normal(0.0, 1.0)
    )
    one = offline_losses.advantage_vae_loss(
        torch.zeros(1), torch.tensor([[0.5]]), torch.tensor([[math.log(2.0)]]), torch.ones(1), 1.0
    )
    assert float(one) == pytest.approx(float(exact))


def test_a2pr_by_hand():
    """Q = 2.2 of the data's action, V = 1.6; the offer is fixed: 0.9 with Q = 2.45 is imitated, and counts twice."""
    learner = A2PRConfig(weight=3.0, hidden=(4,)).build(Still(0.1), TableWithFeatures())
    learner._offer = lambda features: torch.full((1, 1), 0.9)
    loss, metrics = learner.policy_loss(learner.load(one_window(learner)))
    assert float(loss.detach()) == pytest.approx(3.0 * 2.0 * (0.9 - 0.1) ** 2 - 1.0, rel=1e-5)
    learner._offer = lambda features: torch.full((1, 1), -1.0)  # Q = 1.5, below V: the data's action, once
    loss, _ = learner.policy_loss(learner.load(one_window(learner)))
    assert float(loss.detach()) == pytest.approx(3.0 * (0.4 - 0.1) ** 2 - 1.0, rel=1e-5)
    assert float(metrics["imitated"]) == 2.0


def test_the_autoencoder_offers_what_was_better_than_usual():
    learner, sampler = learn(A2PRConfig(**QUICK, hidden=(32, 32)))
    data = learner.load(sampler.batch(10**6, 512))
    offered = learner._offer(learner.critic.features(data.observation, data.policy.goal)).detach()
    x = data.observation["state"][:, 0]
    assert float((offered > x + 0.2).float().mean()) > 0.8  # what succeeds; of what was done half
    assert 0.3 < float((data.action[:, 0] > x + 0.2).float().mean()) < 0.7


class Member(nn.Module):
    """A family that can be computed by hand: does its coefficient times w, the balance model says b everywhere."""

    horizon, action_dim = 1, 1

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(0.05)), nn.Parameter(torch.tensor(4.0))

    def draw(self, batch, generator):
        return torch.full((batch,), 2.0)

    def family_loss(self, windows, coefficient):
        return ((windows.action[:, 0, 0] - coefficient * self.w).square() * windows.mask[:, 0]).mean()

    def balanced(self, observation, goal):
        return (self.b * self.w.detach()).view(1, 1, 1), self.b.view(1)

    def loss(self, windows, generator):
        raise NotImplementedError


def test_famo2o_by_hand():
    learner = FamO2OConfig(value_range=None).build(Member(), TableWithFeatures())
    loss, metrics = learner.policy_loss(learner.load(one_window(learner)))
    weight = math.exp(2.0 * (2.2 - 1.6))  # the coefficient times the advantage
    q = 2.0 + 0.5 * 4.0 * 0.05
    assert float(loss.detach()) == pytest.approx(weight * (0.4 - 0.1) ** 2 - 1.0, rel=1e-5)
    to_w, to_b = torch.autograd.grad(loss, [learner.model.w, learner.model.b])
    assert float(to_w) == pytest.approx(weight * 2.0 * (0.1 - 0.4) * 2.0, rel=1e-4)
    assert float(to_b) == pytest.approx(-0.5 * 0.05 / q, rel=1e-4)
    assert float(metrics["coefficient"]) == 4.0


def test_a_ratio_of_gaussians_and_its_clipping_by_hand():
    action, new, old = (torch.tensor([[[one]], [[one]]]) for one in (0.5, 0.3, 0.1))
    log_ratio = offline_losses.log_gaussian_ratio(action, new, old, 0.2)
    normal = [torch.distributions.Normal(one, 0.2).log_prob(torch.tensor(0.5)) for one in (0.3, 0.1)]
    assert float(log_ratio[0]) == pytest.approx(float(normal[0] - normal[1]), rel=1e-5)
    ratio = math.exp(float(log_ratio[0]))  # 4.5: what is gained is clipped, what is lost is not
    loss = offline_losses.clipped_surrogate(log_ratio, torch.tensor([2.0, -3.0]), 0.25)
    assert float(loss) == pytest.approx(-(1.25 * 2.0 - ratio * 3.0) / 2.0, rel=1e-5)


def test_diverse_cloning_by_hand():
    means = torch.tensor([0.0, 0.1, 0.5]).view(3, 1, 1, 1).requires_grad_()
    loss = offline_losses.diverse_cloning_loss(means, torch.full((1, 1, 1), 0.2), torch.ones(1, 1), 0.5)
    assert float(loss.detach()) == pytest.approx(0.04 + 0.01 + 0.09 - 0.5 * (0.01 + 0.01 + 0.16), rel=1e-5)
    (slope,) = torch.autograd.grad(loss, means)
    wanted = [2 * (-0.2) - 0.5 * 2 * (-0.1), 2 * (-0.1) - 0.5 * 2 * 0.1, 2 * 0.3 - 0.5 * 2 * 0.4]
    assert slope.flatten().tolist() == pytest.approx(wanted, rel=1e-4)


class StillMean(Still):
    gives_mean = True


def studied(**wanted):
    """Uni-O4 on a table of values, with a model that adds 0.5 a to x whatever it was taught."""
    learner = UniO4Config(members=2, rollout_states=2, value_range=None, **wanted).build(
        StillMean(0.1), TableWithFeatures()
    )
    arrays = {
        "observation/state": np.array([[2.0], [3.0], [9.0]], np.float32),
        "executed_action": np.array([[0.4], [0.0]], np.float32),
        "reward": np.zeros(2, np.float32),
        "terminated": np.array([False, True]),
    }
    learner.study(WindowSampler(arrays, np.array([2]), WindowConfig(horizon=1)).every(1))
    learner._starts = torch.tensor([[2.0], [4.0]])
    learner.dynamics.forward = lambda state, chunk: state + 0.5 * chunk[:, 0]
    return learner


def test_a_policy_stands_as_q_says_along_its_way_by_hand():
    learner = studied(rollout_chunks=2)
    assert float(learner.standing(StillMean(0.4))) == pytest.approx(np.mean([2.2, 4.2, 2.4, 4.4]), rel=1e-5)


def test_only_what_stands_better_is_approved_and_the_best_acts():
    learner = studied()
    for member, approved, new, old in zip(learner._members, learner._approved, (0.3, -0.5), (0.2, 0.1), strict=True):
        member.action.data.fill_(new)
        approved.action.data.fill_(old)
    metrics = learner.select()
    assert [float(one.action.detach()) for one in learner._approved] == pytest.approx([0.3, 0.1])
    assert float(learner.acting.action) == float(learner.model.action.detach()) == pytest.approx(0.3)
    assert float(metrics["approved"]) == 0.5


def test_the_model_learns_linear_dynamics():
    rng = np.random.default_rng(0)
    states, chunks = rng.normal(0, [1.0, 9.0], (2000, 2)), rng.uniform(-1, 1, (2000, 1, 1))
    following = states @ np.array([[1.0, 0.3], [0.1, 0.9]]) + 0.5 * chunks[:, 0]
    torch.manual_seed(0)
    model = Dynamics(np.float32(states), np.float32(following - states), 1, (32,))
    adam = FlatAdam(FlatParameters(model), 3e-3)
    tensors = [torch.from_numpy(np.float32(one)) for one in (states, chunks, following)]
    for _ in range(400):
        adam.minimise(model.loss(*tensors, torch.ones(2000)))
    with torch.no_grad():
        error = (model(*tensors[:2]) - tensors[2]).square().mean(0).sqrt() / tensors[2].sub(tensors[0]).std(0)
    assert float(error.max()) < 0.1
    nothing = torch.zeros(2000)
    nothing[0] = 1.0
    one = model.loss(*(tensor[:1] for tensor in tensors), torch.ones(1))
    assert float(model.loss(*tensors, nothing)) == pytest.approx(float(one), rel=1e-4)


def test_uni_o4_improves_on_what_it_cloned():
    config = UniO4Config(**QUICK, members=2, cloning_updates=150, try_every=25, rollout_chunks=1, updates=450)
    cloned, _ = learn(config, updates=150)
    learner, sampler = learn(config, updates=450)
    at = torch.linspace(-0.8, 0.4, 50).tolist()
    gain = acts(learner, at) - acts(cloned, at)
    assert float(gain.mean()) > 0.2
    again, _ = learn(config, updates=1)
    again.load_state_dict(learner.state_dict())
    one, two = (each.update(sampler.batch(450, 64)) for each in (learner, again))
    assert {key: float(value) for key, value in one.items()} == {key: float(value) for key, value in two.items()}


FAMILY = FamilyConfig(inputs=NO_GOAL, hidden=(32, 32), normalize=True, coefficients=(0.5, 20.0))


def test_the_greedier_member_does_what_succeeds_and_the_balance_model_chooses_it():
    learner, _ = learn(FamO2OConfig(**QUICK), FAMILY)
    model, at = learner.acting, torch.tensor(AT)
    features = model._features({"state": at[:, None, None]}, {})
    with torch.no_grad():
        members = [
            model.actions.inverse(model.net(model._told(features, torch.full((3,), one))))[:, 0] for one in (0.5, 20.0)
        ]
        chosen = model._choose(features)
    assert (members[1] > members[0] + 0.1).all() and (members[1] > at + 0.2).all()
    assert (chosen > 10.25).all()  # the middle of the range
    assert (acts(learner, AT) > at + 0.2).all()


@pytest.mark.parametrize(
    "config",
    [TD3BCConfig(**QUICK), PRDCConfig(**QUICK, weight=0.1), A2PRConfig(**QUICK, weight=0.1, hidden=(32, 32))],
    ids=["td3_bc", "prdc", "a2pr"],
)
def test_they_do_what_succeeds(config):
    learner, _ = learn(config)
    assert (acts(learner, AT) > torch.tensor(AT) + 0.2).all()
    assert (values(learner, AT, 0.9) > values(learner, AT, -0.9) + 0.4).all()


def test_prdc_stays_where_actions_were_done():
    """Success from 0.5 on, but nobody pushed harder than 0.6: TD3 alone, with nothing to stay near, goes beyond."""
    arrays, ends = bandit()
    kept = np.repeat(arrays["executed_action"][:, 0] <= 0.6, 2)
    arrays = {key: one[kept if len(one) == len(kept) else kept[::2]] for key, one in arrays.items()}
    ends = 1 + np.arange(len(arrays["reward"]))
    near, _ = learn(PRDCConfig(**QUICK, weight=5.0), data=(arrays, ends))
    free, _ = learn(PRDCConfig(**QUICK, weight=0.0), data=(arrays, ends))
    assert float(acts(near, AT).max()) < 0.75 < float(acts(free, AT).max())


def test_a2pr_resumes_exactly():
    config = A2PRConfig(**QUICK, hidden=(8,))
    learner, sampler = learn(config, updates=4)
    again, _ = learn(config, updates=1)
    again.load_state_dict(learner.state_dict())
    one, two = (each.update(sampler.batch(4, 64)) for each in (learner, again))
    assert {key: float(value) for key, value in one.items()} == {key: float(value) for key, value in two.items()}


def test_the_autoencoder_is_drawn_from_the_seed():
    """Whatever was drawn before: the same command gives the same run."""
    built = []
    for before in (1, 2):
        torch.manual_seed(before)
        torch.rand(3)
        learner = A2PRConfig(hidden=(4,), seed=5).build(Still(0.0), TableWithFeatures())
        built.append(learner.state_dict())
    named = [name for name in built[0] if name.startswith("vae.")]
    assert named and all(torch.equal(built[0][name], built[1][name]) for name in named)


def test_nonsense_is_refused():
    nonsense: list[tuple[Any, dict[str, Any]]] = [
        (TD3BCConfig, {"policy_noise": -1.0}),
        (PRDCConfig, {"weight": -1.0}),
        (PRDCConfig, {"beta": -1.0}),
        (A2PRConfig, {"hidden": ()}),
        (FamO2OConfig, {"largest": 0.0}),
        (FamilyConfig, {"coefficients": (2.0, 1.0)}),
    ]
    for kind, wrong in nonsense:
        with pytest.raises(ConfigError):
            kind(**wrong)
    with pytest.raises(ConfigError, match="policy=regression"):
        UniO4Config().build(Still(0.0), TableWithFeatures())
    with pytest.raises(ConfigError, match="rewards=task"):
        UniO4Config(rewards="goal")
    with pytest.raises(ConfigError, match="policy=family"):
        FamO2OConfig().build(Still(0.0), TableWithFeatures())
    with pytest.raises(ConfigError, match="studied"):
        learn(PRDCConfig(), updates=1, study=False)
