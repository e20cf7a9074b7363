"""What a hidden layer does beside its matrix product: bias, LayerNorm, scale and shift, activation.

On a CPU in float32 by the functions of hidden.c, one pass over memory each way; otherwise by the same formulas in
PyTorch. Both agree up to rounding.

Shape letters: N members, B batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robot_rl.compiled import library

NORM_EPS = 1e-6  # flax's LayerNorm, as in RLPD and HIL-SERL
_aten = torch.ops.aten


class Activation(NamedTuple):
    """An element-wise function; `backward(gradient, before)`; its `code` in hidden.c."""

    code: int
    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "tanh": Activation(0, torch.tanh, lambda gradient, before: _aten.tanh_backward(gradient, before.tanh())),
    "silu": Activation(1, _aten.silu, _aten.silu_backward),
    "relu": Activation(2, torch.relu, lambda gradient, before: _aten.threshold_backward(gradient, before, 0)),
}


class Gradients(NamedTuple):
    linear: Tensor  # (N, B, H)
    bias: Tensor  # (N, 1, H), like the next two
    scale: Tensor
    shift: Tensor


def forward(
    linear: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, activation: Activation, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The activation of `linear` (N, B, H), and the normalised value (N, B, H) and its factor (N, B, 1) if to `keep`.

    `linear` is overwritten. Bias, scale and shift are (N, 1, H).
    """
    if not _is_compiled(linear):
        linear += bias
        variance, mean = torch.var_mean(linear, -1, correction=0, keepdim=True)
        rstd = (variance + NORM_EPS).rsqrt()
        normal = (linear - mean) * rstd
        return activation.forward(torch.addcmul(shift, normal, scale)), normal, rstd
    built = library()
    assert built is not None
    members, rows, width = linear.shape
    after = torch.empty_like(linear) if keep else linear
    rstd = linear.new_empty(members, rows, 1)
    built.hidden_forward(
        linear.data_ptr(), bias.data_ptr(), scale.data_ptr(), shift.data_ptr(), rstd.data_ptr(), after.data_ptr(),
        members, rows, width, NORM_EPS, activation.code,
    )  # fmt: skip
    return after, linear, rstd


def backward(
    gradient: Tensor, normal: Tensor, rstd: Tensor, scale: Tensor, shift: Tensor, activation: Activation
) -> Gradients:
    """From the gradient at the activation (N, B, H), with what `forward` kept. `gradient` may be overwritten."""
    if not _is_compiled(gradient):
        before = activation.backward(gradient, torch.addcmul(shift, normal, scale))
        scaled = before * scale
        centred = scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True)
        linear = centred * rstd
        return Gradients(linear, *(value.sum(1, keepdim=True) for value in (linear, before * normal, before)))
    built = library()
    assert built is not None
    members, rows, width = gradient.shape
    to_scale, to_shift, to_bias = sums = gradient.new_zeros(3, members, 1, width)
    built.hidden_backward(
        gradient.data_ptr(), normal.data_ptr(), rstd.data_ptr(), scale.data_ptr(), shift.data_ptr(),
        gradient.data_ptr(), sums.data_ptr(), members, rows, width, activation.code,
    )  # fmt: skip
    return Gradients(gradient, to_bias, to_scale, to_shift)


def _is_compiled(value: Tensor) -> bool:
    if torch.compiler.is_compiling():  # or exporting: it has to see the formulas
        return False
    return value.device.type == "cpu" and value.dtype == torch.float32 and library() is not None
