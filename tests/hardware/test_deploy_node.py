"""A finished policy runs behind the guard, without a learner: the graph `deploy`, over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment, build_model
from robot_rl.checkpoints import save_checkpoint
from robot_rl.records import find_records
from robot_rl.typed import to_plain

pytest.importorskip("rclpy")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Trained:
    """Stands for a trainer: weights as they were drawn."""

    def __init__(self, model):
        self.model = model

    def policy_state(self):
        return self.model.state_dict()

    def state_dict(self):
        return {"updates": torch.tensor(1)}

    def load_state_dict(self, state):
        raise NotImplementedError


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("imitate")
    overrides = ["task=lift", "task.env.max_steps=30", "policy.inputs.goal=false", "policy.goal_dropout=0"]
    experiment = compose("imitate", [*overrides, "policy.network.width=32"], ImitationExperiment)
    model = build_model(experiment, experiment.task.observation_spec, experiment.task.action_spec)
    (run_dir / "experiment.json").write_text(json.dumps(to_plain(experiment)))
    save_checkpoint(run_dir / "checkpoints", 7, Trained(model))
    return run_dir


def deploy(trained: Path, run_dir: Path, *words: str, domain: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "robot_rl.apps.cli", "up", "graph=deploy", "headless=true", "--quiet"]
    command += [f"policy={trained}", f"run_dir={run_dir}", *words]
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("mode", ["false", "true"], ids=["waiting", "asynchronous"])
def test_a_policy_runs_its_episodes_and_says_how_its_chunks_were_played(trained, tmp_path, mode):
    run_dir = tmp_path / "deploy"
    overrides = f"overrides=policy.execution.asynchronous={mode} policy.execution.min_delay_s=0.1"
    result = deploy(trained, run_dir, "episodes=2", overrides, domain=120 + os.getpid() % 50)
    assert result.returncode == 0, result.stdout + result.stderr
    records = find_records(run_dir)
    assert [record.phase for record in records] == ["evaluate"] * 2
    assert all(record.steps == 30 and record.policy_version == 7 for record in records)
    chunks = [json.loads(line) for line in (run_dir / "actor" / "chunks.jsonl").read_text().splitlines()]
    assert len(chunks) == 2 and all(one["held"] == 0 for one in chunks)
    assert all(one["waited"] == (1 if mode == "true" else one["chunks"]) for one in chunks)
    assert all(one["joints"][0] == 0 and len(one["joints"]) == one["chunks"] for one in chunks)


def test_what_cannot_be_deployed_is_said(tmp_path):
    result = deploy(tmp_path / "nothing", tmp_path / "deploy", "episodes=1", domain=120 + os.getpid() % 50)
    logs = "".join(path.read_text() for path in (tmp_path / "deploy" / "logs").glob("deploy*"))
    assert result.returncode != 0 and "has no checkpoints" in logs
