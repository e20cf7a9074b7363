"""`robot-rl demonstrate`: shares, names and outcomes in the store, gone on with; failures that can be learned."""

import numpy as np
import pytest

from data.store import EpisodeStore
from robot_rl.apps import gathering
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose
from robot_rl.apps.imitation import ImitationExperiment, open_material
from robot_rl.apps.players import operator_of, read_shares
from robot_rl.errors import ConfigError, UnknownNameError

SHARES = {"expert": 0.4, "clumsy": 0.3, "wrong": 0.3}
WORDS = ["--operators", "expert=0.4", "wrong=0.6"]


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    context = gathering.multiprocessing.get_context
    monkeypatch.setattr(gathering.multiprocessing, "get_context", lambda kind: context("fork"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three episodes, the last two of them in a second run."""
    path = tmp_path_factory.mktemp("mixed") / "lift"
    with pytest.MonkeyPatch.context() as patch:
        context = gathering.multiprocessing.get_context
        patch.setattr(gathering.multiprocessing, "get_context", lambda kind: context("fork"))
        for episodes in (1, 3):
            arguments = ["--episodes", str(episodes), "--jobs", "1", "--out", str(path)]
            assert main(["demonstrate", "lift", *WORDS, *arguments]) == 0
    return path


def test_every_beginning_holds_the_shares_and_so_does_what_is_held_out():
    for stride in (1, 20):
        names = [operator_of(index, SHARES) for index in range(0, 400 * stride, stride)]
        for count in (50, 100, 400):
            for name, share in SHARES.items():
                assert names[:count].count(name) == pytest.approx(share * count, abs=4)


def test_shares_need_not_add_up_to_one():
    tenfold = {name: 10 * share for name, share in SHARES.items()}
    assert [operator_of(i, SHARES) for i in range(99)] == [operator_of(i, tenfold) for i in range(99)]
    assert {operator_of(i, {"wrong": 2.0}) for i in range(99)} == {"wrong"}


def test_shares_are_read_strictly():
    assert read_shares(["expert", "wrong=0.25"]) == {"expert": 1.0, "wrong": 0.25}
    with pytest.raises(UnknownNameError, match="clumsy"):
        read_shares(["novice=1"])
    for words in (["expert=0"], ["expert=-1"], ["expert=nan"], ["expert=inf"], ["expert=1", "expert=2"], ["wrong=x"]):
        with pytest.raises(ConfigError):
            read_shares(words)


def test_episodes_name_their_operator_and_end_as_the_task_does(store):
    infos = EpisodeStore(store).infos
    shares = {"expert": 0.4, "wrong": 0.6}
    assert [info.operator for info in infos] == [operator_of(index, shares) for index in range(3)]
    assert {info.operator for info in infos} == set(shares)
    for index, info in enumerate(infos):
        arrays = EpisodeStore(store).episode(index).arrays
        success = info.operator == "expert"
        assert (info.phase, info.success, info.usable) == ("demo", success, True)
        assert info.intervention_spans == ((0, info.steps),)
        assert arrays["reward"].sum() == arrays["reward"][-1] == arrays["terminated"][-1] == success
        assert arrays["truncated"][-1] != success and (success or info.steps == 150)
        assert next(EpisodeStore(store).episode(index).events()).operator == info.operator


def test_other_shares_are_refused_and_the_same_add_nothing(store, capsys):
    arguments = ["demonstrate", "lift", "--jobs", "1", "--out", str(store), "--episodes", "3"]
    assert main([*arguments, "--operators", "clumsy"]) == 2
    assert "episode 0" in capsys.readouterr().err
    assert main([*arguments, *WORDS]) == 0
    assert len(EpisodeStore(store)) == 3


def test_stores_show_operators_and_are_sound(store, capsys):
    assert main(["data", "info", str(store)]) == 0
    said = capsys.readouterr().out
    assert "tcp.x, tcp.y, tcp.z" in said and "x, y, z, gripper" in said  # the names of elements
    rows = [[cell.strip() for cell in line.split("│")] for line in said.splitlines()]
    counts = {cells[2]: cells[3:5] for cells in rows if len(cells) > 4}
    assert counts == {"expert": ["1", "1"], "wrong": ["2", "0"]} or counts == {
        "expert": ["2", "2"],
        "wrong": ["1", "0"],
    }
    assert main(["data", "verify", str(store)]) == 0


def test_failures_are_imitated_only_if_asked_for(store):
    def steps(*overrides):
        words = ["task=lift", f"data={store}", "held_out=0", *overrides]
        return len(open_material(compose("imitate", words, ImitationExperiment)).train)

    infos = EpisodeStore(store).infos
    assert steps() == sum(info.steps for info in infos if info.success)
    assert steps("outcomes=all") == sum(info.steps for info in infos)
    with pytest.raises(UnknownNameError, match="success"):
        steps("outcomes=failures")


def test_the_returns_of_demonstrations_tell_success_from_failure(store):
    words = ["task=lift", f"data={store}", "held_out=0", "outcomes=all"]
    sampler = open_material(compose("imitate", words, ImitationExperiment)).train
    opened = EpisodeStore(store)
    for info, end in zip(opened.infos, opened.ends, strict=True):
        windows = sampler.windows(np.array([end - info.steps, end - 1]), np.random.default_rng(0))
        np.testing.assert_array_equal(windows.returns_to_go, float(info.success))
