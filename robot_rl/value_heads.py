"""How a network's outputs tell a value, and how far they are from a target: by regression or by classification.

Shape letters: ... any leading dimensions (members, batch), O outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from robot_rl.errors import ConfigError


class ValueHead(Protocol):
    """Reads outputs (..., O)."""

    @property
    def outputs(self) -> int: ...

    def value(self, outputs: Tensor) -> Tensor:
        """The value (...) that outputs (..., O) stand for."""
        ...

    def error(self, outputs: Tensor, target: Tensor) -> Tensor:
        """What to minimise (...) for a target value that broadcasts to (...)."""
        ...

    def squared(self) -> ValueHead:
        """The same without Huber's error: an expectile is of squared errors."""
        ...


@dataclass(frozen=True)
class ScalarHead:
    """One output is the value; squared error, or Huber's."""

    huber: float | None = None
    """Distance beyond which the error grows linearly (times itself, so that it joins); none: squared everywhere."""

    def __post_init__(self) -> None:
        if self.huber is not None and not self.huber > 0.0:
            raise ConfigError(f"huber must be positive, got {self.huber}")

    @property
    def outputs(self) -> int:
        return 1

    def value(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1)

    def error(self, outputs: Tensor, target: Tensor) -> Tensor:
        value = self.value(outputs)
        if self.huber is None:
            return (value - target).square()
        return 2.0 * F.huber_loss(value, target.expand_as(value), reduction="none", delta=self.huber)

    def squared(self) -> ScalarHead:
        return ScalarHead()


@dataclass(frozen=True)
class ClassHead:
    """Classes of values, told by a Gaussian about the target: HL-Gauss (2403.03950, section 3.1).

    Cross entropy; the value is the mean of the classes' middles.
    """

    low: float = 0.0
    """Lowest value that can occur."""
    high: float = 1.0
    """Highest."""
    classes: int = 51
    """Of equal width between them, with a margin on both sides that a Gaussian needs."""
    spread: float = 0.75
    """Standard deviation of the Gaussian, in widths of a class; the paper's choice."""

    def __post_init__(self) -> None:
        if not self.low < self.high or self.classes < 8 or not self.spread > 0.0:
            raise ConfigError(f"need low < high, at least 8 classes, a positive spread; got {self}")

    @property
    def outputs(self) -> int:
        return self.classes

    def holds(self, values: tuple[float, float] | None) -> bool:
        """Whether all values between these two are within the range; no for a range that is not known."""
        return values is not None and self.low <= values[0] and values[1] <= self.high

    def _edges(self, like: Tensor) -> Tensor:
        margin = math.ceil(3.0 * self.spread)
        width = (self.high - self.low) / (self.classes - 2 * margin)
        return torch.linspace(
            self.low - margin * width, self.high + margin * width, self.classes + 1, device=like.device
        )

    def value(self, outputs: Tensor) -> Tensor:
        edges = self._edges(outputs)
        return outputs.softmax(-1) @ (0.5 * (edges[1:] + edges[:-1]))

    def shares(self, target: Tensor) -> Tensor:
        """The Gaussian's mass (..., O) in each class, for targets (...) pulled into the range."""
        edges = self._edges(target)
        scale = math.sqrt(2.0) * self.spread * float(edges[1] - edges[0])
        below = torch.erf((edges - target.clamp(self.low, self.high).unsqueeze(-1)) / scale)
        return (below[..., 1:] - below[..., :-1]) / (below[..., -1:] - below[..., :1])

    def error(self, outputs: Tensor, target: Tensor) -> Tensor:
        return -(self.shares(target) * outputs.log_softmax(-1)).sum(-1)

    def squared(self) -> ClassHead:
        return self
