"""Ctrl-C and the regular end: nothing is lost, the arm is disarmed, the next start goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from robot_rl.records import read_records
from tests.faults.campaign import FAKE_WORLD, learning_graph, running

SCHEDULE = (
    "schedule.demos=1",
    "schedule.learn_steps=40",
    "schedule.evaluate_episodes=1",
    "learner.warmup_steps=10",
    "learner.pretrain_updates=20",
    "task.env.max_steps=60",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_interrupting_saves_and_finishing_ends_with_status_0(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    nodes = learning_graph(run_dir, FAKE_WORLD, overrides=SCHEDULE)
    with running(nodes, tmp_path / "logs", 1 + os.getpid() % 49) as (rig, recorder):
        record = recorder.record
        assert rig.interrupt("actor", timeout_s=30.0) == 0
        assert recorder.wait_for(lambda: record.modes[-1][1] == "disarmed", 10.0)
        before = read_records(run_dir / "actor" / "episodes.jsonl")
        assert before and before[-1].discarded
        assert rig.interrupt("learner", timeout_s=30.0) == 0
        rig.start("learner")
        rig.start("actor")
        assert rig.wait("actor", timeout_s=120.0) == 0
        assert recorder.wait_for(lambda: record.modes[-1][1] == "disarmed", 10.0)
        assert rig.interrupt("learner", timeout_s=30.0) == 0
    records = read_records(run_dir / "actor" / "episodes.jsonl")
    assert records[: len(before)] == before
    assert sum(one.phase == "demo" and one.success and not one.discarded for one in records) == 1
    assert records[-1].phase == "evaluate" and records[-1].env_steps >= 40
    result = json.loads((run_dir / "actor" / "result.json").read_text())
    learner = result["learner"]
    assert 0.95 < learner["realized_utd"] / learner["target_utd"] <= 1.0
    assert list((run_dir / "learner" / "checkpoints").glob("step_*"))
