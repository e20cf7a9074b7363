"""EXPO's policy: acts as the learner's networks say, with published parameters, on the newest observation, in time."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.expo import EXPOPolicy
from robot_rl.algorithms.networks import GRIPPER_VALUES
from robot_rl.errors import SpecError
from robot_rl.wire import decode_parameters, encode_parameters
from tests.learning import GRASP, PIXEL_SPEC, REACH, STATE_SPEC, make_batch, make_observation
from tests.robot_rl.test_expo import POLICY, make


def observation(spec=STATE_SPEC, seed=0):
    return {key: array[0] for key, array in make_observation(spec, np.random.default_rng(seed), 1).items()}


def best_by_hand(networks, seen, base, edit_noise=None):
    """The arm's action, candidate by candidate."""
    with torch.no_grad():
        features = networks.encoder({key: torch.from_numpy(value).unsqueeze(0) for key, value in seen.items()})
        candidates = []
        for index, one in enumerate(base):
            noise = None if edit_noise is None else edit_noise[index : index + 1]
            candidates += [one.unsqueeze(0), networks.actor.edit(features, one.unsqueeze(0), noise)[0]]
        values = [float(networks.critics(features, one).mean()) for one in candidates]
        return candidates[int(np.argmax(values))].squeeze(0).numpy()


@pytest.mark.parametrize("spec", [STATE_SPEC, PIXEL_SPEC])
@pytest.mark.parametrize("action", [GRASP, REACH])
@pytest.mark.parametrize("deterministic", [True, False])
def test_actions_fit_their_spec(spec, action, deterministic):
    policy = EXPOPolicy(POLICY, spec, action, 0, deterministic)
    for seed in range(5):
        acted = policy.act(observation(spec, seed))
        action.check(acted)
        assert acted.dtype == np.float32 and np.abs(acted).max() <= 1.0
        assert not action.has_gripper or acted[-1] in GRIPPER_VALUES


def test_acts_as_the_published_networks_say():
    """Parameters over the wire; the best of samples and mean edits, the gripper greedy."""
    algorithm = make(seed=3, acting_rate=1.0)
    for seed in range(3):
        algorithm.update(make_batch(seed))
    policy = EXPOPolicy(POLICY, STATE_SPEC, GRASP, deterministic=True)
    policy.load(*decode_parameters(encode_parameters(7, algorithm.policy_state())))
    assert policy.version == 7
    networks: Any = algorithm.networks
    noise = torch.from_numpy(policy._fixed)
    for seed in range(10):
        seen = observation(seed=seed)
        state = torch.from_numpy(seen["state"]).unsqueeze(0)
        base = networks.actor.propose(state, noise)[0]
        acted = policy.act(seen)
        np.testing.assert_allclose(acted[:2], best_by_hand(networks, seen, base), atol=1e-5)
        with torch.no_grad():
            assert acted[-1] == GRIPPER_VALUES[int(networks.gripper(state).argmax())]
        np.testing.assert_array_equal(acted, policy.act(seen))


def test_parameters_that_do_not_fit_change_nothing():
    policy = EXPOPolicy(POLICY, STATE_SPEC, GRASP)
    with pytest.raises(SpecError, match="critics"):
        policy.load(3, {name: value for name, value in make().policy_state().items() if "critics" not in name})
    assert policy.version == 0


def test_it_explores_unless_deterministic_and_a_seed_repeats_that():
    one, two = (EXPOPolicy(POLICY, STATE_SPEC, REACH, seed=3) for _ in range(2))
    first = one.act(observation())
    np.testing.assert_array_equal(first, two.act(observation()))
    assert not np.array_equal(first, one.act(observation()))


class Later:
    """An executor that runs what it was given only when told to."""

    def __init__(self):
        self.waiting = []

    def submit(self, work):
        future: Future[Any] = Future()
        self.waiting.append((work, future))
        return future

    def finish(self):
        work, future = self.waiting.pop()
        future.set_result(work())


def test_asynchronously_samples_may_be_old_but_edits_and_choice_see_the_present_observation():
    later = Later()
    policy = EXPOPolicy(replace(POLICY, asynchronous=True), STATE_SPEC, REACH, deterministic=True, executor=later)
    policy.load(1, make(action=REACH, seed=4).policy_state())
    networks: Any = policy._networks
    noise = torch.from_numpy(policy._fixed)
    seen = [observation(seed=seed) for seed in range(4)]
    base = [networks.actor.propose(torch.from_numpy(one["state"]).unsqueeze(0), noise)[0] for one in seen]
    policy.reset()

    def acts(now, sampled):
        np.testing.assert_allclose(policy.act(seen[now]), best_by_hand(networks, seen[now], base[sampled]), atol=1e-5)

    acts(0, 0)  # nothing is there yet: it samples by itself
    acts(1, 0)  # asks for samples of 1
    acts(2, 0)  # which have not come
    later.finish()
    acts(3, 1)  # now they have
    later.finish()
    policy.reset()
    acts(2, 2)  # a new episode does not begin with the last one's samples
    old, fresh = best_by_hand(networks, seen[0], base[0]), best_by_hand(networks, seen[1], base[0])
    assert not np.allclose(old, fresh, atol=1e-4)  # the observation did make a difference


def test_asynchronously_with_its_own_thread():
    policy = EXPOPolicy(replace(POLICY, asynchronous=True), STATE_SPEC, GRASP)
    for seed in range(20):
        GRASP.check(policy.act(observation(seed=seed)))
        policy.load(seed, make(seed=seed).policy_state())
    policy.reset()
    policy.close()
