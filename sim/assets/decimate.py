"""Drawn meshes with fewer triangles: software rendering costs by the face.

Quadric edge collapse (Garland & Heckbert, SIGGRAPH 1997) by `fast_simplification`.
"""

# mujoco and trimesh ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from sim.assets.geometry import Mesh

FEWEST = 24
"""Faces that every mesh keeps."""


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with about `faces` triangles (more where open edges would tear); itself if it has no more."""
    if len(mesh.faces) <= max(faces, FEWEST):
        return mesh
    try:
        import fast_simplification
    except ImportError as error:
        raise ConfigError("decimated meshes need fast-simplification: pip install 'robot-rl[cousins]'") from error
    found = fast_simplification.simplify(mesh.vertices_m, mesh.faces.astype(np.int32), target_count=max(faces, FEWEST))
    return Mesh(np.asarray(found[0], np.float64), np.asarray(found[1], np.int64))


def decimate_spec(spec: mujoco.MjSpec, names: Collection[str], faces: int) -> None:
    """Replace the meshes called so by decimated ones with `faces` triangles in all, each by its share.

    For meshes that are drawn only: their inertia becomes that of a shell.
    """
    meshes = {mesh: _read(mesh.file) for mesh in spec.meshes if mesh.name in names}
    total = sum(len(read.faces) for read in meshes.values())
    for mesh, read in meshes.items():
        light = _lightened(mesh.file, round(faces * len(read.faces) / max(total, 1)))
        mesh.file = ""
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        mesh.uservert, mesh.userface = light.vertices_m.ravel(), light.faces.ravel()


@lru_cache(maxsize=256)
def _lightened(path: str, faces: int) -> Mesh:
    return decimated(_read(path), faces)


@lru_cache(maxsize=256)
def _read(path: str) -> Mesh:
    import trimesh

    mesh = trimesh.load(path, force="mesh")
    mesh.merge_vertices(merge_tex=True, merge_norm=True)  # seams would tear
    return Mesh(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64))
