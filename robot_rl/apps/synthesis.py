"""Synthetic episodes: a model of trajectories learned from an episode store, and what it samples as episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.cache import open_cache
from data.episode import EpisodeInfo
from data.store import EpisodeStore
from data.windows import WindowConfig, WindowSampler
from policies.gaussian import GaussianActor
from policies.gcbc import GCBCModel
from policies.guidance import ClonedGaussian, GuidanceConfig, SquashedGaussian, TargetPolicy
from policies.parameters import load_parameters
from policies.trajectories import ENDED, Trajectories, TrajectoryConfig, TrajectoryModel
from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.apps.gathering import start_seed
from robot_rl.apps.held_out import Outcomes, choose_episodes
from robot_rl.apps.imitation import Material, build_model
from robot_rl.apps.runs import checkpoint_version, find_checkpoint, read_policy, read_run
from robot_rl.apps.supervised import SupervisedRun
from robot_rl.apps.wiring import Experiment
from robot_rl.errors import ConfigError, SpecError
from robot_rl.types import STATE_KEY, ActionSpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition

TOGETHER = 64
"""Episodes that are sampled as one batch, always the same ones."""
FEW_REWARDS = 16
"""Rewards of so many different values are told apart, and sampled ones drawn to the nearest."""
FITTED_WINDOWS = 4096
OPERATOR = "diffusion"


@dataclass(frozen=True)
class Synthesis:
    """Everything that a model of trajectories depends on; conf/synthesize.yaml composes it."""

    data: Path
    """The episode store to learn from."""
    model: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    """Length of trajectories, network, noise process, sampler."""
    algorithm: ImitationConfig = field(default_factory=ImitationConfig)
    """Optimiser, updates, device."""
    phases: tuple[str, ...] = ("demo", "play", "learn")
    """Of the episodes to learn from: demo, play, learn, evaluate."""
    outcomes: Outcomes = "all"
    """Whether failures are learned from as well; play has no outcome."""
    batch_size: int = 256
    """Windows per update."""
    held_out: float = 0.05
    """Share of the episodes that is not trained on, and tells how well the model generalises."""
    workers: int = 0
    """Processes that draw batches."""
    checkpoint_every_s: float = 120.0
    """Wall-clock time between two checkpoints."""
    keep_checkpoints: int = 5
    """Older ones are deleted."""
    seed: int = 0
    """Of weights, windows and noise while learning."""

    synthetic = False
    """It never learns from what such a model sampled."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out < 1.0 or self.batch_size < 1 or min(self.workers, self.seed) < 0:
            raise ConfigError(
                f"need held_out in [0, 1), batch_size at least 1, workers and seed not negative; got {self}"
            )


@dataclass(frozen=True)
class Manner:
    """What the recorded episodes are like, where the model does not say it."""

    phase: str
    period_s: float
    rewards: NDArray[np.float32]
    """The values that there are, or none where they are many."""

    @classmethod
    def of(cls, material: Material, chosen: NDArray[np.bool_]) -> Manner:
        """The commonest phase, the median control period, the rewards of the episodes `chosen` (E,)."""
        infos = [info for info, wanted in zip(material.cache.infos, chosen, strict=True) if wanted]
        steps = np.repeat(chosen, np.diff(material.cache.ends, prepend=0))
        rewards = np.unique(np.asarray(material.cache.arrays["reward"])[steps])
        phase = Counter(info.phase for info in infos).most_common(1)[0][0]
        period_s = float(np.median([info.duration_s / info.steps for info in infos if info.steps]))
        return cls(phase, max(period_s, 1e-3), rewards if len(rewards) <= FEW_REWARDS else rewards[:0])


class SynthesisRun(SupervisedRun):
    """A model of trajectories in its directory: learned there, resumable, and sampled from."""

    def __init__(self, experiment: Synthesis, run_dir: Path) -> None:
        material, chosen = open_trajectories(experiment)
        self.manner = Manner.of(material, chosen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(experiment.seed)
            model = experiment.model.build(material.observation_spec, material.action_spec)
        trainer = Imitation(experiment.algorithm, model)
        windows = trainer.load_windows(material.train.batch(0, FITTED_WINDOWS), augment=False)
        for one in (trainer.model, trainer.acting):
            assert isinstance(one, TrajectoryModel)
            one.fit(windows)
        super().__init__(experiment, run_dir, material, trainer)

    @property
    def model(self) -> TrajectoryModel:
        """The averaged network."""
        assert isinstance(self.algorithm.acting, TrajectoryModel)
        return self.algorithm.acting


def open_trajectories(experiment: Synthesis) -> tuple[Material, NDArray[np.bool_]]:
    """Map the data, and which episodes (E,) are learned from."""
    store = EpisodeStore(experiment.data)
    cache = open_cache(store)
    learned, out = choose_episodes(cache, experiment)
    config = WindowConfig(horizon=experiment.model.horizon, future=True, outcome=True, whole=True)
    train = WindowSampler(cache.arrays, cache.ends, config, seed=experiment.seed, episodes=learned)
    held_out = None
    if out.any():
        held_out = WindowSampler(cache.arrays, cache.ends, config, seed=experiment.seed + 1, episodes=out)
    return Material(cache, store.observation_spec, store.action_spec, train, held_out, []), learned


def read_target(path: Path, observation: ObservationSpec, action: ActionSpec) -> tuple[TargetPolicy, int]:
    """The Gaussian policy of a run (or of one checkpoint), and its version; errors name what does not fit."""
    run_dir, checkpoint = find_checkpoint(path)
    experiment = read_run(run_dir)
    is_stepwise = isinstance(experiment, Experiment)
    specs = (experiment.task.observation_spec, experiment.task.action_spec)
    if specs != (observation, action):
        raise SpecError(f"the policy of {run_dir} sees and does {specs}, the data are of {observation}, {action}")
    if is_stepwise:
        network = experiment.policy.build_networks(*specs, experiment.seed)
        target = SquashedGaussian(network) if isinstance(network.actor, GaussianActor) else None
    else:
        network = build_model(experiment, *specs)
        target = ClonedGaussian(network) if isinstance(network, GCBCModel) else None
    if target is None:
        raise ConfigError(
            f"{run_dir} holds a policy of {type(experiment.policy).__name__}, whose density is not known; trajectories "
            "are guided by Gaussian ones: policy=gcbc, regression (imitate, offline), policy=gaussian (train)"
        )
    load_parameters(network, read_policy(checkpoint))
    network.requires_grad_(False).eval()
    return target, checkpoint_version(checkpoint)


@dataclass(frozen=True)
class Source:
    """Samples episodes; number i of a seed is the same whatever others are asked for."""

    model: TrajectoryModel
    manner: Manner
    seed: int
    target: TargetPolicy | None = None
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    version: int = 0
    """Of the target policy."""

    def batch(self, number: int) -> Trajectories:
        """Trajectories number * `TOGETHER` and on."""
        device = self.model.scale.mean.device
        state = np.random.SeedSequence((self.seed, number)).generate_state(1)[0]
        generator = torch.Generator(device).manual_seed(int(state))
        return self.model.sample(TOGETHER, generator, self.target, self.guidance)

    def events(self, batch: Trajectories, number: int, row: int) -> Iterator[EpisodeStart | Transition | EpisodeEnd]:
        """The episode of a batch's `row`, up to where the task ended; otherwise it is cut short."""
        states = batch.state[row].cpu().numpy().astype(np.float32)
        actions = batch.action[row].clamp(-1.0, 1.0).cpu().numpy().astype(np.float32)
        rewards = self._rewards(batch.reward[row])
        ended = (batch.ended[row] > ENDED).cpu().numpy()
        steps = int(ended.argmax()) + 1 if ended.any() else len(ended)
        index, period_s = number * TOGETHER + row, self.manner.period_s
        name = f"synthetic-{self.seed}-{index}"
        seed = start_seed(self.seed, index, 0)
        yield EpisodeStart(
            name, self.manner.phase, {STATE_KEY: states[0]}, 0.0, seed, operator=OPERATOR, synthetic=True
        )
        for step in range(steps):
            last = step == steps - 1
            yield Transition(
                episode_id=name,
                step=step,
                observation={STATE_KEY: states[step]},
                proposed_action=actions[step],
                executed_action=actions[step],
                is_intervention=False,
                reward=float(rewards[step]),
                next_observation={STATE_KEY: states[step + 1]},
                terminated=bool(ended[step]),
                truncated=last and not ended[step],
                stamp_s=(step + 1) * period_s,
                policy_version=self.version,
            )
        success = bool(ended[steps - 1]) and rewards[steps - 1] > 0.0
        yield EpisodeEnd(name, bool(success), steps, steps * period_s, 0)

    def _rewards(self, sampled: Tensor) -> NDArray[np.float32]:
        """(R - 1,) the nearest of the data's values, where these are few."""
        rewards = sampled.cpu().numpy().astype(np.float32)
        known = self.manner.rewards
        return known[np.abs(rewards[:, None] - known).argmin(1)] if len(known) else rewards


def log_likelihood(target: TargetPolicy, states: Tensor, actions: Tensor) -> float:
    """Mean of log pi(a | s) over states (B, R, S) and actions (B, R, A), up to the policy's constant."""
    with torch.no_grad():
        return float(target.log_prob(states.flatten(0, -2), actions.flatten(0, -2).clamp(-1.0, 1.0)).mean())


def check_same(store: EpisodeStore, there: Mapping[int, EpisodeInfo], wanted: Mapping[str, Any]) -> None:
    """`ConfigError` when synthetic episodes of this seed were made otherwise than is `wanted`."""
    for info in there.values():
        before = store.recording(info.recording)["configuration"]
        if changed := [key for key in wanted if before.get(key) != wanted[key]]:
            raise ConfigError(
                f"{store.path} has synthetic episodes of seed {wanted['seed']} that were made with another "
                f"{', '.join(changed)}; choose another --seed or another --out"
            )
