"""Episodes with identifiable values: every observation element and reward says which step it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robot_rl.protocols import Subscriber
from robot_rl.types import (
    ActionSpec,
    ArraySpec,
    EpisodeEnd,
    EpisodeStart,
    Observation,
    ObservationSpec,
    Transition,
)
from robot_rl.wire import Event

ACTION_SPEC = ActionSpec(("x", "y", "gripper"), 0.02, 0.1)
SPEC = ObservationSpec(
    {
        "state": ArraySpec((3,), names=("episode", "step", "value")),
        "image/front": ArraySpec((4, 5, 3), "uint8", 0, 255),
    }
)


def value(episode: int, step: int) -> int:
    return 1000 * episode + step


def observation(episode: int, step: int) -> Observation:
    image = np.full((4, 5, 3), step % 251, np.uint8)
    image[0, 0, 0] = episode % 251
    state = np.array([episode, step, value(episode, step)], np.float32)
    return {"state": state, "image/front": image}


def transition(
    episode: int,
    step: int,
    *,
    intervention: bool = False,
    terminated: bool = False,
    truncated: bool = False,
    gripper: float = 0.0,
    reward: float | None = None,
) -> Transition:
    """The step from observation `step` to `step + 1`; its action says `value` too."""
    action = np.array([episode / 100, step / 1000, gripper], np.float32)
    return Transition(
        episode_id=f"episode-{episode}",
        step=step,
        observation=observation(episode, step),
        proposed_action=-action,
        executed_action=action,
        is_intervention=intervention,
        reward=float(value(episode, step)) if reward is None else reward,
        next_observation=observation(episode, step + 1),
        terminated=terminated,
        truncated=truncated,
        stamp_s=100.0 * episode + 0.1 * (step + 1),
        policy_version=step // 4,
    )


def events(
    episode: int,
    steps: int,
    *,
    phase: str = "learn",
    interventions: Sequence[int] = (),
    success: bool = False,
    discarded: bool = False,
    gripper: Sequence[float] = (),
) -> Iterator[Event]:
    """A whole episode; truncated at its last step unless it is a `success`."""
    yield EpisodeStart(f"episode-{episode}", phase, observation(episode, 0), 100.0 * episode, episode)
    for step in range(steps):
        last = step == steps - 1
        yield transition(
            episode,
            step,
            intervention=step in interventions,
            terminated=last and success,
            truncated=last and not success,
            gripper=gripper[step] if gripper else 0.0,
        )
    yield EpisodeEnd(f"episode-{episode}", success, steps, 0.1 * steps, len(interventions), discarded)


def publish(subscriber: Subscriber, stream: Iterator[Event]) -> None:
    for event in stream:
        if isinstance(event, Transition):
            subscriber.on_step(event)
        elif isinstance(event, EpisodeStart):
            subscriber.on_start(event)
        else:
            subscriber.on_end(event)
