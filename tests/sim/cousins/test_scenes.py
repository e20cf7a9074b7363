"""Scenes that are composed, settled, written, read back and acted in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.apps.players import make_cousin_demonstrations
from robot_rl.env import RobotEnv
from robot_rl.errors import ConfigError, DataError, UnknownNameError
from robot_rl.loop import run_episode
from robot_rl.typed import to_plain
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition
from sim.assets.asset import ROOT, Asset
from sim.assets.generators import generate
from sim.assets.pegs import Peg, Socket
from sim.cousins.asking import read_task, suggestions
from sim.cousins.boxes import _in_container
from sim.cousins.compose import compose
from sim.cousins.family import FamilyWorld, cousin_task, scene_folders
from sim.cousins.folder import read_folder, write_folder
from sim.cousins.generate import Order, Recipe, in_processes
from sim.cousins.generate import generate as generate_scenes
from sim.cousins.geometry import Cousins, Geometry, GeometryNoise, Mixture, RandomisedTwin, Twin, perturbed
from sim.cousins.matching import Candidate
from sim.cousins.physics import Physics, PhysicsPosterior, PhysicsPrior
from sim.cousins.placing import Choice
from sim.cousins.scene import OrientedBox, Part, Pose, Scene, SceneObject, Support, View, read_scene, write_scene
from sim.cousins.scene_task import SceneTask
from sim.cousins.tasks import Insert, OpenPart, PutIn, Stack
from sim.cousins.world import CousinWorldConfig, make_cousin_env
from sim.experts import make_expert

TABLE_M = -0.05
FACING = np.pi
EYE = np.array([0.0, -0.5, 0.5])


def at(x: float, y: float, z: float, yaw: float = 0.0) -> Pose:
    return (x, y, z, float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))


def table() -> Support:
    return Support("table_0", "table", OrientedBox(at(0.6, 0.0, TABLE_M - 0.02), (0.45, 0.7, 0.02)))


def view() -> View:
    forward = np.array([0.55, 0.0, 0.05]) - EYE
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    quat = frames.matrix_to_quat(np.stack([right, np.cross(forward, right), forward], 1))
    x, y, z, qw, qx, qy, qz = (float(one) for one in (*EYE, *quat))
    return View((x, y, z, qw, qx, qy, qz), (80.0, 80.0, 48.0, 32.0), (64, 96))


def standing(name: str, half: tuple[float, float, float], x: float, y: float, yaw: float = 0.0) -> SceneObject:
    return SceneObject(name, OrientedBox(at(x, y, TABLE_M + half[2], yaw), half), (0.5, 0.5, 0.5), support="table_0")


def scale_to(asset: Asset, seen: SceneObject) -> tuple[float, float, float]:
    x, y, z = (float(wanted / has) for wanted, has in zip(seen.box.half_extents_m, asset.half_extents_m, strict=True))
    return x, y, z


def cabinet(is_drawer: bool = False) -> SceneObject:
    """0.2 deep, 0.28 wide, 0.26 high at x = 0.6, its front towards the robot; the handle on its left side."""
    seen = standing("object_0", (0.108, 0.14, 0.13), 0.62, 0.0, FACING)
    to_base = np.asarray(seen.box.pose_base)

    def inside(x: float, y: float, z: float) -> Pose:
        pose = frames.compose(to_base, np.array([x, y, z, 1.0, 0.0, 0.0, 0.0]))
        a, b, c, qw, qx, qy, qz = (float(one) for one in pose)
        return (a, b, c, qw, qx, qy, qz)

    panel = OrientedBox(inside(0.06, 0.0, 0.0), (0.008, 0.138, 0.128))
    if is_drawer:
        handle = OrientedBox(inside(0.088, 0.0, 0.02), (0.020, 0.05, 0.005))
        outward = frames.quat_to_matrix(to_base[3:])[:, 0]
        x, y, z = (float(one) for one in outward)
        part = Part("drawer", panel, panel.pose_base[:3], (x, y, z), handle, "user")
    else:
        handle = OrientedBox(inside(0.088, 0.10, 0.0), (0.020, 0.005, 0.05))
        part = Part("door", panel, inside(0.068, -0.138, 0.0)[:3], (0.0, 0.0, -1.0), handle, "user")
    return replace(seen, category="cabinet", category_confidence=0.9, parts=(part,))


def bench(*objects: SceneObject) -> Scene:
    return Scene((table(),), objects, (view(),))


def chosen(seen: SceneObject, asset: Asset) -> Choice:
    height = TABLE_M + asset.half_extents_m[2] + 0.001
    x, y, _, qw, qx, qy, qz = seen.box.pose_base
    return Choice(seen, asset, (x, y, height, qw, qx, qy, qz))


def carrying_scene() -> tuple[Scene, list[Choice]]:
    can, bowl = generate("can", 1), generate("bowl", 2)
    first = standing("can", can.half_extents_m, 0.45, -0.12)
    second = standing("bowl", bowl.half_extents_m, 0.5, 0.12)
    return bench(first, second), [chosen(first, can), chosen(second, bowl)]


def solve(env: RobotEnv, task: SceneTask, seed: int) -> bool:
    env.reset(seed=seed)
    expert = make_expert(task.expert)
    for _ in range(env.config.max_steps):
        _, _, done, cut, _ = env.step(expert.action(env.snapshot(), env.action_spec))
        if done or cut:
            return done
    return False


def test_a_scene_reads_back_what_was_written(tmp_path: Path) -> None:
    scene = bench(cabinet(), standing("object_1", (0.02, 0.02, 0.03), 0.4, 0.2))
    write_scene(tmp_path / "scene.json", scene)
    assert read_scene(tmp_path / "scene.json") == scene
    (tmp_path / "scene.json").write_text('{"supports": [], "objects": [{"name": "x"}]}')
    with pytest.raises(DataError, match="box"):
        read_scene(tmp_path / "scene.json")
    content = to_plain(scene)
    for change, message in (
        ({"name": "object_1"}, "two things are called 'object_1'"),
        ({"name": "table_0"}, "two things are called 'table_0'"),
        ({"name": "../a"}, r"'\.\./a' .* letters"),
        ({"category": "teapot"}, "valid choices: .*bowl.*unknown"),
        ({"color_rgb": [2.0, 0.0, 0.0]}, "0 \\.\\.\\. 1"),
    ):
        first, second = content["objects"]
        (tmp_path / "scene.json").write_text(json.dumps(content | {"objects": [first | change, second]}))
        with pytest.raises(DataError, match=message):
            read_scene(tmp_path / "scene.json")


def test_things_come_to_rest_where_they_stand() -> None:
    scene, choices = carrying_scene()
    lifted = [
        replace(one, pose_base=(*one.pose_base[:2], one.pose_base[2] - 0.01, *one.pose_base[3:])) for one in choices
    ]
    spec, arm, layout = compose(scene, lifted)  # sunk into the table by 1 cm: lifted clear, then dropped
    for one in layout.objects:
        assert one.is_loose
        assert one.pose_base[2] == pytest.approx(TABLE_M + one.half_extents_m[2], abs=1e-3)
    assert all(contact.penetration_m < 1e-3 for contact in layout.contacts)
    assert layout.settled_m < 0.02
    assert spec.compile().body(arm.base_body).pos == pytest.approx([0.0, 0.0, 0.0])


@pytest.mark.parametrize("geometry", [Twin(), RandomisedTwin(), Cousins(2)])
def test_what_stands_on_something_stays_on_it(geometry: Geometry) -> None:
    base = replace(standing("object_0", (0.05, 0.05, 0.03), 0.5, 0.0), category="box")
    item = replace(standing("object_1", (0.02, 0.02, 0.02), 0.51, 0.0), category="box", support="object_0")
    pose = item.box.pose_base
    item = replace(item, box=replace(item.box, pose_base=(*pose[:2], pose[2] + 0.055, *pose[3:])))  # 5 mm too low
    scene = bench(base, item)
    boxes = [generate("box", seed) for seed in range(2)]
    candidates = {
        one.name: [Candidate(asset, 0.1, {}, one.box.pose_base, scale_to(asset, one)) for asset in boxes]
        for one in scene.objects
    }
    for index in range(6):
        rng = np.random.default_rng(index)
        _, _, layout = compose(scene, geometry.choose(scene, candidates, lambda name, asset: True, index, rng))
        below, above = (layout.placed(name) for name in ("object_0", "object_1"))
        assert below.pose_base[2] == pytest.approx(TABLE_M + below.half_extents_m[2], abs=2e-3)
        height = below.half_extents_m[2] + above.half_extents_m[2]
        assert above.pose_base[2] - below.pose_base[2] == pytest.approx(height, abs=2e-3)


def test_overlapping_neighbours_are_moved_aside_and_stay_upright() -> None:
    half = (0.03, 0.03, 0.06)
    scene = bench(*(replace(standing(f"object_{i}", half, 0.5, 0.05 * i), category="box") for i in range(3)))
    _, _, layout = compose(scene, Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0)))
    for i, one in enumerate(layout.objects):
        assert one.pose_base[2] == pytest.approx(TABLE_M + half[2], abs=1e-3)
        assert one.pose_base[:2] == pytest.approx((0.5, 0.06 * i), abs=3e-3)


def test_what_lies_in_a_bowl_stays_in_it() -> None:
    bowl = generate("bowl", 2)
    outer = replace(standing("object_0", bowl.half_extents_m, 0.5, 0.1), category="bowl")
    item = replace(standing("object_1", (0.012, 0.012, 0.03), 0.5, 0.1), category="box")  # through the floor, as fitted
    item = _in_container(item, [outer, item])
    assert item.support == "object_0" and _in_container(outer, [outer, item]).support == "table_0"
    scene = bench(outer, item)
    assert scene.relations("object_1") == (("inside", "object_0"),) and scene.depth("object_1") == 1
    assert not list(suggestions(scene))
    box = Twin().choose(bench(replace(item, support="")), {}, lambda name, asset: True, 0, np.random.default_rng(0))
    _, _, layout = compose(scene, [replace(chosen(outer, bowl), pose_base=outer.box.pose_base), *box])
    below, above = (layout.placed(name) for name in ("object_0", "object_1"))
    assert below.pose_base[2] == pytest.approx(TABLE_M + bowl.half_extents_m[2], abs=2e-3)
    assert np.linalg.norm(np.subtract(above.pose_base[:2], below.pose_base[:2])) < bowl.half_extents_m[0]
    assert above.pose_base[2] > below.pose_base[2] - bowl.half_extents_m[2] + 0.012


def test_overlaps_that_cannot_be_settled_are_reported() -> None:
    seen = cabinet()
    other = replace(seen, name="object_1")
    scene = bench(seen, other)
    choices = Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0))
    _, _, layout = compose(scene, choices)  # two fixed cabinets in one place
    assert max(contact.penetration_m for contact in layout.contacts) > 0.005
    assert {layout.contacts[0].first, layout.contacts[0].second} == {"object_0", "object_1"}


def test_physics_scales_the_model_by_its_factors() -> None:
    scene, choices = carrying_scene()
    plain, _, _ = compose(scene, choices)
    other, _, _ = compose(scene, choices, physics=Physics(friction=2.0, density=3.0))
    before, after = plain.compile(), other.compile()
    assert after.body(f"can/{ROOT}").mass == pytest.approx(3.0 * before.body(f"can/{ROOT}").mass)
    geoms = [i for i in range(before.ngeom) if before.body(before.geom_bodyid[i]).name == f"can/{ROOT}"]
    assert after.geom_friction[geoms, 0] == pytest.approx(2.0 * before.geom_friction[geoms, 0])
    door = bench(cabinet())
    fitted = Twin().choose(door, {}, lambda name, asset: True, 0, np.random.default_rng(0))
    one, _, layout = compose(door, fitted, physics=Physics(joint_friction=2.0, joint_damping=5.0))
    reference, _, _ = compose(door, fitted)
    joint = layout.objects[0].joints[0].name
    stiff, loose = one.compile(), reference.compile()
    dof = int(stiff.joint(joint).dofadr[0])
    assert stiff.dof_frictionloss[dof] == pytest.approx(2.0 * loose.dof_frictionloss[dof])
    assert stiff.dof_damping[dof] == pytest.approx(5.0 * loose.dof_damping[dof])


def test_a_folder_is_portable_and_gives_the_same_model(tmp_path: Path) -> None:
    scene, choices = carrying_scene()
    spec, arm, layout = compose(scene, choices, name="first")
    write_folder(tmp_path / "here" / "first", spec, arm, layout)
    (tmp_path / "here").rename(tmp_path / "there")
    model, read_arm, read_layout = read_folder(tmp_path / "there" / "first")
    assert (read_arm, read_layout) == (arm, layout)
    direct = spec.compile()
    assert (model.nq, model.nu, model.ngeom, model.ncam) == (direct.nq, direct.nu, direct.ngeom, direct.ncam)
    assert model.body_mass == pytest.approx(direct.body_mass, rel=1e-4)
    text = (tmp_path / "there" / "first" / "scene.xml").read_text()
    assert str(tmp_path) not in text and "site-packages" not in text
    (tmp_path / "there" / "first" / "layout.json").write_text("{}")
    with pytest.raises(DataError, match="lacks"):
        read_folder(tmp_path / "there" / "first")


@pytest.mark.parametrize("is_drawer", [False, True])
def test_the_expert_opens_doors_and_drawers(tmp_path: Path, is_drawer: bool) -> None:
    scene = bench(cabinet(is_drawer))
    spec, arm, layout = compose(scene, Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0)))
    write_folder(tmp_path / "scene", spec, arm, layout)
    task = read_task("open:object_0", scene)
    env = make_cousin_env(tmp_path / "scene", task)
    assert [solve(env, task, seed) for seed in range(3)].count(True) >= 2
    opened = env.snapshot().task.scalars["opened"]
    env.reset(seed=0)
    assert opened >= 1.0 or not env.snapshot().task.success
    assert env.snapshot().task.scalars["opened"] == pytest.approx(0.0, abs=0.05)


def test_the_expert_puts_a_can_into_a_bowl_and_a_held_one_does_not_count(tmp_path: Path) -> None:
    scene, choices = carrying_scene()
    spec, arm, layout = compose(scene, choices)
    write_folder(tmp_path / "scene", spec, arm, layout)
    task = PutIn("can", "bowl")
    env = make_cousin_env(tmp_path / "scene", task)
    assert [solve(env, task, seed) for seed in range(3)].count(True) >= 2
    world = env.world
    env.reset(seed=0)
    model, data = world.model, world.data  # type: ignore[attr-defined]
    place = int(model.joint(model.body(f"can/{ROOT}").jntadr[0]).qposadr[0])
    data.qpos[place : place + 3] = data.body(f"bowl/{ROOT}").xpos + np.array([0.0, 0.0, 0.02])
    mujoco.mj_forward(model, data)
    assert world.task_state().success
    fingers = [model.joint(model.actuator_trnid[i, 0]).qposadr[0] for i in (model.nu - 2, model.nu - 1)]
    data.qpos[fingers] = 0.0
    assert not world.task_state().success


def test_the_expert_stacks(tmp_path: Path) -> None:
    small, large = generate("box", 0), generate("box", 1)
    first = standing("small", (0.022, 0.022, 0.025), 0.45, -0.12)
    second = standing("large", (0.035, 0.035, 0.02), 0.5, 0.1)
    scene = bench(first, second)
    assert small.half_extents_m != large.half_extents_m
    spec, arm, layout = compose(scene, Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0)))
    write_folder(tmp_path / "scene", spec, arm, layout)
    task = Stack("small", "large")
    env = make_cousin_env(tmp_path / "scene", task)
    assert [solve(env, task, seed) for seed in range(3)].count(True) >= 2


def test_a_delay_and_another_stiffness_change_how_the_arm_answers(tmp_path: Path) -> None:
    scene, choices = carrying_scene()
    reached = {}
    for name, physics in (("quick", Physics()), ("late", Physics(delay_s=0.1)), ("soft", Physics(arm_gain=0.3))):
        spec, arm, layout = compose(scene, choices, physics=physics)
        write_folder(tmp_path / name, spec, arm, layout)
        env = make_cousin_env(tmp_path / name, PutIn("can", "bowl"))
        env.reset(seed=0)
        start = env.snapshot().arm.pose_base_tcp[2]
        env.step(np.array([0.0, 0.0, -1.0, 0.0, 0.0]))
        reached[name] = env.snapshot().arm.pose_base_tcp[2] - start
    assert reached["late"] == pytest.approx(0.0, abs=2e-3)  # one period of 0.1 s is over before the command arrives
    assert reached["quick"] > 0.008
    assert abs(reached["soft"] - reached["quick"]) > 5e-4


def test_seeds_repeat_and_move_what_they_should(tmp_path: Path) -> None:
    scene, choices = carrying_scene()
    spec, arm, layout = compose(scene, choices)
    write_folder(tmp_path / "scene", spec, arm, layout)
    config = CousinWorldConfig(loose_noise_m=0.02, pose_noise_m=0.001, pose_bias_m=0.003)
    first, second = (make_cousin_env(tmp_path / "scene", PutIn("can", "bowl"), config) for _ in range(2))
    for seed in (3, 4):
        a, b = first.reset(seed=seed)[0]["state"], second.reset(seed=seed)[0]["state"]
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.reset(seed=3)[0]["state"], b)
    places = []
    for seed in range(30):
        first.reset(seed=seed)
        world = first.world
        places.append(world.data.body(f"can/{ROOT}").xpos[:2].copy())  # type: ignore[attr-defined]
    spread = np.ptp(places, axis=0)
    assert (spread > 0.02).all() and (spread < 0.05).all()


def test_fixed_things_move_only_where_the_configuration_says(tmp_path: Path) -> None:
    scene = bench(cabinet())
    spec, arm, layout = compose(scene, Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0)))
    write_folder(tmp_path / "scene", spec, arm, layout)
    task = OpenPart("object_0")
    still = make_cousin_env(tmp_path / "scene", task)
    moving = make_cousin_env(tmp_path / "scene", task, CousinWorldConfig(fixed_noise_m=0.03))
    handles = {}
    for name, env in (("still", still), ("moving", moving)):
        handles[name] = []
        for seed in range(6):
            env.reset(seed=seed)
            handles[name].append(env.snapshot().task.poses["handle"][:3])
    assert np.ptp(handles["still"], axis=0) == pytest.approx(0.0, abs=1e-4)
    assert (np.ptp(handles["moving"], axis=0)[:2] > 0.005).all()
    first = handles["moving"][0]
    moving.reset(seed=0)  # drawn from the first place, not from the last one
    assert moving.snapshot().task.poses["handle"][:3] == pytest.approx(first)


def test_a_task_that_the_scene_lacks_says_what_there_is(tmp_path: Path) -> None:
    scene = bench(cabinet(), replace(standing("object_1", (0.03, 0.03, 0.05), 0.4, 0.2), category="can"))
    assert list(suggestions(scene)) == ["open:object_0"]
    task = read_task("open:object_0", scene)
    assert isinstance(task, OpenPart) and task.kind == "door"
    assert task.handle_base == pytest.approx(scene.objects[0].parts[0].handle.pose_base[:3])  # type: ignore[union-attr]
    with pytest.raises(UnknownNameError, match="object_0, object_1"):
        read_task("open:object_7", scene)
    with pytest.raises(UnknownNameError, match="open, put"):
        read_task("shake:object_0", scene)
    with pytest.raises(ConfigError, match="no part of object_1 has a handle"):
        read_task("open:object_1", scene)
    with pytest.raises(ConfigError, match=r"object_0 has 1 part\(s\), counted from 0; got '-1'"):
        read_task("open:object_0:-1", scene)
    with pytest.raises(ConfigError, match="open:OBJECT or"):
        read_task("open", scene)
    with pytest.raises(ConfigError, match="two different objects"):
        read_task("put:object_1:object_1", scene)
    spec, arm, layout = compose(scene, Twin().choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0)))
    write_folder(tmp_path / "scene", spec, arm, layout)
    with pytest.raises(ConfigError, match="has no opening"):
        make_cousin_env(tmp_path / "scene", PutIn("object_1", "object_0"))


def test_errors_of_a_look_have_the_size_that_is_asked_for() -> None:
    seen, noise = cabinet(), GeometryNoise(0.02, 0.1, 0.05, 0.01, 0.2)
    rng = np.random.default_rng(0)
    drawn = [perturbed(seen, noise, rng) for _ in range(400)]
    offsets = np.array([one.box.pose_base[:2] for one in drawn]) - np.asarray(seen.box.pose_base[:2])
    assert offsets.std(0) == pytest.approx([0.02, 0.02], rel=0.15)
    sizes = np.log(np.array([one.box.half_extents_m for one in drawn]) / seen.box.half_extents_m)
    assert sizes.std(0) == pytest.approx([0.05] * 3, rel=0.15)
    for one in drawn:  # still on the table
        assert one.box.corners()[:, 2].min() == pytest.approx(TABLE_M, abs=1e-9)
    none = perturbed(seen, GeometryNoise(0.0, 0.0, 0.0, 0.0, 0.0), rng)
    assert none.box.pose_base == pytest.approx(seen.box.pose_base)
    part, other = seen.parts[0], none.parts[0]
    assert other.panel.pose_base == pytest.approx(part.panel.pose_base)
    assert other.axis_point_base == pytest.approx(part.axis_point_base)
    assert other.handle.pose_base == pytest.approx(part.handle.pose_base)  # type: ignore[union-attr]


def test_no_cousins_are_the_twin_and_what_cannot_be_drawn_is_refused() -> None:
    scene = bench(cabinet())
    (choice,) = Cousins(0).choose(scene, {}, lambda name, asset: True, 0, np.random.default_rng(0))
    assert choice.asset.name == "twin/object_0" and choice.distance == 0.0
    with pytest.raises(ConfigError, match="0 is the twin"):
        Cousins(-1)
    with pytest.raises(ConfigError, match="at least one part"):
        Mixture(())
    with pytest.raises(UnknownNameError, match="panda, ur5e"):
        Recipe(robot="pandaa")


def test_assets_take_the_colour_that_was_seen() -> None:
    can = generate("can", 1)
    seen = replace(standing("can", can.half_extents_m, 0.45, -0.12), color_rgb=(0.1, 0.6, 0.3))
    choices = Twin().choose(bench(seen), {}, lambda name, asset: True, 0, np.random.default_rng(0))
    spec, _, layout = compose(bench(seen), choices)
    drawn = [geom.rgba[:3] for geom in spec.body(f"{layout.objects[0].name}/{ROOT}").geoms if geom.group == 1]
    assert np.median(drawn, axis=0) == pytest.approx(seen.color_rgb, abs=1e-3)


def test_priors_and_posteriors_are_drawn_from_as_they_say() -> None:
    rng = np.random.default_rng(0)
    prior = PhysicsPrior(friction=(0.5, 2.0), delay_s=(0.02, 0.06))
    drawn = [prior.sample(rng) for _ in range(2000)]
    frictions = np.log([one.friction for one in drawn])
    assert frictions.min() > np.log(0.5) and frictions.max() < np.log(2.0)
    assert frictions.std() == pytest.approx(np.log(4.0) / np.sqrt(12.0), rel=0.05)
    assert np.mean([one.delay_s for one in drawn]) == pytest.approx(0.04, abs=1e-3)
    assert prior.nominal().friction == pytest.approx(1.0)
    spread = Physics(0.1, 0.0, 0.0, 0.0, 0.0, 0.004)
    posterior = PhysicsPosterior(Physics(friction=1.5, delay_s=0.05), spread)
    drawn = [posterior.sample(rng) for _ in range(2000)]
    assert np.log([one.friction for one in drawn]).std() == pytest.approx(0.1, rel=0.06)
    assert np.std([one.delay_s for one in drawn]) == pytest.approx(0.004, rel=0.06)
    assert {one.density for one in drawn} == {1.0}
    with pytest.raises(ConfigError, match="friction"):
        PhysicsPrior(friction=(0.0, 1.0))


def test_generation_resumes_and_does_not_depend_on_processes(tmp_path: Path) -> None:
    scene = bench(cabinet())
    task = read_task("open:object_0", scene)
    recipe = Recipe(Mixture((Twin(), RandomisedTwin())), scenes=3, seed=5)
    order = Order(scene, {}, task, recipe, tmp_path / "one")
    assert len(list(generate_scenes(order))) == 3
    other = replace(order, target=tmp_path / "two")
    assert len(list(generate_scenes(other, in_processes(2)))) == 3
    for first, second in zip(scene_folders(order.target), scene_folders(other.target), strict=True):
        assert (first / "scene.xml").read_text() == (second / "scene.xml").read_text()
    kept = (tmp_path / "one" / "scene_0001" / "layout.json").stat().st_mtime_ns
    (tmp_path / "one" / "scene_0002" / "layout.json").unlink()
    assert [one.name for one in generate_scenes(order)] == ["scene_0002"]
    assert (tmp_path / "one" / "scene_0001" / "layout.json").stat().st_mtime_ns == kept
    drawn = json.loads((tmp_path / "one" / "scene_0001" / "layout.json").read_text())
    twin = json.loads((tmp_path / "one" / "scene_0000" / "layout.json").read_text())
    assert drawn["objects"][0]["half_extents_m"] != twin["objects"][0]["half_extents_m"]
    assert drawn["physics"] != twin["physics"]


def test_a_family_takes_the_scene_of_the_seed(tmp_path: Path) -> None:
    scene = bench(cabinet())
    task = read_task("open:object_0", scene)
    recipe = Recipe(RandomisedTwin(), scenes=3)
    list(generate_scenes(Order(scene, {}, task, recipe, tmp_path / "scenes")))
    cousins = cousin_task(tmp_path / "scenes", task)
    world = cousins.build_world("panda")
    assert isinstance(world, FamilyWorld)
    env = RobotEnv(world, cousins.env)
    names = []
    for seed in range(6):
        env.reset(seed=seed)
        names.append(world.active.layout.name)
    assert names == ["scene_0000", "scene_0001", "scene_0002"] * 2
    observation, _ = env.reset(seed=1)
    env.observation_spec.check(observation)
    with pytest.raises(ConfigError, match="at least one"):
        cousin_task(tmp_path / "nothing", task).build_world("panda")


def test_a_curriculum_goes_from_the_nearest_scene_to_all(tmp_path: Path) -> None:
    scene = bench(cabinet())
    task = read_task("open:object_0", scene)
    list(generate_scenes(Order(scene, {}, task, Recipe(RandomisedTwin(), scenes=3), tmp_path / "scenes")))
    for name, far in (("scene_0000", 0.9), ("scene_0001", 0.1), ("scene_0002", 0.5)):
        path = tmp_path / "scenes" / name / "layout.json"
        layout = json.loads(path.read_text())
        layout["objects"][0]["distance"] = far
        path.write_text(json.dumps(layout))
    cousins = replace(cousin_task(tmp_path / "scenes", task), curriculum=6)
    world = cousins.build_world("panda")
    assert isinstance(world, FamilyWorld)
    seen = []
    for seed in range(9):
        world.reset(seed)
        seen.append(world.active.layout.name)
    assert set(seen[:3]) == {"scene_0001"}  # one, then two, then three scenes
    assert set(seen[3:6]) == {"scene_0001", "scene_0002"}
    assert set(seen[6:]) == {"scene_0000", "scene_0001", "scene_0002"}
    with pytest.raises(ConfigError, match="curriculum must not be negative"):
        replace(cousins, curriculum=-1).build_world("panda")


def test_noise_is_executed_and_the_experts_action_kept_as_what_was_meant(tmp_path: Path) -> None:
    scene = bench(cabinet())
    task = read_task("open:object_0", scene)
    list(generate_scenes(Order(scene, {}, task, Recipe(Twin(), Physics(), 1), tmp_path / "scenes")))
    made = make_cousin_demonstrations(cousin_task(tmp_path / "scenes", task), 0.3)
    control, _ = made.enter(0, 5)
    heard: list[Transition] = []

    class Ear:
        def on_start(self, start: EpisodeStart) -> None: ...

        def on_step(self, transition: Transition) -> None:
            heard.append(transition)

        def on_end(self, end: EpisodeEnd) -> None: ...

    run_episode(made.env, control, [Ear()], phase="demo", seed=5)
    proposed = np.stack([one.proposed_action for one in heard])
    executed = np.stack([one.executed_action for one in heard])
    free = (np.abs(executed) < 1.0)[:, :3]  # not clipped
    error = (executed - proposed)[:, :3][free]
    # stationary deviation of the injected noise: 0.3 / sqrt(1 - 0.5^2)
    assert 0.2 < error.std() < 0.5 and abs(error.mean()) < 0.1
    toggled = executed[:, -1] != 0.0  # the gripper is left alone; 0 is executed where it is open or shut already
    np.testing.assert_array_equal(executed[toggled, -1], proposed[toggled, -1])
    made.enter(0, 5)
    heard.clear()
    run_episode(made.env, control, [Ear()], phase="demo", seed=5)
    np.testing.assert_array_equal(np.stack([one.executed_action for one in heard]), executed)
    made.env.close()


def test_pegs_of_a_family_go_into_its_sockets(tmp_path: Path) -> None:
    """The twins of a thing and its socket are drawn one by one, and a plain box is the peg that is seen."""
    peg, socket = Peg("square", 0.024, 0.06, 0.03, 0.03).asset("peg"), Socket("square", 0.027, 0.04).asset("socket")
    first = replace(standing("object_0", peg.half_extents_m, 0.45, -0.12, 0.3), category="peg")
    second = replace(standing("object_1", socket.half_extents_m, 0.5, 0.12, -0.5), category="socket")
    scene = bench(first, second)
    assert "insert:object_0:object_1" in suggestions(scene)
    task = read_task("insert:object_0:object_1", scene)
    (folder,) = generate_scenes(Order(scene, {}, task, Recipe(Twin(), Physics(), 1), tmp_path))
    env = make_cousin_env(folder, task)
    assert solve(env, task, 1)
    env.close()


def test_the_insert_expert_puts_a_peg_into_its_socket(tmp_path: Path) -> None:
    peg, socket = Peg("square", 0.024, 0.06, 0.03, 0.03).asset("peg"), Socket("square", 0.027, 0.04).asset("socket")
    first = standing("peg", peg.half_extents_m, 0.45, -0.12)
    second = standing("socket", socket.half_extents_m, 0.5, 0.12)
    write_folder(tmp_path / "scene", *compose(bench(first, second), [chosen(first, peg), chosen(second, socket)]))
    task = Insert("peg", "socket")
    env = make_cousin_env(tmp_path / "scene", task)
    assert [solve(env, task, seed) for seed in range(3)] == [True] * 3
    snapshot = env.snapshot()
    tip, hole = snapshot.task.poses["tip"][:3], snapshot.task.poses["target"][:3]
    assert hole[2] - tip[2] > 0.01 and np.linalg.norm((tip - hole)[:2]) < 0.005
    env.reset(seed=0)
    assert not env.step(np.zeros(env.action_spec.dim))[2]  # not done by itself
    env.close()
