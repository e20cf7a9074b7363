"""Which buffer gets which step, told apart by identifiable values."""

from __future__ import annotations

from typing import Any

import pytest

from data.memory import ExperienceMemory
from data.replay import ReplayBuffer
from robot_rl.batch import Returns
from tests.data.episodes import ACTION_SPEC, SPEC, events


def feed(memory: ExperienceMemory, episode: int, steps: int, phase: str, **rest: Any) -> None:
    for event in events(episode, steps, phase=phase, **rest):
        memory.add(event)


def held(buffer: ReplayBuffer) -> dict[tuple[int, int], bool]:
    """(episode, step) of what can be sampled, and whether it is to be imitated."""
    if not len(buffer):
        return {}
    batch = buffer.sample(3000)
    state = batch.observation["state"]
    return {(int(row[0]), int(row[1])): bool(flag) for row, flag in zip(state, batch.is_demonstration, strict=True)}


@pytest.mark.parametrize("own_successes", [False, True])
def test_each_step_goes_where_it_belongs(own_successes: bool) -> None:
    memory = ExperienceMemory(SPEC, ACTION_SPEC, 500, 0, Returns(), own_successes=own_successes)
    person = tuple(range(4))
    feed(memory, 1, 4, "demo", success=True, interventions=person)
    feed(memory, 2, 4, "demo", success=False, interventions=person)  # shows the wrong thing
    feed(memory, 3, 5, "learn", success=True)  # alone, and it worked
    feed(memory, 4, 5, "learn", success=False)
    feed(memory, 5, 5, "learn", success=True, interventions=(2,))  # not alone
    feed(memory, 6, 5, "learn", success=True, discarded=True)
    feed(memory, 7, 5, "evaluate", success=True)
    online = {(episode, step): (episode, step) == (5, 2) for episode in (3, 4, 5) for step in range(5)}
    assert held(memory.online) == online and memory.online_steps == 20  # the discarded ones were stored, then withdrawn
    demonstrations = {(1, step) for step in range(4)} | {(5, 2)}
    if own_successes:
        demonstrations |= {(3, step) for step in range(5)}
    assert held(memory.demos) == dict.fromkeys(demonstrations, True)
    assert memory.demo_steps == len(demonstrations)
