"""Learn a task in simulation, in one process: demonstrations, learning with interventions, evaluation.

  robot-rl train task=door seed=3 schedule.learn_steps=20000 learner.utd=4
  robot-rl train --run-dir runs/door --resume
  robot-rl train algorithm=bc schedule.interventions=false

The person is scripted (see robot_rl/person.py). Ctrl-C saves; --resume goes on from there.
The same actor and learner run over ROS 2 with `robot-rl up` and `robot-rl demo`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard.writer import SummaryWriter

from data.recorder import EpisodeRecorder
from robot_rl.actor import Actor
from robot_rl.apps.config import add_found_run, add_overrides, make_folder, positive, read_configuration
from robot_rl.apps.report import film_and_report
from robot_rl.apps.wiring import (
    Experiment,
    build_env,
    build_learner,
    build_person,
    build_policy,
    load_experiment,
    read_experiment,
)
from robot_rl.checkpoints import resume
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError
from robot_rl.files import write_file
from robot_rl.learner import Learner
from robot_rl.records import EpisodeLog, learning_curves, success_rate
from robot_rl.transport import LocalTransport
from robot_rl.typed import to_plain

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "task=lift algorithm=rlpd learner.utd=4")
    parser.add_argument("--run-dir", type=Path, help="where everything goes (default: runs/train/<task>_seed<n>)")
    add_found_run(parser)
    parser.add_argument("--threads", type=positive, help="torch threads (default: all with images, else one)")


def run(args: argparse.Namespace) -> int:
    if args.resume and args.run_dir and not args.overrides:
        experiment = read_experiment(args.run_dir)
    else:
        experiment = load_experiment(args.overrides)
    # Networks of states gain nothing from a second thread, and crawl with it when another process wants the core.
    torch.set_num_threads(args.threads or (torch.get_num_threads() if experiment.task.env.cameras else 1))
    run_dir = args.run_dir or Path("runs/train") / f"{experiment.task.name}_seed{experiment.seed}"
    # what does not go together is said before a folder is made, or deleted
    learner, env = build_learner(experiment), build_env(experiment)
    prepare_run_dir(run_dir, experiment, resume=args.resume, overwrite=args.overwrite)
    console = Console()
    with TrainingRun(experiment, run_dir, learner, env) as training:
        try:
            training.run(console)
        except KeyboardInterrupt:
            training.save()
            console.print(f"saved; continue with: robot-rl train --run-dir {run_dir} --resume")
            raise
    summary = film_and_report(run_dir, "train", console, in_real_time=False)
    console.print(f"success {summary['success_rate']:.2f} of {summary['episodes']}; {run_dir}/report.html")
    return 0


def prepare_run_dir(run_dir: Path, experiment: Any, *, resume: bool, overwrite: bool) -> None:
    """Make the directory, or check that the run in it is the same one; `ConfigError` says what to do."""
    check_run_dir(run_dir, experiment, resume=resume, overwrite=overwrite)
    path = run_dir / "experiment.json"
    if path.exists() and overwrite:
        shutil.rmtree(run_dir)
    if not path.exists():
        make_folder(run_dir)
        write_file(path, json.dumps(to_plain(experiment), indent=2) + "\n")


def check_run_dir(run_dir: Path, experiment: Any, *, resume: bool, overwrite: bool) -> None:
    """The errors of `prepare_run_dir`; nothing is made or deleted."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ConfigError(f"{run_dir} is a file; a run needs a directory")
    if overwrite or not (run_dir / "experiment.json").exists():
        return
    if not resume:
        raise ConfigError(f"{run_dir} holds a run; add --resume to continue it, --overwrite to delete it")
    if (before := read_configuration(run_dir, type(experiment))) != experiment:
        names = [field.name for field in dataclasses.fields(experiment)]
        changed = [name for name in names if getattr(before, name) != getattr(experiment, name)]
        raise ConfigError(
            f"{run_dir} was begun with another {', '.join(changed)}; --resume without overrides goes on as it was "
            "begun, another directory begins anew"
        )


@dataclass
class _Progress:
    """Bars for the three phases."""

    bars: Progress

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Any]:
        task = self.bars.add_task(name, total=max(total, 1), note="")
        yield lambda done, note: self.bars.update(task, completed=min(done, total), note=note)


class TrainingRun:
    """One experiment in one process, resumable from its directory."""

    def __init__(
        self, experiment: Experiment, run_dir: Path, learner: Learner | None = None, env: RobotEnv | None = None
    ) -> None:
        """`learner` and `env` are those of the experiment, if they were built already."""
        self.experiment = experiment
        self.run_dir = run_dir
        self.env: RobotEnv = env or build_env(experiment)
        self.learner = learner or build_learner(experiment)
        self.log = EpisodeLog(run_dir / "episodes.jsonl")
        self.recorder = EpisodeRecorder(
            run_dir / "episodes",
            self.env.observation_spec,
            self.env.action_spec,
            configuration=to_plain(experiment),
        )
        self._restore()
        self.policy = build_policy(experiment)
        self.actor = Actor(
            self.env,
            self.policy,
            build_person(experiment, self.env),
            LocalTransport(self.learner),
            experiment.schedule,
            self.log,
            [self.recorder],
        )
        self._board = SummaryWriter(str(run_dir / "tensorboard"), flush_secs=10)
        self._saved_s = time.monotonic()
        self._counted = self.learner.updates, self._saved_s

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self.recorder.close()
        self._board.close()
        self.env.close()

    def save(self) -> None:
        """Write a checkpoint now."""
        self.learner.save(self.run_dir / "checkpoints")
        self._saved_s = time.monotonic()

    def run(self, console: Console) -> None:
        """All phases, with progress bars."""
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
            progress = _Progress(bars)
            schedule, actor = self.experiment.schedule, self.actor
            with progress.phase("demonstrate", schedule.demos) as show:
                while actor.demos_left > 0:
                    actor.demonstrate_once()
                    show(schedule.demos - actor.demos_left, "")
            with progress.phase("learn", schedule.learn_steps) as show:
                while actor.learn_steps_left > 0:
                    actor.learn_once()
                    show(self.log.env_steps, self._log_learning())
                actor.finish_learning()
                self.save()
            with progress.phase("evaluate", schedule.evaluate_episodes) as show:
                while actor.evaluations_left > 0:
                    actor.evaluate_once()
                    done = self.log.of("evaluate")
                    show(len(done), f"success {success_rate(done):.2f}")

    def _log_learning(self) -> str:
        scalars = learning_curves(self.log.of("learn"))
        if self.learner.metrics:
            scalars |= self.learner.scalars() | {"updates_per_s": self._updates_per_s()}
        for name, value in scalars.items():
            self._board.add_scalar(name, value, self.log.env_steps)
        if time.monotonic() - self._saved_s > self.experiment.learner.checkpoint_every_s:
            self.save()
        return (
            f"success {scalars['episode/success_rate']:.2f} "
            f"interventions {scalars['episode/intervention_rate']:.2f} utd {self.learner.realized_utd:.2f}"
        )

    def _updates_per_s(self) -> float:
        """Since the last call; simulation and resets take their share of the time."""
        (updates, then_s), now_s = self._counted, time.monotonic()
        self._counted = self.learner.updates, now_s
        return (self.learner.updates - updates) / (now_s - then_s)

    def _restore(self) -> None:
        """Experience from the recorded episodes, parameters from the newest sound checkpoint; else it learns anew."""
        self.recorder.store.load_into(self.learner.receive, phases=("demo", "learn"))
        resume(self.run_dir / "checkpoints", self.learner.load, log.warning)
