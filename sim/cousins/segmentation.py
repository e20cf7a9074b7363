"""Segments of things: patches joined by the bonds between them, and taken apart where no single solid explains them.

Two things of one colour that touch along a short line may hold together by their mean bond. A segment that one solid
explains badly is therefore tried in two parts, along the weakest waist of the graph of its patches (normalised cut,
Shi & Malik 2000), and stays so if a solid for each part explains much more.

Shape letters: N points, P patches, E edges between patches.
"""

from __future__ import annotations

import numpy as np

from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.fusion import Cloud
from sim.cousins.separation import SeparationConfig, agglomerate, bonds, make_patches
from sim.cousins.shapes import fit_shape, fits
from sim.cousins.surfaces import Surface

MAX_DEPTH = 3
"""A segment is cut into at most 2^3 parts."""
CUTS = 24
"""Places along the second eigenvector where a cut is tried."""


def segment(cloud: Cloud, normals: FloatArray, ground_m: float, config: SeparationConfig) -> IntArray:
    """Number of the segment that each point (N,) of things belongs to."""
    patches = make_patches(cloud, normals, config)
    edges, weights, counts = bonds(cloud.points, patches, config)
    groups = agglomerate(len(patches.position), edges, weights, counts)
    strength = np.asarray(np.maximum(weights, 0.02) * counts, np.float64)

    def quality(members: IntArray) -> tuple[float, int]:
        """Share of a group's points that its solid explains, and their number."""
        index = np.flatnonzero(np.isin(patches.owner, members))
        surface = Surface(cloud.points[index], normals[index], ground_m)
        return float(fits(fit_shape(surface), surface, config.waist_slack_m).mean()), len(index)

    def divide(members: IntArray, depth: int) -> list[IntArray]:
        whole, size = quality(members)
        if whole > config.explained or size < 2 * config.min_points or depth == MAX_DEPTH:
            return [members]
        side = waist(members, edges, strength)
        parts = [members[side], members[~side]]
        scores = [quality(part) if len(part) else (0.0, 0) for part in parts]
        mean = sum(share * count for share, count in scores) / size
        if min(count for _, count in scores) < config.min_points or mean < whole + config.gain:
            return [members]
        return [piece for part in parts for piece in divide(part, depth + 1)]

    result = np.zeros(len(groups), np.int64)
    pieces = [piece for group in np.unique(groups) for piece in divide(np.flatnonzero(groups == group), 0)]
    for number, members in enumerate(pieces):
        result[members] = number
    return result[patches.owner]


def waist(members: IntArray, edges: IntArray, strength: FloatArray) -> BoolArray:
    """Which of the patches `members` (M,) are on one side of the cut that is weakest for the sizes of its sides."""
    local = np.full(int(edges.max(initial=members.max())) + 1, -1)
    local[members] = np.arange(len(members))
    first, second = local[edges].T
    kept = (first >= 0) & (second >= 0)
    affinity = np.zeros((len(members), len(members)))
    affinity[first[kept], second[kept]] = affinity[second[kept], first[kept]] = strength[kept]
    degree = np.maximum(affinity.sum(1), 1e-9)
    scale = 1 / np.sqrt(degree)
    laplacian = np.eye(len(members)) - scale[:, None] * affinity * scale
    order = np.argsort(np.linalg.eigh(laplacian)[1][:, 1] * scale)
    best, best_side = np.inf, np.zeros(len(members), bool)
    for place in np.unique(np.linspace(1, len(members) - 1, CUTS).astype(int)):
        side = np.zeros(len(members), bool)
        side[order[:place]] = True
        cut = affinity[side][:, ~side].sum()
        value = cut / degree[side].sum() + cut / degree[~side].sum()
        if value < best:
            best, best_side = value, side
    return best_side
