"""Write a policy as a bundle that runs without torch and without this project: weights, JSON, ONNX, runtime.py.

  robot-rl export runs/imitate/scene_score_seed0                     into .../bundle
  robot-rl export runs/imitate/scene_score_seed0 --out /srv/policy policy.steps=5

The bundle needs numpy and onnxruntime. The sampler is part of the graph; overrides choose another one. Of a policy
that knows words, the bundle understands those of its data and of --words: the sentence encoder stays behind.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from data.labels import read_labels, texts_of
from policies.torch_source import TorchSource
from robot_rl.apps.config import add_overrides
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.apps.runs import find_checkpoint, read_policy, read_run
from robot_rl.errors import ConfigError, DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a run's directory, or one checkpoint in it")
    parser.add_argument("--out", type=Path, help="the bundle's folder (default: bundle, in the run's directory)")
    parser.add_argument(
        "--words", nargs="+", default=[], metavar="TEXT", help="goals it shall understand, beside those of the data"
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    from policies.export import export_bundle

    console = Console()
    run_dir, checkpoint = find_checkpoint(args.path)
    experiment = read_run(run_dir, args.overrides)
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError(f"{run_dir} holds a policy that acts step by step; chunk policies (robot-rl imitate) export")
    task = experiment.task
    net = build_model(experiment, task.observation_spec, task.action_spec)
    TorchSource(net).load(read_policy(checkpoint))
    out = args.out or run_dir / "bundle"
    description = {
        "task": task.name,
        "checkpoint": checkpoint.name,
        "rate_hz": task.rate_hz,
        "execution": asdict(experiment.policy.execution),
    }
    words = sorted({*args.words, *texts_of(read_labels(experiment.data))}) if net.words is not None else []
    if args.words and not words:
        raise ConfigError("--words: this policy was trained without words (policy.inputs.words)")
    if net.words is not None and not words:
        raise DataError(f"{experiment.data} holds no labels any more: say which goals it shall understand (--words)")
    with console.status("exporting"):
        difference = export_bundle(net, out, task.observation_spec, task.action_spec, description, words)
    console.print(f"{out}: differs from the policy by at most {difference:.1e} on random inputs")
    return 0
