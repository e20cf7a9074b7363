"""The one episode loop. Recorder, sender, viewer and metrics subscribe to it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from robot_rl.interrupts import uninterrupted
from robot_rl.intervention import Intervention
from robot_rl.protocols import Env, Subscriber
from robot_rl.types import EpisodeEnd, EpisodeStart, Transition, Verdict


def run_episode(
    env: Env,
    control: Intervention,
    subscribers: Sequence[Subscriber],
    *,
    phase: str,
    seed: int | None = None,
    options: dict[str, Any] | None = None,
    operator: str = "",
) -> EpisodeEnd:
    """Reset (with `seed` and `options`), act until the task ends, the clock runs out or the person gives a verdict.

    Subscribers are called in order and synchronously; a slow one must queue by itself. The episode
    is closed for them also when the loop is interrupted (Ctrl-C, hardware error), as discarded.
    `seed` is also what the policy draws from. `operator` names for the record who is at the controls.
    """
    reset_began_s = time.monotonic()
    observation, info = env.reset(seed=seed, options=options)
    reset_s = time.monotonic() - reset_began_s
    control.reset(phase, info.get("goal"), seed)
    episode_id = uuid.uuid4().hex
    start = EpisodeStart(episode_id, phase, observation, info["stamp_s"], seed, reset_s, operator)
    for subscriber in subscribers:
        subscriber.on_start(start)
    began_s = time.monotonic()
    steps = interventions = 0
    success, discarded = False, True
    try:
        while True:
            decision = control.act(observation)
            source = "human" if decision.is_intervention else "policy"
            following, reward, terminated, truncated, info = env.step(decision.action, source=source)
            verdict = control.human.verdict()
            if verdict is not None and not terminated:
                reward = float(verdict is Verdict.SUCCESS)
                terminated = verdict in (Verdict.SUCCESS, Verdict.FAILURE)
                truncated = not terminated
            transition = Transition(
                episode_id=episode_id,
                step=steps,
                observation=observation,
                proposed_action=decision.proposed_action.astype(np.float32),
                executed_action=np.asarray(info["executed_action"], np.float32),
                is_intervention=decision.is_intervention,
                reward=reward,
                next_observation=following,
                terminated=terminated,
                truncated=truncated,
                stamp_s=info["stamp_s"],
                policy_version=decision.policy_version,
            )
            for subscriber in subscribers:
                subscriber.on_step(transition)
            observation = following
            steps += 1
            interventions += decision.is_intervention
            if terminated or truncated:
                success, discarded = reward > 0, verdict is Verdict.DISCARD
                break
    finally:
        end = EpisodeEnd(episode_id, success, steps, time.monotonic() - began_s, interventions, discarded)
        with uninterrupted():  # else some count the episode and some do not
            for subscriber in subscribers:
                subscriber.on_end(end)
    return end
