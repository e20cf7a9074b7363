"""Twins: what extraction says of an object comes back out of the model made from it."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import ConfigError
from sim.assets.asset import Asset
from sim.assets.fit import fit_asset
from sim.assets.generators import generate
from sim.assets.geometry import picture
from sim.assets.variants import scaled_to
from sim.cousins.scene import OrientedBox, Part, Pose, SceneObject

YAW = 0.4
POSE = np.array([0.5, -0.1, 0.3, np.cos(YAW / 2), 0.0, 0.0, np.sin(YAW / 2)])


def placed(x: float, y: float, z: float) -> Pose:
    """A place in the object's frame, with its axes, in the base frame."""
    return tuple(map(float, frames.compose(POSE, np.array([x, y, z, 1.0, 0.0, 0.0, 0.0]))))  # type: ignore[return-value]


def turned(direction: tuple[float, float, float]) -> tuple[float, float, float]:
    return tuple(map(float, frames.quat_to_matrix(POSE[3:]) @ direction))  # type: ignore[return-value]


def cabinet(hinge: str = "right") -> SceneObject:
    """A drawer over a door in a box of 0.3 x 0.4 x 0.5 m; bars stand out 0.03 m."""
    side = 1.0 if hinge == "right" else -1.0
    drawer = OrientedBox(placed(0.11, 0.0, 0.17), (0.01, 0.19, 0.07))
    door = OrientedBox(placed(0.11, 0.01, -0.08), (0.01, 0.18, 0.15))
    parts = (
        Part(
            "drawer",
            drawer,
            placed(0.12, 0, 0.17)[:3],
            turned((1, 0, 0)),
            OrientedBox(placed(0.14, 0, 0.18), (0.01, 0.06, 0.005)),
        ),
        Part(
            "door",
            door,
            placed(0.12, 0.01 + 0.18 * side, -0.08)[:3],
            turned((0, 0, side)),
            OrientedBox(placed(0.14, 0.01 - 0.15 * side, -0.05), (0.01, 0.005, 0.05)),
        ),
    )
    box = OrientedBox(placed(0, 0, 0), (0.15, 0.2, 0.25))
    return SceneObject("object_0", box, (0.5, 0.5, 0.5), "cabinet", 0.9, parts)


def compiled(asset: Asset) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


@pytest.mark.parametrize("hinge", ["left", "right"])
def test_a_cabinet_comes_back_within_a_millimetre(hinge: str) -> None:
    asset = fit_asset(cabinet(hinge))
    model, data = compiled(asset)
    assert asset.name == "twin/object_0"
    assert [joint.kind for joint in asset.joints] == ["drawer", "door"]
    np.testing.assert_allclose(picture(model, data).vertices_m.max(0), [0.15, 0.2, 0.25], atol=1e-3)
    np.testing.assert_allclose(picture(model, data).vertices_m.min(0), [-0.15, -0.2, -0.25], atol=1e-3)
    for body, y, z, half_y, half_z in (("drawer_0", 0.0, 0.17, 0.19, 0.07), ("door_1", 0.01, -0.08, 0.18, 0.15)):
        panels = [g for g in np.flatnonzero(model.geom_bodyid == model.body(body).id) if model.geom_group[g] == 0]
        index = int(max(panels, key=lambda g: model.geom_size[g][1] * model.geom_size[g][2] / model.geom_size[g][0]))
        np.testing.assert_allclose(data.geom_xpos[index][1:], [y, z], atol=1e-3)
        np.testing.assert_allclose(model.geom_size[index][1:], [half_y, half_z], atol=1e-3)
        assert data.geom_xpos[index][0] + model.geom_size[index][0] == pytest.approx(0.12, abs=1e-3)
    side = 1.0 if hinge == "right" else -1.0
    np.testing.assert_allclose(data.xanchor[model.joint("door_1").id][1:], [0.01 + 0.18 * side, -0.08], atol=2e-3)
    np.testing.assert_allclose(data.xaxis[model.joint("door_1").id], [0, 0, side], atol=1e-9)
    np.testing.assert_allclose(data.site("drawer_0_handle").xpos, [0.145, 0.0, 0.18], atol=1e-3)
    np.testing.assert_allclose(data.site("door_1_handle").xpos, [0.145, 0.01 - 0.15 * side, -0.05], atol=1e-3)


def test_a_lid_keeps_its_hinge() -> None:
    up = np.array([0.5**0.5, 0.0, -(0.5**0.5), 0.0])  # x to z
    pose = frames.compose(POSE, np.array([0.0, 0.0, 0.045, *up]))
    panel = OrientedBox(tuple(map(float, pose)), (0.005, 0.08, 0.1))  # type: ignore[arg-type]
    part = Part("lid", panel, placed(0.0, 0.08, 0.05)[:3], turned((1, 0, 0)))
    seen = SceneObject("b", OrientedBox(placed(0, 0, 0), (0.1, 0.08, 0.05)), (0, 0, 0), parts=(part,))
    asset = fit_asset(seen)
    model, data = compiled(asset)
    assert asset.category == "hinged_box"
    np.testing.assert_allclose(data.xanchor[0][1:], [0.08, 0.05], atol=1e-3)
    data.qpos[0] = 1.0
    mujoco.mj_kinematics(model, data)
    assert data.body("lid").xmat.reshape(3, 3)[2] @ [0, -1, 0] > 0.8  # what was forward along the lid points up


@pytest.mark.parametrize(
    "category", ["unknown", "mug", "bowl", "bottle", "can", "tool", "peg", "socket", "connector", "shelf"]
)
@pytest.mark.parametrize("half", [(0.06, 0.045, 0.05), (0.09, 0.033, 0.03)])
def test_every_category_fills_its_box(category: str, half: tuple[float, float, float]) -> None:
    asset = fit_asset(SceneObject("o", OrientedBox(placed(0, 0, 0), half), (0, 0, 0), category))
    np.testing.assert_allclose(asset.half_extents_m, half, atol=1e-3)
    model, data = compiled(asset)
    np.testing.assert_allclose(picture(model, data).vertices_m.max(0), half, atol=1e-3)


def test_a_lying_can_lies() -> None:
    asset = fit_asset(SceneObject("o", OrientedBox(placed(0, 0, 0), (0.06, 0.033, 0.033)), (0, 0, 0), "can"))
    _, data = compiled(asset)
    np.testing.assert_allclose(np.abs(data.geom_xmat[0].reshape(3, 3)[:, 2]), [1, 0, 0], atol=1e-6)


def test_parts_that_face_elsewhere_are_refused() -> None:
    seen = cabinet()
    box = OrientedBox(tuple(map(float, [*POSE[:3], np.cos(1.0), 0, 0, np.sin(1.0)])), (0.15, 0.2, 0.25))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"face the \+x"):
        fit_asset(SceneObject("o", box, (0, 0, 0), parts=seen.parts))


def test_scaling_keeps_density_and_opens_further() -> None:
    asset = generate("cabinet", 1)
    half = asset.half_extents_m
    wide = scaled_to(asset, (1.2 * half[0], half[1], 0.9 * half[2]))
    before, after = asset.build().compile(), wide.build().compile()
    assert after.body_mass.sum() == pytest.approx(1.2 * 0.9 * before.body_mass.sum(), rel=1e-3)
    np.testing.assert_allclose(wide.half_extents_m, [1.2 * half[0], half[1], 0.9 * half[2]], rtol=1e-6)
    drawer = next(i for i, joint in enumerate(asset.joints) if joint.kind == "drawer")
    assert wide.joints[drawer].open_at == pytest.approx(1.2 * asset.joints[drawer].open_at)
    with pytest.raises(ConfigError, match=r"beyond the limit of 1\.50"):
        scaled_to(asset, (2 * half[0], half[1], half[2]))


def test_scaling_a_bowl_stretches_its_wall() -> None:
    asset = generate("bowl", 0)
    x, y, z = asset.half_extents_m
    oval = scaled_to(asset, (1.3 * x, y, z))
    model, data = compiled(oval)
    np.testing.assert_allclose(picture(model, data).vertices_m.max(0), [1.3 * x, y, z], rtol=1e-5)
    assert model.body_mass.sum() == pytest.approx(1.3 * asset.build().compile().body_mass.sum(), rel=0.01)
