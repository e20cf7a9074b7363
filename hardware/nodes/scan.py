"""Takes a scan of the bench (`robot-rl cousins capture`): the median of some frames of colour, aligned depth and
camera_info, and the robot's joints at that moment, so that it can be left out. Nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, JointState

from hardware import ros_messages
from hardware.nodes.lifecycle import read_robot, ros_environment
from hardware.ros_link import RosLink
from robot_rl.errors import ConfigError, StaleError
from robot_rl.types import CameraFrame, FloatArray
from sim.cousins.levelling import pose_from_plane
from sim.cousins.scan import Scan, capture_scan, write_scan
from sim.cousins.scan_folder import LEVELLED, read_pose, read_scan

PAIRED_S = 0.005
"""Colour and depth of one moment differ by less."""


@dataclass(frozen=True)
class CaptureConfig:
    """Which camera, and what is known of it."""

    camera: str = "front"
    """Its name on its topics."""
    pose: Path | None = None
    """File with its pose in the arm's base frame (`sim.cousins.scan_folder`). Without one, height and tilt come from
    the plane that it sees most of."""
    robot: str = ""
    """The robot in sight, by its name in conf/robot; it is left out of the scene."""
    frames: int = 10
    """How many their median is taken of."""
    timeout_s: float = 20.0
    """Longest wait for them."""
    add: bool = False
    """One more view of the scene that has been scanned already."""
    namespace: str = ""
    """Of the camera's and the arm's topics."""

    def __post_init__(self) -> None:
        if self.frames < 1 or not self.timeout_s > 0.0:
            raise ConfigError(f"frames must be at least 1 and timeout_s positive, got {self.frames}, {self.timeout_s}")


class Listener:
    """Pairs of colour and depth by their stamps, the newest camera_info and joints."""

    def __init__(self, link: RosLink, camera: str, wanted: int) -> None:
        self._link, self._wanted = link, wanted
        self._waiting: dict[str, list[tuple[float, Any]]] = {"color": [], "depth": []}
        self.pairs: list[tuple[Any, FloatArray]] = []
        self.info: CameraInfo | None = None
        self.joints: dict[str, float] = {}
        self.topics = {
            "color": f"{camera}/color/image_raw",
            "depth": f"{camera}/aligned_depth_to_color/image_raw",
            "info": f"{camera}/color/camera_info",
            "joints": "joint_states",
        }
        node, sensor = link.node, qos_profile_sensor_data
        node.create_subscription(Image, self.topics["color"], self._on_color, sensor)
        node.create_subscription(Image, self.topics["depth"], self._on_depth, sensor)
        node.create_subscription(CameraInfo, self.topics["info"], self._on_info, sensor)
        node.create_subscription(JointState, self.topics["joints"], self._on_joints, sensor)

    def _on_color(self, message: Image) -> None:
        self._take("color", message, ros_messages.read_image(message))

    def _on_depth(self, message: Image) -> None:
        self._take("depth", message, ros_messages.read_depth(message))

    def _on_info(self, message: CameraInfo) -> None:
        self.info = message
        self._notify()

    def _on_joints(self, message: JointState) -> None:
        if len(message.name) == len(message.position):
            self.joints = dict(zip(message.name, map(float, message.position), strict=True))

    def _take(self, kind: str, message: Image, pixels: Any) -> None:
        if pixels is None or len(self.pairs) >= self._wanted:
            return
        self._waiting[kind] = [*self._waiting[kind][-8:], (ros_messages.seconds_of(message.header.stamp), pixels)]
        for stamp_s, color in self._waiting["color"]:
            for other_s, depth_m in self._waiting["depth"]:
                if abs(stamp_s - other_s) < PAIRED_S and color.shape[:2] == depth_m.shape:
                    self._waiting = {"color": [], "depth": []}
                    self.pairs.append((color, depth_m))
                    self._notify()
                    return

    def _notify(self) -> None:
        with self._link.changed:
            self._link.changed.notify_all()

    def is_done(self) -> bool:
        return len(self.pairs) >= self._wanted and self.info is not None

    def missing(self) -> str:
        """What has not been heard, in words."""
        silent = [self.topics["info"]] if self.info is None else []
        if not self.pairs:
            silent += [self.topics[kind] for kind, heard in self._waiting.items() if not heard]
        got = f"{len(self.pairs)} of {self._wanted} pairs of colour and depth"
        return f"{got}; {', '.join(silent) + ' silent' if silent else 'stamps that do not agree, or too slow a camera'}"


def take_scan(link: RosLink, config: CaptureConfig) -> Scan:
    """Listen until there are `config.frames` frames; raises `StaleError` that says what is silent."""
    listener = Listener(link, config.camera, config.frames)
    link.start()
    if not link.wait_for(listener.is_done, config.timeout_s):
        raise StaleError(
            f"camera {config.camera!r}, {config.timeout_s:g} s: {listener.missing()}. Is its node running, with depth?"
        )
    assert listener.info is not None
    intrinsics = ros_messages.read_intrinsics(listener.info)
    if intrinsics is None:
        raise ConfigError(f"{listener.topics['info']} says fx = fy = 0: calibrate the camera (camera_calibration)")
    depths = np.stack([depth for _, depth in listener.pairs])
    frame = CameraFrame(time.time(), listener.pairs[-1][0], median_depth(depths), intrinsics)
    assert frame.depth_m is not None
    if config.pose is None:
        pose = pose_from_plane(frame.depth_m, intrinsics, None)
        return replace(capture_scan([frame], [pose]), assumptions=(LEVELLED,))
    robot, joint_pos_rad = robot_joints(config.robot, listener.joints)
    return capture_scan([frame], [read_pose(config.pose)], robot, [joint_pos_rad] if robot else ())


def median_depth(depths_m: FloatArray) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(H, W) of (N, H, W): the median of each pixel's known values where at least half are known, else 0."""
    known = depths_m > 0.0
    enough = known.mean(0) >= 0.5
    filled = np.where(known, depths_m, np.nan)
    result = np.zeros(depths_m.shape[1:], np.float32)
    result[enough] = np.nanmedian(filled[:, enough], axis=0)
    return result


def robot_joints(name: str, heard: Mapping[str, float]) -> tuple[str, FloatArray]:
    """Name of the simulated twin of a robot of conf/robot, and its joints in order; nothing for no name."""
    if not name:
        return "", np.zeros(0)
    content = read_robot(name)
    names = [str(joint["name"]) for joint in content.get("joints", ())]
    if absent := [one for one in names if one not in heard]:
        raise StaleError(f"joint_states does not tell {', '.join(absent)}; is the arm's driver running?")
    return str(content.get("sim_robot", "")).lower(), np.array([heard[one] for one in names])


def capture(target: Path, config: CaptureConfig) -> Scan:
    """Take a view and write it; returns what is in `target` then. Raises `StaleError` for topics that are silent."""
    before = read_scan(target) if config.add else None
    if before is None and target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty; give another folder, or --add for one more view of the same scene")
    if before is not None and config.pose is None:
        raise ConfigError("--add needs --pose: several views fit together by their poses only")
    ros_environment()
    link = RosLink("scan", config.namespace)
    try:
        scan = take_scan(link, config)
    finally:
        link.close()
    if before is not None:
        scan = replace(before, views=(*before.views, *scan.views), robot=scan.robot or before.robot)
    write_scan(target, scan)
    return scan
