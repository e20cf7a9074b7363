"""Priority, freshness, hysteresis and hand-over of the sources."""

from __future__ import annotations

import numpy as np
import pytest

from hardware.mux import PRIORITY, Mux
from robot_rl.errors import UnknownNameError
from robot_rl.types import ArmTarget


def target(stamp_s: float) -> ArmTarget:
    return ArmTarget(stamp_s, np.array([0, 0, 0, 1.0, 0, 0, 0]), 1.0)


def make() -> Mux:
    return Mux(expire_s=0.2, release_s=0.3, handover_s=0.1)


def test_hold_without_requests() -> None:
    choice = make().choose(5.0)
    assert (choice.source, choice.target, choice.changed) == ("hold", None, False)
    assert choice.handover_left_s == 0.0


def test_highest_priority_wins_whatever_the_order_of_arrival() -> None:
    for first, second in ((0, 1), (1, 2), (2, 3), (0, 3)):
        for order in ((first, second), (second, first)):
            mux = make()
            for index in order:
                mux.request(PRIORITY[index], target(1.0))
            assert mux.choose(1.0).source == PRIORITY[first]


def test_priority_is_hold_human_reset_policy() -> None:
    assert PRIORITY == ("hold", "human", "reset", "policy")


def test_requested_hold_has_no_target() -> None:
    mux = make()
    mux.request("hold", target(1.0))
    mux.request("human", target(1.0))
    assert mux.choose(1.0).target is None


@pytest.mark.parametrize(("age_s", "source"), [(0.0, "policy"), (0.199, "policy"), (0.201, "hold")])
def test_expiry_counts_from_the_observation(age_s: float, source: str) -> None:
    mux = make()
    mux.request("policy", target(10.0))
    assert mux.choose(10.0 + age_s).source == source


def test_silent_human_blocks_the_policy_until_released() -> None:
    mux = make()
    mux.request("human", target(10.0))
    seen = {}
    for tick in range(60):
        now_s = 10.0 + tick * 0.01
        mux.request("policy", target(now_s))
        seen[tick] = mux.choose(now_s).source
    assert seen[19] == "human"
    assert {seen[tick] for tick in range(22, 49)} == {"hold"}
    assert seen[52] == "policy"


def test_flickering_human_does_not_let_the_policy_in() -> None:
    """The person's messages come every 0.4 s: hold in the gaps, and not the policy."""
    mux, sources = make(), set()
    for tick in range(200):
        now_s = tick * 0.02
        if tick % 20 == 0:
            mux.request("human", target(now_s))
        mux.request("policy", target(now_s))
        sources.add(mux.choose(now_s).source)
    assert sources == {"human", "hold"}


def test_withdrawal_hands_over_at_once() -> None:
    mux = make()
    mux.request("human", target(10.0))
    mux.request("policy", target(10.0))
    assert mux.choose(10.0).source == "human"
    mux.withdraw("human")
    mux.withdraw("reset")
    choice = mux.choose(10.02)
    assert (choice.source, choice.changed) == ("policy", True)


def test_handover_time_runs_down() -> None:
    mux = make()
    mux.request("policy", target(10.0))
    left = [mux.choose(10.0 + tick * 0.04).handover_left_s for tick in range(4)]
    np.testing.assert_allclose(left, [0.1, 0.06, 0.02, 0.0], atol=1e-9)
    assert not mux.choose(10.13).changed


def test_clear_forgets_requests() -> None:
    mux = make()
    mux.request("policy", target(10.0))
    mux.choose(10.0)
    mux.clear()
    assert mux.choose(10.0).source == mux.source == "hold"
    assert mux.newest_stamp_s("policy") == -np.inf


def test_unknown_source_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="hold, human, policy, reset"):
        make().request("actor", target(1.0))
