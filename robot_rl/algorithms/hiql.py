"""Two levels from goals in hindsight: HIQL (2307.11949, as in OGBench, 2410.20092), and OTA (2505.12737).

V(s, phi([s; g])) is learned without actions. The high level proposes a subgoal some steps ahead as its representation
phi, the low level acts towards it; each imitates what the data did next, the more the higher V rose by it.
OTA learns the high level's V with options, several steps that count as one: over long distances V of single steps is
so flat that its errors decide which of two states seems to be closer.

Shape letters: B batch, N members, O outputs, R representation, H horizon.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.algorithms.networks import Augment, TensorObservation
from robot_rl.algorithms.offline import AWR, OfflineConfig, OfflineRL
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.batch import Subgoals, Windows
from robot_rl.errors import ConfigError
from robot_rl.value_heads import ValueHead


class GoalValues(Protocol):
    """V of observations, each (B, T, ...), under goals, each (B, ...)."""

    def represent(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """phi([s; g]) (B, R) of length sqrt(R)."""
        ...

    def values(self, observation: TensorObservation, goal: TensorObservation) -> Tensor:
        """Outputs (N, B, O)."""
        ...


class TwoLevelCritic(Protocol):
    """V of either level; also an `nn.Module`."""

    head: ValueHead
    representation: int
    low: GoalValues
    high: GoalValues
    """The same as `low`, or one of its own."""


class TwoLevelActor(Protocol):
    """Policies of both levels; also an `nn.Module`."""

    representation: int

    def level_losses(self, windows: TensorWindows, subgoal: Tensor, high_weight: Tensor) -> tuple[Tensor, Tensor]:
        """What both minimise (0-d, 0-d): the high level imitates `subgoal` (B, R), told the goal, with `high_weight`
        (B,); the low level the actions with the weights in the windows' mask, told `subgoal`."""
        ...


@dataclass(frozen=True)
class HIQLConfig(OfflineConfig):
    """Hyperparameters; those of OGBench for manipulation."""

    extraction: AWR = field(default_factory=lambda: AWR(temperature=1.0 / 3.0))
    """How the low level is made of V."""
    high_extraction: AWR = field(default_factory=lambda: AWR(temperature=1.0 / 3.0))
    """How the high level is made of V."""
    rewards: Literal["task", "goal"] = "goal"
    """-1 a step until the goal is observed; nothing else fits."""
    value_range: tuple[float, float] | None = None
    """Lowest and highest possible return, which targets are clipped to; none does not clip."""
    expectile: float = 0.7
    """Of V: 0.5 is the mean over what the data did, 1 would be the best of it."""
    subgoal_steps: int = 10
    """How far ahead subgoals lie; OGBench has 10 for manipulation, 25 and more for mazes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.expectile < 1.0:
            raise ConfigError(f"need an expectile in (0, 1), got {self.expectile}")
        if self.rewards != "goal":
            raise ConfigError(f"{type(self).__name__} learns from goals in hindsight: rewards=goal")
        self.subgoals()  # refuses what is no distance

    def subgoals(self) -> Subgoals:
        return Subgoals(self.subgoal_steps)

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> HIQL:
        return HIQL(self, model, critic, augment)


class HIQL(OfflineRL):
    """See above. The critic is a `TwoLevelCritic`, the model a `TwoLevelActor`."""

    def __init__(
        self, config: HIQLConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.hiql = config
        self.levels, self.target_levels = (cast(TwoLevelCritic, one) for one in (self._critic, self._target))
        known, proposed = self.levels.representation, cast(TwoLevelActor, self.model).representation
        if known != proposed:
            raise ConfigError(f"critic.representation and policy.representation must agree; got {known}, {proposed}")

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        return self.value_loss(self.levels.low, self.target_levels.low, data)

    def value_loss(
        self, online: GoalValues, target: GoalValues, data: ValueWindows
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Expectile regression (0-d) of V at each member's own target (2307.11949, equation 4), and what to log."""
        head = self.levels.head
        with torch.no_grad():
            known = head.value(target.values(data.observation, data.goal))
            aim = self.backup(data, head.value(target.values(data.next_observation, data.goal)))
            weight = offline_losses.implicit_value_weight(aim, known, self.hiql.expectile)
        outputs = online.values(data.observation, data.goal)
        return (weight * head.error(outputs, aim)).mean(1).sum(), {"v": head.value(outputs).detach().mean()}

    @torch.no_grad()
    def advantage(self, data: ValueWindows) -> Tensor:
        """The low level's (B,): how much closer to the subgoal the actions led (2307.11949, equation 7)."""
        return self._rise(self.levels.low, data.observation, data.next_observation, _as_goal(data.subgoal))

    @torch.no_grad()
    def high_advantage(self, data: ValueWindows) -> Tensor:
        """The high level's (B,): how much closer to the goal the subgoal is (2307.11949, equation 6)."""
        return self._rise(self.levels.high, data.observation, data.subgoal, data.policy.goal)

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        return self._imitate(self.model, data)

    @torch.no_grad()
    def evaluate(self, windows: Windows) -> dict[str, Tensor]:
        """The averaged policy's loss and the critic's on windows that they were not trained on."""
        data = self.load(windows, augment=False)
        loss, metrics = self._imitate(self.acting, data)
        return {"loss": loss, "critic_loss": self.critic_loss(data)[0], **metrics}

    def _rise(
        self, net: GoalValues, before: TensorObservation, after: TensorObservation, goal: TensorObservation
    ) -> Tensor:
        """V after less V before (B,), each the mean of the members."""
        first, second = (self.levels.head.value(net.values(one, goal)).mean(0) for one in (before, after))
        return second - first

    def _imitate(self, model: nn.Module, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            subgoal = self.levels.low.represent(data.observation, _as_goal(data.subgoal))
        advantage, high_advantage = self.advantage(data), self.high_advantage(data)
        weight, high_weight = self.hiql.extraction.weight(advantage), self.hiql.high_extraction.weight(high_advantage)
        weighted = data.policy.weighted(weight)
        high, low = cast(TwoLevelActor, model).level_losses(weighted, subgoal, high_weight)
        return high + low, {
            "high_loss": high.detach(),
            "low_loss": low.detach(),
            "high_advantage": high_advantage.mean(),
            "advantage": advantage.mean(),
        }


@dataclass(frozen=True)
class OTAConfig(HIQLConfig):
    """Hyperparameters."""

    option_steps: int = 5
    """Steps that count as one for the high level's V."""

    def subgoals(self) -> Subgoals:
        return Subgoals(self.subgoal_steps, self.option_steps)

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> OTA:
        return OTA(self, model, critic, augment)


class OTA(HIQL):
    """HIQL whose high level has a V of its own: -1 an option, discounted once an option (2505.12737, section 4)."""

    def __init__(
        self, config: OTAConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.option_steps = config.option_steps
        if self.levels.high is self.levels.low:
            raise ConfigError("OTA values either level by itself: critic=ota (critic.levels=2)")

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().critic_loss(data)
        high, more = self.value_loss(self.levels.high, self.target_levels.high, self.as_options(data))
        return loss + high, metrics | {"high_v": more["v"]}

    def as_options(self, data: ValueWindows) -> ValueWindows:
        """The same windows as if an option were one step."""
        reward, terminated = offline_losses.option_outcome(data.goal_steps, self.option_steps)
        discount = torch.full_like(reward, self.hiql.discount)
        return replace(data, next_observation=data.option, reward=reward, discount=discount, terminated=terminated)


def _as_goal(observation: TensorObservation) -> TensorObservation:
    """An observation, each (B, 1, ...), as a goal, each (B, ...)."""
    return {key: value.squeeze(1) for key, value in observation.items()}
