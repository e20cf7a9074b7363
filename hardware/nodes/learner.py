"""The learner process: takes experience in, learns at the fixed ratio, gives parameters out.

Topics: see `hardware.nodes.transport`; `training/metrics` (String, JSON) once a second. Service
`learner/checkpoint` (Trigger). Everything it needs to go on after a kill lies below `run_dir/learner`:
the journal of what it has acknowledged, and checkpoints. The main thread serves the topics, so that
acknowledgements are prompt; a second one learns.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.context import Context
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.publisher import Publisher
from std_msgs.msg import String
from std_srvs.srv import Trigger
from torch.utils.tensorboard.writer import SummaryWriter

from hardware.nodes.lifecycle import ManagedNode, run
from hardware.nodes.transport import RosLearnerEndpoint
from robot_rl.apps.config import make_folder
from robot_rl.apps.wiring import build_learner, node_experiment
from robot_rl.checkpoints import load_newest
from robot_rl.errors import DataError, SpecError
from robot_rl.learner import Learner
from robot_rl.wire import Event

IDLE_WAIT_S = 0.1
METRICS_EVERY_S = 1.0
PROGRESS_EVERY_S = 5.0


@dataclass(frozen=True)
class LearnerNodeConfig:
    """What is learned, and where it is kept."""

    task: str = "lift"
    """Name in conf/task."""
    seed: int = 0
    """Seed of the networks and of the replay."""
    run_dir: str = "runs/demo"
    """Directory of this run; what is found there is continued."""
    overrides: tuple[str, ...] = ()
    """Further overrides of the configuration, such as learner.utd=4."""


class LearningLoop:
    """The thread that owns the learner: nothing else touches it after `start`."""

    def __init__(
        self,
        learner: Learner,
        endpoint: RosLearnerEndpoint,
        directory: Path,
        metrics: Publisher,
        log: RcutilsLogger,
    ) -> None:
        self.learner = learner
        self.rejected = 0
        self.error: BaseException | None = None
        self._endpoint = endpoint
        self._checkpoints = directory / "checkpoints"
        self._metrics = metrics
        self._log = log
        self._taken = 0
        self._stop = threading.Event()
        self._save_wanted = threading.Event()
        self._saved = threading.Event()
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self._directory = directory

    def restore(self) -> None:
        """Rebuild the memory from the journal, then load the newest checkpoint that is whole."""
        began_s = told_s = time.monotonic()
        count = 0
        for count, event in enumerate(self._endpoint.restore(), 1):
            self._take(event)
            if time.monotonic() - told_s > PROGRESS_EVERY_S:
                told_s = time.monotonic()
                self._log.info(f"restoring the memory: {count} events so far")
        if loaded := load_newest(self._checkpoints, self.learner.load, self._log.warning):
            self._log.info(f"loaded {loaded}")
        # Points of updates that a kill undid would lie beside those that are made now.
        self._board = SummaryWriter(
            str(self._directory / "tensorboard"), purge_step=self.learner.updates, flush_secs=10
        )
        if count:
            self._log.info(
                f"resumed after {count} events in {time.monotonic() - began_s:.1f} s: "
                f"{self.learner.updates} updates done, {self.learner.due} due"
            )

    def start(self) -> None:
        self._publish()
        self._thread.start()

    def stop(self) -> None:
        """End the thread behind its update under way, and save."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._drain()
        if self.error is None:
            self._save()
        self._board.close()

    def save(self, timeout_s: float) -> bool:
        """Ask for a checkpoint now; False when it takes longer than `timeout_s`."""
        self._saved.clear()
        self._save_wanted.set()
        return self._saved.wait(timeout_s)

    def _run(self) -> None:
        try:
            self._learn()
        except BaseException as error:  # handed to the main thread, which ends the process
            self.error = error

    def _learn(self) -> None:
        config = self.learner.config
        saved_s = told_s = time.monotonic()
        told_updates = self.learner.updates
        while not self._stop.is_set():
            self._drain()
            if self.learner.due:
                self.learner.update()
                if self.learner.updates - self._published >= config.publish_every:
                    self._publish()
            else:
                self._rest()
            now_s = time.monotonic()
            if now_s - told_s >= METRICS_EVERY_S:
                self._tell((self.learner.updates - told_updates) / (now_s - told_s))
                told_s, told_updates = now_s, self.learner.updates
            if self._save_wanted.is_set() or now_s - saved_s >= config.checkpoint_every_s:
                self._save()
                saved_s = time.monotonic()

    def _drain(self) -> None:
        while not self._endpoint.incoming.empty():
            self._take(self._endpoint.incoming.get())
            self._taken += 1

    def _take(self, event: Event) -> None:
        try:
            self.learner.receive(event)
        except (SpecError, DataError) as error:
            self.rejected += 1
            self._log.error(
                f"experience refused, {self.rejected} so far (do actor and learner have the same "
                f"configuration?): {error}",
                throttle_duration_sec=5.0,
            )

    def _rest(self) -> None:
        """Nothing is due: say so if someone waits for it, and wait for experience."""
        if self._endpoint.flush_wanted.is_set():
            if self.learner.updates != self._published:
                self._publish()
            self._endpoint.settle(self._taken)
        try:
            event = self._endpoint.incoming.get(timeout=IDLE_WAIT_S)
        except queue.Empty:
            return
        self._take(event)
        self._taken += 1

    def _publish(self) -> None:
        self._published = self.learner.updates
        self._endpoint.publish(self.learner.updates, self.learner.algorithm.policy_state())

    def _tell(self, updates_per_s: float) -> None:
        figures = self.learner.scalars() | {
            "updates_per_s": updates_per_s,
            "updates_due": float(self.learner.due),
            "rejected_events": float(self.rejected),
            "malformed_messages": float(self._endpoint.malformed),
        }
        self._metrics.publish(String(data=json.dumps(figures)))
        for name, value in figures.items():
            self._board.add_scalar(name, value, self.learner.updates)

    def _save(self) -> None:
        self._save_wanted.clear()
        self._endpoint.sync()
        self.learner.save(self._checkpoints)
        self._saved.set()


class LearnerNode(ManagedNode[LearnerNodeConfig]):
    """Thin: topics and services here, learning in `LearningLoop`."""

    def __init__(
        self, name: str, config_class: type[LearnerNodeConfig], context: Context, config_text: str = ""
    ) -> None:
        super().__init__(name, config_class, context, config_text)
        self._loop: LearningLoop | None = None

    def configure(self) -> None:
        config = self.config
        directory = Path(config.run_dir) / "learner"
        make_folder(directory)
        self._endpoint = RosLearnerEndpoint(self, directory / "journal")
        metrics = self.create_publisher(String, "training/metrics", 10)
        learner = build_learner(node_experiment(config.task, config.seed, config.overrides))
        self._loop = LearningLoop(learner, self._endpoint, directory, metrics, self.get_logger())
        self._loop.restore()
        self.create_service(Trigger, "learner/checkpoint", self._on_checkpoint)

    def activate(self) -> None:
        assert self._loop is not None
        self._loop.start()
        self._endpoint.open()

    def cleanup(self) -> None:
        if self._loop is not None:
            self._loop.stop()
            self._endpoint.close()
            self._loop = None

    def work(self) -> float:
        if self._loop is not None and self._loop.error is not None:
            raise self._loop.error
        return super().work()

    def _on_checkpoint(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        assert self._loop is not None
        response.success = self._loop.save(timeout_s=10.0)
        response.message = "saved" if response.success else "not saved within 10 s"
        return response


def main(argv: Sequence[str] | None = None) -> int:
    return run("learner", LearnerNode, LearnerNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
