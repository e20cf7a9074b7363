"""Losses and targets as pure functions: tensors in, tensors out.

Shape letters: B batch, N ensemble members, A continuous action elements, K discrete choices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_TWO = math.log(2.0)
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def squash(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterised sample of a tanh-squashed diagonal Gaussian (SAC, 1812.05905, appendix C).

    `mean`, `std`, standard normal `noise`: (B, A). Returns the action (B, A) in (-1, 1) and its log density (B,).
    """
    before = mean + std * noise
    # log(1 - tanh(u)^2) in the form that neither overflows nor cancels.
    log_slope = 2.0 * (LOG_TWO - before - F.softplus(-2.0 * before))
    log_prob = -0.5 * noise.square() - std.log() - HALF_LOG_TWO_PI - log_slope
    return before.tanh(), log_prob.sum(-1)


def squashed_log_prob(mean: Tensor, std: Tensor, action: Tensor, margin: float = 1e-2) -> Tensor:
    """Log density (B,) of given actions (B, A) under the tanh-squashed Gaussian of `squash`.

    A person's actions reach the ends of [-1, 1], where the density is unbounded: they are pulled in by `margin`.
    """
    before = action.clamp(-1.0 + margin, 1.0 - margin).atanh()
    log_slope = 2.0 * (LOG_TWO - before - F.softplus(-2.0 * before))
    log_prob = -0.5 * ((before - mean) / std).square() - std.log() - HALF_LOG_TWO_PI - log_slope
    return log_prob.sum(-1)


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float | Tensor) -> Tensor:
    """One- or n-step target (B,); `discount` is the weight of the next value.

    Only `terminated` stops the bootstrap; a truncated step has terminated = 0.
    """
    return reward + discount * (1.0 - terminated) * next_value


def ensemble_loss(q: Tensor, target: Tensor, mask: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Squared TD error of `q` (N, B) to one shared `target` (B,): mean over B, sum over the independent members.

    With a `mask` (B,), mean over the rows where it is 1; with a `weight` (B,), that times each row's squared error.
    """
    error = (q - target).square()
    if weight is not None:
        error = error * weight
    if mask is None:
        return error.mean(1).sum()
    return (error * mask).sum() / mask.sum().clamp(min=1.0)


def best_candidate(candidates: Tensor, value: Tensor) -> Tensor:
    """The one (B, A) of the `candidates` (B, K, A) with the highest `value` (B, K) (EXPO, 2507.07986, section 4)."""
    best = value.argmax(1)
    return candidates[torch.arange(len(best), device=best.device), best]


def edit(action: Tensor, direction: Tensor, reach: float) -> Tensor:
    """`action` (..., A) moved along `direction` (..., A), in [-1, 1], by at most `reach`; stays in [-1, 1]."""
    return (action + reach * direction).clamp(-1.0, 1.0)


def denoising_loss(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of a denoiser's `output` (B, ...) to its `target`, averaged over the elements where `mask` is 1.

    `mask` broadcasts to them. What the target is, lies with the process: flow matching (2210.02747), EDM (2206.00364).
    """
    counted = mask.expand_as(output)
    return ((output - target).square() * counted).sum() / counted.sum().clamp(min=1.0)


def prediction_loss(predicted: Tensor, actual: Tensor, mask: Tensor) -> Tensor:
    """Squared error of latents (B, K, L) predicted over K steps, averaged over the steps where `mask` (B, K) is 1."""
    return ((predicted - actual).square().mean(-1) * mask).sum() / mask.sum().clamp(min=1.0)


def double_q_value(next_q_online: Tensor, next_q_target: Tensor) -> Tensor:
    """Value (B,) of the choice that the online network prefers, as the target network sees it; both (B, K).

    Double DQN, 1509.06461.
    """
    best = next_q_online.argmax(1, keepdim=True)
    return next_q_target.gather(1, best).squeeze(1)


def chosen(q: Tensor, choice: Tensor) -> Tensor:
    """`q` (B, K) at the integer `choice` (B,): (B,)."""
    return q.gather(1, choice.unsqueeze(1)).squeeze(1)


def margin_loss(q: Tensor, chosen_q: Tensor, same: Tensor, margin: float, mask: Tensor) -> Tensor:
    """Large-margin imitation (DQfD, 1704.03732, equation 2): max_k [q_k + margin (k not chosen)] - q_chosen.

    `q` (B, K), `chosen_q` (B,), `same` (B, K) true for the chosen; averaged over the rows where `mask` (B,) is 1.
    """
    best = torch.where(same, q, q + margin).amax(1)
    return ((best - chosen_q) * mask).sum() / mask.sum().clamp(min=1.0)


def actor_loss(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """Entropy-regularised policy loss; `q` (N, B) averaged over the members (RLPD, 2302.02948, algorithm 1)."""
    return (temperature * log_prob).mean() - q.mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Raises the temperature while the entropy is below its target (SAC, 1812.05905, equation 18)."""
    return -log_temperature.exp() * (log_prob.detach().mean() + target_entropy)


def imitation_loss(mean_action: Tensor, action: Tensor, mask: Tensor, speed: float = 1.0) -> Tensor:
    """Squared distance of `mean_action` to `action` (B, A), averaged over the rows where `mask` (B,) is 1.

    Up to `speed` times as long an action in the same direction costs nothing, as long as no element of it exceeds 1.
    """
    if speed > 1.0:
        action = action * _times_as_fast(mean_action.detach(), action, speed)
    per_row = (mean_action - action).square().mean(1)
    return (per_row * mask).sum() / mask.sum().clamp(min=1.0)


def _times_as_fast(mean_action: Tensor, action: Tensor, limit: float) -> Tensor:
    """How much longer than `action` (B, A) the way is that `mean_action` makes along it: (B, 1), from 1 to `limit`."""
    along = (mean_action * action).sum(1, keepdim=True) / action.square().sum(1, keepdim=True).clamp(min=1e-6)
    room = 1.0 / action.abs().amax(1, keepdim=True).clamp(min=1e-6)
    return along.minimum(room).clamp(1.0, limit)


def q_scale(q: Tensor) -> Tensor:
    """Mean magnitude of `q`: a weight in these units means the same whatever the rewards (TD3+BC, 2106.06860)."""
    return q.detach().abs().mean()


def gripper_loss(logits: Tensor, choice: Tensor) -> Tensor:
    """Cross entropy of `logits` (B, K) to the demonstrated `choice` (B,)."""
    return F.cross_entropy(logits, choice)


def random_subset(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` distinct members of `count`, in random order (REDQ, 2101.05982)."""
    return torch.randperm(count, generator=generator, device=generator.device)[:size]


def cloning_loss(mean: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihood of `target` (..., D) under unit spread about `mean`, up to a constant (0-d).

    Averaged with `weight` (...); 0 where nothing weighs anything, as far as numbers tell.
    """
    smallest = torch.finfo(weight.dtype).tiny
    return 0.5 * ((mean - target).square().sum(-1) * weight).sum() / weight.sum().clamp(min=smallest)


def unit_rms(gradient: Tensor) -> Tensor:
    """`gradient` (B, R, A) scaled so that each of the B has elements of root mean square one; zero stays zero.

    The normalised guidance of 2404.06356, whatever the trajectories' length.
    """
    size = gradient.square().mean((1, 2), keepdim=True).sqrt()
    return gradient / size.clamp(min=torch.finfo(gradient.dtype).tiny)


def discrimination_loss(real: Tensor, simulated: Tensor) -> Tensor:
    """Cross entropy of telling both kinds apart by the log odds of "real" (R,), (S,); both weigh the same.

    H2O (2206.13464, appendix A), after DARC (2006.13916).
    """
    return F.softplus(-real).mean() + F.softplus(simulated).mean()


def dynamics_weight(log_ratio: Tensor, mask: Tensor, lowest: float) -> Tensor:
    """Weight (S,) of squared errors: the ratio of real to simulated dynamics, within [lowest, 1] (H2O, equation 9).

    `log_ratio` (S, K) of every step, those where `mask` is 1 count. H2O multiplies the error by the root of it.
    """
    return (log_ratio * mask).sum(1).exp().clamp(lowest, 1.0)


def dynamics_gap_penalty(simulated_q: Tensor, real_q: Tensor, gap: Tensor) -> Tensor:
    """log sum_i w_i exp Q_i over simulated rows less the mean Q of real ones, summed over members (H2O, equation 6).

    `simulated_q` (N, S), `real_q` (N, R); w is `gap` (S,), positive, normalised: larger where the dynamics differ more.
    """
    return ((simulated_q + (gap / gap.sum()).log()).logsumexp(1) - real_q.mean(1)).sum()
