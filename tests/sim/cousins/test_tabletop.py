"""Test tables: repeatable, touching when they say so, standing on the table, with the noise that they claim."""

from __future__ import annotations

import numpy as np
import pytest

from sim.cousins.tabletop import GAP_M, gap_m, sample_tabletop
from sim.cousins.tabletop_camera import DepthNoise, with_noise

SEEDS = range(40)


def test_the_same_seed_makes_the_same_table() -> None:
    first, again, other = (sample_tabletop(seed, 1) for seed in (3, 3, 4))
    assert first.placed == again.placed and np.array_equal(first.pose_base_camera, again.pose_base_camera)
    assert first.placed != other.placed


def test_whether_things_touch_depends_on_the_seed_alone_and_is_frequent() -> None:
    touching = [sample_tabletop(seed).touching for seed in SEEDS]
    assert touching == [sample_tabletop(seed, 7).touching for seed in SEEDS]
    assert 0.3 < np.mean(touching) < 0.65


@pytest.mark.parametrize("seed", SEEDS)
def test_things_stand_on_the_table_or_on_each_other(seed: int) -> None:
    placed = sample_tabletop(seed).placed
    for one in placed:
        lowest = one.box.corners()[:, 2].min()
        tops = [other.box.corners()[:, 2].max() for other in placed if other is not one and other.touching]
        assert min(abs(lowest - height) for height in (0.0, *tops)) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_pair_touches(seed: int) -> None:
    placed = sample_tabletop(seed).placed
    for number, one in enumerate(placed):
        for other in placed[:number]:
            gap = gap_m(one.footprint(), other.footprint())
            if one.touching and other.touching:
                assert gap < 0.002
            else:
                assert gap > GAP_M


def test_the_gap_of_squares() -> None:
    square = np.array([[0.0, 0.0], [1, 0], [1, 1], [0, 1]])
    assert gap_m(square, square + np.array([1.5, 0.0])) == pytest.approx(0.5)
    assert gap_m(square, square + np.array([0.75, 0.1])) == pytest.approx(-0.25)
    diamond = (square - 0.5) @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2) + (0.5 + 0.5 + np.sqrt(0.5) + 0.1, 0.5)
    assert gap_m(square, diamond) == pytest.approx(0.1)


def test_noise_has_the_stated_size_and_grows_with_distance_squared() -> None:
    noise = DepthNoise(sigma_m=0.002, bias_m=0.0, step_m=0.0, dropped=0.1, flying=0.0)
    color = np.full((200, 200, 3), 128, np.uint8)
    for distance, sigma in ((0.6, 0.002), (1.2, 0.008)):
        _, depth = with_noise(np.random.default_rng(0), color, np.full((200, 200), distance, np.float32), noise)
        assert (depth == 0).mean() == pytest.approx(0.1, abs=0.01)
        assert depth[depth > 0].std() == pytest.approx(sigma, rel=0.05)
        assert depth[depth > 0].mean() == pytest.approx(distance, abs=2e-4)


def test_edges_fly_and_depth_comes_in_steps() -> None:
    depth = np.full((100, 100), 0.6, np.float32)
    depth[:, 50:] = 0.9
    _, noisy = with_noise(np.random.default_rng(0), np.zeros((100, 100, 3), np.uint8), depth, DepthNoise())
    units = noisy / 0.001
    assert np.allclose(units, units.round(), atol=1e-3)
    between = (noisy > 0.63) & (noisy < 0.87)
    assert between[:, 49:51].mean() > 0.2 and between[:, :48].sum() == between[:, 52:].sum() == 0
