"""What hangs on a wall and what stands against a side, found by geometry: in noisy pictures and for known boxes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import DataError
from sim.cousins.extraction import ExtractionConfig, extract
from sim.cousins.planes import PlaneConfig, find_supports, top_plane
from sim.cousins.relations import RelationConfig, drawn_to, is_seen_under, with_touches
from sim.cousins.scan import write_scan
from sim.cousins.scene import OrientedBox, Scene, SceneObject
from tests.sim.cousins import solids
from tests.sim.cousins.rooms import WALL_M, Block, against_wall, cabinet, look
from tests.sim.cousins.test_placing import TABLE, WALL, box
from tests.sim.cousins.test_planes import patch

RED, BLUE = (0.7, 0.2, 0.1), (0.2, 0.3, 0.7)
CONFIG = RelationConfig()


def found(folder: Path, *blocks: Block) -> Scene:
    scan = look(*blocks)
    write_scan(folder, scan)
    return extract(folder, folder / "work", ExtractionConfig(), scan)


@pytest.fixture(scope="module")
def room(opengl: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scene]:
    """A scan's folder and its scene: a cabinet against the wall, and a box that hangs there."""
    folder = tmp_path_factory.mktemp("room")
    hung = against_wall(-0.12, (0.05, 0.08, 0.06), BLUE, z=0.15)
    return folder, found(folder, *cabinet(0.15, (0.07, 0.11, 0.1)), hung)


def test_a_cabinet_against_the_wall_and_a_box_that_hangs_are_told_apart(room: tuple[Path, Scene]) -> None:
    scene = room[1]
    stands, hangs = scene.objects
    assert stands.category == "cabinet" and len(stands.parts) == 2
    assert scene.relations(stands.name) == (("on", "table_0"), ("against", "wall_0"))
    assert scene.relations(hangs.name) == (("hanging", "wall_0"),)
    wall = top_plane(next(one for one in scene.supports if one.kind == "wall"))
    for one, position, half in (
        (stands, (WALL_M - 0.0825, 0.15, 0.1), (0.0825, 0.11, 0.1)),  # with its handles
        (hangs, (WALL_M - 0.05, -0.12, 0.21), (0.08, 0.05, 0.06)),
    ):
        assert one.box.pose_base[:3] == pytest.approx(position, abs=0.005)
        assert one.box.half_extents_m == pytest.approx(half, abs=0.005)
        assert wall.height_m(one.box.corners()).min() == pytest.approx(0.0, abs=5e-4)


def test_what_touches_what_is_corrected_by_hand(room: tuple[Path, Scene]) -> None:
    folder = room[0]
    boxes, config = folder / "work" / "boxes.json", ExtractionConfig()
    content = json.loads(boxes.read_text())
    stands, hangs = content["objects"]
    stands["against"], hangs["support"], hangs["against"] = [], "table_0", ["wall_0", "object_0"]
    boxes.write_text(json.dumps(content))
    corrected = extract(folder, folder / "work", config)
    assert corrected.relations("object_0") == (("on", "table_0"),)
    assert corrected.relations("object_1") == (("on", "table_0"), ("against", "wall_0"), ("against", "object_0"))
    boxes.write_text(json.dumps({"objects": [hangs]}))  # the cabinet is taken out, but still named
    with pytest.raises(DataError, match=r"boxes.json .* unknown against of object_1 'object_0'; .*wall_0; correct it"):
        extract(folder, folder / "work", config)


@pytest.mark.usefixtures("opengl")
def test_what_stands_before_the_wall_touches_nothing(tmp_path: Path) -> None:
    apart = Block((WALL_M - 0.09, 0.12, 0.06), (0.06, 0.08, 0.06), RED)  # 3 cm
    behind = Block((WALL_M - 0.12, -0.15, 0.12), (0.03, 0.08, 0.12), BLUE)
    hides = Block((WALL_M - 0.3, -0.15, 0.07), (0.03, 0.16, 0.07), RED)  # its lower half
    scene = found(tmp_path, apart, behind, hides)
    assert len(scene.objects) == 3
    assert all(scene.relations(one.name) == (("on", "table_0"),) for one in scene.objects)


@pytest.mark.parametrize(
    ("gap_m", "yaw", "is_round", "touches"),
    [
        (0.015, 0.0, False, True),
        (0.015, 0.1, False, True),
        (-0.01, 0.0, False, True),
        (0.025, 0.0, False, False),
        (0.015, 0.3, False, False),  # only an edge is near
        (0.015, 0.6, True, True),
        (0.025, 0.0, True, False),
    ],
)
def test_a_side_near_a_wall_and_parallel_to_it_touches_it(
    gap_m: float, yaw: float, is_round: bool, touches: bool
) -> None:
    half = (0.04, 0.04, 0.06) if is_round else (0.04, 0.08, 0.06)
    seen = box("object_0", 0.0, 0.1, half, yaw)
    reach = 0.04 if is_round else seen.box.corners()[:, 0].max()
    seen = replace(seen, box=replace(seen.box, pose_base=(WALL_M - gap_m - reach, *seen.box.pose_base[1:])))
    (one,) = with_touches([seen], {"object_0"} if is_round else (), (TABLE, WALL), CONFIG)
    assert one.against == (("wall_0",) if touches else ())
    if is_round or not touches:
        assert one.box == seen.box
    else:
        assert one.box.corners()[:, 0].max() == pytest.approx(WALL_M, abs=1e-6)
        front = [each.corners()[:, 0].min() for each in (one.box, seen.box)]
        assert one.box.half_extents_m[1:] == seen.box.half_extents_m[1:] and np.ptp(front) < 0.01


def test_the_smaller_is_against_the_larger_ones_side() -> None:
    large = box("large", 0.4, 0.0, (0.1, 0.15, 0.12))
    beside = box("beside", 0.4, 0.203, (0.04, 0.05, 0.05))

    def others(*objects: SceneObject, is_round: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [one.against for one in with_touches(objects, is_round, (TABLE, WALL), CONFIG)]

    assert others(large, beside) == [(), ("large",)] and others(beside, large) == [("large",), ()]
    assert others(large, box("far", 0.4, 0.21, (0.04, 0.05, 0.05))) == [(), ()]
    assert others(large, box("askew", 0.4, 0.21, (0.04, 0.05, 0.05), yaw=0.5)) == [(), ()]
    assert others(large, box("past", 0.535, 0.2, (0.04, 0.05, 0.05))) == [(), ()]  # faces it over 5 mm alone
    above = replace(box("above", 0.4, 0.0, (0.05, 0.05, 0.05), bottom=0.24), support="large")
    assert others(large, above) == [(), ()]
    assert others(large, beside, is_round=("large",)) == [(), ()]
    can = box("can", 0.4, 0.19, (0.04, 0.04, 0.05), yaw=0.7)
    assert others(large, can, is_round=("can",)) == [(), ("large",)]


def test_what_nothing_is_seen_under_may_stand() -> None:
    hung = OrientedBox((0.0, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0), (0.05, 0.1, 0.08))
    behind = solids.cloud(patch((0.1, 0.2), (-0.1, 0.1), 0.02, 4000))
    through = replace(behind, origins=np.tile((-0.3, 0.0, 0.2), (4000, 1)))
    assert is_seen_under(hung, 0.0, through, CONFIG)
    before = replace(through, points=through.points - (0.3, 0.0, 0.0))
    assert not is_seen_under(hung, 0.0, before, CONFIG)  # something hides it
    assert not is_seen_under(hung, 0.2, through, CONFIG)  # it ends 2 cm above the ground


def test_a_box_is_drawn_out_to_the_wall_by_the_side_that_faces_it() -> None:
    seen = box("object_0", 0.65, 0.1, (0.03, 0.08, 0.06), yaw=np.pi / 2 + 0.05).box
    drawn = drawn_to(seen, WALL)
    assert drawn.half_extents_m[0] == 0.03 and drawn.half_extents_m[2] == 0.06
    assert drawn.corners()[:, 0].max() == pytest.approx(WALL_M)
    assert drawn.corners()[:, 0].min() == pytest.approx(0.57, abs=1e-6)


def test_the_front_of_a_large_cabinet_is_no_wall() -> None:
    wall = patch((-0.8, 0.8), (0.0, 0.9), 0.0, 40000)[:, [2, 0, 1]] + (1.0, 0.0, 0.0)
    front = patch((-0.3, 0.3), (0.4, 0.9), 0.0, 20000)[:, [2, 0, 1]] + (0.7, 0.0, 0.0)
    points = np.concatenate([patch((0.1, 1.0), (-0.6, 0.6), 0.0, 30000), wall, front])
    supports = find_supports(points, np.array([-0.5, 0.0, 1.0]), PlaneConfig())
    assert [one.name for one in supports] == ["table_0", "wall_0"]
    assert top_plane(supports[1]).offset_m == pytest.approx(-1.0, abs=2e-3)
