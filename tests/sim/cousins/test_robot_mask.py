"""The robot is left out of a scan where it is, and nothing else is."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from robot_rl.errors import DataError, UnknownNameError
from robot_rl.types import CameraFrame, FloatArray
from sim.cousins.hidden import PARKED_JOINT_RAD, hidden_world
from sim.cousins.robot_mask import robot_pixels, without_robot
from sim.cousins.scan import Scan, ScanView, capture_scan, write_scan
from sim.cousins.scan_folder import read_scan
from sim.cousins.scene import View
from sim.rendering import RenderConfig, SceneRenderer

IN_SIGHT = (0.3, 0.1, 0.1, -2.2, 0.0, 2.2, 0.785)


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("joints", [IN_SIGHT, PARKED_JOINT_RAD["panda"]])
def test_what_the_renderer_draws_of_the_robot_is_masked(joints: tuple[float, ...]) -> None:
    world = hidden_world("put_in_bowl", 0)
    view = world.layout.views[0]

    def picture(pose: tuple[float, ...], hidden: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        data = mujoco.MjData(world.model)
        data.qpos[[world.model.joint(name).qposadr[0] for name in world.arm.joint_names]] = pose
        if hidden:  # the robot a long way down
            world.model.body_pos[world.model.body("robot0_base").id][2] -= 50.0
        mujoco.mj_forward(world.model, data)
        renderer = SceneRenderer(world.model, data, view.image_hw, RenderConfig(depth=True))
        frame = renderer.render("view_0", 0.0)
        renderer.close()
        assert frame.depth_m is not None
        return frame.color, frame.depth_m.astype(np.float32)

    color, depth = picture(joints, False)
    _, empty = picture(joints, True)
    robot = np.abs(depth - empty) > 1e-3
    mask = robot_pixels("panda", ScanView(color, depth, view, joints))
    assert mask[robot].mean() > 0.995 if robot.any() else not mask.any()
    assert mask[~robot].mean() < 0.03
    if joints == IN_SIGHT:
        assert robot.mean() > 0.02
        clean = without_robot(Scan((ScanView(color, depth, view, joints),), robot="panda")).views[0]
        assert not clean.depth_m[mask].any()
        np.testing.assert_array_equal(clean.depth_m[~mask], depth[~mask])
        elsewhere = tuple(one + 0.8 for one in joints)
        wrong = robot_pixels("panda", ScanView(color, depth, view, elsewhere))
        assert wrong[robot].mean() < 0.9  # the joints matter


def test_joints_are_kept_with_the_scan_and_checked(tmp_path: Path) -> None:
    frame, view, joints = _frame()
    scan = capture_scan([frame], [np.asarray(view.pose_base_camera)], "panda", [joints])
    write_scan(tmp_path / "scan", scan)
    again = read_scan(tmp_path / "scan")
    assert again.robot == "panda" and again.views[0].joint_pos_rad == tuple(joints)
    with pytest.raises(UnknownNameError, match="panda"):
        capture_scan([frame], [np.asarray(view.pose_base_camera)], "pandas", [joints])
    short = replace(again.views[0], joint_pos_rad=(0.0, 1.0))
    with pytest.raises(DataError, match="panda has 7 joints, the scan gives 2"):
        without_robot(Scan((short,), robot="panda"))
    with pytest.raises(DataError, match="for every frame or none"):
        capture_scan([frame], [np.asarray(view.pose_base_camera)], "panda", [joints, joints])


def test_an_unprepared_folder_may_tell_the_joints(tmp_path: Path) -> None:
    frame, view, joints = _frame()
    write_scan(tmp_path, capture_scan([frame], [np.asarray(view.pose_base_camera)]))
    (tmp_path / "views.json").unlink()
    fx, fy, cx, cy = view.intrinsics
    (tmp_path / "intrinsics.json").write_text(
        json.dumps({"fx": fx, "fy": fy, "cx": cx, "cy": cy, "depth_scale": 0.0001})
    )
    (tmp_path / "joints.json").write_text(json.dumps({"robot": "panda", "joint_pos_rad": list(joints)}))
    with pytest.raises(DataError, match=r"only with pose\.json"):
        read_scan(tmp_path)
    (tmp_path / "pose.json").write_text(json.dumps({"pose_base_camera": list(view.pose_base_camera)}))
    assert read_scan(tmp_path).views[0].joint_pos_rad == tuple(joints)
    (tmp_path / "joints.json").write_text("[1, 2]")
    with pytest.raises(DataError, match='needs "robot"'):
        read_scan(tmp_path)


def _frame() -> tuple[CameraFrame, View, FloatArray]:
    view = View((0.2, 0.0, 0.6, 0.0, 1.0, 0.0, 0.0), (100.0, 100.0, 31.5, 23.5), (48, 64))
    depth = np.full((48, 64), 0.6, np.float32)
    return CameraFrame(0.0, np.zeros((48, 64, 3), np.uint8), depth, view.intrinsics), view, np.array(IN_SIGHT)
