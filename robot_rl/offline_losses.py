"""Losses, weights and targets of offline RL (`robot_rl.algorithms`), as pure functions like those of `robot_rl.losses`.

Shape letters: B batch, N ensemble members, A continuous action elements.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robot_rl import losses


def expectile_weight(advantage: Tensor, expectile: float) -> Tensor:
    """Weight of each error (B,): `expectile` where the target is above the value, 1 - `expectile` below.

    Half of IQL's asymmetry (2110.06169, equation 5); times squared errors it gives the expectile.
    """
    return torch.where(advantage < 0.0, 1.0 - expectile, expectile)


def reversed_expectile_weight(advantage: Tensor, expectile: float) -> Tensor:
    """As `expectile_weight` with the sides exchanged: near 1 it gives the least of what was done.

    Of values that tell how unsafe something is, that is the best (FISOR, 2401.10700).
    """
    return expectile_weight(-advantage, expectile)


def feasibility_target(
    violation: Tensor, known: Tensor, next_value: Tensor, terminated: Tensor, discount: float
) -> Tensor:
    """Largest violation (B,) to come, discounted: (1 - d) h(s) + d max(h(s), V(s')) step by step (FISOR, 2401.10700).

    Discounted Hamilton-Jacobi reachability: no more than 0 where all can stay safe. `violation`
    (B, n + 1) of the present observation and those after each of n given actions, which exist where `known` (B, n) is
    1; `next_value` (B,) of the last one, for which its own violation stands where the episode ended there.
    """
    value = torch.where(terminated > 0.0, violation[:, -1], next_value)
    for step in reversed(range(known.shape[1])):
        here = violation[:, step]
        value = torch.where(
            known[:, step] > 0.0, (1.0 - discount) * here + discount * torch.maximum(here, value), value
        )
    return value


def feasibility_weight(value: Tensor, risk: Tensor, improving: Tensor, recovering: Tensor) -> Tensor:
    """Weight of imitating each action (B,), by feasibility values V_h and Q_h (FISOR, 2401.10700).

    From where one can stay safe: `improving`, of the actions that do; from elsewhere: `recovering`.
    """
    return torch.where(value <= 0.0, improving * (risk <= 0.0), recovering)


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


def awr_weight(advantage: Tensor, temperature: float | Tensor, largest: float) -> Tensor:
    """Weight exp(advantage / temperature) of imitating each action (B,), at most `largest` (AWR, 1910.00177)."""
    return (advantage / temperature).exp().clamp(max=largest)


def chunk_distance(chunk: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference (B,) of chunks (B, h, A)."""
    return (chunk - other).square().mean((1, 2))


def regularised_policy_loss(q: Tensor, distance: Tensor, weight: float) -> Tensor:
    """Climb Q (B,), in units of its mean magnitude, and stay near: `distance` (B,) (TD3+BC, 2106.06860)."""
    return weight * distance.mean() - q.mean() / losses.q_scale(q).clamp(min=1e-6)


def better_action(
    known: Tensor, offered: Tensor, advantage: Tensor, offered_advantage: Tensor
) -> tuple[Tensor, Tensor]:
    """The one of two chunks (B, h, A) with the higher advantage (B,), and how many of both have a positive one (B,).

    A2PR (2405.19909), as in the authors' code.
    """
    takes = (offered_advantage >= advantage).view(-1, 1, 1)
    weight = (advantage > 0.0).to(advantage.dtype) + (offered_advantage >= 0.0).to(advantage.dtype)
    return torch.where(takes, offered, known), weight


def advantage_vae_loss(error: Tensor, mean: Tensor, log_std: Tensor, advantage: Tensor, kl_weight: float) -> Tensor:
    """Reconstruction `error` (B,) of the actions of positive `advantage` (B,), and the latents' (B, Z) divergence.

    A2PR (2405.19909); the divergence from a unit Gaussian is averaged over elements.
    """
    divergence = 0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0 - 2.0 * log_std).mean()
    return ((advantage > 0.0) * error).mean() + kl_weight * divergence


def log_gaussian_ratio(action: Tensor, mean: Tensor, other_mean: Tensor, std: float) -> Tensor:
    """log N(action; mean, std) - log N(action; other_mean, std) (B,), actions and means (B, h, A)."""
    apart = (action - other_mean).square() - (action - mean).square()
    return 0.5 * apart.sum((1, 2)) / std**2


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's loss (0-d) of ratios and advantages (B,) (1707.06347, equation 7)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean()


def diverse_cloning_loss(means: Tensor, action: Tensor, mask: Tensor, disagreement: float) -> Tensor:
    """Squared errors of K members (K, B, h, A) to the actions (B, h, A) where `mask` (B, h) is 1, summed over members.

    Less `disagreement` times the squared distance to the nearest other member, which gets no gradient (Uni-O4,
    2311.03351, for Gaussians of one spread).
    """
    weight = mask.unsqueeze(-1) / (mask.sum() * action.shape[-1]).clamp(min=1.0)
    error = ((means - action).square() * weight).sum()
    if len(means) == 1:
        return error
    apart = ((means.unsqueeze(1) - means.detach()).square() * weight).sum((-2, -1))  # (K, K, B)
    itself = torch.eye(len(means), device=means.device).unsqueeze(-1)
    nearest = apart.masked_fill(itself > 0.5, torch.inf).amin(1)
    return error - disagreement * nearest.sum()


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
