"""FISOR (2401.10700): offline RL that first asks what can stay safe, and only there what is worth doing.

Beside IQL's values of rewards there are values of feasibility: Q_h(s, a) is the largest violation h to come if after
these actions everything is done to avoid one, V_h(s) the least of it among the actions of the data (an expectile,
turned round). From where V_h is at most 0 the policy imitates what keeps Q_h there, weighted by the advantage in
rewards; from elsewhere what leads back, weighted by the advantage in safety. Values of feasibility also veto
(`policies.steered`).

As in the authors' code Q_h counts as the largest of the target ensemble's members, and V_h has no target network.
Where it differs: the violation of the observation after an episode's end counts (there, that of the one before); time
running out is no end; the weight of unsafe actions that are worse than V_h falls below 1, as in the paper's formula;
several actions are valued together, with the backup unrolled over their steps.

Shape letters: B batch, N members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.iql import IQL, IQLConfig
from robot_rl.algorithms.networks import Augment
from robot_rl.algorithms.offline import AWR, Critic
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.costs import LARGEST, CostConfig
from robot_rl.errors import ConfigError

LEAST_WEIGHT = 1e-6
"""So that a batch without any action that is safe to imitate has a loss, too."""


class FeasibleCritic(Protocol):
    """A critic of rewards with one of feasibility; also an `nn.Module`. `policies.feasibility` has it."""

    feasibility: Critic


@dataclass(frozen=True)
class FISORConfig(IQLConfig):
    """Hyperparameters; the defaults are those of the authors' code, for h within [-1, 1]."""

    cost: CostConfig = field(default_factory=CostConfig)
    """What counts as a violation."""
    extraction: AWR = field(default_factory=lambda: AWR(temperature=1.0 / 3.0))
    """Weight of actions that stay safe, by their advantage in rewards."""
    recovery: AWR = field(default_factory=lambda: AWR(temperature=1.0 / 5.0, largest=150.0))
    """Weight of actions from where nothing stays safe, by their advantage in safety."""
    expectile: float = 0.9
    """Of V: 0.5 is the mean over the data's actions, 1 would be the best of them."""
    feasibility_expectile: float = 0.9
    """Of V_h: 0.5 is the mean over the data's actions, 1 would be the safest of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.feasibility_expectile < 1.0:
            raise ConfigError(f"need feasibility_expectile in (0, 1), got {self.feasibility_expectile}")

    def costs(self) -> CostConfig:
        return self.cost

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> FISOR:
        return FISOR(self, model, critic, augment)


class FISOR(IQL):
    """See above. The critic is also a `FeasibleCritic`."""

    def __init__(
        self, config: FISORConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        if critic is not None and not hasattr(critic, "feasibility"):
            raise ConfigError("FISOR learns values of feasibility, too: critic=fisor")
        super().__init__(config, model, critic, augment)
        self.fisor = config
        self.feasibility, self.target_feasibility = (
            cast(FeasibleCritic, one).feasibility for one in (self._critic, self._target)
        )

    def critic_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().critic_loss(data)
        feasibility_loss, more = self.feasibility_loss(data)
        return loss + feasibility_loss, metrics | more

    def feasibility_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        """What Q_h and V_h minimise (0-d), and 0-d tensors to log."""
        net, head = self.feasibility, self.feasibility.head
        with torch.no_grad():
            risk = self._risk(data)
            next_value = head.value(net.v(net.features(data.next_observation, data.goal))).clamp(-LARGEST, LARGEST)
            known = data.policy.mask[:, : net.horizon]
            target = offline_losses.feasibility_target(
                data.violation, known, next_value, data.terminated, self.fisor.discount
            )
        features = net.features(data.observation, data.goal)
        v, q = net.v(features), net.q(features, data.action)
        value = head.value(v).detach()
        weight = offline_losses.reversed_expectile_weight(risk - value, self.fisor.feasibility_expectile)
        loss = (weight * head.error(v, risk)).mean() + head.error(q, target).mean(1).sum()
        return loss, {"v_h": value.mean(), "q_h": risk.mean(), "infeasible": (value > 0.0).float().mean()}

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        weight = self.weight(data)
        loss, metrics = self.imitate(data, weight)
        return loss, metrics | {"weight": weight.mean()}

    @torch.no_grad()
    def weight(self, data: ValueWindows) -> Tensor:
        """Of imitating the data's actions (B,)."""
        net, config = self.feasibility, self.fisor
        value = net.head.value(net.v(net.features(data.observation, data.goal)))
        risk = self._risk(data)
        improving = config.extraction.weight(self.advantage(data))
        weight = offline_losses.feasibility_weight(value, risk, improving, config.recovery.weight(value - risk))
        return weight.clamp(min=LEAST_WEIGHT)

    def _risk(self, data: ValueWindows) -> Tensor:
        """Q_h (B,) of the data's actions, the largest of the target's members."""
        net = self.target_feasibility
        return net.head.value(net.q(net.features(data.observation, data.goal), data.action)).amax(0)
