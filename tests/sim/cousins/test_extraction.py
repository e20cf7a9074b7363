"""From a scan's folder to a scene: what is found, what is made anew after a correction, what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import DataError, UnknownNameError
from sim.cousins.articulation import ArticulationConfig
from sim.cousins.boxes import BoxConfig
from sim.cousins.counts import PartCounts
from sim.cousins.extraction import ExtractionConfig, Objects, extract, in_order, read_labels
from sim.cousins.levelling import pose_from_plane
from sim.cousins.plugins import Percept
from sim.cousins.scan import Scan, ScanView, write_scan
from sim.cousins.scene import Scene
from sim.cousins.steps import read_plain
from sim.cousins.tabletop import Placed, Tabletop
from sim.cousins.tabletop_camera import look

pytestmark = [pytest.mark.usefixtures("opengl"), pytest.mark.slow]
SEED = 1003
"""A can on a box, two other boxes and a bottle."""
FILES = ("cloud.npz", "planes.json", "clusters.npz", "boxes.json", "parts.json", "scene.json")
CONFIG = ExtractionConfig()


@cache
def looked(seed: int = SEED) -> tuple[Tabletop, Scan]:
    table, scan, _ = look(seed)
    return table, scan


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Scene]:
    folder = tmp_path_factory.mktemp("scan")
    write_scan(folder, looked()[1])
    return folder, folder / "work", extract(folder, folder / "work", CONFIG)


def nearest(scene: Scene, one: Placed) -> tuple[str, str, float]:
    """Name and category of the object nearest to a true thing, and how far its centre is."""
    distance, found = min(
        (float(np.linalg.norm(np.subtract(found.box.pose_base[:3], one.position_m))), found.name)
        for found in scene.objects
    )
    return found, next(o.category for o in scene.objects if o.name == found), distance


def times(work: Path) -> dict[str, int]:
    return {name: (work / name).stat().st_mtime_ns for name in FILES}


def made_again(work: Path, before: dict[str, int]) -> list[str]:
    return [name for name, stamp in times(work).items() if stamp != before[name]]


def test_everything_on_the_table_is_found_with_its_kind_and_support(done: tuple[Path, Path, Scene]) -> None:
    _, work, scene = done
    table = looked()[0]
    assert len(scene.objects) == len(table.placed)
    names = []
    for one in table.placed:
        name, category, distance = nearest(scene, one)
        names.append(name)
        assert distance < 0.005 and category == one.thing.category
    assert len(set(names)) == len(names)
    supports = {one.name: one.support for one in scene.objects}
    stacked = {one.support for one in scene.objects} - {"table_0"}
    assert len(stacked) == 1 and supports[stacked.pop()] == "table_0"
    for one in scene.objects:
        points = np.load(work / one.points_file)
        mask = cv2.imread(str(work / one.mask_file), cv2.IMREAD_GRAYSCALE)
        assert points.dtype == np.float32 and len(points) > 90 and set(np.unique(mask)) == {0, 255}
        assert (np.abs(one.box.to_local(points)) < np.asarray(one.box.half_extents_m) + 0.01).all(1).mean() > 0.98
    assert cv2.imread(str(work / "overlay.png")).shape == (480, 640, 3)
    assert scene.views == tuple(view.view for view in looked()[1].views)


def test_masks_cover_what_the_camera_sees_of_each(done: tuple[Path, Path, Scene]) -> None:
    _, work, scene = done
    table, _, labels = look(SEED)
    for number, one in enumerate(table.placed):
        mask = cv2.imread(str(work / f"{nearest(scene, one)[0]}.png"), cv2.IMREAD_GRAYSCALE) > 0
        true = labels == number
        assert (mask & true).sum() / (mask | true).sum() > 0.8


def test_a_second_run_does_nothing(done: tuple[Path, Path, Scene]) -> None:
    folder, work, scene = done
    before = times(work)
    assert extract(folder, work, CONFIG) == scene
    assert made_again(work, before) == []


def test_after_a_correction_by_hand_only_what_follows_is_made_anew(done: tuple[Path, Path, Scene]) -> None:
    folder, work, scene = done
    kept, before = (work / "boxes.json").read_text(), times(work)
    content = json.loads(kept)
    content["objects"][0] |= {"category": "tool", "color_rgb": [0.0, 1.0, 0.0]}
    (work / "boxes.json").write_text(json.dumps(content))
    corrected = extract(folder, work, CONFIG)
    assert made_again(work, before) == ["boxes.json", "parts.json", "scene.json"]
    assert (corrected.objects[0].category, corrected.objects[0].color_rgb) == ("tool", (0.0, 1.0, 0.0))
    assert corrected.objects[1:] == scene.objects[1:]
    (work / "boxes.json").write_text(kept)
    assert extract(folder, work, CONFIG) == scene


def test_a_step_is_made_anew_when_its_own_configuration_changes(done: tuple[Path, Path, Scene]) -> None:
    folder, work, scene = done
    before = times(work)
    fewer = replace(CONFIG, boxes=replace(BoxConfig(), min_points=1500))
    assert len(extract(folder, work, fewer).objects) < len(scene.objects)
    assert "boxes.json" in made_again(work, before) and "cloud.npz" not in made_again(work, before)
    assert extract(folder, work, CONFIG) == scene


def test_a_new_picture_makes_everything_anew(done: tuple[Path, Path, Scene]) -> None:
    folder, work, scene = done
    before = times(work)
    os.utime(folder / "depth_000.png")
    assert extract(folder, work, CONFIG) == scene
    assert made_again(work, before) == list(FILES)


def test_damaged_step_files_are_named(done: tuple[Path, Path, Scene]) -> None:
    folder, work, scene = done
    kept = (work / "parts.json").read_text()
    (work / "parts.json").write_text(kept.replace('"category"', '"kategory"', 1))
    with pytest.raises(DataError, match=r"parts\.json: .*kategory.*did you mean 'category'"):
        extract(folder, work, CONFIG)
    (work / "parts.json").write_text(kept)
    with pytest.raises(DataError, match=r"must be \(7,\)"):
        read_labels(work / "clusters.npz", 7)
    for name in ("cloud.npz", "clusters.npz"):
        whole, made = (work / name).read_bytes(), (work / name).stat()
        for damaged in (b"", whole[: len(whole) // 2]):
            (work / name).write_bytes(damaged)
            with pytest.raises(DataError, match=rf"{name} .*delete it"):
                extract(folder, work, CONFIG)
        (work / name).write_bytes(whole)
        os.utime(work / name, ns=(made.st_atime_ns, made.st_mtime_ns))
    assert extract(folder, work, CONFIG) == scene


def test_counts_for_an_object_that_is_not_there_are_refused(done: tuple[Path, Path, Scene], tmp_path: Path) -> None:
    folder, _, _ = done
    config = replace(CONFIG, articulation=ArticulationConfig(counts={"object_99": PartCounts(doors=1)}))
    with pytest.raises(UnknownNameError, match="object_0"):
        extract(folder, tmp_path, config, looked()[1])


@dataclass(frozen=True)
class FakeMasks:
    """Says that the left and the right half of the picture hold one thing each."""

    names: tuple[str, ...] = ("a hinged box", "thing")

    def add(self, color: np.ndarray, found: Percept) -> Percept:
        masks = np.zeros((2, *color.shape[:2]), bool)
        masks[0, :, :320], masks[1, :, 320:] = True, True
        return Percept(names=self.names, scores=np.array([0.9, 0.8]), masks=masks)


def test_masks_of_a_plug_in_part_things_and_names_name_them(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    write_scan(folder, looked()[1])
    scene = extract(folder, tmp_path / "work", replace(CONFIG, perceivers=(FakeMasks(),)))
    assert len(scene.objects) == 2
    assert {(one.category, one.category_confidence) for one in scene.objects} >= {("hinged_box", 0.9)}


def test_a_cabinets_parts_are_found(tmp_path: Path) -> None:
    table, scan = looked(1301)  # a cabinet with two doors, a bowl that touches it, a box
    write_scan(tmp_path, scan)
    scene = extract(tmp_path, tmp_path / "work", CONFIG)
    cabinet = next(one for one in scene.objects if one.category == "cabinet")
    true = next(one for one in table.placed if one.thing.category == "cabinet")
    assert [part.kind for part in cabinet.parts] == ["door", "door"] and true.thing.doors == 2
    assert all(part.source == "panel edges" and 0.0 < part.confidence < 1.0 for part in cabinet.parts)
    assert np.allclose(cabinet.box.half_extents_m, true.thing.half_extents_m, atol=0.006)
    assert read_plain(tmp_path / "work" / "boxes.json", Objects).objects[0].parts == ()


def test_an_empty_table_is_a_scene_and_no_table_is_an_error(tmp_path: Path) -> None:
    scan = looked()[1]
    first = scan.views[0]
    pose = pose_from_plane(first.depth_m, first.view.intrinsics, None)
    # Where the table is empty, its plane is put instead of what stands there.
    v, u = np.mgrid[:480, :640]
    fx, fy, cx, cy = first.view.intrinsics
    up = frames.quat_to_matrix(pose[3:])[2]
    plane = -pose[2] / (up[0] * (u - cx) / fx + up[1] * (v - cy) / fy + up[2])
    empty = np.where((plane > 0) & (plane < 1.4), plane, 0.0).astype(np.float32)
    write_scan(tmp_path / "empty", Scan((ScanView(first.color, empty, first.view),)))
    scene = extract(tmp_path / "empty", tmp_path / "empty" / "work", CONFIG)
    assert scene.objects == () and [one.kind for one in scene.supports] == ["table"]
    x, y, z, *_ = first.view.pose_base_camera
    fallen = replace(first.view, pose_base_camera=(x, y, z, 1.0, 0.0, 0.0, 0.0))
    write_scan(tmp_path / "fallen", Scan((ScanView(first.color, empty, fallen),)))
    with pytest.raises(DataError, match=r"no table or floor.*pose_base_camera right"):
        extract(tmp_path / "fallen", tmp_path / "fallen" / "work", CONFIG)


def test_numbers_go_from_left_to_right_and_leave_small_things_out() -> None:
    points = np.zeros((30, 3))
    points[:10, 1], points[10:20, 1] = -1.0, 1.0
    labels = np.repeat([5, 3, 4], [10, 10, 10])
    labels[29] = 0
    assert in_order(points, labels, 2)[[0, 10, 20, 29]].tolist() == [2, 0, 1, -1]


def test_pictures_of_160_by_120_pixels_show_the_same_things(tmp_path: Path) -> None:
    table, scan = looked()
    (fine,) = scan.views
    fx, fy, cx, cy = fine.view.intrinsics
    color, depth = (np.ascontiguousarray(one[2::4, 2::4]) for one in (fine.color, fine.depth_m))
    coarse = replace(fine.view, intrinsics=(fx / 4, fy / 4, (cx - 2) / 4, (cy - 2) / 4), image_hw=(120, 160))
    write_scan(tmp_path, replace(scan, views=(replace(fine, color=color, depth_m=depth, view=coarse),)))
    scene = extract(tmp_path, tmp_path / "work", CONFIG)
    assert len(scene.objects) == len(table.placed)
    assert max(nearest(scene, one)[2] for one in table.placed) < 0.01
    assert scene.assumptions == ("160 x 120 pixels are few: interpolated to 480 x 360",)
