"""Find out, on held-out episodes, how well a critic steers a policy: with how many candidates, and how greedily.

  robot-rl steer runs/imitate/lift_score_seed0 runs/offline/lift_iql_seed0

Half of the critic's ensemble chooses, the other half judges (and the other way round), so that a choice which only
exploits the critic's errors gains nothing. The setting is kept in the policy's run, where `robot-rl evaluate --critic`
and the deploy graph find it. Nothing moves.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from policies.chunking import ChunkPolicy
from policies.sources import ManySource, as_many
from policies.steered import SteeringConfig
from policies.steering_choice import SAMPLES, Trial, best_setting, try_settings
from robot_rl.apps.config import add_overrides, not_negative, positive
from robot_rl.apps.imitation import ImitationExperiment, open_material
from robot_rl.apps.runs import find_checkpoint, load_policy, read_run
from robot_rl.apps.steering import load_critic, write_setting
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="the policy: a run of `robot-rl imitate`, or one checkpoint in it")
    parser.add_argument("critic", type=Path, help="a run of `robot-rl offline`, or one checkpoint in it")
    add_overrides(parser)
    parser.add_argument("--states", type=positive, default=256, help="held-out states to try (default: 256)")
    parser.add_argument("--pessimism", type=float, default=1.0, help="standard deviations below the ensemble's mean")
    parser.add_argument("--seed", type=not_negative, default=0)


def run(args: argparse.Namespace) -> int:
    console = Console()
    config = SteeringConfig(pessimism=args.pessimism)
    run_dir, checkpoint = find_checkpoint(args.path)
    experiment = read_run(run_dir, args.overrides)
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError(
            f"{run_dir} was learned by robot-rl train, and held-out episodes tell nothing of it; robot-rl evaluate "
            "--critic RUN --samples K steers it"
        )
    policy = load_policy(experiment, checkpoint)
    assert isinstance(policy, ChunkPolicy)
    values = _values(experiment, as_many(policy.source), args, console)
    trials = try_settings(values, config.pessimism)
    best = best_setting(trials, config)
    console.print(_table(trials, best))
    path = write_setting(run_dir, args.critic, best, [asdict(one) for one in trials])
    console.print(f"{path}: {best.samples} candidates, temperature {best.temperature:.3g}")
    if best.samples == 1:
        console.print("no number of candidates is better than none by what the held-out episodes tell")
    return 0


def _values(
    experiment: ImitationExperiment, source: ManySource, args: argparse.Namespace, console: Console
) -> FloatArray:
    """Values (N, M, K) of the policy's candidates at states that neither was trained on."""
    critic = load_critic(args.critic, experiment.task)
    learned = read_run(find_checkpoint(args.critic)[0])
    held_out = open_material(experiment, learned).held_out
    if held_out is None:
        raise ConfigError(
            f"{experiment.data} has no episode that both policy and critic held out: learn both with the same held_out "
            "above 0, of two episodes or more"
        )
    windows = held_out.batch(args.seed, args.states)
    random = np.random.default_rng(args.seed)
    shape = (max(SAMPLES), source.horizon, experiment.task.action_spec.dim)
    found = []
    for index in track(range(args.states), "steer", console=console):
        seen = {key: value[index] for key, value in windows.observation.items()}
        goal = {key: value[index] for key, value in windows.goal.items()}
        told = source.tell(goal if experiment.policy.inputs.goal else {}, "", {k: v[-1] for k, v in seen.items()})
        noise = random.standard_normal(shape, np.float32)
        chunks = source.sample_many(seen, told, noise, index, None)
        found.append(critic.values(seen, goal if critic.told else {}, np.clip(chunks, -1.0, 1.0)))
    return np.stack(found, 1)


def _table(trials: list[Trial], best: SteeringConfig) -> Table:
    table = Table("candidates", "temperature", "gain in value", "standard error", "")
    for one in trials:
        is_best = (one.samples, one.temperature) == (best.samples, best.temperature)
        figures = (f"{one.samples}", f"{one.temperature:.3g}", f"{one.gain:+.4f}", f"{one.error:.4f}")
        table.add_row(*figures, "chosen" if is_best else "")
    return table
