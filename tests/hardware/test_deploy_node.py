"""A finished policy runs behind the guard, without a learner: the graph `deploy`, over DDS."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from robot_rl.apps.cli import main
from robot_rl.records import find_records
from tests.hardware.deploy_ear import deploy, diagnostics
from tests.untrained import serve, write_critic, write_policy, write_veto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return write_policy(tmp_path_factory.mktemp("imitate"))


def test_a_policy_runs_its_episodes_and_says_how_its_chunks_were_played(trained, tmp_path):
    run_dir = tmp_path / "deploy"
    overrides = "overrides=policy.execution.asynchronous=false policy.execution.min_delay_s=0.1"
    result = deploy(trained, run_dir, "episodes=2", overrides, domain=120 + os.getpid() % 50)
    assert result.returncode == 0, result.stdout + result.stderr
    records = find_records(run_dir)
    assert [record.phase for record in records] == ["evaluate"] * 2
    assert all(record.steps == 30 and record.policy_version == 7 for record in records)
    chunks = [json.loads(line) for line in (run_dir / "actor" / "chunks.jsonl").read_text().splitlines()]
    assert len(chunks) == 2 and all(one["held"] == 0 for one in chunks)
    assert all(one["waited"] == one["chunks"] for one in chunks)
    assert all(one["joints"][0] == 0 and len(one["joints"]) == one["chunks"] for one in chunks)


@pytest.mark.parametrize("where", ["here", "remote"])
def test_a_steered_policy_says_what_was_chosen_wherever_it_runs(trained, tmp_path, where):
    critic, domain = write_critic(tmp_path / "critic"), 120 + os.getpid() % 50
    words = [f"critic={critic}", "samples=6", "pessimism=0", "episodes=1"]
    words.append("overrides=policy.execution.asynchronous=true policy.execution.min_delay_s=0.1")
    with ExitStack() as stack:
        if where == "here":
            words.append(f"veto={write_veto(tmp_path / 'veto')}")
        if where == "remote":
            words.append(f"remote={stack.enter_context(serve(trained))[1]}")
        heard = stack.enter_context(diagnostics(domain))
        result = deploy(trained, tmp_path / "deploy", *words, domain=domain)
    assert result.returncode == 0, result.stdout + result.stderr
    (chunks,) = [json.loads(line) for line in (tmp_path / "deploy/actor/chunks.jsonl").read_text().splitlines()]
    assert chunks["failed"] == chunks["held"] == 0 and chunks["waited"] == 1 < chunks["chunks"]
    assert find_records(tmp_path / "deploy")[0].policy_version == 7
    said = {(one["steering.value"], one["steering.spread"], one["steering.base_rank"]) for one in heard}
    assert chunks["chunks"] <= len(said) + 1 and all(one["steering.samples"] == "6" for one in heard)
    assert all(float(spread) > 0 and int(rank) in range(6) for _, spread, rank in said)
    assert {rank for *_, rank in said} != {"0"}  # what the policy would have done by itself is not always the best
    assert int(heard[-1]["chunks.chunks"]) == chunks["chunks"]
    for one in heard if where == "here" else ():
        none_safe = float(one["steering.risk"]) > 0.0
        assert (int(one["steering.vetoed"]) == 6) == none_safe and int(one["steering.unsafe"]) >= none_safe


def test_a_policy_is_told_one_change_at_a_time_and_says_which(tmp_path):
    data, run, domain = tmp_path / "data", tmp_path / "run", 120 + os.getpid() % 50
    assert main(["demonstrate", "lift", "--operators", "expert=1", "--episodes", "2", "--out", str(data)]) == 0
    goals = ("goals.next_change=1", "goals.future=0", "policy.inputs.goal_elements=[cube.*]", "changes.rest=1")
    small = ("policy.network.width=16", "algorithm.updates=2", "batch_size=16", "held_out=0", "task.env.max_steps=30")
    assert main(["imitate", "task=lift", f"data={data}", "--run-dir", str(run), *goals, *small]) == 0
    assert main(["subgoals", str(run), "values.updates=2", "planner.hidden=[8]"]) == 0
    with diagnostics(domain) as heard:
        result = deploy(run, tmp_path / "deploy", "subgoals=true", f"goal={data}#0", "episodes=1", domain=domain)
    assert result.returncode == 0, result.stdout + result.stderr
    told = [one for one in heard if "subgoal.moves" in one]
    assert told and {one["subgoal.moves"] for one in told} <= {"cube", "nothing"}
    assert all(float(one["subgoal.value"]) <= 1.0 and int(one["subgoal.candidates"]) >= 0 for one in told)


def test_what_cannot_be_deployed_is_said(tmp_path):
    result = deploy(tmp_path / "nothing", tmp_path / "deploy", "episodes=1", domain=120 + os.getpid() % 50)
    logs = "".join(path.read_text() for path in (tmp_path / "deploy" / "logs").glob("deploy*"))
    assert result.returncode != 0 and "has no checkpoints" in logs
