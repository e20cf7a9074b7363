"""Reads a scan from a folder: one with `views.json`, or one that no one prepared (colour, depth, intrinsics).

In a folder without `views.json` the usual names are looked for: COLOR, DEPTH, INTRINSICS, POSE, JOINTS, EXCITATION
below. Without
a pose the camera's height and tilt come from the plane that it sees most of; that the rest is assumed is said in the
scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray
from sim.cousins.levelling import pose_from_plane
from sim.cousins.plugins import Perceiver, Percept
from sim.cousins.scan import (
    EXCITATION,
    NEEDS_DEPTH,
    VIEWS_FILE,
    Scan,
    ScanView,
    as_pose,
    check_images,
    check_intrinsics,
    check_pose,
    read_color,
    read_depth,
    read_json,
    read_scan_file,
)
from sim.cousins.scene import View
from sim.robosuite_arm import ROBOTS

COLOR = ("rgb.png", "color.png", "colour.png", "image.png", "color_000.png", "rgb.jpg", "color.jpg", "image.jpg")
DEPTH = ("depth.png", "depth.npy", "depth_000.png", "depth_000.npy", "depth_aligned.png", "aligned_depth.png")
INTRINSICS = ("intrinsics.json", "camera.json", "camera_info.json", "K.txt", "intrinsics.txt")
POSE = ("pose.json", "pose.txt", "extrinsics.json", "T_base_camera.txt")
JOINTS = "joints.json"
LEVELLED = (
    "camera pose estimated from the plane seen most of: that plane is z = 0, gravity is normal to it, the origin is"
    " below the camera, x is where the camera looks; give pose.json to have the arm's base frame"
)


OFF_CENTRE = 0.25
"""Share of the picture by which an optical axis may be off its middle unsaid: of cameras it is a few percent."""
OTHER_SIZE = (
    "the picture is a part of a larger one: its optical axis is at ({:.0f}, {:.0f}) of {} x {}; if it is none, the"
    " intrinsics are those of another resolution, and everything comes out in wrong sizes"
)


def read_scan(folder: Path, depth: Perceiver | None = None) -> Scan:
    """The scan in `folder`. `depth` is asked where there is a picture without depth (it must answer in metres)."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    if (folder / VIEWS_FILE).exists():
        return _read_prepared(folder)
    return _read_unprepared(folder, depth)


def _read_prepared(folder: Path) -> Scan:
    content = read_scan_file(folder / VIEWS_FILE)
    assumptions = content.assumptions
    views = []
    for number, entry in enumerate(content.views):
        color = read_color(folder / entry.color)
        depth_m = read_depth(folder / entry.depth, entry.depth_scale_m)
        pose = entry.pose_base_camera
        if pose is None and len(content.views) > 1:
            raise DataError(f"{VIEWS_FILE}: view {number} has no pose_base_camera; several views need one each")
        if pose is None:
            check_images(color, depth_m)
            check_intrinsics(entry.intrinsics, (depth_m.shape[0], depth_m.shape[1]))
            pose = as_pose(pose_from_plane(depth_m, entry.intrinsics, content.gravity_camera))
            assumptions = (*assumptions, LEVELLED)
        height, width = depth_m.shape
        view = View(pose, entry.intrinsics, (height, width))
        views.append(_view(f"{VIEWS_FILE}, view {number}", color, depth_m, view, entry.joint_pos_rad))
    excitation = folder / content.excitation if content.excitation else None
    if excitation is not None and not excitation.exists():
        raise DataError(f"{VIEWS_FILE} names the excitation log {excitation}, which is not there")
    return Scan(tuple(views), assumptions, excitation, content.robot)


def _read_unprepared(folder: Path, depth: Perceiver | None) -> Scan:
    color_path = _first(folder, COLOR) or next(iter(sorted(folder.glob("*.jpg"))), None)
    if color_path is None:
        raise DataError(f"no colour picture in {folder}; looked for {', '.join(COLOR)}, *.jpg")
    color = read_color(color_path)
    intrinsics_path = _first(folder, INTRINSICS)
    if intrinsics_path is None:
        raise DataError(
            f"no intrinsics in {folder}; write intrinsics.json with fx, fy, cx, cy (from camera_info: K[0], K[4], K[2],"
            f" K[5]); looked for {', '.join(INTRINSICS)}"
        )
    intrinsics, scale_m = _read_intrinsics(intrinsics_path)
    depth_path, assumptions = _first(folder, DEPTH), ()
    if depth_path is not None:
        depth_m = read_depth(depth_path, scale_m)
    elif depth is not None:
        depth_m, name = depth.add(color, Percept()).depth_m, type(depth).__name__
        assumptions = (f"depth was not measured: {name} estimated it from the picture",)
        if depth_m is None:
            raise DataError(f"the plug-in {name} gives no depth; configure sim.cousins.plugins.MetricDepth")
    else:
        raise DataError(f"no depth in {folder}: {NEEDS_DEPTH}; looked for {', '.join(DEPTH)}")
    check_images(color, depth_m)
    height, width = depth_m.shape
    check_intrinsics(intrinsics, (height, width))
    _check_size(intrinsics_path, (height, width))
    if max(abs(intrinsics[2] / width - 0.5), abs(intrinsics[3] / height - 0.5)) > OFF_CENTRE:
        assumptions = (*assumptions, OTHER_SIZE.format(*intrinsics[2:], width, height))
    pose_path = _first(folder, POSE)
    if pose_path is None:
        pose, assumptions = pose_from_plane(depth_m, intrinsics, None), (*assumptions, LEVELLED)
    else:
        pose = read_pose(pose_path)
    view = View(as_pose(pose), intrinsics, (height, width))
    robot, joint_pos_rad = _read_joints(folder / JOINTS)
    if joint_pos_rad and pose_path is None:
        raise DataError(f"{folder / JOINTS} tells where the robot is only with {POSE[0]}: the camera in its base frame")
    excitation = _first(folder, (EXCITATION,))
    return Scan((_view(str(folder), color, depth_m, view, joint_pos_rad),), assumptions, excitation, robot)


def _read_joints(path: Path) -> tuple[str, tuple[float, ...]]:
    """Which robot is in sight, and its joints; nothing without the file."""
    if not path.exists():
        return "", ()
    content = read_json(path)
    if not isinstance(content, Mapping) or not {"robot", "joint_pos_rad"} <= set(content):
        raise DataError(f'{path} needs "robot" ({", ".join(ROBOTS)}) and "joint_pos_rad", from the base to the hand')
    return str(content["robot"]), tuple(_array(path, content["joint_pos_rad"]).ravel().tolist())


def _view(
    where: str, color: NDArray[np.uint8], depth_m: NDArray[np.float32], view: View, joint_pos_rad: tuple[float, ...]
) -> ScanView:
    try:
        return ScanView(color, depth_m, view, joint_pos_rad)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_intrinsics(path: Path) -> tuple[tuple[float, float, float, float], float]:
    """fx, fy, cx, cy and metres per unit of depth, from JSON (by name, or a matrix K) or a text file with K."""
    content = read_json(path) if path.suffix == ".json" else _read_numbers(path)
    if not isinstance(content, Mapping):
        return _from_matrix(path, content), 0.001
    scale = content.get("depth_scale_m", content.get("depth_scale", 0.001))
    if not isinstance(scale, int | float):
        raise DataError(
            f"{path}: depth_scale_m must be metres per unit of depth (0.001 for millimetres), got {scale!r}"
        )
    scale_m = float(scale)
    for key in ("K", "k", "camera_matrix", "intrinsic_matrix", "intrinsics"):
        if key in content:
            inner = content[key]
            if isinstance(inner, Mapping) and "data" not in inner:
                return _from_names(path, inner), scale_m
            return _from_matrix(path, inner["data"] if isinstance(inner, Mapping) else inner), scale_m
    return _from_names(path, content), scale_m


def _check_size(path: Path, image_hw: tuple[int, int]) -> None:
    """`DataError` where intrinsics say that they are of pictures of another size."""
    content = read_json(path) if path.suffix == ".json" else None
    if not isinstance(content, Mapping) or not {"width", "height"} <= set(content):
        return
    said, size = (content["width"], content["height"]), (image_hw[1], image_hw[0])
    if said != size:
        raise DataError(
            f"{path} is of {said[0]} x {said[1]} pixels, the pictures have {size[0]} x {size[1]}: scale fx, cx by the"
            " width and fy, cy by the height, and correct width and height there"
        )


def _from_names(path: Path, content: Mapping[str, Any]) -> tuple[float, float, float, float]:
    names = (("fx",), ("fy",), ("cx", "ppx"), ("cy", "ppy"))
    found = [next((content[key] for key in keys if key in content), None) for keys in names]
    try:
        fx, fy, cx, cy = (float(value) for value in found if value is not None)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} needs the numbers fx, fy, cx, cy (or a matrix K); it has {sorted(content)}") from error
    return fx, fy, cx, cy


def _from_matrix(path: Path, values: Any) -> tuple[float, float, float, float]:
    matrix = _array(path, values)
    if matrix.size == 4:
        fx, fy, cx, cy = map(float, matrix.reshape(4))
        return fx, fy, cx, cy
    if matrix.size != 9:
        raise DataError(f"{path}: K must have 9 numbers, row by row (or fx, fy, cx, cy), got {matrix.size}")
    k = matrix.reshape(3, 3)
    k = k if np.allclose(k[2], (0, 0, 1)) else k.T  # some programs write columns first
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def read_pose(path: Path) -> FloatArray:
    """Camera in the base frame: seven numbers (w first), or a matrix of 4 x 4."""
    content = read_json(path) if path.suffix == ".json" else _read_numbers(path)
    if isinstance(content, Mapping):
        keys = ("pose_base_camera", "T_base_camera", "pose", "matrix")
        key = next((key for key in keys if key in content), None)
        if key is None:
            raise DataError(f"{path} needs one of {', '.join(keys)}; it has {sorted(content)}")
        content = content[key]
    values = _array(path, content)
    if values.size == 16:
        matrix = values.reshape(4, 4)
        if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-3) or np.linalg.det(matrix) < 0:
            raise DataError(f"{path}: the upper left 3 x 3 of the matrix is no rotation")
        return np.concatenate([matrix[:3, 3], frames.matrix_to_quat(matrix[:3, :3])])
    if values.size != 7:
        raise DataError(f"{path} needs 7 numbers (x, y, z, qw, qx, qy, qz) or a matrix of 16, got {values.size}")
    check_pose(values.reshape(7).tolist())
    return values.reshape(7)


def _array(path: Path, values: Any) -> FloatArray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: expected numbers, got {values!r}") from error


def _read_numbers(path: Path) -> FloatArray:
    try:
        return np.array(path.read_text().replace(",", " ").split(), np.float64)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected numbers: {error}") from error
