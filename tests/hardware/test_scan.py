"""A scan taken from a camera's topics: median of frames, joints in order, and what is said when something is silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hardware import ros_messages
from hardware.nodes.scan import CaptureConfig, capture, median_depth, robot_joints
from robot_rl.errors import ConfigError, StaleError
from robot_rl.types import CameraFrame
from sim.cousins.scan_folder import read_scan
from tests.hardware.guard_rig import GlidingWorld, Rig

HW = (48, 64)
INTRINSICS = (60.0, 61.0, 31.5, 23.5)


class DepthCamera:
    """A level table 0.5 m below, with a step of depth in one corner."""

    def read(self) -> CameraFrame:
        depth = np.full(HW, 0.5, np.float32)
        depth[:8, :8] = 0.45
        depth[40:, :] = 0.0
        return CameraFrame(0.0, np.full((*HW, 3), 90, np.uint8), depth, INTRINSICS)


class ScannedWorld(GlidingWorld):
    """With a camera that knows depth."""

    def __init__(self) -> None:
        super().__init__()
        self.cameras = {"front": DepthCamera()}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as made:
        made.start("sim_robot", robot="", world="tests.hardware.test_scan:ScannedWorld", cameras=["front"])
        made.wait(lambda: bool(made.poses), "the robot to speak")
        yield made


def test_a_scan_holds_depth_calibration_and_joints(rig: Rig, tmp_path: Path) -> None:
    pose = [0.4, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0]
    (tmp_path / "pose.json").write_text(json.dumps({"pose_base_camera": pose}))
    config = CaptureConfig("front", tmp_path / "pose.json", "sim_panda", 3, namespace=rig.namespace)
    capture(tmp_path / "scan", config)
    scan = read_scan(tmp_path / "scan")
    view = scan.views[0]
    assert view.view.pose_base_camera == tuple(pose) and view.view.intrinsics == INTRINSICS
    assert view.depth_m[20, 30] == pytest.approx(0.5) and view.depth_m[0, 0] == pytest.approx(0.45)
    assert not view.depth_m[40:].any() and (view.color == 90).all()
    assert scan.robot == "panda" and view.joint_pos_rad == pytest.approx(tuple(np.arange(7) / 10.0))
    with pytest.raises(ConfigError, match="not empty"):
        capture(tmp_path / "scan", config)
    again = CaptureConfig("front", tmp_path / "pose.json", "", 1, add=True, namespace=rig.namespace)
    assert len(capture(tmp_path / "scan", again).views) == 2
    assert [bool(one.joint_pos_rad) for one in read_scan(tmp_path / "scan").views] == [True, False]


def test_without_a_pose_the_plane_tells_and_it_is_said(rig: Rig, tmp_path: Path) -> None:
    scan = capture(tmp_path / "scan", CaptureConfig("front", None, "", 1, namespace=rig.namespace))
    assert scan.views[0].view.pose_base_camera[2] == pytest.approx(0.5, abs=0.01)
    assert any("estimated" in one for one in read_scan(tmp_path / "scan").assumptions)
    with pytest.raises(ConfigError, match="--add needs --pose"):
        capture(tmp_path / "scan", CaptureConfig("front", None, "", 1, add=True, namespace=rig.namespace))


def test_silent_cameras_and_joints_are_named(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(StaleError, match=r"0 of 2 pairs.*wrist/color/camera_info.*wrist/aligned_depth.*silent"):
        capture(tmp_path / "scan", CaptureConfig("wrist", None, "", 2, timeout_s=0.5, namespace=rig.namespace))
    assert not (tmp_path / "scan").exists()
    with pytest.raises(StaleError, match="elbow_joint"):
        robot_joints("ur5e", {"shoulder_pan_joint": 0.0, "shoulder_lift_joint": 0.0})


def test_joints_come_in_the_robots_order_whatever_the_drivers() -> None:
    names = ("elbow", "shoulder_lift", "shoulder_pan", "wrist_1", "wrist_2", "wrist_3")
    heard = {f"{name}_joint": float(index) for index, name in enumerate(names)}
    robot, joints = robot_joints("ur5e", heard)
    assert robot == "ur5e" and joints.tolist() == [2.0, 1.0, 0.0, 3.0, 4.0, 5.0]


def test_median_of_what_is_known_in_half_of_the_frames() -> None:
    depths = np.array([[0.5, 0.0, 0.0], [0.6, 0.7, 0.0], [2.0, 0.9, 0.4]])[:, None, :]
    assert median_depth(depths)[0].tolist() == pytest.approx([0.6, 0.8, 0.0])


def test_depth_messages_are_read_back_and_others_refused() -> None:
    depth = np.array([[0.0, 0.5], [1.234, 70.0]], np.float32)
    message = ros_messages.depth_message(depth, 1.0, "camera")
    read = ros_messages.read_depth(message)
    assert read is not None and read.ravel().tolist() == pytest.approx([0.0, 0.5, 1.234, 65.535])
    message.encoding, message.step = "32FC1", 8
    message.data = np.array([[np.nan, 0.5], [-1.0, np.inf]], "<f4").tobytes()
    read = ros_messages.read_depth(message)
    assert read is not None and read.ravel().tolist() == pytest.approx([0.0, 0.5, 0.0, 0.0])
    message.data = message.data[:4]
    assert ros_messages.read_depth(message) is None
    message.encoding = "rgb8"
    assert ros_messages.read_depth(message) is None
