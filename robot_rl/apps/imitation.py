"""Builds the parts of an imitation experiment from its composed configuration: `robot-rl imitate`, benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.cache import Cache, open_cache
from data.goals import GoalConfig
from data.labels import read_labels, texts_of
from data.loader import load_batches
from data.store import EpisodeStore
from data.violations import violations
from data.windows import ActionKind, Padding, Parts, WindowConfig, WindowSampler
from policies.augmentation import random_crop
from policies.chunk_net import ChunkNet, ChunkSampler
from policies.chunking import ChunkPolicy, check_asynchronous
from policies.hiql import HIQLCriticConfig, HIQLCriticNet
from policies.sources import ChunkSource
from policies.torch_source import TorchSource
from policies.values import ChunkCriticConfig, ChunkCriticNet
from robot_rl.algorithms.imitation import Imitation, ImitationConfig
from robot_rl.algorithms.offline import OfflineConfig
from robot_rl.apps.changes import changes_for_goals
from robot_rl.apps.config import group_choices
from robot_rl.apps.held_out import OUTCOMES, Outcomes, choose_episodes
from robot_rl.apps.offline_checks import check_critic, check_levels, check_returns
from robot_rl.apps.wiring import build_task_env
from robot_rl.batch import Returns, Windows
from robot_rl.changes import ChangeConfig
from robot_rl.errors import ConfigError, DataError, SpecError, UnknownNameError
from robot_rl.protocols import Env
from robot_rl.spec_difference import difference
from robot_rl.types import STATE_KEY, ActionSpec, Goal, ObservationSpec
from robot_rl.wire_events import PHASES
from sim.ogbench_env import OgbenchTask
from sim.tasks import TaskConfig

STUDIED_TOGETHER = 4096
STEPWISE = ("gaussian", "expo", "q_chunking", "korr")
"""Policies that `robot-rl train` teaches, action by action; these names begin so."""


@dataclass(frozen=True)
class ImitationExperiment:
    """Everything that an imitation run depends on; conf/imitate.yaml composes it."""

    task: Any
    """The task in which the policy is evaluated (`TaskConfig`, `OgbenchTask`)."""
    robot: dict[str, Any]
    """Which arm (conf/robot), for tasks that leave the choice."""
    data: Path
    """The episode store to learn from."""
    policy: Any
    """The policy's own dataclass (`ScoreConfig`, `GCBCConfig`, `ACTConfig`, `HIQLPolicyConfig`)."""
    algorithm: ImitationConfig
    """Optimiser, updates, device; or offline RL (`IQLConfig`, `CalQLConfig`, `HIQLConfig`), with a critic, too."""
    goals: GoalConfig = field(default_factory=GoalConfig)
    """Where goals come from."""
    critic: ChunkCriticConfig | HIQLCriticConfig | None = None
    """The critic's networks; of offline RL."""
    value_goals: GoalConfig | None = None
    """Where goals come from that values are learned of, if not as those of the policy."""
    changes: ChangeConfig = field(default_factory=ChangeConfig)
    """What counts as a change, for goals at the next one (goals.next_change) and `robot-rl subgoals`."""
    padding: Padding = "repeat"
    """What stands for actions after an episode's end."""
    actions: ActionKind = "executed"
    """What is imitated: what was `executed`, or what was `proposed`, which is better where noise was injected into what
    was executed (robot-rl cousins demonstrate; DART, 1703.09327)."""
    phases: tuple[str, ...] = ("demo", "play")
    """Of the episodes to learn from: demo, play, learn, evaluate."""
    outcomes: Outcomes = "success"
    """Whether failures are imitated as well (`all`); play has no outcome."""
    synthetic: bool = True
    """Whether synthetic episodes (robot-rl synthesize) are learned from as well; held out are recorded ones."""
    batch_size: int = 256
    """Windows per update."""
    held_out: float = 0.05
    """Share of the episodes that is not trained on, and tells how well the policy generalises."""
    workers: int = 0
    """Processes that draw batches; 0 draws them in the trainer, which for states is as fast."""
    checkpoint_every_s: float = 120.0
    """Wall-clock time between two checkpoints."""
    keep_checkpoints: int = 5
    """Older ones are deleted."""
    seed: int = 0
    """Of weights, windows and noise."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out < 1.0 or min(self.batch_size, self.keep_checkpoints) < 1:
            raise ConfigError(
                "need held_out in [0, 1), batch_size and keep_checkpoints at least 1; got "
                f"{self.held_out}, {self.batch_size}, {self.keep_checkpoints}"
            )
        if min(self.workers, self.seed) < 0:
            raise ConfigError(f"workers and seed must not be negative; got {self.workers}, {self.seed}")
        if self.outcomes not in OUTCOMES:
            raise UnknownNameError("outcomes", self.outcomes, OUTCOMES)
        for phase in self.phases:
            if phase not in PHASES:
                raise UnknownNameError("phase", phase, PHASES)
        if not hasattr(self.policy, "build"):
            choices = ", ".join(name for name in group_choices("policy") if not name.startswith(STEPWISE))
            raise ConfigError(f"{type(self.policy).__name__} does not learn chunks; policies that do: {choices}")
        check_levels(self.algorithm, self.critic, self.policy)
        check_critic(self.algorithm, self.critic, self.policy)
        execute, horizon = self.policy.execution.execute, self.policy.horizon
        if execute > horizon:
            raise ConfigError(f"policy.execution.execute must not exceed policy.horizon; got {execute} of {horizon}")
        check_asynchronous(self.policy.execution, horizon)

    @property
    def returns(self) -> Returns:
        """How windows sum rewards."""
        if self.critic is None or not isinstance(self.algorithm, OfflineConfig):
            return Returns()
        return self.algorithm.returns(self.critic.horizon)


@dataclass(frozen=True)
class Material:
    """What there is to learn from."""

    cache: Cache
    observation_spec: ObservationSpec
    action_spec: ActionSpec
    train: WindowSampler
    held_out: WindowSampler | None
    texts: list[str]
    """That windows' text numbers refer to."""

    def batches(self, experiment: Any, start: int) -> Iterator[Windows]:
        """Batches from number `start` to the last one planned."""
        stop = experiment.algorithm.updates
        return load_batches(self.train, experiment.batch_size, start=start, stop=stop, workers=experiment.workers)


def open_material(experiment: ImitationExperiment, beside: ImitationExperiment | None = None) -> Material:
    """Map the data. Held out is only what `beside`, if it is of the same store, did not learn from either."""
    store = EpisodeStore(experiment.data)
    cache = open_cache(store)
    policy = experiment.policy
    config = WindowConfig(
        policy.inputs.history,
        policy.horizon,
        experiment.padding,
        experiment.goals,
        policy.sees_future,
        value_goals=experiment.value_goals,
        start=policy.inputs.words is not None,
        subgoals=experiment.algorithm.subgoals(),
        actions=experiment.actions,
    )
    labels = read_labels(experiment.data) if policy.inputs.words is not None else {}
    texts = texts_of(labels)
    if policy.inputs.words is not None and not texts:
        raise DataError(f"{experiment.data} has no labels to learn words from; write some: robot-rl data label --help")
    parts = Parts.of(cache, labels, texts)
    learned, out = choose_episodes(cache, experiment)
    if beside is not None and beside.data.resolve() == experiment.data.resolve():
        out &= ~choose_episodes(cache, beside)[0]
    sampler = partial(
        WindowSampler,
        cache.arrays,
        cache.ends,
        config,
        returns=experiment.returns,
        labels=parts,
        violation=_violations(experiment, store, cache),
        next_changes=changes_for_goals(experiment, store, cache),
    )
    train = sampler(seed=experiment.seed, episodes=learned)
    check_returns(experiment.algorithm, train, experiment.data)
    if texts and not train.labelled_steps:
        raise DataError(
            f"no labelled part of {experiment.data} is learned from: all lie in episodes that are held out (the first "
            "is; held_out=0 uses all), discarded, or of other phases"
        )
    held_out = sampler(seed=experiment.seed + 1, episodes=out) if out.any() else None
    return Material(cache, store.observation_spec, store.action_spec, train, held_out, texts)


def _violations(experiment: ImitationExperiment, store: EpisodeStore, cache: Cache) -> NDArray[np.float32] | None:
    """By observation, for algorithms that learn of them."""
    cost = experiment.algorithm.costs()
    if cost is None:
        return None
    arrays = store.observation_spec.arrays
    names = arrays[STATE_KEY].names if STATE_KEY in arrays else ()
    return violations(cache.arrays, cache.ends, np.array([info.success for info in cache.infos]), names, cost)


def build_model(experiment: ImitationExperiment, observation: ObservationSpec, action: ActionSpec) -> ChunkSampler:
    """The policy's network with weights drawn from the experiment's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        return experiment.policy.build(observation, action)


def build_critic(
    experiment: ImitationExperiment, observation: ObservationSpec, action: ActionSpec
) -> ChunkCriticNet | HIQLCriticNet:
    """The critic's networks with weights drawn from the experiment's seed; `ConfigError` where it has none."""
    if experiment.critic is None:
        raise ConfigError(f"{type(experiment.algorithm).__name__} learns no critic; robot-rl offline does")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed + 1)
        return experiment.critic.build(observation, action)


def build_imitation(experiment: ImitationExperiment, material: Material) -> Imitation:
    """Model (and critic), normalized by the data's statistics, and trainer."""
    model = build_model(experiment, material.observation_spec, material.action_spec)
    if not isinstance(model, ChunkNet):
        raise ConfigError(f"{type(experiment.policy).__name__} does not learn; its parts do, on their own")
    statistics = material.cache.statistics_to_learn_from()
    pairs = {"action": f"{experiment.actions}_action", STATE_KEY: f"observation/{STATE_KEY}"}
    moments = {name: (one.mean, one.std) for name, key in pairs.items() if (one := statistics.get(key)) is not None}
    if (actions := statistics.get(pairs["action"])) is not None:
        moments["action_range"] = actions.low, actions.high
    for name, parts in moments.items():
        if not all(np.isfinite(part).all() for part in parts):
            path = experiment.data
            raise DataError(f"{path}: {name} holds NaN or Inf; see robot-rl data verify {path} --repair")
    model.fit_normalizers(moments)
    if model.words is not None:
        model.words.learn_texts(material.texts)
    critic = None
    if experiment.critic is not None:
        critic = build_critic(experiment, material.observation_spec, material.action_spec)
        critic.fit_normalizers(moments)
    augment = random_crop if material.observation_spec.image_keys else None
    trainer = experiment.algorithm.build(model, critic, augment)
    trainer.study(material.train.every(STUDIED_TOGETHER))
    return trainer


def build_goal_env(experiment: Any) -> Env:
    """The experiment's task in simulation, in lockstep."""
    task = experiment.task
    if isinstance(task, OgbenchTask):
        return task.build()
    if isinstance(task, TaskConfig):
        return build_task_env(task, experiment.robot)
    raise ConfigError(f"task: {type(task).__name__} is not something that can be built")


def build_chunk_policy(experiment: ImitationExperiment, goal: Goal | None = None) -> ChunkPolicy:
    """The acting policy, with fresh weights until some are loaded."""
    task = experiment.task
    source = TorchSource(build_model(experiment, task.observation_spec, task.action_spec))
    return build_acting_policy(experiment, source, goal)


def build_acting_policy(experiment: ImitationExperiment, source: ChunkSource, goal: Goal | None = None) -> ChunkPolicy:
    """A policy that acts with the chunks of `source` as the experiment says; `goal` of episodes that tell none."""
    task, execution = experiment.task, experiment.policy.execution
    specs = (task.observation_spec, task.action_spec)
    return ChunkPolicy(source, execution, *specs, rate_hz=task.rate_hz, seed=experiment.seed, goal=goal)


def check_specs(material: Material, task: Any) -> None:
    """`SpecError` unless the data were recorded with what the task shows and takes."""
    for name in ("observation_spec", "action_spec"):
        found = difference(getattr(material, name), getattr(task, name), ("data", "task"))
        if found:
            raise SpecError(
                f"the data's {name} is not that of {task.name}: {found}; record again, or choose another task "
                "(task.env.cameras=[...] for cameras)"
            )
