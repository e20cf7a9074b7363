"""A compiled model of any origin, or a part of it, made into an asset's model: turned, scaled, fused, with density.

Every body gets the asset's axes; bodies without joints of their own are fused into the one they hang on; free joints
are dropped. Frictions, dampings and joint limits are kept. Explicit inertias become densities that give the same
masses. Textures become their mean colour.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.assets.decimate import decimated
from sim.assets.geometry import Mesh, collides, geom_mesh, geom_pose, has_surface, hull, join, volume
from sim.assets.shapes import COLLIDING, DRAWN, SITE_RADIUS_M, Part, new_asset

DRAWN_FACES = 2000
"""Of a mesh that is only drawn, at most."""
Pieces = Mapping[int, list[FloatArray]]
"""Convex pieces (each (N, 3), in the geom's frame) that stand for a colliding mesh, by geom."""


@dataclass(frozen=True)
class Recast:
    """What to take of a model, and how to turn it."""

    bodies: tuple[str | int, ...] = ()
    """Names or numbers of the bodies that are taken with all that hangs on them; () for the whole model."""
    rotation: FloatArray = field(default_factory=lambda: np.eye(3))
    """(3, 3) from the model's axes to the asset's."""
    scale: FloatArray = field(default_factory=lambda: np.ones(3))
    """(3,) along the asset's axes."""
    pieces: Pieces = field(default_factory=dict)
    """See `Pieces`; other colliding meshes collide as their hulls."""


def recast(model: mujoco.MjModel, densities: FloatArray, what: Recast) -> tuple[mujoco.MjSpec, FloatArray]:
    """The asset's model and the half sizes (3,) of its bounding box; `densities` (G,) in kg/m3."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    taken = _taken(model, what.bodies)
    geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] in taken and has_surface(model, g)]
    if not geoms:
        raise DataError("the model has no closed shapes")
    turn = np.diag(what.scale) @ what.rotation
    corners = join(_shape(model, g, what.pieces).moved(*geom_pose(data, g)) for g in geoms).vertices_m @ turn.T
    low, high = corners.min(0), corners.max(0)
    place = _Place(turn, -(low + high) / 2, what)
    root = new_asset()
    parts = {0: root} | dict.fromkeys(taken, root)
    for body in sorted(taken):
        parent = parts.get(int(model.body_parentid[body]), root)
        parts[body] = _add_body(model, data, body, parent, place)
    for geom in geoms:
        _add_geom(model, data, geom, densities[geom], parts[int(model.geom_bodyid[geom])], place)
    _draw_what_only_collides(root.spec)
    _add_sites(model, data, {b: parts[b] for b in taken}, place)
    return root.spec, (high - low) / 2


@dataclass(frozen=True)
class _Place:
    """From the model's world to the asset's frame."""

    turn: FloatArray
    shift_m: FloatArray
    what: Recast

    def point(self, point_m: FloatArray) -> FloatArray:
        return self.turn @ point_m + self.shift_m


def volumes(model: mujoco.MjModel, pieces: Pieces) -> FloatArray:
    """Volumes (G,) in m3 of the geoms that have mass: those that collide. 0 for what is only drawn."""
    solid = [g for g in range(model.ngeom) if collides(model, g) and has_surface(model, g)]
    found = np.zeros(model.ngeom)
    for geom in solid:
        found[geom] = sum(volume(hull(one)) for one in pieces[geom]) if geom in pieces else geom_volume(model, geom)
    return found


def geom_volume(model: mujoco.MjModel, geom: int) -> float:
    """Of a primitive exactly: its triangles lack a per cent."""
    size, kind, shape = model.geom_size[geom], model.geom_type[geom], mujoco.mjtGeom
    exact = {
        shape.mjGEOM_SPHERE: 4 / 3 * np.pi * size[0] ** 3,
        shape.mjGEOM_ELLIPSOID: 4 / 3 * np.pi * size.prod(),
        shape.mjGEOM_CAPSULE: np.pi * size[0] ** 2 * (4 / 3 * size[0] + 2 * size[1]),
        shape.mjGEOM_CYLINDER: np.pi * size[0] ** 2 * 2 * size[1],
    }
    return float(exact[kind]) if kind in exact else volume(geom_mesh(model, geom))


def mass_densities(model: mujoco.MjModel, spec: mujoco.MjSpec, pieces: Pieces) -> FloatArray:
    """Densities (G,) in kg/m3 that give each body of the compiled `spec` its mass, by what of it collides.

    Within a body they go as the geoms' own.
    """
    filled = volumes(model, pieces)
    weights = (filled > 0) * [
        _own_density(one, float(filled[one.id])) for one in sorted(spec.geoms, key=lambda g: g.id)
    ]
    densities = np.zeros(model.ngeom)
    for body in range(model.nbody):
        of_body = model.geom_bodyid == body
        total = float((weights * filled)[of_body].sum())
        if total > 0:
            # what hangs on the world itself has no mass there: MuJoCo's default density, that of water, then
            factor = model.body_mass[body] / total if model.body_mass[body] > 0 else 1000.0 / weights[of_body].max()
            densities[of_body] = weights[of_body] * factor
    return densities


def _own_density(geom: mujoco.MjsGeom, volume_m3: float) -> float:
    own = geom.mass / max(volume_m3, 1e-12) if np.isfinite(geom.mass) else geom.density
    return max(float(own), 1e-9)


def _shape(model: mujoco.MjModel, geom: int, pieces: Pieces) -> Mesh:
    return join(map(hull, pieces[geom])) if geom in pieces else geom_mesh(model, geom)


def _taken(model: mujoco.MjModel, bodies: tuple[str | int, ...]) -> set[int]:
    """Ids of these bodies and all that hangs on them; without any, of all."""
    names = [model.body(index).name for index in range(model.nbody)]
    for body in bodies:
        if body not in names and body not in range(model.nbody):
            raise DataError(f"the model has no body {body!r}, only {', '.join(filter(None, names))}")
    roots = {names.index(body) if isinstance(body, str) else body for body in bodies or (0,)}
    taken: set[int] = set()
    for body in range(model.nbody):
        if body in roots or int(model.body_parentid[body]) in taken:
            taken.add(body)
    return taken


def _add_body(model: mujoco.MjModel, data: mujoco.MjData, body: int, parent: Part, place: _Place) -> Part:
    """A body for each that hinges or slides; the parent's for one that does not."""
    first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
    moving = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    joints = [j for j in range(first, first + count) if model.jnt_type[j] in moving]
    for joint in joints:
        name = model.joint(joint).name or f"joint_{joint}"
        parent = parent.child(f"{name}_body", place.point(data.xanchor[joint]))
        _add_joint(model, data, joint, name, parent, place)
    return parent


def _add_joint(
    model: mujoco.MjModel, data: mujoco.MjData, joint: int, name: str, part: Part, place: _Place
) -> None:  # fmt: skip
    """With 0 shut and a range of positive values, where the model's has 0 at one of its ends."""
    slide = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
    axis = (place.turn if slide else place.what.rotation) @ data.xaxis[joint]
    stretch = float(np.linalg.norm(axis)) if slide else 1.0
    low, high = model.jnt_range[joint] * stretch
    if high <= abs(low) and abs(high) < 1e-6:
        axis, low, high = -axis, -high, -low
    limited = bool(model.jnt_limited[joint])
    dof = int(model.jnt_dofadr[joint])
    part.body.add_joint(
        name=name,
        type=model.jnt_type[joint],
        axis=axis / np.linalg.norm(axis),
        range=[low, high] if limited else [0.0, 0.0],
        limited=mujoco.mjtLimited.mjLIMITED_TRUE if limited else mujoco.mjtLimited.mjLIMITED_FALSE,
        damping=[model.dof_damping[dof], 0.0, 0.0],
        frictionloss=model.dof_frictionloss[dof],
        armature=model.dof_armature[dof],
        stiffness=[model.jnt_stiffness[joint], 0.0, 0.0],
    )


def _add_geom(model: mujoco.MjModel, data: mujoco.MjData, geom: int, density: float, part: Part, place: _Place) -> None:
    rotation, position = geom_pose(data, geom)
    solid = collides(model, geom)
    options = {
        "name": model.geom(geom).name,
        "group": COLLIDING if solid else DRAWN,
        "contype": int(solid),
        "conaffinity": int(solid),
        "condim": int(model.geom_condim[geom]),
        "density": float(density),
        "friction": model.geom_friction[geom],
        "rgba": geom_color(model, geom),
    }
    kept = _primitive(model, geom, place.what.rotation @ rotation, place.what.scale)
    if kept is not None:
        size, turned = kept
        pose = {"pos": place.point(position) - part.origin_m, "quat": frames.matrix_to_quat(turned)}
        part.body.add_geom(type=model.geom_type[geom], size=size, **pose, **options)
        return
    pieces = [hull(piece) for piece in place.what.pieces.get(geom, [])]
    if not pieces:
        whole = geom_mesh(model, geom)
        pieces = [whole if solid else decimated(whole, DRAWN_FACES)]
    for index, piece in enumerate(pieces):
        moved = piece.moved(place.turn @ rotation, place.point(position) - part.origin_m)
        unique = {"name": f"{options['name']}_{index}"} if index and options["name"] else {}
        name = _add_mesh(part.spec, moved, solid)
        part.body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, **(options | unique))


def _primitive(
    model: mujoco.MjModel, geom: int, rotation: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Size (3,) and rotation (3, 3) when the scaled geom is of its own type still."""
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        return None
    local = np.abs(rotation.T) @ scale
    aligned = np.allclose(np.abs(rotation).max(axis=0), 1.0, atol=1e-6)
    if np.allclose(scale, scale[0]):
        return size * scale[0], rotation
    if not aligned:
        return None
    if kind in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_ELLIPSOID):
        return size * local, rotation
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER and np.isclose(local[0], local[1]):
        return size * [local[0], local[2], 0.0], rotation
    return None


def _add_mesh(spec: mujoco.MjSpec, mesh: Mesh, solid: bool) -> str:
    name = f"mesh_{len(spec.meshes)}"
    inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX if solid else mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    faces = {} if solid else {"userface": mesh.faces.ravel()}
    spec.add_mesh(name=name, uservert=mesh.vertices_m.ravel(), inertia=inertia, **faces)
    return name


def _draw_what_only_collides(spec: mujoco.MjSpec) -> None:
    """Twins to draw of the geoms that collide, unless the model has its own."""
    geoms = list(spec.geoms)
    if any(geom.group == DRAWN for geom in geoms):
        return
    for geom in geoms:
        same = {key: getattr(geom, key) for key in ("type", "size", "pos", "quat", "rgba", "meshname")}
        geom.parent.add_geom(group=DRAWN, contype=0, conaffinity=0, density=0.0, **same)


def _add_sites(model: mujoco.MjModel, data: mujoco.MjData, parts: Mapping[int, Part], place: _Place) -> None:
    for site in range(model.nsite):
        name, body = model.site(site).name, int(model.site_bodyid[site])
        if name and body in parts:
            turned = place.what.rotation @ data.site_xmat[site].reshape(3, 3)
            position = place.point(data.site_xpos[site]) - parts[body].origin_m
            quat = frames.matrix_to_quat(turned)
            parts[body].body.add_site(name=name, pos=position, quat=quat, size=[SITE_RADIUS_M] * 3, group=4)


def geom_color(model: mujoco.MjModel, geom: int) -> FloatArray:
    """(4,) 0 ... 1; of a texture its mean."""
    material = int(model.geom_matid[geom])
    if material < 0:
        return model.geom_rgba[geom].astype(np.float64)
    color = model.mat_rgba[material].astype(np.float64)
    textures = [t for t in model.mat_texid[material] if t >= 0]
    if textures:
        texture = textures[0]
        channels = int(model.tex_nchannel[texture])
        count = int(model.tex_height[texture] * model.tex_width[texture]) * channels
        pixels = model.tex_data[model.tex_adr[texture] :][:count].reshape(-1, channels)
        mean = pixels.mean(0) / 255.0
        color[:3] *= mean[:3] if channels >= 3 else mean[0]
    return color
