"""Tips and holes by rays, against sizes that are known."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import DataError
from sim.assets.asset import Asset
from sim.assets.pegs import Peg, Section, Socket
from sim.cousins.fitting import CLEARANCE_M, DIRECTIONS, hole_depth, hole_profile, slimmed, tip_profile

DEPTH_M = 0.01


def peg(width_m: float, section: Section = "square") -> Asset:
    return Peg(section, width_m, 0.06, 1.2 * width_m, 0.03).asset("peg")


def socket(hole_m: float, section: Section = "square", depth_m: float = 0.04) -> Asset:
    return Socket(section, hole_m, depth_m).asset("socket")


def test_profiles_of_squares_and_circles() -> None:
    angles = np.arange(DIRECTIONS) * 2.0 * np.pi / DIRECTIONS
    square = 0.5 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))
    np.testing.assert_allclose(hole_profile(socket(0.026), "opening", DEPTH_M), 0.026 * square, atol=3e-5)
    shaft, axis = tip_profile(peg(0.024), "tip", DEPTH_M)
    np.testing.assert_allclose(shaft, 0.024 * square, atol=3e-5)
    assert axis == 2
    np.testing.assert_allclose(hole_profile(socket(0.026, "round"), "opening", DEPTH_M), 0.013, atol=3e-4)
    np.testing.assert_allclose(tip_profile(peg(0.024, "round"), "tip", DEPTH_M)[0], 0.012, atol=1e-6)
    assert hole_depth(socket(0.026), "opening") == pytest.approx(0.04, abs=1e-6)


def test_what_fits_is_left_alone() -> None:
    item = peg(0.024)
    assert slimmed(item, "tip", socket(0.0261), "opening", DEPTH_M) is item
    round_peg = peg(0.024, "round")
    assert slimmed(round_peg, "tip", socket(0.0261), "opening", DEPTH_M) is round_peg


@pytest.mark.parametrize(
    ("section", "expected_m"), [("square", 0.026 - 2 * CLEARANCE_M), ("round", (0.026 - 2 * CLEARANCE_M) / 2**0.5)]
)
def test_a_peg_is_made_as_slim_as_the_hole(section: Section, expected_m: float) -> None:
    item = peg(0.025)
    slim = slimmed(item, "tip", socket(0.026, section), "opening", DEPTH_M)
    shaft, _ = tip_profile(slim, "tip", DEPTH_M)
    assert 2.0 * shaft.min() == pytest.approx(expected_m, rel=0.03)  # a round hole has flat pieces
    assert slim.half_extents_m[2] == pytest.approx(item.half_extents_m[2])
    assert slim.half_extents_m[0] / item.half_extents_m[0] == pytest.approx(2.0 * shaft.min() / 0.025, rel=1e-3)


def test_holes_that_nothing_goes_into() -> None:
    with pytest.raises(DataError, match="hole is 6 mm deep, the task wants 10"):
        slimmed(peg(0.02), "tip", socket(0.026, depth_m=0.006), "opening", DEPTH_M)
    with pytest.raises(DataError, match="peg does not go into socket, whose hole is narrower"):
        slimmed(peg(0.03), "tip", socket(0.012), "opening", DEPTH_M)
