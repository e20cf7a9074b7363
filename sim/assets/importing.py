"""A user's own files as assets: meshes (OBJ, STL) and models (MJCF, URDF)."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.types import FloatArray
from sim.assets.asset import CATEGORIES, Affordance, AffordanceKind, Asset, AssetJoint, PartKind
from sim.assets.decompose import DecompositionConfig, decompose, silent
from sim.assets.geometry import Mesh, collides, has_surface
from sim.assets.recast import Pieces, Recast, mass_densities, recast, volumes
from sim.assets.shapes import AXES

SIZES_M = (0.002, 5.0)
"""Shortest and longest longest side of a thing on or around a bench: beyond, the unit is another one."""
Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


@dataclass(frozen=True)
class ImportConfig:
    """One file, and what it does not say of itself."""

    path: Path
    """`.obj`, `.stl`, `.urdf`, or MJCF (`.xml`, `.mjcf`)."""
    category: str
    """One of `sim.assets.asset.CATEGORIES`."""
    name: str = ""
    """In the library, after `user/`; the file's stem when empty."""
    unit_m: float = 1.0
    """Metres per unit of length in the file: 0.001 for millimetres."""
    up: Axis = "+z"
    """Which of the file's axes is up: +y in much of computer graphics."""
    front: Axis = "+x"
    """Which of the file's axes is the front."""
    density_kg_m3: float | None = None
    """Of everything; otherwise as the file says, or MuJoCo's 1000."""
    mass_kg: float | None = None
    """Of the whole, at one density."""
    decomposition: DecompositionConfig | None = field(default_factory=DecompositionConfig)
    """How colliding meshes that are not convex are cut; None: they collide as their hulls."""

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            raise UnknownNameError("asset category", self.category, CATEGORIES)
        if self.up[1] == self.front[1]:
            raise ConfigError(f"up and front must be different axes, got {self.up} and {self.front}")
        given = [value for value in (self.density_kg_m3, self.mass_kg) if value is not None]
        if len(given) > 1 or not all(0 < value < np.inf for value in (self.unit_m, *given)):
            raise ConfigError(f"need unit_m > 0, and at most one of density_kg_m3 > 0 and mass_kg > 0; got {self}")

    @property
    def rotation(self) -> FloatArray:
        """(3, 3) from the file's axes to the asset's."""
        x, z = np.array(AXES[self.front], np.float64), np.array(AXES[self.up], np.float64)
        return np.stack([x, np.cross(z, x), z])

    def build(self) -> mujoco.MjSpec:
        """The asset's model; `DataError` when the file is missing or malformed."""
        return self.read()[0]

    def read(self, say: Callable[[str], None] = silent) -> tuple[mujoco.MjSpec, FloatArray]:
        """The asset's model and its half extents (3,); `say` is told of what takes long."""
        spec = _reader(self.path)(self.path)
        try:
            model = spec.compile()
        except ValueError as error:
            raise DataError(f"{self.path} does not compile: {error}") from error
        if not any(has_surface(model, geom) for geom in range(model.ngeom)):
            raise DataError(f"{self.path} has no closed shapes: no boxes, spheres, cylinders, capsules or meshes")
        plain = Recast((), self.rotation, np.full(3, self.unit_m))
        self._check(model, 2 * recast(model, np.ones(model.ngeom), plain)[1])
        pieces = _pieces(model, self.decomposition, lambda text: say(f"{self.path.name}: {text}"))
        return recast(model, self._densities(model, spec, pieces), replace(plain, pieces=pieces))

    def _check(self, model: mujoco.MjModel, size_m: FloatArray) -> None:
        """`DataError` before a costly decomposition of what cannot be right."""
        if not any(collides(model, geom) for geom in range(model.ngeom)):
            raise DataError(f"nothing of {self.path} collides: give its geoms contype and conaffinity of 1")
        low, high = SIZES_M
        if not low <= size_m.max() <= high:
            size = " x ".join(f"{one:.3g}" for one in size_m)
            hint = "0.001 if it is in millimetres" if size_m.max() > high else "1 if it is in metres"
            raise DataError(f"{self.path} is {size} m large; set unit_m: {hint}")

    def _densities(self, model: mujoco.MjModel, spec: mujoco.MjSpec, pieces: Pieces) -> FloatArray:
        filled = volumes(model, pieces) * self.unit_m**3
        if self.density_kg_m3 is not None:
            return (filled > 0) * self.density_kg_m3
        if self.mass_kg is not None:
            return (filled > 0) * self.mass_kg / filled.sum()
        # The file's masses are in kilograms whatever its unit of length; where it has none, the density counts.
        if self.path.suffix.lower() in MESHES:
            return (filled > 0) * 1000.0
        return mass_densities(model, spec, pieces) / self.unit_m**3


def import_asset(config: ImportConfig, say: Callable[[str], None] = silent) -> Asset:
    """Read a file once to see that it is sound, and enter it into the library.

    Sites called `handle...`, `rim...`, `opening...`, `grasp...` or `tip...` are its affordances. Of its joints those
    count that are shut at one end of their range: slides as drawers, hinges about z as doors, other hinges as lids.
    """
    spec, half = config.read(say)
    x, y, z = map(float, half)
    joints = tuple(found for joint in spec.joints if (found := _asset_joint(joint)))
    name = f"user/{config.name or config.path.stem}"
    return Asset(name, config.category, "user", (x, y, z), config.build, joints, _affordances(spec))


def _asset_joint(joint: mujoco.MjsJoint) -> AssetJoint | None:
    low, high = joint.range
    if abs(low) > 1e-6 or high <= 0:
        return None
    hinge: PartKind = "door" if abs(joint.axis[2]) > 0.7 else "lid"
    slide = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
    return AssetJoint(joint.name, "drawer" if slide else hinge, float(high))


def _affordances(spec: mujoco.MjSpec) -> tuple[Affordance, ...]:
    found = []
    for site in spec.sites:
        for kind in get_args(AffordanceKind):
            if site.name.startswith(kind):
                joints = [joint.name for joint in site.parent.joints]
                found.append(Affordance(kind, site.name, joints[0] if joints else ""))
    return tuple(found)


def _pieces(
    model: mujoco.MjModel, config: DecompositionConfig | None, say: Callable[[str], None]
) -> dict[int, list[FloatArray]]:
    if config is None:
        return {}
    pieces = {}
    for geom in range(model.ngeom):
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH and collides(model, geom):
            mesh = int(model.geom_dataid[geom])
            vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
            faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
            pieces[geom] = decompose(Mesh(vertices.astype(np.float64), faces.astype(np.int64)), config, say)
    return pieces


def _read_mesh(path: Path) -> mujoco.MjSpec:
    import trimesh

    try:
        mesh = trimesh.load(path, force="mesh")
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no mesh that can be read: {error}") from error
    if len(faces) < 4 or not np.isfinite(vertices).all():
        raise DataError(f"{path} has {len(faces)} triangles and must have 4 or more, with finite vertices")
    spec = mujoco.MjSpec()
    convex = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX  # of use for open meshes, too
    spec.add_mesh(name="mesh", uservert=vertices.ravel(), userface=faces.ravel(), inertia=convex)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
    return spec


def _read_model(path: Path) -> mujoco.MjSpec:
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise DataError(f"{path} is no model that MuJoCo reads: {error}") from error
    for mesh in spec.meshes:
        mesh.file = _of_package(path, mesh.file)
    # URDF's defaults would drop what is only drawn and the frames of fixed links.
    spec.compiler.discardvisual = False
    spec.compiler.fusestatic = False
    return spec


def _of_package(path: Path, file: str) -> str:
    """The file that package://NAME/REST means: NAME is a folder above the model, or beside one above."""
    if not file.startswith(PACKAGE):
        return file
    name, _, rest = file.removeprefix(PACKAGE).partition("/")
    places = [folder if folder.name == name else folder / name for folder in path.resolve().parents]
    found = next((place / rest for place in places if (place / rest).is_file()), None)
    if found is None:
        raise DataError(f"{path}: {file} is not below a folder {name} above or beside it; put it there")
    return str(found)


PACKAGE = "package://"
MESHES = (".obj", ".stl")
MODELS = (".urdf", ".xml", ".mjcf")


def _reader(path: Path) -> Callable[[Path], mujoco.MjSpec]:
    readers = dict.fromkeys(MESHES, _read_mesh) | dict.fromkeys(MODELS, _read_model)
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise UnknownNameError("kind of asset file", suffix, readers)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return readers[suffix]
