"""Offline RL from windows of recorded episodes: what every such algorithm shares.

A critic is learned from the data as the algorithm says (`critic_loss` of a subclass, one file each); beside it a chunk
policy is extracted: any `ChunkModel`, a diffusion policy as well as a regression. The critic also steers policies that
were trained elsewhere (`policies.steered`).

Shape letters: B batch, T observations, H horizon, h valued actions (h <= H), A action, N members, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from robot_rl import losses, offline_losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters
from robot_rl.algorithms.imitation import ChunkModel, Imitation, ImitationConfig
from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.batch import Returns, Windows
from robot_rl.errors import ConfigError
from robot_rl.value_heads import ValueHead

CRITIC = "critic."
"""Prefix of the critic's tensors in a checkpoint."""


class Critic(Protocol):
    """Q and V over shared features; also an `nn.Module`. `policies.values.ChunkCriticNet` is the one implementation."""

    head: ValueHead
    horizon: int
    """Actions that are valued together."""
    feature_dim: int
    """Of the features, F."""
    told: bool
    """Whether it is told a goal."""

    def features(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """Observations each (B, T, ...), of which the last counts, and goals (B, ...): (B, F)."""
        ...

    def q(self, features: Tensor, actions: Tensor, frozen: bool = False) -> Tensor:
        """Outputs (N, B, O) for chunks (B, >= h, A); `frozen` passes gradients to the inputs alone."""
        ...

    def v(self, features: Tensor) -> Tensor:
        """Outputs (B, O)."""
        ...


class Actor(ChunkModel, Protocol):
    """A chunk policy that can be asked for its actions with gradients."""

    def propose(self, observation: TensorObservation, goal: TensorObservation | None, noise: Tensor) -> Tensor:
        """Chunks (B, H, A) from unit Gaussian noise of that shape."""
        ...


class Extraction(Protocol):
    """How a policy is made of a critic."""

    def loss(self, learner: OfflineRL, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        """What the policy minimises (0-d), and 0-d tensors to log."""
        ...


@dataclass(frozen=True)
class AWR:
    """Imitate, the better an action the more (advantage-weighted regression, 1910.00177)."""

    temperature: float = 0.1
    """Advantage that makes an action e times as important, in units of the return."""
    largest: float = 100.0
    """Weight at most."""

    def __post_init__(self) -> None:
        if min(self.temperature, self.largest) <= 0.0:
            raise ConfigError(f"temperature and largest weight of AWR must be positive, got {self}")

    def weight(self, advantage: Tensor) -> Tensor:
        """How much an action (B,) of such an advantage counts."""
        return offline_losses.awr_weight(advantage, self.temperature, self.largest)

    def loss(self, learner: OfflineRL, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        advantage = learner.advantage(data)
        weight = self.weight(advantage)
        loss, metrics = learner.imitate(data, weight)
        return loss, metrics | {"advantage": advantage.mean(), "weight": weight.mean()}


@dataclass(frozen=True)
class DDPGBC:
    """Climb Q, and imitate beside it (TD3+BC, 2106.06860; for goals 2410.20092). Diffusion policies: 2208.06193."""

    bc_weight: float = 1.0
    """Of imitation, against Q in units of its mean magnitude."""

    def __post_init__(self) -> None:
        if self.bc_weight < 0.0:
            raise ConfigError(f"bc_weight must not be negative, got {self.bc_weight}")

    def loss(self, learner: OfflineRL, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        imitation, metrics = learner.actor.loss(data.policy, learner.generator)
        q = learner.policy_values(data.observation, data.policy.goal).amin(0)
        loss = self.bc_weight * imitation - q.mean() / losses.q_scale(q).clamp(min=1e-6)
        return loss, metrics | {"imitation": imitation.detach(), "policy_q": q.detach().mean()}


@dataclass(frozen=True)
class OfflineConfig(ImitationConfig):
    """What all these algorithms can be told, beside the optimiser of the policy."""

    extraction: AWR | DDPGBC = field(default_factory=AWR)
    """How the policy is made of the critic."""
    rewards: Literal["task", "goal"] = "task"
    """The task's, or -1 a step until the goal is observed."""
    discount: float = 0.99
    """Per control step."""
    target_rate: float = 0.005
    """Polyak rate of the target critic per update."""
    critic_learning_rate: float = 3e-4
    """Adam."""
    value_range: tuple[float, float] | None = (0.0, 1.0)
    """Lowest and highest possible return, which targets are clipped to; none does not clip."""
    mixed_precision: bool = False
    """bfloat16 where a GPU computes; values want more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.discount <= 1.0 or not 0.0 < self.target_rate <= 1.0 or self.critic_learning_rate <= 0.0:
            raise ConfigError(f"need discount and target_rate in [0, 1], a positive critic_learning_rate; got {self}")
        if self.rewards not in ("task", "goal"):
            raise ConfigError(f"unknown rewards {self.rewards!r}; valid choices: task, goal")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ConfigError(f"value_range must rise, got {self.value_range}")
        if self.compile:
            raise ConfigError("compile is of imitation alone")

    @property
    def possible_values(self) -> tuple[float, float] | None:
        """Lowest and highest possible return, as far as they are known."""
        if self.value_range is None and self.rewards == "goal" and self.discount < 1.0:
            return -1.0 / (1.0 - self.discount), 0.0
        return self.value_range

    def returns(self, horizon: int) -> Returns:
        """Rewards over as many steps as a critic values actions together (Q-chunking, 2507.07969)."""
        return Returns(horizon, self.discount, of_goals=self.rewards == "goal")


class OfflineRL(Imitation):
    """A critic beside a policy; a subclass says what the critic minimises."""

    def __init__(
        self, config: OfflineConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        """`model` is an `Actor`, `critic` a `Critic`; both are trained in place."""
        if critic is None:
            raise ConfigError(f"{type(self).__name__} needs a critic")
        super().__init__(config, model, augment)
        self.offline = config
        self.actor = cast(Actor, self.model)
        self._critic = critic.to(self.device)
        self.critic = cast(Critic, self._critic)
        self._critic_flat = FlatParameters(self._critic)
        self._critic_adam = FlatAdam(self._critic_flat, config.critic_learning_rate)
        self._target = copy.deepcopy(self._critic).requires_grad_(False)
        self.target = cast(Critic, self._target)
        self._target_flat = FlatParameters(self._target)
        self._known: tuple[ValueWindows, Tensor] | None = None

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        """What the critic minimises (0-d), and 0-d tensors to log."""
        raise NotImplementedError

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        """What the policy minimises (0-d), and 0-d tensors to log."""
        return self.offline.extraction.loss(self, data)

    @torch.no_grad()
    def known_values(self, data: ValueWindows) -> Tensor:
        """The target's Q (N, B) of the data's actions, for `critic_loss`; kept for `advantage` of the same windows."""
        values = self._target_values(data, data.goal)
        self._known = data, values
        return values

    @torch.no_grad()
    def advantage(self, data: ValueWindows) -> Tensor:
        """Q - V (B,) of the data's actions under the policy's goals, of Q as `pooled`.

        Q as the target had it when the critic learned from these windows, if it did (as IQL's authors' code).
        """
        features = self.critic.features(data.observation, data.policy.goal)
        same_goals = data.goal is data.policy.goal or not self.critic.told
        if same_goals and self._known is not None and self._known[0] is data:
            q = self._known[1]
        else:
            q = self._target_values(data, data.policy.goal)
        return self.pooled(q) - self.critic.head.value(self.critic.v(features))

    def pooled(self, q: Tensor) -> Tensor:
        """What the members' values (N, B) of the data's actions stand for together (B,): the least."""
        return q.amin(0)

    def _target_values(self, data: ValueWindows, goal: TensorObservation) -> Tensor:
        return self.target.head.value(self.target.q(self.target.features(data.observation, goal), data.action))

    def policy_values(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """Q (N, B) of what the policy would do, with gradients for the policy alone."""
        return self.values_of(observation, goal, self.propose(observation, goal))

    def values_of(self, observation: TensorObservation, goal: TensorObservation, chunk: Tensor) -> Tensor:
        """Q (N, B) of chunks (B, >= h, A), with gradients for these alone."""
        with torch.no_grad():
            features = self.critic.features(observation, goal)
        return self.critic.head.value(self.critic.q(features, chunk.clamp(-1.0, 1.0), frozen=True))

    @property
    def action_dim(self) -> int:
        """Elements of an action."""
        return cast(Any, self.model).action_dim

    def imitate(self, data: ValueWindows, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The policy's loss (0-d) of the data's actions, each of which counts by its `weight` (B,), and what to log."""
        return self.actor.loss(data.policy.weighted(weight), self.generator)

    @property
    def generator(self) -> torch.Generator:
        """Of every random draw."""
        return self._generator

    def propose(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """One chunk (B, H, A) of the policy for each observation."""
        model = cast(Any, self.model)
        batch = len(next(iter(observation.values())))
        noise = torch.randn((batch, model.horizon, model.action_dim), generator=self._generator, device=self.device)
        return self.actor.propose(observation, goal, noise)

    def backup(self, data: ValueWindows, next_value: Tensor) -> Tensor:
        """Target (..., B) of the values before, from the next ones (..., B)."""
        target = losses.td_target(data.reward, data.terminated, next_value, data.discount)
        return target if self.offline.value_range is None else target.clamp(*self.offline.value_range)

    def _objective(self, windows: Windows) -> tuple[Tensor, dict[str, Tensor]]:
        data = self.load(windows)
        loss, metrics = self.critic_loss(data)
        self._critic_adam.minimise(loss)
        self._target_flat.follow(self._critic_flat, self.offline.target_rate)
        actor_loss, more = self.policy_loss(data)
        return actor_loss, {"critic_loss": loss.detach(), **metrics, **more}

    @torch.no_grad()
    def evaluate(self, windows: Windows) -> dict[str, Tensor]:
        """The averaged policy's loss and the critic's on windows that they were not trained on."""
        drawn = self._generator.get_state()
        found = super().evaluate(windows)
        self._generator.manual_seed(self.config.seed)
        loss, _ = self.critic_loss(self.load(windows, augment=False))
        self._generator.set_state(drawn)  # looking does not change what is learned
        return found | {"critic_loss": loss}

    def load(self, windows: Windows, *, augment: bool = True) -> ValueWindows:
        """To the device, images shifted at random."""
        policy = self.load_windows(windows, augment=augment)
        following, subgoal, option = (
            {key: value.unsqueeze(1) for key, value in self._observe(one, augment).items()}
            for one in (windows.next_observation, windows.subgoal, windows.option)
        )
        rewards = (windows.reward, windows.discount, windows.terminated, windows.returns_to_go)
        # Past the end an action has no effect. Padding there would be taken for a sign of success, and be exploited.
        noise = torch.rand(policy.action.shape, generator=self._generator, device=self.device) * 2.0 - 1.0
        return ValueWindows(
            policy,
            torch.where(policy.mask.unsqueeze(-1) > 0.5, policy.action, noise),
            self._observe(windows.value_goal, augment) if windows.value_goal else policy.goal,
            following,
            subgoal,
            option,
            *(self._move(one) for one in (*rewards, windows.goal_steps, windows.violation)),
        )

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            CRITIC: self._critic.state_dict(),
            "target.": self._target.state_dict(),
            "critic_adam.": self._critic_adam.state_dict(),
        }
        return super()._tensors() | {
            part + name: value for part, named in parts.items() for name, value in named.items()
        }


def critic_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The critic's part of a saved state."""
    return {name.removeprefix(CRITIC): value for name, value in state.items() if name.startswith(CRITIC)}
