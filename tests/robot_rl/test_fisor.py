"""FISOR: targets and weights by hand, violations in recorded episodes, and a chain whose safe places are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.violations import violations
from data.windows import WindowConfig, WindowSampler
from policies.feasibility import FeasibleCriticConfig
from policies.gcbc import GCBCConfig
from policies.inputs import InputConfig
from policies.values import ChunkCriticConfig
from robot_rl import offline_losses
from robot_rl.algorithms.fisor import LEAST_WEIGHT, FISORConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.offline import AWR
from robot_rl.costs import Bound, CostConfig
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec
from tests.robot_rl.test_offline import QUICK, Still, Table

NO_GOAL = InputConfig(goal=False)
CLIFF = CostConfig(bounds=(Bound("x", above=5.5, margin=0.5),), takeovers=False, failures=False)
DISCOUNT = 0.9


def tensor(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_the_target_by_hand():
    """One step: 0.1 h + 0.9 max(h, V). Rows: worse to come, worst is now, the end (whose own violation counts)."""
    violation = torch.tensor([[-1.0, 0.3], [0.8, -1.0], [-1.0, 0.5]])
    target = offline_losses.feasibility_target(
        violation, torch.ones(3, 1), tensor(0.4, -0.2, -9.0), tensor(0.0, 0.0, 1.0), DISCOUNT
    )
    torch.testing.assert_close(target, tensor(-0.1 + 0.36, 0.08 + 0.72, -0.1 + 0.45))


def test_the_target_of_several_actions_is_that_of_one_after_the_other():
    violation = torch.tensor([[-1.0, 0.5, -0.6, -0.8]]).repeat(2, 1)
    known = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])  # the second was cut short after two
    violation[1, 3] = violation[1, 2]
    target = offline_losses.feasibility_target(violation, known, tensor(0.1, 0.1), tensor(0.0, 0.0), DISCOUNT)
    third = 0.1 * -0.6 + 0.9 * 0.1
    wanted = []
    for following in (third, 0.1):
        second = 0.1 * 0.5 + 0.9 * max(0.5, following)
        wanted.append(0.1 * -1.0 + 0.9 * max(-1.0, second))
    torch.testing.assert_close(target, tensor(*wanted))
    ended = offline_losses.feasibility_target(violation[1:], known[1:], tensor(9.0), tensor(1.0), DISCOUNT)
    torch.testing.assert_close(ended, tensor(0.1 * -1.0 + 0.9 * (0.1 * 0.5 + 0.9 * 0.5)))


def test_the_reversed_expectile_goes_to_the_least():
    """Of values 0 and 1, alike often: 0.9 (v - 0) = 0.1 (1 - v), so v = 0.1; the plain one is 0.9."""
    drawn = torch.tensor([0.0, 1.0])
    for weigh, wanted in ((offline_losses.reversed_expectile_weight, 0.1), (offline_losses.expectile_weight, 0.9)):
        v = torch.tensor(wanted, requires_grad=True)
        (weigh(drawn - v.detach(), 0.9) * (drawn - v).square()).mean().backward()
        assert v.grad is not None and abs(float(v.grad)) < 1e-6


def test_weights_by_hand():
    """Stays safe, leaves safety, recovers."""
    weight = offline_losses.feasibility_weight(
        tensor(-1, -1, 1), tensor(0.0, 0.1, 0.5), tensor(2, 2, 2), tensor(3, 3, 3)
    )
    assert weight.tolist() == [2.0, 0.0, 3.0]


class Both(Table):
    """Rewards as in `Table`; feasibility Q = 0.1 x + 0.2 a and 0.05 x + 0.4 a, V = -0.3 x."""

    def __init__(self):
        super().__init__()
        self.feasibility = Table()
        with torch.no_grad():
            self.feasibility.w.copy_(torch.tensor([[0.1, 0.2], [0.05, 0.4]]))
            self.feasibility.u.fill_(-0.3)


def one_window(learner, violation):
    """x = 2, a = 0.4, next x = 3."""
    arrays = {
        "observation/state": np.array([[2.0], [3.0], [9.0]], np.float32),
        "executed_action": np.array([[0.4], [0.0]], np.float32),
        "reward": np.zeros(2, np.float32),
        "terminated": np.array([False, True]),
    }
    given = np.asarray(violation, np.float32)
    sampler = WindowSampler(
        arrays, np.array([2]), WindowConfig(horizon=1), returns=learner.offline.returns(1), violation=given
    )
    return learner.load(sampler.windows(np.array([0]), np.random.default_rng(0)))


def test_feasibility_by_hand():
    learner = FISORConfig(discount=0.9, feasibility_expectile=0.8).build(Still(0.0), Both())
    loss, metrics = learner.feasibility_loss(one_window(learner, [0.2, -0.4, 0.0]))
    q, v = np.array([0.2 + 0.08, 0.1 + 0.16]), -0.6
    target = 0.1 * 0.2 + 0.9 * max(0.2, -0.9)
    wanted = 0.2 * (q.max() - v) ** 2 + ((q - target) ** 2).sum()  # Q above V: the smaller weight
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
    assert float(metrics["q_h"]) == pytest.approx(0.28) and float(metrics["infeasible"]) == 0.0


@pytest.mark.parametrize(("slope", "wanted"), [(-0.3, LEAST_WEIGHT), (0.3, np.exp((0.6 - 0.28) / 0.5))])
def test_unsafe_actions_are_imitated_only_where_nothing_is_safe(slope, wanted):
    learner = FISORConfig(recovery=AWR(temperature=0.5)).build(Still(0.0), Both())
    with torch.no_grad():
        learner.feasibility.u.fill_(slope)  # pyright: ignore[reportAttributeAccessIssue]
    weight = learner.weight(one_window(learner, [0.0, 0.0, 0.0]))
    assert float(weight) == pytest.approx(wanted, rel=1e-5)


def test_windows_hold_the_violations_of_the_steps_that_are_summed():
    arrays = {
        "observation/state": np.zeros((7, 1), np.float32),
        "executed_action": np.zeros((5, 1), np.float32),
        "reward": np.zeros(5, np.float32),
        "terminated": np.zeros(5, bool),
    }
    given = np.arange(7, dtype=np.float32)  # the first episode has rows 0 to 3, the second 4 to 6
    returns = FISORConfig().returns(2)
    sampler = WindowSampler(arrays, np.array([3, 5]), WindowConfig(horizon=2), returns=returns, violation=given)
    windows = sampler.windows(np.array([0, 2, 3]), np.random.default_rng(0))
    assert windows.violation.tolist() == [[0, 1, 2], [2, 3, 3], [4, 5, 6]]
    plain = WindowSampler(arrays, np.array([3, 5]), WindowConfig(horizon=2), returns=returns)
    assert plain.windows(np.array([0]), np.random.default_rng(0)).violation.shape == (1, 0)


def recorded():
    """Three episodes of 3, 2 and 2 steps: a rescue that succeeds, a failure, one that ran out of time."""
    arrays = {
        "observation/state": np.array([[0, 1], [0, 2], [0, 3], [0, 4], [0, 9], [0, 1], [0, 1], [5, 0], [0, 0], [0, 0]]),
        "is_intervention": np.array([False, True, True, True, False, False, False]),
        "terminated": np.array([False, False, True, False, True, False, False]),
    }
    return arrays, np.array([3, 5, 7]), np.array([True, False, False])


def test_violations_of_events():
    arrays, ends, success = recorded()
    found = violations(arrays, ends, success, ("x", "y"), CostConfig())
    assert np.flatnonzero(found > 0).tolist() == [1, 6]  # the takeover; the end of the failure; no start of an episode
    assert set(found.tolist()) == {-1.0, 1.0}
    only = violations(arrays, ends, success, (), CostConfig(takeovers=False))
    assert np.flatnonzero(only > 0).tolist() == [6]


def test_violations_of_bounds():
    arrays, ends, success = recorded()
    cost = CostConfig((Bound("y", above=3.5, margin=2.0), Bound("x", above=10.0, below=-3.0)), False, False)
    found = violations(arrays, ends, success, ("x", "y"), cost)
    np.testing.assert_allclose(found, [-1.0, -0.75, -0.25, 0.25, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0])


def test_what_cannot_tell_anything_is_refused():
    arrays, ends, success = recorded()
    for wrong, said in (
        (lambda: CostConfig((), False, False), "nothing is a violation"),
        (lambda: Bound("x"), "neither"),
        (lambda: Bound("x", above=1.0, margin=0.0), "margin"),
        (lambda: FISORConfig(feasibility_expectile=1.0), "feasibility_expectile"),
        (lambda: FISORConfig().build(Still(0.0), Table()), "critic=fisor"),
        (lambda: FISORConfig().build(Still(0.0), None), "needs a critic"),
    ):
        with pytest.raises(ConfigError, match=said):
            wrong()
    with pytest.raises(UnknownNameError, match="x, y"):
        violations(arrays, ends, success, ("x", "y"), CostConfig((Bound("z", above=0.0),)))
    for bound, share in ((100.0, "0%"), (-100.0, "100%")):
        with pytest.raises(DataError, match=share):
            violations(arrays, ends, success, ("x", "y"), CostConfig((Bound("x", above=bound),), False, False))


def step(x, a):
    """Places 0 to 6; from 4 on the slope carries one down whatever one does, and 6 is the violation."""
    return min(x + 1, 6) if x >= 4 else int(np.clip(x + np.sign(a), 0, 6))


def chain(episodes=400, seed=0):
    """Walks at random, cut short after eight steps or ended at 6; higher places are worth more, 6 is worth 3.6."""
    rng = np.random.default_rng(seed)
    states, actions, rewards, ended, ends = [], [], [], [], []
    for _ in range(episodes):
        x = int(rng.integers(0, 6))
        states.append(x)
        for _ in range(8):
            a = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0))
            following = step(x, a)
            rewards.append(0.1 * following + 3.0 * (following == 6))
            x = following
            states.append(x)
            actions.append(a)
            ended.append(x == 6)
            if x == 6:
                break
        ends.append(len(actions))
    arrays = {
        "observation/state": np.asarray(states, np.float32)[:, None],
        "executed_action": np.asarray(actions, np.float32)[:, None],
        "reward": np.asarray(rewards, np.float32),
        "terminated": np.asarray(ended, bool),
    }
    return arrays, np.asarray(ends)


SAFE = tensor(-1, -1, -1, -1, 2 * DISCOUNT**2 - 1, 2 * DISCOUNT - 1, 1)
"""V_h of the places: -1 where one can stay away; else the discount times V_h of the next, less 1 - discount."""


def test_iterated_targets_find_the_feasible_set_of_the_chain():
    h = tensor(-1, -1, -1, -1, -1, -1, 1)
    value = torch.zeros(7)
    for _ in range(300):
        each = []
        for a in (-1.0, 1.0):
            to = torch.tensor([step(x, a) for x in range(7)])
            pair, at_end = torch.stack([h, h[to]], 1), (to == 6).float()
            each.append(offline_losses.feasibility_target(pair, torch.ones(7, 1), value[to], at_end, DISCOUNT))
        value = torch.stack(each).amin(0)
    torch.testing.assert_close(value, SAFE)


@pytest.fixture(scope="module")
def learned():
    arrays, ends = chain()
    spec = ObservationSpec({"state": ArraySpec((1,), names=("x",))})
    action = ActionSpec(("x",), 0.1, 0.1)
    config = FISORConfig(
        **QUICK,
        cost=CLIFF,
        discount=DISCOUNT,
        value_range=(0.0, 6.0),
        feasibility_expectile=0.95,
        extraction=AWR(temperature=0.3),
    )
    torch.manual_seed(0)
    policy = GCBCConfig(inputs=NO_GOAL, hidden=(64, 64), normalize=True)
    model = policy.build(spec, action)
    critic = FeasibleCriticConfig(inputs=NO_GOAL, hidden=(64, 64)).build(spec, action)
    state, moved = arrays["observation/state"], arrays["executed_action"]
    moments = {"state": (state.mean(0), state.std(0)), "action": (moved.mean(0), moved.std(0))}
    model.fit_normalizers(moments)
    critic.fit_normalizers(moments)
    found = violations(arrays, ends, np.zeros(len(ends), bool), ("x",), CLIFF)
    returns = config.returns(1)
    sampler = WindowSampler(arrays, ends, WindowConfig(horizon=1), returns=returns, violation=found)
    learner = config.build(model, critic)
    for number in range(800):
        learner.update(sampler.batch(number, 128))
    return learner


def test_the_feasible_set_of_the_chain_is_learned(learned):
    net: Any = learned.feasibility
    with torch.no_grad():
        features = net.features({"state": torch.arange(6.0).view(6, 1, 1)}, {})
        value = net.head.value(net.v(features))
        down, up = (net.head.value(net.q(features, torch.full((6, 1, 1), a))).amax(0) for a in (-0.7, 0.7))
    assert (value > 0).tolist() == [False, False, False, False, True, True]
    assert (down > 0).tolist() == [False, False, False, False, True, True]
    assert (up > 0).tolist() == [False, False, False, True, True, True]
    torch.testing.assert_close(value, SAFE[:6], atol=0.25, rtol=0)


def test_the_policy_goes_for_rewards_where_that_is_safe(learned):
    """Up is worth more everywhere, at 3 as well, where it leads over the edge."""
    critic, model = learned.critic, learned.acting
    with torch.no_grad():
        features = critic.features({"state": torch.full((2, 1, 1), 3.0)}, {})
        down, up = critic.head.value(critic.q(features, tensor(-0.7, 0.7).view(2, 1, 1))).amin(0)
    assert float(up) > float(down) + 0.1
    noise = torch.zeros(4, 1, 1)
    with torch.no_grad():
        action = model.sample({"state": torch.arange(4.0).view(4, 1, 1)}, None, noise)[:, 0, 0]
    assert float(action[1]) > 0.2 and float(action[2]) > 0.2 and float(action[3]) < -0.1


def test_it_resumes_with_the_same_tensors_and_iql_refuses_its_critic():
    learner = FISORConfig().build(Still(0.0), Both())
    again = FISORConfig(seed=3).build(Still(1.0), Both())
    again.load_state_dict(learner.state_dict())
    for name, value in learner.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    assert isinstance(learner.feasibility, nn.Module) and "critic.feasibility.w" in learner.state_dict()
    assert IQLConfig().costs() is None and replace(FISORConfig(), cost=CLIFF).costs() == CLIFF
    assert ChunkCriticConfig().members == FeasibleCriticConfig().members
