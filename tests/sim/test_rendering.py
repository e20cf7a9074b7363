"""Pictures: right side up, right colours, light."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robot_rl.env import RobotEnv
from robot_rl.types import CameraFrame
from sim.rendering import HIDDEN_GROUP, RenderConfig
from sim.robosuite_world import RobosuiteWorld
from sim.tasks import env_config, make_world
from tests.sim.conftest import shared_world

pytestmark = pytest.mark.usefixtures("opengl")


def red_pixels(frame: CameraFrame) -> np.ndarray:
    """(M, 2) row and column of the pixels of the red cube."""
    color = frame.color.astype(int)
    return np.argwhere((color[..., 0] > 90) & (color[..., 0] > 1.8 * np.maximum(color[..., 1], color[..., 2])))


def place_cube(world: RobosuiteWorld, offset_m: tuple[float, float, float]) -> None:
    address = int(world.model.joint("cube_joint0").qposadr[0])
    world.data.qpos[address : address + 3] += offset_m
    world.advance(0.002)


def test_frames_have_the_promised_shape_and_content() -> None:
    world = shared_world("lift")
    world.reset(0)
    for name in ("front", "wrist"):
        frame = world.cameras[name].read()
        assert frame.color.shape == (48, 64, 3) and frame.color.dtype == np.uint8
        assert 20 < frame.color.mean() < 250 and frame.color.std() > 10
        assert len(red_pixels(frame)) > 4
        assert frame.intrinsics is not None and frame.intrinsics[2:] == (31.5, 23.5)


def test_front_picture_is_right_side_up_and_not_mirrored() -> None:
    world = shared_world("lift")
    centres = {}
    for name, offset in {"rest": (0, 0, 0), "up": (0, 0, 0.1), "left": (0, 0.1, 0)}.items():
        world.reset(0)
        place_cube(world, offset)
        centres[name] = red_pixels(world.cameras["front"].read()).mean(0)
    assert centres["up"][0] < centres["rest"][0] - 3  # rows count down from the top
    # The front camera faces the robot: what is at the robot's left (+y) is on the picture's right.
    assert centres["left"][1] > centres["rest"][1] + 3


def test_pictures_follow_the_state_and_repeat_exactly() -> None:
    world = shared_world("lift")
    world.reset(1)
    first = world.cameras["front"].read().color
    kept = first.copy()
    world.reset(2)
    assert not np.array_equal(world.cameras["front"].read().color, kept)
    assert np.array_equal(first, kept), "a frame must not change after the fact"
    world.reset(1)
    assert np.array_equal(world.cameras["front"].read().color, kept)


def test_light_profile_draws_few_faces() -> None:
    world, full = shared_world("lift"), make_world("lift", render=RenderConfig(visual_robot=True))
    assert world.model.vis.quality.offsamples == 0 and world.model.mat_reflectance.max() == 0.0
    assert (world.model.geom_group == HIDDEN_GROUP).sum() > 10
    assert (full.model.geom_group == HIDDEN_GROUP).sum() == 0


def test_depth_is_in_metres() -> None:
    world = make_world("lift", image_hw=(32, 32), render=RenderConfig(depth=True))
    world.reset(0)
    frame = world.cameras["front"].read()
    assert frame.depth_m is not None and frame.depth_m.shape == (32, 32)
    row, column = red_pixels(frame).mean(0).round().astype(int)
    camera = world.data.camera("agentview")
    along = -camera.xmat.reshape(3, 3)[:, 2] @ (world.data.body("cube_main").xpos - camera.xpos)
    assert frame.depth_m[row, column] == pytest.approx(along, abs=0.04)
    world.close()


def test_env_returns_images_without_object_state() -> None:
    config = env_config("lift", cameras=("front", "wrist"), image_hw=(48, 64), include_object_state=False)
    env = RobotEnv(shared_world("lift"), config)
    observation, _ = env.reset(seed=0)
    env.observation_spec.check(observation)
    assert set(observation) == {"state", "image/front", "image/wrist"}


def test_state_only_runs_need_no_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from sim.tasks import make_env; from sim.rendering import choose_gl; e = make_env('lift');"
        " e.reset(seed=0); e.step([0, 0, 0, 0]); assert choose_gl.cache_info().misses == 0"
    )
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
