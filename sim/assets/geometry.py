"""Triangles of compiled models, and points on what of them can be seen from outside."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from robot_rl.types import FloatArray
from sim.assets.shapes import COLLIDING, DRAWN

AROUND = 24
"""Segments of a round primitive."""
Faces = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Triangles."""

    vertices_m: FloatArray
    """(V, 3)."""
    faces: Faces
    """(F, 3), indices."""

    def moved(self, rotation: FloatArray, position_m: FloatArray) -> Mesh:
        """By a matrix (3, 3), which may also scale, and a shift (3,)."""
        return Mesh(self.vertices_m @ rotation.T + position_m, self.faces)


def join(meshes: Iterable[Mesh]) -> Mesh:
    """All triangles in one."""
    vertices: list[FloatArray] = [np.zeros((0, 3))]
    faces, count = [np.zeros((0, 3), np.int64)], 0
    for mesh in meshes:
        vertices.append(mesh.vertices_m)
        faces.append(mesh.faces + count)
        count += len(mesh.vertices_m)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def hull(vertices_m: FloatArray) -> Mesh:
    """Convex hull, with every face turned outwards."""
    try:
        found = ConvexHull(vertices_m)
    except QhullError:  # flat: a box of a hair's width around it
        spread = np.concatenate([vertices_m - 1e-5, vertices_m + 1e-5])
        found = ConvexHull(spread, qhull_options="QJ")
    points, faces = found.points, found.simplices.astype(np.int64)
    normals = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    inward = np.einsum("ij,ij->i", normals, found.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    used, index = np.unique(faces, return_inverse=True)
    return Mesh(points[used], index.reshape(faces.shape))


def volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh, m3 (sum of tetrahedra to the origin)."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def _round(radius: NDArray[np.float64], z: NDArray[np.float64]) -> Mesh:
    """The hull of rings of these radii."""
    angles = 2 * np.pi * np.arange(AROUND) / AROUND
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(AROUND)], -1)
    return hull(np.concatenate([r * circle + [0, 0, h] for r, h in zip(radius, z, strict=True)]))


def primitive(kind: int, size: FloatArray) -> Mesh:
    """A geom's shape in its own frame, as MuJoCo's `geom_type` and `geom_size` say it."""
    geom = mujoco.mjtGeom
    if kind == geom.mjGEOM_BOX:
        return hull(np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size)
    bends = np.linspace(-np.pi / 2, np.pi / 2, 12)
    if kind in (geom.mjGEOM_SPHERE, geom.mjGEOM_ELLIPSOID):
        axes = size if kind == geom.mjGEOM_ELLIPSOID else np.full(3, size[0])
        return _round(np.cos(bends), np.sin(bends)).moved(np.diag(axes), np.zeros(3))
    if kind == geom.mjGEOM_CAPSULE:
        return _round(size[0] * np.cos(bends), size[0] * np.sin(bends) + size[1] * np.sign(bends))
    if kind == geom.mjGEOM_CYLINDER:
        return _round(np.full(2, size[0]), size[1] * np.array([-1.0, 1.0]))
    raise ValueError(f"geoms of type {geom(kind).name} have no closed surface")


def geom_mesh(model: mujoco.MjModel, geom: int) -> Mesh:
    """A geom in its own frame; a colliding mesh as its hull, which is what collides."""
    if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
        return primitive(int(model.geom_type[geom]), model.geom_size[geom])
    mesh = int(model.geom_dataid[geom])
    vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]].astype(np.float64)
    if collides(model, geom):
        return hull(vertices)
    faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]].astype(np.int64)
    return Mesh(vertices, faces)


def collides(model: mujoco.MjModel, geom: int) -> bool:
    return bool(model.geom_contype[geom] or model.geom_conaffinity[geom])


def has_surface(model: mujoco.MjModel, geom: int) -> bool:
    """Whether it is a closed shape: planes, height fields and distance fields are not."""
    infinite = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD, mujoco.mjtGeom.mjGEOM_SDF)
    return model.geom_type[geom] not in infinite


def geom_pose(data: mujoco.MjData, geom: int) -> tuple[FloatArray, FloatArray]:
    """Rotation (3, 3) and position (3,) in the world."""
    return data.geom_xmat[geom].reshape(3, 3).copy(), data.geom_xpos[geom].copy()


def picture(model: mujoco.MjModel, data: mujoco.MjData, geoms: Iterable[int] | None = None) -> Mesh:
    """What is drawn, in the world: geoms of group 1, or those that collide where there are none."""
    chosen = [g for g in (range(model.ngeom) if geoms is None else geoms) if has_surface(model, g)]
    drawn = [g for g in chosen if model.geom_group[g] == DRAWN]
    shown = drawn or [g for g in chosen if model.geom_group[g] == COLLIDING]
    return join(geom_mesh(model, g).moved(*geom_pose(data, g)) for g in shown)


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> FloatArray:
    """Points (count, 3), uniform over the area."""
    a, b, c = (mesh.vertices_m[mesh.faces[:, i]] for i in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = np.sqrt(rng.random(count))[:, None], rng.random(count)[:, None]
    return (1 - u) * a[face] + u * (1 - v) * b[face] + u * v * c[face]


def seen_from(points_m: FloatArray, directions: FloatArray, cells: int = 40, depth_m: float = 0.0) -> NDArray[np.bool_]:
    """Which points (N, 3) nothing hides from far away in any of `directions` (D, 3), by a z-buffer of cells.

    `depth_m` is how far behind the nearest point of its cell a point is still seen; by default two cells.
    """
    extent = float(np.ptp(points_m, axis=0).max())
    size = max(extent / cells, 1e-9)
    seen = np.zeros(len(points_m), bool)
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
        u = np.cross(direction, helper)
        u /= np.linalg.norm(u)
        flat = points_m @ np.stack([u, np.cross(direction, u)], -1)
        cell = np.floor((flat - flat.min(0)) / size).astype(np.int64) @ np.array([1, 4 * cells])
        height = points_m @ direction
        nearest = np.full(int(cell.max()) + 1, -np.inf)
        np.maximum.at(nearest, cell, height)
        seen |= height > nearest[cell] - (depth_m or 2 * size)
    return seen


OUTSIDE = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (0, 1) if (x, y, z) != (0, 0, 0)])
"""Directions (17, 3) that things on a support can be seen from."""


def outer_points(mesh: Mesh, count: int, rng: np.random.Generator) -> FloatArray:
    """Points (count, 3) of the surface that can be seen from some side or from above."""
    points = sample_surface(mesh, 6 * count, rng)
    outer = points[seen_from(points, OUTSIDE.astype(np.float64))]
    return outer[rng.choice(len(outer), count, replace=len(outer) < count)]
