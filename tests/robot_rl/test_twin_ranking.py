"""What the summary of an evaluation says is what report and promotion say, and what real trials add."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.twin_ranking import paired_with_real, real_success, summarize
from robot_rl.apps.twin_report import success_by_kind
from robot_rl.betting import betting_interval
from robot_rl.evaluation_description import Described
from robot_rl.evaluation_table import EPISODES, REAL, EpisodeRow, read_table, read_trials
from robot_rl.identity import Identity
from robot_rl.paired import columns
from robot_rl.prediction_powered import prediction_powered
from robot_rl.promotion import PromotionConfig, judge
from robot_rl.statistics import wilson_interval
from tests.twin_tables import ENSEMBLE, digest, even, rows, write

APART = {"point": 0.9, **dict(zip(ENSEMBLE, (0.95, 0.9, 0.5, 0.45), strict=True))}


@pytest.fixture
def evaluated(tmp_path: Path) -> list[EpisodeRow]:
    return read_table(write(tmp_path, rows({"new": APART, "old": even(0.6, 0.6)})) / EPISODES)


def tried(folder: Path, lines: list[str]) -> list[EpisodeRow]:
    path = folder / "trials.csv"
    path.write_text("\n".join(["policy,start,success", *lines]))
    return read_trials(path)


def test_evaluate_report_and_promotion_say_the_same(evaluated: list[EpisodeRow]) -> None:
    table = columns(evaluated)
    told, shown = summarize(evaluated)["success"]["new"], success_by_kind(table)["new"]
    candidate, _ = judge(table, Described(), Identity(digest("new"), ""), None, PromotionConfig())
    assert (
        candidate is not None and candidate.success == shown["ensemble"] and candidate.alone["point"] == shown["point"]
    )
    for kind in ("point", "ensemble"):
        rate = shown[kind]
        assert (told[kind]["rate"], *told[kind]["interval_95"]) == (rate.value, rate.low, rate.high)
        assert told[kind]["n"] == rate.trials


def test_evaluate_and_promotion_rank_alike_whatever_looks_and_scenes(tmp_path: Path) -> None:
    """Two scenes of one member each, in one of which alone `new` is better; other looks are no further episodes."""
    found = [
        row | {"scene": scene, "variant": look}
        for scene, new in (("kitchen", 0.95), ("bench", 0.5))
        for look in ("", "dark")
        for row in rows({"new": {"ensemble_00": new}, "old": {"ensemble_00": 0.5}}, starts=40)
    ]
    evaluated = read_table(write(tmp_path, found) / EPISODES)
    told = summarize(evaluated)["ranking"]
    candidate, _ = judge(columns(evaluated), Described(), Identity(digest("new"), ""), None, PromotionConfig())
    assert candidate is not None and list(candidate.ranking) == told["words"]
    (pair,) = told["pairs"]
    assert pair["by_episodes"] == pytest.approx(2 / 2**18) and not pair["ranked"]
    assert pair["over_worlds"] == pytest.approx(0.5)  # 0.45 and 0: t = 1 with one degree of freedom
    assert "more scenes can tell" in told["words"][1] and (told["worlds"], told["scenes"]) == (
        ["ensemble_00"], ["bench", "kitchen"],
    )  # fmt: skip


def test_an_ensemble_whose_worlds_differ_is_less_certain_than_its_episodes(evaluated: list[EpisodeRow]) -> None:
    told = summarize(evaluated)["success"]["new"]
    assert told["point"]["interval_95"] == told["point"]["wilson_interval_95"] == list(wilson_interval(54, 60))
    assert told["ensemble"]["wilson_interval_95"] == list(wilson_interval(168, 240))
    (low, high), (low_wilson, high_wilson) = told["ensemble"]["interval_95"], told["ensemble"]["wilson_interval_95"]
    assert low < low_wilson - 0.05 and high > high_wilson + 0.05


def test_real_trials_with_twins(evaluated: list[EpisodeRow], tmp_path: Path) -> None:
    trials = tried(tmp_path, [f"new,{start},{int(start % 4 > 0)}" for start in range(24)] + ["other,0,1"])
    found = real_success(evaluated, trials)
    assert list(found) == ["new"]
    outcomes = np.array([float(start % 4 > 0) for start in range(24)])
    by_start = [np.mean([r.success for r in evaluated if (r.policy, r.kind, r.start) == ("new", "ensemble", start)])
                for start in range(60)]  # fmt: skip
    estimate = prediction_powered(outcomes, by_start[:24], by_start[24:])
    assert found["new"]["interval_95"] == list(estimate.rate[1:])
    assert found["new"]["betting_interval_95"] == list(betting_interval(outcomes, by_start[:24], by_start[24:]))
    assert found["new"]["alone"]["interval_95"] == list(wilson_interval(18, 24))


def test_trials_from_starts_that_were_not_simulated_stand_alone(evaluated: list[EpisodeRow], tmp_path: Path) -> None:
    trials = tried(tmp_path, [f"new,{start},1" for start in range(50, 70)])
    found = real_success(evaluated, trials)["new"]
    assert found["interval_95"] == found["alone"]["interval_95"] == list(wilson_interval(20, 20))
    assert found["betting_interval_95"] == list(betting_interval([1.0] * 20)) and found["trials_saved"] == 0.0


def test_trials_from_one_start_count_as_one(evaluated: list[EpisodeRow], tmp_path: Path) -> None:
    trials = tried(tmp_path, ["new,0,1", "new,0,0", "new,1,1", "new,1,1"])
    assert all(one.kind == REAL for one in trials)
    real, same, others = paired_with_real([row for row in evaluated if row.kind == "ensemble"], trials, "new")
    assert real.tolist() == [0.5, 1.0] and len(same) == 2 and len(others) == 58
    assert real_success(evaluated, trials)["new"]["alone"]["n"] == 2


def test_without_twins_nothing_is_added(tmp_path: Path) -> None:
    trials = tried(tmp_path, ["new,0,1"])
    assert real_success([], trials) == real_success(trials, trials) == {}
