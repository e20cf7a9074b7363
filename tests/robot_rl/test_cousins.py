"""`robot-rl cousins`: from a scan that no one prepared to a policy, and again after a correction by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_rl.apps.cli import main
from robot_rl.apps.wiring import load_experiment
from sim.cousins.family import CousinTask
from sim.cousins.hidden import hidden_world
from sim.cousins.scan import capture_scan, write_scan
from sim.cousins.scene import read_scene
from sim.rendering import choose_gl

SMALL = ("recipe.scenes=2", "demonstrations=3", "updates=3", "evaluations=1", "library.per_category=2")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour, depth, intrinsics and the camera's pose, by the usual names."""
    try:
        choose_gl()
    except Exception as error:
        pytest.skip(str(error))
    frame, view, _ = hidden_world("put_in_bowl", 0).look(0)
    folder = tmp_path_factory.mktemp("scan")
    cv2.imwrite(str(folder / "rgb.png"), frame.color[..., ::-1])
    assert frame.depth_m is not None
    cv2.imwrite(str(folder / "depth.png"), np.round(1000 * frame.depth_m).astype(np.uint16))
    fx, fy, cx, cy = view.intrinsics
    (folder / "intrinsics.json").write_text(json.dumps({"fx": fx, "fy": fy, "cx": cx, "cy": cy, "depth_scale": 0.001}))
    pose = np.eye(4)
    x, y, z, w, i, j, k = view.pose_base_camera
    pose[:3, :3] = _rotation(w, i, j, k)
    pose[:3, 3] = x, y, z
    (folder / "pose.txt").write_text("\n".join(" ".join(map(str, row)) for row in pose))
    return folder


def _rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_one_command_ends_in_a_policy_and_a_page(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    assert main(["cousins", "make", str(scan), str(work), *SMALL, "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "the first that the scene suggests" in said and "demonstrations:" in said
    assert json.loads((work / "task.json").read_text())["_target_"].endswith("PutIn")
    assert len(list((work / "scenes").glob("scene_*/scene.xml"))) == 2
    assert (work / "policy" / "checkpoints" / "step_000000003" / "policy.safetensors").exists()
    results = json.loads((work / "results.json").read_text())
    assert [len(one) for one in results["by_scene"]] == [1, 1]
    page = (work / "gallery.html").read_text()
    assert page.count("<img") >= 3 and "scene_0001" in page and re.search(r"expert: \d of \d", page)

    def stamps() -> dict[str, int]:
        watched = ("extraction/scene.json", "scenes/scene_0000/scene.xml", "episodes/zarr.json")
        return {name: (work / name).stat().st_mtime_ns for name in watched}

    experiment = load_experiment([f"task={work / 'family.json'}", "task.curriculum=40", "seed=3"])
    assert isinstance(experiment.task, CousinTask) and experiment.task.curriculum == 40
    assert experiment.task.scenes == (work / "scenes").resolve()
    before = stamps()
    assert main(["cousins", "demonstrate", str(work), *SMALL, "--jobs", "1"]) == 0
    assert stamps() == before  # nothing has changed, so nothing is made anew
    path = work / "extraction" / "scene.json"
    scene = json.loads(path.read_text())
    scene["objects"][0]["box"]["pose_base"][0] += 0.01
    path.write_text(json.dumps(scene))
    assert main(["cousins", "generate", str(work), *SMALL, "--jobs", "1"]) == 0
    after = stamps()
    assert after["scenes/scene_0000/scene.xml"] > before["scenes/scene_0000/scene.xml"]
    assert json.loads(path.read_text()) == scene  # the correction stands


def test_what_is_wrong_is_said(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cousins", "extract", str(tmp_path / "nothing")]) == 2
    assert "robot-rl cousins scan" in capsys.readouterr().err
    assert main(["cousins", "make", str(scan)]) == 2
    assert "SCAN WORK" in capsys.readouterr().err
    assert main(["cousins", "scan", str(tmp_path / "nowhere"), str(tmp_path / "work")]) == 2
    assert "no folder" in capsys.readouterr().err
    (tmp_path / "flat").mkdir()
    for name in ("rgb.png", "intrinsics.json"):
        (tmp_path / "flat" / name).write_bytes((scan / name).read_bytes())
    assert main(["cousins", "scan", str(tmp_path / "flat"), str(tmp_path / "work")]) == 2
    assert "depth" in capsys.readouterr().err
    assert main(["cousins", "extract", str(tmp_path / "work"), "recipe.scenes=0"]) == 2
    assert "scenes must be positive" in capsys.readouterr().err
    assert main(["cousins", "assets", "library.per_category=1"]) == 0
    assert "generated/cabinet_0" in capsys.readouterr().out.replace("│", "")


@pytest.mark.usefixtures("scan")
def test_the_users_count_of_parts_is_kept_with_the_work(tmp_path: Path) -> None:
    frame, view, joints = hidden_world("drawer", 1).look(0)
    write_scan(tmp_path / "scan", capture_scan([frame], [np.asarray(view.pose_base_camera)], "panda", [joints]))
    work = tmp_path / "work"
    assert main(["cousins", "scan", str(tmp_path / "scan"), str(work)]) == 0
    assert main(["cousins", "extract", str(work), "--parts", "object_0:doors=1"]) == 0
    kinds = [part.kind for part in read_scene(work / "extraction" / "scene.json").objects[0].parts]
    assert kinds == ["door"]
    assert main(["cousins", "extract", str(work)]) == 0  # and stays
    assert [part.source for part in read_scene(work / "extraction" / "scene.json").objects[0].parts] == ["user"]
    assert main(["cousins", "extract", str(work), "--parts", "object_7:doors=1"]) == 2
    assert main(["cousins", "extract", str(work), "--parts", "object_0:windows=1"]) == 2
