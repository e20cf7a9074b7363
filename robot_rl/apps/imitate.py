"""Learn a policy from recorded episodes: score-based (BESO), flow matching, Diffusion Policy, ACT, cloning.

  robot-rl play cube-single                                  the data: about 1M steps of play
  robot-rl imitate task=cube-single                          BESO, told its goal by an observation
  robot-rl imitate task=scene policy=gcbc seed=3 --evaluate 20
  robot-rl imitate task=lift data=runs/demo/episodes policy=diffusion_policy policy.inputs.goal=false
  robot-rl imitate --run-dir runs/imitate/scene_score_seed0 --resume

Ctrl-C saves; --resume goes on from there, batch by batch as if nothing had happened.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

import torch
from rich.console import Console

from policies.chunk_net import ChunkNet
from robot_rl.algorithms.imitation import ImitationConfig
from robot_rl.algorithms.offline import OfflineConfig
from robot_rl.apps import evaluate
from robot_rl.apps.config import (
    add_found_run,
    add_overrides,
    check_choice,
    compose,
    not_negative,
    positive,
    read_configuration,
)
from robot_rl.apps.imitation import ImitationExperiment, build_imitation, check_specs, open_material
from robot_rl.apps.runs import build_run_env, find_checkpoint, goals_of, load_policy
from robot_rl.apps.supervised import SupervisedRun
from robot_rl.apps.train import check_run_dir, prepare_run_dir
from robot_rl.records import without_nan


def add_arguments(parser: argparse.ArgumentParser, command: str = "imitate") -> None:
    add_overrides(parser, "task=lift policy.horizon=24 algorithm.updates=20000")
    parser.add_argument("--run-dir", type=Path, help=f"where everything goes (default: runs/{command}/<task>_...)")
    add_found_run(parser)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--evaluate", type=not_negative, default=0, help="episodes (of each goal) to run at the end")


def run(args: argparse.Namespace, command: str = "imitate") -> int:
    """`command` names the root of the configuration, and the folder for runs."""
    torch.set_num_threads(args.threads)
    if args.resume and args.run_dir and not args.overrides:
        experiment = read_configuration(args.run_dir, ImitationExperiment)
    else:
        check_choice("algorithm", args.overrides, command, lambda kind: _learns_in(command, kind))
        experiment = compose(command, args.overrides, ImitationExperiment)
    learned = experiment.policy if experiment.critic is None else experiment.algorithm
    kind = type(learned).__name__.removesuffix("Config").lower()
    run_dir = args.run_dir or Path("runs") / command / f"{experiment.task.name}_{kind}_seed{experiment.seed}"
    console = Console()
    check_run_dir(run_dir, experiment, resume=args.resume, overwrite=args.overwrite)
    training = ImitationRun(experiment, run_dir)  # what is wrong with the data is said before the folder is made
    prepare_run_dir(run_dir, experiment, resume=args.resume, overwrite=args.overwrite)
    try:
        training.run(console)
    except KeyboardInterrupt:
        training.save()
        console.print(f"saved; continue with: robot-rl {command} --run-dir {run_dir} --resume")
        raise
    if args.evaluate:
        _evaluate(experiment, run_dir, args.evaluate, console)
    console.print(f"{run_dir}; run it with: robot-rl evaluate {run_dir}")
    return 0


class ImitationRun(SupervisedRun):
    """One experiment, resumable from its directory."""

    def __init__(self, experiment: ImitationExperiment, run_dir: Path) -> None:
        material = open_material(experiment)
        check_specs(material, experiment.task)
        super().__init__(experiment, run_dir, material, build_imitation(experiment, material))

    def restore(self) -> None:
        super().restore()
        words = cast(ChunkNet, self.algorithm.acting).words
        if words is not None:
            words.check_encoder()  # the texts' vectors are by the encoder found now


def _learns_in(command: str, kind: type) -> bool:
    return issubclass(kind, ImitationConfig) and issubclass(kind, OfflineConfig) == (command == "offline")


def _evaluate(experiment: ImitationExperiment, run_dir: Path, episodes: int, console: Console) -> None:
    """Run the final policy, print its success and write summary.json."""
    _, checkpoint = find_checkpoint(run_dir)
    env = build_run_env(experiment)
    policy = load_policy(experiment, checkpoint)
    goals = goals_of(experiment)
    records = evaluate.evaluate(env, policy, episodes, experiment.seed, track_with=console, goals=goals)
    env.close()
    summary = {
        **evaluate.summarize(records, checkpoint, experiment.seed, goals),
        "episodes": len(records),
        "updates": experiment.algorithm.updates,
    }
    low, high = summary["success_interval_95"]
    (run_dir / "summary.json").write_text(json.dumps(without_nan(summary), indent=2) + "\n")
    console.print(f"success {summary['success_rate']:.3f} [{low:.3f}, {high:.3f}] of {len(records)}")
