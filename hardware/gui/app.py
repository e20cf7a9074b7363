"""The whole page: server, scene, panel and take-over in one object that a node (or a test) feeds."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping

import numpy as np
import viser
from numpy.typing import NDArray

from hardware.gui.charts import Metrics
from hardware.gui.config import GuiConfig
from hardware.gui.gate import PageInput
from hardware.gui.panel import Hand, Label, Panel, ServiceCall
from hardware.gui.scene import Scene
from hardware.gui.status import STATUS_TIMEOUT_S, GuardView, banner, diagnostic_figures, guard_view
from hardware.gui.teleop import Teleop
from hardware.gui.web import PageServer
from robot_rl.types import FloatArray, HumanInput

CURVE_PERIOD_S = 1.0
EPISODE_FIGURES = {
    "env_steps": ("environment steps", ",.0f"),
    "updates": ("learner updates", ",.0f"),
    "utd": ("updates per step", ".2f"),
    "duty_cycle": ("data duty cycle", ".2f"),
    "policy_version": ("policy version", ".0f"),
}


class Gui:
    """Feed it what the robot says, call `draw` at the scene's rate, read `human` and `requests`."""

    def __init__(self, config: GuiConfig, token: str | None = None) -> None:
        self.config = config
        self.teleop = Teleop(config.teleop)
        self.metrics = Metrics(config.success_window)
        self._web = PageServer(config.host, config.port, token, self._on_input, self._on_leave)
        self._panel = Panel(self._web.viser, config)
        self._scene = Scene(self._web.viser, config)
        self._scene.gizmo.on_update(self._on_gizmo)
        self._tcp: FloatArray | None = None
        self._dragged = False
        self._guard: GuardView | None = None
        self._guard_time = -np.inf
        self._diagnostics: dict[str, str] = {}
        self._is_heard = True
        self._curves_shown = (-1, -np.inf)
        self._figures_shown: dict[str, str] = {}

    @property
    def url(self) -> str:
        return self._web.url

    @property
    def clients(self) -> int:
        """Pages now open; nothing needs to be fed or drawn while there are none."""
        return self._web.clients

    def close(self) -> None:
        self._web.close()

    # -- what the robot says --------------------------------------------------------------------
    def set_tcp(self, pose_base_tcp: FloatArray) -> None:
        self._tcp = np.asarray(pose_base_tcp, np.float64)
        self.teleop.observe_tcp(self._tcp, time.monotonic())

    def set_joints(self, positions: Mapping[str, float]) -> None:
        self._scene.set_joints(positions)

    def set_gripper(self, position: float) -> None:
        """Measured opening, 0 closed ... 1 open."""
        self._scene.set_gripper(position)

    def set_gripper_target(self, position: float) -> None:
        """Opening that the guard commands; what the person's toggle starts from."""
        self.teleop.observe_gripper(position)

    def set_objects(self, poses: Mapping[str, FloatArray]) -> None:
        self._scene.set_objects(poses)

    def set_target(self, pose: FloatArray | None) -> None:
        self._scene.set_target(pose)

    def set_guard(self, values: Mapping[str, str]) -> None:
        self._guard, self._guard_time = guard_view(values), time.monotonic()

    @property
    def is_armed(self) -> bool:
        """Whether the guard said so a moment ago."""
        view = self._guard_now()
        return view is not None and view.is_armed

    def set_heard(self, is_heard: bool) -> None:
        """Whether anybody acts on what the person's hand asks for."""
        self._is_heard = is_heard

    def set_diagnostics(self, source: str, values: Mapping[str, str]) -> None:
        """Values that the part `source` reports of itself; the configured ones are shown."""
        self._diagnostics |= diagnostic_figures(source, values, self.config.figures)

    def set_image(self, camera: str, image: NDArray[np.uint8]) -> None:
        self._panel.show_image(camera, image)

    def show_message(self, text: str, is_error: bool) -> None:
        self._panel.show_message(text, is_error)

    # -- what the person says -------------------------------------------------------------------
    def human(self) -> HumanInput:
        """The person's input now. Call it at the joy rate: the dead-man works by being asked."""
        return self.teleop.read(time.monotonic())

    def requests(self) -> list[ServiceCall | Label]:
        """What was clicked since the last call."""
        asked: list[ServiceCall | Label] = []
        while True:
            try:
                event = self._panel.events.get_nowait()
            except queue.Empty:
                return asked
            if not isinstance(event, Hand):
                asked.append(event)
            elif (page := self._web.page_of(event.client_id)) is not None:
                self._press(page, event.press)

    def _press(self, page: str, press: str) -> None:
        now = time.monotonic()
        if press == "gripper":
            self.teleop.toggle_gripper(page, now)
        else:
            mine = self.teleop.latched and self.teleop.owner == page
            self.teleop.take_over(page, not mine, now)

    def _on_input(self, page: str, message: PageInput) -> None:
        if message.hidden:
            self.teleop.leave(page)
            return
        now = time.monotonic()
        self.teleop.heartbeat(page, now)
        self.teleop.set_keys(page, message.keys, now)
        if message.press is not None:
            self._press(page, message.press)

    def _on_leave(self, page: str) -> None:
        self.teleop.leave(page)

    async def _on_gizmo(self, event: viser.TransformControlsEvent) -> None:
        page = self._web.page_of(event.client_id)
        if page is None:
            return
        pose = np.concatenate([event.target.position, event.target.wxyz])
        if event.phase == "start":
            self.teleop.begin_drag(page, pose, time.monotonic())
        elif event.phase == "update":
            self.teleop.drag(page, pose)
        else:
            self.teleop.end_drag(page)

    # -- what is shown --------------------------------------------------------------------------
    def draw(self) -> None:
        """Send what has changed to the pages."""
        now = time.monotonic()
        self._scene.draw_arm()
        dragging = self.teleop.dragging
        if self._dragged and not dragging:
            self._scene.forget_gizmo()
        self._dragged = dragging
        if self._tcp is not None and not dragging:
            self._scene.follow(self._tcp)
        shown = banner(self._guard_now(), self._hand(), self._summary())
        self._web.show_banner(shown | {"page": self.teleop.owner or ""})
        count, shown_at = self._curves_shown
        if self.metrics.total != count and now - shown_at > CURVE_PERIOD_S:
            self._curves_shown = (self.metrics.total, now)
            self._panel.show_curves(self.metrics.curves())
        if (figures := self._figures()) != self._figures_shown:
            self._figures_shown = figures
            self._panel.show_figures(figures)

    def _guard_now(self) -> GuardView | None:
        return self._guard if time.monotonic() - self._guard_time < STATUS_TIMEOUT_S else None

    def _hand(self) -> str:
        if self.teleop.owner is None:
            return ""
        if not self._is_heard:
            return "taken over, but nobody listens: no actor is running"
        if self.teleop.dragging:
            return "steered by dragging"
        return "taken over, T gives back" if self.teleop.latched else "steered by keys"

    def _summary(self) -> str:
        last = self.metrics.last
        parts = [] if last is None else [f"{last.phase}", f"episode {int(last.figures['episode'])}"]
        if last is not None and "policy_version" in last.figures:
            parts.append(f"policy v{int(last.figures['policy_version'])}")
        return " \u00b7 ".join(parts)

    def _figures(self) -> dict[str, str]:
        figures: dict[str, str] = {}
        if (last := self.metrics.last) is not None:
            curves = self.metrics.curves()
            figures["success rate"] = f"{curves.success_rate[-1]:.0%}"
            figures["intervention rate"] = f"{curves.intervention_rate[-1]:.0%}"
            figures["last episode"] = f"{'success' if last.success else 'failure'}, {last.steps} steps"
            for key, (name, form) in EPISODE_FIGURES.items():
                if key in last.figures:
                    figures[name] = format(last.figures[key], form)
        figures |= self._diagnostics
        if self._guard is not None:
            figures["commands rejected"] = str(self._guard.rejections)
        if self.metrics.malformed:
            figures["malformed messages"] = str(self.metrics.malformed)
        return figures
