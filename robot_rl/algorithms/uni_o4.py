"""Uni-O4's offline part (2311.03351): clones that differ, and improve only by steps that a model approves of.

An ensemble clones the data, each pushed away from the others. Then each member climbs IQL's advantage by PPO's clipped
surrogate, on actions drawn from its last approved parameters. Every so often the new parameters are compared with
these: both act in a learned model of the dynamics, and the mean of Q along the way decides (AM-Q). What acts are the
approved parameters of the member that stands best. The model has no ends: rollouts are short, and go on after one.

Shape letters: B batch, M start states, K members, h valued actions, A action, S state, T rollout.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.dynamics import Dynamics
from robot_rl.algorithms.flat import FlatAdam, FlatParameters
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.networks import Augment
from robot_rl.algorithms.offline import Actor
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.batch import Windows
from robot_rl.errors import ConfigError
from robot_rl.types import STATE_KEY


@dataclass(frozen=True)
class UniO4Config(IQLConfig):
    """Hyperparameters; `extraction` is not asked."""

    members: int = 4
    """Policies."""
    cloning_updates: int = 20_000
    """Updates in which they clone; afterwards they improve."""
    disagreement: float = 0.1
    """Of the distance to the nearest other member, against the distance to the data's action."""
    spread: float = 0.2
    """Standard deviation of the Gaussians about the members' actions."""
    clip: float = 0.25
    """How far a ratio of densities may be from one before it gains nothing more."""
    try_every: int = 500
    """Updates between two comparisons."""
    rollout_chunks: int = 5
    """Chunks of `critic.horizon` actions in a rollout."""
    rollout_states: int = 512
    """States of the data where rollouts begin, always the same."""
    dynamics_hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the model of the dynamics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (self.members, self.try_every, self.rollout_chunks, self.rollout_states)
        if min(counts) < 1 or min(self.cloning_updates, self.disagreement) < 0 or min(self.spread, self.clip) <= 0.0:
            raise ConfigError(f"counts, spread and clip must be positive, disagreement not negative; got {self}")
        if self.disagreement >= 1.0:
            raise ConfigError(f"disagreement of 1 or more drives members apart without end, got {self.disagreement}")
        if self.rewards != "task":
            raise ConfigError("Uni-O4 rolls policies out without goals: rewards=task")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> UniO4:
        return UniO4(self, model, critic, augment)


class UniO4(IQL):
    """See `robot_rl.algorithms.offline`; `study` must have seen the data before the first update."""

    def __init__(
        self, config: UniO4Config, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        if not getattr(model, "gives_mean", False):
            raise ConfigError(f"Uni-O4 improves Gaussian policies: policy=regression; got {type(model).__name__}")
        super().__init__(config, model, critic, augment)
        self.uni_o4 = config
        self._members = nn.ModuleList(_redrawn(self.model, config.seed + index) for index in range(config.members))
        self._members_adam = FlatAdam(FlatParameters(self._members), config.learning_rate)
        self._approved = copy.deepcopy(self._members).requires_grad_(False)
        self._dynamics: Dynamics | None = None
        self._starts = torch.empty(0)

    def study(self, windows: Iterator[Windows]) -> None:
        states, following = [], []
        for one in windows:
            if set(one.observation) != {STATE_KEY}:
                raise ConfigError(f"Uni-O4's model predicts states alone; these data show {', '.join(one.observation)}")
            states.append(one.observation[STATE_KEY][:, -1])
            following.append(one.next_observation[STATE_KEY])
        seen, then = np.concatenate(states), np.concatenate(following)
        elements = self.critic.horizon * self.action_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self._dynamics = Dynamics(seen, then - seen, elements, self.uni_o4.dynamics_hidden).to(self.device)
        self._dynamics_adam = FlatAdam(FlatParameters(self._dynamics), self.offline.critic_learning_rate)
        chosen = np.random.default_rng(self.config.seed).integers(len(seen), size=self.uni_o4.rollout_states)
        self._starts = torch.from_numpy(seen[chosen]).to(self.device)

    @property
    def dynamics(self) -> Dynamics:
        """The model that rollouts are made in."""
        if self._dynamics is None:
            raise ConfigError("Uni-O4 has not studied the data yet")
        return self._dynamics

    def update(self, windows: Windows) -> dict[str, Tensor]:
        data = self.load(windows)
        critic_loss, metrics = self.critic_loss(data)
        self._critic_adam.minimise(critic_loss)
        self._target_flat.follow(self._critic_flat, self.offline.target_rate)
        dynamics_loss = self._dynamics_loss(data)
        self._dynamics_adam.minimise(dynamics_loss)
        cloning = self.updates < self.uni_o4.cloning_updates
        loss = self._cloning_loss(data) if cloning else self._improvement_loss(data)
        self._members_adam.learning_rate = self.learning_rate
        self._members_adam.minimise(loss)
        self.updates += 1
        if self.updates <= self.uni_o4.cloning_updates:
            self._approved.load_state_dict(self._members.state_dict())
        if self.updates % self.uni_o4.try_every == 0 or self.updates == self.config.updates:
            metrics |= self.select()
        parts = {"loss": loss, "critic_loss": critic_loss, "dynamics_loss": dynamics_loss}
        return metrics | {name: value.detach() for name, value in parts.items()}

    @torch.no_grad()
    def select(self) -> dict[str, Tensor]:
        """Approve of members that stand better than before; the best one acts from now on."""
        before = torch.stack([self.standing(one) for one in self._approved])
        now = torch.stack([self.standing(one) for one in self._members])
        better = now > before
        for old, new, accepts in zip(self._approved, self._members, better, strict=True):
            if accepts:
                old.load_state_dict(new.state_dict())
        standing = torch.maximum(before, now)
        best = self._approved[int(standing.argmax())]
        for one in (self.model, self.acting):
            one.load_state_dict(best.state_dict())
        return {"standing": standing.max(), "approved": better.float().mean()}

    @torch.no_grad()
    def standing(self, member: nn.Module) -> Tensor:
        """AM-Q (0-d): the mean of Q where `member` comes to in the model, and of what it does there."""
        state, values = self._starts, []
        for _ in range(self.uni_o4.rollout_chunks):
            seen = {STATE_KEY: state.unsqueeze(1)}
            chunk = self._mean(member, state)
            values.append(self.values_of(seen, {}, chunk).amin(0))
            state = self.dynamics(state, chunk)
        return torch.stack(values).mean()

    def _mean(self, member: nn.Module, state: Tensor) -> Tensor:
        """The member's actions (B, h, A) in states (B, S)."""
        actor: Actor = member  # pyright: ignore[reportAssignmentType]
        horizon: int = member.horizon  # pyright: ignore[reportAssignmentType]
        noise = state.new_zeros((len(state), horizon, self.action_dim))  # makes no difference to a mean
        chunk = actor.propose({STATE_KEY: state.unsqueeze(1)}, {}, noise)
        return chunk[:, : self.critic.horizon].clamp(-1.0, 1.0)

    def _dynamics_loss(self, data: ValueWindows) -> Tensor:
        """Of the steps that were whole chunks."""
        whole = data.policy.mask[:, self.critic.horizon - 1]
        seen, following = data.observation[STATE_KEY][:, -1], data.next_observation[STATE_KEY][:, -1]
        return self.dynamics.loss(seen, data.action[:, : self.critic.horizon], following, whole)

    def _cloning_loss(self, data: ValueWindows) -> Tensor:
        """Squared distance to the data's actions, less some of that to the nearest other member."""
        state = data.observation[STATE_KEY][:, -1]
        means = torch.stack([self._mean(one, state) for one in self._members])
        mask = data.policy.mask[:, : self.critic.horizon]
        return offline_losses.diverse_cloning_loss(
            means, data.policy.action[:, : self.critic.horizon], mask, self.uni_o4.disagreement
        )

    def _improvement_loss(self, data: ValueWindows) -> Tensor:
        """PPO's clipped surrogate, summed over the members."""
        state = data.observation[STATE_KEY][:, -1]
        found = []
        for member, approved in zip(self._members, self._approved, strict=True):
            with torch.no_grad():
                old = self._mean(approved, state)
                noise = torch.randn(old.shape, generator=self.generator, device=self.device)
                action = (old + self.uni_o4.spread * noise).clamp(-1.0, 1.0)
                advantage = self._advantage_of(data, action)
            new = self._mean(member, state)
            log_ratio = offline_losses.log_gaussian_ratio(action, new, old, self.uni_o4.spread)
            found.append(offline_losses.clipped_surrogate(log_ratio, advantage, self.uni_o4.clip))
        return torch.stack(found).sum()

    def _advantage_of(self, data: ValueWindows, chunk: Tensor) -> Tensor:
        """Q - V (B,) of chunks (B, h, A), with mean zero and unit spread over the batch."""
        features = self.critic.features(data.observation, data.goal)
        q = self.values_of(data.observation, data.goal, chunk).amin(0)
        advantage = q - self.critic.head.value(self.critic.v(features))
        return (advantage - advantage.mean()) / advantage.std(unbiased=False).clamp(min=1e-6)

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "members.": self._members.state_dict(),
            "members_adam.": self._members_adam.state_dict(),
            "approved.": self._approved.state_dict(),
            "dynamics.": self.dynamics.state_dict(),
            "dynamics_adam.": self._dynamics_adam.state_dict(),
        }
        return super()._tensors() | {part + name: value for part, each in parts.items() for name, value in each.items()}


def _redrawn(model: nn.Module, seed: int) -> nn.Module:
    """The same network with weights of its own; normalizers stay."""
    member = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in member.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    return member
