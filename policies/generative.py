"""An expressive distribution of actions (or of flattened chunks) given features: a denoiser with few steps.

Shape letters: B batch, F features, A elements of an action, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policies.denoisers import LevelSines
from policies.processes import EDMProcess, FlowProcess, denoising_task
from policies.samplers import Sampler, make_sampler
from robot_rl import losses
from robot_rl.critics import for_each
from robot_rl.ensemble import EnsembleMLP


@dataclass(frozen=True)
class GenerativeConfig:
    """Noise process, sampler and network.

    EDM by default: trained for as long on two modes, five steps of it put 0.93 of the samples into one of them, five of
    flow matching 0.66 and ten 0.75, which lie on the way between (`tests/robot_rl/test_expo.py` has the problem).
    """

    process: EDMProcess | FlowProcess = field(default_factory=lambda: EDMProcess(sigma_max=4.0, sigma_last=0.1))
    """How actions are noised; what the network learns."""
    sampler: str = "ddim"
    """See `policies.samplers.SAMPLERS`."""
    steps: int = 5
    """Of the sampler."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of the denoiser."""
    activation: str = "silu"
    """tanh, silu or relu."""

    def __post_init__(self) -> None:
        self.build_sampler()  # wrong names are found now

    def build_sampler(self) -> Sampler:
        return make_sampler(self.sampler, self.process, self.steps, clip=1.0)


class GenerativeActor(nn.Module):
    """Proposes actions; learns by imitation alone."""

    def __init__(self, config: GenerativeConfig, features: int, actions: int) -> None:
        super().__init__()
        self.process, self.sampler = config.process, config.build_sampler()
        self.level = LevelSines()
        self.net = EnsembleMLP(1, features + actions + LevelSines.features, config.hidden, actions, config.activation)

    def forward(self, features: Tensor, noisy: Tensor, c_noise: Tensor) -> Tensor:
        """The denoiser's output (B, A); c_noise () or (B,)."""
        level = self.level(c_noise).expand(len(noisy), -1)
        return self.net(features, noisy, level).squeeze(0)

    @torch.no_grad()
    def propose(self, features: Tensor, noise: Tensor) -> Tensor:
        """Samples (B, N, A) in [-1, 1] from unit Gaussian `noise` (B, N, A), given features (B, F)."""
        repeated = for_each(features, noise.shape[1])
        proposed = self.sampler(lambda noisy, c_noise: self(repeated, noisy, c_noise), noise.flatten(0, 1))
        return proposed.clamp(-1.0, 1.0).view_as(noise)

    def imitation_loss(self, features: Tensor, action: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """How badly actions (B, A) are denoised, over the elements where `mask` (B, 1 or A) is 1."""
        inputs, c_noise, target = denoising_task(self.process, action, generator)
        return losses.denoising_loss(self(features, inputs, c_noise), target, mask)
