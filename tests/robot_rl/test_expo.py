"""EXPO: targets worked out by hand, who learns from what, edits within reach, exact resumption."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from policies.expo import EXPOPolicyConfig
from policies.generative import GenerativeConfig
from robot_rl import losses
from robot_rl.algorithms.expo import EXPO, EXPOConfig
from robot_rl.critics import CriticConfig, choose
from robot_rl.errors import ConfigError
from tests.learning import (
    GRASP,
    PIXEL_SPEC,
    REACH,
    STATE_DIM,
    STATE_SPEC,
    assert_resumes_exactly,
    constant_batch,
    make_batch,
    make_networks,
)

POLICY = EXPOPolicyConfig(
    hidden=(32, 32),
    image_channels=(4, 4),
    image_features=8,
    base=GenerativeConfig(hidden=(32, 32), steps=3),
    critics=CriticConfig(hidden=(32, 32)),
    samples=4,
    reach=0.2,
)


def make(spec=STATE_SPEC, action=GRASP, seed=0, policy=POLICY, **changes) -> EXPO:
    return EXPO(EXPOConfig(seed=seed, **changes), policy.build_networks(spec, action, seed))


class Known(nn.Module):
    """Two critics of an action of one element: a and 1 - a, so that the smaller of both is highest at 0.5."""

    def forward(self, features, action, chosen=None, frozen=False):
        return torch.stack([action[:, 0], 1.0 - action[:, 0]])


class Offers(nn.Module):
    """A base that offers 0.1 and 0.6, and an editor that adds what it is told to."""

    samples = 2

    def __init__(self, edits):
        super().__init__()
        self.edits = torch.tensor(edits)

    def propose(self, features, noise):
        return torch.tensor([0.1, 0.6]).view(1, 2, 1).expand(len(features), 2, 1)

    def candidates(self, features, base, noise):
        return torch.cat([base, base + self.edits.view(1, 2, 1)], 1)


@pytest.mark.parametrize(
    ("edits", "best"),
    [
        ((0.05, -0.15), 0.45),  # 0.1, 0.6, 0.15, 0.45 are worth 0.1, 0.4, 0.15, 0.45: an edit is the best
        ((0.05, 0.3), 0.4),  # 0.1, 0.6, 0.15, 0.9 are worth 0.1, 0.4, 0.15, 0.1: a sample is
    ],
)
@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_target_is_that_of_the_best_candidate(edits, best, terminated):
    one = dataclasses.replace(REACH, names=("x",))
    algorithm: Any = make(action=one)
    algorithm._targets[1], algorithm._actor = Known(), Offers(edits)
    data = algorithm._load(constant_batch(rows=3, action=one, reward=0.2, discount=0.6, terminated=terminated))
    features = torch.zeros(3, STATE_DIM)
    target = algorithm._target(data, features, features)
    torch.testing.assert_close(target, torch.full((3,), 0.2 + 0.6 * (1.0 - terminated) * best))


def test_acting_takes_the_best_candidate_by_the_mean_of_the_critics():
    critics = CriticConfig(members=3, hidden=(8,)).build(2, 2, seed=0)
    features, candidates = torch.randn(5, 2), torch.rand(5, 7, 2)
    with torch.no_grad():
        got = choose(critics, features, candidates)
        for row in range(5):
            values = [float(critics(features[row : row + 1], candidates[row, k : k + 1]).mean()) for k in range(7)]
            torch.testing.assert_close(got[row], candidates[row, int(np.argmax(values))])
    by_hand = losses.best_candidate(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.tensor([[5.0, 1.0], [0, 1]]))
    assert by_hand.tolist() == [[1.0], [4.0]]


def policy_gradients(algorithm, batch):
    """Gradients of the policy's loss by name; None where there is none."""
    data = algorithm._load(batch)
    features = algorithm.networks.encoder(data.observation).detach()
    loss, _ = algorithm._policy_loss(data, features)
    named = dict(algorithm.networks.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, gradients, strict=True))


def test_the_base_learns_from_imitation_and_the_editor_from_the_critics_alone():
    """Other critics change the editor's gradient and not the base's; other demonstrations the other way round."""

    def gradients(critics=0.0, demonstrated=0.0):
        algorithm: Any = make(PIXEL_SPEC)
        with torch.no_grad():
            for parameter in algorithm.critics.parameters():
                parameter += critics * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        batch = make_batch(0, PIXEL_SPEC)
        action = batch.action.copy()
        action[batch.is_demonstration == 1.0] += demonstrated
        return policy_gradients(algorithm, dataclasses.replace(batch, action=action))

    plain, critics, demonstrated = gradients(), gradients(critics=0.3), gradients(demonstrated=0.3)
    assert {name.split(".")[0] for name, one in plain.items() if one is not None} == {"actor"}
    for name, one in plain.items():
        if one is None:
            continue
        edits = name.startswith("actor.editor")
        assert torch.equal(one, critics[name]) != edits, name
        assert torch.equal(one, demonstrated[name]) == edits, name


def test_without_demonstrations_in_the_batch_the_base_stays():
    algorithm = make()
    batch = dataclasses.replace(make_batch(0), is_demonstration=np.zeros(32, np.float32))
    for name, one in policy_gradients(algorithm, batch).items():
        if name.startswith("actor.net"):
            assert one is not None and not one.any()


@pytest.mark.parametrize("extreme", [-100.0, 0.0, 100.0])
def test_edits_stay_within_reach_and_within_the_action_space(extreme):
    actor: Any = make().networks.actor
    with torch.no_grad():
        actor.editor.net.layers[-1].fill_(extreme)
        base = torch.rand(50, 2) * 2.0 - 1.0
        edited, _ = actor.edit(torch.randn(50, STATE_DIM), base, torch.randn(50, 2))
        everyone = actor.candidates(torch.randn(5, STATE_DIM), base.view(5, 10, 2), torch.randn(5, 10, 2))
    assert (edited - base).abs().max() <= POLICY.reach + 1e-6 and edited.abs().max() <= 1.0
    assert torch.equal(everyone[:, :10], base.view(5, 10, 2)) and everyone.abs().max() <= 1.0
    by_hand = losses.edit(torch.tensor([0.0, 0.5, 0.95]), torch.tensor([1.0, -0.5, 1.0]), 0.2)
    torch.testing.assert_close(by_hand, torch.tensor([0.2, 0.4, 1.0]))


def test_the_editor_climbs_the_critics():
    algorithm = make(learning_rate=3e-3)
    data = algorithm._load(make_batch(0))
    features = algorithm.networks.encoder(data.observation)
    actor: Any = algorithm.networks.actor
    base = actor.propose(features, torch.randn(32, 1, 2)).squeeze(1)

    def gain():
        with torch.no_grad():
            return float((algorithm.critics(features, actor.edit(features, base, None)[0])).mean())

    before = gain()
    for _ in range(60):
        algorithm._update_actor(data, features)
    assert gain() > before + 0.01


def test_the_base_keeps_two_ways_of_acting_in_their_ratio():
    """Demonstrated: -0.6 three times of four, else 0.4; a Gaussian's mean would be neither."""
    policy = dataclasses.replace(POLICY, base=GenerativeConfig(hidden=(64, 64)))
    actor: Any = make(action=REACH, policy=policy).networks.actor
    adam = torch.optim.Adam(actor.net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    features = torch.zeros(256, STATE_DIM)
    for _ in range(400):
        first = torch.rand(256, 1, generator=generator) < 0.75
        action = torch.where(first, -0.6, 0.4).expand(256, 2)
        loss = actor.imitation_loss(features, action, torch.ones(256, 1), generator)
        adam.zero_grad()
        loss.backward()
        adam.step()
    samples = actor.propose(features[:1], torch.randn(1, 400, 2, generator=generator))[0]
    low = (samples + 0.6).abs().amax(1) < 0.2
    high = (samples - 0.4).abs().amax(1) < 0.2
    assert float((low | high).float().mean()) > 0.85
    assert 0.6 < float(low.float().sum() / (low | high).float().sum()) < 0.9


@pytest.mark.parametrize("split", [1, 4])
def test_resuming_is_exact(split):
    assert_resumes_exactly(lambda seed: make(seed=seed), [make_batch(seed) for seed in range(6)], split)


def test_every_part_learns_and_metrics_are_detached_scalars():
    algorithm = make(PIXEL_SPEC, seed=2)
    before = {name: tensor.clone() for name, tensor in algorithm.networks.state_dict().items()}
    metrics = algorithm.update(make_batch(0, PIXEL_SPEC))
    for value in metrics.values():
        assert value.shape == () and not value.requires_grad and value.isfinite()
    after = algorithm.networks.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    acting = algorithm.policy_state()
    for name, tensor in acting.items():
        torch.testing.assert_close(tensor, before[name] + 0.002 * (after[name] - before[name]))


def test_networks_without_critics_and_too_few_of_them_are_refused():
    with pytest.raises(ConfigError, match="critics"):
        EXPO(EXPOConfig(), make_networks())
    with pytest.raises(ConfigError, match="target_subset"):
        make(target_subset=3)
    for name, wrong in (("samples", 0), ("reach", 0.0), ("gripper_epsilon", 2.0)):
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(POLICY, **{name: wrong})
