"""Building blocks of generated assets: convex geoms with density, panels on hinges, drawers, handles, sites.

All take positions and axes in the asset's own frame, which is also the orientation of every body.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from robot_rl import frames
from robot_rl.types import FloatArray
from sim.assets.asset import ROOT
from sim.assets.materials import JointFriction, Material

COLLIDING, DRAWN = 0, 1
SITE_RADIUS_M = 0.004
STIFF = {"solref": [0.004, 1.0], "solmix": 100.0, "condim": 4}
"""Contacts of the shortest time constant that MuJoCo's usual step of 2 ms allows, whatever the other geom's: at the
default of 20 ms something that falls 0.1 m passes through the floor of a mug."""
RING_SEGMENTS = 16
"""Convex pieces around; a multiple of 4, so that the outer radius is met along x and y."""
AXES: dict[str, tuple[float, float, float]] = {
    "+x": (1, 0, 0),
    "-x": (-1, 0, 0),
    "+y": (0, 1, 0),
    "-y": (0, -1, 0),
    "+z": (0, 0, 1),
    "-z": (0, 0, -1),
}


def frame_quat(x_axis: ArrayLike, z_axis: ArrayLike) -> FloatArray:
    """Quaternion (4,) of the frame with these orthogonal unit axes."""
    x, z = np.asarray(x_axis, np.float64), np.asarray(z_axis, np.float64)
    return frames.matrix_to_quat(np.stack([x, np.cross(z, x), z], -1))


@dataclass
class Part:
    """A body under construction; `origin_m` is where it is in the asset's frame."""

    spec: mujoco.MjSpec
    body: mujoco.MjsBody
    origin_m: FloatArray = field(default_factory=lambda: np.zeros(3))

    def geom(self, kind: mujoco.mjtGeom, center_m: ArrayLike, material: Material, **options: object) -> mujoco.MjsGeom:
        """A geom that collides and has mass, and its twin that is drawn; `options` are of `MjsBody.add_geom`."""
        common = {
            "type": kind,
            "pos": np.asarray(center_m, np.float64) - self.origin_m,
            "rgba": [*material.color_rgb, 1.0],
            **options,
        }
        self.body.add_geom(group=DRAWN, contype=0, conaffinity=0, density=0.0, **common)
        friction = [material.friction, 0.005, 0.0001]
        return self.body.add_geom(group=COLLIDING, density=material.density_kg_m3, friction=friction, **STIFF, **common)

    def box(self, center_m: ArrayLike, half_m: ArrayLike, material: Material, yaw_rad: float = 0.0) -> None:
        quat = [np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)]
        self.geom(mujoco.mjtGeom.mjGEOM_BOX, center_m, material, size=np.asarray(half_m, np.float64), quat=quat)

    def cylinder(
        self, center_m: ArrayLike, radius_m: float, half_m: float, material: Material, axis: str = "z"
    ) -> None:
        quat = {"x": [0.5**0.5, 0, 0.5**0.5, 0], "y": [0.5**0.5, 0.5**0.5, 0, 0], "z": [1, 0, 0, 0]}[axis]
        self.geom(mujoco.mjtGeom.mjGEOM_CYLINDER, center_m, material, size=[radius_m, half_m, 0.0], quat=quat)

    def convex(self, center_m: ArrayLike, vertices_m: FloatArray, material: Material, **options: object) -> None:
        """The hull of `vertices_m` (N, 3)."""
        self.geom(mujoco.mjtGeom.mjGEOM_MESH, center_m, material, meshname=self.mesh(vertices_m), **options)

    def mesh(self, vertices_m: FloatArray) -> str:
        """A convex mesh asset; its name."""
        name = f"mesh_{len(self.spec.meshes)}"
        inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        self.spec.add_mesh(name=name, uservert=np.asarray(vertices_m, np.float64).ravel(), inertia=inertia)
        return name

    def ring(self, center_m: ArrayLike, lower_m: tuple[float, float, float], upper_m: tuple[float, float, float],
             material: Material) -> None:  # fmt: skip
        """A wall around z from convex pieces; `lower_m`, `upper_m` are (inner radius, outer radius, z)."""
        half = np.pi / RING_SEGMENTS
        section = [(r, z) for inner, outer, z in (lower_m, upper_m) for r in (inner, outer)]
        piece = np.array([[r * np.cos(a), r * np.sin(a), z] for r, z in section for a in (-half, half)])
        name = self.mesh(piece)
        for index in range(RING_SEGMENTS):
            turn = (2 * index + 1) * half / 2
            quat = [np.cos(turn), 0.0, 0.0, np.sin(turn)]
            self.geom(mujoco.mjtGeom.mjGEOM_MESH, center_m, material, meshname=name, quat=quat)

    def frustum(self, center_m: ArrayLike, lower_m: tuple[float, float], upper_m: tuple[float, float],
                material: Material) -> None:  # fmt: skip
        """A solid cone's slice; `lower_m`, `upper_m` are (radius, z)."""
        angles = 2 * np.pi * np.arange(RING_SEGMENTS) / RING_SEGMENTS
        around = np.stack([np.cos(angles), np.sin(angles)], -1)
        levels = [np.column_stack([r * around, np.full(len(around), z)]) for r, z in (lower_m, upper_m)]
        self.convex(center_m, np.concatenate(levels), material)

    def site(self, name: str, position_m: ArrayLike, x_axis: str = "+x", z_axis: str = "+z") -> None:
        quat = frame_quat(AXES[x_axis], AXES[z_axis])
        position = np.asarray(position_m, np.float64) - self.origin_m
        self.body.add_site(name=name, pos=position, quat=quat, size=[SITE_RADIUS_M] * 3, group=4)

    def leaf(self, name: str, center_m: ArrayLike, half_m: ArrayLike, normal: str, edge: str, open_rad: float,
             friction: JointFriction) -> Part:  # fmt: skip
        """A body that hinges at the outer corner of a panel's `edge`, shut at 0, opening towards `normal`.

        The outer corner: a panel that turns about it never reaches over into its neighbour's place.
        """
        towards = np.asarray(AXES[normal]) + np.asarray(AXES[edge])
        corner = np.asarray(center_m, np.float64) + towards * np.asarray(half_m, np.float64)
        axis = np.cross(AXES[normal], AXES[edge])
        part = self.child(name, corner)
        part.joint(name, mujoco.mjtJoint.mjJNT_HINGE, axis, open_rad, friction)
        return part

    def slider(self, name: str, center_m: ArrayLike, direction: str, open_m: float, friction: JointFriction) -> Part:
        """A body that slides along `direction`, shut at 0."""
        part = self.child(name, center_m)
        part.joint(name, mujoco.mjtJoint.mjJNT_SLIDE, AXES[direction], open_m, friction)
        return part

    def child(self, name: str, origin_m: ArrayLike) -> Part:
        """A body that does not collide with this one: clearances of millimetres are the joint's business."""
        origin = np.asarray(origin_m, np.float64)
        body = self.body.add_body(name=name, pos=origin - self.origin_m)
        self.spec.add_exclude(bodyname1=self.body.name, bodyname2=name)
        return Part(self.spec, body, origin)

    def joint(self, name: str, kind: mujoco.mjtJoint, axis: ArrayLike, open_at: float, friction: JointFriction) -> None:
        self.body.add_joint(
            name=name,
            type=kind,
            axis=np.asarray(axis, np.float64),
            range=[0.0, open_at],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            damping=[friction.damping, 0.0, 0.0],
            frictionloss=friction.friction_loss,
        )


def new_asset() -> Part:
    """The root of an empty model; angles are in radians."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    return Part(spec, spec.worldbody.add_body(name=ROOT))


@dataclass(frozen=True)
class Handle:
    """What a hand takes hold of on a panel."""

    kind: Literal["bar", "knob"] = "bar"
    """A bar on two posts, or a knob on one."""
    offset_m: tuple[float, float] = (0.0, 0.0)
    """From the panel's centre, along the panel's two axes (y, z of a door or drawer; x, y of a lid)."""
    length_m: float = 0.1
    """Of the bar between its ends; a knob's diameter."""
    thickness_m: float = 0.01
    """Of the bar or the knob's disc."""
    standoff_m: float = 0.035
    """How far the outer face stands before the panel."""
    along: Literal["x", "y", "z"] = "z"
    """Direction of the bar in the asset's frame."""


def add_handle(part: Part, handle: Handle, panel_m: ArrayLike, normal: str, site: str, material: Material) -> None:
    """Put a handle and its site on a panel; `panel_m` is the centre of the panel's outer face."""
    out, along = np.asarray(AXES[normal], np.float64), np.asarray(AXES["+" + handle.along], np.float64)
    in_plane = [np.asarray(AXES[axis]) for axis in ("+x", "+y", "+z") if abs(out @ AXES[axis]) < 0.5]
    foot = np.asarray(panel_m, np.float64) + sum(o * axis for o, axis in zip(handle.offset_m, in_plane, strict=True))
    half = handle.thickness_m / 2
    center = foot + out * (handle.standoff_m - half)
    part.site(site, center, normal, "+" + handle.along)
    post_half = max((handle.standoff_m - handle.thickness_m) / 2, 1e-4)
    if handle.kind == "knob":
        part.cylinder(center, handle.length_m / 2, half, material, normal[1])
        part.cylinder(foot + out * post_half, handle.length_m / 4, post_half, material, normal[1])
        return
    across = 1.0 - abs(out) - abs(along)
    bar = (abs(out) + across) * half + abs(along) * handle.length_m / 2
    part.box(center, bar, material)
    for end in (-1.0, 1.0):
        post = foot + out * post_half + end * along * (handle.length_m / 2 - half)
        part.box(post, abs(out) * post_half + (across + abs(along)) * half, material)
