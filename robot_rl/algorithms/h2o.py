"""H2O (2206.13464): simulated experience counts as far as its dynamics are those of the real world.

Two discriminators tell real from simulated: one sees (s, a), the other what then changed. The second, beside the first,
is the log ratio of the dynamics, log p(s' | s, a) of the real world less that of the simulation (DARC, 2006.13916). The
TD error of simulated rows is weighed by that ratio, those of real ones are not.

The paper is about SAC with one-step targets. Here RLPD learns, with returns over several steps: a row's ratio is the
product of its steps'. What errs by a tenth in one step errs by a whole in ten, so a slow average of the discriminators
weighs, as slow targets value. Further differences: discriminators see the change of the features in units of its
spread, so that small steps show; the first one learns from its own loss alone; the penalty for the value of rows with
a gap (the paper's 0.01, off by default) takes the gap of the outcome that was simulated, not of others drawn about it.

Shape letters: B batch, S simulated rows, K steps, F features, A action elements.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robot_rl import losses
from robot_rl.algorithms.flat import FlatAdam, FlatParameters
from robot_rl.algorithms.networks import Augment, PolicyNetworks, TensorBatch
from robot_rl.algorithms.rlpd import RLPD, RLPDConfig
from robot_rl.batch import Returns
from robot_rl.ensemble import EnsembleMLP
from robot_rl.errors import ConfigError

SPREAD_RATE = 0.01
"""Of the running mean square of changes, per update."""
SMALLEST_SPREAD = 1e-4
SMALLEST_GAP = 1e-6
LARGEST_GAP = 10.0
"""Of the log ratio, in the penalty; the paper's code."""


@dataclass(frozen=True)
class H2OConfig(RLPDConfig):
    """Hyperparameters; those of the discriminators are of the paper's code."""

    lowest_weight: float = 1e-5
    """Smallest weight of a simulated row's squared TD error; the largest is 1."""
    discriminator_hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of each discriminator."""
    discriminator_noise: float = 0.1
    """Standard deviation of the noise on what they learn from: smaller differences are none."""
    largest_log_ratio: float = 4.0
    """Bound of the log ratio of one step, either way."""
    penalty: float = 0.0
    """Weight of the penalty for the values of simulated rows with a gap; the paper's is 0.01."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.lowest_weight <= 1.0 or self.largest_log_ratio <= 0.0:
            raise ConfigError(
                "lowest_weight must lie in (0, 1] and largest_log_ratio be positive; "
                f"got {self.lowest_weight}, {self.largest_log_ratio}"
            )
        if min(self.discriminator_noise, self.penalty) < 0.0:
            raise ConfigError(
                f"discriminator_noise and penalty must not be negative; got {self.discriminator_noise}, {self.penalty}"
            )


class Discriminators(nn.Module):
    """Log odds that (s, a) is real, and what the change that followed adds to them: nothing, at first."""

    mean_square: Tensor
    seen: Tensor

    def __init__(self, config: H2OConfig, features: int, actions: int) -> None:
        super().__init__()
        self._bound = config.largest_log_ratio
        hidden = config.discriminator_hidden
        self.occupancy = EnsembleMLP(1, features + actions, hidden, 1, "relu")
        self.dynamics = EnsembleMLP(1, 2 * features + actions, hidden, 1, "relu")
        nn.init.zeros_(list(self.dynamics.layers)[-2])
        self.register_buffer("mean_square", torch.zeros(features))
        self.register_buffer("seen", torch.zeros(1))

    def measure(self, change: Tensor) -> None:
        """Take changes (B, F) into account; both averages begin at zero, so their ratio is unbiased."""
        self.mean_square.lerp_(change.square().mean(0), SPREAD_RATE)
        self.seen.lerp_(torch.ones_like(self.seen), SPREAD_RATE)

    def in_spreads(self, change: Tensor) -> Tensor:
        """Changes (..., F) in units of their root mean square."""
        return change / (self.mean_square / self.seen).sqrt().clamp(min=SMALLEST_SPREAD)

    def log_odds(self, features: Tensor, action: Tensor) -> Tensor:
        """(B,) of (s, a)."""
        return self.occupancy(features, action)[0, :, 0]

    def log_ratio(self, features: Tensor, action: Tensor, change: Tensor) -> Tensor:
        """log p(s' | s, a), real less simulated (B,), of changes (B, F) in units of their spread."""
        return self._bound * (self.dynamics(features, action, change)[0, :, 0] / self._bound).tanh()


class H2O(RLPD):
    """Implements `robot_rl.algorithms.Algorithm`; without simulated rows in the batch it is RLPD."""

    def __init__(self, config: H2OConfig, networks: PolicyNetworks, augment: Augment | None = None) -> None:
        """`networks` is taken over (moved to the device, trained in place)."""
        super().__init__(config, networks, augment)
        self._h2o = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            actions = networks.arm_dim + (networks.gripper is not None)
            self.discriminators = Discriminators(config, networks.feature_dim, actions).to(self.device)
        self.judges = copy.deepcopy(self.discriminators).requires_grad_(False)
        self._learned, self._judging = FlatParameters(self.discriminators), FlatParameters(self.judges)
        self._discriminator_adam = FlatAdam(self._learned, config.learning_rate)

    @property
    def returns(self) -> Returns:
        return replace(super().returns, path=self._n_step)

    def log_ratios(self, features: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        """Of each step (S, K): from features (S, F) by actions (S, K, A) to the features after them (S, K, F)."""
        before = torch.cat([features.unsqueeze(1), following[:, :-1]], 1)
        change = self.discriminators.in_spreads(following - before)
        ratios = self.judges.log_ratio(before.flatten(0, 1), actions.flatten(0, 1), change.flatten(0, 1))
        return ratios.view(len(features), -1)

    def _weigh(self, data: TensorBatch, features: Tensor) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Also teaches the discriminators, which this batch is weighed by."""
        real = len(features) - data.simulated
        if not data.simulated or not real:
            return None, {}
        metrics = self._discriminate(data, features, real)
        weight = torch.ones_like(data.reward)
        weight[real:] = self._simulated_weight(data, features, real)
        return weight, metrics | {"weight": weight[real:].mean()}

    @torch.no_grad()
    def _simulated_weight(self, data: TensorBatch, features: Tensor, real: int) -> Tensor:
        """(S,)."""
        assert data.path is not None
        path = data.path
        ahead = {key: value[real:].flatten(0, 1) for key, value in path.observation.items()}
        following = self.networks.encoder(ahead).unflatten(0, path.mask[real:].shape)
        ratios = self.log_ratios(features[real:], path.action[real:], following)
        return losses.dynamics_weight(ratios, path.mask[real:], self._h2o.lowest_weight)

    def _discriminate(self, data: TensorBatch, features: Tensor, real: int) -> dict[str, Tensor]:
        """One step of both discriminators, by every row's first step."""
        assert data.path is not None
        learned = self.discriminators
        with torch.no_grad():
            following = self.networks.encoder({key: value[:, 0] for key, value in data.path.observation.items()})
            learned.measure(following - features)
            change = self._shaken(learned.in_spreads(following - features))
            features, action = self._shaken(features), self._shaken(data.path.action[:, 0])
        occupancy, ratio = learned.log_odds(features, action), learned.log_ratio(features, action, change)
        both = occupancy.detach() + ratio
        loss = losses.discrimination_loss(occupancy[:real], occupancy[real:])
        loss = loss + losses.discrimination_loss(both[:real], both[real:])
        self._discriminator_adam.minimise(loss)
        self._judging.follow(self._learned, self._h2o.target_rate)
        return {
            "discriminator_loss": loss.detach(),
            "accuracy_sa": _accuracy(occupancy, real),
            "accuracy_sas": _accuracy(both, real),
        }

    def _shaken(self, value: Tensor) -> Tensor:
        return value + self._h2o.discriminator_noise * self._noise(*value.shape)

    def _critic_loss(self, data: TensorBatch, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        loss = super()._critic_loss(data, q, target, weight)
        if weight is None or not self._h2o.penalty:
            return loss
        real = len(target) - data.simulated
        gap = -weight[real:].log()
        penalty = losses.dynamics_gap_penalty(q[:, real:], q[:, :real], gap.clamp(SMALLEST_GAP, LARGEST_GAP))
        return loss + self._h2o.penalty * penalty

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "discriminators": self.discriminators,
            "judges": self.judges,
            "discriminator_adam": self._discriminator_adam,
        }
        mine = {f"{part}.{name}": value for part, one in parts.items() for name, value in one.state_dict().items()}
        return super()._tensors() | mine


@torch.no_grad()
def _accuracy(log_odds: Tensor, real: int) -> Tensor:
    """Share told rightly (0-d), of both kinds alike."""
    return 0.5 * ((log_odds[:real] > 0.0).float().mean() + (log_odds[real:] <= 0.0).float().mean())
