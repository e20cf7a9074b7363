"""The table of what a policy would do: the same as asking it, from each episode's own history."""

from __future__ import annotations

import numpy as np
import torch

from policies.chunking import ChunkPolicy, ExecutionConfig
from policies.recall import PROPOSED, Recalled, propose_all
from robot_rl.types import ActionSpec, ArraySpec, ObservationSpec

SPEC, ACTION = ObservationSpec({"state": ArraySpec((1,))}), ActionSpec(("x",), 0.1, 0.1)


class Echo:
    """Says what it has seen: the oldest, then the newest observation, then noise."""

    history, horizon = 3, 4

    def tell(self, goal, text, start):
        return None

    def sample(self, observation, goal, noise, seed, prefix):
        assert goal is None
        seen = observation["state"]
        return np.stack([seen[0], seen[-1], noise[0], noise[1]])

    def load(self, tensors):
        raise NotImplementedError


def test_histories_stay_within_their_episode_and_every_draw_is_its_own() -> None:
    states = np.array([0.0, 0.1, 0.2, 0.3, 0.5, 0.6], np.float32)[:, None]  # two episodes, of four and of two
    rows, first = np.array([0, 2, 3, 5]), np.array([0, 0, 0, 4])
    policy = ChunkPolicy(Echo(), ExecutionConfig(execute=3), SPEC, ACTION)
    done = []
    found = propose_all(policy, {"state": states}, rows, first, 8, 2, 0, done.append)
    assert found.shape == (4, 2, 3, 1) and sum(done) == 4
    np.testing.assert_allclose(found[:, 0, 0, 0], [0.0, 0.0, 0.1, 0.5])
    np.testing.assert_allclose(found[:, 1, 1, 0], [0.0, 0.2, 0.3, 0.6], atol=1e-6)
    assert len(np.unique(found[:, :, 2])) > 4 and np.abs(found).max() <= 1.0
    assert propose_all(policy, {"state": states}, rows, first, 1, 2, 0).shape == (4, 2, 1, 1)


def test_a_recalled_policy_chooses_among_the_draws_alike() -> None:
    table = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(4000, -1, -1, -1, -1)
    noise = torch.randn((4000, 1, 1), generator=torch.Generator().manual_seed(0))
    chosen = Recalled(1, 1).propose({PROPOSED: table}, {}, noise)
    values, counts = chosen.unique(return_counts=True)
    assert values.tolist() == [0.0, 1.0, 2.0, 3.0] and counts.min() > 900
