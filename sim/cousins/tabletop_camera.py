"""Looks at test tables: MuJoCo's picture and depth, with the errors of a stereo depth camera."""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import DataError
from robot_rl.types import FloatArray, IntArray
from sim.cousins import tabletop_things as things
from sim.cousins.scan import Scan, ScanView
from sim.cousins.scene import View
from sim.cousins.tabletop import FOVY_DEG, TABLE_CENTRE, Tabletop, sample_tabletop
from sim.rendering import choose_gl, use_gl

IMAGE_HW = (480, 640)
CAMERA = "scan"
MARGIN_PX, ATTEMPTS = 4, 200


@dataclass(frozen=True)
class DepthNoise:
    """Errors of a stereo depth camera."""

    sigma_m: float = 0.0015
    """Standard deviation at 0.6 m, independent from pixel to pixel; grows with distance squared."""
    bias_m: float = 0.0005
    """The same for an error that varies over tens of pixels."""
    step_m: float = 0.001
    """Depth comes in such steps."""
    dropped: float = 0.01
    """Share of pixels without depth."""
    flying: float = 0.4
    """Share of pixels at edges whose depth lies between front and back; half as many there have none."""
    far_m: float = 3.0
    """No depth beyond."""
    color_sigma: float = 3.0
    """Standard deviation of colour, of 255."""


@dataclass(frozen=True)
class Visibility:
    """What must be seen of each thing, so that there is an answer."""

    share: float = 0.65
    """Of its outline's pixels, not hidden by others."""
    pixels: int = 500
    """At 640 x 480."""


def look(
    seed: int, noise: DepthNoise | None = None, visibility: Visibility | None = None
) -> tuple[Tabletop, Scan, IntArray]:
    """A table whose things can all be seen, the scan of it, and each pixel's thing (H, W), -1 for none."""
    visibility = visibility or Visibility()
    for attempt in range(ATTEMPTS):
        table = sample_tabletop(seed, attempt)
        with _renderer(table, seed, (120, 160)) as draw:
            if not all(_is_visible(draw, index, visibility) for index in range(len(table.placed))):
                continue
        with _renderer(table, seed, IMAGE_HW) as draw:
            color, depth_m, labels = draw.color(), draw.depth(), draw.labels()
        color, depth_m = with_noise(np.random.default_rng(seed), color, depth_m, noise or DepthNoise())
        focal = IMAGE_HW[0] / 2 / np.tan(np.deg2rad(FOVY_DEG) / 2)
        intrinsics = (focal, focal, IMAGE_HW[1] / 2 - 0.5, IMAGE_HW[0] / 2 - 0.5)
        x, y, z, qw, qx, qy, qz = map(float, table.pose_base_camera)
        view = View((x, y, z, qw, qx, qy, qz), intrinsics, IMAGE_HW)
        return table, Scan((ScanView(color, depth_m, view),)), labels
    raise DataError(f"seed {seed}: no arrangement in which all things are seen, in {ATTEMPTS} attempts")


def with_noise(
    rng: np.random.Generator, color: NDArray[np.uint8], depth_m: FloatArray, noise: DepthNoise
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colour (H, W, 3) uint8 and depth (H, W) float32 as a camera would give them; 0 is no depth."""
    far = depth_m > noise.far_m
    depth_m = np.minimum(depth_m, noise.far_m)
    growth = (depth_m / 0.6) ** 2
    slow = cv2.GaussianBlur(rng.normal(size=depth_m.shape), (0, 0), 12)
    slow *= noise.bias_m / max(float(slow.std()), 1e-9)
    front, back = cv2.erode(depth_m, np.ones((3, 3))), cv2.dilate(depth_m, np.ones((3, 3)))
    chance = rng.uniform(size=depth_m.shape)
    edge = back - front > 0.02
    mixed = front + rng.uniform(size=depth_m.shape) * (back - front)
    noisy = np.where(edge & (chance < noise.flying), mixed, depth_m)
    noisy = noisy + growth * (slow + rng.normal(0.0, noise.sigma_m, depth_m.shape))
    if noise.step_m > 0.0:
        noisy = np.round(noisy / noise.step_m) * noise.step_m
    lost = far | (edge & (chance > 1 - noise.flying / 2)) | (rng.uniform(size=depth_m.shape) < noise.dropped)
    color = np.clip(np.round(color + rng.normal(0.0, noise.color_sigma, color.shape)), 0, 255).astype(np.uint8)
    return color, np.where(lost, 0.0, noisy).astype(np.float32)


class _Drawing:
    """One renderer on one table."""

    def __init__(self, renderer: mujoco.Renderer, data: mujoco.MjData, owner: IntArray) -> None:
        self._renderer, self._data, self._owner = renderer, data, owner

    def color(self) -> NDArray[np.uint8]:
        self._update(None)
        return self._renderer.render().copy()

    def depth(self) -> FloatArray:
        self._update(None)
        self._renderer.enable_depth_rendering()
        depth = self._renderer.render().copy()
        self._renderer.disable_depth_rendering()
        return depth

    def labels(self, alone: int | None = None) -> IntArray:
        """Each pixel's thing (H, W), -1 for none; only thing `alone` is drawn if given."""
        self._update(alone)
        self._renderer.enable_segmentation_rendering()
        geoms = self._renderer.render()[..., 0]
        self._renderer.disable_segmentation_rendering()
        return np.where(geoms >= 0, self._owner[geoms], -1)

    def _update(self, alone: int | None) -> None:
        option = mujoco.MjvOption()
        option.geomgroup[:] = 1 if alone is None else 0
        if alone is not None:
            option.geomgroup[alone] = 1
        self._renderer.update_scene(self._data, CAMERA, option)


@contextmanager
def _renderer(table: Tabletop, seed: int, image_hw: tuple[int, int]) -> Iterator[_Drawing]:
    use_gl(choose_gl())
    spec, owner = _spec(table, seed)
    spec.visual.global_.offheight, spec.visual.global_.offwidth = image_hw
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, *image_hw)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    try:
        yield _Drawing(renderer, data, owner)
    finally:
        renderer.close()


def _is_visible(draw: _Drawing, index: int, visibility: Visibility) -> bool:
    alone, together = draw.labels(alone=index) == index, draw.labels() == index
    rows, columns = np.nonzero(alone)
    height, width = alone.shape
    scale = IMAGE_HW[0] / height
    margin = int(np.ceil(MARGIN_PX / scale))
    inside = len(rows) > 0 and (
        min(rows.min(), columns.min()) >= margin and rows.max() < height - margin and columns.max() < width - margin
    )
    seen = together.sum()
    return bool(inside and seen >= visibility.share * alone.sum() and seen * scale**2 >= visibility.pixels)


def _spec(table: Tabletop, seed: int) -> tuple[mujoco.MjSpec, IntArray]:
    """The model, and for each geom the thing that it belongs to (-1: none)."""
    rng = np.random.default_rng((seed, 1))
    spec = mujoco.MjSpec()
    world = spec.worldbody
    spec.visual.headlight.ambient[:] = rng.uniform(0.25, 0.45)
    spec.visual.headlight.diffuse[:] = rng.uniform(0.1, 0.3)
    spec.visual.map.znear = 0.01
    direction = np.array([*rng.uniform(-0.8, 0.8, 2), -1.0])
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        dir=direction / np.linalg.norm(direction),
        pos=(0.0, 0.0, 2.0),
        diffuse=np.full(3, rng.uniform(0.35, 0.6)),
        specular=np.full(3, 0.1),
    )
    pose = table.pose_base_camera
    # MuJoCo's cameras look along -z with y up.
    quat = frames.quat_multiply(pose[3:], np.array([0.0, 1.0, 0.0, 0.0]))
    world.add_camera(name=CAMERA, pos=pose[:3], quat=quat, fovy=FOVY_DEG)
    plain = things.color(rng)
    tone = rng.uniform(0.35, 0.85)
    wood = [0.85 * tone + 0.15 * channel for channel in plain]
    world.add_geom(type=things.BOX, size=(0.45, 0.55, 0.02), pos=(*TABLE_CENTRE, -0.02), rgba=(*wood, 1))
    world.add_geom(type=things.BOX, size=(3, 3, 0.01), pos=(0, 0, -0.76), rgba=(*([rng.uniform(0.2, 0.6)] * 3), 1))
    owner = [-1, -1]
    for index, placed in enumerate(table.placed):
        body = world.add_body(pos=placed.position_m, quat=placed.quat_wxyz)
        for solid in placed.thing.solids:
            body.add_geom(
                type=solid.kind,
                size=solid.size_m,
                pos=solid.position_m,
                quat=solid.quat_wxyz,
                rgba=(*solid.color_rgb, 1),
                group=index,
            )
            owner.append(index)
    return spec, np.array(owner)
