"""The actor process: gathers demonstrations, acts while the learner learns, evaluates.

Topics out: `training/phase` (String, JSON: phase, episode, state reset | run | idle; transient local) and
`training/episode` (String, JSON) after each episode. Services: ~/start_episode, ~/end_episode,
~/undo_episode, ~/pause, ~/resume, ~/set_intervention (SetBool: take over without a device, or give back).
After a kill it goes on where `run_dir/actor` says it was. An episode that a silent robot, guard or learner
breaks off counts as discarded, and another one is run when all are back. The main thread serves the topics,
a second one runs the episodes.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rclpy.context import Context
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from torch.utils.tensorboard.writer import SummaryWriter

from data.recorder import EpisodeRecorder
from hardware.nodes.episodes import EpisodeRunner, LearnerWatch, RunnerConfig
from hardware.nodes.human import PHASE, PHASE_QOS, PhaseMessage, TopicHuman
from hardware.nodes.lifecycle import ManagedNode, run
from hardware.nodes.transport import RosTransport, TransportConfig
from hardware.ros_world import RosWorld, RosWorldConfig
from robot_rl.actor import Actor, FlushingTransport, LearnedPolicy, ScheduleConfig
from robot_rl.apps.config import make_folder
from robot_rl.apps.wiring import build_policy, node_experiment
from robot_rl.env import EnvConfig, RobotEnv
from robot_rl.errors import HardwareError
from robot_rl.protocols import Subscriber
from robot_rl.records import EpisodeLog, EpisodeRecord, duty_cycle, learning_curves, without_nan
from robot_rl.typed import to_dataclass, to_plain
from robot_rl.types import Verdict

DRAIN_S = 2.0
"""How long the end waits for the learner to acknowledge the last messages."""
PROGRESS_S = 10.0
"""Between two lines that say how far the run is."""


@dataclass(frozen=True)
class ActorNodeConfig:
    """What the actor does, and where it keeps it."""

    task: str = "lift"
    """Name in conf/task."""
    seed: int = 0
    """Seed of the start states and of exploration."""
    run_dir: str = "runs/demo"
    """Directory of this run; what is found there is continued."""
    overrides: tuple[str, ...] = ()
    """Further overrides of the configuration, such as schedule.demos=5."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `RosWorldConfig`: how an episode starts, who arms the guard, deadlines."""
    transport: TransportConfig = field(default_factory=TransportConfig)
    """The line to the learner."""
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    """Patience, and whether to begin paused."""


C = TypeVar("C", bound=ActorNodeConfig)


@dataclass(frozen=True)
class Parts:
    """What an actor process is put together from."""

    experiment: Any
    env_config: EnvConfig
    policy: LearnedPolicy
    schedule: ScheduleConfig
    transport: FlushingTransport
    learner: LearnerWatch | None
    subscribers: tuple[Subscriber, ...] = ()


class ActorNode(ManagedNode[C]):
    """Thin: topics and services here, episodes in `EpisodeRunner`. A subclass may `prepare` other parts."""

    def __init__(self, name: str, config_class: type[C], context: Context, config_text: str = "") -> None:
        super().__init__(name, config_class, context, config_text)
        self._runner: EpisodeRunner | None = None
        self._told_s = -math.inf

    def configure(self) -> None:
        config = self.config
        self._directory = Path(config.run_dir) / "actor"
        make_folder(self._directory)
        self._parts = parts = self.prepare()
        env_config = parts.env_config
        world_config = to_dataclass(
            RosWorldConfig,
            {
                "node_name": f"{self.get_name()}_world",
                "namespace": self.get_namespace(),
                "cameras": list(env_config.cameras),
                "image_hw": list(env_config.image_hw),
                **config.world,
            },
            "world",
        )
        self._world = RosWorld(world_config, lambda: self._started().scene_is_ready())
        env = RobotEnv(self._world, env_config)
        self._human = human = TopicHuman(self, env.action_spec.names)
        self._phases = self.create_publisher(String, PHASE, PHASE_QOS)
        self._episodes = self.create_publisher(String, "training/episode", 100)
        self._recorder = EpisodeRecorder(
            Path(config.run_dir) / "episodes",
            env.observation_spec,
            env.action_spec,
            configuration=to_plain(parts.experiment),
        )
        self._board = SummaryWriter(str(self._directory / "tensorboard"), flush_secs=10)
        log = EpisodeLog(self._directory / "episodes.jsonl", self._on_record)
        actor = Actor(
            env, parts.policy, human, parts.transport, parts.schedule, log, [self._recorder, *parts.subscribers]
        )
        self._rate_hz = env_config.rate_hz
        self._runner = EpisodeRunner(
            actor,
            human,
            parts.learner,
            self._world.guard_status,
            self._announce,
            self.get_logger(),
            config.runner,
        )
        if log.records:
            self.get_logger().info(f"resumed after {len(log.records)} episodes, {log.env_steps} steps of learning")
        self._create_services(self._runner)

    def prepare(self) -> Parts:
        """Policy and schedule of the experiment, and the line to its learner."""
        config = self.config
        experiment = node_experiment(config.task, config.seed, config.overrides)
        learner = LearnerWatch()
        self.create_subscription(String, "training/metrics", learner.hear, 10)
        self._line = transport = RosTransport(self, config.transport, self.get_name())
        policy = build_policy(experiment)
        return Parts(experiment, experiment.task.env, policy, experiment.schedule, transport, learner)

    def drained(self) -> bool:
        """Whether everything that was to be sent has been."""
        return not self._line.outbox.pending

    def result(self) -> dict[str, Any]:
        """What a summary needs and the episodes do not say."""
        return {"learner": dict(self._parts.learner.metrics) if self._parts.learner else {}}

    def activate(self) -> None:
        self._started().thread.start()

    def cleanup(self) -> None:
        """End the episode, send what is left, let go of the arm. Callbacks go on being served meanwhile."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.stop()
        closing = threading.Thread(target=self._close, args=(runner,), daemon=True)
        closing.start()
        while closing.is_alive():
            assert self.executor is not None
            self.executor.spin_once(timeout_sec=0.05)

    def work(self) -> float:
        runner = self._runner
        if runner is not None and runner.error is not None:
            raise runner.error
        if runner is not None and runner.finished:
            self._write_result(runner.actor.log.records)
            self.get_logger().info("finished")
            signal.raise_signal(signal.SIGTERM)  # the one way out of `lifecycle.run` with status 0
        return super().work()

    def _close(self, runner: EpisodeRunner) -> None:
        runner.join()
        deadline_s = time.monotonic() + DRAIN_S
        while not self.drained() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        try:
            self._world.release()
        except HardwareError as error:
            self.get_logger().warning(f"could not release the arm: {error}")
        self._world.close()
        self._recorder.close()
        self._board.close()

    def _started(self) -> EpisodeRunner:
        assert self._runner is not None
        return self._runner

    def _create_services(self, runner: EpisodeRunner) -> None:
        def answer(act: Callable[[], bool | None], refusal: str = "") -> Callable[..., Trigger.Response]:
            def serve(_request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
                response.success = act() is not False
                response.message = "" if response.success else refusal
                return response

            return serve

        none = "no episode is under way"
        self.create_service(Trigger, "~/pause", answer(runner.pause))
        self.create_service(Trigger, "~/resume", answer(runner.resume))
        self.create_service(Trigger, "~/start_episode", answer(runner.permit, "no episode waits for a start"))
        self.create_service(Trigger, "~/end_episode", answer(lambda: runner.judge(Verdict.FAILURE), none))
        self.create_service(SetBool, "~/set_intervention", self._set_intervention)
        self.create_service(Trigger, "~/undo_episode", answer(lambda: runner.judge(Verdict.DISCARD), none))

    def _set_intervention(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._human.hold(request.data)
        response.success, response.message = True, "the arm keeps still" if request.data else "given back"
        return response

    def _announce(self, message: PhaseMessage) -> None:
        self._phases.publish(String(data=message.to_json()))

    def _on_record(self, record: EpisodeRecord) -> None:
        runner = self._started()
        if record.phase == "learn" and (learned := runner.actor.log.of("learn")):
            for name, value in learning_curves(learned).items():
                self._board.add_scalar(name, value, record.env_steps)
        if time.monotonic() - self._told_s > PROGRESS_S:
            self._told_s = time.monotonic()
            self.get_logger().info(runner.actor.progress())
        learner = self._parts.learner
        metrics = learner.metrics if learner else {}
        duty = duty_cycle(runner.actor.log.records, self._rate_hz)
        content = asdict(record) | {
            "episode": len(runner.actor.log.records),
            "updates": int(metrics.get("updates", 0)),
            "utd": metrics.get("realized_utd", 0.0),
            "duty_cycle": duty,
        }
        self._episodes.publish(String(data=json.dumps(without_nan(content))))

    def _write_result(self, records: Sequence[EpisodeRecord]) -> None:
        content = without_nan({**self.result(), "duty_cycle": duty_cycle(records, self._rate_hz)})
        partial = self._directory / f".result.{os.getpid()}"
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(self._directory / "result.json")


def main(argv: Sequence[str] | None = None) -> int:
    return run("actor", ActorNode, ActorNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
