"""Cheap off-screen cameras on `mujoco.Renderer`, on a GPU (EGL) or a CPU (OSMesa).

Software rendering is dominated by shadows, reflections and multi-sampling, then by the number of
faces; the light profile turns the former off and, for the robot, draws the collision hulls instead
of the visual meshes (one 84x84 frame of Lift on a CPU: 47 ms by default, 8 ms without these, 1.5 ms so).
OpenGL is imported when the first frame is asked for: state-only runs never need it.
"""

# mujoco and robosuite ship no complete type stubs.
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false
from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import CameraFrame

COLLISION_GROUP, VISUAL_GROUP, HIDDEN_GROUP = 0, 1, 5
ROBOT_COLOR_RGBA = (0.85, 0.85, 0.87, 1.0)
PROBE_TIMEOUT_S = 60.0
GL_HELP = (
    "no OpenGL backend works for off-screen rendering. Install one: `apt-get install libegl1 libgl1` (EGL;"
    " with a GPU also its driver's libnvidia-gl) or `apt-get install libosmesa6` (software), then set"
    " MUJOCO_GL=egl or MUJOCO_GL=osmesa, or leave MUJOCO_GL unset to have the first that works chosen"
)


@dataclass(frozen=True)
class RenderConfig:
    """How much of a picture is drawn."""

    shadows: bool = False
    """Shadow maps: several times the cost of everything else in software."""
    reflections: bool = False
    """Reflective floors and tables."""
    multisamples: int = 0
    """Anti-aliasing samples per pixel."""
    visual_robot: bool = False
    """Draw the robot's detailed visual meshes (100k faces and more) instead of its collision hulls."""
    depth: bool = False
    """Also return depth in metres (a second pass)."""


_CHOSEN_BY_USER = os.environ.get("MUJOCO_GL", "")  # read before robosuite's import, which sets the variable
_PROBE = (
    "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco/>'); d = mujoco.MjData(m);"
    " r = mujoco.Renderer(m, 8, 8); r.update_scene(d); r.render()"
)


@lru_cache(maxsize=1)
def choose_gl() -> str:
    """The first of EGL and OSMesa that renders here, or what MUJOCO_GL says; `ConfigError` when none does.

    Backends are tried in a process of their own, because a failed context may abort the interpreter and
    PyOpenGL cannot change its platform once imported.
    """
    for backend in (_CHOSEN_BY_USER,) if _CHOSEN_BY_USER else ("egl", "osmesa"):
        environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        probe = [sys.executable, "-c", _PROBE]
        try:
            result = subprocess.run(probe, env=environment, capture_output=True, timeout=PROBE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
        if result.returncode == 0:
            return backend
    raise ConfigError(GL_HELP)


def use_gl(backend: str) -> None:
    """Make `mujoco.Renderer` use `backend`: it took what MUJOCO_GL said when mujoco was imported."""
    os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = backend
    if backend in ("egl", "osmesa"):
        renderer_module = import_module(mujoco.Renderer.__module__)
        renderer_module.gl_context.GLContext = import_module(f"mujoco.{backend}").GLContext


def light_model(model: mujoco.MjModel, robot_prefixes: tuple[str, ...], config: RenderConfig) -> None:
    """Prepare `model` for cheap pictures. Touches what is drawn only, never the physics."""
    model.vis.quality.offsamples = config.multisamples
    if not config.reflections:
        model.mat_reflectance[:] = 0.0
    if config.visual_robot:
        return
    for geom in range(model.ngeom):
        if not model.body(int(model.geom_bodyid[geom])).name.startswith(robot_prefixes):
            continue
        if model.geom_group[geom] == COLLISION_GROUP:
            model.geom_group[geom] = VISUAL_GROUP
            model.geom_rgba[geom] = ROBOT_COLOR_RGBA
            model.geom_matid[geom] = -1
        elif model.geom_group[geom] == VISUAL_GROUP:
            model.geom_group[geom] = HIDDEN_GROUP


class SceneRenderer:
    """Renders the fixed cameras of one model; creates its OpenGL context at the first frame."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        image_hw: tuple[int, int],
        config: RenderConfig,
        geom_groups: tuple[int, ...] = (VISUAL_GROUP,),
    ) -> None:
        self._model, self._data, self._image_hw, self._config = model, data, image_hw, config
        self._renderer: mujoco.Renderer | None = None
        self._lender: SceneRenderer | None = None
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[list(geom_groups)] = 1
        self._option.sitegroup[:] = 0

    def render(self, camera: str, stamp_s: float) -> CameraFrame:
        """Colour (H, W, 3) uint8, row 0 at the top, and depth if configured."""
        renderer = self._open()
        renderer.update_scene(self._data, camera, self._option)
        color = renderer.render()
        depth = None
        if self._config.depth:
            renderer.enable_depth_rendering()
            depth = renderer.render()
            renderer.disable_depth_rendering()
        return CameraFrame(stamp_s, color, depth, self._intrinsics(camera))

    def draw_with(self, lender: SceneRenderer) -> None:
        """Use the context of `lender`, whose model has the same shapes, cameras and size of images."""
        self._lender = lender

    def close(self) -> None:
        if self._renderer is not None:
            atexit.unregister(self.close)
            self._renderer.close()
            self._renderer = None

    def _open(self) -> mujoco.Renderer:
        if self._lender is not None:
            return self._lender._open()
        if self._renderer is None:
            use_gl(choose_gl())
            self._model.vis.global_.offheight = max(self._image_hw[0], self._model.vis.global_.offheight)
            self._model.vis.global_.offwidth = max(self._image_hw[1], self._model.vis.global_.offwidth)
            renderer = mujoco.Renderer(self._model, *self._image_hw)
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._config.shadows
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = self._config.reflections
            self._renderer = renderer
            # At exit at the latest, and before MuJoCo's own exit handler ends the display that contexts need.
            atexit.register(self.close)
        return self._renderer

    def _intrinsics(self, camera: str) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels of a camera with square pixels."""
        height, width = self._image_hw
        field_of_view_rad = np.deg2rad(float(self._model.camera(camera).fovy[0]))
        focal = height / (2 * float(np.tan(field_of_view_rad / 2)))
        return focal, focal, (width - 1) / 2, (height - 1) / 2


class SimCamera:
    """`Camera` protocol over one named camera of a model."""

    def __init__(self, renderer: SceneRenderer, camera: str, clock: Callable[[], float]) -> None:
        self._renderer, self._camera, self._clock = renderer, camera, clock

    def read(self) -> CameraFrame:
        return self._renderer.render(self._camera, self._clock())


def make_cameras(
    names: Mapping[str, str], renderer: SceneRenderer, model: mujoco.MjModel, clock: Callable[[], float]
) -> dict[str, SimCamera]:
    """One `SimCamera` per entry of `names` (our name -> the model's); `UnknownNameError` when absent."""
    present = [model.camera(index).name for index in range(model.ncam)]
    for name in names.values():
        if name not in present:
            raise UnknownNameError("camera", name, present)
    return {ours: SimCamera(renderer, theirs, clock) for ours, theirs in names.items()}
