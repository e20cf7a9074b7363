"""Success and differences over worlds and starts: by hand, against coverage, and where resampling alone is blind."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.paired import crossed_bootstrap, difference, gap, outcomes, paired_interval, success, wilson
from robot_rl.statistics import wilson_interval
from tests.twin_tables import ENSEMBLE, columns, even, rows


def cells(values):
    """(W, S) values as outcomes."""
    return {(f"w{w}", "scene", "", s): float(v) for w, row in enumerate(values) for s, v in enumerate(row)}


def test_outcomes_are_means_of_the_rows_of_a_cell():
    found = rows({"a": {"ensemble_00": 1.0}}, starts=2)
    found += [{**found[0], "success": False}]
    table = columns(found)
    assert outcomes(table, "a", ["ensemble_00"]) == {
        ("ensemble_00", "scene_0000", "", 0): 0.5,
        ("ensemble_00", "scene_0000", "", 1): 1.0,
    }
    assert outcomes(table, "a", ["point"]) == {} and outcomes(table, "b", ["ensemble_00"]) == {}


def test_paired_interval_by_hand():
    # 10 wins, 4 losses of 100: (10.5 - 4.5) / 102 with variance (15 - 36 / 102) / 102^2
    low, high = paired_interval(10, 4, 100)
    spread = 1.959964 * np.sqrt((15 - 36 / 102) / 102**2)
    assert (low, high) == pytest.approx((6 / 102 - spread, 6 / 102 + spread), abs=1e-6)
    assert paired_interval(0, 0, 100)[0] < 0.0 < paired_interval(0, 0, 100)[1]
    with pytest.raises(ValueError, match="wins"):
        paired_interval(60, 60, 100)


def test_paired_interval_covers():
    rng = np.random.default_rng(0)
    wins, losses, pairs = 0.15, 0.05, 80
    counts = rng.multinomial(pairs, [wins, losses, 1 - wins - losses], 2000)
    inside = [low < wins - losses < high for low, high in (paired_interval(w, lost, pairs) for w, lost, _ in counts)]
    assert 0.94 < np.mean(inside) < 0.98


def test_the_crossed_interval_covers_where_worlds_differ():
    """Rates of the worlds vary: an interval that took the episodes for independent would miss most of the time."""
    rng = np.random.default_rng(1)
    inside, naive = [], []
    for _ in range(150):
        world_rates = np.clip(0.5 + 0.2 * rng.standard_normal(8), 0.0, 1.0)
        found = cells(rng.random((8, 60)) < world_rates[:, None])
        mean, low, high = crossed_bootstrap(found, resamples=400)
        inside.append(low < 0.5 < high)
        naive.append(abs(mean - 0.5) < 1.96 * np.sqrt(0.25 / 480))
    assert np.mean(inside) > 0.85 > 0.6 > np.mean(naive)


def test_success_without_a_failure_is_not_certain():
    rate = success(cells(np.ones((4, 10))))
    assert rate.value == rate.high == 1.0 and 0.85 < rate.low < 0.95 and rate.trials == 40
    assert str(rate) == "1.00 [0.91, 1.00]"


def test_success_in_one_world_has_wilsons_interval_and_in_several_a_wider_one():
    one = np.arange(40) < 30
    assert success(cells([one])) == wilson(cells([one]))
    assert (success(cells([one])).low, success(cells([one])).high) == wilson_interval(30, 40)
    alike, apart = success(cells([one] * 4)), success(cells([[1] * 40] * 3 + [[0] * 40]))
    assert alike.value == apart.value == 0.75
    assert alike.low < wilson_interval(120, 160)[0] and apart.low < alike.low  # starts alike, worlds not


def test_scenes_are_resampled_as_worlds_are():
    """One world in each of four scenes: as uncertain as four worlds of one scene."""
    rates = [[1] * 30 + [0] * 10] * 2 + [[0] * 40, [1] * 40]
    in_scenes = {("ensemble_00", w, "", s): value for (w, _, _, s), value in cells(rates).items()}
    worlds, scenes = success(cells(rates)), success(in_scenes)
    assert scenes.value == worlds.value and scenes.low < wilson(in_scenes).low - 0.1
    assert (scenes.low, scenes.high) == pytest.approx((worlds.low, worlds.high), abs=0.1)


def test_looks_of_one_start_count_as_one():
    """Forty starts that go the same way in five looks are forty trials and not two hundred."""
    nominal = {("point", "scene", "", start): float(start < 30) for start in range(40)}
    every = {("point", "scene", look, start): value for (*_, start), value in nominal.items() for look in ("", *"abcd")}
    assert success(every) == success(nominal)
    none = dict.fromkeys(every, 0.0)
    assert difference(every, none) == difference(nominal, none)


def test_cells_of_several_trials_count_as_one():
    rate = wilson({("real", "", "", start): value for start, value in enumerate((0.5, 0.5, 1.0, 0.0, 0.5))})
    assert rate.value == 0.5 and rate.trials == 5  # 2.5 of 5
    assert wilson_interval(2, 5)[0] < rate.low < wilson_interval(3, 5)[0]
    nothing = success({})
    assert np.isnan(nothing.value) and (nothing.low, nothing.high, nothing.trials) == (0.0, 1.0, 0)


def test_differences_are_of_common_cells_alone():
    first = cells([[1, 1, 1, 1], [1, 1, 0, 0]])
    second = cells([[0, 1, 0, 1]])
    delta = difference(first, second)
    assert delta.value == 0.5 and delta.trials == 4
    none = difference(first, {})
    assert none.trials == 0 and np.isnan(none.value) and (none.low, none.high) == (-1.0, 1.0)


def test_the_gap_pairs_by_start_where_scenes_differ():
    single = {("point", "scene_0000", "", start): float(start < 9) for start in range(10)}
    many = {(world, f"scene_{world}", "", start): float(start < 3) for world in ENSEMBLE for start in range(10)}
    above = gap(single, many)
    assert above.value == pytest.approx(0.6) and above.low > 0.2 and above.trials == 40
    # where the scene is the same it is paired with that scene, not with the mean of all
    both = single | {("point", "scene_1", "", start): 0.0 for start in range(10)}
    same = {("ensemble_00", "scene_1", "", start): 0.0 for start in range(10)}
    assert gap(both, same).value == 0.0


def test_cells_that_were_not_tried_do_not_count():
    found = cells(np.ones((4, 10))) | {("w9", "scene", "", 3): 0.0}
    mean, low, high = crossed_bootstrap(found)
    assert mean == pytest.approx(40 / 41) and low < mean <= high <= 1.0


def test_the_tables_of_these_tests_have_the_rates_they_say():
    table = columns(rows({"a": even(0.9, 0.4)}))
    assert success(outcomes(table, "a", ENSEMBLE)).value == pytest.approx(0.4)
