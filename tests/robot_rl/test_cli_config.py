"""YAML to dataclasses: strict, and every error names the key and the valid choices."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.apps import config as config_module
from robot_rl.apps.cli import main
from robot_rl.apps.config import compose, compose_mapping
from robot_rl.apps.wiring import build_learner, build_policy, load_experiment
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import to_dataclass


class Colour(Enum):
    RED = "red"


class LearnerLike(Protocol):
    steps: int


@dataclass(frozen=True)
class Inner:
    rate_hz: float = 10.0
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = Inner()
    flag: bool = False
    name: str | None = None
    pair: tuple[int, float] = (0, 0.0)
    mode: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    path: Path = Path(".")
    gains: Mapping[str, float] = field(default_factory=dict)
    inners: tuple[Inner, ...] = ()
    any_of: Any = None
    learner: LearnerLike | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


def test_values_arrive_with_their_types() -> None:
    built = to_dataclass(
        Outer,
        {
            "steps": 3,
            "inner": {"rate_hz": 20, "sizes": [7]},
            "name": "x",
            "pair": [1, 2],
            "mode": "b",
            "colour": "red",
            "path": "runs",
            "gains": {"x": 1},
            "inners": [{"rate_hz": 1.5}],
        },
    )
    assert built == Outer(
        3, Inner(20.0, (7,)), False, "x", (1, 2.0), "b", Colour.RED, Path("runs"), {"x": 1.0}, (Inner(1.5),)
    )
    assert type(built.inner.rate_hz) is float and type(built.pair[1]) is float


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"steps": "3"}, ["steps must be int", "'3'"]),
        ({"steps": True}, ["steps must be int"]),
        ({"steps": 1.5}, ["steps must be int"]),
        ({}, ["lacks steps", "Outer"]),
        ({"steps": 1, "stepz": 1}, ["'stepz'", "did you mean 'steps'", "inner"]),
        ({"steps": 1, "inner": {"rate": 3}}, ["'inner.rate'", "rate_hz", "sizes"]),
        ({"steps": 1, "inner": {"sizes": [1, "x"]}}, ["inner.sizes[1] must be int"]),
        ({"steps": 1, "inner": {"sizes": "12"}}, ["inner.sizes must be a list"]),
        ({"steps": 1, "inner": 3}, ["inner must be Inner"]),
        ({"steps": 1, "flag": 1}, ["flag must be bool"]),
        ({"steps": 1, "flag": "yes"}, ["flag must be bool"]),
        ({"steps": 1, "pair": [1]}, ["pair must have 2 elements"]),
        ({"steps": 1, "mode": "c"}, ["'c'", "a, b"]),
        ({"steps": 1, "colour": "blue"}, ["'blue'", "red"]),
        ({"steps": 1, "gains": {"x": "fast"}}, ["gains.x must be float"]),
        ({"steps": 1, "inners": [{}, {"rate_hz": None}]}, ["inners[1].rate_hz must be float"]),
        ({"steps": 1, "learner": "mine"}, ["learner must be a mapping with `_target_"]),
        ({"steps": -1}, ["steps must not be negative"]),
        ([1], ["must be a mapping"]),
    ],
)
def test_errors_name_the_key_and_the_choices(mapping: Any, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        to_dataclass(Outer, mapping)
    for text in expected:
        assert text in str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text() | st.just("inner"), x),
        max_leaves=8,
    )
)
def test_whatever_does_not_fit_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError):  # no value is a mapping and a pair at once
        to_dataclass(Outer, {"steps": 1, "inner": value, "gains": value, "pair": value})


TARGET = "robot_rl.env.EnvConfig"


@dataclass(frozen=True)
class Special:
    """Holds other values of `Inner` than its own defaults, and one of several kinds."""

    inner: Inner = Inner(rate_hz=50.0, sizes=(9,))
    made: Inner | Outer = field(default_factory=lambda: Inner(sizes=(7,)))
    wide: Outer = Outer(1, Inner(rate_hz=3.0))


def test_what_a_part_leaves_out_is_as_in_the_default_that_holds_it() -> None:
    built = to_dataclass(Special, {"inner": {"sizes": [3]}, "made": {"rate_hz": 2}, "wide": {"inner": {"sizes": [4]}}})
    assert built == Special(Inner(50.0, (3,)), Inner(2.0, (7,)), Outer(1, Inner(3.0, (4,))))
    with pytest.raises(ConfigError, match="sizes_"):
        to_dataclass(Special, {"inner": {"sizes_": [3]}})
    assert to_dataclass(Special, {"made": {"steps": 2}}).made == Outer(2)  # another of the kinds


def test_target_names_the_class() -> None:
    built = to_dataclass(object, {"_target_": TARGET, "rate_hz": 5})
    assert type(built).__name__ == "EnvConfig" and vars(built)["rate_hz"] == 5.0


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("os.system", "valid choices"),
        ("robot_rl.env.RobotEnv", "not a dataclass"),
        ("robot_rl.env.Nothing", "cannot find"),
        ("robot_rl.nothing.X", "cannot find"),
        ("", "valid choices"),
    ],
)
def test_target_is_limited_to_our_dataclasses(target: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        to_dataclass(object, {"_target_": target})


def test_target_must_fit_the_field() -> None:
    with pytest.raises(ConfigError, match="EnvConfig is not a Inner"):
        to_dataclass(Outer, {"steps": 1, "inner": {"_target_": TARGET}})


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one.yaml").write_text("rate_hz: 1.0\n")
    (tmp_path / "part" / "two.yaml").write_text("rate_hz: 2.0\nsizes: [5]\n")
    (tmp_path / "root.yaml").write_text(
        "defaults:\n  - part@inner: one\n  - _self_\nsteps: 4\nname: ${mode}\nmode: a\n"
    )
    monkeypatch.setattr(config_module, "CONF_DIR", tmp_path)
    return tmp_path


def test_compose_applies_groups_overrides_and_interpolation(conf: Path) -> None:
    assert compose("root", [], Outer) == Outer(4, Inner(1.0), name="a")
    built = compose("root", ["part@inner=two", "inner.rate_hz=3", "mode=b", "flag=true"], Outer)
    assert built == Outer(4, Inner(3.0, (5,)), flag=True, name="b", mode="b")


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["part@inner=three"], "one"),
        (["inner.speed=3"], "rate_hz"),
        (["steps=many"], "steps must be int"),
        (["steps"], "key=value"),
        (["steps=[1"], "root"),
    ],
)
def test_compose_errors_are_readable(conf: Path, overrides: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as error:
        compose("root", overrides, Outer)
    assert "\n" not in str(error.value)


def test_unknown_config_name() -> None:
    with pytest.raises(ConfigError, match="nothing"):
        compose_mapping("nothing")


def test_unknown_name_lists_choices() -> None:
    error = UnknownNameError("kind", "c", ["b", "a"])
    assert "valid choices: a, b" in str(error)
    assert str(copy(error)) == str(error)  # as on the way out of a pool's process


@pytest.mark.parametrize(
    "override",
    [
        "learner.batch_size=0", "learner.utd=-1", "learner.publish_every=0", "task.env.rate_hz=0",
        "task.env.max_steps=0", "task.env.action=[x,x]", "demo_fraction=2", "seed=-1", "schedule.evaluate_episodes=-3",
        "algorithm.value_range=[1,0]", "algorithm.learning_rate=-1", "algorithm.bc_half_life=0",
        "algorithm.initial_temperature=nan", "algorithm.value_range=[.nan,1]",
        "learner.utd=inf", "task.env.rate_hz=.inf",
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]):
        load_experiment([override])


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["algorithm=expo"], "EXPOPolicyConfig"),
        (["policy=expo"], "GaussianConfig"),
        (["algorithm=q_chunking", "policy=expo"], "QChunkingPolicyConfig"),
        (["algorithm=korr"], "KORRPolicyConfig"),
    ],
)
def test_an_algorithm_that_cannot_teach_the_policy_names_the_one_it_can(overrides: list[str], wanted: str) -> None:
    with pytest.raises(UnknownNameError, match=wanted):
        build_learner(load_experiment(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=rlpd"],
        ["algorithm=bc"],
        ["algorithm=expo", "policy=expo"],
        ["algorithm=q_chunking", "policy=q_chunking"],
    ],
)
def test_what_the_learner_publishes_the_policy_can_load(overrides: list[str]) -> None:
    experiment = load_experiment(overrides)
    policy = build_policy(experiment)
    policy.load(3, build_learner(experiment).algorithm.policy_state())
    assert policy.version == 3


@pytest.mark.parametrize("device", ["cuda:99", "foo"])
def test_a_device_that_is_not_there_is_named_when_learning_begins(device: str) -> None:
    experiment = load_experiment([f"algorithm.device={device}"])
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used here"):
        build_learner(experiment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "x", "--episodes", "-2"],
        ["evaluate", "x", "--seed", "-1"],
        ["train", "--threads", "0"],
    ],
)
def test_counts_below_one_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "must " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "wrong", "right"),
    [
        ("train", "iql", "rlpd_long"),
        ("train", "rldp", "rlpd"),
        ("imitate", "iql", "imitation"),
        ("offline", "bc", "td3_bc"),
    ],
)
def test_an_algorithm_of_another_command_is_met_with_this_ones(
    command: str, wrong: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "task=lift", f"algorithm={wrong}"]) == 2
    said = capsys.readouterr().err
    assert f"unknown algorithm of robot-rl {command} '{wrong}'" in said
    choices = said.partition("valid choices: ")[2].strip().split(", ")
    assert right in choices and wrong not in choices


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path), "--out", str(tmp_path / "missing" / "out.json")]) == 2
    assert "no such directory" in capsys.readouterr().err
