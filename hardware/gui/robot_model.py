"""Light visual meshes of an arm and its forward kinematics, from the MuJoCo models inside robosuite's wheel.

Only files are read; robosuite itself is not imported. The visual meshes (168k faces for a Panda) are
thinned by clustering vertices in a grid, which needs no further library and keeps the silhouette.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, UnknownNameError

VISUAL_GROUP = 1  # robosuite's convention: group 0 collides, group 1 is seen


@dataclass(frozen=True)
class RobotFiles:
    """Where an arm's model lies below robosuite's assets, and what its gripper joints do."""

    arm: str
    """Arm model."""
    gripper: str
    """Gripper model, mounted on the arm's `right_hand` body."""
    gripper_closed: tuple[float, ...]
    """Gripper joint positions when closed."""
    gripper_open: tuple[float, ...]
    """Gripper joint positions when open (the joint limits)."""
    rest_rad: tuple[float, ...]
    """Arm joints shown until the first measurement (robosuite's `init_qpos`)."""


ROBOTS: dict[str, RobotFiles] = {
    "fr3": RobotFiles(  # the Panda, which has the same kinematic chain and nearly the same shells
        "robots/panda/robot.xml",
        "grippers/panda_gripper.xml",
        (0.0, 0.0),
        (0.04, -0.04),
        (0.0, 0.196, 0.0, -2.618, 0.0, 2.942, 0.785),
    ),
    "ur5e": RobotFiles(
        "robots/ur5e/robot.xml",
        "grippers/robotiq_gripper_85.xml",
        (0.8, -0.8, 0.8, 0.8, -0.8, 0.8),  # a parallel linkage: the finger turns back what the knuckle turns
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        (-0.470, -1.735, 2.480, -2.275, -1.590, -1.991),
    ),
}


@dataclass(frozen=True)
class Mesh:
    """Part of one body in one colour; vertices (V, 3) in the body's frame, faces (F, 3)."""

    body: str
    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]
    rgb: tuple[int, int, int]


class RobotModel:
    """Meshes per body, and the bodies' poses for given joint positions."""

    def __init__(self, robot: str, cell_m: float = 0.006) -> None:
        if robot not in ROBOTS:
            raise UnknownNameError("robot", robot, ROBOTS)
        self._files = ROBOTS[robot]
        self._model = _load(self._files)
        self._data = mujoco.MjData(self._model)
        self._base = self._model.body("base").id
        arm_count = len(self._files.rest_rad)
        self._joints = [self._model.joint(i) for i in range(self._model.njnt)]
        self.joint_names = tuple(joint.name for joint in self._joints[:arm_count])
        self._grip = [int(joint.qposadr[0]) for joint in self._joints[arm_count:]]
        self.meshes = _meshes(self._model, cell_m)
        self.bodies = tuple(dict.fromkeys(mesh.body for mesh in self.meshes))
        for joint, value in zip(self._joints[:arm_count], self._files.rest_rad, strict=True):
            self._data.qpos[joint.qposadr[0]] = value
        self.set_gripper(1.0)

    def set_joints(self, positions: Mapping[str, float]) -> int:
        """Take over the joints found in `positions` by name; returns how many.

        Prefixes are ignored (`fr3_joint1`, `robot0_joint1` and `joint1` are the same joint).
        """
        found = 0
        for joint, name in zip(self._joints, self.joint_names, strict=False):
            for given, value in positions.items():
                if (given == name or given.endswith(name)) and np.isfinite(value):
                    self._data.qpos[joint.qposadr[0]] = value
                    found += 1
                    break
        return found

    def set_gripper(self, position: float) -> None:
        """Opening, 0 closed ... 1 open."""
        closed, opened = np.array(self._files.gripper_closed), np.array(self._files.gripper_open)
        share = min(max(position, 0.0), 1.0)
        self._data.qpos[self._grip] = closed + share * (opened - closed)

    def body_poses(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Position (3,) and quaternion (4,) wxyz of each drawn body in the arm's base frame."""
        mujoco.mj_kinematics(self._model, self._data)
        to_base = self._data.xmat[self._base].reshape(3, 3).T
        inverse = np.zeros(4)
        mujoco.mju_negQuat(inverse, self._data.xquat[self._base])
        poses = {}
        for name in self.bodies:
            body = self._model.body(name).id
            position = to_base @ (self._data.xpos[body] - self._data.xpos[self._base])
            quat = np.zeros(4)
            mujoco.mju_mulQuat(quat, inverse, self._data.xquat[body])
            poses[name] = (position, quat)
        return poses


def _load(files: RobotFiles) -> mujoco.MjModel:
    package = importlib.util.find_spec("robosuite")
    if package is None or package.origin is None:
        raise ConfigError("the 3D arm needs robosuite's meshes: pip install robosuite==1.5.2")
    assets = Path(package.origin).parent / "models" / "assets"
    arm, gripper = _spec(assets / files.arm), _spec(assets / files.gripper)
    frame = arm.body("right_hand").add_frame()
    frame.attach_body(gripper.worldbody.first_body(), "gripper_", "")
    return arm.compile()


def _spec(path: Path) -> mujoco.MjSpec:
    """A robosuite part: repeated assets (the first counts, as in robosuite) and dynamics are left out."""
    root = ElementTree.parse(path).getroot()
    for section in ("actuator", "sensor", "tendon", "equality", "contact"):
        for element in root.findall(section):
            root.remove(element)
    for asset in root.findall("asset"):
        seen: set[tuple[str, str | None]] = set()
        for element in list(asset):
            if (key := (element.tag, element.get("name"))) in seen:
                asset.remove(element)
            seen.add(key)
            if file := element.get("file"):
                element.set("file", str(path.parent / file))
    return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))


def _meshes(model: mujoco.MjModel, cell_m: float) -> tuple[Mesh, ...]:
    parts: dict[tuple[str, tuple[int, int, int]], list[tuple[np.ndarray, np.ndarray]]] = {}
    for index in range(model.ngeom):
        geom = model.geom(index)
        if geom.type[0] != mujoco.mjtGeom.mjGEOM_MESH or geom.group[0] != VISUAL_GROUP:
            continue
        rgba = model.mat_rgba[geom.matid[0]] if geom.matid[0] >= 0 else geom.rgba
        if rgba[3] == 0:
            continue
        vertices, faces = _geom_mesh(model, index)
        red, green, blue = (int(255 * channel) for channel in rgba[:3])
        parts.setdefault((model.body(geom.bodyid[0]).name, (red, green, blue)), []).append((vertices, faces))
    meshes = []
    for (body, rgb), pieces in parts.items():
        offsets = np.cumsum([0] + [len(vertices) for vertices, _ in pieces[:-1]])
        vertices = np.concatenate([vertices for vertices, _ in pieces])
        faces = np.concatenate([f + o for (_, f), o in zip(pieces, offsets, strict=True)])
        vertices, faces = thin(vertices, faces, cell_m)
        if len(faces):
            meshes.append(Mesh(body, vertices, faces, rgb))
    return tuple(meshes)


def _geom_mesh(model: mujoco.MjModel, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in the body's frame and faces of one mesh geom."""
    mesh = int(model.geom_dataid[index])
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    vertices = model.mesh_vert[start : start + count]
    start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    faces = model.mesh_face[start : start + count]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[index])
    return vertices @ rotation.reshape(3, 3).T + model.geom_pos[index], faces


def thin(vertices: np.ndarray, faces: np.ndarray, cell_m: float) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Merge the vertices that share a grid cell into their mean; drop faces that collapse or repeat."""
    cells = np.floor(vertices / cell_m).astype(np.int64)
    _, label = np.unique(cells, axis=0, return_inverse=True)
    label = label.reshape(-1)
    count = np.bincount(label)
    merged = np.stack([np.bincount(label, vertices[:, axis]) / count for axis in range(3)], axis=1)
    faces = label[faces]
    kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    faces = _unique_faces(faces[kept])
    return merged.astype(np.float32), faces.astype(np.uint32)


def _unique_faces(faces: np.ndarray) -> np.ndarray:
    if not len(faces):
        return faces
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return faces[np.sort(first)]


def match_joints(names: Sequence[str], positions: Sequence[float]) -> dict[str, float]:
    """Joint positions by name; a partial or unequal message gives what it has."""
    return dict(zip(names, positions, strict=False))
