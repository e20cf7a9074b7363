"""Acting by a policy that `robot-rl serve` runs elsewhere: what `evaluate` and the deploy node share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from policies.chunking import ChunkPolicy
from policies.remote import RemoteConfig, RemoteSource
from robot_rl.apps.imitation import ImitationExperiment, build_acting_policy
from robot_rl.errors import ConfigError
from robot_rl.types import Goal


def add_remote(parser: argparse.ArgumentParser) -> None:
    """`--remote` and what belongs to it."""
    parser.add_argument("--remote", metavar="URL", help="act by the policy served there, as ws://127.0.0.1:8765")
    parser.add_argument("--token-file", type=Path, help="a file with the token that the server asks for")


def load_remote(experiment: Any, config: RemoteConfig, goal: Goal | None = None) -> ChunkPolicy:
    """The served policy, for the task of `experiment`; `goal` of episodes that tell none."""
    if not isinstance(experiment, ImitationExperiment):
        raise ConfigError("only policies that `robot-rl imitate` or `offline` learned are served")
    task = experiment.task
    source = RemoteSource(config, task.observation_spec, task.action_spec, task.rate_hz)
    policy = build_acting_policy(experiment, source, goal)
    policy.load(source.version, {})
    return policy
