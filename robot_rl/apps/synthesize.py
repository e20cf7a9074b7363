"""Sample synthetic episodes from a diffusion model of recorded ones, guided towards a policy (policy-guided diffusion).

  robot-rl synthesize runs/mixed/lift --policy runs/offline/lift_iql_seed0 --episodes 2000 --out runs/synthetic/lift
  robot-rl synthesize runs/mixed/lift --episodes 2000 --out runs/synthetic/lift_plain             not guided
  robot-rl synthesize runs/mixed/lift --policy RUN --guidance 1 --model runs/synthetic/lift.model --out OUT
  robot-rl synthesize runs/mixed/lift --out OUT model.horizon=32 algorithm.updates=200000

First the model is learned from what was recorded, in the folder --model; one that is there already is used. Then
episodes of `model.horizon` steps, or fewer where the task ends, are written to --out, marked as synthetic; --out may be
the data's own store. `synthetic=false` keeps `robot-rl imitate` and `offline` from learning from them.

Ctrl-C saves; the same command goes on from there. Episode i is the same whatever --episodes is.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.recorder import EpisodeRecorder
from data.verify import verify
from policies.guidance import GuidanceConfig
from robot_rl.apps.config import add_overrides, compose, not_negative, positive
from robot_rl.apps.data import episode_table
from robot_rl.apps.gathering import STRIDE, gathered
from robot_rl.apps.synthesis import TOGETHER, Source, Synthesis, SynthesisRun, check_same, log_likelihood, read_target
from robot_rl.apps.train import prepare_run_dir
from robot_rl.errors import ConfigError
from robot_rl.typed import to_plain
from robot_rl.types import EpisodeEnd, EpisodeStart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = GuidanceConfig()
    parser.add_argument("data", type=Path, help="the recorded episodes, of states")
    add_overrides(parser, "model.horizon=16 model.steps=10")
    parser.add_argument("--policy", type=Path, help="guide towards this run's policy (or one checkpoint's), a Gaussian")
    parser.add_argument("--episodes", type=positive, default=1000, help="how many in all (default: 1000)")
    parser.add_argument("--out", type=Path, required=True, help="the episode store to add to")
    parser.add_argument("--model", type=Path, help="folder of the trajectory model (default: OUT.model)")
    parser.add_argument("--overwrite", action="store_true", help="delete the model found there, and learn it anew")
    parser.add_argument("--guidance", type=float, default=default.weight, help=f"its weight ({default.weight})")
    parser.add_argument("--cosine", type=float, default=default.cosine, help=f"its bump midway ({default.cosine})")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the episodes")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="torch threads")


def run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    console = Console()
    if args.episodes > STRIDE:
        raise ConfigError(f"--episodes must be at most {STRIDE}; use several seeds")
    guidance = GuidanceConfig(args.guidance, args.cosine)
    experiment = compose("synthesize", [f"data={args.data}", *args.overrides], Synthesis)
    folder = args.model or args.out.with_name(args.out.name + ".model")
    learning = SynthesisRun(experiment, folder)  # what is wrong with data or policy is said before anything is written
    specs = (learning.material.observation_spec, learning.material.action_spec)
    target, version = read_target(args.policy, *specs) if args.policy else (None, 0)
    prepare_run_dir(folder, experiment, resume=True, overwrite=args.overwrite)
    try:
        learning.run(console)
    except KeyboardInterrupt:
        learning.save()
        console.print("saved; the same command goes on from there")
        raise
    source = Source(learning.model, learning.manner, args.seed, target, guidance, version)
    wanted = {
        "synthesize": to_plain(experiment),
        "policy": str(args.policy) if args.policy else None,
        "policy_version": version,
        "guidance": to_plain(guidance) if target is not None else None,
        "seed": args.seed,
    }
    _write(source, learning, args.out, args.episodes, wanted, console)
    return 0 if verify(args.out).ok else 1


def _write(
    source: Source, learning: SynthesisRun, out: Path, episodes: int, wanted: Mapping[str, Any], console: Console
) -> None:
    """Add the episodes that are not there yet, and say what there is now."""
    material = learning.material
    recorder = EpisodeRecorder(out, material.observation_spec, material.action_spec, configuration=wanted)
    try:
        there = gathered(recorder.store, source.seed, synthetic=True)
        check_same(recorder.store, there, wanted)
        missing = [index for index in range(episodes) if index not in there]
        likelihoods = _sample(source, missing, recorder, episodes, console)
    finally:
        recorder.close()
    console.print(episode_table(recorder.store))
    if source.target is not None and likelihoods:
        seen = learning.algorithm.load_windows(material.train.batch(0, 1024), augment=False)
        states, _ = learning.model.table(seen)
        parts = learning.model.split(states)
        recorded = log_likelihood(source.target, parts.state[:, :1], parts.action[:, :1])
        sampled = sum(likelihoods) / len(likelihoods)
        console.print(f"mean log-likelihood under the policy: recorded {recorded:.3f}, synthetic {sampled:.3f}")


def _sample(source: Source, missing: list[int], recorder: EpisodeRecorder, total: int, console: Console) -> list[float]:
    """Write the episodes `missing`; returns the log-likelihood of each batch's actions under the target."""
    columns = (TextColumn("synthesize"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    likelihoods = []
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("synthesize", total=total, completed=total - len(missing))
        for number in sorted({index // TOGETHER for index in missing}):
            batch = source.batch(number)
            if source.target is not None:
                likelihoods.append(log_likelihood(source.target, batch.state[:, :-1], batch.action))
            for index in (one for one in missing if one // TOGETHER == number):
                _record(source, batch, index, recorder)
                bars.advance(bar)
    return likelihoods


def _record(source: Source, batch: Any, index: int, recorder: EpisodeRecorder) -> None:
    for event in source.events(batch, index // TOGETHER, index % TOGETHER):
        if isinstance(event, EpisodeStart):
            recorder.on_start(event)
        elif isinstance(event, EpisodeEnd):
            recorder.on_end(event)
            recorder.flush()
        else:
            recorder.on_step(event)
