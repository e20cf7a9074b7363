"""Runs the actor's episodes in a thread of their own: phases in order, pauses, second tries."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import String

from hardware.nodes.human import PhaseMessage, TopicHuman
from robot_rl.actor import Actor
from robot_rl.errors import DisarmedError, HardwareError, StaleError
from robot_rl.types import Verdict

LEARNER_SILENCE_S = 5.0
"""The learner speaks once a second; after this it counts as absent."""
TELL_EVERY_S = 10.0


@dataclass(frozen=True)
class RunnerConfig:
    """How patient the runner is."""

    paused: bool = False
    """Begin paused: wait for ~/start_episode or ~/resume."""
    demonstrator_timeout_s: float = 120.0
    """How long a demonstration waits for somebody to take hold of the controls."""
    patience_s: float = 180.0
    """Give up when no episode could be run for this long."""


class LearnerWatch:
    """What the learner says about itself."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._heard_s = -math.inf

    def hear(self, message: String) -> None:
        try:
            content = json.loads(message.data)
        except ValueError:
            return
        if isinstance(content, dict):
            self.metrics = {str(key): value for key, value in content.items() if isinstance(value, int | float)}
            self._heard_s = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self._heard_s < LEARNER_SILENCE_S


class EpisodeRunner:
    """The thread that runs episodes until the schedule is done or it is stopped."""

    def __init__(
        self,
        actor: Actor,
        human: TopicHuman,
        learner: LearnerWatch | None,
        guard_status: Callable[[], Mapping[str, str]],
        announce: Callable[[PhaseMessage], None],
        log: RcutilsLogger,
        config: RunnerConfig,
    ) -> None:
        """Without a `learner` nothing waits for one: the policy is a finished one."""
        self.actor = actor
        self.finished = False
        self.error: BaseException | None = None
        self.stopping = threading.Event()
        self.is_running = False
        self._human = human
        self._learner = learner
        self._guard_status = guard_status
        self._announce = announce
        self._log = log
        self._config = config
        self._paused = config.paused
        self._is_permitted = False  # by a person, for one episode
        self._is_disarmed = False  # by a person
        self._has_final_policy = False
        self._now = PhaseMessage("demo", 0, "idle")
        self.thread = threading.Thread(target=self._run, name="episodes", daemon=True)

    def pause(self) -> None:
        """Stop after the episode under way."""
        self._paused = True

    def resume(self) -> None:
        self._paused = self._is_disarmed = False

    def permit(self) -> bool:
        """While paused or disarmed: run one episode; False when no episode waits for that.

        Never kept for later: an old click must not move an arm that was disarmed after it.
        """
        self._is_permitted = self._now.state == "idle" and (self._paused or self._is_disarmed)
        return self._is_permitted

    def judge(self, verdict: Verdict) -> bool:
        """End the episode under way; False when there is none."""
        if self.is_running:
            self._human.judge(verdict)
        return self.is_running

    def stop(self) -> None:
        """End the episode under way as discarded, then the thread; see `join`."""
        self.stopping.set()

    def join(self) -> None:
        """Wait for the thread to end after `stop`. An episode forgets labels given before it, so one may not do."""
        while self.thread.is_alive():
            self._human.judge(Verdict.DISCARD)
            self.thread.join(0.05)

    def scene_is_ready(self) -> None:
        """Say that the episode begins, unless all ends; a demonstration waits for whoever gives it."""
        if self.stopping.is_set():
            raise HardwareError("stopped before the episode began")
        self.is_running = True
        self._tell("run")
        if self._now.phase != "demo":
            return
        timeout_s = self._config.demonstrator_timeout_s
        self._log.info("take hold of the controls to demonstrate", throttle_duration_sec=60.0)
        if not self._human.wait_until_engaged(timeout_s, self.stopping.is_set):
            raise StaleError(f"nobody took hold of the controls within {timeout_s:.0f} s to demonstrate")

    def _run(self) -> None:
        try:
            while not self.stopping.is_set() and not self.finished:
                self._run_next()
        except BaseException as error:  # handed to the main thread, which ends the process
            self.error = error

    def _run_next(self) -> None:
        phase, job = self._next()
        if job is None:
            self.finished = True
            return
        failing_since_s = time.monotonic()
        while not self.stopping.is_set():
            if not self._wait_for_turn(phase):
                return
            try:
                self._tell("reset", phase)
                job()
                return
            except HardwareError as error:
                if time.monotonic() - failing_since_s > self._config.patience_s:
                    raise
                self._log.warning(f"episode broken off: {error}")
                if isinstance(error, DisarmedError):
                    self._is_disarmed, self._is_permitted = True, False
                    self._log.warning("arm the guard, or call ~/resume, to go on")
                self.stopping.wait(1.0)
            finally:
                self.is_running = False
                self._tell("idle")

    def _next(self) -> tuple[str, Callable[[], object] | None]:
        actor = self.actor
        if actor.demos_left > 0:
            return "demo", actor.demonstrate_once
        if actor.learn_steps_left > 0:
            return "learn", actor.learn_once
        if actor.evaluations_left > 0 and not self._has_final_policy:
            return "finish", self._finish_learning
        if actor.evaluations_left > 0:
            return "evaluate", actor.evaluate_once
        return "finished", None

    def _finish_learning(self) -> None:
        self.actor.finish_learning()
        self._has_final_policy = True

    def _wait_for_turn(self, phase: str) -> bool:
        """Hold while paused or while the learner is away; False when the process is to end."""
        began_s = told_s = time.monotonic()
        while not self.stopping.is_set():
            if self._guard_status().get("armed") == "true":
                self._is_disarmed = False
            held = self._paused or self._is_disarmed
            allowed = not held or self._is_permitted
            needs_learner = phase != "evaluate" and self._learner is not None and not self._learner.is_alive
            if allowed and not needs_learner:
                self._is_permitted = False
                return True
            now_s = time.monotonic()
            if needs_learner and allowed and now_s - began_s > self._config.patience_s:
                raise StaleError(f"the learner has been silent for {now_s - began_s:.0f} s; is it running?")
            if now_s - told_s > TELL_EVERY_S or told_s == began_s:
                told_s = now_s
                self._log.info("waiting for the learner" if allowed else "paused")
            self.stopping.wait(0.1)
        return False

    def _tell(self, state: str, phase: str = "") -> None:
        episode = self._now.episode + (state == "reset")
        self._now = PhaseMessage(phase or self._now.phase, episode, state)
        self._announce(self._now)
