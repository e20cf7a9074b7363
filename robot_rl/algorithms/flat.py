"""All parameters of an optimiser in one tensor: one fused Adam step, one Polyak step, whatever the number of layers."""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from robot_rl.errors import DataError

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam, 1412.6980, algorithm 1

# glibc's malloc.h, and the largest value that it accepts on 64 bits.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
KEPT_BYTES = 1024 * 1024 * 1024


class FlatParameters:
    """The parameters of `modules`, moved into one flat tensor that they stay views of."""

    def __init__(self, *modules: nn.Module) -> None:
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        begin = 0
        for parameter in self.parameters:
            end = begin + parameter.numel()
            parameter.data = self.values[begin:end].view_as(parameter)
            begin = end

    def part(self, first: int, last: int) -> FlatParameters:
        """Parameters `first` to `last`, the last one excluded, in the same memory."""
        part = copy.copy(self)
        begin, end = (sum(one.numel() for one in self.parameters[:index]) for index in (first, last))
        part.parameters, part.values = self.parameters[first:last], self.values[begin:end]
        return part

    def follow(self, online: FlatParameters, rate: float) -> None:
        """Polyak averaging: move by `rate` towards `online`."""
        self.values.lerp_(online.values, rate)


class FlatAdam:
    """Adam over `FlatParameters`. Gradients are those of `torch.autograd.grad`: nothing accumulates by accident."""

    def __init__(self, flat: FlatParameters, learning_rate: float) -> None:
        if flat.values.device.type == "cpu":
            keep_freed_memory()
        self.flat = flat
        self.learning_rate = learning_rate
        self._gradient = torch.zeros_like(flat.values)
        self._moments = {
            "step": torch.zeros((), device=flat.values.device),
            "exp_avg": torch.zeros_like(flat.values),
            "exp_avg_sq": torch.zeros_like(flat.values),
        }

    def minimise(self, loss: Tensor, retain_graph: bool = False) -> None:
        """One step down the gradient of `loss` with respect to the flat parameters only."""
        gradients = torch.autograd.grad(loss, self.flat.parameters, retain_graph=retain_graph)
        self.step(gradients)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self._gradient)
        mean, square, steps = ([self._moments[name]] for name in ("exp_avg", "exp_avg_sq", "step"))
        adam(
            [self.flat.values], [self._gradient], mean, square, [], steps,
            fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
            lr=self.learning_rate, beta1=BETA1, beta2=BETA2, eps=EPSILON,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._moments)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        copy_into(self._moments, state)


def keep_freed_memory() -> None:
    """Let this process reuse large blocks instead of returning them to the kernel; does nothing off glibc.

    Activations of some 0.5 MB come and go hundreds of times a second; fetching each anew costs a learner a tenth
    or more of its time in page faults.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def copy_into(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into `tensors` in place, leaving views intact; `DataError` when names or shapes differ."""
    if missing := sorted(set(tensors) ^ set(state)):
        raise DataError(f"parameters differ in {missing[:5]}; was this saved with another configuration?")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise DataError(f"{name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state[name])
