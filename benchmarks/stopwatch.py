"""Where the wall clock of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Seconds by name; what is measured within something else counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._within: list[float] = []

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        self._within.append(0.0)
        began_s = time.perf_counter()
        yield
        elapsed_s = time.perf_counter() - began_s
        self.seconds[name] = self.seconds.get(name, 0.0) + elapsed_s - self._within.pop()
        if self._within:
            self._within[-1] += elapsed_s

    def attach(self, name: str, owner: object, method: str) -> None:
        """Measure every call of a method of one object."""
        call = getattr(owner, method)

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.measure(name):
                return call(*args, **kwargs)

        setattr(owner, method, measured)
