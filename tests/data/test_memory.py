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


def test_what_a_simulation_ran_is_apart_and_its_failures_are_nothing_to_imitate() -> None:
    memory = ExperienceMemory(SPEC, ACTION_SPEC, 500, 0, Returns(), sim_fraction=0.5)
    person = tuple(range(4))
    for event in (*events(1, 4, phase="demo", success=True, interventions=person), *events(3, 3, success=True)):
        memory.add_simulated(event)
    for event in events(2, 4, phase="demo", success=False, interventions=person):
        memory.add_simulated(event)
    feed(memory, 5, 4, "learn", interventions=(2,))
    assert memory.simulated is not None
    marks = {(1, step): True for step in range(4)} | {(2, step): False for step in range(4)}
    assert held(memory.simulated) == marks | {(3, step): False for step in range(3)}
    assert held(memory.online) == {(5, step): step == 2 for step in range(4)} and memory.online_steps == 4
    assert held(memory.demos) == {(5, 2): True}
    batch = memory.sample(40)
    assert batch.simulated == 20 and (batch.observation["state"][20:, 0] != 5).all()
    assert ExperienceMemory(SPEC, ACTION_SPEC, 500, 0, Returns()).simulated is None


def test_given_episodes_are_demonstrations_whoever_acted() -> None:
    memory = ExperienceMemory(SPEC, ACTION_SPEC, 500, 0, Returns())
    for event in (*events(1, 3, phase="learn", success=True), *events(2, 3, phase="evaluate", success=True)):
        memory.add_demonstration(event)
    assert held(memory.demos) == {(episode, step): True for episode in (1, 2) for step in range(3)}
    assert memory.online_steps == 0 and memory.demo_steps == 6
