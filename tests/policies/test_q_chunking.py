"""Q-chunking's policy: plays the best of its chunks, and begins them as it was told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from policies.chunking import ChunkPolicy
from policies.q_chunking import BestChunkSource
from robot_rl.errors import ConfigError
from robot_rl.types import Goal
from robot_rl.wire import decode_parameters, encode_parameters
from tests.learning import GRASP, PIXEL_SPEC, STATE_SPEC, make_batch, make_observation
from tests.robot_rl.test_q_chunking import HORIZON, POLICY, chunked, make


def observation(spec=STATE_SPEC, seed=0):
    return {key: array[0] for key, array in make_observation(spec, np.random.default_rng(seed), 1).items()}


def history(seen):
    return {key: array[None] for key, array in seen.items()}


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal((HORIZON, GRASP.dim), np.float32)


def test_the_best_of_all_chunks_is_chosen():
    source = BestChunkSource(POLICY, STATE_SPEC, GRASP)
    networks: Any = source._networks
    seen, state = history(observation()), torch.from_numpy(observation()["state"]).unsqueeze(0)
    others = torch.randn((3, HORIZON, 3), generator=torch.Generator().manual_seed(5)).flatten(1)
    noises = torch.cat([torch.from_numpy(noise()).flatten().unsqueeze(0), others])
    chunks = [networks.actor.propose(state, one.view(1, 1, -1))[0] for one in noises]
    with torch.no_grad():
        values = [networks.critics(state, one)[:, 0].numpy() for one in chunks]
    bounds = [one.mean() - POLICY.pessimism * one.std() for one in values]
    best = chunks[int(np.argmax(bounds))].view(HORIZON, 3)
    np.testing.assert_allclose(source.sample(seen, None, noise(), 5, None), best, atol=1e-5)
    prefix = np.full((2, 3), 0.25, np.float32)
    told = source.sample(seen, None, noise(), 5, prefix)
    np.testing.assert_array_equal(told[:2], prefix)


def test_a_chunk_is_played_before_the_next_one_is_sampled():
    algorithm = make(seed=3, acting_rate=1.0)
    algorithm.update(chunked(make_batch(0)))
    policy: Any = POLICY.build_policy(STATE_SPEC, GRASP)
    assert isinstance(policy, ChunkPolicy)
    policy.load(*decode_parameters(encode_parameters(7, algorithm.policy_state())))
    assert policy.version == 7
    policy.reset()
    acted = [policy.act(observation(seed=seed)) for seed in range(7)]
    assert policy.counters.joints == [0, HORIZON, 2 * HORIZON]
    for one in acted:
        GRASP.check(one)


@pytest.mark.parametrize("goal", [Goal(text="lift it"), Goal(observation=observation())])
def test_goals_are_refused(goal):
    policy = POLICY.build_policy(STATE_SPEC, GRASP)
    policy.reset(goal)
    with pytest.raises(ConfigError, match="knows no goals"):
        policy.act(observation())


def test_images_are_seen_too():
    policy = POLICY.build_policy(PIXEL_SPEC, GRASP)
    GRASP.check(policy.act(observation(PIXEL_SPEC)))
