"""Points of simple solids as a camera on one side sees them, without noise."""

from __future__ import annotations

import numpy as np

from robot_rl import frames
from sim.cousins.fusion import Cloud
from sim.cousins.surfaces import Surface

CAMERA = np.array([-0.6, -0.4, 0.7])
STEP = 0.0025


def grid(first: float, second: float) -> np.ndarray:
    """Points (N, 2) that fill a rectangle of half sizes `first`, `second`."""
    axes = [np.arange(-half + STEP / 2, half, STEP) for half in (first, second)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def box(
    position: tuple[float, float, float], half: tuple[float, float, float], rotation: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals of the faces that `CAMERA` sees."""
    rotation = np.eye(3) if rotation is None else rotation
    points, normals = [], []
    for axis in range(3):
        others = [one for one in range(3) if one != axis]
        for sign in (-1.0, 1.0):
            flat = grid(half[others[0]], half[others[1]])
            local = np.zeros((len(flat), 3))
            local[:, others], local[:, axis] = flat, sign * half[axis]
            normal = sign * rotation[:, axis]
            face = local @ rotation.T + position
            if (CAMERA - face.mean(0)) @ normal > 0:
                points.append(face)
                normals.append(np.tile(normal, (len(face), 1)))
    return np.concatenate(points), np.concatenate(normals)


def cylinder(position: tuple[float, float, float], radius: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    """The seen part of the side of an upright cylinder, and its top."""
    angles = np.arange(0, 2 * np.pi, STEP / radius)
    angle, z = np.meshgrid(angles, np.arange(-half, half, STEP), indexing="ij")
    normals = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1).reshape(-1, 3)
    side = normals * radius + np.stack([0 * z, 0 * z, z], -1).reshape(-1, 3) + position
    seen = ((CAMERA - side) * normals).sum(1) > 0
    disc = grid(radius, radius)
    disc = disc[np.linalg.norm(disc, axis=1) < radius]
    top = np.concatenate([disc, np.full((len(disc), 1), half)], 1) + position
    up = np.tile([0.0, 0.0, 1.0], (len(top), 1))
    return np.concatenate([side[seen], top]), np.concatenate([normals[seen], up])


def about_z(angle: float) -> np.ndarray:
    return frames.quat_to_matrix(frames.rotvec_to_quat(np.array([0.0, 0.0, angle])))


def surface(points: np.ndarray, normals: np.ndarray, clearance: float = 0.008) -> Surface:
    """What is left above the clearance of a support at z = 0."""
    kept = points[:, 2] > clearance
    return Surface(points[kept], normals[kept], 0.0)


def cloud(points: np.ndarray, rgb: tuple[float, float, float] = (0.7, 0.2, 0.1)) -> Cloud:
    return Cloud(points, np.tile(rgb, (len(points), 1)), np.tile(CAMERA, (len(points), 1)))


def join(*clouds: Cloud) -> Cloud:
    return Cloud(*(np.concatenate([getattr(one, name) for one in clouds]) for name in ("points", "colors", "origins")))
