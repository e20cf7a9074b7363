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


def ensemble_loss(q: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared TD error of `q` (N, B) to one shared `target` (B,): mean over B, sum over the independent members.

    With a `mask` (B,), mean over the rows where it is 1.
    """
    error = (q - target).square()
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


def imitation_loss(mean_action: Tensor, action: Tensor, mask: Tensor) -> Tensor:
    """Squared distance of `mean_action` to `action` (B, A), averaged over the rows where `mask` (B,) is 1."""
    per_row = (mean_action - action).square().mean(1)
    return (per_row * mask).sum() / mask.sum().clamp(min=1.0)


def q_scale(q: Tensor) -> Tensor:
    """Mean magnitude of `q`: a weight in these units means the same whatever the rewards (TD3+BC, 2106.06860)."""
    return q.detach().abs().mean()


def gripper_loss(logits: Tensor, choice: Tensor) -> Tensor:
    """Cross entropy of `logits` (B, K) to the demonstrated `choice` (B,)."""
    return F.cross_entropy(logits, choice)


def random_subset(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` distinct members of `count`, in random order (REDQ, 2101.05982)."""
    return torch.randperm(count, generator=generator, device=generator.device)[:size]


def expectile_weight(advantage: Tensor, expectile: float) -> Tensor:
    """Weight of each error (B,): `expectile` where the target is above the value, 1 - `expectile` below.

    Half of IQL's asymmetry (2110.06169, equation 5); times squared errors it gives the expectile.
    """
    return torch.where(advantage < 0.0, 1.0 - expectile, expectile)


def implicit_value_weight(target: Tensor, known: Tensor, expectile: float) -> Tensor:
    """Weight (B,) of the members' errors in V, by targets and values (N, B), both of the target network.

    Implicit V-learning (HIQL, 2307.11949, section 4.2; as in 2410.20092): the advantage, least target less mean value,
    decides what was better than expected.
    """
    return expectile_weight(target.amin(0) - known.mean(0), expectile)


def option_outcome(goal_steps: Tensor, option_steps: int) -> tuple[Tensor, Tensor]:
    """Reward (B,) of an option, -1 unless the goal is reached already, and whether it ends at the goal (B,).

    An option lasts `option_steps`, or until its goal, which lies `goal_steps` (B,) ahead, -1 for never (OTA,
    2505.12737, section 4).
    """
    ends_there = (goal_steps >= 0) & (goal_steps <= option_steps)
    return -(goal_steps != 0).float(), ends_there.float()


def cloning_loss(mean: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihood of `target` (..., D) under unit spread about `mean`, up to a constant (0-d).

    Averaged with `weight` (...).
    """
    return 0.5 * ((mean - target).square().sum(-1) * weight).sum() / weight.sum()


def awr_weight(advantage: Tensor, temperature: float, largest: float) -> Tensor:
    """Weight exp(advantage / temperature) of imitating each action (B,), at most `largest` (AWR, 1910.00177)."""
    return (advantage / temperature).exp().clamp(max=largest)


def conservative_gap(q_random: Tensor, q_policy: Tensor, q_data: Tensor, floor: Tensor | None = None) -> Tensor:
    """How far values of other actions exceed those of the data's (N, B): mean over B, sum over members.

    logsumexp over random actions' (N, B, K), the policy's (N, B, L) and the data's own, less the data's (CQL,
    2006.04779, equation 4). With a `floor` (B,) of returns that were really had, the policy's are not pushed down
    below it (Cal-QL, 2303.05479, equation 5.1).
    """
    if floor is not None:
        q_policy = torch.maximum(q_policy, floor.unsqueeze(-1))
    every = torch.cat([q_random, q_policy, q_data.unsqueeze(-1)], -1)
    return (every.logsumexp(-1) - q_data).mean(1).sum()
