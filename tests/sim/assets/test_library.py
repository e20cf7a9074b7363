"""The library, packages' assets, and a user's own files."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robot_rl.errors import ConfigError, DataError, UnknownNameError
from sim.assets import decompose as decompose_module
from sim.assets import library as library_module
from sim.assets.decompose import DecompositionConfig
from sim.assets.geometry import geom_mesh, hull, volume
from sim.assets.importing import ImportConfig, import_asset
from sim.assets.library import Library, LibraryConfig
from sim.assets.packages import PACKAGED

L_SHAPE_MM = """v 0 0 0\nv 60 0 0\nv 60 20 0\nv 20 20 0\nv 20 60 0\nv 0 60 0
v 0 0 30\nv 60 0 30\nv 60 20 30\nv 20 20 30\nv 20 60 30\nv 0 60 30
f 1 4 2\nf 2 4 3\nf 1 6 4\nf 4 6 5\nf 7 8 10\nf 8 9 10\nf 7 10 12\nf 10 11 12
f 1 2 8\nf 1 8 7\nf 2 3 9\nf 2 9 8\nf 3 4 10\nf 3 10 9\nf 4 5 11\nf 4 11 10\nf 5 6 12\nf 5 12 11\nf 6 1 7\nf 6 7 12
"""
L_VOLUME_M3 = 0.03 * (0.06 * 0.02 + 0.02 * 0.04)
PACKAGED_BOX = """<robot name="box"><link name="case"><collision><geometry>
<mesh filename="package://lab/meshes/b.obj" scale="0.001 0.001 0.001"/></geometry></collision></link></robot>"""
CUPBOARD = """<robot name="cupboard">
<link name="case"><inertial><mass value="3"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
<collision><geometry><box size="0.2 0.4 0.6"/></geometry></collision></link>
<link name="leaf"><inertial><mass value="1.5"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
<collision><origin xyz="0.01 0.2 0"/><geometry><box size="0.02 0.4 0.6"/></geometry></collision></link>
<joint name="door" type="revolute"><parent link="case"/><child link="leaf"/><origin xyz="0.1 -0.2 0"/>
<axis xyz="0 0 1"/><limit lower="-1.5" upper="0" effort="1" velocity="1"/></joint></robot>"""


def test_names_and_categories() -> None:
    library = Library.index(LibraryConfig(per_category=1, packages=False))
    assert library.get("generated/mug_0").category == "mug"
    assert [asset.name for asset in library.category("bowl")] == ["generated/bowl_0"]
    with pytest.raises(UnknownNameError, match="generated/bowl_0"):
        library.get("bowl")
    with pytest.raises(UnknownNameError, match="hinged_box"):
        library.category("chair")
    rows = library.rows()
    assert len(rows) == len(library) == 12
    assert rows[0].category == "cabinet" and "handle" in rows[0].affordances
    with pytest.raises(ConfigError, match="two assets"):
        Library([*library.assets, library.assets[0]])


def test_an_absent_package_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "package_folder", lambda _: None)
    library = Library.index(LibraryConfig(per_category=0))
    assert len(library) == 0
    assert "metaworld is not installed" in " ".join(library.notes())


INSTALLED = [one for one in PACKAGED if library_module.package_folder(one.package) is not None]


@pytest.mark.parametrize("packaged", [pytest.param(one, id=f"{one.package}/{one.name}") for one in INSTALLED])
def test_packaged_assets_compile_and_are_centred(packaged: object) -> None:
    asset = packaged.asset()  # type: ignore[attr-defined]
    model = asset.build().compile()
    assert model.body_subtreemass[0] > 0
    assert {a.site for a in asset.affordances} <= {model.site(i).name for i in range(model.nsite)}
    for joint in asset.joints:
        assert 0.1 < joint.open_at < 2.2
        assert model.joint(joint.name).range[0] == 0.0
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for affordance in asset.affordances:
        assert (np.abs(data.site(affordance.site).xpos) <= np.array(asset.half_extents_m) + 1e-6).all()


def test_robosuites_door_opens_towards_its_handle() -> None:
    asset = next(one for one in PACKAGED if one.name == "door").asset()
    model = asset.build().compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    before = data.site("handle_site_0").xpos.copy()
    assert before[0] > 0
    data.qpos[0] = 0.2
    mujoco.mj_kinematics(model, data)
    assert data.site("handle_site_0").xpos[0] > before[0] + 0.05


@pytest.fixture
def l_shape(tmp_path: Path) -> ImportConfig:
    pytest.importorskip("coacd")
    path = tmp_path / "bracket.obj"
    path.write_text(L_SHAPE_MM)
    cutting = DecompositionConfig(cache=tmp_path / "cache")
    return ImportConfig(path, "tool", unit_m=0.001, mass_kg=0.25, decomposition=cutting)


def test_an_l_shape_is_cut_into_convex_pieces_of_its_volume(l_shape: ImportConfig) -> None:
    asset = import_asset(l_shape)
    np.testing.assert_allclose(asset.half_extents_m, [0.03, 0.03, 0.015], atol=1e-3)
    model = asset.build().compile()
    pieces = [g for g in range(model.ngeom) if model.geom_group[g] == 0]
    assert len(pieces) >= 2
    filled = sum(volume(hull(geom_mesh(model, g).vertices_m)) for g in pieces)
    assert filled == pytest.approx(L_VOLUME_M3, rel=0.05)
    assert model.body_mass.sum() == pytest.approx(0.25, rel=1e-3)


def test_results_are_kept_on_disk_and_a_search_is_said(l_shape: ImportConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    Library.index(LibraryConfig(per_category=0, packages=False, user=(l_shape,)), said.append)
    assert len(said) == 1 and said[0].startswith("bracket.obj: ") and "CoACD" in said[0]
    monkeypatch.setattr(decompose_module, "_run", lambda *_: pytest.fail("it was cut again"))
    import_asset(l_shape, said.append)
    assert len(said) == 1
    assert l_shape.decomposition is not None
    (stored,) = l_shape.decomposition.cache.glob("*.npz")
    stored.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="delete it"):
        import_asset(l_shape)


def test_without_coacd_the_error_says_what_to_install(l_shape: ImportConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coacd", None)
    with pytest.raises(ConfigError, match="pip install coacd"):
        import_asset(l_shape)
    as_hull = import_asset(replace(l_shape, decomposition=None)).build().compile()
    assert as_hull.ngeom == 2  # one collides, one is drawn


def test_what_a_hand_can_lift_weighs_what_such_things_weigh() -> None:
    """robosuite's own bread weighs 4 g; a packed product has a density of 0.1 to 1.2 of water's in its box."""
    for asset in Library.index(LibraryConfig(per_category=2)).assets:
        if asset.category in ("can", "bottle", "box"):
            mass_kg = float(asset.build().compile().body_mass.sum())
            box_m3 = 8 * float(np.prod(asset.half_extents_m))
            assert 100.0 < mass_kg / box_m3 < 1200.0, asset.name


def test_up_axis_and_density(l_shape: ImportConfig) -> None:
    asset = import_asset(replace(l_shape, up="+y", front="+z", mass_kg=None, density_kg_m3=2000.0))
    np.testing.assert_allclose(asset.half_extents_m, [0.015, 0.03, 0.03], atol=1e-3)
    assert asset.build().compile().body_mass.sum() == pytest.approx(2000 * L_VOLUME_M3, rel=0.05)


def test_a_urdf_keeps_its_masses_and_opens_to_positive_values(tmp_path: Path) -> None:
    path = tmp_path / "cupboard.urdf"
    path.write_text(CUPBOARD)
    asset = import_asset(ImportConfig(path, "cabinet"))
    assert [(one.name, one.kind) for one in asset.joints] == [("door", "door")]
    assert asset.joints[0].open_at == pytest.approx(1.5)
    model = asset.build().compile()
    assert model.body("door_body").mass[0] == pytest.approx(1.5)
    data = mujoco.MjData(model)
    data.qpos[0] = 1.0
    mujoco.mj_kinematics(model, data)
    leaf = int(np.flatnonzero(model.geom_bodyid == model.body("door_body").id)[0])
    assert data.geom_xpos[leaf][0] > 0.2


def test_sites_of_an_mjcf_are_affordances(tmp_path: Path) -> None:
    path = tmp_path / "cup.xml"
    body = "<body><geom size='.03 .03 .03' type='box' mass='.4'/><site name='grasp_top'/></body>"
    path.write_text(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    asset = import_asset(ImportConfig(path, "box", name="cup"))
    assert asset.name == "user/cup" and [a.kind for a in asset.affordances] == ["grasp"]
    assert asset.build().compile().body_mass.sum() == pytest.approx(0.4)


@pytest.mark.parametrize("place", ["lab", "lab/urdf", "other"])
def test_meshes_of_a_ros_package_are_found(tmp_path: Path, place: str) -> None:
    (tmp_path / "lab" / "meshes").mkdir(parents=True)
    (tmp_path / "lab" / "meshes" / "b.obj").write_text(L_SHAPE_MM)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "box.urdf").write_text(PACKAGED_BOX)
    asset = import_asset(ImportConfig(tmp_path / place / "box.urdf", "box", decomposition=None))
    assert asset.half_extents_m == pytest.approx((0.03, 0.03, 0.015))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.obj", "", "no mesh|triangles"),
        ("a.obj", "v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "no mesh|triangles"),
        ("a.stl", "solid of nothing", "no mesh|triangles"),
        ("a.xml", "<mujoco><worldbody>", "no model"),
        ("a.urdf", "<robot/>", "no model|does not compile|no closed shapes"),
        ("a.xml", "<mujoco/>", "a.xml has no closed shapes"),
        ("a.xml", "<mujoco><worldbody><geom size='.0001'/></worldbody></mujoco>", "unit_m: 1 if it is in metres"),
        ("a.obj", L_SHAPE_MM, r"60 x 60 x 30 m large; set unit_m: 0\.001"),
        ("a.xml", "<mujoco><worldbody><geom size='.1' contype='0' conaffinity='0'/></worldbody></mujoco>", "collides"),
        ("a.urdf", PACKAGED_BOX, "package://lab/meshes/b.obj is not below a folder lab"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, name: str, text: str, error: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=error):
        import_asset(ImportConfig(tmp_path / name, "box"))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"\.obj"):
        import_asset(ImportConfig(tmp_path / "a.blend", "box"))
    with pytest.raises(DataError, match="does not exist"):
        import_asset(ImportConfig(tmp_path / "a.obj", "box"))
    with pytest.raises(ConfigError, match="different axes"):
        ImportConfig(tmp_path / "a.obj", "box", up="+x")
    with pytest.raises(ConfigError, match="at most one"):
        ImportConfig(tmp_path / "a.obj", "box", density_kg_m3=1.0, mass_kg=1.0)
    with pytest.raises(ConfigError, match="unit_m > 0"):
        ImportConfig(tmp_path / "a.obj", "box", unit_m=float("nan"))
    with pytest.raises(UnknownNameError, match="bowl"):
        ImportConfig(tmp_path / "a.obj", "chair")
