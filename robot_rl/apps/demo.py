"""The whole of it in one command: a simulated arm behind ROS 2 learns to lift a cube while a person helps.

  robot-rl demo                 watch at http://127.0.0.1:8080
  robot-rl demo --headless      no browser page
  robot-rl demo task=door seed=3

Starts the same nodes that a real arm uses (guard, actor, learner, page), the simulated arm in real time and
a scripted person, gathers demonstrations, learns with interventions, evaluates without, and leaves
summary.json, report.html and a video in the run's directory. Ctrl-C saves; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robot_rl.apps import up
from robot_rl.errors import ConfigError

GRAPH = "demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="arguments of the graph: task, seed, port ...")
    parser.add_argument("--headless", action="store_true", help="without the browser page")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--fresh", action="store_true", help="set an unfinished run aside and begin anew")
    parser.add_argument("--quiet", action="store_true", help="the nodes' output only into the log files")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if given := [word for word in args.words if word.startswith("run_dir=")]:
        raise ConfigError(f"{given[0]}: the demo takes --run-dir DIR")
    headless = ["headless=true"] if args.headless else []
    graph = up.load([*args.words, *headless, f"graph={GRAPH}", f"run_dir={args.run_dir}"])
    _make_room(args.run_dir, args.fresh, console)
    _describe(graph.args, args.run_dir)
    if not graph.args["headless"]:
        port = graph.args["port"]
        console.print(f"watch and take part: [bold]http://127.0.0.1:{port}[/bold]")
    code = up.supervise(graph, args.run_dir, console, args.quiet)
    if not _is_finished(args.run_dir):
        console.print(f"saved in {args.run_dir}; the same command goes on from there (logs: {args.run_dir}/logs)")
        return code or 130
    from robot_rl.apps.report import film_and_report

    _show(film_and_report(args.run_dir, "demo", console, in_real_time=True), args.run_dir, console)
    return code


def _describe(graph_args: Mapping[str, Any], run_dir: Path) -> None:
    """Write down the experiment that the nodes will build from the graph's arguments; another one is refused."""
    from robot_rl.apps.train import prepare_run_dir
    from robot_rl.apps.wiring import node_experiment

    experiment = node_experiment(graph_args["task"], graph_args["seed"], [graph_args["overrides"]])
    prepare_run_dir(run_dir, experiment, resume=True, overwrite=False)


def _is_finished(run_dir: Path) -> bool:
    """Whether the actor has done all its evaluation episodes."""
    from robot_rl.apps.wiring import read_experiment
    from robot_rl.records import find_records

    if not (run_dir / "experiment.json").exists():
        return False
    done = sum(one.phase == "evaluate" and not one.discarded for one in find_records(run_dir))
    return done >= read_experiment(run_dir).schedule.evaluate_episodes


def _make_room(run_dir: Path, fresh: bool, console: Console) -> None:
    """A finished run (or, with `fresh`, any) is kept under another name; an unfinished one is continued."""
    if not run_dir.exists():
        return
    if fresh or _is_finished(run_dir):
        kept = run_dir.with_name(f"{run_dir.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(run_dir, kept)
        console.print(f"the earlier run is kept in {kept}")
    else:
        console.print(f"continuing the run in {run_dir} (--fresh begins anew)")


def _show(summary: dict[str, Any], run_dir: Path, console: Console) -> None:
    table = Table(title="What the arm learned", title_justify="left", show_header=False)
    low, high = summary["success_interval_95"]
    policy_steps, person_steps = summary["mean_success_steps"], summary["mean_demonstration_steps"]
    minutes, steps, updates = (summary[key] for key in ("learn_minutes", "env_steps", "learner_updates"))
    rows = {
        "success": f"{summary['success_rate']:.0%} of {summary['episodes']} (95 %: {low:.0%} to {high:.0%})",
        "episode length": f"{policy_steps:.0f} steps; the person's {person_steps:.0f}",
        "learning": f"{minutes:.1f} min, {steps} steps, {updates} updates",
        "data duty cycle": f"{summary['duty_cycle']:.0%} (resets apart: {summary['reset_minutes']:.1f} min)",
        "interventions": f"{summary['intervention_rate_overall']:.0%} of the steps",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"report: {run_dir / 'report.html'}", soft_wrap=True)
