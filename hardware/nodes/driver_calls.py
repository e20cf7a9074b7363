"""The arm node's services that call into the driver: ~/recover and ~/stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action.client import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from hardware.arm_adapter import ArmAdapter
from hardware.native_binding import CallBinding
from hardware.nodes.native_messages import interface_type
from robot_rl.errors import ConfigError, HardwareError

CALL_TIMEOUT_S = 10.0
"""The slowest call known, releasing a UR's brakes, takes a few seconds."""
CLEAR_TIMEOUT_S = 3.0
"""How long after the calls the fault topics may take to say that all is well."""
POLL_S = 0.1


class DriverCalls:
    """Calls the binding's services and actions one after the other, without blocking the node."""

    def __init__(self, node: Node, adapter: ArmAdapter, resolve: Callable[[str], str]) -> None:
        self._node, self._adapter, self._resolve = node, adapter, resolve
        native = adapter.native
        self._recover = [self._client(call) for call in native.recover]
        self._stop = [self._client(call) for call in native.stop]
        # rclpy awaits coroutines, but its type hints know of plain functions alone.
        services: dict[str, Any] = {"~/recover": self._on_recover, "~/stop": self._on_stop}
        for name, callback in services.items():
            node.create_service(Trigger, name, callback)

    def _client(self, call: CallBinding) -> Callable[[], Any]:
        """A coroutine function that makes the call and raises `HardwareError` when it fails."""
        name = self._resolve(call.name)
        if not call.action_type:
            client = self._node.create_client(Trigger, name)
            return lambda: self._trigger(name, client)
        try:
            action = interface_type(call.action_type)
        except ConfigError as error:
            reason = str(error)
            return lambda: self._impossible(name, reason)
        action_client = ActionClient(self._node, action, name)
        return lambda: self._action(name, action_client, action)

    async def _impossible(self, name: str, reason: str) -> None:
        raise HardwareError(f"{name} cannot be called: {reason}")

    async def _trigger(self, name: str, client: Any) -> None:
        if not client.service_is_ready():
            raise HardwareError(f"service {name} is not there")
        response = await self._within(client.call_async(Trigger.Request()), name)
        if not response.success:
            raise HardwareError(f"{name}: {response.message or 'refused'}")

    async def _action(self, name: str, client: Any, action: Any) -> None:
        if not client.server_is_ready():
            raise HardwareError(f"action {name} is not there")
        handle = await self._within(client.send_goal_async(action.Goal()), name)
        if not handle.accepted:
            raise HardwareError(f"{name}: goal refused")
        await self._within(handle.get_result_async(), name)

    async def _within(self, future: Future, name: str) -> Any:
        """The future's result. Raises `HardwareError` after `CALL_TIMEOUT_S`."""
        for _ in range(round(CALL_TIMEOUT_S / POLL_S)):
            if future.done():
                return future.result()
            await self._sleep(POLL_S, future)
        if not future.done():
            raise HardwareError(f"{name} has not answered within {CALL_TIMEOUT_S:.0f} s")
        return future.result()

    async def _sleep(self, duration_s: float, sooner: Future | None = None) -> None:
        """Wait without blocking the executor, until `sooner` is done at the latest."""
        over: Future = Future()

        def finish(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        timer = self._node.create_timer(duration_s, finish)
        if sooner is not None:
            sooner.add_done_callback(finish)
        await over
        self._node.destroy_timer(timer)

    async def _run(self, calls: list[Callable[[], Any]]) -> list[str]:
        """Make every call; what went wrong. A UR that is not in a protective stop cannot leave one, for
        instance: the calls after it must be made all the same."""
        problems = []
        for call in calls:
            try:
                await call()
            except HardwareError as error:
                problems.append(str(error))
        return problems

    async def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problems = await self._run(self._recover)
        for _ in range(round(CLEAR_TIMEOUT_S / POLL_S)):
            self._adapter.recover()
            if not self._adapter.fault:
                break
            await self._sleep(POLL_S)
        response.success = not self._adapter.fault
        remains = [f"fault: {self._adapter.fault}"] if self._adapter.fault else []
        response.message = "; ".join(remains + problems)
        return response

    async def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._adapter.forget_target()
        problems = await self._run(self._stop)
        if not self._stop:
            problems = ["the robot's YAML has no stop calls: its commands have ended, its driver holds it"]
        response.success = bool(self._stop) and not problems
        response.message = "; ".join(problems)
        return response
