"""Success of a policy from episodes that others acted in: fitted Q evaluation, importance sampling, what they rest on.

Shape letters: E episodes, R observations, K draws, h actions that are decided together, A action, N members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from data.episode import OBSERVATION
from data.windows import WindowConfig, WindowSampler
from policies.augmentation import random_crop
from policies.recall import PROPOSED, Recalled, propose_all
from policies.values import ChunkCriticConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.fqe import COUNTS, FQE, FQEConfig
from robot_rl.apps.importance_weights import estimate_by_importance, why_none
from robot_rl.apps.recorded import Recorded, by_effect
from robot_rl.apps.runs import load_policy, read_run
from robot_rl.apps.twin_cells import Candidate
from robot_rl.batch import Returns
from robot_rl.errors import ConfigError
from robot_rl.nearness import share_near
from robot_rl.types import STATE_KEY

FEWEST_MEMBERS = 3
TOGETHER = 1024
CLONING_RATE = 1e-3
"""Of Adam; a few thousand updates do."""
Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Estimation:
    """How estimates are made; conf/twin_estimate.yaml composes it."""

    fqe: FQEConfig
    """Updates, learning rate and device of FQE."""
    critic: ChunkCriticConfig
    """FQE's networks; each member learns from a bootstrap sample of the episodes. Of a policy that plays chunks so many
    actions as `critic.horizon` says are valued together; 1 takes it as if it decided at every step."""
    draws: int = 4
    """Chunks of a policy that samples, in each recorded observation."""
    smoothing: float = 0.5
    """Noise on recorded actions while FQE learns, in units of their spread: without it a few episodes are learned by
    heart, with their luck."""
    cloning_updates: int = 3000
    """Of the density of who recorded, for importance sampling."""
    phases: tuple[str, ...] = ("demo", "learn", "evaluate")
    """Of the episodes to estimate from; play has neither success nor failure."""
    batch_size: int = 256
    """Windows per update."""
    seed: int = 0
    """Of networks, bootstrap samples, windows and noise."""

    def __post_init__(self) -> None:
        if min(self.draws, self.cloning_updates, self.batch_size) < 1 or min(self.smoothing, self.seed) < 0:
            raise ConfigError(
                "need draws, cloning_updates and batch_size at least 1, smoothing and seed not negative; got "
                f"{self.draws}, {self.cloning_updates}, {self.batch_size}, {self.smoothing}, {self.seed}"
            )
        if self.critic.members < FEWEST_MEMBERS or self.critic.inputs.goal:
            raise ConfigError(f"an interval takes critic.members={FEWEST_MEMBERS} or more; critic.inputs.goal=false")
        if self.fqe.discount != 1.0 or self.fqe.rewards != "task":
            raise ConfigError("success rates are values with fqe.discount=1 and fqe.rewards=task")


def estimate(candidate: Candidate, recorded: Recorded, config: Estimation, report: Report) -> dict[str, Any]:
    """Everything about one policy, as plain data; what there is not is None, and says why in words."""
    experiment = read_run(candidate.run_dir)
    proposed = _ask(load_policy(experiment, candidate.checkpoint), recorded, config, report)
    importance, said = None, why_none(experiment)
    if not said:
        importance, said = _weighed(experiment, candidate, recorded, config, report)
    return {
        "episodes": recorded.counts(),
        "fqe": evaluate_fitted(recorded, proposed, config, report),
        "near": _near(recorded, proposed),
        "importance": importance,
        "importance_words": said,
    }


def _weighed(
    experiment: Any, candidate: Candidate, recorded: Recorded, config: Estimation, report: Report
) -> tuple[dict[str, Any] | None, str]:
    """The importance estimate, and of what it is, or why there is none."""
    cloning = BCConfig("likelihood", CLONING_RATE, config.fqe.device, config.seed)
    updates = config.cloning_updates
    found = estimate_by_importance(
        experiment,
        candidate,
        recorded,
        cloning,
        updates,
        config.batch_size,
        lambda done: report("clone who recorded", done, updates),
    )
    if not found.effective:
        return None, "no recorded episode is one that the policy could have acted"
    of = "of the policy as it samples while it learns (on the arm its mean acts); who recorded: by behaviour cloning"
    figures = {"value": found.value, "interval_95": [found.low, found.high], "effective_episodes": found.effective}
    return figures, of


def _ask(policy: Any, recorded: Recorded, config: Estimation, report: Report) -> NDArray[np.float32]:
    """What the policy would do at every observation (R, K, h, A); zeros in episodes that do not count."""
    rows, done = recorded.rows, 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report("ask the policy", done, len(rows))

    first = recorded.of_episodes(recorded.begins + np.arange(len(recorded.used)))
    sizes = config.critic.horizon, config.draws
    table = propose_all(policy, recorded.observations, rows, first[rows], *sizes, config.seed, count)
    proposed = np.zeros((len(first), *table.shape[1:]), np.float32)
    proposed[rows] = by_effect(table, recorded.action_spec, recorded.gripper_told[rows])
    return proposed


def evaluate_fitted(
    recorded: Recorded, proposed: NDArray[np.float32], config: Estimation, report: Report
) -> dict[str, Any]:
    """FQE of a policy that would do `proposed` (R, K, h, A): its value at the recorded starts.

    The interval is a bootstrap over episodes, their starts and their steps (2102.03607), one draw per member, with
    Student's quantile for so few; the spread is that of the members at the same starts.
    """
    used, members = np.flatnonzero(recorded.used), config.critic.members
    draw = np.random.default_rng(config.seed).multinomial(len(used), np.full(len(used), 1.0 / len(used)), members)
    counts = np.zeros((len(recorded.used), members), np.float32)
    counts[used] = draw.T
    fqe, sampler = _build(recorded, proposed, counts, config)
    random, steps = np.random.default_rng((config.seed, 1)), recorded.in_time
    blur = config.smoothing * recorded.actions[steps].std(0)
    for number in range(config.fqe.updates):
        windows = sampler.windows(steps[random.integers(len(steps), size=config.batch_size)], random)
        noise = random.standard_normal(windows.action.shape, np.float32) * blur
        fqe.update(replace(windows, action=windows.action + noise))
        report("FQE", number + 1, config.fqe.updates)
    starts = [recorded.begins[used[begin : begin + TOGETHER]] for begin in range(0, len(used), TOGETHER)]
    looks = [
        torch.cat([fqe.values([sampler.windows(one, random)]) for one in starts], 1) for _ in range(proposed.shape[1])
    ]
    values = torch.stack(looks).mean(0).clamp(0.0, 1.0).cpu().numpy()  # (N, n)
    reach = stats.t.ppf(0.975, members - 1) * ((values * draw).sum(1) / len(used)).std(ddof=1)
    value = float(values.mean())
    return {
        "value": value,
        "interval_95": [float(np.clip(value - reach, 0.0, 1.0)), float(np.clip(value + reach, 0.0, 1.0))],
        "spread": float(values.mean(1).std(ddof=1)),
        "members": members,
        "actions_together": proposed.shape[2],
    }


def _build(
    recorded: Recorded, proposed: NDArray[np.float32], counts: NDArray[np.float32], config: Estimation
) -> tuple[FQE, WindowSampler]:
    """`counts` (E, N): how often each member's sample of the episodes holds each."""
    state, spec = recorded.timed()
    arrays = {
        **{OBSERVATION + key: array for key, array in recorded.observations.items()},
        OBSERVATION + STATE_KEY: state,
        OBSERVATION + PROPOSED: proposed,
        OBSERVATION + COUNTS: recorded.of_episodes(counts),
        "executed_action": recorded.actions,
        "reward": recorded.reward,
        "terminated": recorded.terminated,
    }
    horizon = proposed.shape[2]
    sampler = WindowSampler(
        arrays, recorded.cache.ends, WindowConfig(horizon=horizon), returns=Returns(horizon), episodes=recorded.used
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        critic = replace(config.critic, horizon=horizon).build(spec, recorded.action_spec)
    done = arrays["executed_action"][recorded.in_time]
    critic.fit_normalizers(
        {
            STATE_KEY: (state[recorded.rows].mean(0), state[recorded.rows].std(0)),
            "action": (done.mean(0), done.std(0)),
        }
    )
    augment = random_crop if spec.image_keys else None
    fqe = config.fqe.build(Recalled(horizon, recorded.action_spec.dim), critic, augment)
    return fqe, sampler


def _near(recorded: Recorded, proposed: NDArray[np.float32]) -> dict[str, Any]:
    """How much of what the policy would do is near to what was done in similar states."""
    if STATE_KEY not in recorded.spec.arrays:
        return {"share": None, "words": "the policy sees images alone; which states are similar is not known"}
    horizon = proposed.shape[2]
    last = recorded.cache.ends[recorded.episode] - horizon
    steps = recorded.in_time[recorded.in_time <= last[recorded.in_time]]
    rows = steps + recorded.episode[steps]
    done = recorded.actions[steps[:, None] + np.arange(horizon)]
    share = share_near(
        recorded.observations[STATE_KEY][rows],
        done.reshape(len(steps), -1),
        proposed[rows, 0].reshape(len(steps), -1),
        recorded.episode[steps],
    )
    words = "by the state alone; images are not compared" if recorded.spec.image_keys else ""
    return {"share": share, "words": words}
