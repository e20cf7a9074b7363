"""Scenes in which what stands against a side, or hangs on a wall, does so whatever stands for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import ConfigError, DataError
from robot_rl.typed import to_plain
from sim.assets.asset import ROOT
from sim.assets.generators import generate
from sim.assets.variants import scaled_to
from sim.cousins.asking import read_task, suggestions
from sim.cousins.compose import compose
from sim.cousins.folder import read_layout, write_folder
from sim.cousins.geometry import Cousins, Geometry, RandomisedTwin, Twin
from sim.cousins.layout import SceneLayout
from sim.cousins.matching import Candidate
from sim.cousins.placing import Choice
from sim.cousins.scene import OrientedBox, Pose, Scene, SceneObject, Support, read_scene, write_scene
from sim.cousins.tasks import Stack
from sim.cousins.world import CousinWorldConfig, make_cousin_env

WALL_M = 0.75
TABLE = Support("table_0", "table", OrientedBox((0.45, 0.0, -0.01, 1.0, 0.0, 0.0, 0.0), (0.3, 0.6, 0.01)))
WALL = Support("wall_0", "wall", OrientedBox((WALL_M + 0.01, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0), (0.01, 0.6, 0.3)))
Half = tuple[float, float, float]


def box(name: str, x: float, y: float, half: Half, yaw: float = 0.0, bottom: float = 0.0) -> SceneObject:
    pose: Pose = (x, y, bottom + half[2], float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))
    return SceneObject(name, OrientedBox(pose, half), (0.5, 0.5, 0.5), "box", 0.9, support="table_0")


def kitchen() -> Scene:
    """A large box and a can against the wall, a box that hangs there, one against the large one's side, one on it."""
    large = replace(box("large", 0.65, 0.2, (0.1, 0.15, 0.12)), against=("wall_0",))
    small = replace(box("small", 0.72, -0.35, (0.03, 0.03, 0.05)), category="can", against=("wall_0",))
    hung = replace(box("hung", 0.69, -0.1, (0.06, 0.1, 0.08), bottom=0.3), support="wall_0")
    beside = replace(box("beside", 0.62, 0.02, (0.04, 0.03, 0.05)), against=("large",))
    above = replace(box("above", 0.65, 0.2, (0.03, 0.03, 0.03), bottom=0.24), support="large")
    return Scene((TABLE, WALL), (hung, above, beside, large, small))


def candidates(scene: Scene) -> dict[str, list[Candidate]]:
    """A box and a cabinet of other depth, askew by what matching may turn them; boxes for what is small."""
    found: dict[str, list[Candidate]] = {}
    for one in scene.objects:
        assets = [generate("cabinet" if one.name in ("large", "hung") else "box", 3), generate("box", 1)]
        for asset, yaw in zip(assets, (0.2, -0.3), strict=True):
            turn = np.array([0.0, 0.0, 0.0, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
            x, y, z, qw, qx, qy, qz = (float(v) for v in frames.compose(np.asarray(one.box.pose_base), turn))
            half = [share * one.box.half_extents_m[axis] for axis, share in enumerate((0.8, 1.0, 1.1))]
            scaled = scaled_to(asset, (half[0], half[1], half[2]), limit=100.0)
            found.setdefault(one.name, []).append(
                Candidate(scaled, 0.1, {}, (x, y, z, qw, qx, qy, qz), (1.0, 1.0, 1.0))
            )
    return found


def chosen(scene: Scene, geometry: Geometry, seed: int) -> list[Choice]:
    rng = np.random.default_rng(seed)
    return geometry.choose(scene, candidates(scene), lambda name, asset: True, seed, rng)


def gaps_m(layout: SceneLayout, name: str) -> dict[str, float]:
    return {f"{one.kind} {one.other}": one.gap_m for one in layout.placed(name).relations}


def drift_m(spec: mujoco.MjSpec, name: str) -> float:
    """How far something moves in a second."""
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    before = data.body(f"{name}/{ROOT}").xpos.copy()
    for _ in range(500):
        mujoco.mj_step(model, data)
    return float(np.linalg.norm(data.body(f"{name}/{ROOT}").xpos - before))


@pytest.mark.parametrize("geometry", [Twin(), RandomisedTwin(), Cousins(2)])
def test_scenes_keep_what_touches_walls_and_sides(geometry: Geometry) -> None:
    scene = kitchen()
    for seed in range(4):
        choices = chosen(scene, geometry, seed)
        spec, _, layout = compose(scene, choices, seed=seed)
        for name, wanted in {
            "large": {"on table_0", "against wall_0"},
            "small": {"on table_0", "against wall_0"},
            "hung": {"hanging wall_0"},
            "beside": {"on table_0", "against large"},
            "above": {"on large"},
        }.items():
            gaps = gaps_m(layout, name)
            assert set(gaps) == wanted
            assert all(-1e-3 <= gap <= 2e-3 for gap in gaps.values()), (seed, name, gaps)
        assert not layout.placed("hung").is_loose
        before, after = (one.pose_base for one in (choices[0], layout.placed("hung")))
        assert after[2] == pytest.approx(before[2], abs=1e-9) and drift_m(spec, "hung") < 1e-3
        for name in ("large", "hung"):
            placed = layout.placed(name)
            axes = np.abs(frames.quat_to_matrix(np.asarray(placed.pose_base[3:]))[0])
            assert axes.max() == pytest.approx(1.0, abs=1e-4)  # flush: a side is parallel to the wall
            assert placed.pose_base[0] == pytest.approx(WALL_M - axes @ placed.half_extents_m, abs=2e-3)
        assert all(contact.penetration_m < 1e-3 for contact in layout.contacts)


def test_another_start_slides_along_the_wall_alone(tmp_path: Path) -> None:
    scene = kitchen()
    spec, arm, layout = compose(scene, chosen(scene, Twin(), 0))
    write_folder(tmp_path, spec, arm, layout)
    assert read_layout(tmp_path) == layout
    config = CousinWorldConfig(cameras={}, fixed_noise_m=0.03, fixed_noise_yaw_rad=0.2)
    env = make_cousin_env(tmp_path, Stack("above", "beside"), config)
    model, data = env.world.model, env.world.data  # type: ignore[attr-defined]
    along = []
    for seed in range(4):
        env.reset(seed=seed)
        poses = {one.name: data.body(f"{one.name}/{ROOT}") for one in layout.objects}
        for name in ("large", "small", "hung", "beside"):
            rest = layout.placed(name).pose_base
            assert poses[name].xquat == pytest.approx(rest[3:], abs=2e-3)
            if name != "beside":
                assert poses[name].xpos[0] == pytest.approx(rest[0], abs=2e-3)
        along.append([poses[name].xpos[1] - layout.placed(name).pose_base[1] for name in ("large", "small", "hung")])
        apart = poses["large"].xpos[1] - poses["beside"].xpos[1]
        assert apart == pytest.approx(0.18, abs=2e-3)  # it went where the large one went
    assert np.ptp(along, axis=0).min() > 0.005 and model.nq == data.qpos.size


def test_a_correction_by_hand_counts(tmp_path: Path) -> None:
    scene = kitchen()
    write_scene(tmp_path / "scene.json", scene)
    assert read_scene(tmp_path / "scene.json") == scene
    content = to_plain(Scene((TABLE, WALL), (box("object_0", 0.6, 0.1, (0.05, 0.04, 0.06), yaw=0.1),)))
    content["objects"][0] |= {"support": "wall_0"}  # 10 cm before the wall, as seen
    (tmp_path / "scene.json").write_text(json.dumps(content))
    hung = read_scene(tmp_path / "scene.json")
    assert hung.relations("object_0") == (("hanging", "wall_0"),) and not list(suggestions(hung))
    with pytest.raises(ConfigError, match=r"object_0 hangs on a wall .* correct its `support`"):
        read_task("put:object_0:object_0", hung)
    _, _, layout = compose(hung, chosen(hung, Twin(), 0))
    placed = layout.placed("object_0")
    assert placed.pose_base == pytest.approx((WALL_M - 0.05, 0.1, 0.06, 1.0, 0.0, 0.0, 0.0), abs=1e-3)
    assert not placed.is_loose and gaps_m(layout, "object_0") == {"hanging wall_0": pytest.approx(2e-4, abs=1e-5)}
    content["objects"][0] |= {"support": "table_0", "against": ["wall_0"]}
    (tmp_path / "scene.json").write_text(json.dumps(content))
    assert read_scene(tmp_path / "scene.json").relations("object_0") == (("on", "table_0"), ("against", "wall_0"))
    del content["objects"][0]["against"]  # as older versions wrote it
    (tmp_path / "scene.json").write_text(json.dumps(content))
    assert read_scene(tmp_path / "scene.json").objects[0].against == ()
    for change, message in (
        ({"against": ["wal_0"]}, "unknown against of object_0 'wal_0'; valid choices: wall_0"),
        ({"against": ["table_0"]}, "unknown against of object_0 'table_0'"),
        ({"support": "object_0"}, "unknown support of object_0 'object_0'; valid choices: .*table_0, wall_0"),
    ):
        bad = content | {"objects": [content["objects"][0] | change]}
        (tmp_path / "scene.json").write_text(json.dumps(bad))
        with pytest.raises(DataError, match=message):
            read_scene(tmp_path / "scene.json")


def test_what_is_against_two_walls_touches_both() -> None:
    side = Support("wall_1", "wall", OrientedBox((0.45, 0.61, 0.3, 0.7071068, 0.0, 0.0, -0.7071068), (0.01, 0.3, 0.3)))
    seen = replace(box("object_0", 0.68, 0.53, (0.06, 0.06, 0.06)), against=("wall_0", "wall_1"))
    scene = Scene((TABLE, WALL, side), (seen,))
    for seed in range(3):
        _, _, layout = compose(scene, chosen(scene, RandomisedTwin(), seed))
        gaps = gaps_m(layout, "object_0")
        assert len(gaps) == 3 and all(-1e-3 <= gap <= 2e-3 for gap in gaps.values())


def test_what_overlaps_a_wall_without_being_able_to_move_is_reported() -> None:
    other = Support("wall_1", "wall", OrientedBox((0.54, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0), (0.01, 0.6, 0.3)))
    hung = replace(box("object_0", 0.65, 0.0, (0.12, 0.05, 0.05)), support="wall_0", against=("wall_1",))
    scene = Scene((TABLE, WALL, other), (hung,))  # 24 cm between walls 20 cm apart
    _, _, layout = compose(scene, chosen(scene, Twin(), 0))
    assert {(one.first, one.second) for one in layout.contacts} == {("object_0", "wall_0"), ("object_0", "wall_1")}
    assert [one.penetration_m for one in layout.contacts] == pytest.approx([0.02, 0.02], abs=1e-3)
