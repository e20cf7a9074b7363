"""How alike things look: an encoder's features of an object's pixels, and of pictures drawn of assets in its place.

An asset is drawn as it would be placed, in the colour that was seen, from where the camera was. Pictures are kept on
disk by what is in them.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.assets.asset import Asset
from sim.assets.decompose import CACHE
from sim.cousins.compose import CAMERA_FROM_OPENCV, draw_what_collides, tint
from sim.cousins.matching import Seen
from sim.cousins.profiles import asset_profile
from sim.cousins.projection import framed
from sim.cousins.scene import Pose, Vector3, View
from sim.rendering import VISUAL_GROUP, choose_gl, use_gl

SIDE_PX = 224
"""Of a drawn picture: what DINOv2 is given."""
FIELD_OF_VIEW_DEG = 30.0
Picture = NDArray[np.uint8]


class Encoder(Protocol):
    """Pictures to vectors."""

    def embed(self, pictures: list[Picture]) -> FloatArray:
        """Unit vectors (K, F) of K pictures (h, w, 3) RGB of any size."""
        ...


@dataclass(frozen=True, eq=False)
class Looks:
    """Implements `sim.cousins.matching.Appearance`: 1 - cosine of two features, clipped to 0 ... 1."""

    encoder: Encoder
    """Such as `sim.cousins.plugins.Features` (DINOv2, 2304.07193)."""
    cache: Path = CACHE / "pictures"
    """Folder of drawn pictures."""
    _known: dict[bytes, FloatArray] = field(default_factory=dict)

    def __call__(self, seen: Seen, asset: Asset, pose_base: FloatArray) -> float:
        if seen.crop is None or seen.view is None:
            raise ConfigError(f"{seen.object.name} has no pixels to compare looks with")
        picture = self.picture(asset, seen.object.color_rgb, turn_to(seen.view, pose_base))
        return float(np.clip(1.0 - self._features(seen.crop) @ self._features(picture), 0.0, 1.0))

    def picture(self, asset: Asset, color_rgb: Vector3, turn: FloatArray) -> Picture:
        """The asset in that colour by a camera whose axes are the columns of `turn` (3, 3); drawn once."""
        path = self.cache / f"{_key(asset, color_rgb, turn)}.png"
        kept = cv2.imread(str(path)) if path.exists() else None
        if kept is not None:
            return np.asarray(kept[:, :, ::-1], np.uint8, order="C")
        drawn = draw(asset, color_rgb, turn)
        self.cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}.{path.name}")  # several WORKs share the cache
        cv2.imwrite(str(partial), drawn[:, :, ::-1])
        partial.replace(path)
        return drawn

    def _features(self, picture: Picture) -> FloatArray:
        key = hashlib.sha256(picture.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self.encoder.embed([picture])[0]
        return self._known[key]


def turn_to(view: View, pose_base: FloatArray | Pose) -> FloatArray:
    """Axes (3, 3: right, down, forward) in the frame at `pose_base` of the view's camera, looking at its origin."""
    pose = np.asarray(pose_base)
    forward = pose[:3] - np.asarray(view.pose_base_camera[:3])
    forward /= np.linalg.norm(forward)
    down = np.cross(forward, frames.quat_to_matrix(np.asarray(view.pose_base_camera[3:]))[:, 0])
    down /= np.linalg.norm(down)
    axes_base = np.stack([np.cross(down, forward), down, forward], -1)
    return frames.quat_to_matrix(pose[3:]).T @ axes_base


def draw(asset: Asset, color_rgb: Vector3, turn: FloatArray) -> Picture:
    """The asset, shut, filling a square (S, S, 3) on grey; `turn` as in `Looks.picture`."""
    spec = asset.build()
    draw_what_collides(spec)
    tint(spec, color_rgb, np.zeros(3))
    away_m = float(np.linalg.norm(asset.half_extents_m)) / np.sin(np.deg2rad(FIELD_OF_VIEW_DEG / 2))
    quat = frames.quat_multiply(frames.matrix_to_quat(turn), CAMERA_FROM_OPENCV)
    spec.worldbody.add_camera(
        name="look", pos=(-away_m * turn[:, 2]).tolist(), quat=quat.tolist(), fovy=FIELD_OF_VIEW_DEG
    )
    model = spec.compile()
    model.vis.headlight.ambient[:] = model.vis.headlight.diffuse[:] = 0.5
    model.vis.quality.offsamples, model.vis.quality.shadowsize = 0, 1  # nothing throws a shadow
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    option = mujoco.MjvOption()
    option.geomgroup[:] = 0
    option.geomgroup[VISUAL_GROUP] = 1
    option.sitegroup[:] = 0
    use_gl(choose_gl())
    with mujoco.Renderer(model, SIDE_PX, SIDE_PX) as renderer:
        renderer.update_scene(data, "look", option)
        color = renderer.render().copy()
        renderer.enable_segmentation_rendering()
        picture = framed(color, renderer.render()[:, :, 0] >= 0)
    if picture is None:
        raise ConfigError(f"nothing of asset {asset.name} is drawn: give it a geom of group {VISUAL_GROUP}")
    return picture


def _key(asset: Asset, color_rgb: Vector3, turn: FloatArray) -> str:
    mesh = asset_profile(asset).mesh
    content = [mesh.vertices_m.astype("<f4"), mesh.faces, np.array([one.rgba for one in asset.build().geoms])]
    numbers = np.round(np.concatenate([np.asarray(color_rgb), turn.ravel()]), 2) + 0.0
    return hashlib.sha256(b"".join(one.tobytes() for one in (*content, numbers))).hexdigest()[:32]
