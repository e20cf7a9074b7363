"""Matching by looks: what is cut out, what is drawn and kept, and what an encoder makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from sim.assets.generators import generate
from sim.cousins import looks
from sim.cousins.looks import Looks, draw, turn_to
from sim.cousins.matching import MatchWeights, Seen, load_seen, match
from sim.cousins.plugins import Features
from sim.cousins.profiles import asset_profile
from sim.cousins.projection import BACKGROUND, framed
from sim.cousins.scene import OrientedBox, Scene, SceneObject, View

transformers = pytest.importorskip("transformers")

VIEW = View((0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0), (200.0, 200.0, 80.0, 60.0), (120, 160))
"""Straight down."""
WEIGHTS = MatchWeights(appearance=0.5)
GREEN = (0.2, 0.6, 0.3)


@pytest.fixture
def dinov2(tmp_path: Path) -> Features:
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "dinov2")
    size = {"height": 28, "width": 28}
    transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(tmp_path / "dinov2")
    return Features(tmp_path / "dinov2")


def test_what_is_cut_out_stands_on_grey_in_a_square() -> None:
    picture = np.full((10, 20, 3), 7, np.uint8)
    mask = np.zeros((10, 20), bool)
    mask[2:4, 5:11] = True
    cut = framed(picture, mask)
    assert cut is not None and cut.shape == (6, 6, 3)
    assert (cut == 7).all(2).sum() == 12 and (cut[[0, 1, 4, 5]] == BACKGROUND).all()
    assert framed(picture, np.zeros((10, 20), bool)) is None
    finer = framed(picture[::2, ::2], mask)  # than the picture is the mask
    assert finer is not None and finer.shape == (6, 6, 3)


@pytest.mark.usefixtures("opengl")
def test_a_bowl_is_drawn_from_where_the_camera_was() -> None:
    """From above it is round and as wide as high; from the side wide and low."""
    bowl = generate("bowl", 0)
    above = draw(bowl, GREEN, turn_to(VIEW, np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])))
    shape = (above != BACKGROUND).any(2)
    assert shape.shape[0] > 150 and shape.mean() == pytest.approx(np.pi / 4, abs=0.03)
    level = replace(VIEW, pose_base_camera=(-1.0, 0.0, 0.0, 0.5, -0.5, 0.5, -0.5))
    side = (draw(bowl, GREEN, turn_to(level, np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))) != BACKGROUND).any(2)
    assert side.any(0).sum() > 1.5 * side.any(1).sum()
    assert np.median(above[shape], axis=0).argmax() == 1  # in the colour that was seen


@pytest.mark.usefixtures("opengl")
def test_dinov2_is_a_term_of_the_distance_and_pictures_are_kept(
    dinov2: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can, others = generate("can", 0), [generate("box", 0), generate("mug", 0)]
    pose = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    seen = SceneObject("object_0", OrientedBox(pose, can.half_extents_m), GREEN, "can", 0.9)
    crop = draw(can, GREEN, turn_to(VIEW, np.array(pose)))
    sight = Seen(seen, asset_profile(can).points_m, VIEW, crop=crop)
    compared = Looks(dinov2, tmp_path / "pictures")
    found = {one.asset.name: one for one in match(sight, [can, *others], WEIGHTS, compared)}
    assert found[can.name].terms["appearance"] == pytest.approx(0.0, abs=1e-4)
    assert all(0.0 < found[one.name].terms["appearance"] <= 1.0 for one in others)
    plain = {one.asset.name: one for one in match(sight, [can, *others])}
    for name, one in found.items():
        share = {term: getattr(WEIGHTS, term) for term in one.terms}
        expected = sum(share[term] * one.terms[term] for term in share) / sum(share.values())
        assert one.distance == pytest.approx(expected) and "appearance" not in plain[name].terms
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(looks, "draw", never)
    again = match(sight, [can, *others], WEIGHTS, Looks(dinov2, tmp_path / "pictures"))
    assert {one.asset.name: one.distance for one in again} == {name: one.distance for name, one in found.items()}


@pytest.mark.usefixtures("opengl")
def test_absent_weights_say_how_to_get_them(tmp_path: Path) -> None:
    can = generate("can", 0)
    seen = SceneObject("object_0", OrientedBox((0, 0, 0, 1, 0, 0, 0), can.half_extents_m), GREEN)
    sight = Seen(seen, asset_profile(can).points_m, VIEW, crop=np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"no model in .*nowhere.*huggingface-cli download"):
        match(sight, [can], WEIGHTS, Looks(Features(tmp_path / "nowhere"), tmp_path))


def test_an_object_brings_its_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).random((50, 3)).astype(np.float32))
    mask = np.zeros(VIEW.image_hw, np.uint8)
    mask[10:30, 40:50] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    box = OrientedBox((0.5, 0.5, 0.5, 1, 0, 0, 0), (0.5, 0.5, 0.5))
    one = SceneObject("object_0", box, GREEN, points_file="points.npy", mask_file="mask.png")
    scene, color = Scene((), (one,), (VIEW,)), np.full((*VIEW.image_hw, 3), 9, np.uint8)
    crop = load_seen(tmp_path, scene, "object_0", color).crop
    assert crop is not None and crop.shape == (20, 20, 3) and (crop == 9).all(2).sum() == 200
    assert load_seen(tmp_path, scene, "object_0").crop is None
