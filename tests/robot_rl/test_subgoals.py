"""From play to a policy that is told one change at a time: the commands, end to end and small."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file

from data.store import EpisodeStore
from robot_rl.apps.cli import main
from robot_rl.apps.runs import read_run
from robot_rl.apps.subgoals import SUBGOALS, load_planner
from robot_rl.errors import ConfigError, DataError
from tests.untrained import write_policy

SMALL = ("policy.network.width=16", "policy.network.blocks=1", "batch_size=16", "algorithm.updates=4")
BUTTONS = "policy.inputs.goal_elements=['button_*.on','button_*.off']"
QUICK = ("values.updates=20", "values.batch_size=16", "planner.hidden=[16]", "planner.members=2")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Play with buttons, and a policy that is told the next press."""
    path = tmp_path_factory.mktemp("subgoals")
    short = ["--episodes", "3", "--steps", "160", "--jobs", "1"]
    assert main(["play", "puzzle-3x3", *short, "--out", str(path / "data")]) == 0
    assert imitate(path, "base") == 0
    return path


def imitate(path, name, *words):
    goals = ("goals.next_change=1", "goals.future=0")
    where = (f"data={path / 'data'}", "--run-dir", str(path / name), "--threads", "1")
    return main(["imitate", "task=puzzle-3x3", BUTTONS, *goals, *SMALL, *where, *words])


def learn(path, *words):
    return main(["subgoals", str(path), *QUICK, "--threads", "1", *words])


def test_a_policy_is_planned_for_and_evaluated(work, tmp_path, capsys):
    run = work / "base"
    assert main(["evaluate", str(run), "--episodes", "1", "--subgoals"]) == 2
    assert f"robot-rl subgoals {run}" in capsys.readouterr().err.replace("\n", " ")
    assert learn(run) == 0
    said = capsys.readouterr().out
    assert "what one change moves" in said and "button_" in said and "held-out episodes" in said
    with safe_open(run / SUBGOALS, "np") as file:
        before, after = file.get_tensor("before"), file.get_tensor("after")
        assert json.loads(file.metadata()["planner"])["members"] == 2
    changed = np.abs(after - before).max(1) > 0.2
    assert before.shape == after.shape and before.shape[1] == 18 and changed.all() and len(before) >= 4
    out = tmp_path / "result.json"
    assert main(["evaluate", str(run), "--episodes", "1", "--subgoals", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["episodes"]) == 5


def test_the_same_seed_learns_the_same(work):
    run, files = work / "base", []
    for seed in (0, 0, 1):
        assert learn(run, f"seed={seed}") == 0
        files.append(load_file(run / SUBGOALS))
    first, again, other = files
    assert all(np.array_equal(value, again[name]) for name, value in first.items())
    weights = next(name for name in first if name.startswith("values."))
    assert not np.array_equal(first[weights], other[weights])


def test_held_out_episodes_are_not_remembered(work):
    run, store = work / "base", EpisodeStore(work / "data")
    assert learn(run) == 0
    planner = load_planner(run, read_run(run))
    on = [name.endswith(".on") for name in store.observation_spec.arrays["state"].names]
    first = store.episode(0).observation(0)["state"]  # the first of three is held out
    told = np.isin(planner.things.elements, np.flatnonzero(on))
    seen = planner.memory.before * planner.memory.std + planner.memory.mean
    shown = first[planner.things.elements]
    assert not (np.abs(seen[:, told] - shown[told]) < 0.5).all(1).any()


DAMAGES = {
    "nan": ("values._v.layers.0", lambda one: one * float("nan")),
    "lacks": ("after", None),
    "shape": ("before", lambda one: one[:, :5].contiguous()),
    "spread": ("std", lambda one: one * 0.0),
    "elements": ("elements", lambda one: one.flip(0)),
}


@pytest.mark.parametrize("damage", ["truncated", "text", *DAMAGES])
def test_what_is_damaged_is_said(work, damage):
    run = work / "base"
    assert learn(run) == 0
    content = (run / SUBGOALS).read_bytes()
    with safe_open(run / SUBGOALS, "pt") as file:
        tensors, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    if damage == "truncated":
        (run / SUBGOALS).write_bytes(content[: len(content) // 2])
    elif damage == "text":
        (run / SUBGOALS).write_text("no tensors")
    else:
        key, change = DAMAGES[damage]
        whole = tensors.pop(key)
        save_file(tensors if change is None else {**tensors, key: change(whole)}, run / SUBGOALS, told)
    with pytest.raises(DataError, match="makes it anew"):
        load_planner(run, read_run(run))
    assert learn(run) == 0
    load_planner(run, read_run(run))


def test_what_cannot_be_planned_for_is_said(work, tmp_path, capsys):
    assert learn(write_policy(tmp_path / "lift"), "seed=0") == 2  # it is told no goals
    assert learn(work / "base", "values.discount=2") == 2
    assert learn(work / "base", "planner.unknown=2") == 2
    said = capsys.readouterr().err
    assert "told goals" in said or "no such" in said.lower() or "does not exist" in said
    assert "discount" in said and "unknown" in said
    assert learn(work / "base") == 0
    assert main(["evaluate", str(work / "base"), "--subgoals", "--words", "press button 3"]) == 2
    assert "without --words" in capsys.readouterr().err.replace("\n", " ")


def test_play_of_another_task_is_refused(work, tmp_path, capsys):
    other, run = tmp_path / "other", tmp_path / "run"
    short = ["--episodes", "2", "--steps", "20", "--jobs", "1"]
    assert main(["play", "cube-single", *short, "--out", str(other)]) == 0
    shutil.copytree(work / "base", run)
    described = json.loads((run / "experiment.json").read_text()) | {"data": str(other)}
    (run / "experiment.json").write_text(json.dumps(described))
    assert learn(run) == 2
    assert "is not what" in capsys.readouterr().err


def test_the_next_change_needs_a_state_that_names_its_elements(work, tmp_path):
    with pytest.raises(ConfigError, match="told goals"):
        from robot_rl.apps.config import compose
        from robot_rl.apps.imitation import ImitationExperiment, open_material

        words = ["task=puzzle-3x3", f"data={work / 'data'}", "goals.next_change=1", "policy.inputs.goal=false"]
        open_material(compose("imitate", words, ImitationExperiment))
