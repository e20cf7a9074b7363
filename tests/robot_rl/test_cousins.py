"""`robot-rl cousins`: from a scan that no one prepared to a policy, and again after a correction by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from data.journal import lock_file
from robot_rl.apps.cli import main
from robot_rl.apps.cousins_config import CousinsConfig
from robot_rl.apps.cousins_work import CousinsWork
from robot_rl.apps.wiring import load_experiment
from sim.cousins.family import CousinTask
from sim.cousins.folder import read_layout
from sim.cousins.hidden import hidden_world
from sim.cousins.plugins import Percept
from sim.cousins.scan import capture_scan, read_depth, write_scan
from sim.cousins.scan_folder import read_scan
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
    assert said.count("physics: ") == 1
    assert json.loads((work / "task.json").read_text())["_target_"].endswith("PutIn")
    assert len(list((work / "scenes").glob("scene_*/scene.xml"))) == 2
    assert (work / "policy" / "checkpoints" / "step_000000003" / "policy.safetensors").exists()
    results = json.loads((work / "results.json").read_text())
    assert [len(one) for one in results["by_scene"]] == [1, 1]
    page = (work / "gallery.html").read_text()
    assert page.count("<img") >= 3 and "scene_0001" in page and re.search(r"expert: \d of \d", page)
    assert "task: <code>PutIn item=" in page and re.search(
        r"<td>object_0</td><td>\w+ \([01]\.\d+\)</td>.*on table_0", page
    )

    def stamps() -> dict[str, int]:
        watched = ("extraction/scene.json", "scenes/scene_0000/scene.xml", "episodes/zarr.json")
        return {name: (work / name).stat().st_mtime_ns for name in watched}

    experiment = load_experiment([f"task={work / 'family.json'}", "task.curriculum=40", "seed=3"])
    assert isinstance(experiment.task, CousinTask) and experiment.task.curriculum == 40
    assert experiment.task.scenes == (work / "scenes").resolve()
    before = stamps()
    assert main(["cousins", "demonstrate", str(work), "--jobs", "1"]) == 0  # with the settings as they were
    assert stamps() == before  # nothing has changed, so nothing is made anew
    matches = json.loads((work / "matches.json").read_text())
    matches["object_0"] = matches["object_0"][:1]
    (work / "matches.json").write_text(json.dumps(matches))
    assert main(["cousins", "generate", str(work), "--jobs", "1"]) == 0
    assert stamps()["scenes/scene_0000/scene.xml"] > before["scenes/scene_0000/scene.xml"]
    assert json.loads((work / "matches.json").read_text()) == matches  # the correction stands
    placed = read_layout(work / "scenes" / "scene_0001").placed("object_0")
    assert placed.asset in (matches["object_0"][0]["asset"], "twin/object_0")
    task = (work / "task.json").read_text()
    (work / "task.json").write_text(task.replace("object_0", "object_7"))
    assert main(["cousins", "generate", str(work), "--jobs", "1"]) == 2
    assert "task.json 'object_7'; valid choices: object_0" in capsys.readouterr().err
    (work / "task.json").write_text(task)
    (work / "matches.json").write_text('{"object_0": 3}')
    for stage, message in (("generate", "no assets for object_0"), ("gallery", "distance and terms for object_0")):
        assert main(["cousins", stage, str(work), "--jobs", "1"]) == 2
        assert message in capsys.readouterr().err
    matches["object_0"] = [{"asset": "generated/boat_1"}]
    (work / "matches.json").write_text(json.dumps(matches))
    assert main(["cousins", "generate", str(work), "--jobs", "1"]) == 2
    assert "unknown asset for object_0" in capsys.readouterr().err
    before = stamps()
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
    assert main(["cousins", "gallery", str(tmp_path / "nothing")]) == 2
    assert "begin with: robot-rl cousins scan" in capsys.readouterr().err
    assert main(["cousins", "scan", str(scan), str(scan / "rgb.png")]) == 2
    assert "cannot write to the folder" in capsys.readouterr().err
    (tmp_path / "settings.json").write_text("{")
    assert main(["cousins", "extract", str(tmp_path)]) == 2
    assert "delete it to begin with the defaults" in capsys.readouterr().err
    assert main(["cousins", "assets", "library.per_category=1"]) == 0
    assert "generated/cabinet_0" in capsys.readouterr().out.replace("│", "")


def test_another_scan_is_extracted_anew_whenever_it_was_taken(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, work = tmp_path / "first", tmp_path / "first" / "work"  # a work folder in the scan's
    shutil.copytree(scan, first)
    (first / "pose.txt").unlink()
    for _ in range(2):
        assert main(["cousins", "scan", str(first), str(work)]) == 0
    assert sorted(one.name for one in (work / "scan").iterdir()) == ["depth.png", "intrinsics.json", "rgb.png"]
    assert main(["cousins", "extract", str(work)]) == 0
    assert read_scene(work / "extraction" / "scene.json").assumptions
    (work / "task.json").write_text("{}")
    for one in scan.iterdir():
        os.utime(one, (1, 1))
    assert main(["cousins", "scan", str(scan), str(work)]) == 0
    assert "task.json of the former scan" in capsys.readouterr().out
    assert main(["cousins", "extract", str(work)]) == 0
    assert not read_scene(work / "extraction" / "scene.json").assumptions
    corrected = work / "scan" / "pose.txt"
    corrected.write_text(corrected.read_text() + "\n")
    assert main(["cousins", "scan", str(scan), str(work)]) == 0
    assert corrected.read_text().endswith("\n")  # a correction of the copy stands
    assert main(["cousins", "scan", str(scan), str(scan)]) == 2
    assert "name another WORK" in capsys.readouterr().err


@dataclass(frozen=True)
class Known:
    """A depth plug-in that knows."""

    path: Path

    def add(self, color: np.ndarray, found: Percept) -> Percept:
        return replace(found, depth_m=read_depth(self.path, 0.001))


def test_a_plug_in_gives_depth_to_a_scan_without(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(scan, flat, ignore=shutil.ignore_patterns("depth*"))
    absent = f"depth={{_target_: sim.cousins.plugins.MetricDepth, weights: {tmp_path}}}"
    assert main(["cousins", "scan", str(flat), str(tmp_path / "work"), absent]) == 2
    assert "huggingface-cli download" in capsys.readouterr().err
    CousinsWork(tmp_path / "work", CousinsConfig(depth=Known(scan / "depth.png")), Console()).scan(flat)
    taken = read_scan(tmp_path / "work" / "scan")
    true = read_depth(scan / "depth.png", 0.001)
    near = true < 6.0  # what 16 bits hold
    assert taken.views[0].depth_m[near] == pytest.approx(true[near], abs=1e-4)
    assert taken.assumptions == ("depth was not measured: Known estimated it from the picture",)


@pytest.mark.usefixtures("scan")
def test_the_users_count_of_parts_is_kept_with_the_work(tmp_path: Path) -> None:
    frame, view, joints = hidden_world("drawer", 1).look(0)
    write_scan(tmp_path / "scan", capture_scan([frame], [np.asarray(view.pose_base_camera)], "panda", [joints]))
    work = tmp_path / "work"
    assert main(["cousins", "scan", str(tmp_path / "scan"), str(work)]) == 0
    assert main(["cousins", "extract", str(work), "--parts", "object_0:doors=1"]) == 0
    kinds = [part.kind for part in read_scene(work / "extraction" / "scene.json").objects[0].parts]
    assert kinds == ["door"]
    assert main(["cousins", "extract", str(work), "--parts", "object_7:doors=1"]) == 2
    assert main(["cousins", "extract", str(work)]) == 0  # and stays, whereas what was wrong is forgotten
    assert [part.source for part in read_scene(work / "extraction" / "scene.json").objects[0].parts] == ["user"]
    assert main(["cousins", "extract", str(work), "--parts", "object_0:windows=1"]) == 2


def test_two_at_once_do_not_work_in_one_folder(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    assert main(["cousins", "scan", str(scan), str(work)]) == 0
    held = lock_file(work / ".lock")
    for words in (["scan", str(scan)], ["extract"]):
        assert main(["cousins", *words, str(work)]) == 2
        assert "by another process; stop that one first" in capsys.readouterr().err.replace("\n", " ")
    assert main(["cousins", "gallery", str(work)]) == 0  # which reads alone
    os.close(held)
    assert main(["cousins", "extract", str(work)]) == 0


def test_looks_count_with_an_encoder_and_never_without(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    assert main(["cousins", "scan", str(scan), str(work)]) == 0
    encoder = f"encoder={{_target_: sim.cousins.plugins.Features, weights: {tmp_path}}}"
    for words, message in (
        (["weights.appearance=0.5"], "sim.cousins.plugins.Features"),
        ([encoder], "weights.appearance=0.5"),
        ([encoder, "weights.appearance=0.5", "library.per_category=1"], "huggingface-cli download"),
    ):
        assert main(["cousins", "match", str(work), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (work / "matches.json").exists()
    assert main(["cousins", "match", str(work), "weights.appearance=0.3"]) == 2  # with the encoder that is kept
    assert "huggingface-cli download" in capsys.readouterr().err
