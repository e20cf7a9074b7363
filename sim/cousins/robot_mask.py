"""The robot's own pixels in a scan, by its joints and the camera's calibration; they are no part of the scene.

Shape letters: R rows and C columns of a coarse picture.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import BoolArray, FloatArray
from sim.arm import ArmModel
from sim.cousins.scan import Scan, ScanView
from sim.cousins.scene import View
from sim.robosuite_arm import robot_spec

STRIDE_PX = 4
BORDER = 24
"""Cells that are looked at beyond each edge of the picture: the hand may reach in from there."""
MARGIN_M = 0.05
"""What cables, the hull's simplification and an error of the calibration add to the robot."""


def without_robot(scan: Scan) -> Scan:
    """The scan with no depth where the robot is seen; views without joints stay as they are."""
    if not any(view.joint_pos_rad for view in scan.views):
        return scan
    views = []
    for view in scan.views:
        depth_m = np.where(robot_pixels(scan.robot, view), np.float32(0.0), view.depth_m)
        views.append(replace(view, depth_m=depth_m) if view.joint_pos_rad else view)
    return replace(scan, views=tuple(views))


def robot_pixels(robot: str, view: ScanView) -> BoolArray:
    """Which pixels (H, W) show the robot: their depth is that of a surface of it, within `MARGIN_M`."""
    if not view.joint_pos_rad:
        return np.zeros(view.depth_m.shape, bool)
    seen = robot_depth(robot, np.asarray(view.joint_pos_rad), view.view)
    known = seen > 0.0
    if not known.any():
        return np.zeros(view.depth_m.shape, bool)
    reach = int(np.ceil(MARGIN_M * view.view.intrinsics[0] / float(seen[known].min()) / STRIDE_PX))
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.erode(np.where(known, seen, np.inf).astype(np.float32), window, borderValue=(float("inf"),))
    far = cv2.dilate(np.where(known, seen, 0.0).astype(np.float32), window, borderValue=(0.0,))
    height, width = view.depth_m.shape
    inner = slice(BORDER, -BORDER)
    near, far = (np.kron(one[inner, inner], np.ones((STRIDE_PX,) * 2))[:height, :width] for one in (near, far))
    return (view.depth_m > near - MARGIN_M) & (view.depth_m < far + MARGIN_M)


def robot_depth(robot: str, joint_pos_rad: FloatArray, view: View) -> FloatArray:
    """Depth (R, C) of the robot alone along the camera's z, in cells of `STRIDE_PX` pixels; 0 where it is not.

    `BORDER` cells beyond each edge of the picture are part of it.
    """
    model, arm = _robot(robot)
    if len(joint_pos_rad) != len(arm.joints):
        raise DataError(f"{robot} has {len(arm.joints)} joints, the scan gives {len(joint_pos_rad)} joint positions")
    data = mujoco.MjData(model)
    data.qpos[[model.joint(name).qposadr[0] for name in arm.joints]] = joint_pos_rad
    mujoco.mj_forward(model, data)
    base = model.body(arm.base_body).id
    pose = frames.compose(np.concatenate([data.xpos[base], data.xquat[base]]), np.asarray(view.pose_base_camera))
    fx, fy, cx, cy = view.intrinsics
    height, width = view.image_hw
    middle = (STRIDE_PX - 1) / 2
    cells = (np.arange(-BORDER, -(-size // STRIDE_PX) + BORDER) for size in (height, width))
    rows, columns = (STRIDE_PX * one + middle for one in cells)
    v, u = np.meshgrid(rows, columns, indexing="ij")
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1).reshape(-1, 3)
    length = np.linalg.norm(rays, axis=1)
    directions = (rays / length[:, None]) @ frames.quat_to_matrix(pose[3:]).T
    hit = np.zeros(1, np.int32)
    # one by one: mj_multiRay (MuJoCo 3.9) prunes meshes that single rays hit
    distance = np.array([mujoco.mj_ray(model, data, pose[:3], one, None, 1, -1, hit) for one in directions])
    return np.where(distance > 0.0, distance / length, 0.0).reshape(len(rows), len(columns))


@cache
def _robot(robot: str) -> tuple[mujoco.MjModel, ArmModel]:
    spec, arm = robot_spec(robot)
    model = spec.compile()
    model.geom_matid[:], model.geom_rgba[:, 3] = -1, 1.0  # rays pass through what is not drawn
    return model, arm
