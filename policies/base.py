"""A policy that was imitated, frozen, to build another one on.

Shape letters: B batch, H horizon, A action.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policies.chunk_net import ChunkSampler
from policies.parameters import load_parameters
from robot_rl.checkpoints import latest_checkpoint
from robot_rl.errors import ConfigError, DataError, SpecError
from robot_rl.spec_difference import difference
from robot_rl.typed import to_dataclass
from robot_rl.types import ActionSpec, ObservationSpec


class FrozenBase:
    """Acts by the first action of the chunk that a chunk policy begins at each observation.

    It is no part of the module that holds it: not learned, not in its `state_dict`, and shared by its copies.
    """

    def __init__(self, model: ChunkSampler) -> None:
        """`model` sees one observation and is told no goal."""
        self.model = model.eval().requires_grad_(False)
        self.horizon = model.horizon

    def __deepcopy__(self, memo: Mapping[int, Any]) -> FrozenBase:
        return self

    @torch.no_grad()
    def act(self, observation: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1], all from the same unit Gaussian `noise` (1, H, A); observations each (B, ...)."""
        seen = {key: value.unsqueeze(1) for key, value in observation.items()}
        batch = len(next(iter(seen.values())))
        chunks = self.model.sample(seen, None, noise.expand(batch, -1, -1))
        return chunks[:, 0].clamp(-1.0, 1.0)

    def move(self, apply: Callable[[Tensor], Tensor]) -> None:
        """To another device, as `nn.Module._apply` does."""
        self.model._apply(apply)


def pin_base(path: Path) -> Path:
    """The checkpoint that a run has now (or the one that is named), so that it stays the same one."""
    path = path.resolve()
    checkpoint = path if (path / "policy.safetensors").exists() else latest_checkpoint(path / "checkpoints")
    if checkpoint is None:
        raise DataError(
            f"{path} has no checkpoints/step_*/policy.safetensors; was it written by `robot-rl imitate` or `train`?"
        )
    return checkpoint


def load_base(checkpoint: Path, observation_spec: ObservationSpec, action_spec: ActionSpec) -> FrozenBase:
    """The policy of a run of `robot-rl imitate`; `SpecError` unless it sees and does the same."""
    checkpoint = pin_base(checkpoint)
    path = checkpoint.parents[1] / "experiment.json"
    try:
        experiment = json.loads(path.read_text())
        tensors = load_file(checkpoint / "policy.safetensors")
        task, config = (to_dataclass(object, experiment[name]) for name in ("task", "policy"))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"the base {checkpoint} cannot be read: {error}") from error
    for name, wanted in (("observation_spec", observation_spec), ("action_spec", action_spec)):
        if found := difference(getattr(task, name), wanted, ("base", "task")):
            raise SpecError(f"the base {checkpoint} does not fit the task: they differ in {name}, {found}")
    if not hasattr(config, "build"):
        raise ConfigError(f"{path} is of a {type(config).__name__}; a base is a chunk policy of `robot-rl imitate`")
    model: ChunkSampler = config.build(observation_spec, action_spec)  # type: ignore[attr-defined]
    if model.history != 1 or model.goal_arrays or model.draws:
        raise ConfigError(
            f"the base of {path} must see one observation (policy.inputs.history=1), be told no goal "
            "(policy.inputs.goal=false), and sample without noise on the way (policy.sampler=ddim)"
        )
    load_parameters(model, tensors)
    return FrozenBase(model)
