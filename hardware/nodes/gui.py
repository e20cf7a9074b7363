"""The browser page for the person beside the robot: see, take over, judge, arm and disarm.

Serves http://127.0.0.1:8080/ (--host, --port). An address that other machines can reach needs --token
(or ROBOT_RL_GUI_TOKEN) as well; an SSH tunnel to the loopback address is the better way.
Publishes human/joy and human/verdict, and calls the services that the buttons stand for. It commands
nothing: the guard judges whatever a person asks for, and goes on when this process is dead.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from hardware import ros_messages
from hardware.gui.app import Gui
from hardware.gui.config import GuiConfig
from hardware.gui.panel import Label, ServiceCall
from hardware.nodes.human import PHASE, PHASE_QOS, PhaseMessage
from hardware.nodes.lifecycle import ManagedNode, read_robot, run
from robot_rl.apps.wiring import node_experiment

TOKEN_VARIABLE = "ROBOT_RL_GUI_TOKEN"
STATUS_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NEWEST_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
TARGET_TIMEOUT_S = 0.5


class GuiNode(ManagedNode[GuiConfig]):
    """Thin: messages in and out of `hardware.gui.app.Gui`. Listens to fast topics while a page is open."""

    def __init__(
        self,
        name: str,
        config_class: type[GuiConfig],
        context: Context,
        config_text: str = "",
        *,
        token: str | None = None,
        **overrides: str | int,
    ) -> None:
        super().__init__(name, config_class, context, config_text)
        self.config: GuiConfig = dataclasses.replace(self.config, **overrides)  # type: ignore[arg-type]
        self._token = token

    @staticmethod
    def _for_task(config: GuiConfig) -> GuiConfig:
        """The hand must speak in the very actions that the actor's environment expects."""
        if not config.task:
            return config
        env = node_experiment(config.task, 0, config.overrides).task.env
        teleop = dataclasses.replace(
            config.teleop, action=env.action, translation_m=env.translation_m, rotation_rad=env.rotation_rad
        )
        return dataclasses.replace(config, teleop=teleop)

    def configure(self) -> None:
        config = self._for_task(self.config.for_robot(read_robot(self.config.robot)))
        self.gui = Gui(config, self._token)
        names = (config.arm_service, config.disarm_service, config.recover_service, config.reset_service)
        names += (config.start_episode_service, config.end_episode_service)
        self._callers = {name: self.create_client(Trigger, name) for name in names if name}
        self._pending: dict[Future, tuple[ServiceCall, float]] = {}
        self._fast: list[Subscription] = []
        self._image_due = dict.fromkeys(config.cameras, 0.0)
        self._draw_due = 0.0
        self._target_seen = self._gripper_target_seen = 0.0
        self._engaged = False
        self._now_under_way: PhaseMessage | None = None
        self._joy = self.create_publisher(Joy, "human/joy", 1)
        self._verdicts = self.create_publisher(String, "human/verdict", 10)
        self.create_subscription(DiagnosticArray, "guard/status", self._on_guard, STATUS_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(String, "training/episode", self._on_episode, 100)
        self.create_subscription(String, "training/metrics", self._on_metrics, 10)
        self.create_subscription(String, PHASE, self._on_phase, PHASE_QOS)
        self.create_timer(1.0 / config.joy_rate_hz, self._tick)
        self.get_logger().info(f"open {self.gui.url}")

    def deactivate(self) -> None:
        self._release()

    def cleanup(self) -> None:
        if hasattr(self, "gui"):
            self._release()
            self.gui.close()

    # -- from the robot -------------------------------------------------------------------------
    def _listen(self) -> None:
        """Subscribe to fast topics when the first page opens, and stop after the last one."""
        if self.gui.clients and not self._fast:
            newest = NEWEST_QOS
            self._fast = [
                self.create_subscription(JointState, "joint_states", self._on_joints, newest),
                self.create_subscription(PoseStamped, "current_pose", self._on_pose, newest),
                self.create_subscription(JointState, "gripper/state", self._on_gripper, newest),
                self.create_subscription(JointState, "gripper/target", self._on_gripper_target, newest),
                self.create_subscription(PoseStamped, "target_pose", self._on_target, newest),
                self.create_subscription(JointState, "task/state", self._on_task, newest),
            ]
            kind = CompressedImage if self.config.compressed else Image
            for camera in self.config.cameras:
                topic = f"{camera}/color/image_raw" + ("/compressed" if self.config.compressed else "")
                callback = partial(self._on_image, camera)
                self._fast.append(self.create_subscription(kind, topic, callback, newest))
        elif not self.gui.clients and self._fast:
            for subscription in self._fast:
                self.destroy_subscription(subscription)
            self._fast = []

    def _on_joints(self, message: JointState) -> None:
        self.gui.set_joints(ros_messages.read_joints(message))

    def _on_pose(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if ros_messages.is_sound_pose(pose):
            self.gui.set_tcp(pose)

    def _on_gripper(self, message: JointState) -> None:
        if (position := ros_messages.read_gripper(message)) is not None:
            self.gui.set_gripper(position)
            if time.monotonic() - self._gripper_target_seen > TARGET_TIMEOUT_S:
                self.gui.set_gripper_target(float(position > 0.5))

    def _on_gripper_target(self, message: JointState) -> None:
        if (position := ros_messages.read_gripper(message)) is not None:
            self._gripper_target_seen = time.monotonic()
            self.gui.set_gripper_target(position)

    def _on_target(self, message: PoseStamped) -> None:
        pose = ros_messages.read_pose(message)
        if ros_messages.is_sound_pose(pose):
            self._target_seen = time.monotonic()
            self.gui.set_target(pose)

    def _on_task(self, message: JointState) -> None:
        if (task := ros_messages.read_task(message)) is not None:
            self.gui.set_objects(task.poses)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        now = time.monotonic()
        if now < self._image_due[camera]:
            return
        self._image_due[camera] = now + 1.0 / self.config.image_rate_hz
        read = ros_messages.read_image if isinstance(message, Image) else ros_messages.read_compressed
        if (image := read(message)) is not None:  # type: ignore[arg-type]
            self.gui.set_image(camera, image)

    def _on_guard(self, message: DiagnosticArray) -> None:
        self.gui.set_guard(ros_messages.read_diagnostics(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.gui.set_diagnostics(status.name, {pair.key: pair.value for pair in status.values})

    def _on_episode(self, message: String) -> None:
        self.gui.metrics.add_episode(message.data)

    def _on_metrics(self, message: String) -> None:
        self.gui.metrics.add_scalars(message.data)

    def _on_phase(self, message: String) -> None:
        self._now_under_way = PhaseMessage.from_json(message.data)

    # -- from the person ------------------------------------------------------------------------
    def _tick(self) -> None:
        if not self.active:
            return
        self._listen()
        human = self.gui.human()
        if human.engaged or self._engaged:
            self._say(human.engaged, [float(value) for value in human.action])
        for request in self.gui.requests():
            if isinstance(request, Label):
                self._judge(request)
            else:
                self._call(request)
        self._give_up_late_calls()
        now = time.monotonic()
        if self.gui.clients and now >= self._draw_due:
            self._draw_due = now + 1.0 / self.config.scene_rate_hz
            if now - self._target_seen > TARGET_TIMEOUT_S:
                self.gui.set_target(None)
            self.gui.set_heard(self._joy.get_subscription_count() > 0)
            self.gui.draw()

    def _say(self, engaged: bool, axes: list[float]) -> None:
        header = ros_messages.header(self.now_s(), "tcp")
        self._joy.publish(Joy(header=header, axes=axes, buttons=[int(engaged)]))
        self._engaged = engaged

    def _release(self) -> None:
        """One last message, so that the actor need not wait for the stamp to grow old."""
        if self._engaged:
            self._say(False, [0.0] * self.config.teleop.spec.dim)

    def _judge(self, label: Label) -> None:
        name, episode = label.verdict.value, self._now_under_way
        if episode is None or episode.state != "run" or not self.publishers_of(PHASE):
            self.gui.show_message(f"{name}: no episode is under way", is_error=True)
            return
        self._verdicts.publish(String(data=name))
        self.gui.show_message(f"{name} noted", is_error=False)

    def _call(self, call: ServiceCall) -> None:
        client, config = self._callers[call.service], self.config
        if call.service == config.reset_service and self.gui.is_armed and not config.reset_while_armed:
            text = "the arm is armed; disarm it first, or discard the episode, which begins anew by itself"
            self.gui.show_message(f"{call.label}: {text}", is_error=True)
            return
        if not client.service_is_ready():  # never queued: an old click must not act when the service comes up
            self.gui.show_message(f"{call.label}: there is no service {call.service} now", is_error=True)
            return
        future = client.call_async(Trigger.Request())
        self._pending[future] = (call, time.monotonic() + self.config.service_timeout_s)
        self.gui.show_message(f"{call.label} ...", is_error=False)
        future.add_done_callback(self._on_answer)

    def _on_answer(self, future: Future) -> None:
        if (pending := self._pending.pop(future, None)) is None:
            return
        answer = future.result()
        assert answer is not None
        text = answer.message or ("done" if answer.success else "refused")
        self.gui.show_message(f"{pending[0].label}: {text}", is_error=not answer.success)

    def _give_up_late_calls(self) -> None:
        for future, (call, due) in list(self._pending.items()):
            if time.monotonic() > due:
                del self._pending[future]
                self._callers[call.service].remove_pending_request(future)
                self.gui.show_message(f"{call.label}: no answer from service {call.service}", is_error=True)


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--token", default=os.environ.get(TOKEN_VARIABLE))
    options, rest = parser.parse_known_args(given)
    overrides = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    return run("gui", partial(GuiNode, token=options.token, **overrides), GuiConfig, __doc__, rest)


if __name__ == "__main__":
    raise SystemExit(main())
