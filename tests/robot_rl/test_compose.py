"""`robot-rl compose`: runs become one, weights are found on start states of their own, misfits are named."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from robot_rl.actor import episode_seed
from robot_rl.apps import weight_search
from robot_rl.apps.cli import main
from robot_rl.apps.compose import Member, build_composition, common_task
from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment
from robot_rl.apps.runs import find_checkpoint, load_policy, read_run
from robot_rl.apps.weight_search import Tried, best, simplex
from robot_rl.errors import ConfigError
from robot_rl.records import EpisodeRecord

pytest.importorskip("ogbench")

SMALL = ["task=cube-single", "policy.network.width=32", "policy.network.blocks=1", "batch_size=16", "--threads", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of runs on one store: EDM, flow with another history, a longer horizon, cloning."""
    path = tmp_path_factory.mktemp("compose")
    short = ["--episodes", "3", "--steps", "40", "--jobs", "1"]
    assert main(["play", "cube-single", *short, "--out", str(path / "store")]) == 0
    for name, updates, extra in (
        ("edm", 3, ["policy=score"]),
        ("flow", 2, ["policy=flow", "policy.inputs.history=2"]),
        ("long", 1, ["policy=score", "policy.horizon=24"]),
        ("gcbc", 1, ["policy=gcbc"]),
    ):
        words = [word for word in SMALL if name != "gcbc" or "network" not in word]
        words += [f"data={path / 'store'}", f"algorithm.updates={updates}", "--run-dir", str(path / name)]
        assert main(["imitate", *words, *extra]) == 0
    return path


def fixed(runs, out, *extra):
    return main(["compose", str(runs / "edm"), str(runs / "flow"), "--out", str(out), *extra])


def test_two_runs_become_one_that_evaluate_and_export_take(runs, tmp_path, capsys):
    out = tmp_path / "both"
    assert fixed(runs, out, "--weights", "0.3", "0.7") == 0
    run_dir, checkpoint = find_checkpoint(out)
    experiment = read_run(run_dir)
    assert experiment.policy.weights == (0.3, 0.7) and checkpoint.name == "step_000000003"
    assert [one.run for one in experiment.policy.parents] == [str(runs / "edm"), str(runs / "flow")]
    assert experiment.policy.inputs.history == 2 and experiment.policy.steps == 3
    tensors = load_file(checkpoint / "policy.safetensors")
    for number, name in enumerate(("edm", "flow")):
        own = load_file(find_checkpoint(runs / name)[1] / "policy.safetensors")
        for key, value in own.items():
            np.testing.assert_array_equal(tensors[f"parents.{number}.net.{key}"], value)
    words = ["evaluate", str(out), "--episodes", "1", "--out", str(tmp_path / "out.json")]
    assert main([*words, "policy.steps=2", "policy.weights=[1, 0]"]) == 0
    assert len(json.loads((tmp_path / "out.json").read_text())["episodes"]) == 5
    assert main([*words, "policy.weights=[1, 1]"]) == 2
    assert "sum to 1" in capsys.readouterr().err
    pytest.importorskip("onnxscript")
    assert main(["export", str(out)]) == 0


def test_all_weight_on_the_leading_run_acts_as_that_run(runs, tmp_path):
    out = tmp_path / "both"
    assert fixed(runs, out, "--weights", "1", "0") == 0
    seen = read_run(out).task.observation_spec
    rng = np.random.default_rng(0)
    observations = [{"state": rng.normal(size=seen.state_dim).astype(np.float32)} for _ in range(12)]
    actions = []
    for run_dir in (out, runs / "edm"):
        policy = load_policy(read_run(run_dir), find_checkpoint(run_dir)[1])
        policy.reset(None)
        actions.append([policy.act(one) for one in observations])
    np.testing.assert_allclose(*actions, atol=1e-4)


def record(success):
    return EpisodeRecord("learn", success, 1, 0, 0.0, 0.0, 0, 0.0, 0)


@pytest.fixture
def judged(monkeypatch):
    """Rollouts replaced: 5 - 10 |w - 0.75| of each 5 episodes succeed; returns the calls."""
    calls = []

    def evaluate(env, policy, episodes, seed, subscribers, goals, phase):
        weight = policy.source.model.config.weights[0]
        calls.append((weight, episodes, seed, len(goals), phase))
        return [record(i < 5 - 10 * abs(weight - 0.75)) for i in range(episodes)]

    monkeypatch.setattr(weight_search, "evaluate", evaluate)
    return calls


def test_the_search_picks_the_best_weights_and_goes_on_where_it_was(runs, tmp_path, judged, capsys, monkeypatch):
    out = tmp_path / "found"
    words = ["--search", "--grid", "4", "--episodes", "5", "--seed", "7"]
    whole = weight_search.evaluate

    def interrupted(*args, **others):
        if len(judged) == 2:
            raise KeyboardInterrupt
        return whole(*args, **others)

    monkeypatch.setattr(weight_search, "evaluate", interrupted)
    assert fixed(runs, out, *words) == 130
    assert not (out / "experiment.json").exists()
    assert main(["evaluate", str(out), "--episodes", "1"]) == 2
    assert "compose --search goes on with it" in capsys.readouterr().err
    monkeypatch.setattr(weight_search, "evaluate", whole)
    assert fixed(runs, out, "--search", "--grid", "2") == 2
    assert "another search" in capsys.readouterr().err
    assert fixed(runs, out, "--weights", "0.5", "0.5") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert fixed(runs, out, *words) == 0
    assert judged == [(weight, 5, 7, 5, "learn") for weight in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert read_run(out).policy.weights == (0.75, 0.25)
    tried = json.loads((out / "search.json").read_text())["tried"]
    assert [sum(one["successful"]) for one in tried] == [3, 5, 3, 0, 0]
    assert "chosen" in capsys.readouterr().out


def test_the_search_runs_the_composition_from_start_states_of_its_own(runs, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        weight_search,
        "evaluate",
        lambda env, policy, episodes, seed, *rest, phase, **others: (
            seeds.extend(episode_seed(seed, phase, i) for i in range(episodes)) or [record(True)] * episodes
        ),
    )
    assert fixed(runs, tmp_path / "found", "--search", "--grid", "1", "--episodes", "50") == 0
    evaluated = {episode_seed(seed, "evaluate", i) for seed in range(20) for i in range(50)}
    assert len(set(seeds)) == 50 and not set(seeds) & evaluated
    monkeypatch.undo()
    assert fixed(runs, tmp_path / "real", "--search", "--grid", "1", "--episodes", "1") == 0
    content = json.loads((tmp_path / "real" / "search.json").read_text())
    assert [len(one["successful"]) for one in content["tried"]] == [5, 5]


def test_ties_go_to_the_middle_then_to_the_better_parent():
    def tried(**successes):
        return [
            Tried((float(w) / 10, 1 - float(w) / 10), (True,) * count + (False,) * (9 - count))
            for w, count in ((name[1:], count) for name, count in successes.items())
        ]

    assert best(tried(w10=3, w7=5, w3=4, w0=2)).weights[0] == 0.7
    assert best(tried(w10=3, w7=5, w5=5, w0=2)).weights[0] == 0.5
    assert best(tried(w10=2, w7=5, w3=5, w0=3)).weights[0] == 0.3
    assert best(tried(w10=3, w7=5, w3=5, w0=2)).weights[0] == 0.7


def test_the_grid_is_the_simplex():
    assert simplex(2, 4) == [(1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)]
    three = simplex(3, 10)
    assert len(set(three)) == 66 and all(abs(sum(one) - 1.0) < 1e-9 and min(one) >= 0.0 for one in three)


@pytest.mark.parametrize(
    ("names", "extra", "said"),
    [
        (["edm", "long"], ["--weights", "0.5", "0.5"], "same horizon"),
        (["edm", "gcbc"], ["--weights", "0.5", "0.5"], "score policies can be composed"),
        (["edm", "flow"], ["--weights", "0.5", "0.6"], "sum to 1"),
        (["edm", "flow"], ["--weights", "1.5", "-0.5"], "must not be negative"),
        (["edm", "flow"], ["--weights", "1.0"], "as many weights"),
        (["edm"], ["--search"], "at least two"),
        (["edm", "nothing"], ["--search"], "nothing has no checkpoints"),
    ],
)
def test_what_cannot_be_composed_is_named_before_anything_is_made(runs, tmp_path, capsys, names, extra, said):
    out = tmp_path / "out"
    assert main(["compose", *(str(runs / name) for name in names), "--out", str(out), *extra]) == 2
    assert said in capsys.readouterr().err and not out.exists()


def test_runs_are_not_overwritten_by_chance(runs, tmp_path, capsys):
    out = tmp_path / "out"
    half = ["--weights", "0.5", "0.5"]
    assert fixed(runs, out, *half) == 0
    assert fixed(runs, out, *half) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert fixed(runs, out, *half, "--overwrite") == 0
    assert fixed(runs, runs / "edm", *half, "--overwrite") == 2
    assert "where a parent lies" in capsys.readouterr().err
    assert main(["compose", str(out), str(runs / "edm"), *half, "--out", str(tmp_path / "more")]) == 2
    assert "give its parents instead" in capsys.readouterr().err


def test_a_composition_does_not_learn(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert fixed(runs, out, "--weights", "0.5", "0.5") == 0
    assert main(["imitate", "--run-dir", str(out), "--resume", "--threads", "1"]) == 2
    assert "does not learn" in capsys.readouterr().err


def member(run, *overrides):
    experiment = compose("imitate", ["policy.inputs.goal=false", *overrides], ImitationExperiment)
    return Member(run, None, experiment)


def test_a_parent_that_sees_and_one_that_feels_get_a_task_that_shows_both():
    feels = member("feels", "task=stack")
    sees = member("sees", "task=stack", "task.env.objects=[]", "task.env.cameras=[front]", "task.env.image_hw=[32,32]")
    for pair in ((feels, sees), (sees, feels)):
        both = build_composition(pair, (0.5, 0.5))
        assert both.task.env.objects == ("red", "green") and both.task.env.cameras == ("front",)
        assert both.task.observation_spec.arrays["image/front"].shape == (32, 32, 3)
        for one, parent in zip(pair, both.policy.parents, strict=True):
            assert parent.view(both.task.observation_spec) == one.experiment.task.observation_spec
    one, other = member("one", "task=stack", "task.env.objects=[green]"), member("other", "task=stack")
    assert common_task([one, other]).env.objects == ("green", "red")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=door"], "stack .* is not door"),
        (["task=cube-single"], "stack .* cube-single"),
        (["task=stack", "task.env.action=[x,y,z,gripper]"], r"one and other are of different tasks.*env\.action"),
        (["task=stack", "task.env.translation_m=0.01", "task.env.rate_hz=20"], r"env\.rate_hz, env\.translation_m"),
        (["task=stack", "robot=sim_ur5e"], "robot"),
    ],
)
def test_parents_of_other_tasks_and_actions_are_named(overrides, said):
    with pytest.raises(ConfigError, match=said):
        common_task([member("one", "task=stack"), member("other", *overrides)])
    small = member("small", "task=stack", "task.env.cameras=[front]", "task.env.image_hw=[32,32]")
    large = member("large", "task=stack", "task.env.cameras=[front]", "task.env.image_hw=[64,64]")
    with pytest.raises(ConfigError, match=r"env\.image_hw"):
        common_task([small, large])
