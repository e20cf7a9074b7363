"""The learner's experience: an online buffer and a demonstration+intervention buffer, mixed half and half.

As in HIL-SERL (2410.21845, section III-B): demonstrations go to the demonstration buffer, everything
that happened while learning to the online buffer, and steps in which the person acted to both. So do, if
asked for, the episodes that the policy ended with success and without the person (self-imitation, 1806.05635).
Experience of a simulation has a buffer and a share of the batch of its own (H2O, 2206.13464).
"""

from __future__ import annotations

from dataclasses import replace

from data.replay import Keep, ReplayBuffer, keep_all, keep_demonstrations, keep_online, mix
from robot_rl.batch import Batch, Returns
from robot_rl.types import ActionSpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition
from robot_rl.wire import Event

SIM_SEEDS = 1 << 32
"""Above the seeds of the other buffers."""


class ExperienceMemory:
    """Routes the events of the episode loop to both buffers; implements `robot_rl.learner.Memory`."""

    def __init__(
        self,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        capacity: int,
        seed: int,
        returns: Returns,
        demo_fraction: float = 0.5,
        own_successes: bool = False,
        sim_fraction: float = 0.0,
    ) -> None:
        """`sim_fraction` of each batch is of the simulation, if there is any; the rest is shared as without it."""

        def buffer(seed: int, keep: Keep) -> ReplayBuffer:
            return ReplayBuffer(
                observation_spec,
                action_spec.dim,
                capacity,
                seed,
                has_gripper=action_spec.has_gripper,
                keep=keep,
                returns=returns,
            )

        self.online = buffer(2 * seed, keep_online)
        self.demos = buffer(2 * seed + 1, keep_demonstrations)
        self.simulated = buffer(SIM_SEEDS + seed, keep_all) if sim_fraction > 0.0 else None
        self.demo_fraction, self.sim_fraction = demo_fraction, sim_fraction
        self._demo_ids: set[str] = set()
        self._own_successes = own_successes
        self._alone: dict[str, list[Event]] = {}  # episodes under way without the person so far
        self._simulating: list[Event] = []

    @property
    def online_steps(self) -> int:
        return self.online.stored

    @property
    def demo_steps(self) -> int:
        return len(self.demos)

    def add(self, event: Event) -> None:
        if isinstance(event, EpisodeStart) and event.phase == "demo":
            self._demo_ids.add(event.episode_id)
        elif isinstance(event, EpisodeEnd) and event.episode_id in self._demo_ids:
            self._demo_ids.discard(event.episode_id)
            # a failed demonstration shows the wrong thing
            event = replace(event, discarded=event.discarded or not event.success)
        self.online.feed(event)
        self.demos.feed(event)
        if self._own_successes:
            self._follow_own(event)

    def add_demonstration(self, event: Event) -> None:
        """Whoever acted in it and whenever, it is a demonstration."""
        if isinstance(event, EpisodeStart):
            event = replace(event, phase="demo")
        elif isinstance(event, Transition):
            event = replace(event, is_intervention=True)
        self.demos.feed(event)

    def add_simulated(self, event: Event) -> None:
        """Of an episode that a simulation ran; failures show how things move, and nothing to imitate."""
        assert self.simulated is not None, "made without a share of the simulation"
        self._simulating.append(event)
        if isinstance(event, EpisodeEnd):
            for one in self._simulating:
                if isinstance(one, Transition) and not event.success:
                    one = replace(one, is_intervention=False)
                self.simulated.feed(one)
            self._simulating.clear()

    def _follow_own(self, event: Event) -> None:
        """Once an episode has ended in success without the person, add it to the demonstrations."""
        if isinstance(event, EpisodeStart):
            if event.phase == "learn":
                self._alone[event.episode_id] = [event]
        elif isinstance(event, Transition):
            if event.is_intervention:
                self._alone.pop(event.episode_id, None)
            elif event.episode_id in self._alone:
                self._alone[event.episode_id].append(event)
        elif (events := self._alone.pop(event.episode_id, None)) and event.success and not event.discarded:
            for one in (*events, event):
                self.add_demonstration(replace(one, episode_id=f"{event.episode_id} (own)"))

    def sample(self, batch_size: int) -> Batch:
        return mix(self.online, self.demos, batch_size, self.demo_fraction, self.simulated, self.sim_fraction)
