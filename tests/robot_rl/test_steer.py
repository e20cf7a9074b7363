"""From recorded episodes to a critic, to a steered policy: the commands, end to end and small."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from data.store import EpisodeStore
from policies.steered import SteeringConfig
from robot_rl.apps.cli import main
from robot_rl.apps.config import CONF_DIR, compose
from robot_rl.apps.held_out import choose_episodes
from robot_rl.apps.imitation import ImitationExperiment, build_chunk_policy, open_material
from robot_rl.apps.runs import find_checkpoint, read_goal
from robot_rl.apps.steering import load_critic, read_setting, steer_by, write_setting
from robot_rl.checkpoints import ALGORITHM
from robot_rl.errors import ConfigError, SpecError

NETS = ("policy.network.width=16", "policy.network.blocks=1", "policy.execution.execute=4")
CRITIC = ("algorithm=gciql", "critic=goal", "critic.hidden=[16,16]", "policy.hidden=[16,16]", "batch_size=16")
QUICK = ("algorithm.updates=6", "--threads", "1")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Play, a policy and a critic of goals."""
    path = tmp_path_factory.mktemp("steer")
    short = ["--episodes", "3", "--steps", "40", "--jobs", "1"]
    assert main(["play", "cube-single", *short, "--out", str(path / "data")]) == 0
    assert imitate(path, "base", "batch_size=16", *NETS) == 0
    assert offline(path, "critic") == 0
    return path


def imitate(path, name, *words):
    common = ("imitate", "task=cube-single", f"data={path / 'data'}", "--run-dir", str(path / name))
    return main([*common, *QUICK, *words])


def offline(path, name, *words):
    common = ("offline", "task=cube-single", f"data={path / 'data'}", "--run-dir", str(path / name))
    return main([*common, *CRITIC, *QUICK, *words])


def test_the_critics_own_policy_runs_like_any_other(work, tmp_path):
    out = tmp_path / "result.json"
    assert main(["evaluate", str(work / "critic"), "--episodes", "1", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text())["episodes"]) == 5


def test_a_setting_is_found_kept_and_used(work, capsys):
    assert main(["steer", str(work / "base"), str(work / "critic"), "--states", "4"]) == 0
    said = capsys.readouterr().out
    assert "chosen" in said
    kept = json.loads((work / "base" / "steering.json").read_text())
    assert kept["critic"] == str(work / "critic") and len(kept["tried"]) > 8
    kept["steering"]["samples"] = 3
    (work / "base" / "steering.json").write_text(json.dumps(kept))
    arguments = ["evaluate", str(work / "base"), "--episodes", "1", "--critic", str(work / "critic")]
    assert main(arguments) == 0
    assert "samples=3" in capsys.readouterr().out
    assert main([*arguments, "--samples", "2", "--temperature", "0.5", "--pessimism", "0"]) == 0
    assert "samples=2, temperature=0.5, pessimism=0.0" in " ".join(capsys.readouterr().out.split())


def test_a_setting_is_its_critics_whatever_that_is_called(work, tmp_path):
    write_setting(work / "base", work / "critic", SteeringConfig(samples=3), [])
    moved = shutil.copytree(work / "critic", tmp_path / "moved")
    assert read_setting(work / "base", moved).samples == 3
    (tmp_path / "another").mkdir()
    namesake = shutil.copytree(work / "critic", tmp_path / "another" / "critic")
    learned = find_checkpoint(namesake)[1] / ALGORITHM
    save_file({name: value + 1 for name, value in load_file(learned).items()}, learned)
    assert read_setting(work / "base", namesake) == SteeringConfig()


def test_settings_are_found_on_what_neither_learned_from(work):
    """A policy of the successes and a critic of everything hold out the same episodes."""
    infos = [
        SimpleNamespace(success=n % 3 > 0, phase="demo", synthetic=n > 90, usable=n != 7, steps=9 * (n != 8))
        for n in range(99)
    ]
    cache = cast(Any, SimpleNamespace(infos=infos))
    learned, out = zip(
        *(
            choose_episodes(cache, compose("offline", [f"outcomes={one}", "held_out=0.1"], ImitationExperiment))
            for one in ("success", "all")
        ),
        strict=True,
    )
    assert out[0].sum() >= 4 and not (out[0] & learned[1]).any() and not (out[1] & learned[0]).any()
    for share in ("0.5", "0.01"):
        for count in (2, 3):  # something is left to learn from, and something to look at
            few = cast(Any, SimpleNamespace(infos=infos[:count]))
            experiment = compose("offline", ["outcomes=all", f"held_out={share}"], ImitationExperiment)
            assert [one.any() for one in choose_episodes(few, experiment)] == [True, True]
    experiment = compose("imitate", ["task=cube-single", f"data={work / 'data'}"], ImitationExperiment)
    assert open_material(experiment, experiment).held_out is not None
    assert open_material(experiment, replace(experiment, held_out=0.0)).held_out is None


def test_a_veto_is_learned_and_obeyed(work, capsys, tmp_path):
    task: Any = compose("imitate", ["task=cube-single"], ImitationExperiment).task
    name = next(one for one in task.observation_spec.arrays["state"].names if "vel" in one)
    fisor = ("algorithm=fisor", "critic=fisor", "critic.horizon=4")
    bound = f"algorithm.cost.bounds=[{{name: {name}, above: 0.0, margin: 1.0}}]"
    common = ("offline", "task=cube-single", f"data={work / 'data'}", "--run-dir", str(tmp_path / "safe"), *QUICK)
    sizes = ("critic.hidden=[16,16]", "policy.hidden=[16,16]", "batch_size=16")
    assert main([*common, *fisor, *sizes, bound]) == 0
    out = tmp_path / "result.json"
    arguments = ["evaluate", str(work / "base"), "--episodes", "1", "--samples", "3", "--out", str(out)]
    safe = str(tmp_path / "safe")
    assert main([*arguments, "--critic", safe, "--veto", safe]) == 0
    assert "no candidate was safe" in capsys.readouterr().out and json.loads(out.read_text())["unsafe_choices"] >= 0
    assert main([*arguments, "--critic", safe, "--veto", str(work / "critic")]) == 2
    assert "algorithm=fisor" in capsys.readouterr().err
    assert main([*arguments, "--veto", safe]) == 2
    assert "--critic" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(work, capsys):
    for words, said in (
        (["--critic", str(work / "base")], "learns no critic"),
        (["--critic", str(work / "nothing")], "has no checkpoints"),
        (["--critic", str(work / "critic"), "--temperature", "nan"], "temperature"),
        (["--samples", "4"], "--critic"),
        (["--critic", str(work / "critic"), "--words", "lift the cube"], "words"),
    ):
        assert main(["evaluate", str(work / "base"), "--episodes", "1", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_critic_of_another_task_or_rate_is_refused(work):
    lift: Any = compose("imitate", ["task=lift"], ImitationExperiment).task
    with pytest.raises(SpecError, match=r"learned for cube-single, and does not fit lift.*cube.z \(policy"):
        load_critic(work / "critic", lift)
    own: Any = compose("imitate", ["task=cube-single"], ImitationExperiment).task
    slower = SimpleNamespace(observation_spec=own.observation_spec, action_spec=own.action_spec, rate_hz=5.0)
    with pytest.raises(SpecError, match="runs at 5 Hz"):
        load_critic(work / "critic", slower)


def test_a_policy_without_goals_is_steered_towards_one(work):
    """By the critic alone; which of the two is told is said where neither is."""
    experiment = compose("imitate", ["task=cube-single", "policy.inputs.goal=false", *NETS], ImitationExperiment)
    goal, specs = f"{work / 'data'}#0", (experiment.task.observation_spec, experiment.task.action_spec)
    policy = build_chunk_policy(experiment)
    steered = steer_by(policy, experiment, work / "base", work / "critic", None, {"samples": 3}, goal)
    steered.reset()
    seen = EpisodeStore(work / "data").episode(1).observation(0)
    assert steered.act(seen).shape == (specs[1].dim,) and steered.choice is not None
    blind = ("critic.inputs.goal=false", "algorithm=iql", "critic=reward")
    assert offline(work, "blind", *blind, "critic.horizon=1") == 0
    with pytest.raises(ConfigError, match="neither this policy nor"):
        steer_by(build_chunk_policy(experiment), experiment, work / "base", work / "blind", None, {}, goal)
    with pytest.raises(ConfigError, match="told no goals"):
        read_goal(experiment, "", goal)


def test_an_offline_run_resumes_with_the_same_weights(work, monkeypatch):
    from robot_rl.algorithms.iql import IQL

    original = IQL.update

    def update(self, windows):
        if self.updates == 3:
            raise KeyboardInterrupt
        return original(self, windows)

    monkeypatch.setattr(IQL, "update", update)
    assert offline(work, "broken") == 130
    monkeypatch.setattr(IQL, "update", original)
    assert main(["offline", "--run-dir", str(work / "broken"), "--resume", "--threads", "1"]) == 0
    one, two = (
        load_file(work / name / "checkpoints" / "step_000000006" / "algorithm.safetensors")
        for name in ("critic", "broken")
    )
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])


def test_every_algorithm_and_critic_of_conf_is_built():
    regularised = [[f"algorithm={name}"] for name in ("td3_bc", "prdc", "a2pr", "uni_o4")]
    others = [["algorithm=famo2o", "policy=family"], ["algorithm=riql", "critic=robust"], ["critic=classes"]]
    others.append(["algorithm=fisor", "critic=fisor"])
    for words in (["algorithm=iql"], ["algorithm=cal_ql"], *regularised, *others):
        experiment = compose("offline", words, ImitationExperiment)
        assert experiment.outcomes == "all" and experiment.returns.steps == experiment.policy.horizon == 8
    goals = compose("offline", ["task=cube-single", *CRITIC[:2]], ImitationExperiment)
    assert goals.returns.of_goals and goals.policy.inputs.goal
    two_levels = {"hiql", "ota"}  # tests/robot_rl/test_imitate.py
    assert {path.stem for path in (CONF_DIR / "critic").glob("*.yaml")} - two_levels == {
        "reward",
        "goal",
        "robust",
        "classes",
        "fisor",
    }


def test_returns_that_targets_could_not_reach_are_refused(work, capsys):
    assert offline(work, "narrow", "algorithm=iql", "critic=reward", "algorithm.value_range=[0.5,1]") == 2
    assert "algorithm.value_range=[0,1]" in capsys.readouterr().err and not (work / "narrow").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algorithm=gciql"], "critic=goal"),
        (["algorithm=imitation"], "discount"),
        (["policy.horizon=4"], "shorter"),
        (["algorithm=fisor"], "critic=fisor"),
        (["critic=fisor"], "algorithm=fisor"),
        (["critic=classes", "algorithm.value_range=[-1,1]"], "critic.head.low"),
        (["critic=classes", "algorithm.value_range=null"], "value_range"),
        (["algorithm=gciql", "critic=goal", "+critic.head._target_=robot_rl.value_heads.ClassHead"], "-100"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        compose("offline", words, ImitationExperiment)
