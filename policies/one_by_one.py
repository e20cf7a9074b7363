"""The goal of one thing at a time: of several things that are to be moved, the next.

A goal at which several things have moved lies far ahead in play, and much else was done meanwhile. One thing after the
other, play in which one thing is moved is enough to learn from, and so is play in which it took a step before that
(a lock, a lid). Shape letters: B batch, S state, N things.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.errors import ConfigError

LOWER_FIRST = 10.0
"""So many times its height is what a place counts as farther: a stack is built from below."""
NEXT_GROUP = 1000.0


class OneByOne(nn.Module):
    """Things of the state, in the order in which their goals are told.

    `names` (S) are the state's elements, those where `mask` (S,) is 1 are told by goals. `order` are patterns of things
    (block_*, drawer): those of the first come first. Within a pattern the nearest to `origin` comes first, lower places
    before higher ones, for things with x, y and z. A thing is there when its goal is closer than `reached` (standard
    deviations of the data).
    """

    members: Tensor
    place: Tensor
    origin: Tensor
    has_place: Tensor
    rank: Tensor

    def __init__(self, order: Sequence[str], names: Sequence[str], mask: Tensor, origin: str, reached: float) -> None:
        super().__init__()
        self.reached = reached
        told = dict.fromkeys(name.split(".")[0] for name, on in zip(names, mask.tolist(), strict=True) if on)
        things: dict[str, int] = {}
        for rank, pattern in enumerate(order):
            found = [one for one in told if fnmatchcase(one, pattern)]
            if not found:
                raise ConfigError(f"goal_one_by_one: {pattern!r} fits none of the goal's things {', '.join(told)}")
            things |= {one: rank for one in found if one not in things}
        axes = [[f"{one}.{axis}" for axis in "xyz"] for one in things]
        placed = [all(name in names for name in one) for one in axes]
        here = [names.index(f"{origin}.{axis}") for axis in "xyz"]
        where = [[names.index(name) for name in one] if has else here for one, has in zip(axes, placed, strict=True)]
        belongs = torch.tensor([[float(name.split(".")[0] == one) for name in names] for one in things])
        for name, buffer in (
            ("members", belongs * mask),
            ("place", torch.tensor(where)),
            ("origin", torch.tensor(here)),
            ("has_place", torch.tensor(placed, dtype=torch.float32)),
            ("rank", torch.tensor([float(one) for one in things.values()])),
        ):
            self.register_buffer(name, buffer, persistent=False)

    def next(self, state: Tensor, goal: Tensor, std: Tensor) -> Tensor:
        """The goal (B, S) in which all things but the next of those that are not there yet are where they are.

        `state` and `goal` (B, S) are not normalised; `std` (S,). With all things there it is the goal itself.
        """
        apart = (state[:, self.place] - state[:, None, self.origin]).norm(dim=-1)
        told = torch.where(self.members.sum(0) > 0.5, goal, state)
        height = told[:, self.place][..., 2]
        order = self.rank * NEXT_GROUP + self.has_place * (apart + LOWER_FIRST * height)
        away = self._away(state, goal, std)
        return self._only(torch.where(away, order, torch.inf).argmin(-1), away, state, goal)

    def some(self, state: Tensor, goal: Tensor, std: Tensor, generator: torch.Generator) -> Tensor:
        """As `next`, with any of the things that are to be moved: while training."""
        away = self._away(state, goal, std)
        lots = torch.rand(away.shape, generator=generator, device=away.device)
        return self._only(torch.where(away, lots, -1.0).argmax(-1), away, state, goal)

    def _away(self, state: Tensor, goal: Tensor, std: Tensor) -> Tensor:
        """Which things (B, N) are not where the goal has them."""
        return ((goal - state) / std).square() @ self.members.T > self.reached**2

    def _only(self, chosen: Tensor, away: Tensor, state: Tensor, goal: Tensor) -> Tensor:
        waiting = (1.0 - functional.one_hot(chosen, len(self.members)).to(state.dtype)) * away.any(-1, keepdim=True)
        return goal + waiting @ self.members * (state - goal)
