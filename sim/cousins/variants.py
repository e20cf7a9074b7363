"""How a scene may look otherwise: light, colours, the camera's place. What it does stays the same.

The nominal look, "", is the one that was extracted from the scan: colours of the things in the place where the
calibrated camera stood (visual matching, SIMPLER, 2405.05941). Success over variants (variant aggregation, ibid.) says
how much a policy that sees images depends on it.
"""

# mujoco ships no complete type stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl import frames
from robot_rl.errors import UnknownNameError

BRIGHTEST = 1.0


@dataclass(frozen=True)
class Variant:
    """A look, by what is different from the nominal one."""

    brightness: float = 1.0
    """Factor on all lights."""
    light_direction: tuple[float, float, float] | None = None
    """Where the lights shine to."""
    color_noise: float = 0.0
    """Standard deviation of every material's and every thing's colour channels, drawn from the variant's name."""
    camera_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Offset of fixed cameras in the world."""
    camera_rad: float = 0.0
    """Turn of fixed cameras about the vertical."""


VARIANTS: dict[str, Variant] = {
    "dark": Variant(brightness=0.5),
    "bright": Variant(brightness=1.4),
    "light_left": Variant(light_direction=(0.2, -0.8, -0.6)),
    "light_right": Variant(light_direction=(0.2, 0.8, -0.6)),
    "colors_a": Variant(color_noise=0.15),
    "colors_b": Variant(color_noise=0.15),
    "camera_near": Variant(camera_m=(0.03, 0.0, -0.02)),
    "camera_turned": Variant(camera_m=(0.0, 0.02, 0.02), camera_rad=0.05),
}


def apply_variant(model: mujoco.MjModel, name: str) -> None:
    """Make `model` look so; "" leaves it alone. `UnknownNameError` lists the variants."""
    if not name:
        return
    if name not in VARIANTS:
        raise UnknownNameError("variant of the appearance", name, VARIANTS)
    variant = VARIANTS[name]
    for light in (model.light_diffuse, model.light_ambient, model.vis.headlight.diffuse, model.vis.headlight.ambient):
        light[:] = np.clip(light * variant.brightness, 0.0, BRIGHTEST)
    if variant.light_direction is not None:
        model.light_dir[:] = np.array(variant.light_direction) / np.linalg.norm(variant.light_direction)
    if variant.color_noise:
        rng = np.random.default_rng(list(name.encode()))
        for colors in (model.mat_rgba, model.geom_rgba):
            noise = rng.normal(0.0, variant.color_noise, (len(colors), 3))
            colors[:, :3] = np.clip(colors[:, :3] + noise, 0.0, 1.0)
    fixed = np.flatnonzero(model.cam_bodyid == 0)
    turn = frames.rotvec_to_quat(np.array([0.0, 0.0, variant.camera_rad]))
    model.cam_pos[fixed] += variant.camera_m
    for camera in fixed:
        model.cam_quat[camera] = frames.quat_multiply(turn, model.cam_quat[camera])
