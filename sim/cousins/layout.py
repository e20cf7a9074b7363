"""A scene ready to be simulated: which assets stand where, with which physics, and where each came from."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_rl.errors import UnknownNameError
from sim.assets.asset import Affordance, AssetJoint
from sim.cousins.physics import Physics
from sim.cousins.scene import Pose, RelationKind, Vector3, View


@dataclass(frozen=True)
class Relation:
    """What an object is on, inside, against, or hanging on."""

    kind: RelationKind
    """Which of them."""
    other: str
    """Object or support."""
    normal_base: Vector3 | None = None
    """Out of the wall or side that it touches (unit); None for what carries it from below."""
    gap_m: float = 0.0
    """Between the two after settling, 0.1 at most; negative where they overlap."""


@dataclass(frozen=True)
class PlacedAsset:
    """One object of a scene; its model's names begin with `<name>/`."""

    name: str
    """The extracted object's name."""
    asset: str
    """The library's name of what stands for it."""
    pose_base: Pose
    """Where the centre of its bounding box rests after settling."""
    half_extents_m: Vector3
    """Half sizes after scaling."""
    is_loose: bool
    """Whether it can be picked up; else it is fixed to its support, or to the wall that it hangs on."""
    distance: float = 0.0
    """To the extracted object, by `sim.cousins.matching`; 0 for the twin."""
    joints: tuple[AssetJoint, ...] = ()
    """What opens; names in the scene's model."""
    affordances: tuple[Affordance, ...] = ()
    """What can be done; site names in the scene's model."""
    relations: tuple[Relation, ...] = ()
    """What it touches, as the scan has it."""


@dataclass(frozen=True)
class Contact:
    """What remains of a bad fit after settling."""

    first: str
    """Object or support."""
    second: str
    """The other."""
    penetration_m: float
    """How deep they overlap."""


@dataclass(frozen=True)
class SceneLayout:
    """Everything about a generated scene besides its model; `layout.json` in its folder."""

    name: str
    """`twin`, `cousin_0`, ..."""
    robot: str
    """Whose arm stands at the origin (`sim.robosuite_arm.ROBOTS`)."""
    objects: tuple[PlacedAsset, ...]
    """What stands in it."""
    physics: Physics = field(default_factory=Physics)
    """Factors that were applied to the model (friction, density, joints), and the arm's gain and delay."""
    views: tuple[View, ...] = ()
    """Cameras `view_0`, ..., as calibrated."""
    contacts: tuple[Contact, ...] = ()
    """Residual penetrations of more than 0.1 mm."""
    settled_m: float = 0.0
    """The farthest that an object moved while settling."""
    seed: int = 0
    """What every draw came from."""
    robot_faces: int = 0
    """Triangles that the arm is drawn by; 0: as its collision hulls."""

    def placed(self, name: str) -> PlacedAsset:
        """The object called `name`."""
        for one in self.objects:
            if one.name == name:
                return one
        raise UnknownNameError("object", name, [one.name for one in self.objects])
