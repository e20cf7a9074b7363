"""Where policies fail: groups of failed episodes that ended alike.

Shape letters: N episodes, D measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from robot_rl.errors import ConfigError

SCATTERED = -1
"""Of an episode in no cluster."""


@dataclass(frozen=True)
class ClusterConfig:
    """What counts as alike."""

    reach_m: float = 0.03
    """Distance of two neighbours, of where the object began and where the TCP ended."""
    reach_steps: float = 20.0
    """Difference of their lengths in steps that weighs as much."""
    share: float = 0.05
    """Share of all failures within reach that makes an episode the core of a cluster."""
    least: int = 4
    """And at least so many."""

    def __post_init__(self) -> None:
        if min(self.reach_m, self.reach_steps) <= 0.0 or not 0.0 <= self.share <= 1.0 or self.least < 2:
            raise ConfigError(f"reaches are above 0, share in [0, 1], least at least 2; got {self}")


def failure_clusters(table: Mapping[str, NDArray], config: ClusterConfig) -> NDArray[np.int64]:
    """The cluster (N,) of each episode by object's start, TCP's end and length, the largest is 0; -1 for none.

    What was not measured (NaN) counts as alike everywhere.
    """
    columns = ("object_x_m", "object_y_m", "tcp_x_m", "tcp_y_m", "tcp_z_m")
    measures = [np.asarray(table[name], np.float64) / config.reach_m for name in columns]
    measures.append(np.asarray(table["steps"], np.float64) / config.reach_steps)
    points = np.nan_to_num(np.stack(measures, 1))
    return dbscan(points, 1.0, max(config.least, round(config.share * len(points))))


def dbscan(points: NDArray[np.float64], reach: float, least: int) -> NDArray[np.int64]:
    """Labels (N,) of `points` (N, D), the largest cluster first (Ester et al., KDD 1996).

    A point with `least` points within `reach`, itself included, is a core; cores within reach of each other are one
    cluster; other points join the nearest core within reach, or none (-1).
    """
    labels = np.full(len(points), SCATTERED)
    if not len(points):
        return labels
    tree = KDTree(points)
    cores = np.flatnonzero(tree.query_ball_point(points, reach, return_length=True) >= least)
    if not len(cores):
        return labels
    core_tree = KDTree(points[cores])
    pairs = core_tree.query_pairs(reach, output_type="ndarray")
    adjacent = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(cores), len(cores)))
    _, groups = connected_components(adjacent, directed=False)
    distance, nearest = (np.asarray(one) for one in core_tree.query(points))
    labels[distance <= reach] = groups[nearest[distance <= reach]]
    order = np.argsort(-np.bincount(labels[labels >= 0]), kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    labels[labels >= 0] = ranks[labels[labels >= 0]]
    return labels
