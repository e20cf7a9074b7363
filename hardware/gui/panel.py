"""Buttons, images, curves and figures around the 3D view. A click becomes an event in a queue."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Literal

import cv2
import numpy as np
import viser
from numpy.typing import NDArray
from viser import uplot

from hardware.gui.charts import Curves
from hardware.gui.config import GuiConfig
from robot_rl.types import Verdict

PANEL_WIDTH_PX = 292
CHART_HEIGHT_PX = 72
IMAGE_ASPECT = 2.15  # two cameras below each other fit into half of an 800 px page
AXIS: uplot.Axis = {
    "stroke": "#9aa3b2",
    "grid": {"stroke": "#2c313a", "width": 1},
    "ticks": {"stroke": "#2c313a"},
}


@dataclass(frozen=True)
class ServiceCall:
    """The person asks for a service of another node."""

    label: str
    service: str


@dataclass(frozen=True)
class Label:
    """The person judges the running episode."""

    verdict: Verdict


@dataclass(frozen=True)
class Hand:
    """A button of the take-over folder: `gripper` or `take_over`; `page` is who clicked."""

    press: str
    client_id: int | None


Color = Literal["green", "red", "gray", "blue", "orange"]
Event = ServiceCall | Label | Hand
Pick = Callable[[Curves], tuple[NDArray[np.float64], ...]]


class Panel:
    """viser's side panels. Thread-safe as viser's handles are; events are taken from `events`."""

    def __init__(self, server: viser.ViserServer, config: GuiConfig) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._gui = server.gui
        self._config = config
        self._gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=(86, 140, 230))
        self._images: dict[str, viser.GuiImageHandle] = {}
        self._charts: list[tuple[viser.GuiUplotHandle, Pick]] = []
        self._add_side_panel()
        self._add_control()
        self._gui.main_panel.dock_right()
        self._gui.main_panel.set_width(PANEL_WIDTH_PX)

    # -- what is shown --------------------------------------------------------------------------
    def show_image(self, camera: str, image: NDArray[np.uint8]) -> None:
        """`image` (H, W, 3) RGB of any size."""
        self._images[camera].image = letterbox(image, self._config.image_width_px)

    def show_curves(self, curves: Curves) -> None:
        """A chart is shown once it has data: uPlot does not recover from a scale without any."""
        self._no_curves.visible = len(curves.episode) == 0
        for chart, pick in self._charts:
            lines = pick(curves)
            chart.data = (curves.episode, *lines)
            chart.visible = bool(np.isfinite(lines).any())

    def show_figures(self, figures: Mapping[str, str]) -> None:
        self._figures.content = table_html(figures)

    def show_message(self, text: str, is_error: bool) -> None:
        """The answer to the last click."""
        color = "#f08a7c" if is_error else "#8fd19e"
        self._message.content = f'<div style="{CELL};color:{color}">{escape(text)}</div>'

    # -- how it is laid out ---------------------------------------------------------------------
    def _add_side_panel(self) -> None:
        panel = self._gui.add_panel()
        with panel.add_tab("Cameras", viser.Icon.CAMERA):
            for camera in self._config.cameras:
                blank = letterbox(np.full((3, 4, 3), 26, np.uint8), self._config.image_width_px)
                self._images[camera] = self._gui.add_image(blank, label=camera, jpeg_quality=80)
        panel.dock_left()
        panel.set_width(PANEL_WIDTH_PX)
        curves = self._gui.add_panel()
        with curves.add_tab("Curves", viser.Icon.CHART_LINE):
            self._no_curves = self._gui.add_html(f'<div style="{CELL};opacity:.65">no episodes yet</div>')
            self._add_chart(
                "success (green), interventions (orange)",
                (("success", "#6fcf7f"), ("interventions", "#f2b04c")),
                lambda c: (c.success_rate, c.intervention_rate),
                (0.0, 1.05),
            )
            self._add_chart("episode length, steps", (("steps", "#63a8f0"),), lambda c: (c.length,), None)
            self._add_chart("updates per step", (("utd", "#c08ae8"),), lambda c: (c.utd,), None)
        curves.dock_below(panel)

    def _add_chart(
        self, title: str, lines: tuple[tuple[str, str], ...], pick: Pick, limits: tuple[float, float] | None
    ) -> None:
        """One chart over episodes; `lines` are names and colours of what `pick` returns."""
        scales: dict[str, uplot.Scale] = {"x": {"time": False}}
        if limits is not None:
            scales["y"] = {"range": limits}
        series = tuple(uplot.Series(label=name, stroke=color, width=2, points={"show": False}) for name, color in lines)
        nothing = np.array([np.nan, np.nan])
        chart = self._gui.add_uplot(
            (np.array([0.0, 1.0]), *(nothing for _ in lines)),
            (uplot.Series(label="episode"), *series),
            title=title,
            scales=scales,
            axes=({**AXIS, "size": 26}, {**AXIS, "size": 38}),
            legend={"show": False},
            height=CHART_HEIGHT_PX,
            padding=(6, 8, 0, 0),
            visible=False,
        )
        self._charts.append((chart, pick))

    def _add_control(self) -> None:
        config = self._config
        with self._gui.add_folder("Robot"):
            self._service("Arm", config.arm_service, "green", viser.Icon.PLAYER_PLAY)
            self._service("Disarm", config.disarm_service, "red", viser.Icon.HAND_STOP)
            self._service("Recover from fault", config.recover_service, "gray", viser.Icon.REFRESH_ALERT)
        with self._gui.add_folder("Take-over"):
            self._hand("Take over / give back  (T)", "take_over", "blue", viser.Icon.HAND_GRAB)
            self._hand("Open / close gripper  (Space)", "gripper", "gray", viser.Icon.GRIP_HORIZONTAL)
        with self._gui.add_folder("Episode"):
            self._verdict(Verdict.SUCCESS, "green", viser.Icon.CHECK)
            self._verdict(Verdict.FAILURE, "orange", viser.Icon.X)
            self._verdict(Verdict.DISCARD, "gray", viser.Icon.TRASH)
            self._services(
                {
                    config.reset_label: config.reset_service,
                    "Start": config.start_episode_service,
                    "End": config.end_episode_service,
                }
            )
        self._message = self._gui.add_html("")
        with self._gui.add_folder("Live"):
            self._figures = self._gui.add_html("")

    def _service(self, label: str, service: str, color: Color, icon: viser.IconName) -> None:
        if not service:
            return
        button = self._gui.add_button(label, color=color, icon=icon)
        button.on_click(lambda _: self.events.put(ServiceCall(label, service)))

    def _services(self, services: Mapping[str, str]) -> None:
        """Small buttons in one row; services without a name have none."""
        row = self._gui.add_button_group("Run", tuple(label for label, service in services.items() if service))
        row.on_click(lambda event: self.events.put(ServiceCall(event.target.value, services[event.target.value])))

    def _verdict(self, verdict: Verdict, color: Color, icon: viser.IconName) -> None:
        button = self._gui.add_button(verdict.value.capitalize(), color=color, icon=icon)
        button.on_click(lambda _: self.events.put(Label(verdict)))

    def _hand(self, label: str, press: str, color: Color, icon: viser.IconName) -> None:
        button = self._gui.add_button(label, color=color, icon=icon)
        button.on_click(lambda event: self.events.put(Hand(press, event.client_id)))


BACKGROUND = 36  # grey of viser's dark panels
ROW = "display:flex;justify-content:space-between;gap:10px"
CELL = "font:13px/1.7 Inter,system-ui,sans-serif;padding:2px 12px"


def letterbox(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """`image` (H, W, 3), as large as fits, in the middle of a frame of `width` in the page's colour.

    Enlarged as well, since a page shows a small picture small.
    """
    height = round(width / IMAGE_ASPECT)
    scale = min(height / image.shape[0], width / image.shape[1])
    wide, high = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = np.full((height, width, 3), BACKGROUND, np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    frame[top : top + high, left : left + wide] = cv2.resize(image, (wide, high), interpolation=interpolation)
    return frame


def table_html(figures: Mapping[str, str]) -> str:
    """Names on the left, values on the right."""
    rows = "".join(
        f'<div style="{ROW}"><span style="opacity:.65">{escape(name)}</span>'
        f'<span style="font-variant-numeric:tabular-nums">{escape(value)}</span></div>'
        for name, value in figures.items()
    )
    return f'<div style="{CELL}">{rows}</div>'
