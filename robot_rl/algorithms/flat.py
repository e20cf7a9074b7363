"""All parameters of an optimiser in one tensor: one fused Adam step, one Polyak step, whatever the number of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robot_rl.errors import DataError


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

    def follow(self, online: FlatParameters, rate: float) -> None:
        """Polyak averaging: move by `rate` towards `online`."""
        self.values.lerp_(online.values, rate)


class FlatAdam:
    """Adam over `FlatParameters`. Gradients are those of `torch.autograd.grad`: nothing accumulates by accident."""

    def __init__(self, flat: FlatParameters, learning_rate: float) -> None:
        self.flat = flat
        self._leaf = nn.Parameter(flat.values)
        self._leaf.grad = torch.zeros_like(flat.values)
        self._adam = torch.optim.Adam([self._leaf], lr=learning_rate, fused=True)
        self._adam.step()  # a step with zero gradient changes nothing and creates the moments
        self._moments = self._adam.state[self._leaf]
        self._moments["step"].zero_()

    def minimise(self, loss: Tensor, retain_graph: bool = False) -> None:
        """One step down the gradient of `loss` with respect to the flat parameters only."""
        gradients = torch.autograd.grad(loss, self.flat.parameters, retain_graph=retain_graph)
        self.step(gradients)

    def step(self, gradients: Sequence[Tensor]) -> None:
        assert self._leaf.grad is not None
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self._leaf.grad)
        self._adam.step()

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._moments)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        copy_into(self._moments, state)


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
