"""Checks before a policy reaches the arm, on small tables: each refuses for its own reason, in words."""

from __future__ import annotations

import pytest

from robot_rl.errors import ConfigError
from robot_rl.evaluation_description import Described
from robot_rl.identity import Identity
from robot_rl.promotion import PromotionConfig, judge, refusals
from tests.twin_tables import ENSEMBLE, columns, described, digest, even, identity, rows

CONFIG = PromotionConfig()


def judged(found, policy="new", in_service=None, config=CONFIG, said=None):
    present = in_service and identity(in_service)
    candidate, checks = judge(columns(found), said or described(found), identity(policy), present, config)
    return candidate, refusals(checks)


def only(found, name, *texts, **rest):
    """The one refusal is `name`'s and says `texts`."""
    _, refused = judged(found, **rest)
    assert len(refused) == 1 and refused[0].startswith(f"{name}: "), refused
    assert all(text in refused[0] for text in texts), refused[0]


def test_a_good_policy_passes_with_its_figures():
    candidate, refused = judged(rows({"new": even(0.9, 0.85), "old": even(0.6, 0.6)}), in_service="old")
    assert refused == () and candidate is not None
    figures = candidate.figures()
    assert figures["success"]["value"] == pytest.approx(0.85) and figures["worlds"] == ENSEMBLE
    assert figures["ranking"] == ("new; then old",) and figures["against"]["old"]["value"] == pytest.approx(0.25)
    assert figures["guard_share"] == 0.05


def test_a_policy_overfitted_to_the_twin_is_refused_in_words():
    """Whatever else it does: it is better over the ensemble than what is in service, too."""
    found = rows({"new": even(0.98, 0.31), "old": even(0.2, 0.2)}, starts=100)
    config = PromotionConfig(required_success=0.2)
    only(
        found,
        "transfer: point",
        "overfitted to the twin: 0.98 in the point twin, 0.31 over the ensemble",
        config=config,
    )
    _, refused = judged(found)
    assert len(refused) == 2 and refused[0].startswith("success: ")


def test_the_world_it_was_trained_in_is_no_part_of_its_ensemble():
    rates = {"point": 0.6, "ensemble_04": 0.98, **dict.fromkeys(ENSEMBLE, 0.6)}
    found, config = rows({"new": rates}), PromotionConfig(trained_in=("ensemble_04",))
    candidate, refused = judged(found, config=config)
    assert candidate.worlds == ENSEMBLE and candidate.success.value == pytest.approx(0.6)
    assert len(refused) == 1 and "0.98 in the ensemble_04 twin, 0.60 over the ensemble" in refused[0]
    with pytest.raises(ConfigError, match=r"no world \['ensemble_9'\]"):
        judged(found, config=PromotionConfig(trained_in=("ensemble_9",)))


def test_a_small_gap_is_none():
    assert judged(rows({"new": even(0.9, 0.8)}))[1] == ()


def test_an_ensemble_alone_cannot_rule_overfitting_out():
    only(rows({"new": dict.fromkeys(ENSEMBLE, 0.9)}), "transfer", "no single twin was evaluated")


def test_the_lower_bound_counts_and_not_the_rate():
    only(rows({"new": even(0.55, 0.55)}), "success", "0.55 [0.", "below 0.50")


def test_few_episodes_or_worlds_are_refused():
    only(rows({"new": even(1.0, 1.0)}, starts=20), "enough episodes", "80 episodes in 4 worlds", "100 in 4 are needed")
    rates = {"point": 0.9, "ensemble_00": 0.9, "ensemble_01": 0.9}
    only(rows({"new": rates}, starts=100), "enough episodes", "200 episodes in 2 worlds")


def test_a_significantly_worse_policy_is_refused_and_by_how_much_is_said():
    found = rows({"new": even(0.8, 0.7), "old": even(0.9, 0.9)})
    only(found, "comparison", "significantly worse", "old", "-0.20 [", "240 paired starts", in_service="old")


def test_a_loss_that_cannot_be_ruled_out_is_refused_until_there_are_more_starts():
    """The same rates from other starts: nothing is shown, and with few starts nothing can be excluded."""

    def mixed(starts):
        new = rows({"new": even(0.8, 0.8)}, starts)
        old = rows({"old": even(0.8, 0.8)}, starts, seed=1)
        return [*new, *old]

    only(mixed(26), "comparison", "may be worse by up to 0.", "0.10 is the margin", in_service="old")
    assert judged(mixed(300), in_service="old")[1] == ()


def test_what_was_not_evaluated_together_is_not_compared():
    only(rows({"new": even(0.9, 0.9)}), "comparison", "does not cover the policy in service", in_service="old")
    found = rows({"new": even(0.9, 0.9), "old": {"real": 0.9}})
    only(found, "comparison", "no start was given to both", in_service="old")
    only(rows({"new": even(0.9, 0.9)}), "comparison", "in service already", in_service="new")


def test_a_policy_that_leans_on_the_guard_is_refused():
    found = rows({"new": even(0.9, 0.9), "old": even(0.9, 0.9)})
    for row in found:
        if row["policy"] == "new":
            row |= {"limited_steps": 9, "refused_steps": 1}
    only(found, "guard", "10.0% of the commands", "5.0% of those of old", "2% more are allowed", in_service="old")
    found = [
        row | {"limited_steps": 6} if row["policy"] == "new" else row
        for row in rows({"new": even(0.9, 0.9), "old": even(0.9, 0.9)})
    ]
    assert judged(found, in_service="old")[1] == ()


def test_another_checkpoint_of_the_run_is_not_covered():
    candidate, refused = judged(rows({"new": even(0.9, 0.9)}), policy="another")
    assert candidate is None and len(refused) == 1
    assert f"new ({digest('new')[:12]})" in refused[0] and digest("another")[:12] in refused[0]
    assert judge(None, Described(), identity("new"), None, CONFIG)[1][0].passed is False


def test_its_place_is_told_in_words():
    found = rows({"new": even(0.7, 0.7), "best": even(0.95, 0.95), "same": even(0.7, 0.7), "bad": even(0.2, 0.2)})
    order, *undecided = judged(found)[0].ranking
    assert order == "best; then new ~ same; then bad" and undecided == [
        "new and same cannot be ranked: they succeed as often"
    ]
    assert judged(rows({"new": even(0.9, 0.9)}))[0].ranking == ("evaluated alone",)


def test_worlds_that_say_the_opposite_make_a_ranking_impossible():
    most = dict.fromkeys(ENSEMBLE[1:], 0.9)
    new = {"point": 0.9, "ensemble_00": 0.5, **most}
    old = {"point": 0.7, "ensemble_00": 0.9, **dict.fromkeys(ENSEMBLE[1:], 0.7)}
    only(
        rows({"new": new, "old": old}, starts=200),
        *("ranking", "cannot be ranked: ensemble_00 say the opposite of the rest"),
        in_service="old",
        config=PromotionConfig(worse_margin=1.0),
    )


def test_the_same_weights_configured_otherwise_are_another_policy():
    found = rows({"new": even(0.9, 0.9), "old": even(0.6, 0.6)})
    tampered = Identity(digest("new"), digest("another experiment"))
    candidate, checks = judge(columns(found), described(found), tampered, None, CONFIG)
    (reason,) = refusals(checks)
    assert candidate is None and "this run's experiment.json is another one" in reason
    assert f"new ({digest('experiment of new')[:12]})" in reason and tampered.experiment[:12] in reason


def test_an_evaluation_that_does_not_say_how_policies_were_configured_is_refused():
    found = rows({"new": even(0.9, 0.9)})
    only(found, "configuration", "does not say", "`robot-rl evaluate --twin` again", said=Described(guarded=True))


def test_two_configurations_of_the_same_weights_are_told_apart():
    hashes = dict.fromkeys(("careful", "bold"), digest("weights"))
    found = rows({"careful": even(0.9, 0.9), "bold": even(0.3, 0.3)}, hashes=hashes)
    careful, bold = (Identity(digest("weights"), digest(f"experiment of {name}")) for name in ("careful", "bold"))
    candidate, checks = judge(columns(found), described(found), careful, bold, CONFIG)
    assert candidate.name == "careful" and candidate.success.value == pytest.approx(0.9) and refusals(checks) == ()
    assert judge(columns(found), described(found), bold, careful, CONFIG)[0].success.value == pytest.approx(0.3)


@pytest.mark.parametrize("in_service", [None, "old"])
@pytest.mark.parametrize(("guarded", "text"), [(False, "nobody guarded this evaluation"), (None, "does not say")])
def test_what_nobody_guarded_is_refused(guarded, text, in_service):
    found = [row | {"limited_steps": 0} for row in rows({"new": even(0.9, 0.9), "old": even(0.6, 0.6)})]
    said = described(found, guarded)
    only(found, "guard", text, "guarded=true", in_service=in_service, said=said)
    assert judged(found, said=said)[0].figures()["guard_share"] is None


def test_a_single_twin_alone_says_what_is_missing():
    config = PromotionConfig(required_success=0.0)
    candidate, refused = judged(rows({"new": {"point": 0.9}}), config=config)
    assert not any("nan" in reason for reason in refused), refused
    told = dict(reason.split(": ", 1) for reason in refused if not reason.startswith("transfer"))
    assert "no episode of the ensemble" in told["success"] and "0 episodes in 0 worlds" in told["enough episodes"]
    (transfer,) = (reason for reason in refused if reason.startswith("transfer: point"))
    assert "0.90 in the point twin, but there is no episode of the ensemble" in transfer and candidate.worlds == ()


def test_a_single_twin_with_other_starts_rules_nothing_out():
    found = [row | {"start": row["start"] + 100 * (row["world"] == "point")} for row in rows({"new": even(0.9, 0.9)})]
    only(found, "transfer: point", "none of its starts was tried in the ensemble")
