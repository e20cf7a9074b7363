"""A scan: one or several looks at a scene with colour and aligned depth, and the folder that it is kept in.

The folder: `color_000.png`, `depth_000.png` (16 bit) or `depth_000.npy` (float, metres), `views.json` (`ScanFile`),
optionally a log of the arm in motion. Pixel (column u, row v) has its centre at (u, v), as in ROS and librealsense; a
depth of 0 is no depth. Folders that were not written by `write_scan` are read by `sim.cousins.scan_folder`.

Shape letters: H W image height and width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.files import write_file
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import CameraFrame, FloatArray
from sim.cousins.scene import Pose, Vector3, View
from sim.robosuite_arm import ROBOTS

EXCITATION = "excitation.npz"
VIEWS_FILE = "views.json"
SCHEMA = 1
DEPTH_STEP_M = 1e-4
"""Of the depth images that are written: a tenth of a millimetre, up to 6.5 m."""
MIN_DEPTH_SHARE = 0.01
"""A picture with depth at fewer of its pixels is refused."""
NEEDS_DEPTH = (
    "one colour picture does not tell how far and how large things are. Add aligned depth (depth.png in millimetres"
    " or depth.npy in metres), or configure a depth plug-in with weights on disk"
    " ('depth={_target_: sim.cousins.plugins.MetricDepth, weights: FOLDER}')"
)


@dataclass(frozen=True)
class ScanView:
    """One look, checked."""

    color: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    depth_m: NDArray[np.float32]
    """(H, W) along the camera's z; 0 where unknown."""
    view: View
    """Where the camera was, and its intrinsics."""
    joint_pos_rad: tuple[float, ...] = ()
    """Joints of the robot at that moment, so that it can be left out; none where it is not in sight."""

    def __post_init__(self) -> None:
        check_images(self.color, self.depth_m)
        check_intrinsics(self.view.intrinsics, self.view.image_hw)
        if self.view.image_hw != self.depth_m.shape:
            raise DataError(f"image_hw is {self.view.image_hw}, but the pictures are {self.depth_m.shape}; correct it")
        check_pose(self.view.pose_base_camera)


@dataclass(frozen=True)
class Scan:
    """All looks at one scene."""

    views: tuple[ScanView, ...]
    """At least one."""
    assumptions: tuple[str, ...] = ()
    """What was not measured but assumed; the scene repeats it."""
    excitation: Path | None = None
    """Log of the arm in motion (`sim.sysid.log`), for system identification."""
    robot: str = ""
    """Which one `joint_pos_rad` is of: a name of `sim.robosuite_arm.ROBOTS`."""

    def __post_init__(self) -> None:
        if not self.views:
            raise DataError("a scan needs at least one view")
        if any(view.joint_pos_rad for view in self.views) and self.robot not in ROBOTS:
            raise UnknownNameError("robot of a scan with joint_pos_rad", self.robot, ROBOTS)


@dataclass(frozen=True)
class ViewFile:
    """One entry of `views.json`."""

    color: str
    """Colour image, relative to the folder."""
    depth: str
    """Depth image (.png, 16 bit) or array (.npy, float metres), relative to the folder."""
    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy in pixels."""
    pose_base_camera: Pose | None = None
    """Camera in the base frame (x, y, z, qw, qx, qy, qz); null: estimated from the support plane (one view only)."""
    depth_scale_m: float = 0.001
    """Metres per unit of a 16-bit depth image."""
    joint_pos_rad: tuple[float, ...] = ()
    """Joints of the robot at that moment, from the base; its pixels are left out. Empty: it is not in sight."""


@dataclass(frozen=True)
class ScanFile:
    """`views.json`."""

    views: tuple[ViewFile, ...]
    """In order; masks are those of the first."""
    gravity_camera: Vector3 | None = None
    """Direction of gravity in the first camera's frame, where an inertial sensor knows it."""
    excitation: str = ""
    """Log of the arm in motion, relative to the folder."""
    assumptions: tuple[str, ...] = ()
    """What was not measured but assumed."""
    robot: str = ""
    """Which robot `joint_pos_rad` is of: panda, ur5e."""
    schema: int = SCHEMA
    """Version of this description."""


def capture_scan(
    frames: Sequence[CameraFrame],
    poses_base_camera: Sequence[FloatArray],
    robot: str = "",
    joint_pos_rad: Sequence[FloatArray] = (),
) -> Scan:
    """A scan of frames with depth and intrinsics, the camera's pose (7,) at each, and the robot's joints if it is seen.

    Depth of no finite value counts as none (a float depth image of ROS marks it so, REP 118).
    """
    if len(frames) != len(poses_base_camera):
        raise DataError(f"{len(frames)} frames, but {len(poses_base_camera)} camera poses; give one pose per frame")
    joints = [tuple(map(float, one)) for one in joint_pos_rad] or [()] * len(frames)
    if len(joints) != len(frames):
        raise DataError(f"{len(frames)} frames, but joints at {len(joints)} moments; give them for every frame or none")
    views = []
    for number, (frame, pose, joint) in enumerate(zip(frames, poses_base_camera, joints, strict=True)):
        if frame.depth_m is None:
            raise DataError(f"frame {number} has no depth: {NEEDS_DEPTH}; a camera node sends it with depth: true")
        if frame.intrinsics is None:
            raise DataError(f"frame {number} has no intrinsics: let the camera publish camera_info")
        depth_m = np.where(np.isfinite(frame.depth_m), frame.depth_m, 0.0).astype(np.float32)
        height, width = depth_m.shape
        view = View(as_pose(pose), frame.intrinsics, (height, width))
        views.append(ScanView(frame.color, depth_m, view, joint))
    return Scan(tuple(views), robot=robot)


def write_scan(folder: Path, scan: Scan) -> None:
    """Write `scan` as a folder; `views.json` comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, one in enumerate(scan.views):
        color, depth = f"color_{number:03d}.png", f"depth_{number:03d}.png"
        units = np.round(one.depth_m / DEPTH_STEP_M)
        units[units > np.iinfo(np.uint16).max] = 0
        cv2.imwrite(str(folder / color), one.color[:, :, ::-1])
        cv2.imwrite(str(folder / depth), units.astype(np.uint16))
        entry = ViewFile(color, depth, one.view.intrinsics, one.view.pose_base_camera, DEPTH_STEP_M, one.joint_pos_rad)
        entries.append(entry)
    excitation = EXCITATION if scan.excitation else ""
    if scan.excitation and scan.excitation.resolve() != (folder / EXCITATION).resolve():
        shutil.copyfile(scan.excitation, folder / EXCITATION)
    content = ScanFile(tuple(entries), excitation=excitation, assumptions=scan.assumptions, robot=scan.robot)
    write_file(folder / VIEWS_FILE, json.dumps(to_plain(content), indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Content of a JSON file; `DataError` when it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error


def read_scan_file(path: Path) -> ScanFile:
    """`views.json`, checked by key."""
    try:
        content = to_dataclass(ScanFile, read_json(path))
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    if content.schema != SCHEMA:
        raise DataError(f"{path} has schema {content.schema}; this version reads {SCHEMA}")
    return content


def read_color(path: Path) -> NDArray[np.uint8]:
    """A colour image as (H, W, 3) RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is not there or is no image; give a PNG or JPEG")
    return np.ascontiguousarray(image[:, :, ::-1], np.uint8)


def read_depth(path: Path, scale_m: float) -> NDArray[np.float32]:
    """Depth (H, W) in metres: a 16-bit image times `scale_m`, or a float array that is in metres already."""
    if path.suffix == ".npy":
        try:
            depth = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is no array of numbers: {error}") from error
        if depth.dtype.kind != "f" or depth.ndim != 2:
            raise DataError(f"{path} is {depth.dtype} {depth.shape}; save a float array (H, W) in metres")
        return depth.astype(np.float32)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path} is not there or is no image; give a 16-bit PNG or a .npy in metres")
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DataError(f"{path} is {image.dtype} {image.shape}; save depth as a 16-bit image of one channel")
    if not scale_m > 0.0:
        raise DataError(f"{path}: depth_scale_m must be positive (0.001 for millimetres), got {scale_m}")
    return image.astype(np.float32) * np.float32(scale_m)


def check_images(color: NDArray[Any], depth_m: NDArray[Any]) -> None:
    """`DataError` unless the two fit together and hold depth."""
    if color.dtype != np.uint8 or color.ndim != 3 or color.shape[2] != 3:
        raise DataError(f"colour is {color.dtype} {color.shape}; it must be 8-bit RGB (H, W, 3)")
    if depth_m.shape != color.shape[:2]:
        raise DataError(
            f"depth is {depth_m.shape}, colour {color.shape[:2]}: align depth to colour (librealsense rs.align,"
            " realsense2_camera align_depth.enable:=true)"
        )
    if depth_m.dtype.kind != "f" or not np.isfinite(depth_m).all() or depth_m.min() < 0.0:
        raise DataError("depth holds NaN, Inf or negative values; write 0 where there is no depth")
    share = float((depth_m > 0.0).mean())
    if share < MIN_DEPTH_SHARE:
        raise DataError(f"only {share:.1%} of the pixels have depth; is the depth stream on, is depth_scale_m right?")


def check_intrinsics(intrinsics: Sequence[float], image_hw: tuple[int, int]) -> None:
    """`DataError` unless fx, fy are positive and the optical axis meets the picture."""
    fx, fy, cx, cy = intrinsics
    height, width = image_hw
    if not (np.isfinite(intrinsics).all() and fx > 0 and fy > 0 and 0 < cx < width and 0 < cy < height):
        raise DataError(
            f"intrinsics (fx, fy, cx, cy) = {tuple(intrinsics)} do not fit a picture of {width} x {height}; take them"
            " from camera_info (K[0], K[4], K[2], K[5]) at the resolution of the pictures"
        )


def check_pose(pose: Sequence[float]) -> None:
    """`DataError` unless finite with a unit quaternion."""
    norm = float(np.linalg.norm(pose[3:]))
    if not np.isfinite(pose).all() or abs(norm - 1.0) > 1e-3:
        raise DataError(
            f"pose_base_camera {tuple(pose)} needs finite numbers (x, y, z, qw, qx, qy, qz) and a unit quaternion;"
            f" its norm is {norm:.4g}: divide by it, and check the order (w first)"
        )


def as_pose(values: Sequence[float] | FloatArray) -> Pose:
    """Seven numbers as a pose."""
    x, y, z, qw, qx, qy, qz = map(float, values)
    return x, y, z, qw, qx, qy, qz
