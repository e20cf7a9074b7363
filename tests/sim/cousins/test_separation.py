"""Touching things apart, parts of one thing together."""

from __future__ import annotations

import numpy as np

from sim.cousins.fusion import Cloud, fit_normals
from sim.cousins.joining import Joiner, JoiningConfig
from sim.cousins.segmentation import segment, waist
from sim.cousins.separation import SeparationConfig, absorb_small, agglomerate, chromaticity, clusters
from tests.sim.cousins import solids

RED, BLUE, GREEN = (0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (0.1, 0.6, 0.2)


def separate(cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
    kept = cloud.points[:, 2] > 0.008
    cloud, config = cloud[kept], SeparationConfig()
    normals = fit_normals(cloud.points, cloud.origins, config.normal_radius_m)
    labels, handles = Joiner(cloud, normals, 0.0, JoiningConfig()).join(segment(cloud, normals, 0.0, config))
    return labels, handles


def owners(labels: np.ndarray, clouds: list[Cloud]) -> list[set[int]]:
    """The labels of each cloud's points, without those of few (patches astride a crease)."""
    ends = np.cumsum([int((one.points[:, 2] > 0.008).sum()) for one in clouds])
    parts = np.split(labels, ends[:-1])
    return [set(np.flatnonzero(np.bincount(part + 1) > 0.15 * len(part)) - 1) for part in parts]


def test_flush_boxes_of_two_colours_are_two() -> None:
    first = solids.cloud(solids.box((0.0, 0.0, 0.04), (0.04, 0.04, 0.04))[0], RED)
    second = solids.cloud(solids.box((0.0, 0.08, 0.04), (0.04, 0.04, 0.04))[0], BLUE)
    left, right = owners(separate(solids.join(first, second))[0], [first, second])
    assert len(left) == len(right) == 1 and left != right


def test_boxes_of_one_colour_part_at_the_crease_between_them() -> None:
    points = solids.box((0.08, 0.0, 0.07), (0.04, 0.04, 0.07))[0]
    hidden = (points[:, 0] < 0.041) & (points[:, 2] < 0.05)
    high = solids.cloud(points[~hidden], RED)
    low = solids.cloud(solids.box((0.0, 0.0, 0.025), (0.04, 0.04, 0.025))[0], RED)  # in front of it
    first, second = owners(separate(solids.join(high, low))[0], [high, low])
    assert len(first) == len(second) == 1 and first != second


def test_a_box_in_one_colour_and_a_label_on_it_are_one() -> None:
    body = solids.box((0.0, 0.0, 0.06), (0.05, 0.05, 0.06))[0]
    colors = np.tile(RED, (len(body), 1))
    on_face = (body[:, 0] < -0.049) & (np.abs(body[:, 1]) < 0.03) & (np.abs(body[:, 2] - 0.06) < 0.03)
    colors[on_face] = GREEN
    labels, handles = separate(Cloud(body, colors, np.tile(solids.CAMERA, (len(body), 1))))
    assert len(np.unique(labels)) == 1 and not handles.any()


def test_a_cap_belongs_to_its_bottle_and_a_can_on_a_can_does_not() -> None:
    neck = solids.cloud(solids.cylinder((0, 0, 0.135), 0.014, 0.015)[0], BLUE)
    body = solids.cylinder((0, 0, 0.06), 0.035, 0.06)[0]
    shoulder = body[body[:, 2] > 0.1199]
    cone = shoulder - np.stack(
        [0 * shoulder[:, 0], 0 * shoulder[:, 0], 0.8 * np.linalg.norm(shoulder[:, :2], axis=1)], -1
    )
    cone = cone + np.array([0, 0, 0.8 * 0.014])
    rest = body[body[:, 2] < 0.12 - 0.8 * 0.021]
    bottle = solids.join(solids.cloud(np.concatenate([rest, cone]), RED), neck)
    assert len(np.unique(separate(bottle)[0])) == 1
    stacked = solids.join(solids.cloud(body, RED), neck)
    assert len(np.unique(separate(stacked)[0])) == 2


def test_a_handle_is_kept_apart_from_the_body_that_it_hangs_on() -> None:
    body = solids.cloud(solids.box((0.1, 0.0, 0.1), (0.06, 0.09, 0.1))[0], RED)
    bar = solids.cloud(solids.box((0.01, 0.0, 0.12), (0.006, 0.04, 0.006))[0], BLUE)
    posts = [solids.cloud(solids.box((0.025, y, 0.12), (0.015, 0.004, 0.004))[0], BLUE) for y in (-0.035, 0.035)]
    labels, handles = separate(solids.join(body, bar, *posts))
    assert len(np.unique(labels)) == 1
    assert handles[-len(bar.points) :].mean() > 0.8 and handles[: len(body.points) // 2].mean() < 0.02


def test_a_handle_just_above_a_front_below_it_does_not_rest_on_that_front() -> None:
    body = solids.cloud(solids.box((0.1, 0.0, 0.1), (0.06, 0.09, 0.1))[0], RED)
    front = solids.cloud(solids.box((0.03, 0.0, 0.05), (0.01, 0.085, 0.05))[0], GREEN)  # down to the table
    bar = solids.cloud(solids.box((0.02, 0.0, 0.107), (0.006, 0.04, 0.006))[0], BLUE)
    clouds = [body, front, bar]
    labels, handles = separate(solids.join(*clouds))
    assert owners(labels, clouds)[2] == owners(labels, clouds)[0]
    assert handles[-len(bar.points) :].mean() > 0.8


def test_a_thing_on_a_block_that_stands_before_a_box_is_no_handle_of_the_box() -> None:
    body = solids.cloud(solids.box((0.1, 0.0, 0.1), (0.06, 0.09, 0.1))[0], RED)
    block = solids.cloud(solids.box((0.0, 0.0, 0.04), (0.038, 0.05, 0.04))[0], GREEN)
    small = solids.cloud(solids.box((0.02, 0.0, 0.092), (0.018, 0.03, 0.012))[0], BLUE)
    _, handles = separate(solids.join(body, block, small))
    assert not handles[-len(small.points) :].any()


def test_agglomeration_follows_the_mean_bond() -> None:
    # 0-1 and 2-3 attract; between the pairs one strong bond of 1 and two of -1: mean below 0, they stay apart.
    edges = np.array([[0, 1], [2, 3], [1, 2], [0, 2], [1, 3]])
    groups = agglomerate(4, edges, np.array([1.0, 1.0, 0.9, -1.0, -1.0]), np.ones(5, int))
    assert groups[0] == groups[1] != groups[2] == groups[3]
    groups = agglomerate(4, edges, np.array([1.0, 1.0, 0.9, -1.0, 0.5]), np.ones(5, int))
    assert len(set(groups)) == 1


def test_the_waist_of_two_rings_is_the_bond_between_them() -> None:
    ring = [(i, (i + 1) % 6) for i in range(6)]
    edges = np.array([*ring, *((a + 6, b + 6) for a, b in ring), (0, 6)])
    side = waist(np.arange(12), edges, np.ones(len(edges)))
    assert len(set(side[:6])) == len(set(side[6:])) == 1 and side[0] != side[6]


def test_small_segments_go_to_the_neighbour_that_they_touch_most() -> None:
    labels = np.array([0] * 5 + [1] + [2] * 4)
    pairs = np.array([[5, 0], [5, 1], [5, 6], [0, 1]])
    assert absorb_small(labels, pairs, 3).tolist() == [0] * 6 + [2] * 4


def test_shade_does_not_change_chromaticity() -> None:
    lit = np.array([0.8, 0.4, 0.2])
    assert np.linalg.norm(chromaticity(lit) - chromaticity(0.4 * lit)) < 0.02
    assert np.linalg.norm(chromaticity(lit) - chromaticity(lit[::-1])) > 0.3


def test_clusters_leave_small_ones_out() -> None:
    near = np.stack([np.arange(20) * 0.005, np.zeros(20), np.zeros(20)], -1)
    labels = clusters(np.concatenate([near, near[:3] + 1.0]), 0.008, 5)
    assert set(labels[:20]) == {0} and set(labels[20:]) == {-1}
    assert len(clusters(np.zeros((0, 3)), 0.008, 5)) == 0
