"""Groups of failures, against scikit-learn's DBSCAN where it is installed and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.failures import SCATTERED, ClusterConfig, dbscan, failure_clusters


def test_by_hand():
    line = [[0.0], [0.9], [1.8], [2.7]]  # a chain: its ends are no cores, but belong to it
    pair = [[10.0], [10.0]]
    labels = dbscan(np.array([*line, *pair, [50.0]]), 1.0, 3)
    assert labels.tolist() == [0, 0, 0, 0, SCATTERED, SCATTERED, SCATTERED]
    assert dbscan(np.array([*line, *pair]), 1.0, 2).tolist() == [0, 0, 0, 0, 1, 1]
    assert dbscan(np.zeros((5, 2)), 1.0, 3).tolist() == [0] * 5  # all at one place
    assert dbscan(np.zeros((0, 2)), 1.0, 3).size == 0


def test_against_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(0)
    centres = rng.uniform(-5, 5, (4, 3))
    points = np.concatenate([centres[i] + 0.4 * rng.standard_normal((20 * (i + 1), 3)) for i in range(4)])
    points = np.concatenate([points, rng.uniform(-8, 8, (30, 3))])
    reference = cluster.DBSCAN(eps=0.7, min_samples=5).fit(points)
    labels = dbscan(points, 0.7, 5)
    assert ((labels == SCATTERED) == (reference.labels_ == -1)).all()
    cores = reference.core_sample_indices_
    pairs = set(zip(labels[cores].tolist(), reference.labels_[cores].tolist(), strict=True))
    assert len(pairs) == labels.max() + 1 == reference.labels_.max() + 1  # the same groups under other numbers
    assert (np.diff(np.bincount(labels[labels >= 0])) <= 0).all()  # the largest first


def table(starts, ends, steps):
    starts, ends = np.array(starts, float), np.array(ends, float)
    names = ("object_x_m", "object_y_m", "tcp_x_m", "tcp_y_m", "tcp_z_m")
    return dict(zip(names, np.concatenate([starts, ends], 1).T, strict=True)) | {"steps": np.array(steps)}


def test_failures_are_told_apart_by_place_and_by_step():
    rng = np.random.default_rng(0)
    corner = rng.normal((0.6, 0.2), 0.004, (12, 2))
    middle = rng.normal((0.5, 0.0), 0.004, (16, 2))
    found = table([*corner, *middle], rng.normal(0.3, 0.004, (28, 3)), [100] * 12 + [20] * 8 + [180] * 8)
    labels = failure_clusters(found, ClusterConfig())
    assert set(labels[:12]) == {0} and len(set(labels[12:20])) == len(set(labels[20:])) == 1
    assert len(set(labels)) == 3


def test_what_was_not_measured_is_alike_everywhere():
    found = table(np.full((6, 2), np.nan), np.full((6, 3), 0.3), [100] * 6)
    assert failure_clusters(found, ClusterConfig()).tolist() == [0] * 6


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="reaches"):
        ClusterConfig(reach_m=0.0)
