"""The scripted person, beside the robot: sees its topics, speaks through `human/joy` and `human/verdict`.

It demonstrates in phase `demo`, watches and takes over in `learn`, keeps its hands off in `evaluate`
(`training/phase` says which). The rules are those of `robot_rl.person`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String

from hardware import ros_messages
from hardware.nodes.human import PHASE, PHASE_QOS, SCRIPTED, PhaseMessage
from hardware.nodes.lifecycle import ManagedNode, run
from robot_rl.apps.wiring import node_experiment
from robot_rl.person import ScriptedPerson
from robot_rl.typed import check_positive
from robot_rl.types import ArmState, FloatArray, HumanInput, Snapshot, TaskState
from sim.experts import make_expert

STALE_S = 0.3
"""Age of what the person sees beyond which they let go."""


@dataclass(frozen=True)
class PersonNodeConfig:
    """Who the person is."""

    task: str = "lift"
    """Task they know how to do (`sim.experts`)."""
    seed: int = 0
    """Seed of the hand's shake."""
    rate_hz: float = 10.0
    """Rate of the hand; the control rate."""
    overrides: tuple[str, ...] = ()
    """Overrides of the configuration, the same as the actor's: person.reaction_s=0.3, task.env.rate_hz=20."""

    def __post_init__(self) -> None:
        check_positive(self, "rate_hz")


class PersonNode(ManagedNode[PersonNodeConfig]):
    """Thin: topics in and out of `ScriptedPerson`."""

    def __init__(
        self, name: str, config_class: type[PersonNodeConfig], context: Context, config_text: str = ""
    ) -> None:
        super().__init__(name, config_class, context, config_text)
        self._pose: tuple[float, FloatArray] | None = None
        self._task: TaskState | None = None
        self._gripper = 1.0
        self._now_under_way: PhaseMessage | None = None
        self._was_engaged = False

    def configure(self) -> None:
        config = self.config
        experiment = node_experiment(config.task, config.seed, config.overrides)
        self._spec = experiment.task.env.action_spec
        expert = make_expert(experiment.task.name)
        self._person = ScriptedPerson(expert, self._spec, experiment.person, experiment.seed)
        sensor = qos_profile_sensor_data
        self.create_subscription(PoseStamped, "current_pose", self._on_pose, sensor)
        self.create_subscription(JointState, "gripper/state", self._on_gripper, sensor)
        self.create_subscription(JointState, "task/state", self._on_task, sensor)
        self.create_subscription(String, PHASE, self._on_phase, PHASE_QOS)
        self._joy = self.create_publisher(Joy, "human/joy", 10)
        self._verdict = self.create_publisher(String, "human/verdict", 10)
        self.create_timer(1.0 / config.rate_hz, self._look)

    def deactivate(self) -> None:
        self._let_go()

    def _on_pose(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if ros_messages.is_sound_pose(pose):
            self._pose = ros_messages.seconds_of(message.header.stamp), pose

    def _on_gripper(self, message: JointState) -> None:
        position = ros_messages.read_gripper(message)
        if position is not None:
            self._gripper = position

    def _on_task(self, message: JointState) -> None:
        task = ros_messages.read_task(message)
        if task is not None:
            self._task = task

    def _on_phase(self, message: String) -> None:
        told = PhaseMessage.from_json(message.data)
        if told is None:
            self.get_logger().warning(f"ignored on {PHASE}: {message.data!r}", throttle_duration_sec=5.0)
            return
        self._let_go()
        self._person.reset()
        self._person.demonstrating = told.phase == "demo"
        self._now_under_way = told if told.state == "run" else None

    def _look(self) -> None:
        """One tick: look at the world, and move the hand or keep it off."""
        episode, snapshot = self._now_under_way, self._snapshot()
        if not self.active or episode is None or episode.phase == "evaluate" or snapshot is None:
            self._let_go()
            return
        said = self._person.react(snapshot)
        if said.engaged:
            self._say(said)
        else:
            self._let_go()
        if (verdict := self._person.verdict()) is not None:
            self._verdict.publish(String(data=verdict.value))
            self._now_under_way = None

    def _snapshot(self) -> Snapshot | None:
        """What is seen now; None while the robot's topics are silent."""
        if self._pose is None or self._task is None:
            return None
        stamp_s, pose = self._pose
        if self.now_s() - min(stamp_s, self._task.stamp_s) > STALE_S:
            return None
        return Snapshot(ArmState(stamp_s, pose, np.zeros(6), np.zeros(0), self._gripper), self._task)

    def _let_go(self) -> None:
        if self._was_engaged:
            self._say(HumanInput(False, np.zeros(self._spec.dim)))

    def _say(self, said: HumanInput) -> None:
        axes = [float(value) for value in said.action]
        header = ros_messages.header(self.now_s(), SCRIPTED)
        self._joy.publish(Joy(header=header, axes=axes, buttons=[int(said.engaged)]))
        self._was_engaged = said.engaged


def main(argv: Sequence[str] | None = None) -> int:
    return run("person", PersonNode, PersonNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
