"""Extracted objects with the axes that a tracker has."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl import frames
from sim.cousins.registration import registered
from sim.cousins.scene import OrientedBox, SceneObject


def thing(category: str, yaw: float, half: tuple[float, float, float] = (0.03, 0.02, 0.05)) -> SceneObject:
    quat = frames.rotvec_to_quat(np.array([0.0, 0.0, yaw]))
    pose = (0.5, 0.1, 0.05, float(quat[0]), 0.0, 0.0, float(quat[3]))
    return SceneObject("object_0", OrientedBox(pose, half), (0.5, 0.5, 0.5), category)


def heading(seen: SceneObject) -> float:
    return float(frames.quat_to_rotvec(np.asarray(seen.box.pose_base[3:]))[2])


def read(yaw: float) -> np.ndarray:
    return frames.rotvec_to_quat(np.array([0.0, 0.0, yaw]))


def test_round_things_take_the_trackers_heading() -> None:
    seen = registered(thing("can", 0.0, (0.02, 0.02, 0.05)), read(1.1))
    assert heading(seen) == pytest.approx(1.1) and seen.box.pose_base[:3] == (0.5, 0.1, 0.05)


@pytest.mark.parametrize(("told", "quarters"), [(0.35, 0), (1.7, 1), (-1.3, -1), (3.3, 2)])
def test_boxes_are_turned_by_quarters_and_stay_the_same_box(told: float, quarters: int) -> None:
    before = thing("box", 0.2)
    after = registered(before, read(told))
    turn = (heading(after) - 0.2 - quarters * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    assert turn == pytest.approx(0.0, abs=1e-6)
    assert after.box.half_extents_m == ((0.03, 0.02, 0.05) if quarters % 2 == 0 else (0.02, 0.03, 0.05))
    corners = [np.sort(one.box.corners().round(6).view("f8,f8,f8"), axis=0) for one in (before, after)]
    assert (corners[0] == corners[1]).all()
