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
import time
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard.writer import SummaryWriter

from policies.chunk_net import ChunkNet
from robot_rl.apps import evaluate
from robot_rl.apps.config import add_overrides, compose, not_negative, positive, read_configuration
from robot_rl.apps.imitation import ImitationExperiment, build_imitation, check_specs, open_material
from robot_rl.apps.runs import build_run_env, find_checkpoint, goals_of
from robot_rl.apps.train import prepare_run_dir
from robot_rl.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from robot_rl.records import without_nan

LOG_EVERY = 100
HELD_OUT_EVERY = 2000
HELD_OUT_WINDOWS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)
    parser.add_argument("--run-dir", type=Path, help="where everything goes (default: runs/imitate/<task>_...)")
    parser.add_argument("--resume", action="store_true", help="continue the run found there")
    parser.add_argument("--overwrite", action="store_true", help="delete the run found there first")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")
    parser.add_argument("--evaluate", type=not_negative, default=0, help="episodes (of each goal) to run at the end")


def run(args: argparse.Namespace, command: str = "imitate") -> int:
    """`command` names the root of the configuration, and the folder for runs."""
    torch.set_num_threads(args.threads)
    if args.resume and args.run_dir and not args.overrides:
        experiment = read_configuration(args.run_dir, ImitationExperiment)
    else:
        experiment = compose(command, args.overrides, ImitationExperiment)
    learned = experiment.policy if experiment.critic is None else experiment.algorithm
    kind = type(learned).__name__.removesuffix("Config").lower()
    run_dir = args.run_dir or Path("runs") / command / f"{experiment.task.name}_{kind}_seed{experiment.seed}"
    console = Console()
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


class ImitationRun:
    """One experiment, resumable from its directory."""

    def __init__(self, experiment: ImitationExperiment, run_dir: Path) -> None:
        self.experiment = experiment
        self.run_dir = run_dir
        self.material = open_material(experiment)
        check_specs(self.material, experiment.task)
        self.algorithm = build_imitation(experiment, self.material)
        self._saved_s = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint now."""
        save_checkpoint(self.run_dir / "checkpoints", self.algorithm.updates, self.algorithm)
        self._saved_s = time.monotonic()

    def run(self, console: Console) -> None:
        """All updates that are left, with a progress bar."""
        checkpoint = latest_checkpoint(self.run_dir / "checkpoints")
        if checkpoint is not None:
            load_checkpoint(checkpoint, self.algorithm)
            words = cast(ChunkNet, self.algorithm.acting).words
            if words is not None:
                words.check_encoder()  # the texts' vectors are by the encoder found now
        total, algorithm = self.experiment.algorithm.updates, self.algorithm
        columns = (TextColumn("learn"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        board = SummaryWriter(str(self.run_dir / "tensorboard"), flush_secs=10)
        with board, Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
            bar = bars.add_task("learn", total=total, completed=algorithm.updates, note="")
            note = ""
            for windows in self.material.batches(self.experiment, algorithm.updates):
                metrics = algorithm.update(windows)
                done = algorithm.updates
                if done % HELD_OUT_EVERY == 0 and self.material.held_out is not None:
                    held_out = self._held_out()
                    for name, value in held_out.items():
                        board.add_scalar(f"held_out/{name}", value, done)
                    note = f"held out {held_out['loss']:.4f}"
                if done % LOG_EVERY == 0 or done == total:
                    for name, value in metrics.items():
                        board.add_scalar(f"train/{name}", float(value), done)
                    bars.update(bar, completed=done, note=f"loss {float(metrics['loss']):.4f} {note}")
                if time.monotonic() - self._saved_s > self.experiment.checkpoint_every_s:
                    self.save()
        self.save()

    def _held_out(self) -> dict[str, float]:
        assert self.material.held_out is not None
        found = self.algorithm.evaluate(self.material.held_out.batch(0, HELD_OUT_WINDOWS))
        return {name: float(value) for name, value in found.items()}


def _evaluate(experiment: ImitationExperiment, run_dir: Path, episodes: int, console: Console) -> None:
    """Run the final policy, print its success and write summary.json."""
    _, checkpoint = find_checkpoint(run_dir)
    env = build_run_env(experiment)
    policy = evaluate.load_policy(experiment, checkpoint)
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
