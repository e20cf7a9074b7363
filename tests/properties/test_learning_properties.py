"""Fixed points worked out by hand, one per learning bug of public implementations that must not come back."""

from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from tests.learning import constant_batch, make_networks

DISCOUNT = 0.6
CONFIG = RLPDConfig(
    hidden=(16,),
    discount=DISCOUNT,
    learning_rate=1e-2,
    target_rate=0.2,
    gripper_margin=0.0,
    bc_weight=0.0,
    value_range=None,
    actor_every=10**6,
)


def converged(batch, updates=250, **changes):
    """Q of the only state and action there are, and the gripper's Q (close, keep, open), after learning."""
    config = RLPDConfig(**{**vars(CONFIG), **changes})
    algorithm = RLPD(config, make_networks(config=GaussianConfig(hidden=(16,))))
    for _ in range(updates):
        algorithm.update(batch)
    data = algorithm._load(batch)
    with torch.no_grad():
        # the action that the target evaluates is the policy's, so value it there
        features = algorithm.networks.encoder(data.observation)
        q = algorithm.critics(features, data.arm_action)
        assert algorithm.networks.gripper is not None
        return q[:, 0].numpy(), algorithm.networks.gripper(features)[0].numpy()


def mean_of_bootstrap(batch, **changes):
    """Regression target under a known next value: every target network says 5, whatever its inputs."""
    config = RLPDConfig(**{**vars(CONFIG), **changes})
    algorithm = RLPD(config, make_networks(config=GaussianConfig(hidden=(16,))))
    with torch.no_grad():
        targets: Any = algorithm._targets
        for target in (targets[1], targets[2]):
            target.net.layers[-2].zero_()
            target.net.layers[-1].fill_(5.0)
        data = algorithm._load(batch)
        features = algorithm.networks.encoder(data.next_observation)
        return algorithm._target(data, features, features).numpy()


def test_a_truncated_step_bootstraps_and_a_terminated_one_does_not():
    """Batch knows only `terminated`; a time limit leaves it 0, so the value beyond the limit counts."""
    np.testing.assert_allclose(mean_of_bootstrap(constant_batch(reward=1.0)), 1.0 + DISCOUNT * 5.0, rtol=1e-6)
    np.testing.assert_allclose(mean_of_bootstrap(constant_batch(reward=1.0, terminated=1.0)), 1.0)


@pytest.mark.parametrize("gripper", [-1.0, 0.0, 1.0])
def test_an_ending_is_worth_its_reward(gripper):
    q, gripper_q = converged(constant_batch(reward=0.7, terminated=1.0, gripper=gripper))
    np.testing.assert_allclose(q, 0.7, atol=0.02)
    assert gripper_q[int(gripper) + 1] == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("members", [2, 5])
def test_a_loop_is_worth_the_geometric_series(members):
    """Reward r in every step for ever: r / (1 - discount), when the policy repeats the action of the data."""
    config = RLPDConfig(**{**vars(CONFIG), "num_critics": members})
    algorithm = RLPD(config, make_networks(config=GaussianConfig(hidden=(16,))))
    with torch.no_grad():
        networks: Any = algorithm.networks
        actor = networks.actor.net.layers
        actor[-2].zero_()
        actor[-1].copy_(torch.tensor([0.0, 0.0, -20.0, -20.0]))  # mean 0, std at its floor: acts as the data does
    batch = constant_batch(reward=0.4)
    for _ in range(400):
        algorithm.update(batch)
    data = algorithm._load(batch)
    with torch.no_grad():
        q = algorithm.critics(algorithm.networks.encoder(data.observation), data.arm_action)
    np.testing.assert_allclose(q.numpy(), 0.4 / (1 - DISCOUNT), atol=0.05)


@pytest.mark.parametrize(("toggled", "expected"), [(0.0, 0.5), (1.0, 0.5 - 0.2)])
def test_bug_4_the_gripper_penalty_counts_in_every_update_and_for_the_gripper_alone(toggled, expected):
    """One update per step (UTD 1) included: elsewhere the penalty reaches only the extra updates."""
    batch = constant_batch(reward=0.5, terminated=1.0, gripper=1.0, toggled=toggled)
    for actor_every in (1, 2):
        q, gripper_q = converged(batch, gripper_penalty=-0.2, actor_every=actor_every)
        assert gripper_q[2] == pytest.approx(expected, abs=0.02)
        np.testing.assert_allclose(q, 0.5, atol=0.02)


def test_possible_returns_bound_the_target():
    bounded = mean_of_bootstrap(constant_batch(reward=1.0), value_range=(0.0, 1.0))
    np.testing.assert_allclose(bounded, 1.0)
