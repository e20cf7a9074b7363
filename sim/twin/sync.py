"""The twin in step: a bank of simulated worlds that follow the robot, corrected by late and noisy poses of objects.

At every tick each particle goes back to when the newest pose was measured, takes it in through a Kalman gain that a
soft weld carries out, and replays the recorded servo targets to now. What is published is the weighted mean.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from robot_rl import frames
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray
from sim.twin.correction import wrench_of
from sim.twin.estimate import Estimate, ObjectEstimate, mean_pose
from sim.twin.inbox import Inbox, InboxConfig
from sim.twin.kalman import ErrorFilter, NoiseConfig, nis_bound
from sim.twin.model import Factors, TwinModel, measured_pose
from sim.twin.particles import BankConfig, effective_share, first_factors, jittered, systematic, weigh, weights_of
from sim.twin.smoothing import PoseSmoother
from sim.twin.timeline import History, Sighting, Timeline


@dataclass(frozen=True)
class SyncConfig:
    """How the twin follows."""

    rate_hz: float = 60.0
    """Ticks per second."""
    memory_s: float = 0.25
    """Measurements may come this late; states are kept for so long."""
    gate: float = 1e-6
    """A pose whose NIS a right model exceeds with less than this probability is not believed."""
    reset_after: int = 15
    """So many poses in a row that are not believed: a tracking failure, and the only hard reset."""
    window: int = 30
    """Poses over which the twin is judged predictive."""
    predictive: float = 1e-3
    """A right model's windowed NIS exceeds the threshold with this probability."""
    smoothing_s: float = 0.04
    """Time constant with which corrections enter what is published; 0 publishes them at once."""
    threads: int = 1
    """Threads that step the particles."""
    seed: int = 0
    """Of the bank."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Of measurements and model."""
    bank: BankConfig = field(default_factory=BankConfig)
    """Particles over friction and mass."""
    inbox: InboxConfig = field(default_factory=InboxConfig)
    """What measurements are accepted."""

    def __post_init__(self) -> None:
        if not (self.rate_hz > 0.0 and self.memory_s > 1.0 / self.rate_hz):
            raise ConfigError(f"memory_s must span a period of rate_hz; got {self.memory_s} and {self.rate_hz}")
        if self.bank.particles < 1 or self.threads < 1 or self.window < 1 or self.reset_after < 1:
            raise ConfigError("bank.particles, threads, window and reset_after must be at least 1")


class TwinSync:
    """See the module. Feed it with `joints` and `pose` as they arrive, and call `tick` at `rate_hz`."""

    def __init__(self, twin: TwinModel, config: SyncConfig | None = None, *, leads: bool = False) -> None:
        self.twin, self.config = twin, config or SyncConfig()
        self._leads = leads
        config = self.config
        self.inbox = Inbox(twin.plan.joints, tuple(twin.plan.objects), config.inbox)
        self.failures = 0
        self.events: deque[str] = deque(maxlen=100)
        """What a person should read; whoever does so takes it out."""
        self._dt_s = float(twin.model.opt.timestep)
        self._rng = np.random.default_rng(config.seed)
        self._particles = [Timeline(twin, config.memory_s) for _ in range(config.bank.particles)]
        for particle, factors in zip(self._particles, first_factors(config.bank, config.seed), strict=True):
            particle.set_factors(factors)
        self._log_weights = np.zeros(config.bank.particles)
        self._worst_nis = nis_bound(1.0 - config.gate)
        self._pool = ThreadPoolExecutor(config.threads) if config.threads > 1 else None
        self._history = self._fresh_history(np.array(twin.plan.finger_open))
        self._waiting: list[Sighting] = []
        self._newest: dict[int, Sighting] = {}
        self._smoothers = [PoseSmoother(config.smoothing_s) for _ in twin.tracked]
        self._nis = [deque[float](maxlen=config.window) for _ in twin.tracked]
        self._strikes = [0] * len(twin.tracked)
        self._origin_s: float | None = None
        self._now_s = -np.inf
        self.newest: Estimate | None = None
        """What the last tick said."""

    def joints(self, stamp_s: float, positions: Mapping[str, float], now_s: float) -> None:
        """Measured joints by name (rad)."""
        if self.inbox.take_joints(stamp_s, positions, now_s) and not self._leads:
            self.refer(stamp_s, self.inbox.joints, self.inbox.velocity)

    def refer(self, stamp_s: float, joints: FloatArray | None, velocity: FloatArray | None) -> None:
        """Where the arm shall be at `stamp_s`: (N,) and its velocity (N,). The measured joints, unless it leads."""
        if self._origin_s is None or joints is None or velocity is None:
            return
        history, step = self._history, self._step_of(stamp_s)
        if step > history.steps[-1]:
            history.steps.append(step)
            history.joints.append((joints, velocity))

    def gripper(self, position: float) -> None:
        """Measured gripper, 0 closed ... 1 open."""
        if np.isfinite(position) and self.twin.plan.finger_actuators:
            closed, opened = np.array(self.twin.plan.finger_closed), np.array(self.twin.plan.finger_open)
            self._history.fingers = closed + float(np.clip(position, 0.0, 1.0)) * (opened - closed)

    def pose(self, name: str, stamp_s: float, pose: FloatArray, now_s: float) -> None:
        """Measured pose (7,) of an object in the base frame."""
        sound = self.inbox.take_pose(name, stamp_s, pose, now_s)
        if sound is None:
            return
        index = list(self.twin.plan.objects).index(name)
        step = 0 if self._origin_s is None else self._step_of(stamp_s)
        sighting = Sighting(step, index, frames.compose(self.twin.base_pose, sound))
        self._newest[index] = sighting
        if self._origin_s is None:
            return
        if step <= self._particles[0].oldest_step:
            self.inbox.rejected["pose: older than the memory"] += 1
            return
        self._waiting.append(sighting)

    def tick(self, now_s: float) -> Estimate | None:
        """The twin at `now_s`; while blind the last one again, and None before there was one."""
        if now_s < self._now_s:
            self.events.append(f"the clock went back by {self._now_s - now_s:.3f} s: the twin begins anew")
            self._forget()
            self.inbox.clear()
        self._now_s = now_s
        if missing := self.inbox.blind(now_s):
            self._lose_sight(missing)
            self.newest = None if self.newest is None else self._held(self.newest, now_s, missing)
            return self.newest
        if self._origin_s is None:
            self._begin(now_s)
        self._advance(self._step_of(now_s))
        self.newest = self._estimate(now_s)
        return self.newest

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _begin(self, now_s: float) -> None:
        """Everything where it was last measured."""
        joints = self.inbox.joints
        assert joints is not None, "not blind"
        self._origin_s = now_s
        sightings = [Sighting(0, one.index, one.pose) for one in self._newest.values()]
        for particle in self._particles:
            particle.start(joints, sightings, self._history)
        self._history.steps.append(0)
        self._history.joints.append((joints, np.zeros_like(joints)))
        self.events.append("in step")

    def _lose_sight(self, missing: str) -> None:
        if self._origin_s is not None:
            self.events.append(f"blind: {missing}")
            self._forget()

    def _forget(self) -> None:
        self._origin_s = None
        self._history = self._fresh_history(self._history.fingers)
        self._waiting.clear()
        self._strikes = [0] * len(self._strikes)
        for window, smoother in zip(self._nis, self._smoothers, strict=True):
            window.clear()
            smoother.restart()

    def _fresh_history(self, fingers: FloatArray) -> History:
        filters = [ErrorFilter(self.config.noise) for _ in self.twin.tracked]
        return History(filters, self._dt_s, fingers=fingers)

    def _held(self, last: Estimate, now_s: float, missing: str) -> Estimate:
        rejected = Counter(self.inbox.rejected)
        return replace(last, stamp_s=now_s, blind=missing, failures=self.failures, rejected=rejected)

    def _advance(self, step: int) -> None:
        """All particles to `step`, through what was measured since the last tick."""
        fresh = sorted((one for one in self._waiting if one.step <= step), key=lambda one: one.step)
        self._waiting = [one for one in self._waiting if one.step > step]
        history = self._history
        history.sightings = sorted([*history.sightings, *fresh], key=lambda one: one.step)
        back_to = fresh[0].step - 1 if fresh else None
        last_step = self.best.step

        def run(particle: Timeline) -> None:
            if back_to is not None and back_to < particle.step:
                particle.rewind(back_to)
            particle.run(history, last_step, step, self._worst_nis)

        best = self.best
        run(best)  # first and alone: it makes the gains that the others take
        self._each(run, [one for one in self._particles if one is not best])
        history.forget(self._particles[0].oldest_step)
        for index in {one.index for one in fresh}:
            self._judge(index)

    @property
    def best(self) -> Timeline:
        """The particle that explains the measurements best."""
        return self._particles[int(self._log_weights.argmax())]

    def drop_particle(self) -> bool:
        """Leave out the least likely particle, for a machine that cannot step so many; False for the last one."""
        if len(self._particles) == 1:
            return False
        worst = int(self._log_weights.argmin())
        self._particles = [one for index, one in enumerate(self._particles) if index != worst]
        self._log_weights = np.delete(self._log_weights, worst)
        return True

    def _each(self, run: Callable[[Timeline], None], particles: Sequence[Timeline]) -> None:
        results: Iterable[None] = map(run, particles)
        if self._pool is not None:
            results = self._pool.map(run, particles)
        for _ in results:
            pass

    def _judge(self, index: int) -> None:
        """Weigh the particles by the newest sighting of an object, and notice when none of them explains it."""
        seen = [particle.seen[index] for particle in self._particles]
        likelihoods = np.array([one.log_likelihood for one in seen])
        bank = self.config.bank
        self._log_weights = weigh(self._log_weights, likelihoods, 1.0 / self.config.rate_hz, bank.memory_s)
        weights = weights_of(self._log_weights)
        nis = seen[int(weights.argmax())].nis
        self._nis[index].append(nis)
        self._strikes[index] = self._strikes[index] + 1 if nis > self._worst_nis else 0
        if self._strikes[index] >= self.config.reset_after:
            self._reset(index)
        elif effective_share(weights) < bank.min_effective:
            self._resample(weights)

    def _reset(self, index: int) -> None:
        name = self.twin.tracked[index].name
        self.failures += 1
        self.events.append(
            f"tracking failure: {self._strikes[index]} poses of {name} in a row were past the gate: hard reset"
        )
        newest = self._newest[index]
        for particle in self._particles:
            particle.put(Sighting(particle.step, index, newest.pose), self._history)
        self._history.sightings.clear()
        self._strikes[index] = 0
        self._nis[index].clear()
        self._smoothers[index].restart()

    def _resample(self, weights: FloatArray) -> None:
        """Replace what does not explain by neighbours of what does; survivors keep their state and factors."""
        parents = systematic(weights, float(self._rng.random()))
        counts = np.bincount(parents, minlength=len(weights))
        dying = [index for index in range(len(weights)) if counts[index] == 0]
        for parent in np.repeat(np.arange(len(weights)), np.maximum(counts - 1, 0)):
            child = self._particles[dying.pop()]
            child.set_factors(jittered(self._particles[parent].factors, self.config.bank, self._rng))
            child.copy_from(self._particles[parent])
        self._log_weights = np.zeros(len(weights))

    def _estimate(self, now_s: float) -> Estimate:
        weights = weights_of(self._log_weights)
        best = self.best
        factors = np.array([[one.factors.friction, one.factors.mass] for one in self._particles])
        friction, mass = np.exp(weights @ np.log(factors))
        objects = {one.name: self._object(index, weights, best) for index, one in enumerate(self.twin.tracked)}
        return Estimate(
            now_s, best.data.qpos[self.twin.qpos].copy(), objects, weights, Factors(float(friction), float(mass)), "",
            self.failures, Counter(self.inbox.rejected),
        )  # fmt: skip

    def _object(self, index: int, weights: FloatArray, best: Timeline) -> ObjectEstimate:
        one, seen, window = self.twin.tracked[index], best.seen[index], self._nis[index]
        poses = np.array([measured_pose(particle.data, one) for particle in self._particles])
        before = mean_pose(np.array([particle.before[index] for particle in self._particles]), weights)
        pose = self._smoothers[index].step(before, mean_pose(poses, weights), 1.0 / self.config.rate_hz)
        return ObjectEstimate(
            frames.relative(self.twin.base_pose, pose),
            seen.innovation,
            wrench_of(best.model, best.data, one, seen.kick, 1.0 / self.config.rate_hz),
            float(np.mean(window)) if window else 0.0,
            not window or sum(window) < nis_bound(1.0 - self.config.predictive, len(window)),
        )

    def _step_of(self, stamp_s: float) -> int:
        assert self._origin_s is not None
        return round((stamp_s - self._origin_s) / self._dt_s)
