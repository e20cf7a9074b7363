"""Run a checkpoint in simulation without a person, and report its success with an interval.

  robot-rl evaluate runs/demo --episodes 100
  robot-rl evaluate runs/door/checkpoints/step_000040000 --episodes 20 --video door.mp4
  robot-rl evaluate runs/imitate/scene_score_seed0 --episodes 20 policy.steps=10 policy.guidance=2
  robot-rl evaluate runs/imitate/scene_words --words "open the drawer" "close the window" --episodes 20
  robot-rl evaluate runs/imitate/lift_score_seed0 --goal "runs/play/lift#12"
  robot-rl evaluate runs/imitate/lift_score_seed0 --critic runs/offline/lift_iql_seed0 --samples 16
  robot-rl evaluate runs/imitate/lift_score_seed0 --critic runs/offline/lift_iql_seed0 --veto runs/offline/lift_fisor
  robot-rl evaluate runs/imitate/puzzle-3x3_score_seed0 --subgoals
  robot-rl evaluate runs/imitate/lift_score_seed0 --remote ws://127.0.0.1:8765
  robot-rl evaluate --twin runs/kitchen runs/imitate/door_score runs/imitate/door_act episodes=100 --real trials.csv

The start states are the same for every checkpoint with the same --seed, and none of them was trained on. A task
with goals is evaluated at each of them, from the same start states; or at goals in words, or at one shown by the last
observation of an episode. Overrides change what acting depends on. With --twin, several policies are run in the twins
of a scene that `robot-rl cousins` extracted, and ranked (docs/twin.md); overrides are of conf/evaluate_twin.yaml.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from policies.remote import RemoteConfig
from robot_rl.actor import episode_seed
from robot_rl.apps.config import add_overrides, check_writable, not_negative, positive
from robot_rl.apps.remote import add_remote, load_remote
from robot_rl.apps.runs import (
    build_film_env,
    build_run_env,
    check_words,
    find_checkpoint,
    front_camera,
    goals_of,
    load_bundle,
    load_policy,
    read_goal,
    read_run,
)
from robot_rl.apps.steering import add_steering, given_steering, steer_by
from robot_rl.apps.subgoals import plan_by_subgoals
from robot_rl.apps.twins import add_twin
from robot_rl.apps.video import Film, check_film
from robot_rl.errors import ConfigError
from robot_rl.intervention import Intervention, NoHuman
from robot_rl.loop import run_episode
from robot_rl.protocols import Env, Policy, Subscriber
from robot_rl.records import EpisodeLog, EpisodeRecord, success_rate, without_nan
from robot_rl.statistics import wilson_interval
from robot_rl.types import Goal

FILM_HW = (368, 480)
REMOTE_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a run's directory, or one checkpoint in it")
    parser.add_argument("--episodes", type=positive, default=50, help="of each goal, if it has any (default: 50)")
    add_overrides(parser)
    parser.add_argument("--seed", type=not_negative, default=0, help="of the start states (default: 0)")
    parser.add_argument("--words", nargs="+", default=[], metavar="TEXT", help="goals in words, instead of the task's")
    parser.add_argument("--goal", default="", metavar="STORE#EPISODE", help="the goal of a task that tells none")
    parser.add_argument("--video", type=Path, help="film the first episodes into this .mp4")
    parser.add_argument("--video-episodes", type=positive, default=5, help="how many of them (default: 5)")
    add_steering(parser)
    parser.add_argument("--subgoals", action="store_true", help="tell it one change at a time, by `robot-rl subgoals`")
    parser.add_argument("--bundle", type=Path, help="act by this exported bundle instead of the checkpoint")
    add_remote(parser)
    parser.add_argument("--out", type=Path, help="write the result as JSON; with --twin: the results' folder")
    add_twin(parser)


def run(args: argparse.Namespace) -> int:
    if args.twin:
        from robot_rl.apps import evaluate_twin

        return evaluate_twin.run(args)
    console = Console()
    if args.video:
        check_film(args.video)
    if args.out:  # written last
        check_writable(args.out)
    if any(one.partition("=")[0] == "seed" for one in args.overrides):
        raise ConfigError("seed= is what the run was learned with; the start states are those of --seed")
    run_dir, checkpoint = find_checkpoint(args.path)
    experiment = read_run(run_dir, args.overrides)
    if args.subgoals and args.words:
        raise ConfigError("subgoals are chosen towards goals that are shown: without --words")
    if any(not text.strip() for text in args.words):
        raise ConfigError("--words: an empty text says nothing")
    goals = goals_of(experiment, args.words)
    if args.goal and goals:
        raise ConfigError(f"{experiment.task.name} tells goals of its own: --goal is of tasks that tell none")
    if args.words and not goals:  # the task has no words of its own: it judges by itself, whatever the policy is told
        goals = [{}]
        if len(args.words) > 1:
            raise ConfigError(f"{experiment.task.name} judges one thing only: give one text to --words")
    told = read_goal(experiment, args.words[0] if args.words else "", args.goal, steered=bool(args.critic))
    policy = _load(experiment, checkpoint, args, told)
    for text in args.words:
        check_words(policy, text)
    if args.subgoals:
        plan_by_subgoals(policy, experiment, run_dir)
    steering, unsafe_before = None, 0
    if args.critic:
        policy = steer_by(policy, experiment, run_dir, args.critic, args.veto, given_steering(args), args.goal)
        steering = policy.steering
        if steering.told and not (goals or args.goal):
            raise ConfigError("this critic knows goals by observations: give it one by --goal STORE#EPISODE")
        console.print(f"steered by {args.critic}: {steering.config}")
    elif args.veto:
        raise ConfigError("--veto forbids candidates of a choice: it goes with --critic (a run of FISOR can be both)")
    elif given := given_steering(args):
        raise ConfigError(f"--{', --'.join(given)}: of a choice among candidates, which goes with --critic")
    env = build_run_env(experiment)
    if args.video:
        film(experiment, policy, args.video, args.video_episodes, args.seed, goals)
        console.print(f"film: {args.video}")
        unsafe_before = steering.unsafe if steering is not None else 0
    log = EpisodeLog()
    try:
        evaluate(env, policy, args.episodes, args.seed, [log], track_with=console, goals=goals)
    except KeyboardInterrupt:
        console.print("interrupted; what follows is of the episodes until then")
    records = log.of("evaluate")
    if not records:
        raise KeyboardInterrupt
    result = summarize(records, checkpoint, args.seed, goals)
    if steering is not None and steering.veto is not None:
        result["unsafe_choices"] = steering.unsafe - unsafe_before
        console.print(f"choices in which no candidate was safe: {result['unsafe_choices']}")
    _tell(console, result, len(records), args.words)
    if args.out:
        origin = {"run": str(run_dir), "overrides": args.overrides}
        whole = without_nan(origin | result | {"episodes": [asdict(one) for one in records]})
        args.out.write_text(json.dumps(whole, indent=2) + "\n")
    if len(records) < args.episodes * max(len(goals), 1):
        raise KeyboardInterrupt
    return 0


def _tell(console: Console, result: Mapping[str, Any], episodes: int, words: Sequence[str]) -> None:
    low, high = result["success_interval_95"]
    steps = f", {result['mean_success_steps']:.1f} steps" if result["success_rate"] else ""
    for number, rate in enumerate(result["success_rate_by_goal"]):
        name = words[number] if words else f"goal {number + 1}"
        console.print(f"{name}: success {rate:.3f}")
    console.print(
        f"{result['checkpoint']}: success {result['success_rate']:.3f} [{low:.3f}, {high:.3f}] of {episodes}{steps}"
    )


def _load(experiment: Any, checkpoint: Path, args: argparse.Namespace, told: Goal | None) -> Policy:
    if args.bundle and args.remote:
        raise ConfigError("--bundle and --remote: one of them can act; serve the bundle if that is meant")
    if args.bundle:
        return load_bundle(experiment, args.bundle, told, args.overrides)
    if not args.remote:
        return load_policy(experiment, checkpoint, told)
    policy = load_remote(experiment, RemoteConfig(args.remote, args.token_file, REMOTE_TIMEOUT_S), told)
    # In lockstep time stands still: an episode that goes on without the policy would be no trial of it.
    policy.execution = replace(policy.execution, patience_s=0.0)
    return policy


def evaluate(
    env: Env,
    policy: Policy,
    episodes: int,
    seed: int,
    subscribers: Sequence[Subscriber] = (),
    track_with: Console | None = None,
    goals: Sequence[Mapping[str, Any]] = (),
    phase: str = "evaluate",
) -> list[EpisodeRecord]:
    """`episodes` episodes from the start states of `seed` for `phase`, nobody intervening.

    With `goals` (options of the environment's reset) so many at each of them: start state by start state, goal by goal.
    """
    log = EpisodeLog()
    control = Intervention(policy, NoHuman(env.action_spec.dim), env.action_spec)
    indices = range(episodes * max(len(goals), 1))
    for index in track(indices, "evaluate", console=track_with) if track_with else indices:
        start, goal = divmod(index, max(len(goals), 1))
        options = dict(goals[goal]) if goals else None
        start_seed = episode_seed(seed, phase, start)
        run_episode(env, control, [*subscribers, log], phase=phase, seed=start_seed, options=options)
    return log.records


def film(
    experiment: Any, policy: Policy, path: Path, episodes: int, seed: int, goals: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Film at most so many evaluation episodes, as many at each goal; raises when nothing can render here."""
    env = build_film_env(experiment, FILM_HW)
    try:
        camera = Film(front_camera(env), env.rate_hz)
        evaluate(env, policy, max(episodes // max(len(goals), 1), 1), seed, [camera], goals=goals[:episodes])
        return camera.write(path)
    finally:
        env.close()


def summarize(
    records: Sequence[EpisodeRecord], checkpoint: Path, seed: int, goals: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Success with its interval, over all and by goal."""
    successes = [record.steps for record in records if record.success]
    return {
        "checkpoint": checkpoint.name,
        "seed": seed,
        "success_rate": success_rate(records),
        "success_interval_95": list(wilson_interval(len(successes), len(records))),
        "success_rate_by_goal": [success_rate(records[goal :: len(goals)]) for goal in range(len(goals))],
        "mean_success_steps": float(np.mean(successes)) if successes else float("nan"),
    }
