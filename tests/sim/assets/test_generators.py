"""Every family: its physics, its sites, its frame."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError, UnknownNameError
from sim.assets.asset import CATEGORIES, ROOT, Asset
from sim.assets.cabinet import Cabinet, Panel
from sim.assets.containers import Box, Can
from sim.assets.generators import FAMILIES, generate
from sim.assets.geometry import picture
from sim.assets.hinged_box import HingedBox
from sim.assets.materials import CARTON, FOOD_CAN
from sim.assets.pegs import Peg, Socket
from sim.assets.shapes import Handle
from sim.assets.tools import Tool
from sim.assets.vessels import Bowl, Mug

SEEDS = (0, 1, 2)
MEMBERS = [pytest.param(generate(name, seed), id=f"{name}_{seed}") for name in FAMILIES for seed in SEEDS]
MEMBERS += [pytest.param(Tool("hammer").asset("hammer"), id="hammer")]
ARTICULATED = [one for one in MEMBERS if one.values[0].joints]


def on_a_plane(asset: Asset, *, fixed: bool = False) -> tuple[mujoco.MjModel, mujoco.MjData]:
    spec = asset.build()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1])
    root = spec.body(ROOT)
    root.pos = [0, 0, asset.half_extents_m[2] + (0.01 if fixed else 0.0)]
    if not fixed:
        root.add_freejoint()
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_every_category_has_a_family() -> None:
    assert set(FAMILIES) == set(CATEGORIES)
    with pytest.raises(UnknownNameError, match="hinged_box"):
        generate("chair", 0)


@pytest.mark.parametrize("asset", MEMBERS)
def test_the_frame_is_the_bounding_boxs_and_masses_are_positive(asset: Asset) -> None:
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    vertices = picture(model, data).vertices_m
    np.testing.assert_allclose(vertices.max(0), asset.half_extents_m, atol=1e-5)
    np.testing.assert_allclose(vertices.min(0), -np.array(asset.half_extents_m), atol=1e-5)
    assert (model.body_mass[1:] > 0).all()
    assert {joint.name for joint in asset.joints} == {model.joint(i).name for i in range(model.njnt)}
    assert {a.site for a in asset.affordances} <= {model.site(i).name for i in range(model.nsite)}


@pytest.mark.parametrize("asset", MEMBERS)
def test_it_stands(asset: Asset) -> None:
    model, data = on_a_plane(asset)
    start = data.xpos[1].copy()
    deepest = 0.0
    while data.time < 2.0:
        mujoco.mj_step(model, data)
        deepest = min(deepest, data.contact.dist.min(initial=0.0))
    assert deepest > -1e-3
    assert np.abs(data.qvel).max() < 0.05
    assert np.linalg.norm(data.xpos[1] - start) < 0.005
    assert np.abs(data.qpos[7:]).max(initial=0.0) < 0.01  # nothing opened by itself


@pytest.mark.parametrize("asset", ARTICULATED)
def test_each_joint_opens_to_its_limit_when_its_panel_is_pulled(asset: Asset) -> None:
    for joint in asset.joints:
        model, data = on_a_plane(asset, fixed=True)
        index = model.joint(joint.name).id
        dof, address = model.jnt_dofadr[index], model.jnt_qposadr[index]
        slide = joint.kind == "drawer"
        data.qfrc_applied[dof] = 30.0 if slide else 6.0
        for _ in range(1500):
            mujoco.mj_step(model, data)
        assert 0.98 * joint.open_at < data.qpos[address] < joint.open_at + 0.06  # limits give way a little
        others = np.delete(data.qpos, address)
        assert np.abs(others).max(initial=0.0) < 0.02


@pytest.mark.parametrize("asset", ARTICULATED)
def test_handle_sites_are_on_handles_and_move_outwards(asset: Asset) -> None:
    for affordance in (one for one in asset.affordances if one.kind == "handle"):
        model, data = on_a_plane(asset, fixed=True)
        site, joint = model.site(affordance.site).id, model.joint(affordance.joint)
        panel = int(joint.bodyid[0])
        geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] == panel and model.geom_group[g] == 0]
        before, out = data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3)[:, 0].copy()
        grip = data.geom_xpos[geoms[1:]]  # the first one is the panel
        assert np.linalg.norm(grip - before, axis=1).min() < 0.01
        data.qpos[joint.qposadr[0]] = 0.05
        mujoco.mj_kinematics(model, data)
        moved = data.site_xpos[site] - before
        assert moved @ out > 0.8 * np.linalg.norm(moved) > 1e-4


def openings(asset: Asset) -> list[str]:
    return [one.site for one in asset.affordances if one.kind == "opening"]


@pytest.mark.parametrize(
    "asset", [one for one in MEMBERS if one.values[0].category in ("mug", "bowl", "socket", "hinged_box", "cabinet")]
)
def test_a_ball_dropped_into_an_opening_stays_inside(asset: Asset) -> None:
    for site in openings(asset):
        spec = asset.build()
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1])
        spec.body(ROOT).pos = [0, 0, asset.half_extents_m[2]]
        ball = spec.worldbody.add_body(name="ball")
        ball.add_freejoint()
        ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.005, 0, 0])
        model = spec.compile()
        data = mujoco.MjData(model)
        for joint in asset.joints:
            data.joint(joint.name).qpos = joint.open_at
        mujoco.mj_kinematics(model, data)
        mouth = data.site(site).xpos.copy()
        data.qpos[-7:-4] = mouth + np.array([0.0, 0.0, 0.01])
        while data.time < 1.0:
            mujoco.mj_step(model, data)
        rest = data.body("ball").xpos
        assert rest[2] < mouth[2] - 0.004
        assert rest[2] > 0.0045
        low, high = -np.array(asset.half_extents_m), np.array(asset.half_extents_m)
        reach = [joint.open_at for joint in asset.joints if joint.kind == "drawer"]
        high[0] += max(reach, default=0.0)
        assert (rest[:2] > low[:2]).all() and (rest[:2] < high[:2]).all()
        assert (data.contact.dist > -1e-3).all()


def test_inertia_is_the_analytic_one() -> None:
    x, y, z = 0.08, 0.03, 0.1
    box = Box((x, y, z)).build().compile()
    mass = CARTON.density_kg_m3 * 8 * x * y * z
    assert box.body_mass[1] == pytest.approx(mass)
    expected = mass / 3 * np.array([y**2 + z**2, x**2 + z**2, x**2 + y**2])
    np.testing.assert_allclose(sorted(box.body_inertia[1]), sorted(expected))
    r, h = 0.033, 0.101
    can = Can(r, h).build().compile()
    mass = FOOD_CAN.density_kg_m3 * np.pi * r**2 * h
    side = mass * (3 * r**2 + h**2) / 12
    assert can.body_mass[1] == pytest.approx(mass) == pytest.approx(0.349, rel=0.01)  # the YCB can's
    np.testing.assert_allclose(sorted(can.body_inertia[1]), sorted([side, side, mass * r**2 / 2]))


def test_a_left_door_opens_about_its_left_edge() -> None:
    asset = Cabinet().asset("one")
    model, data = on_a_plane(asset, fixed=True)
    joint = model.joint("door_0")
    assert data.xanchor[joint.id][1] == pytest.approx(-0.2, abs=0.002)
    np.testing.assert_allclose(data.xaxis[joint.id], [0, 0, -1])


def test_the_seed_decides() -> None:
    assert FAMILIES["mug"].sample(np.random.default_rng(3)) == FAMILIES["mug"].sample(np.random.default_rng(3))
    assert generate("mug", 3).half_extents_m != generate("mug", 4).half_extents_m


def test_the_round_socket_has_its_holes_width() -> None:
    for socket in (Socket("round", 0.03), Socket("square", 0.03)):
        for peg, fits in ((0.0298, True), (0.0312, False)):
            spec = socket.build()
            spec.body(ROOT).pos = [0, 0, 0]
            shaft = spec.worldbody.add_body(pos=[0, 0, socket.half_extents_m[2] - 0.01])
            shaft.add_freejoint()
            shaft.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[peg / 2, 0.005, 0])
            model = spec.compile()
            data = mujoco.MjData(model)
            mujoco.mj_forward(model, data)
            assert (data.ncon == 0) == fits


@pytest.mark.parametrize("category", FAMILIES)
def test_what_is_fitted_to_a_small_box_compiles_or_is_refused(category: str) -> None:
    """Six millimetres are too small for some, and no reason for an error of MuJoCo's."""
    for half in ((0.003, 0.003, 0.003), (0.05, 0.05, 0.003), (0.003, 0.05, 0.05)):
        try:
            model = FAMILIES[category].fitted(half).asset("small").build().compile()
        except ConfigError:
            continue
        assert model.body_mass.sum() > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mug(wall_m=0.03),
        lambda: Bowl(foot_m=0.2),
        lambda: Peg(width_m=0.1),
        lambda: HingedBox(lid_top_m=1.0),
        lambda: Cabinet(front_m=1.0),
        lambda: Cabinet(panels=(Panel("door", (0.3, 0.0), (0.1, 0.1), handle=Handle()),)),
        lambda: Box((0.1, 0.1, 0.0)),
        lambda: Tool("screwdriver", head_m=0.1),
        lambda: Mug(handle_m=-0.01),
        lambda: HingedBox(lid_m=0.0005),
        lambda: HingedBox(open_rad=0.0),
        lambda: Box((0.1, float("nan"), 0.1)).asset("x"),
        lambda: Cabinet(panels=(Panel("door", (0.0, float("inf")), (0.05, 0.05)),)).asset("x"),
        lambda: Peg(length_m=float("inf")).asset("x"),
    ],
)
def test_impossible_parameters_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
