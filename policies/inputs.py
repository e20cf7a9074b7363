"""How observations and goals enter a chunk policy: as tokens, normalised, the goal as one that can be left out.

Shape letters: B batch, T observations, S state, F features of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from policies.encoders import ImageEncoder
from policies.normalizer import Normalizer
from policies.one_by_one import OneByOne
from policies.words import TaskSpace, WordsConfig
from robot_rl.algorithms.imitation import TensorWindows
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.types import STATE_KEY, ArraySpec, ObservationSpec

CLOSE_PER_STD = 10.0
MOVED_STD = 0.2  # a thing that a goal moves this far, in the data's standard deviations, counts for half
START = "start/"
"""Prefix, in a goal, of the observation at which its change begins."""
TEXT, WORDED = "text", "worded"
"""Keys, in a goal, of the sentence's vector (E,), and of a number that is 1 where it counts."""
Moments = Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]
"""`state` and `action` -> mean and standard deviation of each element; `action_range` -> its least and greatest."""


@dataclass(frozen=True)
class InputConfig:
    """What a chunk policy sees."""

    history: int = 1
    """Observations, the present one and those before it."""
    goal: bool = True
    """Whether it is told a goal."""
    goal_elements: tuple[str, ...] = ("*",)
    """Elements of the state that a goal speaks of, by name with * as wildcard, e.g. block_*; others do not matter."""
    goal_difference: bool = True
    """Whether it also sees how far the state is from the goal, enlarged where it is close."""
    goal_noise: float = 0.0
    """While training goals are blurred by so many of the data's standard deviations: in play what was not touched is
    exactly where the goal has it, and a policy that has seen nothing else is lost where it is a millimetre beside."""
    offsets_from: str = ""
    """For states in one frame for all: the thing (tcp, say, for tcp.x, tcp.y, tcp.z) from which the policy also sees
    the offset of everything else with x, y and z, enlarged where it is close. RobotEnv's states have it already."""
    goal_offsets: bool = False
    """Whether it sees these offsets once more, each only as far as the goal moves that thing (from 0 to 1 times the
    offset). With several things a network takes long to learn by itself which of them it is to reach for."""
    goal_one_by_one: tuple[str, ...] = ()
    """Things whose goals it is told one at a time, in this order, by name with * as wildcard, e.g. block_*,drawer: of
    those that are not there yet (of several for one pattern the nearest, lower places first), the others' goals being
    where they are. While training any one that moved is told. Needs offsets_from."""
    goal_reached: float = 0.2
    """For goal_one_by_one: closer to its goal than so many of the data's standard deviations a thing is there."""
    words: WordsConfig | None = None
    """Goals may be told in words, too, aligned with what changes: the policy then sees the change, not the goal."""
    image_channels: tuple[int, ...] = (32, 32, 32)
    """Channels of each camera's convolutions."""
    image_features: int = 128
    """Width of each camera's bottleneck."""

    def __post_init__(self) -> None:
        if (self.words is not None or self.goal_noise) and not self.goal:
            raise ConfigError("words and goal_noise are of policies that are told goals: goal=true")
        shown = self.goal and self.words is None
        if (self.goal_offsets or self.goal_one_by_one) and not (shown and self.offsets_from):
            raise ConfigError(
                "goal_offsets and goal_one_by_one need goals that are shown (goal=true, words=null) and offsets_from"
            )
        if self.history < 1 or not self.goal_noise >= 0.0 or not self.goal_reached > 0.0:
            raise ConfigError(f"history must be at least 1, goal_noise not negative, goal_reached positive; got {self}")
        if min(*self.image_channels, self.image_features, len(self.image_channels)) < 1:
            raise ConfigError(f"image_channels and image_features must be positive; got {self}")


class InputTokens(nn.Module):
    """Observations (each (B, T, ...)) and a goal (each (B, ...)) to tokens (B, C, F).

    In this order: T of the observations, one of the offsets, of the goal, of the difference to it, of the offsets of
    what it moves, where there are any.
    A token is the normalised state, the features of every camera, and 1 in the goal's token while there is a goal:
    a goal left out is all zeros, so that one network is both goal-conditioned and goal-free.
    """

    goal_mask: Tensor
    _origin: Tensor
    _others: Tensor

    def __init__(self, config: InputConfig, spec: ObservationSpec) -> None:
        super().__init__()
        self.history = config.history
        self.has_goal = config.goal
        self.goal_noise = config.goal_noise
        self.has_difference = config.goal and config.goal_difference and not config.words and spec.state_dim > 0
        self.has_offsets = bool(config.offsets_from)
        self.seen = config.history + self.has_offsets
        """Tokens that come first and tell nothing of the goal."""
        self.has_goal_offsets = config.goal_offsets
        self.tokens = self.seen + config.goal + self.has_difference + config.goal_offsets
        self._keys = spec.image_keys
        self.normalizer = Normalizer(spec.state_dim) if spec.state_dim else None
        cameras = {}
        for key in spec.image_keys:
            height, width, _ = spec.arrays[key].shape
            cameras[key] = ImageEncoder((height, width), config.image_channels, config.image_features)
        self.cameras = nn.ModuleList(cameras.values())
        self.state_dim = spec.state_dim
        self.features = spec.state_dim + len(cameras) * config.image_features + 1
        if self.features == 1:
            raise ConfigError("the observation has neither a state nor an image")
        self.goal_arrays = dict(spec.arrays) if config.goal else {}
        """What a goal consists of; not the state where none of its elements matters."""
        self.words: TaskSpace | None = None
        if config.goal and config.words is not None:
            self.words = TaskSpace(config.words, self.features - 1)
            self.place_task = nn.Linear(config.words.features, self.features - 1)
            self.goal_arrays |= {START + key: one for key, one in spec.arrays.items()}
            self.goal_arrays |= {TEXT: ArraySpec((config.words.sentence_features,)), WORDED: ArraySpec(())}
        # the choice of elements is configuration, not a weight: it is not saved
        origin, others = _positions(config.offsets_from, spec.arrays.get(STATE_KEY)) if self.has_offsets else ([], [])
        self.register_buffer("_origin", torch.tensor(origin, dtype=torch.int64), persistent=False)
        self.register_buffer("_others", torch.tensor(others, dtype=torch.int64), persistent=False)
        self.register_buffer("goal_mask", element_mask(config, spec.arrays.get(STATE_KEY)), persistent=False)
        self.one_by_one: OneByOne | None = None
        if config.goal_one_by_one:
            names = spec.arrays[STATE_KEY].names
            self.one_by_one = OneByOne(
                config.goal_one_by_one, names, self.goal_mask, config.offsets_from, config.goal_reached
            )
        if config.goal and config.words is None and not self.goal_mask.any():
            self.goal_arrays.pop(STATE_KEY, None)
        if config.goal and not cameras and not self.goal_mask.any():
            raise ConfigError("goal_elements: a goal of none would say nothing; learn without goals: goal=false")

    def forward(
        self, observation: Mapping[str, Tensor], goal: Mapping[str, Tensor], keep_goal: Tensor | None = None
    ) -> Tensor:
        """`keep_goal` (B,) is 1 where the goal is told, 0 where it is left out (default: told)."""
        tokens = self.observe(observation)
        if self.has_offsets:
            tokens = torch.cat([tokens, self._offsets(observation[STATE_KEY][:, -1])], 1)
        if not self.has_goal:
            return tokens
        if self.normalizer is not None and self.words is None and STATE_KEY not in self.goal_arrays:
            goal = {**goal, STATE_KEY: observation[STATE_KEY][:, -1]}  # none of it matters
        if self.one_by_one is not None and self.normalizer is not None:
            present = observation[STATE_KEY][:, -1]
            goal = {**goal, STATE_KEY: self.one_by_one.next(present, goal[STATE_KEY], self.normalizer.std)}
        told = self._goal_features(goal) if self.words is None else self._task(self.words, goal)
        told = torch.cat([told, torch.ones_like(told[..., :1])], -1).unsqueeze(1)
        if self.has_difference:
            told = torch.cat([told, self._difference(observation[STATE_KEY][:, -1], goal[STATE_KEY])], 1)
        if self.has_goal_offsets:
            told = torch.cat([told, self._goal_offsets(observation[STATE_KEY][:, -1], goal[STATE_KEY])], 1)
        if keep_goal is not None:
            told = told * keep_goal.reshape(-1, 1, 1)
        return torch.cat([tokens, told], 1)

    def _offsets(self, state: Tensor) -> Tensor:
        """asinh of the offsets (B, 1, F) of things from the origin, in units of a tenth of the data's spread."""
        near = self._near(state)
        return functional.pad(near, (0, self.features - near.shape[-1])).unsqueeze(1)

    def _apart(self, state: Tensor, goal: Tensor) -> Tensor:
        """How far (B, S) the goal is, in standard deviations of the data."""
        assert self.normalizer is not None
        return (self.normalizer(goal) - self.normalizer(state)) * self.goal_mask

    def _goal_offsets(self, state: Tensor, goal: Tensor) -> Tensor:
        """The same (B, 1, F), each thing's times the share d^2 / (d^2 + MOVED_STD^2) that it is to be moved by d."""
        far = self._apart(state, goal)[:, self._others].unflatten(-1, (-1, 3)).square().sum(-1, keepdim=True)
        near = self._near(state).unflatten(-1, (-1, 3)) * (far / (far + MOVED_STD**2))
        return functional.pad(near.flatten(1), (0, self.features - len(self._others))).unsqueeze(1)

    def _near(self, state: Tensor) -> Tensor:
        """Of `_offsets`, (B, 3 things)."""
        assert self.normalizer is not None
        apart = (state[:, self._others] - state[:, self._origin]) / self.normalizer.std[self._others]
        return torch.asinh(apart * CLOSE_PER_STD)

    def _task(self, words: TaskSpace, goal: Mapping[str, Tensor]) -> Tensor:
        """Features (B, F - 1) of a change, told by observations or in words."""
        told = torch.where(goal[WORDED].unsqueeze(-1) > 0.5, words.words(goal[TEXT]), self._change(words, goal))
        return self.place_task(told)

    def _change(self, words: TaskSpace, goal: Mapping[str, Tensor]) -> Tensor:
        start = {key.removeprefix(START): value for key, value in goal.items() if key.startswith(START)}
        return words.change(self._goal_features(start), self._goal_features(goal))

    def train_goals(self, windows: TensorWindows, generator: torch.Generator) -> TensorWindows:
        """The same windows with goals as they are learned from: blurred, and of one of the things that moved."""
        normalizer = self.normalizer
        if not self.training or normalizer is None or not (self.goal_noise or self.one_by_one):
            return windows
        state = windows.goal[STATE_KEY]
        if self.goal_noise:
            noise = torch.randn(state.shape, generator=generator, device=state.device)
            state = state + self.goal_noise * normalizer.std * noise
        if self.one_by_one is not None:
            state = self.one_by_one.some(windows.observation[STATE_KEY][:, -1], state, normalizer.std, generator)
        return replace(windows, goal={**windows.goal, STATE_KEY: state})

    def put_into_words(self, windows: TensorWindows, generator: torch.Generator) -> TensorWindows:
        """The same windows with some of the labelled goals told in words; without words as they are."""
        if self.words is None:
            return windows
        labelled = windows.text >= 0
        lots = torch.rand(len(labelled), generator=generator, device=labelled.device)
        worded = (labelled & (lots < self.words.config.told_share)).to(lots.dtype)
        goal = {**windows.goal, **{START + key: value for key, value in windows.start.items()}}
        table = self.words.table if len(self.words.table) else self.words.table.new_zeros(1, self.words.table.shape[1])
        goal |= {TEXT: table[windows.text.clamp(min=0)], WORDED: worded}
        return replace(windows, goal=goal)

    def align(self, windows: TensorWindows) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise (0-d) beside a policy's own loss so that words mean changes; windows as put into words."""
        if self.words is None:
            return windows.mask.new_zeros(()), {}
        labelled = windows.text >= 0
        goal = {key: value[labelled] for key, value in windows.goal.items()}
        loss, found = self.words.align(
            self._change(self.words, goal), self.words.words(goal[TEXT]), windows.text[labelled]
        )
        return self.words.config.align_weight * loss, {"align": loss.detach(), "words_found": found}

    def _difference(self, state: Tensor, goal: Tensor) -> Tensor:
        """asinh of the difference (B, 1, F) in units of a tenth of the data's spread: a placement is decided there."""
        near = torch.asinh(self._apart(state, goal) * CLOSE_PER_STD)
        return functional.pad(near, (0, self.features - self.state_dim)).unsqueeze(1)

    def observe(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Tokens of observations alone (B, T, F)."""
        tokens = self._features(observation)
        return torch.cat([tokens, torch.zeros_like(tokens[..., :1])], -1)

    def _goal_features(self, goal: Mapping[str, Tensor]) -> Tensor:
        """Of what a goal speaks of (B, F - 1)."""
        return self._features({key: value.unsqueeze(1) for key, value in goal.items()}, self.goal_mask).squeeze(1)

    def _features(self, observation: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """(B, T, F - 1)."""
        parts = []
        if self.normalizer is not None:
            state = self.normalizer(observation[STATE_KEY])
            parts.append(state if mask is None else state * mask)
        for key, camera in zip(self._keys, self.cameras, strict=True):
            images = observation[key]
            parts.append(camera(images.flatten(0, 1)).unflatten(0, images.shape[:2]))
        return torch.cat(parts, -1)


def fill_goal(
    arrays: Mapping[str, ArraySpec], goal: Mapping[str, Tensor], batch: int, device: torch.device
) -> dict[str, Tensor]:
    """All of a goal that consists of `arrays`, with zeros for what it leaves out."""
    missing = {key: one for key, one in arrays.items() if key not in goal}
    return dict(goal) | {
        key: torch.zeros((batch, *one.shape), dtype=getattr(torch, one.dtype), device=device)
        for key, one in missing.items()
    }


def element_mask(config: InputConfig, spec: ArraySpec | None) -> Tensor:
    """1 for the elements of the state (S,) that goals speak of."""
    names = spec.names if spec is not None else ()
    if spec is not None and not names:
        if config.goal_elements != ("*",):
            raise ConfigError("goal_elements: the elements of this state have no names")
        return torch.ones(spec.shape)
    chosen = [any(fnmatchcase(name, pattern) for pattern in config.goal_elements) for name in names]
    for pattern in config.goal_elements:
        if names and not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"goal_elements: {pattern!r} fits none of {', '.join(names)}")
    return torch.tensor(chosen, dtype=torch.float32)


def _positions(origin: str, spec: ArraySpec | None) -> tuple[list[int], list[int]]:
    """Elements of the state: those of the origin, repeated, and those of everything else that has x, y and z."""
    names = spec.names if spec is not None else ()
    things = [one.removesuffix(".x") for one in names if one.endswith(".x")]
    things = [one for one in things if all(f"{one}.{axis}" in names for axis in "xyz")]
    if origin not in things:
        raise UnknownNameError("thing with x, y and z in the state (offsets_from)", origin, things)
    others = [one for one in things if one != origin]
    if not others:
        raise ConfigError(f"offsets_from: nothing but {origin} has x, y and z in this state")
    here, there = (
        [names.index(f"{one}.{axis}") for one in group for axis in "xyz"] for group in ([origin] * len(others), others)
    )
    return here, there
