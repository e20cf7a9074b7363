"""The actor's phases end to end, in one process, with the real learner and memory on a kinematic world."""

import dataclasses

import numpy as np
import pytest

from data.memory import ExperienceMemory
from policies.expo import EXPOPolicyConfig
from policies.gaussian import GaussianConfig
from policies.generative import GenerativeConfig
from policies.q_chunking import QChunkingPolicyConfig
from robot_rl.actor import PHASES, SEEDS_PER_PHASE, Actor, ScheduleConfig, episode_seed
from robot_rl.algorithms.expo import EXPO, EXPOConfig
from robot_rl.algorithms.q_chunking import QChunking, QChunkingConfig
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.critics import CriticConfig
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.learner import Learner, LearnerConfig
from robot_rl.person import PersonConfig, ScriptedHuman, ScriptedPerson
from robot_rl.records import EpisodeLog
from robot_rl.transport import LocalTransport
from robot_rl.types import HumanInput
from tests.kinematic_world import GoalExpert, KinematicWorld

CONFIG = EnvConfig(action=("x", "y", "z", "gripper"), max_steps=25, objects=("goal",))
SMALL = GaussianConfig(hidden=(32, 32))
BASE, CRITICS = GenerativeConfig(hidden=(32, 32), steps=2), CriticConfig(hidden=(32, 32))
LEARNERS = {
    "rlpd": (lambda networks: RLPD(RLPDConfig(hidden=(32, 32)), networks), SMALL),
    "expo": (
        lambda networks: EXPO(EXPOConfig(), networks),
        EXPOPolicyConfig(hidden=(32, 32), base=BASE, critics=CRITICS, samples=2),
    ),
    "expo, asynchronous": (
        lambda networks: EXPO(EXPOConfig(), networks),
        EXPOPolicyConfig(hidden=(32, 32), base=BASE, critics=CRITICS, samples=2, asynchronous=True),
    ),
    "q_chunking": (
        lambda networks: QChunking(QChunkingConfig(imitation_updates=0), networks),
        QChunkingPolicyConfig(base=BASE, critics=CRITICS, samples=4),
    ),
}


def make(log: EpisodeLog, schedule: ScheduleConfig, kind: str = "rlpd") -> tuple[Actor, Learner]:
    env = RobotEnv(KinematicWorld(tracking=0.9), CONFIG)
    specs = env.observation_spec, env.action_spec
    learn, config = LEARNERS[kind]
    algorithm = learn(config.build_networks(*specs))
    learner = Learner(
        algorithm,
        ExperienceMemory(*specs, capacity=2000, seed=0, returns=algorithm.returns),
        LearnerConfig(batch_size=32, warmup_steps=10, utd=2.0, pretrain_updates=0),
    )
    person = ScriptedPerson(GoalExpert(), env.action_spec, PersonConfig(hand_speed=0.8), seed=0)
    human = ScriptedHuman(person, env.snapshot)
    actor = Actor(env, config.build_policy(*specs), human, LocalTransport(learner), schedule, log)
    return actor, learner


@pytest.mark.parametrize("kind", LEARNERS)
def test_phases_run_in_order_and_the_ratio_holds(kind: str):
    log = EpisodeLog()
    actor, learner = make(log, ScheduleConfig(demos=2, learn_steps=60, evaluate_episodes=3), kind)
    actor.run()
    phases = [record.phase for record in log.records]
    assert phases == sorted(phases, key=PHASES.index)
    assert sum(record.success for record in log.of("demo")) == 2
    assert len(log.of("evaluate")) == 3
    assert learner.memory.online_steps == log.env_steps >= 60
    assert learner.updates == 2 * log.env_steps
    assert all(record.interventions == 0 for record in log.of("evaluate"))
    assert {record.policy_version for record in log.of("evaluate")} == {learner.updates}


def test_interventions_reach_both_buffers_and_demonstrations_only_one():
    actor, learner = make(EpisodeLog(), ScheduleConfig(demos=1, learn_steps=40, evaluate_episodes=0))
    actor.run()
    demos = sum(record.steps for record in actor.log.of("demo") if record.success)
    interventions = sum(record.interventions for record in actor.log.of("learn"))
    assert interventions > 0
    assert learner.memory.demo_steps == demos + interventions
    assert len(learner.memory.online) == actor.log.env_steps


def test_a_second_actor_goes_on_where_the_log_stops(tmp_path):
    path, schedule = tmp_path / "episodes.jsonl", ScheduleConfig(demos=2, learn_steps=50, evaluate_episodes=2)
    first, _ = make(EpisodeLog(path), schedule)
    while first.demos_left > 1:
        first.demonstrate_once()
    first.learn_once()
    steps = first.log.env_steps
    second, _ = make(EpisodeLog(path), schedule)
    assert second.demos_left == 1 and second.log.env_steps == steps
    second.run()
    assert len(second.log.of("evaluate")) == 2


def test_learning_ends_at_the_minutes_too():
    log = EpisodeLog()
    actor, _ = make(log, ScheduleConfig(demos=0, learn_steps=10**6, learn_minutes=0.5))
    actor.learn_once()
    assert actor.learn_steps_left > 0
    log.records[-1] = dataclasses.replace(log.records[-1], duration_s=20.0, reset_s=10.0)
    assert actor.learn_steps_left == 0


def test_start_states_of_the_phases_never_meet():
    seeds = [
        episode_seed(seed, phase, index) for seed in (0, 1, 7) for phase in PHASES for index in (0, SEEDS_PER_PHASE - 1)
    ]
    assert len(set(seeds)) == len(seeds)
    ranges = np.array(seeds).reshape(-1, 2)
    assert (np.diff(ranges, axis=1) == SEEDS_PER_PHASE - 1).all()


@pytest.mark.parametrize("interventions", [True, False])
def test_the_schedule_decides_whether_the_person_watches(interventions):
    schedule = ScheduleConfig(demos=0, learn_steps=25, evaluate_episodes=0, interventions=interventions)
    actor, _ = make(EpisodeLog(), schedule)
    actor.run()
    assert any(record.interventions for record in actor.log.of("learn")) == interventions


def test_progress_says_how_far_each_phase_is():
    actor, _ = make(EpisodeLog(), ScheduleConfig(demos=1, learn_steps=30, evaluate_episodes=2))
    assert actor.progress() == "demonstrations: 0 of 1"
    while actor.demos_left > 0:
        actor.demonstrate_once()
    assert actor.progress() == "demonstrations: 1 of 1"
    record = actor.learn_once()
    assert actor.progress() == (
        f"learning: {record.steps} of 30 steps; last 1 episodes: success {record.success:.0%}, "
        f"person in control {record.interventions / record.steps:.0%} of the steps"
    )
    actor.finish_learning()
    outcome = actor.evaluate_once()
    assert actor.progress() == f"evaluation: 1 of 2, success {outcome.success:.0%}"


@pytest.mark.parametrize("attended", [False, True])
def test_a_person_intervenes_in_evaluation_only_where_it_is_attended(attended: bool):
    actor, _ = make(EpisodeLog(), ScheduleConfig(evaluate_episodes=1, attended=attended))
    actor.human.read = lambda: HumanInput(True, np.zeros(4))
    record = actor.evaluate_once()
    assert record.interventions == (record.steps if attended else 0)
