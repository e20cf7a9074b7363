"""One file per arm: what YAML cannot say about it (its kinematic chain). Found by file name.

Adding an arm takes `hardware/robots/<name>.py` with a function `chain(options) -> Chain`, and
`robot_rl/conf/robot/<name>.yaml`, which names it as its `model`: see docs/architecture.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from hardware.ik import Chain
from robot_rl.errors import ConfigError, UnknownNameError


def names() -> tuple[str, ...]:
    """Arms with a file here."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load_chain(name: str, options: Mapping[str, Any] | None = None) -> Chain:
    """Kinematic chain of arm `name`; `options` are the YAML's `model_options`."""
    if name not in names():
        raise UnknownNameError("robot model", name, names())
    return importlib.import_module(f"{__name__}.{name}").chain(options or {})


def no_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options for an arm that has none."""
    if options:
        raise ConfigError(f"robot model {name!r} takes no model_options, got {sorted(options)}")
