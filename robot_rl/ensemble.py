"""Batched MLPs: N networks in one module with stacked weights, written for speed on a CPU.

A small learner is bound by matrix products, by the element-wise work between them and by the overhead of each
call. So a whole MLP is one differentiable function with its own backward pass, which computes nothing that is
not asked for, and large products go to oneDNN, which is twice as fast as PyTorch's default (MKL) on AMD
processors and as fast elsewhere. On a GPU the same code runs with cuBLAS products.

Shape letters: N members, B batch, I inputs, H hidden, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robot_rl.errors import UnknownNameError

NORM_EPS = 1e-6  # flax's LayerNorm, as in RLPD and HIL-SERL
NARROW = 16  # products with a dimension up to this are memory bound: oneDNN does not help
_aten = torch.ops.aten
_onednn_linear: Callable[..., Tensor] | None = None
if torch.backends.mkldnn.is_available():
    _onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


class Activation(NamedTuple):
    """An element-wise function; `backward(gradient, before, after)`."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


def _tanh(value: Tensor) -> Tensor:
    # On a CPU PyTorch's sigmoid is some ten times as fast as its tanh.
    return torch.sigmoid(2.0 * value).mul_(2.0).sub_(1.0)


ACTIVATIONS = {
    "tanh": Activation(_tanh, lambda gradient, before, after: _aten.tanh_backward(gradient, after)),
    "silu": Activation(_aten.silu, lambda gradient, before, after: _aten.silu_backward(gradient, before)),
    "relu": Activation(torch.relu, lambda gradient, before, after: _aten.threshold_backward(gradient, after, 0)),
}


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right + bias`: (N or 1, B, I), (N, I, O), (N, 1, O) -> (N, B, O). Not differentiable by itself."""
    members, inputs, outputs = right.shape
    if _onednn_linear is None or left.device.type != "cpu" or left.dtype != torch.float32:
        left = left.expand(members, -1, -1)
        return torch.bmm(left, right) if bias is None else torch.baddbmm(bias, left, right)
    if outputs <= NARROW or inputs <= NARROW or left.shape[1] <= NARROW:
        left = left.expand(members, -1, -1)
        if inputs == 1:
            out = left * right
        elif outputs <= NARROW:  # several times as fast as its transpose
            out = torch.bmm(right.mT, left.mT).mT
        else:
            out = torch.bmm(left, right)
        return out if bias is None else out + bias
    # oneDNN has no batched entry for float32 here: as inside any batched product, one matrix after the other.
    lefts = left.unbind() if left.shape[0] == members else left.unbind() * members
    biases = [None] * members if bias is None else bias.squeeze(1).unbind()
    parts = [
        _onednn_linear(one, two, three, "none", [], "")
        for one, two, three in zip(lefts, right.mT.unbind(), biases, strict=True)
    ]
    return parts[0].unsqueeze(0) if members == 1 else torch.stack(parts)


class _Saved(NamedTuple):
    """What one hidden layer keeps for its backward pass."""

    value: Tensor
    linear: Tensor
    mean: Tensor
    rstd: Tensor
    normal: Tensor  # before scale and shift; of a single member not kept
    before: Tensor
    after: Tensor


def _hidden(value: Tensor, layer: Sequence[Tensor], activation: Activation) -> _Saved:
    """Linear, LayerNorm, activation of `value` (N or 1, B, I)."""
    weight, bias, scale, shift = layer
    linear = product(value, weight, bias)
    width = linear.shape[-1]
    if weight.shape[0] == 1:
        before, mean, rstd = torch.native_layer_norm(linear, (width,), scale.view(-1), shift.view(-1), NORM_EPS)
        return _Saved(value, linear, mean, rstd, before, before, activation.forward(before))
    # PyTorch's LayerNorm knows one scale for all rows; without any its CPU kernel takes a slower route.
    ones, zeros = linear.new_ones(width), linear.new_zeros(width)
    normal, mean, rstd = torch.native_layer_norm(linear, (width,), ones, zeros, NORM_EPS)
    before = torch.addcmul(shift, normal, scale)
    return _Saved(value, linear, mean, rstd, normal, before, activation.forward(before))


def _hidden_backward(
    gradient: Tensor, saved: _Saved, layer: Sequence[Tensor], activation: Activation, learns: bool
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Gradient at the linear part's result (N, B, H), and those of weight, bias, scale, shift if it `learns`."""
    weight, _, scale, shift = layer
    gradient = activation.backward(gradient, saved.before, saved.after)
    normalisation = saved.linear, gradient.shape[-1:], saved.mean, saved.rstd
    to_scale = to_shift = None
    if weight.shape[0] == 1:
        to_linear, to_scale, to_shift = _aten.native_layer_norm_backward(
            gradient.contiguous(), *normalisation, scale.view(-1), shift.view(-1), [True, learns, learns]
        )
    else:
        to_linear = _aten.native_layer_norm_backward(
            gradient * scale, *normalisation, None, None, [True, False, False]
        )[0]
        if learns:
            to_scale, to_shift = (gradient * saved.normal).sum(1, keepdim=True), gradient.sum(1, keepdim=True)
    if not learns:
        return to_linear, (None,) * 4
    assert to_scale is not None and to_shift is not None
    to_weight, to_bias = product(saved.value.mT, to_linear), to_linear.sum(1, keepdim=True)
    return to_linear, (to_weight, to_bias, to_scale.view_as(scale), to_shift.view_as(shift))


def _layers(parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Hidden layers come as (weight, bias, scale, shift); an output layer, if any, as (weight, bias)."""
    return [parameters[begin : begin + 4] for begin in range(0, len(parameters), 4)]


def _run(inputs: Sequence[Tensor], parameters: Sequence[Tensor], activation: Activation) -> tuple[Tensor, list[_Saved]]:
    value = (inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), -1)).unsqueeze(0)
    trace = []
    for layer in _layers(parameters):
        if len(layer) == 2:
            return product(value, *layer), trace
        trace.append(_hidden(value, layer, activation))
        value = trace[-1].after
    return value, trace


class _MLP(torch.autograd.Function):
    """`_run` with gradients for the inputs and parameters that ask for them."""

    @staticmethod
    def forward(ctx: Any, activation: Activation, count: int, *tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:count], tensors[count:]
        output, ctx.trace = _run(inputs, parameters, activation)
        ctx.activation = activation
        ctx.splits = [value.shape[-1] for value in inputs]
        ctx.save_for_backward(*parameters)
        return output.clone() if ctx.trace and output is ctx.trace[-1].after else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        layers, count = _layers(ctx.saved_tensors), len(ctx.splits)
        wants_inputs, learns = ctx.needs_input_grad[2 : 2 + count], any(ctx.needs_input_grad[2 + count :])
        to_parameters: list[Tensor | None] = []
        weight = None  # of the layer above the one in hand
        if len(layers) > len(ctx.trace):
            weight = layers[-1][0]
            if learns:
                value = ctx.trace[-1].after
                to_parameters = [product(value.mT, gradient), gradient.sum(1, keepdim=True)]
            else:
                to_parameters = [None, None]
        for saved, layer in zip(reversed(ctx.trace), reversed(layers[: len(ctx.trace)]), strict=True):
            if weight is not None:
                gradient = product(gradient, weight.mT)
            gradient, to_layer = _hidden_backward(gradient, saved, layer, ctx.activation, learns)
            to_parameters = [*to_layer, *to_parameters]
            weight = layer[0]
        assert weight is not None
        to_inputs: list[Tensor | None] = []
        for wants, rows in zip(wants_inputs, weight.split(ctx.splits, 1), strict=True):
            to_inputs.append(product(gradient, rows.mT).sum(0) if wants else None)
        return None, None, *to_inputs, *to_parameters


class EnsembleMLP(nn.Module):
    """N MLPs of linear, LayerNorm, activation layers (RLPD, 2302.02948, section 4.2) and a linear output."""

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int | None,
        activation: str = "tanh",
    ) -> None:
        """`outputs` None ends with the last hidden layer. Weights: Xavier uniform, biases zero."""
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UnknownNameError("activation", activation, ACTIVATIONS)
        self._activation = ACTIVATIONS[activation]
        parameters, width = [], inputs
        for size in hidden:
            ones, zeros = torch.ones(members, 1, size), torch.zeros(members, 1, size)
            parameters += [_xavier(members, width, size), zeros, ones, zeros.clone()]
            width = size
        if outputs is not None:
            parameters += [_xavier(members, width, outputs), torch.zeros(members, 1, outputs)]
        self.layers = nn.ParameterList(parameters)
        self._parameters_in_order = tuple(self.layers)  # iterating over a ParameterList is slow

    def forward(self, *inputs: Tensor, chosen: Tensor | None = None, frozen: bool = False) -> Tensor:
        """Inputs (B, I1), (B, I2), ... as one (B, I), seen by all members: (N, B, O), of the `chosen` ones only.

        `frozen` passes gradients to the inputs alone, at half the price.
        """
        parameters: Sequence[Tensor] = self._parameters_in_order
        if frozen:
            parameters = [parameter.detach() for parameter in parameters]
        if chosen is not None:
            parameters = [parameter.index_select(0, chosen) for parameter in parameters]
        if not torch.is_grad_enabled():
            return _run(inputs, parameters, self._activation)[0]
        return _MLP.apply(self._activation, len(inputs), *inputs, *parameters)  # type: ignore[return-value]


def _xavier(members: int, inputs: int, outputs: int) -> Tensor:
    bound = math.sqrt(6.0 / (inputs + outputs))
    return torch.empty(members, inputs, outputs).uniform_(-bound, bound)
