"""Who drives the arm: one of hold, human, reset and policy. Pure logic; the caller gives the time.

Priority, highest first:

- `hold`: a request to stand still wins over everything, since it can do no harm;
- `human`: a person may interrupt a policy and also a reset motion;
- `reset`: while an arm goes home a policy that still talks must not disturb it;
- `policy`: everything else.

A source is *fresh* while the observation that its newest request was computed from is younger than
`expire_s`. A higher source takes over at once. A lower one takes over at once when the higher one
*withdraws* (a person lets go, a reset is done); when the higher one merely falls silent, the arm
holds for `release_s` first, so that a flickering deadman or a lossy link does not toss the arm back
and forth (hysteresis). With nobody fresh the answer is hold.

Hand-over is smooth: for `handover_s` after a change of source, `Choice.handover_left_s` says how much
of that time is left, and the guard takes at least so long to bring the target to where the new source
wants it.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_rl.errors import UnknownNameError
from robot_rl.types import ArmTarget

HOLD = "hold"
SOURCES = ("human", "reset", "policy")
"""Who may send requests, highest first."""
PRIORITY = (HOLD, *SOURCES)


@dataclass(frozen=True, slots=True)
class Choice:
    """Who drives now."""

    source: str
    target: ArmTarget | None  # None for hold
    changed: bool  # another source than at the last call
    handover_left_s: float  # until the change of source is complete


class Mux:
    """Keeps the newest request of each source and picks one of them."""

    def __init__(self, expire_s: float, release_s: float, handover_s: float) -> None:
        self.expire_s = expire_s
        self.release_s = release_s
        self.handover_s = handover_s
        self._requests: dict[str, ArmTarget] = {}
        self._source = HOLD
        self._since_s = -float("inf")

    @property
    def source(self) -> str:
        """The source chosen last."""
        return self._source

    def newest_stamp_s(self, source: str) -> float:
        """Stamp of the newest request of `source`; -inf when there is none."""
        request = self._requests.get(source)
        return -float("inf") if request is None else request.stamp_s

    def request(self, source: str, target: ArmTarget) -> None:
        """Replace the request of `source`. Raises `UnknownNameError` for a source not in `PRIORITY`."""
        if source not in PRIORITY:
            raise UnknownNameError("source", source, PRIORITY)
        self._requests[source] = target

    def withdraw(self, source: str) -> None:
        """`source` gives up the arm; nothing happens when it did not have it."""
        self._requests.pop(source, None)

    def clear(self) -> None:
        """Forget every request; hold is chosen until a new one comes."""
        self._requests.clear()
        self._source = HOLD
        self._since_s = -float("inf")

    def choose(self, now_s: float) -> Choice:
        source, target = self._pick(now_s)
        changed = source != self._source
        if changed:
            self._source, self._since_s = source, now_s
        left_s = max(0.0, self._since_s + self.handover_s - now_s)
        return Choice(source, target, changed, left_s)

    def _pick(self, now_s: float) -> tuple[str, ArmTarget | None]:
        for source in PRIORITY:
            request = self._requests.get(source)
            if request is None:
                continue
            age_s = now_s - request.stamp_s
            if age_s <= self.expire_s:
                return source, None if source == HOLD else request
            if age_s <= self.expire_s + self.release_s:
                break
        return HOLD, None
