"""Solids from one side: sizes and places of known boxes and cylinders, carried down to the support."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from sim.cousins.categories import CategoryConfig, categorize
from sim.cousins.shapes import fit_box, fit_shape
from sim.cousins.surfaces import Surface
from tests.sim.cousins import solids

MM = 1e-3


@pytest.mark.parametrize("yaw_deg", [0.0, 20.0, 44.0, 71.0, 130.0])
def test_an_upright_box_is_found_whole_from_the_faces_that_are_seen(yaw_deg: float) -> None:
    rotation = solids.about_z(np.deg2rad(yaw_deg))
    shape = fit_shape(solids.surface(*solids.box((0.1, 0.05, 0.06), (0.05, 0.03, 0.06), rotation)))
    assert shape.kind == "box" and shape.explained > 0.99
    assert np.allclose(shape.box.half_extents_m, (0.05, 0.03, 0.06), atol=1.0 * MM)
    assert np.allclose(shape.box.pose_base[:3], (0.1, 0.05, 0.06), atol=1.0 * MM)
    found = frames.quat_to_matrix(np.asarray(shape.box.pose_base[3:]))
    assert abs(found[:, 0] @ rotation[:, 0]) > np.cos(np.deg2rad(0.5))  # x is the longer side
    assert found[2, 2] == pytest.approx(1.0) and np.linalg.det(found) == pytest.approx(1.0)


@pytest.mark.parametrize("tilt_deg", [15.0, 25.0, 35.0])
def test_a_leaning_box_keeps_its_tilt_and_reaches_the_support(tilt_deg: float) -> None:
    tilt = np.deg2rad(tilt_deg)
    half = (0.015, 0.06, 0.08)
    rotation = solids.about_z(0.6) @ frames.quat_to_matrix(frames.rotvec_to_quat(np.array([0.0, tilt, 0.0])))
    height = half[2] * np.cos(tilt) + half[0] * np.sin(tilt)
    shape = fit_box(solids.surface(*solids.box((0.0, 0.0, height), half, rotation)))
    found = frames.quat_to_matrix(np.asarray(shape.box.pose_base[3:]))
    assert np.rad2deg(np.arccos(abs(found[:, 2] @ rotation[:, 2]))) < 1.0
    assert np.allclose(sorted(shape.box.half_extents_m), sorted(half), atol=1.5 * MM)
    assert np.allclose(shape.box.pose_base[:3], (0.0, 0.0, height), atol=2.0 * MM)
    assert shape.box.corners()[:, 2].min() == pytest.approx(0.0, abs=1e-6)


def test_a_can_is_completed_by_symmetry() -> None:
    surface = solids.surface(*solids.cylinder((0.1, -0.1, 0.05), 0.03, 0.05))
    shape = fit_shape(surface)
    assert shape.kind == "round"
    assert np.allclose(shape.box.half_extents_m, (0.03, 0.03, 0.05), atol=1.0 * MM)
    assert np.allclose(shape.box.pose_base[:3], (0.1, -0.1, 0.05), atol=1.0 * MM)
    assert categorize(shape, surface, CategoryConfig())[0] == "can"


def test_a_lying_can_has_its_radius_from_its_height() -> None:
    points, normals = solids.cylinder((0.0, 0.0, 0.0), 0.03, 0.06)
    turn = solids.about_z(0.5) @ frames.quat_to_matrix(frames.rotvec_to_quat(np.array([0.0, np.pi / 2, 0.0])))
    points, normals = points @ turn.T + (0.0, 0.0, 0.03), normals @ turn.T
    # What faces the camera after turning: the whole side is built anew from its upper half.
    seen = ((solids.CAMERA - points) * normals).sum(1) > 0
    mirrored, mirrored_normals = points * (1, 1, -1) + (0, 0, 0.06), normals * (1, 1, -1)
    more = ((solids.CAMERA - mirrored) * mirrored_normals).sum(1) > 0
    surface = solids.surface(
        np.concatenate([points[seen], mirrored[more]]), np.concatenate([normals[seen], mirrored_normals[more]])
    )
    shape = fit_shape(surface)
    assert shape.kind == "lying"
    assert np.allclose(shape.box.half_extents_m, (0.06, 0.03, 0.03), atol=2.0 * MM)
    axis = frames.quat_to_matrix(np.asarray(shape.box.pose_base[3:]))[:, 0]
    assert abs(axis @ (np.cos(0.5), np.sin(0.5), 0.0)) > np.cos(np.deg2rad(2))


def test_a_narrow_neck_makes_a_bottle_and_inward_walls_a_bowl() -> None:
    body, neck = solids.cylinder((0, 0, 0.06), 0.035, 0.06), solids.cylinder((0, 0, 0.15), 0.014, 0.03)
    bottle = solids.surface(*(np.concatenate(pair) for pair in zip(body, neck, strict=True)))
    assert categorize(fit_shape(bottle), bottle, CategoryConfig())[0] == "bottle"
    points, normals = solids.cylinder((0, 0, 0.03), 0.07, 0.03)
    wall = np.abs(normals[:, 2]) < 0.5
    inner = Surface(points[wall] * (-1, -1, 1), normals[wall], 0.0)  # the far wall, seen from inside
    outer = Surface(points[wall], normals[wall], 0.0)
    bowl = Surface(np.concatenate([inner.points, outer.points]), np.concatenate([inner.normals, outer.normals]), 0.0)
    shape = fit_shape(bowl)
    assert shape.box.half_extents_m[0] == pytest.approx(0.07, abs=MM)
    assert categorize(shape, bowl, CategoryConfig())[0] == "bowl"


def test_what_no_solid_explains_is_unknown() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.03, (2000, 3)) + np.array([0, 0, 0.1])
    normals = rng.normal(size=(2000, 3))
    surface = Surface(points, normals / np.linalg.norm(normals, axis=1, keepdims=True), 0.0)
    assert categorize(fit_shape(surface), surface, CategoryConfig()) == ("unknown", 0.0)
