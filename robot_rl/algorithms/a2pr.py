"""A2PR (2405.19909): the policy imitates the better of the data's action and one that a variational autoencoder offers.

The autoencoder learns the actions of the data that are better than V, so that what it offers is in the data's range and
rather good. Neither is imitated where none is better than V; as in the authors' code, the one that is imitated counts
twice where both are. There an offer is the reconstruction of the policy's action, here it is sampled.

Shape letters: B batch, H horizon, h valued actions, A action, F features, Z latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl import offline_losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters
from robot_rl.algorithms.networks import Augment
from robot_rl.algorithms.td3_bc import TD3BC, RegularisedConfig
from robot_rl.algorithms.value_windows import ValueWindows
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError

LOG_STD_MIN, LOG_STD_MAX = -4.0, 15.0
LARGEST_LATENT = 0.5
"""Offers are decoded from latents clipped to this, as in BCQ (1812.02900)."""


@dataclass(frozen=True)
class A2PRConfig(RegularisedConfig):
    """Hyperparameters."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the autoencoder's two halves."""
    kl_weight: float = 0.5
    """Of the latent's distance from a unit Gaussian."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kl_weight < 0.0 or not self.hidden:
            raise ConfigError(f"kl_weight must not be negative, and there must be hidden layers; got {self}")

    def build(self, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None) -> A2PR:
        return A2PR(self, model, critic, augment)


class Autoencoder(nn.Module):
    """Chunks given features, through a latent of twice as many elements as the chunk has."""

    def __init__(self, features: int, elements: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.latent = 2 * elements
        self._encoder = EnsembleMLP(1, features + elements, hidden, 2 * self.latent, "silu")
        self._decoder = EnsembleMLP(1, features + self.latent, hidden, elements, "silu")

    def encode(self, features: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the latent, each (B, Z), of flat chunks (B, h A)."""
        mean, log_std = self._encoder(features, chunk).squeeze(0).chunk(2, -1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def decode(self, features: Tensor, latent: Tensor) -> Tensor:
        """Flat chunks (B, h A) in [-1, 1]."""
        return self._decoder(features, latent).squeeze(0).tanh()


class A2PR(TD3BC):
    """See `robot_rl.algorithms.offline`."""

    def __init__(
        self, config: A2PRConfig, model: nn.Module, critic: nn.Module | None, augment: Augment | None = None
    ) -> None:
        super().__init__(config, model, critic, augment)
        self.a2pr = config
        elements = self.critic.horizon * self.action_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._vae = Autoencoder(self.critic.feature_dim, elements, config.hidden).to(self.device)
        self._vae_adam = FlatAdam(FlatParameters(self._vae), config.critic_learning_rate)

    def policy_loss(self, data: ValueWindows) -> tuple[Tensor, dict[str, Tensor]]:
        known = data.action[:, : self.critic.horizon]
        with torch.no_grad():
            features = self.critic.features(data.observation, data.policy.goal)
            v = self.critic.head.value(self.critic.v(features))
            advantage = self.values_of(data.observation, data.policy.goal, known).amin(0) - v
        vae_loss = self._learn_offers(features, known, advantage)
        with torch.no_grad():
            offered = self._offer(features).view_as(known)
            offered_advantage = self.values_of(data.observation, data.policy.goal, offered).amin(0) - v
        better, weight = offline_losses.better_action(known, offered, advantage, offered_advantage)
        chunk = self.propose(data.observation, data.policy.goal)
        distance = weight * offline_losses.chunk_distance(chunk[:, : self.critic.horizon], better)
        q = self.values_of(data.observation, data.policy.goal, chunk).amin(0)
        loss = offline_losses.regularised_policy_loss(q, distance, self.a2pr.weight)
        metrics = {"distance": distance.mean(), "policy_q": q.mean(), "vae_loss": vae_loss}
        return loss, {name: value.detach() for name, value in metrics.items()} | {"imitated": weight.mean()}

    def _learn_offers(self, features: Tensor, chunk: Tensor, advantage: Tensor) -> Tensor:
        """One step of the autoencoder on those of the data's chunks (B, h, A) that are better than V."""
        mean, log_std = self._vae.encode(features, chunk.flatten(1))
        noise = torch.randn(mean.shape, generator=self.generator, device=self.device)
        decoded = self._vae.decode(features, mean + log_std.exp() * noise)
        error = offline_losses.chunk_distance(decoded.view_as(chunk), chunk)
        loss = offline_losses.advantage_vae_loss(error, mean, log_std, advantage, self.a2pr.kl_weight)
        self._vae_adam.minimise(loss)
        return loss

    def _offer(self, features: Tensor) -> Tensor:
        """Flat chunks (B, h A), one for each."""
        shape = (len(features), self._vae.latent)
        latent = torch.randn(shape, generator=self.generator, device=self.device)
        return self._vae.decode(features, latent.clamp(-LARGEST_LATENT, LARGEST_LATENT))

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"vae.": self._vae.state_dict(), "vae_adam.": self._vae_adam.state_dict()}
        return super()._tensors() | {part + name: value for part, each in parts.items() for name, value in each.items()}
