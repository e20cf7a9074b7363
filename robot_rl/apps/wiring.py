"""Builds the parts of an experiment from its composed configuration: `robot-rl train`, the nodes, benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.memory import ExperienceMemory
from policies.augmentation import random_crop
from policies.base import pin_base
from policies.expo import EXPOPolicyConfig
from policies.gaussian import GaussianConfig
from policies.korr import KORRPolicyConfig
from policies.networks import PolicyConfig
from policies.q_chunking import QChunkingPolicyConfig
from robot_rl.actor import LearnedPolicy, ScheduleConfig
from robot_rl.algorithms import Algorithm
from robot_rl.algorithms.bc import BC, BCConfig
from robot_rl.algorithms.expo import EXPO, EXPOConfig
from robot_rl.algorithms.h2o import H2O, H2OConfig
from robot_rl.algorithms.korr import KORR, KORRConfig
from robot_rl.algorithms.q_chunking import QChunking, QChunkingConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.apps.config import check_choice, compose, read_configuration
from robot_rl.apps.origins import Stores, each, load_stores, pinned, start_from
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.types import ActionSpec, ObservationSpec
from sim.experts import make_expert
from sim.tasks import TaskConfig

ALGORITHMS: dict[type, tuple[Callable[..., Algorithm], type[PolicyConfig]]] = {
    RLPDConfig: (RLPD, GaussianConfig),
    BCConfig: (BC, GaussianConfig),
    EXPOConfig: (EXPO, EXPOPolicyConfig),
    QChunkingConfig: (QChunking, QChunkingPolicyConfig),
    KORRConfig: (KORR, KORRPolicyConfig),
    H2OConfig: (H2O, GaussianConfig),
}
"""By configuration: what learns, and the configuration of the policies that it can teach."""


@dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on; conf/train.yaml composes it."""

    task: TaskConfig
    """World, observations and actions."""
    robot: dict[str, Any]
    """Which arm (conf/robot); lockstep simulation needs its `sim_robot` alone."""
    algorithm: Any
    """The algorithm's own dataclass (`RLPDConfig`, `EXPOConfig`, `QChunkingConfig`, `KORRConfig`, `BCConfig`)."""
    policy: PolicyConfig
    """The acting policy's own dataclass (`GaussianConfig`, `EXPOPolicyConfig`, `QChunkingPolicyConfig`, ...)."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """Batch size, update-to-data ratio, checkpoints."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Demonstrations, learning steps, evaluation episodes."""
    person: PersonConfig = field(default_factory=PersonConfig)
    """Limits and habits of the scripted person."""
    demo_fraction: float = 0.5
    """Share of each batch from demonstrations and interventions."""
    own_successes: bool = True
    """Whether what the policy did alone and with success joins the demonstrations."""
    demos: Stores = ()
    """Episode stores (one, or a list) whose successful episodes are demonstrations, too, whoever acted in them."""
    sim_data: Stores = ()
    """Episode stores of a simulation of the task, as of cousins: a source of their own beside what happens here."""
    sim_fraction: float = 0.5
    """Share of each batch from `sim_data`; the rest is shared by `demo_fraction`."""
    init: Path | None = None
    """A run of `robot-rl train` (or one of its checkpoints) whose policy and critics learning begins with."""
    seed: int = 0
    """Seed of networks, replay, person and start states."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.demo_fraction <= 1.0 or not 0.0 < self.sim_fraction < 1.0 or self.seed < 0:
            raise ConfigError(
                "demo_fraction must be in [0, 1], sim_fraction in (0, 1) and seed not negative; "
                f"got {self.demo_fraction}, {self.sim_fraction}, {self.seed}"
            )
        if isinstance(self.algorithm, H2OConfig) and not each(self.sim_data):
            raise ConfigError("H2O weighs simulated experience, and there is none: sim_data=STORE")
        possible = getattr(self.algorithm, "value_range", None)
        if self.task.env.passivity is not None and possible is not None and possible[0] >= 0.0:
            raise ConfigError(
                f"task.env.passivity lets returns fall below 0, which algorithm.value_range = {possible} excludes: "
                "algorithm.value_range=[-1,1]"
            )


def load_experiment(overrides: Sequence[str] = ()) -> Experiment:
    """Compose conf/train.yaml with `key=value` overrides; `ConfigError` names the valid keys."""
    check_choice("algorithm", overrides, "train", ALGORITHMS.__contains__)
    experiment = compose("train", overrides, Experiment)
    return replace(
        experiment,
        policy=experiment.policy.pinned(),
        demos=pinned(experiment.demos),
        sim_data=pinned(experiment.sim_data),
        init=None if experiment.init is None else pin_base(experiment.init),
    )


def read_experiment(run_dir: Path) -> Experiment:
    """The configuration that a run was begun with; `DataError` when it cannot be read."""
    return read_configuration(run_dir, Experiment)


def node_experiment(task: str, seed: int, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment as the nodes name it: task and seed, then overrides (each may hold several, by spaces)."""
    return load_experiment([f"task={task}", f"seed={seed}", *" ".join(overrides).split()])


def build_env(experiment: Experiment) -> RobotEnv:
    """The task in simulation, in lockstep."""
    return build_task_env(experiment.task, experiment.robot)


def build_task_env(task: TaskConfig, robot: dict[str, Any]) -> RobotEnv:
    """`task` with the arm that `robot` (conf/robot) names for simulation; `ConfigError` if they do not go together."""
    env = RobotEnv(task.build_world(robot["sim_robot"].lower()), task.env)
    env.check_names()
    return env


def build_specs(env: EnvConfig) -> tuple[ObservationSpec, ActionSpec]:
    """What the agent sees and does, without building a world."""
    return env.observation_spec, env.action_spec


def build_person(experiment: Experiment, env: RobotEnv) -> ScriptedHuman:
    """The scripted person at the intervention input of `env`."""
    expert = make_expert(experiment.task.name)
    person = ScriptedPerson(expert, env.action_spec, experiment.person, experiment.seed)
    return ScriptedHuman(person, env.snapshot)


def build_learner(experiment: Experiment) -> Learner:
    """Algorithm and memory, from the experiment and what it names on disk (no world needed)."""
    observation_spec, action_spec = build_specs(experiment.task.env)
    kind = type(experiment.algorithm)
    if kind not in ALGORITHMS:
        raise UnknownNameError("algorithm", kind.__name__, (one.__name__ for one in ALGORITHMS))
    learn, taught = ALGORITHMS[kind]
    if not isinstance(experiment.policy, taught):
        raise UnknownNameError(f"policy of {kind.__name__}", type(experiment.policy).__name__, [taught.__name__])
    networks = experiment.policy.build_networks(observation_spec, action_spec, experiment.seed)
    augment = random_crop if observation_spec.image_keys else None
    algorithm = learn(experiment.algorithm, networks, augment)
    memory = ExperienceMemory(
        observation_spec,
        action_spec,
        experiment.learner.capacity,
        experiment.seed,
        algorithm.returns,
        experiment.demo_fraction,
        experiment.own_successes,
        experiment.sim_fraction if each(experiment.sim_data) else 0.0,
    )
    specs = observation_spec, action_spec
    if experiment.init is not None:
        start_from(experiment.init, algorithm, experiment, *specs)
    load_stores(experiment.demos, memory.add_demonstration, *specs, successes_only=True)
    load_stores(experiment.sim_data, memory.add_simulated, *specs)
    return Learner(algorithm, memory, experiment.learner)


def build_policy(experiment: Experiment) -> LearnedPolicy:
    """The acting policy, with fresh weights until parameters arrive."""
    return experiment.policy.build_policy(*build_specs(experiment.task.env), experiment.seed)
