"""Taking over parameters that came from elsewhere: all of them, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from robot_rl.errors import SpecError


def load_parameters(module: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Copy `tensors` (or arrays) into `module`; `SpecError`, and the old ones kept, when they do not fit."""
    current = module.state_dict()
    if different := sorted(set(current) ^ set(tensors)):
        raise SpecError(f"policy parameters differ in {different[:5]}; other policy configuration?")
    new = {name: torch.as_tensor(value) for name, value in tensors.items()}
    for name, value in new.items():
        if value.shape != current[name].shape:
            raise SpecError(
                f"policy parameter {name} has shape {tuple(value.shape)}, expected {tuple(current[name].shape)}"
            )
        if not value.isfinite().all():
            raise SpecError(f"policy parameter {name} holds NaN or Inf")
    module.load_state_dict(new)
