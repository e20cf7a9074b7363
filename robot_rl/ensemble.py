"""Batched MLPs: N networks in one module with stacked weights, and the fast CPU path below them.

Learning on a CPU is bound by matrix products and by the element-wise work between them. Both are helped here:
products go to oneDNN (PyTorch's own CPU route is MKL, at half the speed on AMD processors), and LayerNorm with
its activation is one function with its own backward pass. A GPU takes the same path with cuBLAS products.

Shape letters: N members, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from robot_rl.errors import UnknownNameError

NORM_EPS = 1e-6  # flax's LayerNorm, as in RLPD and HIL-SERL
ONEDNN_LINEAR: Callable[..., Tensor] | None = None
if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    ONEDNN_LINEAR = torch.ops.mkldnn._linear_pointwise


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Batched `left @ right + bias`: (N or 1, B, I), (N, I, O), (N, 1, O) -> (N, B, O). Not differentiable."""
    members = max(len(left), len(right))
    if ONEDNN_LINEAR is None or left.device.type != "cpu" or left.dtype != torch.float32:
        left, right = left.expand(members, -1, -1), right.expand(members, -1, -1)
        return torch.bmm(left, right) if bias is None else torch.baddbmm(bias, left, right)
    # PyTorch has no batched entry to oneDNN in float32, so its products are issued one matrix at a time.
    single = [
        ONEDNN_LINEAR(
            left[n % len(left)], right[n % len(right)].t(), None if bias is None else bias[n, 0], "none", [], ""
        )
        for n in range(members)
    ]
    return single[0].unsqueeze(0) if members == 1 else torch.stack(single)


class _Linear(torch.autograd.Function):
    """`product` with gradients; nothing is computed for what needs none."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        to_inputs = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_inputs = product(gradient, weight.transpose(1, 2))
            if len(inputs) < len(to_inputs):
                to_inputs = to_inputs.sum(0, keepdim=True)
        if ctx.needs_input_grad[1]:
            to_weight = product(inputs.transpose(1, 2), gradient)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(1, keepdim=True)
        return to_inputs, to_weight, to_bias


def _fast_tanh(value: Tensor) -> Tensor:
    # PyTorch's vectorised sigmoid is some ten times as fast as its tanh on a CPU.
    return torch.sigmoid(2.0 * value).mul_(2.0).sub_(1.0)


_aten = torch.ops.aten
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    # forward(before), backward(gradient, before, after)
    "tanh": (_fast_tanh, lambda gradient, before, after: _aten.tanh_backward(gradient, after)),
    "silu": (F.silu, lambda gradient, before, after: _aten.silu_backward(gradient, before)),
    "relu": (F.relu, lambda gradient, before, after: _aten.threshold_backward(gradient, after, 0)),
}


class _NormActivate(torch.autograd.Function):
    """activation(LayerNorm(inputs) * scale + shift) over the last dimension."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, scale: Tensor, shift: Tensor, activation: str) -> Tensor:
        forward, ctx.activation_backward = ACTIVATIONS[activation]
        normal, mean, rstd = torch.native_layer_norm(inputs, inputs.shape[-1:], None, None, NORM_EPS)
        before = torch.addcmul(shift, normal, scale)
        after = forward(before)
        ctx.save_for_backward(inputs, mean, rstd, normal, scale, before, after)
        return after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        inputs, mean, rstd, normal, scale, before, after = ctx.saved_tensors
        gradient = ctx.activation_backward(gradient, before, after)
        to_inputs = to_scale = to_shift = None
        if ctx.needs_input_grad[1]:
            to_scale = (gradient * normal).sum(1, keepdim=True)
        if ctx.needs_input_grad[2]:
            to_shift = gradient.sum(1, keepdim=True)
        if ctx.needs_input_grad[0]:
            to_inputs = _aten.native_layer_norm_backward(
                gradient * scale, inputs, inputs.shape[-1:], mean, rstd, None, None, [True, False, False]
            )[0]
        return to_inputs, to_scale, to_shift, None


class EnsembleLinear(nn.Module):
    """N linear layers of one or several inputs, which need not be concatenated."""

    def __init__(self, members: int, inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        bound = math.sqrt(6.0 / (sum(inputs) + outputs))  # Xavier, uniform
        self.weights = nn.ParameterList(
            torch.empty(members, size, outputs).uniform_(-bound, bound) for size in inputs
        )
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, *inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Each input (1, B, I) for all members alike or (N, B, I): (N, B, O), of the `chosen` members only."""
        bias = pick(self.bias, chosen)
        total = None
        for value, weight in zip(inputs, self.weights, strict=True):
            part = linear(value, pick(weight, chosen), bias)
            total = part if total is None else total + part
            bias = torch.zeros_like(bias)
        assert total is not None
        return total


class EnsembleLayer(nn.Module):
    """N hidden layers: linear, LayerNorm, activation."""

    def __init__(self, members: int, inputs: Sequence[int], outputs: int, activation: str = "tanh") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownNameError("activation", activation, ACTIVATIONS)
        self.linear = EnsembleLinear(members, inputs, outputs)
        self.scale = nn.Parameter(torch.ones(members, 1, outputs))
        self.shift = nn.Parameter(torch.zeros(members, 1, outputs))
        self._activation = activation

    def forward(self, *inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """As `EnsembleLinear`."""
        before = self.linear(*inputs, chosen=chosen)
        return norm_activate(before, pick(self.scale, chosen), pick(self.shift, chosen), self._activation)


class EnsembleMLP(nn.Module):
    """N MLPs with LayerNorm and a linear output (RLPD, 2302.02948, section 4.2)."""

    def __init__(
        self,
        members: int,
        inputs: Sequence[int],
        hidden: Sequence[int],
        outputs: int,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        sizes = [tuple(inputs), *((size,) for size in hidden)]
        self.hidden = nn.ModuleList(
            EnsembleLayer(members, size, width, activation) for size, width in zip(sizes, hidden, strict=False)
        )
        self.output = EnsembleLinear(members, sizes[-1], outputs)

    def forward(self, *inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Inputs (B, I), the same for all members: (N, B, O), or of the `chosen` members only."""
        values: Sequence[Tensor] = [value.unsqueeze(0) for value in inputs]
        for layer in self.hidden:
            values = [layer(*values, chosen=chosen)]
        return self.output(*values, chosen=chosen)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Differentiable `product` with a bias."""
    return _Linear.apply(inputs, weight, bias)  # type: ignore[return-value]


def norm_activate(inputs: Tensor, scale: Tensor, shift: Tensor, activation: str) -> Tensor:
    """LayerNorm of `inputs` (N, B, O) with each member's scale and shift (N, 1, O), then the activation."""
    return _NormActivate.apply(inputs, scale, shift, activation)  # type: ignore[return-value]


def pick(stacked: Tensor, chosen: Tensor | None) -> Tensor:
    """The `chosen` members of a stacked parameter."""
    return stacked if chosen is None else stacked.index_select(0, chosen)
