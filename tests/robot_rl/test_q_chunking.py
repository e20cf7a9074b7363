"""Q-chunking: targets worked out by hand, what counts at ends and takeovers, exact resumption."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.replay import ReplayBuffer
from policies.chunking import ExecutionConfig
from policies.generative import GenerativeConfig
from policies.q_chunking import QChunkingPolicyConfig
from robot_rl import losses
from robot_rl.algorithms.q_chunking import QChunking, QChunkingConfig
from robot_rl.batch import Batch, Returns
from robot_rl.critics import CriticConfig
from robot_rl.errors import ConfigError
from tests.data.episodes import ACTION_SPEC, SPEC, events
from tests.learning import (
    GRASP,
    STATE_DIM,
    STATE_SPEC,
    assert_resumes_exactly,
    constant_batch,
    make_batch,
    make_networks,
)

HORIZON = 3
POLICY = QChunkingPolicyConfig(
    image_channels=(4,),
    image_features=8,
    base=GenerativeConfig(hidden=(32, 32), steps=3),
    critics=CriticConfig(hidden=(32, 32)),
    horizon=HORIZON,
    samples=4,
    execution=ExecutionConfig(execute=HORIZON),
)


def make(spec=STATE_SPEC, action=GRASP, seed=0, **changes) -> QChunking:
    config = QChunkingConfig(seed=seed, **{"imitation_updates": 0} | changes)
    return QChunking(config, POLICY.build_networks(spec, action, seed))


def chunked(batch: Batch, known: int = HORIZON) -> Batch:
    """`batch` with random chunks of which the first `known` actions were executed."""
    shape = (len(batch), HORIZON, batch.action.shape[1])
    chunk = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    mask = np.zeros(shape[:2], np.float32)
    mask[:, :known] = 1.0
    chunk[:, known:] = 0.0
    return dataclasses.replace(batch, chunk=chunk, chunk_mask=mask)


class Known(nn.Module):
    """Two critics of a chunk: the mean of its elements m, and 1 - m."""

    def forward(self, features, action, chosen=None, frozen=False):
        return torch.stack([action.mean(1), 1.0 - action.mean(1)])


class Offers:
    """Chunks whose elements are all 0.1, 0.6, 0.45 and 0.9: the smaller critic says 0.1, 0.4, 0.45, 0.1."""

    samples, horizon = 4, HORIZON

    def propose(self, features, noise):
        return torch.tensor([0.1, 0.6, 0.45, 0.9]).view(1, 4, 1).expand(noise.shape)


@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_target_is_that_of_the_best_chunk(terminated):
    algorithm: Any = make()
    algorithm._targets[1], algorithm._actor = Known(), Offers()
    batch = chunked(constant_batch(rows=2, reward=0.2, discount=0.97**HORIZON, terminated=terminated))
    features = torch.zeros(2, STATE_DIM)
    target = algorithm._target(algorithm._load(batch), features, features)
    torch.testing.assert_close(target, torch.full((2,), 0.2 + 0.97**HORIZON * (1.0 - terminated) * 0.45))


def test_its_replay_hands_out_chunks_discounted_by_their_length():
    algorithm = make(SPEC, ACTION_SPEC)
    assert algorithm.returns == Returns(HORIZON, 0.97, chunk=True)
    buffer = ReplayBuffer(SPEC, 3, 100, seed=0, returns=algorithm.returns)
    for event in events(1, 10, interventions=(4, 5), success=True):
        buffer.feed(event)
    data = algorithm._load(buffer.sample(64))
    step = data.observation["state"][:, 1]
    assert data.arm_action.shape == (64, 9) and data.gripper is None
    known, whole = data.known, data.whole
    assert known is not None and whole is not None
    assert whole.all()  # the takeover cuts nothing, and the task ended in the last ones
    torch.testing.assert_close(data.discount, 0.97 ** torch.minimum(torch.tensor(3.0), 10 - step))
    torch.testing.assert_close(known.view(64, 3, 3)[..., 0].sum(1), torch.minimum(torch.tensor(3.0), 10 - step))
    executed = data.arm_action.view(64, 3, 3)[..., 1]
    torch.testing.assert_close(executed[:, 2][step < 8], (step[step < 8] + 2) / 1000)


def test_what_would_have_followed_the_end_is_noise_that_is_never_imitated():
    algorithm = make()
    batch = chunked(make_batch(0), known=1)
    one, two = algorithm._load(batch), algorithm._load(batch)
    assert torch.equal(one.arm_action[:, :3], two.arm_action[:, :3])
    assert not torch.equal(one.arm_action[:, 3:], two.arm_action[:, 3:])
    assert one.arm_action.abs().max() <= 1.0
    output, target = torch.randn(4, 9), torch.zeros(4, 9)
    known = torch.tensor([1.0] * 3 + [0.0] * 6).expand(4, 9)
    by_hand = output[:, :3].square().mean()
    torch.testing.assert_close(losses.denoising_loss(output, target, known), by_hand)
    assert losses.denoising_loss(output, target, torch.zeros(4, 1)) == 0.0


@pytest.mark.parametrize(("known", "terminated", "learns"), [(3, 0.0, True), (2, 0.0, False), (2, 1.0, True)])
def test_critics_learn_from_whole_chunks_and_from_those_that_the_task_ended(known, terminated, learns):
    algorithm = make()
    batch = chunked(constant_batch(reward=0.5, terminated=terminated), known)
    before = {name: one.clone() for name, one in algorithm.critics.state_dict().items()}
    loss = float(algorithm.update(batch)["critic_loss"])
    moved = any(not torch.equal(before[name], one) for name, one in algorithm.critics.state_dict().items())
    assert moved == learns and (loss > 0.0) == learns


def test_masked_rows_do_not_count_in_the_critics_loss():
    q, target = torch.tensor([[1.0, 2.0, 5.0], [0.0, 1.0, 7.0]]), torch.tensor([0.0, 0.0, 0.0])
    # both members, over the first two rows: (1 + 4) / 2 + (0 + 1) / 2
    assert losses.ensemble_loss(q, target, torch.tensor([1.0, 1.0, 0.0])) == 3.0
    assert losses.ensemble_loss(q, target, torch.zeros(3)) == 0.0


def test_the_behaviour_policy_takes_no_gradient_of_the_critics():
    algorithm = make()
    data = algorithm._load(chunked(make_batch(0)))
    features = algorithm.networks.encoder(data.observation).detach()
    loss, _ = algorithm._policy_loss(data, features)
    gradients = torch.autograd.grad(loss, list(algorithm.critics.parameters()), allow_unused=True)
    assert all(one is None for one in gradients)
    assert all(one.any() for one in torch.autograd.grad(
        algorithm._policy_loss(data, features)[0], list(algorithm.networks.actor.parameters())
    ))  # fmt: skip


@pytest.mark.parametrize("split", [1, 4])
def test_resuming_is_exact(split):
    batches = [chunked(make_batch(seed), 1 + seed % HORIZON) for seed in range(6)]
    assert_resumes_exactly(lambda seed: make(seed=seed), batches, split)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="critics"):
        QChunking(QChunkingConfig(), make_networks())
    for name, wrong in (("samples", 0), ("horizon", HORIZON - 1)):
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(POLICY, **{name: wrong})


def test_at_first_the_behaviour_policy_learns_alone():
    algorithm = make(imitation_updates=2, acting_rate=1.0)
    batch = chunked(make_batch(32))

    def learned(module: nn.Module) -> list[torch.Tensor]:
        return [one.detach().clone() for one in module.parameters()]

    def moved(module: nn.Module, before: list[torch.Tensor]) -> bool:
        return any(not torch.equal(one, other) for one, other in zip(module.parameters(), before, strict=True))

    for _ in range(2):
        actor, critics = learned(algorithm.networks.actor), learned(algorithm.critics)
        metrics = algorithm.update(batch)
        assert set(metrics) == {"imitation_loss"}
        assert moved(algorithm.networks.actor, actor) and not moved(algorithm.critics, critics)
    actor, critics = learned(algorithm.networks.actor), learned(algorithm.critics)
    assert "critic_loss" in algorithm.update(batch)
    assert moved(algorithm.networks.actor, actor) and moved(algorithm.critics, critics)
    with pytest.raises(ConfigError, match="imitation_updates"):
        QChunkingConfig(imitation_updates=-1)


def test_only_marked_chunks_are_imitated():
    algorithm = make()
    batch = chunked(make_batch(0))
    marked = (np.arange(len(batch)) % 2).astype(np.float32)
    losses_of = []
    for shift in (0.0, 0.5):  # of the chunks that are not marked
        assert batch.chunk is not None
        chunk = batch.chunk * (1.0 - shift * (1.0 - marked))[:, None, None].astype(np.float32)
        data = algorithm._load(dataclasses.replace(batch, chunk=chunk, is_demonstration=marked))
        algorithm._generator.manual_seed(1)
        features = algorithm.networks.encoder(data.observation)
        losses_of.append(float(algorithm._policy_loss(data, features)[0]))
    assert losses_of[0] == pytest.approx(losses_of[1]) and losses_of[0] > 0.0
