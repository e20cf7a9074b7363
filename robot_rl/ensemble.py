"""Batched MLPs: N networks in one module with stacked weights, written for speed on a CPU.

A small learner is bound by matrix products, by the element-wise work between them and by the overhead of each
call. So a whole MLP is one differentiable function with its own backward pass, which computes nothing that is
not asked for; what lies between two products is one pass over memory (`robot_rl.hidden`); and off Intel's
processors large products go to oneDNN, which on AMD's is twice as fast as PyTorch's default (MKL). On a GPU the same
code runs with cuBLAS products.

Shape letters: N members, B batch, I inputs, H hidden, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robot_rl import hidden as hidden_layer
from robot_rl.compiled import library, processor
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.hidden import ACTIVATIONS, Activation

NARROW = 16  # products with a dimension up to this are memory bound: oneDNN does not help
IS_INTEL = "GenuineIntel" in processor()  # there MKL is the faster one, most of all at weight gradients
_onednn_linear: Callable[..., Tensor] | None = None
if torch.backends.mkldnn.is_available() and not IS_INTEL:
    _onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right + bias`: (N or 1, B, I), (N, I, O), (N, 1, O) -> (N, B, O). Not differentiable by itself."""
    members, inputs, outputs = right.shape
    if left.device.type != "cpu":
        left = left.expand(members, -1, -1)
        return torch.bmm(left, right) if bias is None else torch.baddbmm(bias, left, right)
    if _onednn_linear is None or left.dtype != torch.float32 or min(inputs, outputs, left.shape[1]) <= NARROW:
        out = _batched(left.expand(members, -1, -1), right)
        return out if bias is None else out + bias
    # oneDNN has no batched entry for float32 here: as inside any batched product, one matrix after the other.
    lefts = left.unbind() if left.shape[0] == members else left.unbind() * members
    biases = [None] * members if bias is None else bias.squeeze(1).unbind()
    parts = [
        _onednn_linear(one, two, three, "none", [], "")
        for one, two, three in zip(lefts, right.mT.unbind(), biases, strict=True)
    ]
    return parts[0].unsqueeze(0) if members == 1 else torch.stack(parts)


def _batched(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` (N, B, O) of MKL, by the faster of the two ways to say it."""
    if left.shape[-1] == 1:
        return left * right
    # A product with few outputs is several times as fast as its transpose when a big operand is a transposed view;
    # on Intel's processors the reverse is true when none is.
    is_plain = IS_INTEL and left.stride(-1) == 1 and right.is_contiguous()
    return torch.bmm(left, right) if is_plain or right.shape[-1] > NARROW else torch.bmm(right.mT, left.mT).mT


class _Saved(NamedTuple):
    """What one hidden layer keeps for its backward pass."""

    value: Tensor
    normal: Tensor
    rstd: Tensor
    after: Tensor


def _layers(parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Hidden layers come as (weight, bias, scale, shift); an output layer, if any, as (weight, bias)."""
    return [parameters[begin : begin + 4] for begin in range(0, len(parameters), 4)]


def _run(
    inputs: Sequence[Tensor], parameters: Sequence[Tensor], activation: Activation, keep: bool
) -> tuple[Tensor, list[_Saved]]:
    value = (inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), -1)).unsqueeze(0)
    trace = []
    for layer in _layers(parameters):
        if len(layer) == 2:
            return product(value, *layer), trace
        weight, bias, scale, shift = layer
        linear = product(value, weight).contiguous()
        after, normal, rstd = hidden_layer.forward(linear, bias, scale, shift, activation, keep)
        if keep:
            trace.append(_Saved(value, normal, rstd, after))
        value = after
    return value, trace


def _hidden_backward(
    gradient: Tensor, saved: _Saved, layer: Sequence[Tensor], activation: Activation, learns: bool
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Gradient at the linear part's result (N, B, H), and those of weight, bias, scale, shift if it `learns`."""
    found = hidden_layer.backward(gradient, saved.normal, saved.rstd, layer[2], layer[3], activation)
    if not learns:
        return found.linear, (None,) * 4
    return found.linear, (product(saved.value.mT, found.linear), found.bias, found.scale, found.shift)


class _MLP(torch.autograd.Function):
    """`_run` with gradients for the inputs and parameters that ask for them."""

    @staticmethod
    def forward(ctx: Any, activation: Activation, count: int, *tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:count], tensors[count:]
        output, ctx.trace = _run(inputs, parameters, activation, keep=True)
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
            # `backward` overwrites its argument: of what autograd hands in it gets a copy
            if weight is None:
                gradient = gradient.clone(memory_format=torch.contiguous_format)
            else:
                gradient = product(gradient, weight.mT).contiguous()
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
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"hidden needs a layer at least, and each a width of at least 1; got {list(hidden)}")
        self._activation = ACTIVATIONS[activation]
        library()  # compiles, the first time on a machine: not in the first control step
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
            return _run(inputs, parameters, self._activation, keep=False)[0]
        return _MLP.apply(self._activation, len(inputs), *inputs, *parameters)  # type: ignore[return-value]


def _xavier(members: int, inputs: int, outputs: int) -> Tensor:
    bound = math.sqrt(6.0 / (inputs + outputs))
    return torch.empty(members, inputs, outputs).uniform_(-bound, bound)
