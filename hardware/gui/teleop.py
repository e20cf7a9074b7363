"""From gizmo and keys to a normalised action, with ownership and a dead-man. Pure; clocks are passed in.

One page at a time is in control. It keeps control only while its heartbeat comes, its drag, its held
keys or its take-over switch say so, and the arm's pose is fresh. Everything else means: not engaged.
Directions of the keys are those of the base frame (W away from the base, A to its left, E up); the
action that goes out is in the TCP frame, as the env wants it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

from hardware.gui.config import TeleopConfig
from robot_rl import frames
from robot_rl.types import ACTION_NAMES, FloatArray, HumanInput

KEY_DIRECTIONS: dict[str, tuple[int, float]] = {
    "w": (0, 1.0),
    "s": (0, -1.0),
    "a": (1, 1.0),
    "d": (1, -1.0),
    "e": (2, 1.0),
    "q": (2, -1.0),
    "u": (3, 1.0),
    "o": (3, -1.0),
    "i": (4, 1.0),
    "k": (4, -1.0),
    "j": (5, 1.0),
    "l": (5, -1.0),
}
"""Key -> (index into x y z rx ry rz of the base frame, sign)."""
FINE_KEY = "shift"
KEYS = frozenset(KEY_DIRECTIONS) | {FINE_KEY}


def gizmo_delta(tcp: FloatArray, gizmo: FloatArray, config: TeleopConfig) -> FloatArray:
    """Normalised TCP-frame step (6,) from the pose `tcp` (7,) towards `gizmo` (7,), both in the base frame.

    Translation and rotation are each shortened, not cut per axis, so that the direction is kept.
    """
    step = frames.relative(tcp, gizmo)
    translation = step[:3] / config.translation_m
    rotation = frames.quat_to_rotvec(step[3:]) / config.rotation_rad
    return np.concatenate([_shorten(translation), _shorten(rotation)])


def key_delta(tcp: FloatArray, keys: Iterable[str], config: TeleopConfig) -> FloatArray:
    """Normalised TCP-frame step (6,) of the held keys, given the TCP pose (7,) in the base frame."""
    base = np.zeros(6)
    held = set(keys)
    for key in held & set(KEY_DIRECTIONS):
        index, sign = KEY_DIRECTIONS[key]
        base[index] += sign
    speed = config.key_speed_fine if FINE_KEY in held else config.key_speed
    to_tcp = frames.quat_to_matrix(tcp[3:]).T
    return np.concatenate([_shorten(to_tcp @ base[:3]), _shorten(to_tcp @ base[3:])]) * speed


def _shorten(vector: FloatArray) -> FloatArray:
    return vector / max(1.0, float(np.abs(vector).max()))


class Teleop:
    """Who holds the arm by hand, and what they ask for. Thread-safe; times are monotonic seconds."""

    def __init__(self, config: TeleopConfig) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._heartbeats: dict[str, float] = {}
        self._owner: str | None = None
        self._keys: frozenset[str] = frozenset()
        self._gizmo: FloatArray | None = None
        self._latched = False
        self._linger_until = -np.inf
        self._tcp: FloatArray | None = None
        self._tcp_time = -np.inf
        self._gripper: float | None = None
        self._gripper_wish: float | None = None
        self._gripper_until = -np.inf

    # -- what the robot says --------------------------------------------------------------------
    def observe_tcp(self, pose_base_tcp: FloatArray, now: float) -> None:
        with self._lock:
            self._tcp, self._tcp_time = np.asarray(pose_base_tcp, np.float64), now

    def observe_gripper(self, position: float) -> None:
        """Commanded (or else measured) opening, 0 closed ... 1 open."""
        with self._lock:
            self._gripper = position

    # -- what a page says -----------------------------------------------------------------------
    def heartbeat(self, page: str, now: float) -> None:
        with self._lock:
            self._heartbeats[page] = now

    def leave(self, page: str) -> None:
        """The page was closed, hidden or cut off: it loses control at once."""
        with self._lock:
            self._heartbeats.pop(page, None)
            if page == self._owner:
                self._release()

    def set_keys(self, page: str, keys: Iterable[str], now: float) -> None:
        """The keys now held down on that page."""
        keys = KEYS.intersection(keys)
        moving = keys - {FINE_KEY}
        with self._lock:
            if moving and self._claim(page, now):
                self._keys = keys
                self._linger_until = now + self.config.linger_s
            elif not moving and page == self._owner:
                self._keys = frozenset()

    def begin_drag(self, page: str, gizmo: FloatArray, now: float) -> None:
        """The gizmo is grabbed at `gizmo` (7,) in the base frame."""
        with self._lock:
            if self._claim(page, now):
                self._gizmo = np.asarray(gizmo, np.float64)

    def drag(self, page: str, gizmo: FloatArray) -> None:
        """The gizmo was moved to `gizmo` (7,). A drag that lost control meanwhile does not get it back."""
        with self._lock:
            if page == self._owner and self._gizmo is not None:
                self._gizmo = np.asarray(gizmo, np.float64)

    def end_drag(self, page: str) -> None:
        with self._lock:
            if page == self._owner:
                self._gizmo = None

    def take_over(self, page: str, on: bool, now: float) -> None:
        """Keep (or give back) control also when nothing is held."""
        with self._lock:
            if on and self._claim(page, now):
                self._latched = True
            elif not on and page == self._owner:
                self._release()

    def toggle_gripper(self, page: str, now: float) -> None:
        with self._lock:
            if self._claim(page, now):
                current = self._gripper if self._gripper_wish is None else self._gripper_wish
                self._gripper_wish = 0.0 if (current is None or current > 0.5) else 1.0
                self._gripper_until = now + self.config.gripper_pulse_s
                self._linger_until = max(self._linger_until, now + self.config.linger_s)

    # -- what goes out --------------------------------------------------------------------------
    @property
    def owner(self) -> str | None:
        return self._owner

    @property
    def latched(self) -> bool:
        return self._latched

    @property
    def dragging(self) -> bool:
        return self._gizmo is not None

    def read(self, now: float) -> HumanInput:
        """The person's input at `now`; not engaged, with a zero action, when nobody has control."""
        with self._lock:
            idle = HumanInput(False, np.zeros(self.config.spec.dim))
            if self._owner is None:
                return idle
            silent = now - self._heartbeats.get(self._owner, -np.inf) > self.config.dead_man_s
            if silent or now - self._tcp_time > self.config.tcp_timeout_s:
                self._release()
                return idle
            if self._keys:
                self._linger_until = now + self.config.linger_s
            gripper = self._gripper_action(now)
            held = self._gizmo is not None or self._latched or gripper != 0.0
            if not held and now > self._linger_until:
                self._release()
                return idle
            return HumanInput(True, self._action(gripper))

    def _action(self, gripper: float) -> FloatArray:
        assert self._tcp is not None  # read() has checked its age
        delta = key_delta(self._tcp, self._keys, self.config)
        if self._gizmo is not None:
            delta = delta + gizmo_delta(self._tcp, self._gizmo, self.config)
        full = np.clip(np.append(delta, gripper), -1.0, 1.0)
        return full[[ACTION_NAMES.index(name) for name in self.config.action]]

    def _gripper_action(self, now: float) -> float:
        """-1 close, +1 open while the wish is neither seen fulfilled nor too old; else 0 (keep)."""
        if self._gripper_wish is None:
            return 0.0
        if now > self._gripper_until or self._gripper == self._gripper_wish:
            self._gripper_wish = None
            return 0.0
        return 1.0 if self._gripper_wish > 0.5 else -1.0

    def _claim(self, page: str, now: float) -> bool:
        """Whether `page` may steer: it beats, and nobody else whose page still beats is steering."""
        alive = now - self.config.dead_man_s
        if self._heartbeats.get(page, -np.inf) < alive or now - self._tcp_time > self.config.tcp_timeout_s:
            return False
        if self._owner not in (None, page) and self._heartbeats.get(str(self._owner), -np.inf) >= alive:
            return False
        if self._owner != page:
            self._release()
            self._owner = page
        return True

    def _release(self) -> None:
        self._owner, self._gizmo, self._latched = None, None, False
        self._keys, self._gripper_wish = frozenset(), None
        self._linger_until = -np.inf
