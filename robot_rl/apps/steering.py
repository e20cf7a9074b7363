"""Critics on disk, and policies steered by them: what `evaluate`, `steer` and the deploy node share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from policies.feasibility import FeasibleCriticNet
from policies.parameters import load_parameters
from policies.steered import SteeredPolicy, SteeringConfig, TorchCritic
from policies.values import ChunkCriticNet
from robot_rl.algorithms.offline import CRITIC
from robot_rl.apps.config import positive
from robot_rl.apps.imitation import ImitationExperiment, build_critic
from robot_rl.apps.runs import find_checkpoint, knows_goals, read_run, read_shown
from robot_rl.checkpoints import ALGORITHM
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.files import file_hash
from robot_rl.protocols import Policy
from robot_rl.spec_difference import difference
from robot_rl.typed import to_dataclass

SETTING = "steering.json"
"""In the policy's run: what `robot-rl steer` found."""


def add_steering(parser: argparse.ArgumentParser) -> None:
    """`--critic` and how to choose; settings that are not given are what `robot-rl steer` found, if it was run."""
    parser.add_argument("--critic", type=Path, help="steer by the critic of this run of `robot-rl offline`")
    parser.add_argument("--veto", type=Path, help="never choose what this run of FISOR holds for unsafe; with --critic")
    parser.add_argument("--samples", type=positive, help="candidates to choose among")
    parser.add_argument("--temperature", type=float, help="of the choice, in units of value; 0 takes the best")
    parser.add_argument("--pessimism", type=float, help="standard deviations of the ensemble below its mean")


def load_critic(path: Path, task: Any) -> TorchCritic:
    """The critic of a run (or one of its checkpoints); `SpecError` unless it was learned with what `task` shows."""
    return TorchCritic(_load_net(path, task))


def load_veto(path: Path, task: Any) -> TorchCritic:
    """The same of feasibility; `ConfigError` for a run that learned none."""
    net = _load_net(path, task)
    if not isinstance(net, FeasibleCriticNet):
        raise ConfigError(f"{path} does not know what is safe; robot-rl offline algorithm=fisor critic=fisor learns it")
    return TorchCritic(net.feasibility)


def _load_net(path: Path, task: Any) -> ChunkCriticNet:
    run_dir, checkpoint = find_checkpoint(path)
    experiment = read_run(run_dir)
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError(f"{run_dir} holds no critic of recorded episodes; robot-rl offline learns one")
    for name in ("observation_spec", "action_spec"):
        found = difference(getattr(experiment.task, name), getattr(task, name), ("critic", "policy"))
        if found:
            raise SpecError(
                f"{path} was learned for {experiment.task.name}, and does not fit {task.name}: they differ in "
                f"{name}, {found}"
            )
    rate_hz = experiment.task.rate_hz
    if rate_hz != task.rate_hz:
        raise SpecError(f"{path} values actions at {rate_hz:g} Hz, and the policy's task runs at {task.rate_hz:g} Hz")
    net = build_critic(experiment, task.observation_spec, task.action_spec)
    if not isinstance(net, ChunkCriticNet):
        raise ConfigError(f"the critic of {run_dir} does not value actions, and cannot choose among them; gciql's does")
    try:
        with safe_open(checkpoint / ALGORITHM, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(CRITIC)]  # noqa: SIM118 (no mapping)
            load_parameters(net, {name.removeprefix(CRITIC): tensors.get_tensor(name) for name in names})
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{checkpoint} holds no readable critic: {error}") from error
    return net


def given_steering(source: Any) -> dict[str, Any]:
    """What is given of how to choose, by arguments or by a node's configuration."""
    given = {one.name: getattr(source, one.name) for one in fields(SteeringConfig)}
    return {name: value for name, value in given.items() if value is not None}


def steer_by(
    policy: Policy,
    experiment: Any,
    run_dir: Path,
    critic: Path,
    veto: Path | None,
    given: Mapping[str, Any],
    goal: str = "",
) -> SteeredPolicy:
    """`policy` of the run in `run_dir`, steered by the critic: as `given`, otherwise as `robot-rl steer` found.

    A `goal`, STORE#EPISODE, is told to the critic alone where the policy knows none.
    """
    config, task = replace(read_setting(run_dir, critic), **given), experiment.task
    forbids = None if veto is None else load_veto(veto, task)
    shown = read_shown(experiment, goal) if goal and not knows_goals(experiment) else {}
    steered = SteeredPolicy(policy, load_critic(critic, task), config, experiment.seed, forbids, shown)
    if shown and not steered.steering.told:
        raise ConfigError(
            f"neither this policy nor {critic} is told goals; `robot-rl offline algorithm=gciql critic=goal` learns a "
            "critic that is"
        )
    return steered


def read_setting(run_dir: Path, critic: Path) -> SteeringConfig:
    """What was found for this pair, or the defaults where nothing was."""
    path = run_dir / SETTING
    if not path.exists():
        return SteeringConfig()
    try:
        content = json.loads(path.read_text())
        if content["sha256"] != _hash(critic):
            return SteeringConfig()
        return to_dataclass(SteeringConfig, content["steering"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{path} cannot be read: {error}; delete it, or run robot-rl steer again") from error


def write_setting(run_dir: Path, critic: Path, config: SteeringConfig, table: list[dict[str, Any]]) -> Path:
    """For `read_setting`; the whole table stands beside it."""
    path = run_dir / SETTING
    content = {"critic": str(critic), "sha256": _hash(critic), "steering": asdict(config), "tried": table}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _hash(critic: Path) -> str:
    """What tells this critic from any other, wherever it lies."""
    return file_hash(find_checkpoint(critic)[1] / ALGORITHM)
