"""A score policy's whole sampling as one CUDA graph: all its kernels are launched at once.

The sampler is a table (`policies.samplers`), so that its steps are known beforehand: the evaluations of the network and
the arithmetic between them are unrolled, recorded once and replayed on buffers that stay where they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from policies.chunk_net import Request
from policies.samplers import Sampler
from policies.score import ScoreModel
from robot_rl.errors import ConfigError

WARM_UP = 3  # evaluations before recording: libraries choose their kernels and workspaces (PyTorch, "CUDA semantics")


class GraphedAnswer:
    """In the place of `ScoreModel.answer`, for one chunk at a time; several are sampled without the graph.

    It reads the model's parameters where they are when it is recorded, at the first chunk: new ones are copied into
    them (`policies.parameters`). A sampler set after that is not noticed.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """`model` lies on `device` already. `ConfigError` for what cannot be recorded."""
        if device.type != "cuda":
            raise ConfigError(f"a CUDA graph needs a GPU: --device cuda; got {device}")
        if not isinstance(model, ScoreModel) or not isinstance(model.sampler, Sampler):
            raise ConfigError(
                "a CUDA graph is recorded of score policies that sample by tables (policy.tables=true); got "
                f"{type(model).__name__}"
            )
        self._model, self._device = model, device
        self._lock = threading.Lock()
        self._graph: torch.cuda.CUDAGraph | None = None

    @torch.inference_mode()
    def __call__(self, request: Request) -> Tensor:
        """The chunk (1, H, A), its prefix in place."""
        if len(request.noise) != 1:
            return self._model.answer(request)
        with self._lock, torch.cuda.device(self._device):
            if self._graph is None:
                self._graph = self._record(request)
            for buffer, value in _pairs(self._given, request):
                buffer.copy_(value)
            self._graph.replay()
            return self._chunk.clone()

    def _record(self, request: Request) -> torch.cuda.CUDAGraph:
        self._given = _copy(request)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._model.answer(self._given)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._chunk = self._model.answer(self._given)
        return graph


def _copy(request: Request) -> Request:
    parts = (request.observation, request.goal)
    observation, goal = ({key: one.clone() for key, one in part.items()} for part in parts)
    plain = {name: getattr(request, name).clone() for name in _PLAIN}
    return replace(request, observation=observation, goal=goal, **plain)


def _pairs(one: Request, other: Request) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors of `one`, each with that of `other`."""
    for mine, theirs in ((one.observation, other.observation), (one.goal, other.goal)):
        yield from ((mine[key], theirs[key]) for key in mine)
    yield from ((getattr(one, name), getattr(other, name)) for name in _PLAIN)


_PLAIN = ("told", "noise", "fresh", "prefix", "prefix_mask")
