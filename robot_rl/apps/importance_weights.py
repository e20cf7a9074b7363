"""Importance sampling from recorded episodes: which policies have a density, and how that of who recorded is learned.

Nobody stores with what probability an action was chosen, and a person has none to tell. It is estimated by behaviour
cloning from the same episodes (Hanna, Niekum, Stone 2019, 1806.01347).

Shape letters: N steps of all episodes, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policies.density import GripperChoice, classified, exploring, log_density
from policies.gaussian import GaussianConfig
from policies.parameters import load_parameters
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.algorithms.networks import PolicyNetworks
from robot_rl.apps.recorded import Recorded
from robot_rl.apps.runs import read_policy
from robot_rl.apps.twin_cells import Candidate
from robot_rl.apps.wiring import Experiment
from robot_rl.batch import Batch
from robot_rl.importance import ImportanceEstimate, importance_estimate

TOGETHER = 1024


def why_none(experiment: Any) -> str:
    """Why there is no importance estimate of the run's policy; "" where there is one."""
    if isinstance(experiment, Experiment) and isinstance(experiment.policy, GaussianConfig):
        return ""
    return (
        f"the density of {type(experiment.policy).__name__}'s actions is not known; it is of policy=gaussian "
        "(robot-rl train)"
    )


def estimate_by_importance(
    experiment: Experiment,
    candidate: Candidate,
    recorded: Recorded,
    cloning: BCConfig,
    updates: int,
    batch_size: int,
    progress: Callable[[int], object],
) -> ImportanceEstimate:
    """Of the policy as it samples while it learns, from the episodes that were seen to their end (weighted, per step).

    `progress` is told how many updates of the cloned density are done.
    """
    target, behaviour = (
        experiment.policy.build_networks(recorded.spec, recorded.action_spec, cloning.seed) for _ in range(2)
    )
    load_parameters(target, read_policy(candidate.checkpoint))
    clone, random = BC(cloning, behaviour), np.random.default_rng(cloning.seed)
    steps = recorded.in_time
    for number in range(updates):
        clone.update(_batch(recorded, steps[random.integers(len(steps), size=batch_size)]))
        progress(number + 1)
    assert isinstance(experiment.policy, GaussianConfig)
    ratio = _log_density(recorded, steps, target, exploring(target, experiment.policy.gripper_epsilon))
    ratio -= _log_density(recorded, steps, behaviour, classified(behaviour))
    kept = np.flatnonzero(recorded.used & recorded.whole)
    of_step, reward = recorded.episode[steps], recorded.reward[steps]
    chosen = [of_step == one for one in kept]
    return importance_estimate([ratio[one] for one in chosen], [reward[one] for one in chosen], seed=cloning.seed)


@torch.no_grad()
def _log_density(
    recorded: Recorded, steps: NDArray[np.int64], networks: PolicyNetworks, choice: GripperChoice
) -> NDArray[np.float64]:
    """Of what was done at `steps` (n,): (n,)."""
    found = []
    for begin in range(0, len(steps), TOGETHER):
        batch = _batch(recorded, steps[begin : begin + TOGETHER])
        seen = {key: torch.from_numpy(array) for key, array in batch.observation.items()}
        found.append(log_density(networks.cpu(), choice, seen, torch.from_numpy(batch.action)))
    return torch.cat(found).double().numpy()


def _batch(recorded: Recorded, steps: NDArray[np.int64]) -> Batch:
    """What was seen and done at `steps` (B,), to be cloned: nothing of what followed."""
    seen = {key: array[steps + recorded.episode[steps]] for key, array in recorded.observations.items()}
    action = recorded.cache.arrays["executed_action"][steps]
    zeros, ones = np.zeros(len(steps), np.float32), np.ones(len(steps), np.float32)
    return Batch(seen, action, zeros, seen, zeros, zeros, ones, zeros, zeros)
