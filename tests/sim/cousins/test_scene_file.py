"""`scene.json` as a person corrects it: what is wrong is refused by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot_rl.errors import DataError
from sim.assets.generators import generate
from sim.cousins.compose import compose
from sim.cousins.placing import Choice
from sim.cousins.scene import OrientedBox, Part, Scene, SceneObject, View, read_scene, write_scene

POSE = (0.5, 0.0, 0.1, 1.0, 0.0, 0.0, 0.0)
BOX = OrientedBox(POSE, (0.1, 0.2, 0.1))
DOOR = Part("door", OrientedBox(POSE, (0.01, 0.1, 0.1)), (0.5, 0.1, 0.1), (0.0, 0.0, 1.0))
SCENE = Scene(
    (), (SceneObject("object_0", BOX, (0.5, 0.5, 0.5), "cabinet", 0.9, (DOOR,)),), (View(POSE, (9, 9, 4, 3), (6, 8)),)
)
NAN = float("nan")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("objects", 0, "category"), "boat", r"objects\[0\]: unknown category of object_0 'boat'"),
        (("objects", 0, "category_confidence"), NAN, r"objects\[0\].*category_confidence"),
        (("objects", 0, "box", "pose_base", 0), NAN, r"objects\[0\]\.box: pose_base must be finite"),
        (("objects", 0, "box", "half_extents_m", 1), float("inf"), r"objects\[0\]\.box: half_extents_m"),
        (("objects", 0, "box", "half_extents_m", 1), -0.1, r"objects\[0\]\.box: half_extents_m"),
        (("objects", 0, "box", "half_extents_m"), [50.0, 60.0, 70.0], "half_extents_m of object_0 .*millimetres"),
        (("objects", 0, "box", "half_extents_m", 2), 1e-5, "half_extents_m of object_0"),
        (("objects", 0, "parts", 0, "axis_base"), [0.0, 0.0, 0.0], r"parts\[0\]: .*unit direction"),
        (("objects", 0, "parts", 0, "axis_point_base", 0), NAN, r"parts\[0\]: axis_point_base must be finite"),
        (("objects", 0, "parts", 0, "confidence"), -3.0, "confidence of a part"),
        (("views", 0, "intrinsics"), [0.0, 0.0, 0.0, 0.0], r"views\[0\]: intrinsics"),
        (("views", 0, "image_hw"), [-1, 8], r"views\[0\]: .*image_hw positive"),
        (("views", 0, "pose_base_camera", 1), NAN, r"views\[0\]: pose_base_camera"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    path = tmp_path / "scene.json"
    write_scene(path, SCENE)
    assert read_scene(path) == SCENE
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_scene(path)


def test_a_thing_that_cannot_be_built_so_small_is_named() -> None:
    cabinet = generate("cabinet", 0)

    def flat() -> Any:
        spec = cabinet.build()
        spec.geoms[0].size = [0.1, 0.1, -0.001]
        return spec

    asset = type(cabinet)("twin/object_0", "cabinet", "generated", (0.1, 0.1, 0.001), flat)
    with pytest.raises(DataError, match=r"object_0: twin/object_0 cannot be built 200.0 x 200.0 x 2.0 mm large"):
        compose(SCENE, [Choice(SCENE.objects[0], asset, POSE)])
