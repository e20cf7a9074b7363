"""What the guard says about itself, and the banner that everybody in the room can read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STATUS_TIMEOUT_S = 1.5

STYLES: dict[str, tuple[str, str]] = {
    "policy": ("POLICY", "#1d5fc2"),
    "human": ("HUMAN", "#c26a00"),
    "reset": ("RESET", "#7a3fb0"),
    "hold": ("HOLD", "#2f6f6a"),
    "disarmed": ("DISARMED", "#4a505b"),
    "fault": ("FAULT", "#b02a2a"),
    "silent": ("NO GUARD", "#6b2020"),
}
"""State -> title and colour of the banner."""


@dataclass(frozen=True)
class GuardView:
    """The guard's newest status."""

    state: str  # a key of STYLES
    reason: str
    rejections: int

    @property
    def is_armed(self) -> bool:
        return self.state not in ("disarmed", "fault")


def guard_view(values: Mapping[str, str]) -> GuardView:
    """From the key/values of `guard/status`; an unknown source reads as hold."""
    armed = values.get("armed", "").lower() in ("true", "1")
    source = values.get("source", "hold")
    state = source if source in ("policy", "human", "reset", "hold") else "hold"
    if not armed:
        state = "fault" if values.get("mode", "").lower() == "fault" else "disarmed"
    counts = [value for key, value in values.items() if key.startswith("rejected.")]
    return GuardView(state, values.get("reason", ""), sum(int(c) for c in counts if c.isdigit()))


def diagnostic_figures(source: str, values: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Of what the part `source` reports of itself, what is `wanted`, in that order, named as a person reads it."""
    return {f"{source} {key.replace('_', ' ').replace('.', ' ')}": values[key] for key in wanted if key in values}


def banner(view: GuardView | None, hand: str, figures: str) -> dict[str, str]:
    """What the banner shows. `view` is None when the guard is silent; `hand` is what the person does."""
    state = "silent" if view is None else view.state
    title, color = STYLES[state]
    if view is None:
        detail = "the guard does not answer; nothing can move"
    elif state in ("disarmed", "fault"):
        detail = view.reason
    else:
        detail = hand
    return {"state": state, "title": title, "color": color, "detail": detail, "right": figures}
