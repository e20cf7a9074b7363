"""Scans: read back as written, read from folders that no one prepared, refused by name when malformed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import CameraFrame
from sim.cousins.plugins import Percept
from sim.cousins.scan import Scan, ScanView, capture_scan, write_scan
from sim.cousins.scan_folder import read_scan
from sim.cousins.scene import View

INTRINSICS = (100.0, 110.0, 31.5, 23.5)
HW = (48, 64)
# Looks straight down from 0.5 m: the camera's z is the base's -z, its y the base's -y.
DOWN = (0.1, 0.2, 0.5, 0.0, 1.0, 0.0, 0.0)
COLOR = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
DEPTH = np.full(HW, 0.5, np.float32)


def view(pose: tuple[float, ...] = DOWN, depth: np.ndarray = DEPTH) -> ScanView:
    return ScanView(COLOR, depth, View(pose, INTRINSICS, HW))  # type: ignore[arg-type]


def unprepared(folder: Path, **files: Any) -> Path:
    """A folder with rgb.png, depth.png (millimetres) and intrinsics.json, less or more as `files` say."""
    cv2.imwrite(str(folder / "rgb.png"), COLOR[:, :, ::-1])
    cv2.imwrite(str(folder / "depth.png"), (DEPTH * 1000).astype(np.uint16))
    fx, fy, cx, cy = INTRINSICS
    (folder / "intrinsics.json").write_text(json.dumps({"fx": fx, "fy": fy, "cx": cx, "cy": cy}))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def prepared(folder: Path, **changes: Any) -> Path:
    write_scan(folder, Scan((view(),)))
    content = json.loads((folder / "views.json").read_text())
    content["views"][0] |= changes
    (folder / "views.json").write_text(json.dumps(content))
    return folder


def test_a_scan_is_read_back_as_written(tmp_path: Path) -> None:
    depth = DEPTH.copy()
    depth[0, 0], depth[1, 1], depth[2, 2] = 0.0, 0.43217, 7.0
    written = Scan(
        (view(depth=depth), view((0.0, 0.0, 1.0, *frames.rotvec_to_quat(np.array([3.0, 0.2, 0.1]))))), ("so",)
    )
    write_scan(tmp_path, written)
    again = read_scan(tmp_path)
    assert again.assumptions == ("so",) and len(again.views) == 2
    assert np.array_equal(again.views[0].color, COLOR)
    assert again.views[0].depth_m[0, 0] == 0.0
    assert again.views[0].depth_m[1, 1] == pytest.approx(0.4322, abs=5e-5)  # in steps of 0.1 mm
    assert again.views[0].depth_m[2, 2] == 0.0  # beyond what 16 bits hold
    assert [one.view for one in again.views] == [one.view for one in written.views]


@pytest.mark.parametrize(("scale", "metres"), [(0.001, 0.5), (0.00025, 0.125)])
def test_units_of_depth(tmp_path: Path, scale: float, metres: float) -> None:
    cv2.imwrite(str(tmp_path / "d.png"), np.full(HW, 500, np.uint16))
    folder = prepared(tmp_path, depth="d.png", depth_scale_m=scale)
    assert np.allclose(read_scan(folder).views[0].depth_m, metres)


def test_float_depth_is_in_metres_whatever_the_scale(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.full(HW, 0.7, np.float64))
    assert np.allclose(read_scan(prepared(tmp_path, depth="d.npy")).views[0].depth_m, 0.7)


@pytest.mark.parametrize(
    "text",
    [
        '{"fx": 100, "fy": 110, "ppx": 31.5, "ppy": 23.5}',
        '{"K": [100, 0, 31.5, 0, 110, 23.5, 0, 0, 1]}',
        '{"K": [[100, 0, 31.5], [0, 110, 23.5], [0, 0, 1]]}',
        '{"intrinsic_matrix": [100, 0, 0, 0, 110, 0, 31.5, 23.5, 1]}',
        '{"camera_matrix": {"rows": 3, "cols": 3, "data": [100, 0, 31.5, 0, 110, 23.5, 0, 0, 1]}}',
        '{"intrinsics": {"fx": 100, "fy": 110, "cx": 31.5, "cy": 23.5}}',
    ],
)
def test_intrinsics_as_programs_write_them(tmp_path: Path, text: str) -> None:
    folder = unprepared(tmp_path, intrinsics__json=text)
    assert read_scan(folder).views[0].view.intrinsics == INTRINSICS


def test_intrinsics_as_a_text_matrix_and_a_pose_as_a_matrix(tmp_path: Path) -> None:
    folder = unprepared(tmp_path, K__txt="100 0 31.5\n0 110 23.5\n0 0 1\n")
    (folder / "intrinsics.json").unlink()
    (folder / "pose.txt").write_text("1 0 0 0.1\n0 -1 0 0.2\n0 0 -1 0.5\n0 0 0 1\n")
    scan = read_scan(folder)
    assert scan.views[0].view.intrinsics == INTRINSICS
    assert np.allclose(scan.views[0].view.pose_base_camera, DOWN, atol=1e-9)
    assert scan.assumptions == ()


def oblique_table(height_m: float, tilt_rad: float) -> np.ndarray:
    """Depth of a plane `height_m` below a camera that looks `tilt_rad` below the horizon."""
    v, _ = np.mgrid[: HW[0], : HW[1]]
    down = (v - INTRINSICS[3]) / INTRINSICS[1] * np.cos(tilt_rad) + np.sin(tilt_rad)
    return (height_m / down).astype(np.float32)


def test_without_a_pose_the_plane_is_the_floor_of_the_frame_and_that_is_said(tmp_path: Path) -> None:
    folder = unprepared(tmp_path)
    np.save(folder / "depth.npy", oblique_table(0.4, 0.9))
    (folder / "depth.png").unlink()
    scan = read_scan(folder)
    assert len(scan.assumptions) == 1 and "estimated from the plane" in scan.assumptions[0]
    pose = np.asarray(scan.views[0].view.pose_base_camera)
    assert np.allclose(pose[:3], (0.0, 0.0, 0.4), atol=1e-4)
    rotation = frames.quat_to_matrix(pose[3:])
    # Forward (the camera's z) is along x and down by the tilt; the picture's right is the base's -y.
    assert np.allclose(rotation[:, 2], (np.cos(0.9), 0.0, -np.sin(0.9)), atol=1e-3)
    assert np.allclose(rotation[:, 0], (0.0, -1.0, 0.0), atol=1e-3)


def test_gravity_says_which_plane_is_level(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", oblique_table(0.4, 0.9))
    folder = prepared(tmp_path, depth="d.npy", pose_base_camera=None)
    content = json.loads((folder / "views.json").read_text())
    for gravity, level in (((0.0, np.cos(0.9), np.sin(0.9)), True), ((1.0, 0.0, 0.0), False)):
        (folder / "views.json").write_text(json.dumps(content | {"gravity_camera": gravity}))
        if level:
            assert read_scan(folder).views[0].view.pose_base_camera[2] == pytest.approx(0.4, abs=1e-4)
        else:
            with pytest.raises(DataError, match=r"level plane, by gravity_camera.*pose\.json"):
                read_scan(folder)


class FakeDepth:
    def add(self, color: np.ndarray, found: Percept) -> Percept:
        return Percept(depth_m=oblique_table(0.4, 0.9))


def test_colour_alone_is_refused_unless_a_plug_in_gives_depth(tmp_path: Path) -> None:
    folder = unprepared(tmp_path)
    (folder / "depth.png").unlink()
    with pytest.raises(DataError, match=r"does not tell how far.*MetricDepth"):
        read_scan(folder)
    scan = read_scan(folder, FakeDepth())
    assert any("FakeDepth estimated" in one for one in scan.assumptions)


def test_capture_takes_frames_and_drops_depth_that_is_not_finite() -> None:
    depth = DEPTH.copy()
    depth[0, 0], depth[0, 1] = np.nan, np.inf
    scan = capture_scan([CameraFrame(0.0, COLOR, depth, INTRINSICS)], [np.asarray(DOWN)])
    assert scan.views[0].depth_m[0, :3].tolist() == [0.0, 0.0, 0.5]
    with pytest.raises(DataError, match="frame 0 has no depth"):
        capture_scan([CameraFrame(0.0, COLOR, None, INTRINSICS)], [np.asarray(DOWN)])
    with pytest.raises(DataError, match="frame 0 has no intrinsics"):
        capture_scan([CameraFrame(0.0, COLOR, DEPTH)], [np.asarray(DOWN)])
    with pytest.raises(DataError, match="1 frames, but 0 camera poses"):
        capture_scan([CameraFrame(0.0, COLOR, DEPTH, INTRINSICS)], [])


def _image(name: str, array: np.ndarray) -> Callable[[Path], Any]:
    return lambda folder: cv2.imwrite(str(folder / name), array)


def _array(array: np.ndarray) -> Callable[[Path], Any]:
    def write(folder: Path) -> None:
        (folder / "depth.png").unlink()
        np.save(folder / "depth.npy", array)

    return write


MENDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "8-bit depth": (_image("depth.png", np.full(HW, 9, np.uint8)), "16-bit image of one channel"),
    "sizes differ": (_image("depth.png", np.full((24, 32), 500, np.uint16)), r"align depth to colour"),
    "no depth": (_image("depth.png", np.zeros(HW, np.uint16)), r"0.0% of the pixels have depth.*depth_scale_m"),
    "NaN": (_array(np.full(HW, np.nan, np.float32)), "write 0 where there is no depth"),
    "integers": (_array(np.full(HW, 500, np.int64)), r"float array \(H, W\) in metres"),
    "objects": (_array(np.array([[{}]], dtype=object)), "no array of numbers"),
    "no intrinsics": (lambda folder: (folder / "intrinsics.json").unlink(), r"write intrinsics\.json with fx, fy"),
    "other intrinsics": (lambda f: (f / "intrinsics.json").write_text('{"focal": 1}'), r"fx, fy, cx, cy.*focal"),
    "far axis": (
        lambda f: (f / "intrinsics.json").write_text('{"fx": 100, "fy": 110, "cx": 320, "cy": 240}'),
        "do not fit a picture of 64 x 48",
    ),
    "units": (
        lambda f: (f / "intrinsics.json").write_text('{"fx": 9, "fy": 9, "cx": 9, "cy": 9, "depth_scale": null}'),
        "depth_scale_m must be metres per unit .* got None",
    ),
    "intrinsics that say they are of another size": (
        lambda f: (f / "intrinsics.json").write_text(
            '{"fx": 100, "fy": 110, "cx": 32, "cy": 24, "width": 640, "height": 480}'
        ),
        r"of 640 x 480 pixels, the pictures have \d+ x \d+: scale fx",
    ),
    "no JSON": (lambda folder: (folder / "intrinsics.json").write_text("{"), r"intrinsics\.json"),
    "quaternion": (
        lambda f: (f / "pose.json").write_text('{"pose": [0, 0, 1, 2, 0, 0, 0]}'),
        "norm is 2: divide by it",
    ),
    "pose": (lambda folder: (folder / "pose.json").write_text('{"pose": [0, 0, 1]}'), "7 numbers"),
    "mirror": (lambda f: (f / "pose.txt").write_text("1 0 0 0 0 1 0 0 0 0 -1 1 0 0 0 1"), "no rotation"),
    "no colour": (lambda folder: (folder / "rgb.png").unlink(), "no colour picture"),
    "broken colour": (lambda folder: (folder / "rgb.png").write_text("?"), "is no image"),
}


@pytest.mark.parametrize("case", MENDS)
def test_malformed_folders_are_refused_with_the_mend(tmp_path: Path, case: str) -> None:
    folder = unprepared(tmp_path, pose__json=json.dumps({"pose_base_camera": DOWN}))
    if case == "mirror":
        (folder / "pose.json").unlink()
    spoil, message = MENDS[case]
    if case != "mirror":
        read_scan(folder)  # whole as long as it is not spoilt
    spoil(folder)
    with pytest.raises(DataError, match=message):
        read_scan(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose_base_camera": (0, 0, 1, 0.5, 0, 0, 0)}, "views.json, view 0: .*unit quaternion"),
        ({"intrinsics": (0, 110, 31.5, 23.5)}, "do not fit"),
        ({"intrinsics": (0, 110, 31.5, 23.5), "pose_base_camera": None}, "do not fit"),
        ({"depth": "none.png"}, r"none\.png is not there"),
        ({"focal": 3}, "unknown key"),
        ({"depth_scale_m": 0.0}, "depth_scale_m must be positive"),
    ],
)
def test_malformed_views_are_refused_by_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_scan(prepared(tmp_path, **changes))


def test_several_views_need_poses_and_a_named_log_must_exist(tmp_path: Path) -> None:
    write_scan(tmp_path, Scan((view(), view())))
    content = json.loads((tmp_path / "views.json").read_text())
    (tmp_path / "views.json").write_text(json.dumps(content | {"excitation": "motion.npz"}))
    with pytest.raises(DataError, match=r"excitation log .*motion\.npz"):
        read_scan(tmp_path)
    content["views"][1]["pose_base_camera"] = None
    (tmp_path / "views.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="view 1 has no pose_base_camera"):
        read_scan(tmp_path)
    with pytest.raises(DataError, match="at least one view"):
        Scan(())
    with pytest.raises(DataError, match="no folder"):
        read_scan(tmp_path / "absent")


def test_an_optical_axis_far_from_the_middle_is_told(tmp_path: Path) -> None:
    """Intrinsics of twice the resolution still fall on the picture."""
    folder = unprepared(tmp_path, pose__txt="0 0 1 0 1 0 0")
    assert read_scan(folder).assumptions == ()
    (folder / "intrinsics.json").write_text('{"fx": 200, "fy": 220, "cx": 63.5, "cy": 47.5}')
    (said,) = read_scan(folder).assumptions
    assert "intrinsics are those of another resolution" in said
