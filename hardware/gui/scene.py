"""The 3D view: arm, objects, workspace box, target frame and the gizmo that a person drags."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import viser

from hardware.arm_binding import load_binding
from hardware.gui.config import DEFAULT_MODEL, GuiConfig, Vector3
from hardware.gui.robot_model import ROBOTS, RobotModel
from hardware.gui.stick_arm import StickArm
from robot_rl.types import ACTION_NAMES, FloatArray

CUBE_M: Vector3 = (0.04, 0.04, 0.04)
MOVED_M, MOVED_QUAT = 2e-4, 5e-4  # smaller changes are not worth a message
OBJECT_COLORS = ((226, 92, 76), (86, 170, 224), (112, 192, 108), (232, 180, 76), (170, 120, 210))
REACH_M = 1.0  # beyond this the arms drawn here do not get
CELL_M = 0.008  # 24k faces for a Panda; finer ones cost a software renderer dearly


class _Placed:
    """A scene node whose pose is sent only when it has changed enough to be seen."""

    def __init__(self, node: viser.SceneNodeHandle) -> None:
        self.node = node
        self._position, self._quat = np.full(3, np.nan), np.full(4, np.nan)

    def place(self, position: FloatArray, quat_wxyz: FloatArray) -> None:
        if not np.abs(position - self._position).max() < MOVED_M:
            self._position = np.array(position)
            self.node.position = self._position
        if not np.abs(quat_wxyz - self._quat).max() < MOVED_QUAT:
            self._quat = np.array(quat_wxyz)
            self.node.wxyz = self._quat


class Scene:
    """Everything drawn in the base frame of the arm."""

    def __init__(self, server: viser.ViserServer, config: GuiConfig) -> None:
        self._scene = server.scene
        self._config = config
        self._model = drawn_arm(config)
        self._gripper = 1.0
        self._arm = self._add_arm()
        self._sizes = {box.name: box.size_m for box in config.objects}
        self._objects: dict[str, _Placed] = {}
        self._add_surroundings()
        self._target = _Placed(
            self._scene.add_frame("/target", axes_length=0.07, axes_radius=0.0025, origin_radius=0.006)
        )
        self._target.node.visible = False
        rotations = any(name in config.teleop.action for name in ACTION_NAMES[3:6])
        self.gizmo = self._scene.add_transform_controls(
            "/gizmo",
            scale=0.16,
            line_width=3.5,
            disable_rotations=not rotations,
            depth_test=False,
            visible=False,
        )
        self._gizmo = _Placed(self.gizmo)
        _place_camera(server, config)
        self.draw_arm()

    def set_joints(self, positions: Mapping[str, float]) -> int:
        return self._model.set_joints(positions)

    def set_gripper(self, position: float) -> None:
        self._model.set_gripper(position)

    def draw_arm(self) -> None:
        """Send the bodies' poses for the joints set last."""
        for body, (position, quat) in self._model.body_poses().items():
            self._arm[body].place(position, quat)

    def set_objects(self, poses: Mapping[str, FloatArray]) -> None:
        """Poses (7,) in the base frame by name; objects that are gone disappear."""
        for name, pose in poses.items():
            if name not in self._objects:
                color = OBJECT_COLORS[len(self._objects) % len(OBJECT_COLORS)]
                size = self._sizes.get(name, CUBE_M)
                box = self._scene.add_box(f"/objects/{name}", color=color, dimensions=size)
                self._objects[name] = _Placed(box)
            self._objects[name].place(pose[:3], pose[3:])
        for name in set(self._objects) - set(poses):
            self._objects.pop(name).node.remove()

    def set_target(self, pose: FloatArray | None) -> None:
        """Where the guard lets the arm go: a frame, or nothing."""
        if self._target.node.visible != (pose is not None):
            self._target.node.visible = pose is not None
        if pose is not None:
            self._target.place(pose[:3], pose[3:])

    def follow(self, pose: FloatArray) -> None:
        """Put the gizmo on the TCP; not to be called while somebody drags it."""
        if not self.gizmo.visible:
            self.gizmo.visible = True
        self._gizmo.place(pose[:3], pose[3:])

    def forget_gizmo(self) -> None:
        """After a drag the page knows another pose than ours: send it again whatever it is."""
        self._gizmo = _Placed(self.gizmo)

    def _add_arm(self) -> dict[str, _Placed]:
        placed = {body: _Placed(self._scene.add_frame(f"/arm/{body}", show_axes=False)) for body in self._model.bodies}
        for index, mesh in enumerate(self._model.meshes):
            self._scene.add_mesh_simple(
                f"/arm/{mesh.body}/mesh{index}", mesh.vertices, mesh.faces, color=mesh.rgb, side="double"
            )
        return placed

    def _add_surroundings(self) -> None:
        low, high = workspace(self._config)
        self._scene.add_grid(
            "/floor",
            width=3.0,
            height=3.0,
            cell_size=0.1,
            section_size=0.5,
            cell_color=(52, 56, 64),
            section_color=(78, 84, 95),
            position=(0.3, 0.0, -0.001),
        )
        self._scene.add_line_segments(
            "/workspace",
            points=box_edges(low, high),
            colors=(98, 132, 190),
            thickness=1.5,
            thickness_units="screen",
        )
        self._scene.configure_default_lights(enabled=True, cast_shadow=False)
        self._scene.world_axes.visible = False


def drawn_arm(config: GuiConfig) -> RobotModel | StickArm:
    """The arm as meshes where robosuite has them, else as its kinematic chain."""
    model = config.model or DEFAULT_MODEL
    if config.robot and model not in ROBOTS and (binding := load_binding(config.robot)).model == model:
        return StickArm(binding)
    return RobotModel(model, CELL_M)


def workspace(config: GuiConfig) -> tuple[FloatArray, FloatArray]:
    """Corners of the workspace box as drawn: what is open ends at the arm's reach."""
    low = np.array(config.workspace_low_m or (0.0, -REACH_M, 0.0), float)
    high = np.array(config.workspace_high_m or (REACH_M, REACH_M, REACH_M), float)
    return np.maximum(low, -REACH_M), np.minimum(high, REACH_M)


def box_edges(low: FloatArray, high: FloatArray) -> FloatArray:
    """The twelve edges (12, 2, 3) of an axis-aligned box."""
    corners = np.stack([low, high])
    edges = []
    for axis in range(3):
        for a in (0, 1):
            for b in (0, 1):
                ends = np.empty((2, 3))
                others = [other for other in range(3) if other != axis]
                ends[:, others[0]], ends[:, others[1]] = corners[a, others[0]], corners[b, others[1]]
                ends[:, axis] = corners[:, axis]
                edges.append(ends)
    return np.array(edges)


def camera_view(config: GuiConfig) -> tuple[FloatArray, FloatArray, float]:
    """What a new page looks at (3,), from where (3,), and its vertical field of view in rad.

    From in front of the arm and to its left, so that the gripper is between the viewer and the arm.
    """
    middle = np.mean(workspace(config), axis=0)
    return np.array([middle[0] * 0.65, middle[1], 0.22]), np.array([middle[0] + 0.9, 1.0, 0.95]), 0.75


def _place_camera(server: viser.ViserServer, config: GuiConfig) -> None:
    look_at, position, fov = camera_view(config)
    server.initial_camera.look_at = look_at
    server.initial_camera.position = position
    server.initial_camera.up = (0.0, 0.0, 1.0)
    server.initial_camera.fov = fov
