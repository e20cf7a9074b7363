"""What may be ranked and what must not."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.ranking import rank


def outcomes(rates: dict[str, float], episodes: int, seed: int = 0) -> dict[str, np.ndarray]:
    ease = np.random.default_rng(seed).random(episodes)
    noise = np.random.default_rng(seed + 1)
    return {name: (0.8 * ease + 0.2 * noise.random(episodes)) < rate for name, rate in rates.items()}


def test_what_is_apart_is_ranked_and_what_is_not_is_grouped() -> None:
    ranking = rank(outcomes({"bad": 0.2, "good": 0.8, "as_good": 0.79}, 200), ["twin"] * 200)
    assert set(ranking.names[:2]) == {"good", "as_good"} and ranking.names[2] == "bad"
    assert [set(group) for group in ranking.groups] == [{"good", "as_good"}, {"bad"}]
    words = ranking.words()
    assert words[0].endswith("; then bad") and "~" in words[0]
    assert len(words) == 2 and "cannot be ranked" in words[1]
    assert ranking.verdict("bad", "good").ranked and "is better than bad" in ranking.verdict("bad", "good").words()


def test_few_episodes_rank_nothing_and_say_how_many_would() -> None:
    found = {"a": np.array([1, 1, 1, 0, 1, 0]), "b": np.array([1, 0, 1, 0, 0, 0])}
    ranking = rank(found, ["twin"] * 6)
    verdict = ranking.verdict("a", "b")
    assert not verdict.ranked and verdict.p == 0.5  # two starts tell them apart, both for a: 2 / 4
    # difference 1/3, a third of the starts tell: (1.95996 + 0.84162 sqrt(2/3))^2 * 3
    assert verdict.episodes_needed == 22
    assert ranking.words()[0] == "no ranking: the episodes do not tell these policies apart"
    assert "it takes some 22 paired episodes" in ranking.words()[1]


def test_episodes_that_did_not_suffice_are_never_called_enough() -> None:
    """Twelve policies are 66 pairs: what would tell one pair apart by itself does not tell it among all of them."""
    rng = np.random.default_rng(0)
    found = {f"p{i}": rng.random(50) < rate for i, rate in enumerate(np.linspace(0.2, 0.9, 12))}
    refused = [one for one in rank(found, ["twin"] * 50).verdicts if not one.ranked]
    assert any(one.by_episodes < 0.01 for one in refused)
    assert all(one.episodes_needed is None or one.episodes_needed > 50 for one in refused)


def test_a_world_that_says_the_opposite_stops_a_ranking() -> None:
    agreeing = np.concatenate([np.ones(90), np.zeros(10)]), np.concatenate([np.zeros(60), np.ones(40)])
    opposite = np.zeros(30), np.ones(30)
    a, b = (np.concatenate([x, y]).astype(bool) for x, y in zip(agreeing, opposite, strict=True))
    worlds = ["ensemble_00"] * 100 + ["ensemble_01"] * 30
    verdict = rank({"a": a[:100], "b": b[:100]}, worlds[:100]).verdict("a", "b")
    assert verdict.ranked
    verdict = rank({"a": np.r_[a[:100], a[:100], a[100:]], "b": np.r_[b[:100], b[:100], b[100:]]},
                   worlds[:100] * 2 + worlds[100:]).verdict("a", "b")  # fmt: skip
    assert verdict.by_episodes < 0.05 and not verdict.ranked and verdict.against == ("ensemble_01",)
    assert "say the opposite" in verdict.words()


def test_equal_policies_are_rarely_ranked() -> None:
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        same = {name: rng.random(50) < 0.5 for name in "abcd"}
        wrong += any(one.ranked for one in rank(same, ["twin"] * 50).verdicts)
    assert wrong / 200 <= 0.06  # Holm: at most 5 % of families with any error


def test_policies_that_differ_by_chance_of_their_worlds_are_rarely_ranked() -> None:
    """Equal over all worlds, and in each world better or worse by what is drawn for it: McNemar alone ranks a third."""
    wrong, worlds = 0, np.repeat([f"ensemble_{index:02d}" for index in range(4)], 50)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rates = np.clip(0.6 + 0.15 * rng.standard_normal((2, 4)), 0.0, 1.0)
        first, second = (rng.random(200) < np.repeat(one, 50) for one in rates)
        verdict = rank({"a": first, "b": second}, worlds.tolist()).verdicts[0]
        wrong += verdict.ranked
    assert wrong / 200 <= 0.08


def test_more_worlds_are_asked_for_where_they_differ() -> None:
    first = np.r_[np.ones(40), np.ones(24), np.zeros(16)]
    second = np.r_[np.zeros(30), np.ones(10), np.ones(24), np.zeros(16)]
    verdict = rank({"a": first, "b": second}, ["one"] * 40 + ["other"] * 40).verdicts[0]
    assert verdict.by_episodes < 1e-6 and not verdict.ranked
    assert "more worlds can tell" in verdict.words()
    assert verdict.probability_of_improvement == pytest.approx((1 + 30 / 80) / 2)


def test_scenes_that_differ_refuse_a_ranking_though_each_has_one_world_of_the_same_name() -> None:
    """Better from 30 of 40 starts in one scene, never in the other: episodes of one scene are alike."""
    first = np.r_[np.ones(40), np.ones(24), np.zeros(16)]
    second = np.r_[np.zeros(30), np.ones(10), np.ones(24), np.zeros(16)]
    verdict = rank({"a": first, "b": second}, ["ensemble_00"] * 80, ["kitchen"] * 40 + ["bench"] * 40).verdicts[0]
    assert verdict.by_episodes < 1e-6 and not verdict.ranked
    assert verdict.over_worlds == pytest.approx(0.5)  # t = 1 with one degree of freedom
    assert "more scenes can tell" in verdict.words()


def test_a_scene_that_says_the_opposite_stops_a_ranking_though_every_member_agrees() -> None:
    won, lost = np.r_[np.ones(19), np.zeros(1)], np.r_[np.zeros(10), np.ones(10)]
    worlds, scenes = np.repeat(["ensemble_00", "ensemble_01"], 60), np.tile(np.repeat(["a", "b", "c"], 20), 2)
    first, second = np.tile(np.r_[won, won, lost], 2), np.tile(np.r_[1 - won, 1 - won, np.ones(20)], 2)
    verdict = rank({"first": first, "second": second}, worlds.tolist(), scenes.tolist()).verdicts[0]
    assert verdict.against == ("c/ensemble_00", "c/ensemble_01") and not verdict.ranked


def test_policies_that_differ_by_chance_of_their_scenes_are_rarely_ranked() -> None:
    """Equal over all scenes and members; a test over the single twins would rank a third of them."""
    wrong, rng = 0, np.random.default_rng(0)
    worlds, scenes = np.tile(np.repeat([*"0123"], 25), 3), np.repeat([*"abc"], 100)
    for _ in range(200):
        rates = 0.5 + 0.1 * rng.standard_normal((2, 3, 1)) + 0.1 * rng.standard_normal((2, 1, 4))
        first, second = (rng.random(300) < np.repeat(one.ravel(), 25) for one in rates)
        wrong += rank({"a": first, "b": second}, worlds.tolist(), scenes.tolist()).verdicts[0].ranked
    assert wrong / 200 <= 0.08


def test_an_order_is_not_told_where_only_some_of_it_is_known() -> None:
    # b succeeds wherever c does and is told from it; a, with as many successes as b, succeeds elsewhere and is not
    a = np.r_[np.ones(56), np.zeros(44)]
    c = np.r_[np.zeros(56), np.ones(42), np.zeros(2)]
    b = np.r_[np.zeros(43), np.ones(55), np.zeros(2)]
    ranking = rank({"a": a, "b": b, "c": c}, ["twin"] * 100)
    assert not ranking.verdict("a", "c").ranked and ranking.verdict("b", "c").ranked
    assert ranking.words()[0] == "b is better than c"


def test_groups_may_overlap() -> None:
    # starts in which only one of two succeeds: a 20, c 4 (p = 0.0015); a 12, b 6; b 14, c 4 (p = 0.031, not below
    # 0.025 as Holm wants): a is told from c, and b from neither
    a = np.r_[np.ones(60), np.zeros(40)]
    b = np.r_[np.ones(48), np.zeros(12), np.ones(6), np.zeros(34)]
    c = np.r_[np.ones(40), np.zeros(26), np.ones(4), np.zeros(30)]
    ranking = rank({"a": a, "b": b, "c": c}, ["twin"] * 100)
    assert ranking.verdict("b", "c").p == pytest.approx(2 * 0.030884, abs=1e-5)
    assert ranking.groups == [("a", "b"), ("b", "c")]


def test_one_policy_needs_no_ranking_and_gaps_are_refused() -> None:
    assert rank({"a": [1, 0, 1]}, ["twin"] * 3).words() == ["a"]
    with pytest.raises(ValueError, match="3 outcomes"):
        rank({"a": [1, 0, 1], "b": [1, 0]}, ["twin"] * 3)
