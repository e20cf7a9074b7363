"""The actor's line to a learner in the same process (tests, benchmarks, simulation in lockstep), or to none at all."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from robot_rl.learner import Learner
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition


class LocalTransport:
    """Hands events to the learner and lets it do, at once, the updates that they make due."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._published = -1

    def send(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
        self.learner.receive(event)

    def parameters(self) -> tuple[int, Mapping[str, Tensor]] | None:
        learner = self.learner
        for _ in range(learner.due):
            learner.update()
        if self._published >= 0 and learner.updates - self._published < learner.config.publish_every:
            return None
        return self._publish()

    def flush(self) -> tuple[int, Mapping[str, Tensor]]:
        """Finish what is due and return the newest parameters, published or not."""
        for _ in range(self.learner.due):
            self.learner.update()
        return self._publish()

    def _publish(self) -> tuple[int, Mapping[str, Tensor]]:
        self._published = self.learner.updates
        return self.learner.updates, self.learner.algorithm.policy_state()


class NoLearner:
    """Stands for the learner when a finished policy acts: its parameters never change."""

    def __init__(self, version: int, tensors: Mapping[str, Tensor]) -> None:
        self._parameters = (version, tensors)

    def send(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
        """Nobody learns from it."""

    def parameters(self) -> tuple[int, Mapping[str, Tensor]] | None:
        return None

    def flush(self) -> tuple[int, Mapping[str, Tensor]]:
        return self._parameters
