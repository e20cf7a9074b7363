"""`robot-rl play`: whole episodes in a store, the same whatever the number of processes, gone on with after an end."""

import itertools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from data.recorder import EpisodeRecorder
from data.store import EpisodeStore
from robot_rl.apps import gathering
from robot_rl.apps.cli import main
from robot_rl.apps.players import make_play
from robot_rl.loop import run_episode
from robot_rl.types import EpisodeEnd, EpisodeStart
from tests.data.episodes import ACTION_SPEC, SPEC, events
from tests.robot_rl.test_loop import Recorder

pytest.importorskip("ogbench")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Episodes of 12 steps; worker processes are forked so that they are short too."""
    monkeypatch.setattr("sim.ogbench_env.PLAY_STEPS", 12)
    monkeypatch.setattr("sim.players.PLAY_STEPS", 12)
    context = gathering.multiprocessing.get_context
    monkeypatch.setattr(gathering.multiprocessing, "get_context", lambda kind: context("fork"))


def contents(path):
    """Episode number -> its arrays."""
    store = EpisodeStore(path)
    return {info.seed % gathering.STRIDE: store.episode(i).arrays for i, info in enumerate(store.infos)}, store


@pytest.mark.parametrize("task", ["cube-single", "lift"])
def test_the_number_of_processes_does_not_matter(task, tmp_path):
    for jobs in (1, 2):
        assert main(["play", task, "--episodes", "3", "--jobs", str(jobs), "--out", str(tmp_path / str(jobs))]) == 0
    one, store = contents(tmp_path / "1")
    two, _ = contents(tmp_path / "2")
    assert sorted(one) == sorted(two) == [0, 1, 2]
    for index in one:
        for key in ("observation/state", "executed_action"):
            np.testing.assert_array_equal(one[index][key], two[index][key])
    assert all(info.phase == "play" and info.usable and info.steps == 12 for info in store.infos)
    assert not np.array_equal(one[0]["observation/state"], one[1]["observation/state"])


def test_it_goes_on_where_it_stopped_and_adds_no_more_than_asked(tmp_path, capsys):
    path = tmp_path / "store"
    arguments = ["play", "cube-single", "--out", str(path), "--jobs", "1", "--episodes"]
    assert main([*arguments, "1"]) == 0
    before, _ = contents(path)
    assert main([*arguments, "3"]) == 0
    assert main([*arguments, "3"]) == 0
    after, store = contents(path)
    assert sorted(after) == [0, 1, 2] and len(store) == 3
    np.testing.assert_array_equal(before[0]["executed_action"], after[0]["executed_action"])
    assert main([*arguments, "2", "--seed", "1"]) == 0
    assert len(contents(path)[1]) == 5
    assert "36 steps" in capsys.readouterr().out


def test_a_store_of_something_else_is_not_added_to(tmp_path, capsys):
    path = tmp_path / "store"
    assert main(["play", "cube-single", "--out", str(path), "--jobs", "1", "--episodes", "1"]) == 0
    assert main(["play", "lift", "--out", str(path), "--jobs", "1", "--episodes", "1"]) == 2
    assert "choose another folder" in capsys.readouterr().err


def recorded(path, episodes):
    """A store at `path` of these events."""
    recorder = EpisodeRecorder(path, SPEC, ACTION_SPEC)
    for event in itertools.chain(*episodes):
        write = {EpisodeStart: recorder.on_start, EpisodeEnd: recorder.on_end}.get(type(event), recorder.on_step)
        write(event)
    recorder.close()


def test_a_store_of_another_length_is_not_added_to(tmp_path, capsys):
    recorded(tmp_path / "store", [events(0, 5, phase="play")])
    assert main(["play", "cube-single", "--out", str(tmp_path / "store"), "--steps", "7"]) == 2
    assert "5 steps an episode, not 7" in capsys.readouterr().err
    assert len(EpisodeStore(tmp_path / "store")) == 1


def test_an_episode_that_a_kill_cut_short_is_made_again(tmp_path):
    cut_short = itertools.islice(events(1, 5, phase="play"), 4)
    recorded(tmp_path / "store", [events(0, 5, phase="play"), cut_short])
    env = SimpleNamespace(observation_spec=SPEC, action_spec=ACTION_SPEC, close=lambda: None)
    make = partial(gathering.Scene, env, "play", None)
    store = gathering.gather(make, gathering.Order(0), tmp_path / "store", {}, Console())
    assert [(one.steps, one.usable) for one in store.infos] == [(5, True), (3, False)]
    assert sorted(gathering.gathered(store, 0)) == [0]


def test_a_failing_player_is_reported_and_nothing_is_lost(tmp_path, capsys, monkeypatch):
    def healthy(scene, seed, index):
        if index == 1:
            raise gathering.RobotRlError("the cube is gone")
        return original(scene, seed, index)

    original = gathering._healthy_episode
    monkeypatch.setattr(gathering, "_healthy_episode", healthy)
    path = tmp_path / "store"
    assert main(["play", "cube-single", "--out", str(path), "--jobs", "1", "--episodes", "2"]) == 2
    assert "the cube is gone" in capsys.readouterr().err
    assert sorted(contents(path)[0]) == [0]


def test_robosuite_play_fetches_and_drops(monkeypatch):
    monkeypatch.setattr("sim.players.PLAY_STEPS", 150)
    scene = make_play("lift")
    recorder = Recorder()
    control, operator = scene.enter(0, 3)
    run_episode(scene.env, control, [recorder], phase="play", seed=3)
    states = np.array([step.next_observation["state"] for step in recorder.steps])
    names = scene.env.observation_spec.arrays["state"].names
    toggles = np.count_nonzero(np.diff(states[:, names.index("gripper.target")]))
    assert len(recorder.steps) == 150 and toggles >= 4 and operator == ""
    assert not any(step.terminated or step.reward for step in recorder.steps)
    scene.env.close()
