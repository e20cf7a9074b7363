"""An arm without meshes of its own, drawn from its kinematic chain: a rod from each joint to the next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hardware import robots
from hardware.arm_binding import ArmBinding
from hardware.gui.robot_model import Mesh
from robot_rl import frames
from robot_rl.types import FloatArray

RADIUS_M = 0.035  # of the rods
SIDES = 12
RGB = (188, 194, 204)


class StickArm:
    """Has what `hardware.gui.robot_model.RobotModel` has; its gripper is a rod to the tool centre point."""

    def __init__(self, binding: ArmBinding) -> None:
        chain = robots.load_chain(binding.model, binding.model_options)
        self.joint_names = tuple(joint.name for joint in binding.joints)
        self._base = np.array([*chain.base.xyz_m, *chain.base.quat_wxyz()])
        self._links = [np.array([*link.xyz_m, *link.quat_wxyz()]) for link in chain.joints]
        self._joints_rad = np.array(binding.home_joints_rad)
        flange = np.array([*chain.flange.xyz_m, *chain.flange.quat_wxyz()])
        tcp = frames.compose(flange, np.array(binding.pose_flange_tcp, np.float64))
        self.bodies = ("base", *(f"link{index + 1}" for index in range(len(self._links))))
        ends = [*(link[:3] for link in self._links), tcp[:3]]
        rods = ((body, *_rod(end)) for body, end in zip(self.bodies, ends, strict=True))
        self.meshes = tuple(Mesh(body, vertices, faces, RGB) for body, vertices, faces in rods)

    def set_joints(self, positions: Mapping[str, float]) -> int:
        """Take over the joints found in `positions` by name; returns how many."""
        known = [name for name in self.joint_names if np.isfinite(positions.get(name, np.nan))]
        for name in known:
            self._joints_rad[self.joint_names.index(name)] = positions[name]
        return len(known)

    def set_gripper(self, position: float) -> None:
        """A rod neither opens nor closes."""

    def body_poses(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Position (3,) and quaternion (4,) wxyz of each drawn body in the arm's base frame."""
        poses = [self._base]
        for link, angle_rad in zip(self._links, self._joints_rad, strict=True):
            turned = np.array([0.0, 0.0, 0.0, *frames.rotvec_to_quat(np.array([0.0, 0.0, angle_rad]))])
            poses.append(frames.compose(frames.compose(poses[-1], link), turned))
        return {body: (pose[:3], pose[3:]) for body, pose in zip(self.bodies, poses, strict=True)}


def _rod(end_m: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of a prism from the origin to `end_m`; a stub along z when that is near."""
    length_m = float(np.linalg.norm(end_m))
    axis = end_m / length_m if length_m > RADIUS_M else np.array([0.0, 0.0, 1.0])
    end = axis * max(length_m, RADIUS_M)
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    across /= np.linalg.norm(across)
    angles = np.linspace(0.0, 2.0 * np.pi, SIDES, endpoint=False)
    ring = RADIUS_M * (np.outer(np.cos(angles), across) + np.outer(np.sin(angles), np.cross(axis, across)))
    one = np.arange(SIDES)
    two = np.roll(one, -1)
    walls = np.concatenate([np.stack([one, two, one + SIDES], 1), np.stack([two, two + SIDES, one + SIDES], 1)])
    lids = [np.stack([np.full(SIDES - 2, first), one[1:-1] + first, one[2:] + first], 1) for first in (0, SIDES)]
    vertices = np.concatenate([ring, ring + end]).astype(np.float32)
    return vertices, np.concatenate([walls, *lids]).astype(np.uint32)
