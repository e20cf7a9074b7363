"""RLPD with the additions of HIL-SERL: off-policy learning from demonstrations, interventions and experience.

RLPD (2302.02948): LayerNorm critic ensemble, random subset in the target, half of each batch from
demonstrations (the memory does that). HIL-SERL (2410.21845): the gripper is a discrete choice with its
own double-DQN critic and a penalty for every change; the actor covers the arm alone.

Six additions, each for a failure that was seen with sparse rewards:
- Returns over n steps (Rainbow, 1710.02298): every bootstrap takes the best of an erring critic, and over the eighty
  steps of a slow person the errors add up until the policy stands still where the critics dream of success.
  A policy's sum ends where the person takes over: standing still until the rescue would be as good as going on.
- Targets are clipped to the values that are possible (as in HER, 1707.01495, appendix A): without it the critics
  run away from [0, 1] once the policy leaves the data.
- The gripper's choices differ in value by little more than the discount, less than the error of a critic. Where a
  person acted, the person's choice must win by a margin (DQfD, 1704.03732, equation 2).
- The arm also imitates the person, less and less (TD3+BC, 2106.06860, with a weight that decays): before there is
  enough experience the critics are wrong beside the data, and a policy that follows them there never comes back.
- What the policy did alone and with success is imitated like the person's actions (self-imitation, 1806.05635; the
  memory does that): near the object a step changes the value by less than a critic's error, and the policy hovered.
- What acts is a slow average of the learned networks: the newest ones swing between nearly equal choices.

Shape letters: B batch, N critics, A arm action elements, F features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters, copy_into
from robot_rl.algorithms.networks import Augment, BatchLoader, PolicyNetworks, TensorBatch, find_device
from robot_rl.batch import Batch, Returns
from robot_rl.critics import CriticEnsemble
from robot_rl.errors import ConfigError, DataError


@dataclass(frozen=True)
class RLPDConfig:
    """Hyperparameters; the defaults are HIL-SERL's, and for what it does not have those of this project."""

    num_critics: int = 2
    """Members of the critic ensemble; RLPD's own experiments use 10."""
    target_subset: int = 2
    """Random members of the target ensemble whose minimum is the target."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of each critic."""
    activation: str = "tanh"
    """Activation of the critics: tanh, silu or relu."""
    discount: float = 0.97
    """Discount per control step."""
    n_step: int = 10
    """Rewards summed before bootstrapping: each bootstrap adds some overestimation, and a slow person needs many."""
    target_rate: float = 0.005
    """Polyak rate of the target networks per update."""
    learning_rate: float = 3e-4
    """Adam, for every network and the temperature."""
    initial_temperature: float = 0.01
    """Weight of the entropy at the start."""
    target_entropy: float | None = None
    """Entropy that the temperature steers to; half a nat below zero per arm element when not given."""
    backup_entropy: bool = False
    """Whether the target includes the next action's entropy."""
    actor_every: int = 2
    """Critic updates per actor update."""
    gripper_penalty: float = -0.02
    """Reward of a gripper command that changes the gripper's target; seen by the gripper critic alone."""
    gripper_margin: float = 0.1
    """By how much the person's gripper choice must exceed the others where the person acted; 0 turns it off."""
    bc_weight: float = 1.0
    """Weight of imitating the person at the start, in units of the mean |Q|; 0 turns it off."""
    bc_half_life: float = 8000.0
    """Updates after which that weight has halved: competent early, free to become faster than the person later."""
    value_range: tuple[float, float] | None = (0.0, 1.0)
    """Lowest and highest possible return; success is worth 1 and ends the episode. None does not clip."""
    acting_rate: float = 0.002
    """Rate per update at which the acting networks follow the learned ones; 1 acts with the newest."""
    device: str = "cpu"
    """Where the networks live: cpu, cuda, cuda:1, ..."""
    seed: int = 0
    """Seed of the critics' initial weights and of every random draw."""

    def __post_init__(self) -> None:
        if not 1 <= self.target_subset <= self.num_critics:
            raise ConfigError(
                f"target_subset must lie in [1, num_critics = {self.num_critics}], got {self.target_subset}"
            )
        if not 0.0 <= self.discount <= 1.0 or not 0.0 < self.target_rate <= 1.0:
            raise ConfigError(f"discount {self.discount} or target_rate {self.target_rate} is not in [0, 1]")
        if self.n_step < 1:
            raise ConfigError(f"n_step must be >= 1, got {self.n_step}")
        if self.actor_every < 1 or min(self.initial_temperature, self.learning_rate, self.bc_half_life) <= 0.0:
            raise ConfigError(
                "actor_every must be >= 1, initial_temperature, learning_rate and bc_half_life positive; "
                f"got {self.actor_every}, {self.initial_temperature}, {self.learning_rate}, {self.bc_half_life}"
            )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ConfigError(f"value_range must rise, got {self.value_range}")


class RLPD:
    """Implements `robot_rl.algorithms.Algorithm`."""

    def __init__(self, config: RLPDConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place)."""
        self.config = config
        self.device = find_device(config.device)
        self.networks = networks.to(self.device)
        self.critics = self._make_critics().to(self.device)
        valued = [networks.encoder, self.critics, *([networks.gripper] if networks.gripper else [])]
        self._values = nn.ModuleList(valued)
        # A copy of its own, encoder included: a shared encoder would let the target move with every step.
        self._targets = copy.deepcopy(self._values).requires_grad_(False)
        self._log_temperature = nn.ParameterList(
            [torch.tensor([math.log(config.initial_temperature)], device=self.device)]
        )
        self._acting = copy.deepcopy(self.networks).requires_grad_(False)
        self._flatten()
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        self._load = BatchLoader(networks, self.device, augment, self._generator)
        entropy = config.target_entropy
        self._target_entropy = -0.5 * networks.arm_dim if entropy is None else entropy
        self._updates = 0

    def _flatten(self) -> None:
        """One tensor for all that is learned, in an order in which what an optimiser or an average wants is a part."""
        networks, acting = self.networks, self._acting
        gripper = [networks.gripper] if networks.gripper else []
        learned = [self.critics, networks.encoder, *gripper, networks.actor, self._log_temperature]
        flat = FlatParameters(*learned)
        critics, *_ = counts = [len(list(module.parameters())) for module in learned]
        values, everything = sum(counts[:-2]), len(flat.parameters)
        self._value_flat = flat.part(0, values)
        self._policy_flat = flat.part(critics, everything - 1)
        self._target_flat = FlatParameters(self._targets[1], self._targets[0], *list(self._targets)[2:])
        self._acting_flat = FlatParameters(acting.encoder, *([acting.gripper] if acting.gripper else []), acting.actor)
        self._value_adam = FlatAdam(self._value_flat, self.config.learning_rate)
        self._actor_adam = FlatAdam(flat.part(values, everything), self.config.learning_rate)

    @property
    def returns(self) -> Returns:
        return Returns(self.config.n_step, self.config.discount)

    @property
    def temperature(self) -> Tensor:
        """Weight of the entropy (1,)."""
        return self._log_temperature[0].detach().exp()

    @property
    def target_encoder(self) -> nn.Module:
        return self._targets[0]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic step; every `actor_every`-th call also one of actor and temperature."""
        data = self._load(batch)
        features, metrics = self._update_values(data)
        self._updates += 1
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

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor that an update changes, by name."""
        parts = {
            "networks": self.networks.state_dict(),
            "acting": self._acting.state_dict(),
            "critics": self.critics.state_dict(),
            "targets": self._targets.state_dict(),
            "temperature": self._log_temperature.state_dict(),
            "value_adam": self._value_adam.state_dict(),
            "actor_adam": self._actor_adam.state_dict(),
        }
        return {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}

    def _make_critics(self) -> CriticEnsemble:
        config, networks = self.config, self.networks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return CriticEnsemble(
                config.num_critics, networks.feature_dim, networks.arm_dim, config.hidden, config.activation
            )

    def _update_values(self, data: TensorBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of encoder, critics and gripper critic. Returns the features (B, F) it learned from."""
        with torch.no_grad():
            next_features = self.networks.encoder(data.next_observation)
            next_target_features = self._targets[0](data.next_observation)
            target = self._target(data, next_features, next_target_features)
        features = self.networks.encoder(data.observation)
        q = self.critics(features, data.arm_action)
        loss = losses.ensemble_loss(q, target)
        metrics = {"critic_loss": loss.detach(), "q": q.detach().mean(), "reward": data.reward.mean()}
        if self.networks.gripper is not None:
            gripper_loss = self._gripper_loss(data, features, next_features, next_target_features)
            metrics["gripper_loss"] = gripper_loss.detach()
            loss = loss + gripper_loss
        self._value_adam.minimise(loss)
        return features.detach(), metrics

    def _target(self, data: TensorBatch, next_features: Tensor, next_target_features: Tensor) -> Tensor:
        config = self.config
        action, log_prob = self._sample(*self.networks.actor(next_features))
        chosen = None
        if config.target_subset < config.num_critics:
            chosen = losses.random_subset(config.num_critics, config.target_subset, self._generator)
        value = self._targets[1](next_target_features, action, chosen).amin(0)
        if config.backup_entropy:
            value = value - self.temperature * log_prob
        target = losses.td_target(data.reward, data.terminated, value, data.discount)
        return target if config.value_range is None else target.clamp(*config.value_range)

    def _gripper_loss(
        self, data: TensorBatch, features: Tensor, next_features: Tensor, next_target_features: Tensor
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
        loss = losses.ensemble_loss(chosen.unsqueeze(0), target)
        if config.gripper_margin > 0.0:
            same = q == chosen.unsqueeze(1)  # the choice itself, and one with the same effect
            # A hand that waits before it presses shows "keep" many times where "close" is meant: weigh them alike.
            for rows in (data.is_demonstration * data.toggled, data.is_demonstration * (1.0 - data.toggled)):
                loss = loss + losses.margin_loss(q, chosen, same, config.gripper_margin, rows)
        return loss

    def _update_actor(self, data: TensorBatch, features: Tensor) -> dict[str, Tensor]:
        """One step of actor and temperature; the encoder is not the actor's to change."""
        mean, std = self.networks.actor(features)
        action, log_prob = self._sample(mean, std)
        q = self.critics(features, action, frozen=True)
        loss = losses.actor_loss(q, log_prob, self.temperature)
        metrics = {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean()}
        if self.config.bc_weight > 0.0:
            imitation = losses.imitation_loss(mean.tanh(), data.arm_action, data.is_demonstration)
            metrics["imitation_loss"] = imitation.detach()
            weight = self.config.bc_weight * 0.5 ** (self._updates / self.config.bc_half_life)
            loss = loss + weight * losses.q_scale(q) * imitation
        temperature_loss = losses.temperature_loss(self._log_temperature[0], log_prob, self._target_entropy)
        self._actor_adam.minimise(loss + temperature_loss.squeeze())  # neither depends on the other's parameters
        return metrics | {"temperature": self.temperature[0]}

    def _sample(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(mean.shape, generator=self._generator, device=self.device)
        return losses.squash(mean, std, noise)
