"""Errors that a user can act on: each names what was wrong, the valid choices, and the fix."""

from __future__ import annotations

from collections.abc import Iterable


class RobotRlError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(RobotRlError):
    """A configuration value is missing, unknown or out of range."""


class UnknownNameError(ConfigError):
    """A name that is not among the registered ones."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self._parts = kind, name, sorted(valid)
        choices = ", ".join(self._parts[2]) or "(none registered)"
        super().__init__(f"unknown {kind} {name!r}; valid choices: {choices}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        return type(self), self._parts  # else it could not leave the process of a pool that it was raised in


class SpecError(RobotRlError):
    """An array does not fit the shape, dtype or range that its spec promises."""


class DataError(RobotRlError):
    """Data at rest is damaged or was written by an incompatible version."""


class WireError(RobotRlError):
    """Bytes from a topic or a socket are not a valid message."""


class HardwareError(RobotRlError):
    """A device is absent, silent or faulted."""


class DisarmedError(HardwareError):
    """A person wants the arm to stop: a program must not arm it again for them."""


class StaleError(HardwareError):
    """A sensor or a peer has not spoken within its deadline."""
