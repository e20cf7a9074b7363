"""The watch over the policy in service: what it notes, when it rolls back, whom it tells."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.deployment import RegressionConfig, ServiceWatch, find_regression
from robot_rl.errors import ConfigError
from robot_rl.registry import DeployedEpisode, Registry
from robot_rl.types import EpisodeEnd, EpisodeStart
from tests.robot_rl.test_registry import promote

CONFIG = RegressionConfig()


def episode(interventions: int, success: bool = True, discarded: bool = False) -> DeployedEpisode:
    return DeployedEpisode("x", "now", "runs/deploy", 100, interventions, success, discarded)


def watched(tmp_path, *, reference=40):
    """A registry with two promotions, the first with a good record; and what the watch said of changes."""
    registry = Registry(tmp_path / "service")
    first, second = promote(registry, tmp_path, "first"), promote(registry, tmp_path, "second")
    for _ in range(reference):
        registry.add_episode(first, episode(2))
    counts, changes = {"rejected": 5, "clipped": 0}, []
    watch = ServiceWatch(registry, second, tmp_path, lambda: dict(counts), CONFIG, changes.append)
    return registry, watch, first, second, counts, changes


def run(watch, interventions, success=True, counts=None, **more):
    watch.on_start(EpisodeStart("e", "evaluate", {}, 0.0, 1, 0.0))
    if counts is not None:
        counts.update(more)
    watch.on_end(EpisodeEnd("e", success, 100, 10.0, interventions))


def test_it_notes_every_episode_with_what_the_guard_did(tmp_path):
    registry, watch, _, second, counts, changes = watched(tmp_path)
    run(watch, 3, counts=counts, rejected=7, clipped=4)
    run(watch, 0, success=False)
    noted = registry.episodes(second)
    assert [(one.interventions, one.success, one.guard_rejected, one.guard_clipped) for one in noted] == [
        (3, True, 2, 4),
        (0, False, 0, 0),
    ]
    told = {"service.promotion": 2, "service.episodes": 2, "service.interventions": "2%", "service.success": "50%"}
    assert watch.values() == told and changes == []


def test_a_rise_of_interventions_rolls_back_and_goes_on_with_the_one_before(tmp_path):
    registry, watch, first, second, _, changes = watched(tmp_path)
    while not changes:
        run(watch, 60)
        assert len(registry.episodes(second)) < 20
    assert registry.in_service()[0] == first == watch.promotion and [one.name for one in changes] == ["first"]
    why = registry.history()[-1].why
    assert why.startswith(f"promotion {second} is worse") and "the person acts in 60% of the steps" in why
    assert "2% before" in why and watch.values()["service.rolled_back"] == why
    run(watch, 1)  # and what follows is the record of the one before again
    assert len(registry.episodes(first)) == 41


def test_a_rise_of_failures_rolls_back_too(tmp_path):
    registry, watch, first, second, _, changes = watched(tmp_path)
    while not changes:
        run(watch, 0, success=False)
        assert len(registry.episodes(second)) < 20
    assert registry.in_service()[0] == first and "it fails in 100% of the episodes" in watch.regression


def test_a_restarted_process_goes_on_counting(tmp_path):
    registry, watch, _, second, _, changes = watched(tmp_path)
    done = 0
    while not changes:
        watch = ServiceWatch(registry, second, tmp_path, dict, CONFIG, changes.append)
        run(watch, 60)
        done += 1
    assert done == len(registry.episodes(second)) < 20


def test_what_a_person_rolled_back_is_left_between_two_episodes(tmp_path):
    registry, watch, first, _, _, changes = watched(tmp_path)
    registry.roll_back("it drops the cup")
    run(watch, 0)
    assert [one.name for one in changes] == ["first"] and watch.promotion == first and watch.regression == ""


def test_without_a_reference_or_another_policy_nothing_is_rolled_back(tmp_path):
    registry, watch, _, second, _, changes = watched(tmp_path, reference=0)
    for _ in range(30):
        run(watch, 90, success=False)
    assert changes == [] and registry.in_service()[0] == second


def test_discarded_episodes_do_not_count():
    before, worse = [episode(0)] * 40, [episode(80, success=False, discarded=True)] * 40
    assert find_regression(before, worse, CONFIG) == ""
    assert "80%" in find_regression(before, [episode(80)] * 40, CONFIG)


def test_the_false_alarm_rate_of_both_measures_together():
    """Two policies that are alike, looked at after each of 60 episodes."""
    rng, alarms, runs = np.random.default_rng(0), 0, 60

    def drawn(count):
        return [
            episode(int(100 * rng.random()) if rng.random() < 0.2 else 0, bool(rng.random() < 0.7))
            for _ in range(count)
        ]

    for _ in range(runs):
        before, running = drawn(30), drawn(60)
        alarms += any(find_regression(before, running[:n], CONFIG) for n in range(5, 61, 5))
    assert alarms <= 0.05 * runs


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="false_alarm"):
        RegressionConfig(false_alarm=0.0)
    with pytest.raises(ConfigError, match="margins"):
        RegressionConfig(intervention_margin=0.0)
