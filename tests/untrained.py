"""Runs on disk as they are after no update, weights as they were drawn; and `robot-rl serve` of one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from robot_rl.algorithms.offline import CRITIC
from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment, build_critic, build_model
from robot_rl.checkpoints import save_checkpoint
from robot_rl.typed import to_plain
from sim.tasks import TaskConfig

LIFT = ["task=lift", "task.env.max_steps=30"]


class Untrained:
    """Stands for a trainer."""

    def __init__(self, policy, critic):
        self.policy, self.critic = policy, critic

    def policy_state(self):
        return self.policy

    def state_dict(self):
        return {"updates": torch.tensor(1), **{CRITIC + name: value for name, value in self.critic.items()}}

    def load_state_dict(self, state):
        raise NotImplementedError


def write_run(run_dir: Path, config: str, *overrides: str) -> Path:
    """A run of `robot-rl imitate` or `offline` (the name of its configuration), with a checkpoint of version 7."""
    run_dir.mkdir(parents=True, exist_ok=True)
    experiment = compose(config, [*LIFT, *overrides], ImitationExperiment)
    specs = (experiment.task.observation_spec, experiment.task.action_spec)
    critic = build_critic(experiment, *specs).state_dict() if experiment.critic else {}
    (run_dir / "experiment.json").write_text(json.dumps(to_plain(experiment)))
    save_checkpoint(run_dir / "checkpoints", 7, Untrained(build_model(experiment, *specs).state_dict(), critic))
    return run_dir


def write_policy(run_dir: Path) -> Path:
    """A score policy without goals."""
    return write_run(run_dir, "imitate", "policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=32")


def write_base(run_dir: Path, task: TaskConfig, policy: Any) -> Path:
    """What is needed of a run of `robot-rl imitate` to build another policy on: weights as drawn from seed 5."""
    run_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    model = policy.build(task.observation_spec, task.action_spec)
    (run_dir / "experiment.json").write_text(json.dumps({"task": to_plain(task), "policy": to_plain(policy)}))
    save_checkpoint(run_dir / "checkpoints", 3, Untrained(model.state_dict(), {}))
    return run_dir


def write_critic(run_dir: Path) -> Path:
    """A critic of rewards, three members that value four actions together."""
    small = ["critic.hidden=[16]", "critic.members=3", "critic.horizon=4"]
    return write_run(run_dir, "offline", *small, "policy.hidden=[16]")


def write_veto(run_dir: Path) -> Path:
    """The same with values of feasibility."""
    small = ["critic.hidden=[16]", "critic.members=3", "critic.horizon=4"]
    return write_run(run_dir, "offline", "algorithm=fisor", "critic=fisor", *small, "policy.hidden=[16]")


@contextmanager
def serve(run_dir, *options):
    """Its process and its address."""
    command = [sys.executable, "-m", "robot_rl.apps.cli", "serve", str(run_dir), "--port", "0", *map(str, options)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "500"})
    assert server.stdout is not None
    try:
        found = re.search(r"ws://\S+", server.stdout.readline())
        assert found is not None
        yield server, found[0]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
