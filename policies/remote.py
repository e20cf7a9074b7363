"""Chunks from a policy that runs elsewhere (`robot-rl serve`), as if it ran here.

Shape letters: T observations, H horizon, A action, P prefix, K candidates.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from socket import SO_SNDTIMEO, SOL_SOCKET
from typing import Any, TypeVar
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from policies import remote_wire as wire
from policies.sources import ManySource
from robot_rl.errors import ConfigError, SpecError, StaleError, WireError
from robot_rl.network import read_token
from robot_rl.types import ActionSpec, FloatArray, Observation, ObservationSpec

CLOSE_S = 0.2
T = TypeVar("T", bound=wire.Reply)


class RemoteError(StaleError):
    """The policy's server cannot be reached, does not answer in time, or failed."""


FAILURES: dict[str, type[Exception]] = {
    "message": WireError,
    "spec": SpecError,
    "config": ConfigError,
    "policy": RemoteError,
}
"""What is raised here for what failed there."""


@dataclass(frozen=True)
class RemoteConfig:
    """Where the policy runs."""

    url: str
    """Its server's address: ws://HOST:PORT, or wss:// behind a proxy that does TLS."""
    token_file: Path | None = None
    """A file that holds the server's token, where it wants one."""
    timeout_s: float = 2.0
    """Longest time for an answer, connecting anew included."""

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("ws", "wss") or self.timeout_s <= 0.0:
            raise ConfigError(f"a remote policy needs ws://HOST:PORT and a timeout_s above 0; got {self}")


class RemoteSource(ManySource):
    """Connects at once, and again whenever the connection is lost."""

    def __init__(
        self, config: RemoteConfig, observation_spec: ObservationSpec, action_spec: ActionSpec, rate_hz: float
    ) -> None:
        """`SpecError` unless the policy was learned with these."""
        self._config, self._token = config, read_token(config.token_file)
        self._specs = wire.plain_specs(observation_spec, action_spec, rate_hz)
        self._asking = threading.Lock()
        self._connection: ClientConnection | None = None
        self._description: wire.Description | None = None
        served = self._ask(wire.Describe(), wire.Description)
        self.horizon, self.history, self.version = served.horizon, served.history, served.version

    def tell(self, goal: Observation, text: str, start: Observation) -> Observation | None:
        """As `ChunkSource.tell`; `ConfigError` for what the served policy cannot be told."""
        return self._ask(wire.Tell(goal, text, start), wire.Told).goal

    def sample_many(
        self,
        observation: Observation,
        goal: Observation | None,
        noise: FloatArray,
        seed: int,
        prefix: FloatArray | None,
    ) -> FloatArray:
        """Chunks (K, H, A) from noise of that shape, all in one request."""
        chunks = self._ask(wire.Sample(observation, goal, noise, seed, prefix), wire.Chunks).chunks
        if chunks.shape != noise.shape:
            raise WireError(f"{self._config.url} gave chunks {chunks.shape} for noise {noise.shape}")
        return chunks

    def load(self, tensors: Mapping[str, Any]) -> None:
        """The parameters are the server's: `ConfigError` for any others."""
        if tensors:
            raise ConfigError("a remote policy takes no parameters; serve the checkpoint that is wanted")

    def close(self) -> None:
        """Say goodbye."""
        with self._asking:
            self._drop()

    def _ask(self, request: wire.Request, kind: type[T]) -> T:
        """The reply, of that kind. A connection that was lost since the last request is made anew."""
        data = wire.encode_request(request)
        with self._asking:
            until_s = time.monotonic() + self._config.timeout_s
            was_open = self._connection is not None
            try:
                try:
                    return self._exchange(data, kind, until_s)
                except ConnectionClosed:
                    if not was_open:
                        raise
                    self._drop()
                    return self._exchange(data, kind, until_s)
            except (ConnectionClosed, TimeoutError) as error:
                self._drop()  # a late answer must not be taken for that to the next request
                raise RemoteError(f"the policy at {self._config.url} does not answer: {error}") from error
            except BaseException:
                self._drop()
                raise

    def _exchange(self, data: bytes, kind: type[T], until_s: float) -> T:
        if self._connection is None:
            self._connection = self._connect(until_s)
            self._check(self._receive(wire.encode_request(wire.Describe()), wire.Description, until_s))
        return self._receive(data, kind, until_s)

    def _receive(self, data: bytes, kind: type[T], until_s: float) -> T:
        assert self._connection is not None
        self._connection.send(data)
        answer = self._connection.recv(timeout=max(until_s - time.monotonic(), 0.0))
        reply = wire.decode_reply(answer if isinstance(answer, bytes) else answer.encode())
        if isinstance(reply, wire.Failure):
            raise FAILURES[reply.kind](f"the policy at {self._config.url}: {reply.text}")
        if not isinstance(reply, kind):
            raise WireError(f"{self._config.url} answered with {type(reply).__name__}, expected {kind.__name__}")
        return reply

    def _connect(self, until_s: float) -> ClientConnection:
        url, left_s = self._config.url, max(until_s - time.monotonic(), 0.001)
        try:
            connection = connect(
                url,
                additional_headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
                open_timeout=left_s,
                close_timeout=CLOSE_S,
                compression=None,
                max_size=wire.MAX_BYTES,
                proxy=None,
            )
        except InvalidStatus as error:
            if error.response.status_code == HTTPStatus.UNAUTHORIZED:
                raise ConfigError(
                    f"{url} asks for a token, and this is not it: give the server's token file"
                ) from error
            raise RemoteError(f"{url} lets nobody in: {error}; is it a server of robot-rl serve?") from error
        except InvalidURI as error:
            raise ConfigError(f"{url} is no address of a policy: {error}") from error
        except (OSError, InvalidHandshake) as error:
            raise RemoteError(f"no policy at {url}: {error}; robot-rl serve starts one") from error
        # websockets knows no timeout of sending: a server that reads nothing would hold us for ever
        connection.socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, struct.pack("ll", *_timeval(self._config.timeout_s)))
        return connection

    def _check(self, served: wire.Description) -> None:
        """What it serves fits, and is what it was when it was first asked."""
        for name, wanted in self._specs.items():
            if served.specs.get(name) != wanted:
                raise SpecError(
                    f"{self._config.url}: its {name} is {served.specs.get(name)}, that of the task {wanted}"
                )
        if self._description not in (None, served):
            raise SpecError(f"{self._config.url} serves another policy than before; start again to act by that one")
        self._description = served

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close_socket()


def _timeval(duration_s: float) -> tuple[int, int]:
    """Whole seconds and microseconds."""
    return int(duration_s), int(duration_s % 1.0 * 1e6)
