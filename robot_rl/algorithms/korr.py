"""KORR (2509.12562): a residual policy that corrects a frozen one, given what that one would bring about.

What is seen is lifted to a latent whose dynamics are linear, z' = A z + B a (Koopman). The residual policy is shown the
latent that the base's action would lead to, and adds a correction of at most `policy.reach` to that action.

The paper learns by PPO in a thousand simulations at once; on one robot what was seen before has to be used again. So
here RLPD learns: its critics (which see the base's action, too), its returns over several steps, its imitation of the
person as far as the correction reaches. Further differences: the latent holds what is seen beside what is learned, so
that it cannot shrink to nothing; dynamics are fitted over several steps and not one; no goal is told; the base begins a
chunk at every step, and does not play any out.

Shape letters: B batch, A action elements, F features, K predicted steps, L latent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor

from robot_rl import losses
from robot_rl.algorithms.networks import Augment, PolicyNetworks, TensorBatch, TensorObservation
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.batch import Returns
from robot_rl.errors import ConfigError


class BaseEncoder(Protocol):
    """What `networks.encoder` must be; `policies.korr` has it. Features (B, F) end with the base's action (B, A)."""

    def see(self, observation: TensorObservation) -> Tensor:
        """The rest of the features (B, F - A), without asking the base."""
        ...


class ResidualActor(Protocol):
    """What `networks.actor` must be; `policies.korr` has it."""

    def correct(self, features: Tensor, direction: Tensor) -> Tensor:
        """The base's action moved along `direction` (B, A), within reach: (B, A)."""
        ...

    def lift(self, seen: Tensor) -> Tensor:
        """Latents (..., L) of what is seen (..., F - A)."""
        ...

    def predict(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, K, L) after each of the actions (B, K, A)."""
        ...


@dataclass(frozen=True)
class KORRConfig(RLPDConfig):
    """Hyperparameters; those of the latent and the reach are the policy's, which acts with them."""

    prediction_weight: float = 1.0
    """Of the dynamics' loss beside that of the policy, which shapes the latent as well."""
    prediction_steps: int = 5
    """Steps ahead that the dynamics are fitted over, at most `n_step`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prediction_weight >= 0.0 or not 1 <= self.prediction_steps <= self.n_step:
            raise ConfigError(
                f"need prediction_weight >= 0 and prediction_steps from 1 to n_step = {self.n_step}; "
                f"got {self.prediction_weight}, {self.prediction_steps}"
            )


class KORR(RLPD):
    """Implements `robot_rl.algorithms.Algorithm`."""

    def __init__(self, config: KORRConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place); its base stays as it is."""
        super().__init__(config, networks, augment)
        self._korr = config
        self._actor = cast(ResidualActor, networks.actor)
        self._encoder = cast(BaseEncoder, networks.encoder)

    @property
    def returns(self) -> Returns:
        return replace(super().returns, path=self._korr.prediction_steps)

    def _act(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, std = self.networks.actor(features)
        direction, log_prob = self._sample(mean, std)
        return self._actor.correct(features, direction), log_prob, self._actor.correct(features, mean.tanh())

    def _policy_loss(self, data: TensorBatch, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super()._policy_loss(data, features)
        prediction = self._prediction_loss(data, features)
        loss = loss + self._korr.prediction_weight * prediction
        return loss, metrics | {"prediction_loss": prediction.detach()}

    def _prediction_loss(self, data: TensorBatch, features: Tensor) -> Tensor:
        """0-d; depends on the latent and its dynamics, the encoder is the critics' alone."""
        assert data.path is not None
        path, seen = data.path, features[:, : -self.networks.arm_dim]
        with torch.no_grad():
            ahead = self._encoder.see({key: value.flatten(0, 1) for key, value in path.observation.items()})
        actual = self._actor.lift(ahead).unflatten(0, path.mask.shape)
        return losses.prediction_loss(self._actor.predict(self._actor.lift(seen), path.action), actual, path.mask)
