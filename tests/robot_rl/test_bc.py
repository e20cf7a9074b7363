"""Behaviour cloning learns what was shown, with either loss, and resumes exactly."""

import dataclasses

import numpy as np
import pytest
import torch

from policies.augmentation import random_crop
from policies.gaussian import GaussianPolicy
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.errors import DataError
from tests.learning import GRASP, PIXEL_SPEC, SMALL, STATE_SPEC, make_batch, make_networks


def shown(seed, rows=64):
    """A teacher that is a function of the state: arm halves it, gripper by its sign in three ways."""
    batch = make_batch(seed, rows=rows)
    state = batch.observation["state"]
    action = np.stack([np.tanh(state[:, 0]), -0.5 * np.tanh(state[:, 1]), np.sign(np.round(state[:, 2]))], 1)
    return dataclasses.replace(batch, action=action.astype(np.float32))


@pytest.mark.parametrize("loss", ["mse", "likelihood"])
def test_the_policy_repeats_the_teacher(loss):
    algorithm = BC(BCConfig(loss=loss, learning_rate=3e-3), make_networks())
    for index in range(600):
        algorithm.update(shown(index % 50))
    policy = GaussianPolicy(SMALL, STATE_SPEC, GRASP, deterministic=True)
    policy.load(1, algorithm.policy_state())
    unseen = shown(1000)
    acted = np.stack([policy.act({"state": row}) for row in unseen.observation["state"]])
    assert np.abs(acted[:, :2] - unseen.action[:, :2]).mean() < 0.12
    assert (acted[:, 2] == unseen.action[:, 2]).mean() > 0.85


def test_pixels_train_the_encoder_and_resume_is_exact():
    batches = [make_batch(seed, PIXEL_SPEC) for seed in range(4)]
    straight, first, second = (BC(BCConfig(), make_networks(PIXEL_SPEC, seed=seed), random_crop) for seed in (0, 0, 1))
    before = {name: tensor.clone() for name, tensor in straight.networks.encoder.state_dict().items()}
    for batch in batches:
        straight.update(batch)
    for name, tensor in straight.networks.encoder.state_dict().items():
        assert not torch.equal(before[name], tensor), name
    for batch in batches[:2]:
        first.update(batch)
    second.load_state_dict(first.state_dict())
    for batch in batches[2:]:
        second.update(batch)
    expected, got = straight.state_dict(), second.state_dict()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_foreign_state_is_refused():
    algorithm = BC(BCConfig(), make_networks())
    with pytest.raises(DataError):
        algorithm.load_state_dict({"generator": torch.zeros(1)})
    with pytest.raises(DataError, match="generator"):
        algorithm.load_state_dict({})
