"""Acting: shapes, determinism, exploration, and parameters that do or do not fit."""

import time
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import STD_MAX, STD_MIN, GaussianConfig, GaussianPolicy
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec
from tests.learning import GRASP, PIXEL_SPEC, REACH, SMALL, STATE_SPEC, make_networks, make_observation


def make(spec=STATE_SPEC, action=GRASP, deterministic=True, config=SMALL, seed=0):
    return GaussianPolicy(config, spec, action, seed, deterministic)


def observation(spec=STATE_SPEC, seed=0):
    return {key: array[0] for key, array in make_observation(spec, np.random.default_rng(seed), 1).items()}


def state_of(policy):
    return {name: tensor.clone() for name, tensor in policy._networks.state_dict().items()}


@pytest.mark.parametrize("spec", [STATE_SPEC, PIXEL_SPEC])
@pytest.mark.parametrize("action", [GRASP, REACH])
@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_fit_their_spec(spec, action, deterministic):
    policy = make(spec, action, deterministic)
    for seed in range(10):
        act = policy.act(observation(spec, seed))
        action.check(act)
        assert act.dtype == np.float32 and np.abs(act).max() <= 1.0
        if action.has_gripper:
            assert act[-1] in (-1.0, 0.0, 1.0)


def test_acts_as_the_learners_networks_say():
    """Mean squashed, gripper greedy: what the learner's own modules compute for a batch."""
    networks = make_networks(seed=3)
    policy = make()
    policy.load(7, networks.state_dict())
    rows = make_observation(STATE_SPEC, np.random.default_rng(1), 20)
    with torch.no_grad():
        features = networks.encoder({"state": torch.from_numpy(rows["state"])})
        mean, _ = networks.actor(features)
        assert networks.gripper is not None
        choice = networks.gripper(features).argmax(1)
    expected = torch.cat([mean.tanh(), choice.unsqueeze(1) - 1.0], 1).numpy()
    acted = np.stack([policy.act({"state": state}) for state in rows["state"]])
    np.testing.assert_allclose(acted, expected, atol=1e-5)
    assert policy.version == 7


def test_samples_have_the_actors_mean_and_spread():
    policy = make(deterministic=False, action=REACH)
    seen = observation()
    with torch.no_grad():
        mean, std = policy._networks.actor(torch.from_numpy(seen["state"]).unsqueeze(0))
    before = np.arctanh(np.clip([policy.act(seen) for _ in range(3000)], -1 + 1e-6, 1 - 1e-6))
    np.testing.assert_allclose(before.mean(0), mean[0], atol=0.12 * std.max().item())
    np.testing.assert_allclose(before.std(0), std[0], rtol=0.1)


def test_seed_repeats_what_is_sampled():
    one, two = (make(deterministic=False, seed=3).act(observation()) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    policy = make(deterministic=False)
    assert not np.array_equal(policy.act(observation()), policy.act(observation()))


def test_spread_keeps_its_bounds():
    actor: Any = make()._networks.actor
    for extreme, bound in ((-100.0, STD_MIN), (100.0, STD_MAX)):
        actor.net.layers[-1].fill_(extreme)
        _, std = actor(torch.zeros(1, 5))
        torch.testing.assert_close(std, torch.full_like(std, bound))


@pytest.mark.parametrize(("epsilon", "least"), [(0.0, 1), (1.0, 3)])
def test_gripper_explores_only_when_asked_to(epsilon, least):
    config = GaussianConfig(hidden=(32, 32), gripper_epsilon=epsilon)
    policy = make(config=config, deterministic=False)
    assert len({float(policy.act(observation())[-1]) for _ in range(60)}) == least
    greedy = make(config=config, deterministic=True)
    assert len({float(greedy.act(observation())[-1]) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    "make_algorithm",
    [lambda networks: RLPD(RLPDConfig(hidden=(32, 32)), networks), lambda networks: BC(BCConfig(), networks)],
)
def test_takes_the_parameters_of_every_algorithm(make_algorithm):
    policy = make(PIXEL_SPEC)
    policy.load(3, make_algorithm(make_networks(PIXEL_SPEC, seed=5)).policy_state())
    as_arrays = {name: value.numpy() for name, value in make_networks(PIXEL_SPEC, seed=6).state_dict().items()}
    policy.load(4, as_arrays)
    assert policy.version == 4


@pytest.mark.parametrize("damage", ["nan", "shape", "missing", "extra"])
def test_parameters_that_do_not_fit_are_named_and_change_nothing(damage):
    policy = make()
    tensors = state_of(make(seed=1))
    name = "actor.net.layers.0"
    assert name in tensors
    if damage == "nan":
        tensors[name][0, 0, 0] = float("nan")
    elif damage == "shape":
        tensors[name] = tensors[name][:, 1:]
    elif damage == "missing":
        del tensors[name]
    else:
        tensors["actor.extra"] = torch.zeros(1)
    before = state_of(policy)
    with pytest.raises(SpecError, match="actor"):
        policy.load(5, tensors)
    assert policy.version == 0
    assert all(torch.equal(before[key], value) for key, value in state_of(policy).items())


def test_building_the_networks_leaves_the_global_seed_alone_and_repeats():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two = make_networks(seed=4), make_networks(seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_an_observation_with_nothing_in_it_is_refused():
    with pytest.raises(ConfigError, match="neither"):
        make_networks(ObservationSpec({}))
    with pytest.raises(ConfigError, match="gripper_epsilon"):
        GaussianConfig(gripper_epsilon=2.0)


def test_acting_on_the_state_takes_less_than_a_millisecond_of_processor_time():
    spec = ObservationSpec({"state": ArraySpec((40,))})
    policy = make(spec, ActionSpec(("x", "y", "z", "gripper"), 0.02, 0.1), config=GaussianConfig())
    seen = observation(spec)
    times = []
    for _ in range(200):
        began = time.thread_time()
        policy.act(seen)
        times.append(time.thread_time() - began)
    assert np.median(times) < 2e-3  # 0.2 ms when nothing else runs
