"""Matching: each term by hand, and assets that must find themselves."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot_rl import frames
from robot_rl.errors import ConfigError, DataError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.generators import FAMILIES, generate
from sim.assets.geometry import Mesh, outer_points, seen_from
from sim.cousins import terms
from sim.cousins.matching import MatchWeights, Seen, cousins, load_seen, match
from sim.cousins.orientation import pose_base, refine
from sim.cousins.profiles import Opening, asset_profile
from sim.cousins.scene import OrientedBox, Part, Pose, Scene, SceneObject, View

YAW = 0.5
POSE: Pose = (0.5, 0.1, 0.2, float(np.cos(YAW / 2)), 0.0, 0.0, float(np.sin(YAW / 2)))
ASSETS = [generate(category, seed) for category in FAMILIES for seed in (0, 1)]
LOOK = View((0.5, 0.1, 1.2, 0.0, 1.0, 0.0, 0.0), (200.0, 200.0, 80.0, 60.0), (120, 160))
"""From a metre above, straight down."""
CUBE = Mesh(
    np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.1,
    np.array(
        [
            [0, 1, 2],
            [1, 3, 2],
            [4, 6, 5],
            [5, 6, 7],
            [0, 4, 1],
            [1, 4, 5],
            [2, 3, 6],
            [3, 7, 6],
            [0, 2, 4],
            [2, 6, 4],
            [1, 5, 3],
            [3, 5, 7],
        ]
    ),
)


def sight(asset: Asset, category: str = "unknown", parts: tuple[Part, ...] = (), yaw: float = 0.0) -> Seen:
    """The asset as a scan would see it, from all sides, in a box that is wrong by `yaw`."""
    points = outer_points(asset_profile(asset).mesh, 1200, np.random.default_rng(9))
    rotation = frames.quat_to_matrix(frames.rotvec_to_quat(np.array([0.0, 0.0, YAW + yaw])))
    box = OrientedBox(POSE, asset.half_extents_m)
    seen = SceneObject("object_0", box, (0.5, 0.5, 0.5), category, 0.9, parts)
    return Seen(seen, points @ rotation.T + np.array(POSE[:3]))


@pytest.mark.parametrize("asset", [pytest.param(one, id=one.name) for one in ASSETS])
def test_an_assets_own_points_find_it(asset: Asset) -> None:
    """By geometry alone: boxes do not tell what opens, so that is left out."""
    found = match(sight(asset), ASSETS, MatchWeights(category=0.0, articulation=0.0, handle=0.0))
    assert found[0].asset is asset
    np.testing.assert_allclose(found[0].scale_to_box, 1.0, atol=1e-6)
    assert [one.distance for one in found] == sorted(one.distance for one in found)


def test_every_term_is_published_and_makes_the_distance() -> None:
    weights = MatchWeights()
    (found,) = match(sight(ASSETS[0]), ASSETS[:1], weights)
    assert set(found.terms) == {"category", "articulation", "ratios", "size", "shape", "handle"}
    share = {name: asdict(weights)[name] for name in found.terms}
    expected = sum(share[name] * found.terms[name] for name in share) / sum(share.values())
    assert found.distance == pytest.approx(expected)


def test_another_category_is_further() -> None:
    asset = generate("can", 0)
    rightly, wrongly = match(sight(asset, "can"), [asset])[0], match(sight(asset, "bottle"), [asset])[0]
    assert rightly.terms["category"] == 0.0 and wrongly.terms["category"] == pytest.approx(0.9)
    assert rightly.distance < match(sight(asset), [asset])[0].distance < wrongly.distance


def door(side: float) -> Part:
    """A door over the whole front, hinged at y = side * 0.2."""
    box = OrientedBox(POSE, (0.01, 0.2, 0.2))
    x, y, z = frames.quat_to_matrix(np.array(POSE[3:])) @ [0.1, side * 0.2, 0.0] + np.array(POSE[:3])
    return Part("door", box, (float(x), float(y), float(z)), (0.0, 0.0, side))


def test_another_hinge_side_is_further() -> None:
    left = FAMILIES["cabinet"].fitted((0.15, 0.2, 0.2)).asset("left")
    same, other = (match(sight(left, parts=(door(side),)), [left])[0] for side in (-1.0, 1.0))
    assert (same.terms["articulation"], other.terms["articulation"]) == (0.0, 0.5)
    assert same.distance < other.distance
    assert match(sight(left, parts=(door(1.0), door(-1.0))), [left])[0].terms["articulation"] == 0.5
    assert match(sight(left), [left])[0].terms["articulation"] == 1.0


def test_articulation_by_hand() -> None:
    left, right = Opening("door", np.array([0.0, -1.0, 0.1])), Opening("door", np.array([0.0, 1.0, 0.1]))
    drawer = Opening("drawer", np.zeros(3))
    half_turn = np.diag([-1.0, -1.0, 1.0])
    assert terms.articulation_term((), (), np.eye(3)) == 0.0
    assert terms.articulation_term((left, drawer), (left, drawer), np.eye(3)) == 0.0
    assert terms.articulation_term((left,), (right,), half_turn) == 0.0
    assert terms.articulation_term((left, drawer), (drawer,), np.eye(3)) == 0.5
    assert terms.articulation_term((drawer,), (left,), np.eye(3)) == 1.0


def test_sizes_by_hand() -> None:
    ratios, size = terms.size_terms(np.ones(3), 2.0**0.5 * np.ones(3))
    assert ratios == pytest.approx(0.0) and size == pytest.approx(0.5)
    ratios, size = terms.size_terms(np.ones(3), np.array([2.0, 0.5, 1.0]))
    assert ratios == pytest.approx(2 / 3) and size == pytest.approx(0.0)


def test_handles_by_hand() -> None:
    one, two = np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 0.4, 0.0]])
    assert terms.handle_term(one, two) == pytest.approx(0.2)
    assert terms.handle_term(one, np.zeros((0, 3))) == 1.0
    assert terms.handle_term(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_d2_knows_a_line_from_a_ball_and_not_a_size() -> None:
    """Distances of random pairs on a line have the density 2 (1 - d), their mean is 1/3."""
    rng = np.random.default_rng(0)
    line = np.zeros((4000, 3))
    line[:, 0] = rng.random(4000)
    edges = np.linspace(0.0, terms.D2_REACH, terms.D2_BINS + 1) / 3
    expected = np.diff(2 * edges - edges**2)
    np.testing.assert_allclose(terms.d2_histogram(line), expected, atol=0.012)
    ball = rng.standard_normal((4000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    apart = terms.shape_term(terms.d2_histogram(line), terms.d2_histogram(ball))
    assert apart > 0.3 > 0.05 > terms.shape_term(terms.d2_histogram(ball), terms.d2_histogram(7 * ball))


def test_the_outline_of_a_cube_from_above() -> None:
    """Its upper face at 0.9 m: 2 * 200 * 0.1 / 0.9 pixels wide."""
    cube = CUBE.moved(np.eye(3), np.array([0.5, 0.1, 0.2]))
    mask = np.zeros(LOOK.image_hw, bool)
    half = 200 * 0.1 / 0.9
    v, u = np.mgrid[: LOOK.image_hw[0], : LOOK.image_hw[1]] + 0.5
    mask[(abs(u - 80) < half) & (abs(v - 60) < half)] = True
    assert terms.silhouette_term(mask, cube, LOOK) < 0.1
    half_mask = mask & (u < 80)
    assert terms.silhouette_term(half_mask, cube, LOOK) == pytest.approx(0.5, abs=0.06)
    assert terms.silhouette_term(np.zeros_like(mask), cube, LOOK) == 1.0


def test_what_lies_behind_is_not_seen() -> None:
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.9, 0.9, 0.0]])
    seen = seen_from(points, np.array([[0.0, 0.0, 1.0]]))
    assert seen.tolist() == [False, True, True]


def test_icp_finds_the_yaw() -> None:
    profile = asset_profile(generate("mug", 0))
    box = OrientedBox((0, 0, 0, 1, 0, 0, 0), generate("mug", 0).half_extents_m)
    points = outer_points(profile.mesh, 1024, np.random.default_rng(4))
    angle = np.deg2rad(8.0)
    turn = frames.quat_to_matrix(frames.rotvec_to_quat(np.array([0, 0, angle])))
    found = refine(np.eye(3), profile, box, points @ turn.T)
    assert found.yaw_rad == pytest.approx(angle, abs=np.deg2rad(2.0))
    assert pose_base(found, profile, box)[6] == pytest.approx(np.sin(found.yaw_rad / 2))


def test_a_mug_is_turned_to_its_handle() -> None:
    mug = generate("mug", 0)
    x, y, z = mug.half_extents_m
    base = sight(mug)
    quarter = frames.quat_multiply(np.array(POSE[3:]), frames.rotvec_to_quat(np.array([0, 0, np.pi / 2])))
    pose: Pose = (*POSE[:3], *map(float, quarter))  # type: ignore[assignment]
    seen = replace(base, object=replace(base.object, box=OrientedBox(pose, (y, x, z))))
    found = match(seen, [mug])[0]
    forward = frames.quat_to_matrix(np.array(found.pose_base[3:]))[:, 0]
    assert forward @ [np.cos(YAW), np.sin(YAW), 0.0] > 0.99


def test_a_shorter_asset_stands_on_the_same_support() -> None:
    tall, low = generate("can", 0), replace(FAMILIES["can"].fitted((0.03, 0.03, 0.03)).asset("low"))
    found = match(sight(tall), [low])[0]
    below = POSE[2] - tall.half_extents_m[2]
    assert found.pose_base[2] - 0.03 == pytest.approx(below)


def test_a_lying_bottle_is_matched_lying() -> None:
    bottle = generate("bottle", 0)
    r, _, h = bottle.half_extents_m
    local = outer_points(asset_profile(bottle).mesh, 1200, np.random.default_rng(1))[:, [2, 0, 1]]
    box = OrientedBox((0, 0, 0, 1, 0, 0, 0), (h, r, r))
    found = match(Seen(SceneObject("o", box, (0, 0, 0)), local), [bottle])[0]
    up = frames.quat_to_matrix(np.array(found.pose_base[3:]))[:, 2]
    assert up @ [1, 0, 0] > 0.98  # the neck is towards +x
    assert found.pose_base[2] == pytest.approx(0.0, abs=1e-6)


def test_the_twin_is_nearer_than_any_cousin() -> None:
    seen = sight(generate("box", 5), "box")
    (twin,) = cousins(seen, ASSETS, 0)
    others = cousins(seen, ASSETS, 3)
    assert twin.asset.name == "twin/object_0" and len(others) == 3
    assert twin.distance < others[0].distance
    assert others[0].asset.category == "box"
    with pytest.raises(ConfigError):
        cousins(seen, ASSETS, -1)


def test_appearance_must_be_given_to_count() -> None:
    seen = sight(ASSETS[0])
    with pytest.raises(ConfigError, match="encoder"):
        match(seen, ASSETS[:1], MatchWeights(appearance=1.0))
    seen = replace(seen, crop=np.zeros((4, 4, 3), np.uint8))

    def same(seen: Seen, asset: Asset, pose: FloatArray) -> float:
        return 0.25

    (found,) = match(seen, ASSETS[:1], MatchWeights(appearance=1.0), same)
    assert found.terms["appearance"] == 0.25
    with pytest.raises(ConfigError):
        MatchWeights(size=-1.0)


def test_reading_an_object_from_a_scene(tmp_path: Path) -> None:
    seen = sight(generate("can", 0))
    np.save(tmp_path / "points.npy", seen.points_base.astype(np.float32))
    cv2.imwrite(str(tmp_path / "mask.png"), np.full(LOOK.image_hw, 255, np.uint8))
    described = replace(seen.object, points_file="points.npy", mask_file="mask.png")
    loaded = load_seen(tmp_path, Scene((), (described,), (LOOK,)), "object_0")
    np.testing.assert_allclose(loaded.points_base, seen.points_base, atol=1e-6)
    assert loaded.mask is not None and loaded.mask.all()
    assert "silhouette" in match(loaded, ASSETS[:1])[0].terms
    with pytest.raises(ConfigError, match="object_0"):
        load_seen(tmp_path, Scene((), (described,)), "object_1")
    (tmp_path / "points.npy").write_bytes(b"")
    with pytest.raises(DataError, match="holds no points"):
        load_seen(tmp_path, Scene((), (described,)), "object_0")
    with pytest.raises(DataError, match="16 or more"):
        Seen(described, np.zeros((3, 3)))
