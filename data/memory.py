"""The learner's experience: an online buffer and a demonstration+intervention buffer, mixed half and half.

As in HIL-SERL (2410.21845, section III-B): demonstrations go to the demonstration buffer, everything
that happened while learning to the online buffer, and steps in which the person acted to both. So do, if
asked for, the episodes that the policy ended with success and without the person (self-imitation, 1806.05635).
"""

from __future__ import annotations

from dataclasses import replace

from data.replay import Keep, ReplayBuffer, keep_demonstrations, keep_online, mix
from robot_rl.batch import Batch, Returns
from robot_rl.types import ActionSpec, EpisodeEnd, EpisodeStart, ObservationSpec, Transition


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
    ) -> None:
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
        self.demo_fraction = demo_fraction
        self._demo_ids: set[str] = set()
        self._own_successes = own_successes
        self._alone: dict[str, list[EpisodeStart | Transition]] = {}  # episodes under way without the person so far

    @property
    def online_steps(self) -> int:
        return self.online.stored

    @property
    def demo_steps(self) -> int:
        return len(self.demos)

    def add(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
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

    def _follow_own(self, event: EpisodeStart | Transition | EpisodeEnd) -> None:
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
            name = f"{event.episode_id} (own)"
            for one in events:
                if isinstance(one, EpisodeStart):
                    self.demos.feed(replace(one, episode_id=name, phase="demo"))
                else:
                    self.demos.feed(replace(one, episode_id=name, is_intervention=True))
            self.demos.feed(replace(event, episode_id=name))

    def sample(self, batch_size: int) -> Batch:
        return mix(self.online, self.demos, batch_size, self.demo_fraction)
