"""What off-policy algorithms share: critics with slow targets, the gripper's critic, averaged networks that act.

A subclass says how far ahead rewards are summed (`returns`), what the next observation is worth (`_next_value`) and
how its policy learns (`_policy_loss`); it may also weigh the rows of a batch (`_weigh`).

Three things that all of them need, each for a failure that was seen with sparse rewards:
- Targets are clipped to the values that are possible (as in HER, 1707.01495, appendix A): without it the critics
  run away from [0, 1] once the policy leaves the data.
- The gripper's choices differ in value by little more than the discount, less than the error of a critic. Where a
  person acted, the person's choice must win by a margin (DQfD, 1704.03732, equation 2).
- What acts is a slow average of the learned networks: the newest ones swing between nearly equal choices.

Shape letters: B batch, N critics, A arm action elements, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters, copy_into
from robot_rl.algorithms.networks import Augment, BatchLoader, PolicyNetworks, TensorBatch, find_device
from robot_rl.batch import Batch, Returns
from robot_rl.critics import CriticEnsemble, for_each
from robot_rl.errors import ConfigError, DataError


@dataclass(frozen=True)
class OffPolicyConfig:
    """Hyperparameters of everything but the policy."""

    target_subset: int = 2
    """Random members of the target ensemble whose minimum is the target."""
    discount: float = 0.97
    """Discount per control step."""
    target_rate: float = 0.005
    """Polyak rate of the target networks per update."""
    learning_rate: float = 3e-4
    """Adam, for every network."""
    actor_every: int = 2
    """Critic updates per policy update."""
    gripper_penalty: float = -0.02
    """Reward of a gripper command that changes the gripper's target; seen by the gripper critic alone, if there is
    one."""
    gripper_margin: float = 0.1
    """By how much the person's gripper choice must exceed the others where the person acted; 0 turns it off."""
    value_range: tuple[float, float] | None = (0.0, 1.0)
    """Lowest and highest possible return; success is worth 1 and ends the episode. None does not clip."""
    acting_rate: float = 0.002
    """Rate per update at which the acting networks follow the learned ones; 1 acts with the newest."""
    device: str = "cpu"
    """Where the networks live: cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of every random draw."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0 or not 0.0 < self.target_rate <= 1.0:
            raise ConfigError(f"discount {self.discount} or target_rate {self.target_rate} is not in [0, 1]")
        if min(self.actor_every, self.target_subset) < 1 or self.learning_rate <= 0.0:
            raise ConfigError(
                "actor_every and target_subset must be >= 1, learning_rate positive; "
                f"got {self.actor_every}, {self.target_subset}, {self.learning_rate}"
            )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ConfigError(f"value_range must rise, got {self.value_range}")


class OffPolicy:
    """Implements `robot_rl.algorithms.Algorithm` but for what a subclass adds."""

    def __init__(
        self,
        config: OffPolicyConfig,
        networks: PolicyNetworks,
        critics: CriticEnsemble,
        augment: Augment | None = None,
        temperatures: nn.ParameterList | None = None,
    ) -> None:
        """`networks` and `critics` are taken over (moved to the device, trained in place).

        `temperatures` are further parameters that the policy's loss trains.
        """
        if config.target_subset > critics.members:
            raise ConfigError(
                f"target_subset must not exceed the {critics.members} critics, got {config.target_subset}"
            )
        self.config = config
        self.device = find_device(config.device)
        self.networks = networks.to(self.device)
        self.critics = critics.to(self.device)
        valued = [networks.encoder, self.critics, *([networks.gripper] if networks.gripper else [])]
        self._values = nn.ModuleList(valued)
        # A copy of its own, encoder included: a shared encoder would let the target move with every step.
        self._targets = copy.deepcopy(self._values).requires_grad_(False)
        self._log_temperature = nn.ParameterList() if temperatures is None else temperatures.to(self.device)
        self._acting = copy.deepcopy(self.networks).requires_grad_(False)
        self._flatten()
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        self._load = BatchLoader(networks, self.device, augment, self._generator)
        self._updates = 0

    def _flatten(self) -> None:
        """One tensor for all that is learned, in an order in which what an optimiser or an average wants is a part."""
        networks, acting = self.networks, self._acting
        gripper = [networks.gripper] if networks.gripper else []
        learned = [self.critics, networks.encoder, *gripper, networks.actor, self._log_temperature]
        flat = FlatParameters(*learned)
        counts = [len(list(module.parameters())) for module in learned]
        values, policy, everything = sum(counts[:-2]), sum(counts[:-1]), sum(counts)
        acts_by_value = [acting.critics] if acting.critics is not None else []
        self._value_flat = flat.part(0, values)
        self._policy_flat = flat.part(0 if acts_by_value else counts[0], policy)
        self._target_flat = FlatParameters(self._targets[1], self._targets[0], *list(self._targets)[2:])
        self._acting_flat = FlatParameters(
            *acts_by_value, acting.encoder, *([acting.gripper] if acting.gripper else []), acting.actor
        )
        self._value_adam = FlatAdam(self._value_flat, self.config.learning_rate)
        self._actor_adam = FlatAdam(flat.part(values, everything), self.config.learning_rate)

    @property
    def returns(self) -> Returns:
        """How its batches sum the rewards."""
        raise NotImplementedError

    @property
    def target_encoder(self) -> nn.Module:
        return self._targets[0]

    @property
    def imitation_updates(self) -> int:
        """As `Algorithm`; only for a policy whose whole loss is imitation."""
        return 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step; every `actor_every`-th call also one of the policy. In `imitation_updates` that alone."""
        data = self._load(batch)
        self._updates += 1
        if self._updates <= self.imitation_updates:
            metrics = self._update_actor(data, self.networks.encoder(data.observation).detach())
        else:
            features, metrics = self._update_values(data)
            if self._updates % self.config.actor_every == 0:
                metrics |= self._update_actor(data, features)
        self._target_flat.follow(self._value_flat, self.config.target_rate)
        self._acting_flat.follow(self._policy_flat, self.config.acting_rate)
        return metrics

    def policy_state(self) -> Mapping[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self._acting.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        named = self._tensors() | {"generator": self._generator.get_state()}
        copies = {name: tensor.detach().cpu().clone() for name, tensor in named.items()}
        return copies | {"updates": torch.tensor([self._updates])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume exactly. `DataError` when `state` was saved with other networks."""
        rest = dict(state)
        try:
            updates, generator = rest.pop("updates"), rest.pop("generator")
        except KeyError as error:
            raise DataError(f"the saved state lacks {error}") from error
        copy_into(self._tensors(), rest)
        self._generator.set_state(generator)
        self._updates = int(updates)

    def start_from(self, policy: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> None:
        """Begin with a policy (a `policy_state`) and, where `learned` (a `state_dict`) has them, its critics.

        Optimisers, temperatures and the count of updates are new. `DataError` when the networks differ.
        """
        values = {name: value for name, value in learned.items() if name.partition(".")[0] in ("critics", "targets")}
        acting = {f"{part}.{name}": value for part in ("networks", "acting") for name, value in policy.items()}
        kept = ("networks.", "acting.", *(("critics.", "targets.") if values else ()))
        copy_into({name: value for name, value in self._tensors().items() if name.startswith(kept)}, acting | values)
        if not values:
            self._target_flat.follow(self._value_flat, 1.0)

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor that an update changes, by name."""
        parts = {
            "networks": self.networks.state_dict(),
            "acting": self._acting.state_dict(),
            "critics": self.critics.state_dict() if self.networks.critics is None else {},
            "targets": self._targets.state_dict(),
            "temperature": self._log_temperature.state_dict(),
            "value_adam": self._value_adam.state_dict(),
            "actor_adam": self._actor_adam.state_dict(),
        }
        return {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}

    def _next_value(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        """Value (B,) of the next observation under the policy, by the target critics; no gradients are kept."""
        raise NotImplementedError

    def _policy_loss(self, data: TensorBatch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What policy and temperatures minimise (0-d), and 0-d tensors to log; `features` (B, F) are fixed."""
        raise NotImplementedError

    def _update_actor(self, data: TensorBatch, features: Tensor) -> dict[str, Tensor]:
        """One step of the policy; the encoder is not the policy's to change."""
        loss, metrics = self._policy_loss(data, features)
        self._actor_adam.minimise(loss)
        return metrics

    def _update_values(self, data: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of encoder, critics and gripper critic. Returns the features (B, F) it learned from."""
        with torch.no_grad():
            next_features = self.networks.encoder(data.next_observation)
            next_target_features = self._targets[0](data.next_observation)
            target = self._target(data, next_features, next_target_features)
        features = self.networks.encoder(data.observation)
        weight, metrics = self._weigh(data, features.detach())
        q = self.critics(features, data.arm_action)
        loss = self._critic_loss(data, q, target, weight)
        metrics |= {"critic_loss": loss.detach(), "q": q.detach().mean(), "reward": data.reward.mean()}
        if self.networks.gripper is not None:
            gripper_loss = self._gripper_loss(data, features, next_features, next_target_features, weight)
            metrics["gripper_loss"] = gripper_loss.detach()
            loss = loss + gripper_loss
        self._value_adam.minimise(loss)
        return features.detach(), metrics

    def _weigh(self, data: TensorBatch, features: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Weight (B,) of each row's squared TD error, None where all weigh the same, and 0-d tensors to log."""
        return None, {}

    def _critic_loss(self, data: TensorBatch, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """What the critics' values (N, B) of the actions taken minimise (0-d)."""
        return losses.ensemble_loss(q, target, data.whole, weight)

    def _target(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        value = self._next_value(data, next_features, next_target_features)
        target = losses.td_target(data.reward, data.terminated, value, data.discount)
        return target if self.config.value_range is None else target.clamp(*self.config.value_range)

    def _target_value(self, target_features: Tensor, action: Tensor) -> Tensor:
        """Minimum (B,) of a random subset of the target critics (REDQ, 2101.05982)."""
        chosen = None
        if self.config.target_subset < self.critics.members:
            chosen = losses.random_subset(self.critics.members, self.config.target_subset, self._generator)
        return self._targets[1](target_features, action, chosen).amin(0)

    def _best_value(self, target_features: Tensor, candidates: Tensor) -> Tensor:
        """Value (B,) of acting by the best of the candidates (B, K, A)."""
        rows, count, _ = candidates.shape
        value = self._target_value(for_each(target_features, count), candidates.flatten(0, 1))
        return value.view(rows, count).amax(1)

    def _noise(self, *shape: int) -> Tensor:
        """Unit Gaussian."""
        return torch.randn(shape, generator=self._generator, device=self.device)

    def _gripper_loss(
        self,
        data: TensorBatch,
        features: Tensor,
        next_features: Tensor,
        next_target_features: Tensor,
        weight: Tensor | None,
    ) -> Tensor:
        """TD error of the gripper critic, and the margin where the person acted."""
        assert self.networks.gripper is not None and data.gripper is not None
        config, networks = self.config, self.networks
        with torch.no_grad():
            value = losses.double_q_value(
                networks.gripper_values(next_features, data.next_observation),
                networks.gripper_values(next_target_features, data.next_observation, self._targets[2]),
            )
            reward = data.reward + config.gripper_penalty * data.toggles
            target = losses.td_target(reward, data.terminated, value, data.discount)
            if config.value_range is not None:
                target = target.clamp(config.value_range[0] + config.gripper_penalty, config.value_range[1])
        q = networks.gripper_values(features, data.observation)
        chosen = losses.chosen(q, data.gripper)
        loss = losses.ensemble_loss(chosen.unsqueeze(0), target, weight=weight)
        if config.gripper_margin > 0.0:
            same = q == chosen.unsqueeze(1)  # the choice itself, and one with the same effect
            # A hand that waits before it presses shows "keep" many times where "close" is meant: weigh them alike.
            for rows in (data.is_demonstration * data.toggled, data.is_demonstration * (1.0 - data.toggled)):
                loss = loss + losses.margin_loss(q, chosen, same, config.gripper_margin, rows)
        return loss
