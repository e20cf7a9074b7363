"""`RosWorld`: the robot behind the ROS 2 contract, simulated or real, as a `World` for `RobotEnv`.

Time is real: `advance` sleeps to an absolute deadline, and what was executed is heard from the guard. A
guard that disarms or dies in the middle of an episode raises, so that the episode ends as discarded and
nothing is learnt from commands that never reached the arm.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import Trigger

from hardware import limits
from hardware.mux import SOURCES
from hardware.pacing import Pacer
from hardware.ros_inbox import InboxConfig, RosArm, RosCamera, RosInbox
from hardware.ros_link import RosLink
from robot_rl.errors import ConfigError, DisarmedError, HardwareError, StaleError
from robot_rl.typed import check_positive
from robot_rl.types import ArmTarget, TaskState

SETTLE_S = 0.05
"""The guard must have heard the new state, too, before it is armed: two or three samples at 50 Hz."""
POLL_S = 0.2


@dataclass(frozen=True)
class RosWorldConfig(InboxConfig):
    """Topics and deadlines, and how an episode starts."""

    node_name: str = "world"
    """Name of this side's node."""
    namespace: str = ""
    """Namespace of the whole graph."""
    guard_node: str = "guard"
    """Name of the guard's node; its services lie below it."""
    sim_node: str = "sim_robot"
    """Name of the simulated robot's node, whose parameter `seed` is set before `reset_world`."""
    reset: Literal["service", "motion", "person"] = "service"
    """`service`: the simulated robot places everything anew; `motion`: the arm goes home by itself;
    `person`: somebody prepares the scene and calls `<node_name>/reset_done`."""
    home_pose_base_tcp: tuple[float, ...] | None = None
    """Where `motion` goes: x y z (m) qw qx qy qz in the base frame."""
    home_step_m: float = 0.03
    """`motion`: how far ahead of the measured TCP the target runs."""
    home_step_rad: float = 0.2
    """The same for the orientation."""
    home_tolerance_m: float = 0.01
    """`motion`: close enough."""
    home_tolerance_rad: float = 0.05
    """The same for the orientation."""
    home_rate_hz: float = 10.0
    """`motion`: commands per second; the guard's control period must not be shorter."""
    arm_guard: bool = True
    """Arm the guard when the scene is ready; else wait until a person has done so."""
    reset_timeout_s: float = 60.0
    """Give up on a reset after this time; make it longer where a person prepares the scene."""
    arm_timeout_s: float = 30.0
    """Give up on arming after this time: publishers of a killed process linger for 20 s in DDS."""
    service_timeout_s: float = 30.0
    """Longest wait for any service: nodes that are just starting take that long on a small machine."""
    guard_timeout_s: float = 0.5
    """An armed guard that publishes no target for so long is dead."""

    def __post_init__(self) -> None:
        check_positive(self, *(one.name for one in fields(self) if one.type == "float"))
        if self.reset == "motion" and (
            self.home_pose_base_tcp is None or limits.pose_fault(np.array(self.home_pose_base_tcp), 1e-3)
        ):
            raise ConfigError(
                f"reset: motion needs home_pose_base_tcp, 7 numbers with a unit quaternion; "
                f"got {self.home_pose_base_tcp}"
            )


class RosWorld:
    """Implements `robot_rl.protocols.World` over topics."""

    def __init__(self, config: RosWorldConfig, on_ready: Callable[[], None] = lambda: None) -> None:
        """`on_ready` is called when the scene is ready, before the clock of the episode starts."""
        self.config = config
        self._on_ready = on_ready
        self._link = RosLink(config.node_name, config.namespace)
        self._inbox = RosInbox(config, self._link)
        self.arm = RosArm(self._inbox)
        self.cameras: Mapping[str, RosCamera] = {name: RosCamera(self._inbox, name) for name in config.cameras}
        node = self._link.node
        self._guard = {call: node.create_client(Trigger, f"{config.guard_node}/{call}") for call in ("arm", "release")}
        self._reset_world = node.create_client(Trigger, "reset_world")
        self._set_parameters = node.create_client(SetParameters, f"{config.sim_node}/set_parameters")
        node.create_service(Trigger, "~/reset_done", self._on_reset_done)
        self._person_is_done = False
        self._resets = {
            "service": self._reset_by_service,
            "motion": self._reset_by_motion,
            "person": self._reset_by_person,
        }
        self._heeded: str | None = None  # the guard's count of disarm requests that has been acted on
        self._pacer = Pacer()
        self._accounted_s = time.monotonic()
        self._gripper_at_reset = 1.0
        self.last_seed: int | None = None
        """Seed that the simulated robot used in the last reset."""
        self.reset_s = 0.0
        """Total time spent in `reset`."""
        self.control_s = 0.0
        """Total time from the end of each reset to the last `advance` of its episode."""
        self._link.start()

    @property
    def late_ticks(self) -> int:
        """Ticks that came more than a period late."""
        return self._pacer.late_ticks

    @property
    def lost_s(self) -> float:
        """Time given up by late ticks."""
        return self._pacer.lost_s

    @property
    def rejected(self) -> Mapping[str, int]:
        """Messages that could not be used, by topic."""
        return dict(self._inbox.rejected)

    def task_state(self) -> TaskState:
        return self._inbox.task_state()

    def reset(self, seed: int | None) -> None:
        """Start state as `config.reset` says; the guard is armed when it returns.

        Raises `StaleError` when somebody does not answer, `HardwareError` when the guard refuses and
        `DisarmedError` when a person disarmed it.
        """
        began_s = time.monotonic()
        self._heed_person()
        self._resets[self.config.reset](seed)
        self._gripper_at_reset = float(round(self.arm.state().gripper_position))
        self._accounted_s = time.monotonic()
        self.reset_s += self._accounted_s - began_s
        self._on_ready()
        self._pacer.anchor()

    def advance(self, duration_s: float) -> ArmTarget | None:
        """Sleep to the next tick; the target the guard published last, or None when it never spoke."""
        self._pacer.schedule(duration_s, duration_s)
        time.sleep(max(0.0, self._pacer.remaining_s()))
        now_s = time.monotonic()
        self.control_s += now_s - self._accounted_s
        self._accounted_s = now_s
        self._check_guard()
        return self._inbox.executed(self._gripper_at_reset)

    def release(self) -> None:
        """Let the guard stop following, until the next reset."""
        self._trigger(self._guard["release"], self.config.service_timeout_s)

    def guard_status(self) -> Mapping[str, str]:
        """What the guard said last; empty before it spoke."""
        return self._inbox.guard_status

    def close(self) -> None:
        """Let go of the arm; the guard goes on holding it."""
        for source in SOURCES:
            self._inbox.withdraw(source)
        self._link.close()

    def _check_guard(self) -> None:
        self._link.check()
        self._heed_person()
        status = self._inbox.guard_status
        if status.get("armed") == "false":
            raise HardwareError(f"the guard is not armed ({status.get('mode')}): {status.get('reason')}")
        silent_s = time.monotonic() - self._inbox.heard_target_s
        if status and silent_s > self.config.guard_timeout_s:
            raise StaleError(f"the guard has published no target for {silent_s:.1f} s; is it running?")

    def _reset_by_service(self, seed: int | None) -> None:
        self.release()
        if seed is not None:
            value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=int(seed))
            request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
            response = self._link.call(self._set_parameters, request, self.config.service_timeout_s)
            for result in response.results:
                if not result.successful:
                    raise HardwareError(f"{self.config.sim_node} refused seed {seed}: {result.reason}")
        self.last_seed = _seed_of(self._trigger(self._reset_world, self.config.reset_timeout_s))
        self._await_state(self._link.now_s() + SETTLE_S)
        self._arm()

    def _reset_by_motion(self, seed: int | None) -> None:
        """Follow a target that stays a step ahead of the arm, at the pace of commands."""
        config = self.config
        home = limits.unit_pose(np.array(config.home_pose_base_tcp))
        self._arm()
        deadline_s = time.monotonic() + config.reset_timeout_s
        pacer, period_s = Pacer(), 1.0 / config.home_rate_hz
        while True:
            state = self.arm.state()
            left_m, left_rad = limits.distance(state.pose_base_tcp, home)
            if left_m <= config.home_tolerance_m and left_rad <= config.home_tolerance_rad:
                break
            if time.monotonic() > deadline_s:
                raise StaleError(
                    f"the arm did not reach its home pose within {config.reset_timeout_s} s: "
                    f"{left_m:.3f} m and {left_rad:.2f} rad are left"
                )
            pose = limits.clip_step(home, state.pose_base_tcp, config.home_step_m, config.home_step_rad)
            self.arm.command(ArmTarget(state.stamp_s, pose, 1.0, "reset"))
            pacer.schedule(period_s, period_s)
            time.sleep(max(0.0, pacer.remaining_s()))
            self._check_guard()
        self._inbox.withdraw("reset")

    def _reset_by_person(self, seed: int | None) -> None:
        self.release()
        self._person_is_done = False
        if not self._link.wait_for(lambda: self._person_is_done, self.config.reset_timeout_s):
            service = f"{self.config.node_name}/reset_done"
            raise StaleError(f"nobody called {service} within {self.config.reset_timeout_s} s")
        self._await_state(self._link.now_s() + SETTLE_S)
        self._arm()

    def _on_reset_done(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._link.changed:
            self._person_is_done = True
            self._link.changed.notify_all()
        response.success = True
        return response

    def _await_state(self, after_s: float) -> None:
        """Block until the arm (and the task, if any) was measured after `after_s`."""
        timeout_s = self.config.service_timeout_s
        if not self._link.wait_for(lambda: self._inbox.newest_stamp_s() > after_s, timeout_s):
            raise StaleError(f"no new arm and task state within {timeout_s} s after the reset")

    def _arm(self) -> None:
        """Arm the guard, or wait for the person who does; then for its first target.

        Never against a person: whoever disarms while the scene is being prepared finds the guard disarmed. Its
        statuses come in order, so that a word said before the arming is heard before the arming's effect.
        """
        deadline_s = time.monotonic() + self.config.arm_timeout_s
        self._inbox.forget_guard()
        refusal = ""
        while True:
            self._heed_person()
            if self.config.arm_guard:
                try:
                    self._trigger(self._guard["arm"], self.config.service_timeout_s)
                except HardwareError as error:
                    # A driver or a publisher that is about to appear or to vanish: worth another try.
                    refusal = str(error)
            if self._link.wait_for(self._inbox.guard_acts, POLL_S):
                self._heed_person()
                topic = self._inbox.targets.topic_name
                publishers = self._link.node.count_publishers(topic)
                if publishers == 1:
                    return
                # The robot obeys nobody then, and steps that it never made would be learned from. A guard that was
                # started anew knows nothing of the one that was killed a moment ago.
                refusal = f"{topic} has {publishers} publishers, must be 1 (the guard)"
                time.sleep(POLL_S)
            if time.monotonic() > deadline_s:
                reason = refusal or self._inbox.guard_status.get("reason", "it says nothing")
                raise HardwareError(f"the guard is not armed after {self.config.arm_timeout_s} s: {reason}")

    def _heed_person(self) -> None:
        """Raise `DisarmedError`, once, when somebody has asked the guard to disarm; it is disarmed then."""
        requests = self._inbox.guard_status.get("disarm_requests", self._heeded)
        news, self._heeded = self._heeded not in (None, requests), requests
        if news:
            self.release()
            raise DisarmedError("the guard was disarmed by hand")

    def _trigger(self, client: Any, timeout_s: float) -> str:
        response = self._link.call(client, Trigger.Request(), timeout_s)
        if not response.success:
            raise HardwareError(f"{client.service_name} refused: {response.message}")
        return response.message


def _seed_of(message: str) -> int | None:
    """`{"seed": 3}` -> 3; None when the robot does not say."""
    try:
        content = json.loads(message or "{}")
    except json.JSONDecodeError:
        return None
    seed = content.get("seed") if isinstance(content, dict) else None
    return seed if isinstance(seed, int) else None
