"""Which points belong together: clusters of what stands on supports, and touching things taken apart.

Clusters are split into supervoxels, small patches of one surface and colour. Neighbouring patches attract each other
where the surface goes on or bends away (convex), and repel each other at creases (concave), steps and changes of
colour: local convexity (Stein et al., CVPR 2014), here graded. Patches are then joined greedily by the mean of what
acts between them (Bailoni et al., 1906.11713), which a single wrong bond cannot mislead.

Shape letters: N points, P patches, E edges between patches.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from robot_rl.types import BoolArray, FloatArray, IntArray
from sim.cousins.fusion import Cloud
from sim.cousins.planes import top_plane
from sim.cousins.scene import Support


@dataclass(frozen=True)
class SeparationConfig:
    """What is one thing, and what is two."""

    clearance_m: float = 0.008
    """Points nearer to a support belong to it."""
    max_height_m: float = 0.6
    """Points higher above a support are not of things on it, ..."""
    wall_reach_m: float = 0.4
    """... but where a wall is this near behind them."""
    link_m: float = 0.008
    """Points nearer to each other are in one cluster."""
    min_points: int = 60
    """Smaller clusters are dropped."""
    normal_radius_m: float = 0.009
    """Neighbourhood that a normal is fitted to."""
    patch_m: float = 0.009
    """Size of a patch."""
    crease_deg: float = 22.0
    """A concave bend by this much neither attracts nor repels; more repels."""
    step_m: float = 0.004
    """Parallel patches that lie this much apart along their normal neither attract nor repel."""
    hue: float = 0.045
    """Difference of chromaticity (r, g, b over their sum) that neither attracts nor repels."""
    lightness: float = 0.25
    """Relative difference of brightness between parallel patches that neither attracts nor repels."""
    explained: float = 0.85
    """A segment is left whole if a solid explains this share of its points ..."""
    gain: float = 0.08
    """... or if two solids for its halves do not explain this much more."""
    waist_slack_m: float = 0.006
    """Points nearer to a box's surface are explained by it."""


@dataclass(frozen=True)
class Patches:
    """Supervoxels of a cloud."""

    owner: IntArray
    """(N,) patch of each point."""
    position: FloatArray
    """(P, 3) m."""
    normal: FloatArray
    """(P, 3) unit."""
    color: FloatArray
    """(P, 3) RGB, 0 ... 1."""


def things_mask(cloud: Cloud, supports: tuple[Support, ...], config: SeparationConfig) -> BoolArray:
    """Which points (N,) are on a table or shelf (on the floor where there is no table) or before a wall, higher up."""
    level = [one for one in supports if one.kind in ("table", "shelf")] or [s for s in supports if s.kind == "floor"]
    result = is_above = np.zeros(len(cloud), bool)
    for support in level:
        height = top_plane(support).height_m(cloud.points)
        local = np.abs(support.box.to_local(cloud.points))[:, :2]
        inside = (local < np.asarray(support.box.half_extents_m[:2]) + 0.02).all(1)
        result = result | (inside & (height > config.clearance_m) & (height < config.max_height_m))
        is_above = is_above | (height > config.clearance_m)
    for wall in supports:
        if wall.kind == "wall":
            local, half = np.abs(wall.box.to_local(cloud.points)), np.asarray(wall.box.half_extents_m)
            before = top_plane(wall).height_m(cloud.points)
            within = (local[:, 1:] < half[1:] + 0.02).all(1)
            result |= is_above & within & (before > 0.0) & (before < config.wall_reach_m)
    for support in supports:
        result &= np.abs(top_plane(support).height_m(cloud.points)) > config.clearance_m
    return result


def clusters(points: FloatArray, link_m: float, min_points: int) -> IntArray:
    """Connected components (N,) of points (N, 3) nearer than `link_m`; -1 in small ones."""
    if not len(points):
        return np.zeros(0, np.int64)
    pairs = KDTree(points).query_pairs(link_m, output_type="ndarray")
    return _components(len(points), pairs, min_points)


def make_patches(cloud: Cloud, normals: FloatArray, config: SeparationConfig, rounds: int = 4) -> Patches:
    """k-means in position, normal and chromaticity, from seeds on a grid."""
    features = np.concatenate(
        [cloud.points / config.patch_m, normals, chromaticity(cloud.colors) / (2 * config.hue)], axis=1
    )
    cells = np.floor(cloud.points / config.patch_m).astype(np.int64)
    _, owner = np.unique(cells, axis=0, return_inverse=True)
    for _ in range(rounds):
        _, owner = np.unique(owner, return_inverse=True)
        centres = _means(features, owner)
        owner = KDTree(centres).query(features)[1]
    _, owner = np.unique(owner, return_inverse=True)
    normal = _means(normals, owner)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return Patches(owner, _means(cloud.points, owner), normal, _means(cloud.colors, owner))


def bonds(points: FloatArray, patches: Patches, config: SeparationConfig) -> tuple[IntArray, FloatArray, IntArray]:
    """Neighbouring patches (E, 2), what acts between them (E,) in [-1, 1], and by how many pairs of points (E,)."""
    pairs = patches.owner[KDTree(points).query_pairs(config.link_m * 0.8, output_type="ndarray")]
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    edges, counts = np.unique(pairs, axis=0, return_counts=True)
    first, second = edges.T
    offset = patches.position[first] - patches.position[second]
    distance = np.linalg.norm(offset, axis=1)
    cosine = (patches.normal[first] * patches.normal[second]).sum(1)
    angle = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
    bend = ((patches.normal[first] - patches.normal[second]) * offset).sum(1) / distance
    surface = np.where(bend < 0, 1 - angle / config.crease_deg, 1.0)
    mean_normal = patches.normal[first] + patches.normal[second]
    mean_normal /= np.maximum(np.linalg.norm(mean_normal, axis=1, keepdims=True), 1e-9)
    step = 1 - np.abs((offset * mean_normal).sum(1)) / config.step_m
    surface = np.where(angle < config.crease_deg, np.minimum(surface, step), surface)
    color = color_bond(patches.color[first], patches.color[second], angle < config.crease_deg, config)
    return edges, np.clip(np.minimum(surface, color), -1, 1), counts


def color_bond(a: FloatArray, b: FloatArray, parallel: BoolArray, config: SeparationConfig) -> FloatArray:
    """1 for the same colour, 0 and less for others: chromaticity always (shade does not change it), brightness only
    between parallel surfaces (light falls on them alike)."""
    hue = np.linalg.norm(chromaticity(a) - chromaticity(b), axis=-1) / config.hue
    bright_a, bright_b = a.sum(-1), b.sum(-1)
    light = 2 * np.abs(bright_a - bright_b) / np.maximum(bright_a + bright_b, 1e-6) / config.lightness
    return np.asarray(1 - np.where(parallel, np.maximum(hue, light), hue), np.float64)


def chromaticity(colors: FloatArray) -> FloatArray:
    """Colours (..., 3) over their sum; dark ones, whose hue is noise, fade to grey."""
    return (colors + 0.02) / (colors.sum(-1, keepdims=True) + 0.06)


def agglomerate(nodes: int, edges: IntArray, weights: FloatArray, counts: IntArray) -> IntArray:
    """Join the two groups with the largest mean bond until none is positive; groups (nodes,) are numbered from 0."""
    parent = np.arange(nodes)
    near: list[dict[int, tuple[float, int]]] = [{} for _ in range(nodes)]
    heap = []
    for (first, second), weight, count in zip(edges.tolist(), weights.tolist(), counts.tolist(), strict=True):
        near[first][second] = near[second][first] = (weight * count, count)
        if weight > 0:
            heapq.heappush(heap, (-weight, first, second))
    while heap:
        negative, first, second = heapq.heappop(heap)
        bond = near[first].get(second)
        if bond is None or -negative != bond[0] / bond[1]:
            continue  # one of them has been joined since
        if len(near[first]) < len(near[second]):
            first, second = second, first
        parent[second] = first
        del near[first][second]
        for other, (total, count) in near[second].items():
            if other == first:
                continue
            old_total, old_count = near[first].get(other, (0.0, 0))
            new = (old_total + total, old_count + count)
            near[first][other] = near[other][first] = new
            del near[other][second]
            if new[0] > 0:
                heapq.heappush(heap, (-new[0] / new[1], first, other))
        near[second] = {}
    while (parent != parent[parent]).any():
        parent = parent[parent]
    return np.unique(parent, return_inverse=True)[1]


def _components(count: int, pairs: IntArray, min_size: int) -> IntArray:
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    labels = np.where(np.bincount(labels)[labels] >= min_size, labels, -1)
    return np.unique(labels, return_inverse=True)[1] - int((labels < 0).any())


def _means(values: FloatArray, owner: IntArray) -> FloatArray:
    count = np.bincount(owner)
    return np.stack([np.bincount(owner, one) for one in values.T], -1) / count[:, None]


def absorb_small(labels: IntArray, pairs: IntArray, min_points: int) -> IntArray:
    """Give segments with few points to the neighbour that they touch most; those without neighbours stay."""
    labels = labels.copy()
    for _ in range(3):
        sizes = np.bincount(labels)
        ends = labels[pairs]
        ends = ends[ends[:, 0] != ends[:, 1]]
        if not len(ends):
            break
        both, counts = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0, return_counts=True)
        target = np.arange(len(sizes))
        for number in np.flatnonzero((sizes > 0) & (sizes < min_points)):
            rows = np.flatnonzero((both[:, 0] == number) & (sizes[both[:, 1]] > sizes[number]))
            if len(rows):
                target[number] = both[rows[np.argmax(counts[rows])], 1]
        labels = target[labels]
    return labels
