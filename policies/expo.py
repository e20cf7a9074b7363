"""EXPO's policy (2507.07986): the best, as the critics see it, of some samples of an expressive base and their edits.

Shape letters: B batch, F features, A arm action elements, N samples of the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from policies.chunking import Executor
from policies.gaussian import GaussianActor
from policies.generative import GenerativeActor, GenerativeConfig
from policies.networks import StepConfig, StepPolicy
from robot_rl import losses
from robot_rl.critics import CriticConfig, CriticEnsemble, choose, for_each
from robot_rl.errors import ConfigError
from robot_rl.types import ActionSpec, FloatArray, Goal, ObservationSpec


@dataclass(frozen=True)
class EXPOPolicyConfig(StepConfig):
    """Networks, and how an action is chosen; `hidden` and `activation` are those of edit and gripper."""

    base: GenerativeConfig = field(default_factory=GenerativeConfig)
    """The expressive policy whose samples are edited."""
    critics: CriticConfig = field(default_factory=CriticConfig)
    """Those that choose; the learner trains them, the actor is sent them."""
    samples: int = 8
    """Of the base, each of them once as it is and once edited, for acting and for the backup."""
    reach: float = 0.2
    """Largest edit of an element of the action: the paper's beta, there 0.05, and 0.7 where exploring is hard."""
    asynchronous: bool = False
    """Whether the base samples in a thread of its own, from the observation before; edits and choice see the present
    one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1 or not 0.0 < self.reach <= 2.0:
            raise ConfigError(f"samples must be at least 1, reach in (0, 2]; got {self.samples} and {self.reach}")

    def build_actor(self, features: int, actions: int) -> EXPOActor:
        return EXPOActor(self, features, actions)

    def build_critics(self, features: int, actions: int, seed: int) -> CriticEnsemble:
        return self.critics.build(features, actions, seed)

    def build_policy(self, observation_spec: ObservationSpec, action_spec: ActionSpec, seed: int = 0) -> EXPOPolicy:
        return EXPOPolicy(self, observation_spec, action_spec, seed)


class EXPOActor(GenerativeActor):
    """The base, and the Gaussian policy that edits its samples; see `robot_rl.algorithms.expo.EditingActor`."""

    def __init__(self, config: EXPOPolicyConfig, features: int, actions: int) -> None:
        super().__init__(config.base, features, actions)
        self.samples, self.reach = config.samples, config.reach
        self.editor = GaussianActor(features + actions, actions, config)

    def edit(self, features: Tensor, action: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """`action` (B, A) edited by a sample, or by the mean without `noise` (B, A); log density (B,) of the edit."""
        mean, std = self.editor(features, action)
        direction, log_prob = losses.squash(mean, std, torch.zeros_like(mean) if noise is None else noise)
        return losses.edit(action, direction, self.reach), log_prob

    @torch.no_grad()
    def candidates(self, features: Tensor, base: Tensor, noise: Tensor | None) -> Tensor:
        """Samples `base` (B, N, A) and their edits: (B, 2 N, A); `noise` (B, N, A) as in `edit`."""
        flat = None if noise is None else noise.flatten(0, 1)
        edited, _ = self.edit(for_each(features, base.shape[1]), base.flatten(0, 1), flat)
        return torch.cat([base, edited.view_as(base)], 1)


class EXPOPolicy(StepPolicy):
    """Acts by the best of samples and edits, by the mean of the critics.

    Deterministic, the base is given the same noise at every step, and the edits are the editor's mean.
    """

    def __init__(
        self,
        config: EXPOPolicyConfig,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        seed: int = 0,
        deterministic: bool = False,
        executor: Executor | None = None,
    ) -> None:
        """`executor` runs asynchronous sampling: by default a thread of the policy's own."""
        super().__init__(config, observation_spec, action_spec, seed, deterministic)
        self._actor = cast(EXPOActor, self._networks.actor)
        self._shape = (1, config.samples, action_spec.arm_dim)
        self._fixed = np.random.default_rng(seed).standard_normal(self._shape, np.float32)
        self._asynchronous = config.asynchronous
        self._executor = executor
        self._pending: Future[FloatArray] | None = None
        self._newest: FloatArray | None = None

    def reset(self, goal: Goal | None = None, seed: int | None = None) -> None:
        """Forget the samples of the last episode."""
        self._settle()
        self._pending = self._newest = None

    def load(self, version: int, tensors: Mapping[str, Any]) -> None:
        """Take new parameters, not under a sampling's feet; `SpecError` and the old ones kept when they do not fit."""
        self._settle()
        super().load(version, tensors)

    def move(self, features: Tensor) -> FloatArray:
        base = torch.from_numpy(self._proposals(features))
        noise = None if self.deterministic else torch.from_numpy(self._rng.standard_normal(self._shape, np.float32))
        candidates = self._actor.candidates(features, base, noise)
        assert self._networks.critics is not None
        return choose(self._networks.critics, features, candidates).squeeze(0).numpy()

    def _proposals(self, features: Tensor) -> FloatArray:
        """Samples (1, N, A): of the present observation, or the newest there are of one before."""
        noise = self._fixed if self.deterministic else self._rng.standard_normal(self._shape, np.float32)

        @torch.inference_mode()
        def work() -> FloatArray:
            return self._actor.propose(features, torch.from_numpy(noise)).numpy()

        if not self._asynchronous:
            return work()
        if self._pending is not None and self._pending.done():
            self._newest, self._pending = self._pending.result(), None
        if self._newest is None:
            self._newest = work()
        elif self._pending is None:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="samples")
            self._pending = self._executor.submit(work)
        return self._newest

    def _settle(self) -> None:
        """Wait for a sampling under way."""
        if self._pending is not None:
            self._pending.exception()

    def close(self) -> None:
        """End the policy's own thread."""
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(wait=True, cancel_futures=True)
