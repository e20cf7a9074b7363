"""The scripted person: an oracle with human limits, behind the same intervention input as a human.

Rules, so that every study can be repeated (the seed is a parameter):

1. The person sees the world `reaction_s` late (to the next control step) and acts on what was seen then. An episode's
   start state has been seen before it begins.
2. The hand moves at most `hand_speed` of the arm's full speed per axis (and its shake), slows down in proportion to
   what is left of the way within `approach_steps` full steps of its goal (a late reaction would make
   a faster hand overshoot), and shakes: a first-order (Ornstein-Uhlenbeck) noise of standard
   deviation `hand_noise` and correlation time `noise_tau_s`.
3. Before pressing the gripper button the hand is still for `grip_pause_s`.
4. Demonstrating, the person is engaged for the whole episode.
5. Supervising, the person takes over when the task has not come `progress_step` further for
   `patience_s`, or has fallen back by `setback` from the best reached; and hands back after at least
   `hold_s`, once the task is `handback_gain` further than when they took over. From the `last_takeover`-th take-over of
   an episode on they keep control to its end.
6. In control, the person gives up (the episode is a failure) when the task has not come `progress_step` further
   than ever since they took over for `give_up_s`: an object that lies where the hand cannot fetch it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from robot_rl.env import GRIPPER_THRESHOLD
from robot_rl.errors import ConfigError
from robot_rl.typed import check_positive
from robot_rl.types import ActionSpec, FloatArray, HumanInput, Snapshot, Verdict


class Expert(Protocol):
    """Solves one task from any state, at the arm's full speed; knows what a bystander can see."""

    def action(self, snapshot: Snapshot, spec: ActionSpec) -> FloatArray:
        """Normalised action (A,), decided from the snapshot alone."""
        ...

    def progress(self, snapshot: Snapshot) -> float:
        """How far along the task is, in [0, 1]; 1 is success."""
        ...


@dataclass(frozen=True)
class PersonConfig:
    """Limits and habits of the scripted person."""

    reaction_s: float = 0.25
    """Delay between what happens and what the hand does (visual reaction time, 0.2-0.3 s)."""
    hand_speed: float = 0.35
    """Largest arm command per axis, as a fraction of the arm's full speed."""
    approach_steps: float = 1.5
    """Way left, in full steps of the action, within which the hand slows down."""
    hand_noise: float = 0.025
    """Standard deviation of the hand's shake, in units of the action."""
    noise_tau_s: float = 0.3
    """Correlation time of the shake."""
    grip_pause_s: float = 0.3
    """Stillness before the gripper button is pressed."""
    patience_s: float = 2.0
    """Time without progress after which the person takes over."""
    progress_step: float = 0.02
    """Gain in progress that counts as going forward."""
    setback: float = 0.15
    """Loss of progress from the best reached that makes the person take over at once."""
    hold_s: float = 1.0
    """Shortest time in control."""
    handback_gain: float = 0.25
    """Gain in progress since taking over at which control is handed back."""
    last_takeover: int = 3
    """Take-over of an episode (1 is the first) after which control is not handed back any more."""
    give_up_s: float = 10.0
    """Time in control without progress after which the person ends the episode as a failure."""

    def __post_init__(self) -> None:
        check_positive(self, "hand_speed", "approach_steps", "noise_tau_s")
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigError(f"{name} must not be negative, got {value}")


class ScriptedPerson:
    """Turns snapshots into `HumanInput`, by the rules above. Times come from the snapshots' stamps."""

    def __init__(self, expert: Expert, spec: ActionSpec, config: PersonConfig, seed: int) -> None:
        self.expert = expert
        self.config = config
        self.demonstrating = False
        self._spec = spec
        self._slow_spec = replace(
            spec,
            translation_m=spec.translation_m * config.approach_steps,
            rotation_rad=spec.rotation_rad * config.approach_steps,
        )
        self._random = np.random.default_rng(seed)
        self.reset()

    def reset(self) -> None:
        """Forget the last episode."""
        self._seen: deque[Snapshot] = deque()
        self._engaged = False
        self._engaged_since_s = 0.0
        self._progress_at_takeover = 0.0
        self._takeovers = 0
        self._best: tuple[float, float] | None = None  # progress, stamp
        self._gives_up = False
        self._noise = np.zeros(self._spec.arm_dim)
        self._grip_wish: float = 0.0
        self._grip_since_s = 0.0
        self._last_s: float | None = None

    def react(self, snapshot: Snapshot) -> HumanInput:
        """Look at the world, decide whether to hold the controls, and where to move the hand."""
        now_s = snapshot.arm.stamp_s
        seen = self._look(snapshot)
        progress = self.expert.progress(seen)
        idle_s = self._idle(progress, now_s)
        if self.demonstrating:
            self._engaged = True
        else:
            self._supervise(progress, idle_s, now_s)
        self._gives_up = self._engaged and idle_s >= self.config.give_up_s
        if not self._engaged:
            self._last_s = now_s
            return HumanInput(False, np.zeros(self._spec.dim))
        return HumanInput(True, self._move(seen, now_s))

    def _look(self, snapshot: Snapshot) -> Snapshot:
        """The newest snapshot that is at least `reaction_s` old (the first one until then)."""
        self._seen.append(snapshot)
        horizon_s = snapshot.arm.stamp_s - self.config.reaction_s
        while len(self._seen) > 1 and self._seen[1].arm.stamp_s <= horizon_s:
            self._seen.popleft()
        return self._seen[0]

    def verdict(self) -> Verdict | None:
        """FAILURE once the person has given up."""
        return Verdict.FAILURE if self._gives_up else None

    def _idle(self, progress: float, now_s: float) -> float:
        """Time in s since the task last came further than before."""
        if self._best is None or progress >= self._best[0] + self.config.progress_step:
            self._best = (progress, now_s)
        return now_s - self._best[1]

    def _supervise(self, progress: float, idle_s: float, now_s: float) -> None:
        config = self.config
        if self._engaged:
            may_release = self._takeovers < config.last_takeover and now_s - self._engaged_since_s >= config.hold_s
            if may_release and progress >= self._progress_at_takeover + config.handback_gain:
                self._engaged = False
                self._best = (progress, now_s)
            return
        assert self._best is not None
        if idle_s >= config.patience_s or progress <= self._best[0] - config.setback:
            self._engaged = True
            self._takeovers += 1
            self._engaged_since_s = now_s
            self._progress_at_takeover = progress
            self._best = (progress, now_s)

    def _move(self, seen: Snapshot, now_s: float) -> FloatArray:
        config, spec = self.config, self._spec
        elapsed_s = 0.0 if self._last_s is None else max(now_s - self._last_s, 0.0)
        self._last_s = now_s
        wish = np.array(self.expert.action(seen, self._slow_spec), np.float64)
        keep = float(np.exp(-elapsed_s / config.noise_tau_s))
        shock = self._random.standard_normal(spec.arm_dim)
        self._noise = keep * self._noise + np.sqrt(1 - keep**2) * config.hand_noise * shock
        arm = config.hand_speed * np.clip(wish[: spec.arm_dim], -1.0, 1.0) + self._noise
        if not spec.has_gripper:
            return np.clip(arm, -1.0, 1.0)
        grip = float(np.sign(wish[-1])) if abs(wish[-1]) > GRIPPER_THRESHOLD else 0.0
        if grip != self._grip_wish:
            self._grip_wish, self._grip_since_s = grip, now_s
        waiting = grip != 0.0 and now_s - self._grip_since_s < config.grip_pause_s
        if waiting and self._is_toggle(grip, seen):
            arm, grip = self._noise, 0.0
        return np.append(np.clip(arm, -1.0, 1.0), grip)

    @staticmethod
    def _is_toggle(grip: float, seen: Snapshot) -> bool:
        return (grip > 0) != (seen.arm.gripper_position > 0.5)


class ScriptedHuman:
    """The scripted person at the intervention input of an environment in the same process."""

    def __init__(self, person: ScriptedPerson, look: Callable[[], Snapshot]) -> None:
        self.person = person
        self._look = look

    def reset(self, phase: str) -> None:
        self.person.reset()
        self.person.demonstrating = phase == "demo"

    def read(self) -> HumanInput:
        return self.person.react(self._look())

    def verdict(self) -> Verdict | None:
        return self.person.verdict()
