"""FQE on a chain whose values are known, from the data of another policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.windows import WindowConfig, WindowSampler
from policies.chunk_net import ChunkSampler
from policies.inputs import InputConfig
from policies.values import ChunkCriticConfig
from robot_rl.algorithms.fqe import COUNTS, FQEConfig
from robot_rl.batch import Returns
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

SPEC, ACTION = ObservationSpec({"state": ArraySpec((3,), names=("a", "b", "c"))}), ActionSpec(("x",), 0.1, 0.1)


class Right(ChunkSampler):
    """Goes right with probability `share`, else left; nothing to learn but a parameter that must not move."""

    def __init__(self, share: float) -> None:
        super().__init__(1, 1)
        self.share, self.action_dim = share, 1
        self.scale = torch.nn.Parameter(torch.ones(1))

    def loss(self, windows, generator):
        raise NotImplementedError

    @property
    def goal_arrays(self):
        return {}

    def answer(self, request):
        chosen = torch.special.ndtr(request.noise) < self.share
        return torch.where(chosen, self.scale, -self.scale)


def chain(episodes: int, right: float, seed: int = 0):
    """Three places in a row; right brings on, out of the last one with reward 1; left falls off, with none."""
    rng = np.random.default_rng(seed)
    states, actions, rewards, ended, ends = [], [], [], [], []
    for _ in range(episodes):
        place = 0
        states.append(np.eye(3)[place])
        while True:
            forward = rng.random() < right
            last = not forward or place == 2
            actions.append(1.0 if forward else -1.0)
            rewards.append(float(forward and place == 2))
            ended.append(last)
            place = min(place + 1, 2)
            states.append(np.eye(3)[place])
            if last:
                break
        ends.append(len(actions))
    arrays = {
        "observation/state": np.asarray(states, np.float32),
        "executed_action": np.asarray(actions, np.float32)[:, None],
        "reward": np.asarray(rewards, np.float32),
        "terminated": np.asarray(ended, bool),
    }
    return arrays, np.asarray(ends)


@pytest.mark.parametrize(("share", "discount"), [(0.9, 1.0), (0.5, 0.9)])
def test_values_of_a_policy_that_did_not_act(share: float, discount: float) -> None:
    arrays, ends = chain(1500, right=0.7)
    config = FQEConfig(
        discount=discount, critic_learning_rate=3e-3, updates=700, target_rate=0.05
    )  # fmt: skip
    torch.manual_seed(0)
    critic = ChunkCriticConfig(InputConfig(goal=False), hidden=(64,)).build(SPEC, ACTION)
    policy = Right(share)
    before = policy.scale.detach().clone()
    fqe = config.build(policy, critic)
    sampler = WindowSampler(arrays, ends, WindowConfig(), returns=Returns(1, discount))
    for number in range(700):
        fqe.update(sampler.batch(number, 128))
    # from the first place success takes three steps to the right; each member says so
    begins = list(sampler.every(4096))
    first = [np.flatnonzero(batch.observation["state"][:, -1, 0] > 0.5) for batch in begins]
    assert sum(len(one) for one in first) == 1500
    data = fqe.load(begins[0], augment=False)
    features = fqe.target.features(data.observation, {})
    for action, expected in ((1.0, share**2 * discount**2), (-1.0, 0.0)):
        q = fqe.target.head.value(fqe.target.q(features, torch.full_like(data.action, action)))[:, first[0]]
        assert q.detach().mean(1).numpy() == pytest.approx([expected, expected], abs=0.04)
    starts = WindowSampler(*chain(1500, right=0.0), WindowConfig(), returns=Returns(1, discount))
    # whoever acts there, the episodes of these begin, and end, in the first place
    assert fqe.value(starts.every(4096)).numpy() == pytest.approx([share**3 * discount**2] * 2, abs=0.04)
    assert torch.equal(policy.scale, before)


def test_each_member_learns_from_its_own_sample_of_the_episodes() -> None:
    """One member knows the episodes that succeed alone, the other those that fail."""
    arrays, ends = chain(300, right=0.7)
    succeeded = np.array([arrays["reward"][end - 1] for end in ends])
    counts = np.repeat(np.stack([succeeded, 1.0 - succeeded], 1), np.diff(ends, prepend=0) + 1, 0)
    config = FQEConfig(critic_learning_rate=3e-3, updates=200, target_rate=0.05)
    torch.manual_seed(0)
    critic = ChunkCriticConfig(InputConfig(goal=False), hidden=(64,)).build(SPEC, ACTION)
    fqe = config.build(Right(1.0), critic)
    sampler = WindowSampler(
        {**arrays, f"observation/{COUNTS}": counts.astype(np.float32)}, ends, WindowConfig(), returns=Returns(1, 1.0)
    )
    for number in range(200):
        fqe.update(sampler.batch(number, 128))
    begins = np.concatenate([[0], ends[:-1]])
    good, bad = fqe.values([sampler.windows(begins, np.random.default_rng(0))]).mean(1).tolist()
    assert good > 0.9 and bad < good - 0.5
