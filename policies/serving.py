"""Serves a policy's chunks over a websocket (`robot-rl serve`); the other side is `policies.remote`.

Whatever a client sends, it gets an answer or its connection is closed, and the others are served on. Nothing is
unpickled. A browser is refused: any page could otherwise speak to a server on the loopback address.

Shape letters: T observations, H horizon, A action, P prefix, K candidates.
"""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from policies import remote_wire as wire
from policies.sources import ManySource
from robot_rl.errors import ConfigError, SpecError, WireError
from robot_rl.network import check_address, same_token
from robot_rl.types import ActionSpec, FloatArray, ObservationSpec

MAX_CLIENTS = 8
MAX_CANDIDATES = 1024
"""In one request: more would keep the others waiting."""
CLOSE_S = 1.0
log = logging.getLogger(__name__)


class PolicyServer:
    """Answers one request after another, each connection in a thread of its own. Listens from the beginning."""

    def __init__(
        self,
        source: ManySource,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        *,
        rate_hz: float,
        version: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        """Port 0 takes a free one. `ConfigError` without a token where other machines can reach `host`."""
        check_address(host, port, token, "--token-file")
        self.description = wire.Description(
            source.horizon, source.history, version, wire.plain_specs(observation_spec, action_spec, rate_hz)
        )
        self._source, self._token, self._host = source, token, host
        self._observation_spec, self._action_spec = observation_spec, action_spec
        self._sampling = threading.Lock()
        self._connections: set[ServerConnection] = set()
        quiet = logging.getLogger(f"{__name__}.connections")
        quiet.setLevel(logging.CRITICAL)  # a stranger's broken handshake is not worth a traceback
        try:
            self._server = serve(
                self._handle,
                host,
                port,
                origins=[None],
                process_request=self._admit,
                compression=None,
                max_size=wire.MAX_BYTES,
                close_timeout=CLOSE_S,
                logger=quiet,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose another --host or --port") from error

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._server.socket.getsockname()[1]}"

    def serve_forever(self) -> None:
        """Until `close` is called from another thread."""
        self._server.serve_forever()

    def close(self) -> None:
        """Let go of the port and of whoever is connected."""
        self._server.shutdown()
        for connection in tuple(self._connections):
            connection.close()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        given = request.headers.get("Authorization", "")
        if self._token is not None and not same_token(given, f"Bearer {self._token}"):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "token missing or wrong\n")
        if len(self._connections) >= MAX_CLIENTS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CLIENTS} clients are connected already\n")
        return None

    def _handle(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        try:
            for message in connection:
                connection.send(self._answer(message))
        except ConnectionClosed as closed:
            log.info("a client is gone: %s", closed)
        finally:
            self._connections.discard(connection)

    def _answer(self, message: str | bytes) -> bytes:
        """The reply's bytes: a failure for what cannot be done."""
        try:
            if isinstance(message, str):
                raise WireError("requests are binary messages, this is text")
            return wire.encode_reply(self._do(wire.decode_request(message)))
        except WireError as error:
            return wire.encode_reply(wire.Failure("message", str(error)))
        except SpecError as error:
            return wire.encode_reply(wire.Failure("spec", str(error)))
        except ConfigError as error:
            return wire.encode_reply(wire.Failure("config", str(error)))
        except Exception as error:  # whatever a network makes of arrays that it does not know; the others are served on
            log.exception("a request failed")
            return wire.encode_reply(wire.Failure("policy", f"{type(error).__name__}: {error}"))

    def _do(self, request: wire.Request) -> wire.Reply:
        if isinstance(request, wire.Describe):
            return self.description
        if isinstance(request, wire.Tell):
            with self._sampling:
                return wire.Told(self._tell(request))
        self._check(request)
        with self._sampling:
            chunks = self._source.sample_many(
                request.observation, request.goal, request.noise, request.seed, request.prefix
            )
        return wire.Chunks(np.asarray(chunks))

    def _tell(self, request: wire.Tell) -> dict[str, FloatArray] | None:
        try:
            return self._source.tell(request.goal, request.text, request.start)
        except ValueError as error:  # of a bundle, which knows nothing of this project's errors
            raise ConfigError(str(error)) from error

    def _check(self, request: wire.Sample) -> None:
        """`SpecError` unless the request is what the policy was learned with."""
        horizon, dim = self._source.horizon, self._action_spec.dim
        wanted = {
            key: ((self._source.history, *spec.shape), spec.dtype)
            for key, spec in self._observation_spec.arrays.items()
        }
        seen = {key: (value.shape, value.dtype.name) for key, value in request.observation.items()}
        if seen != wanted:
            raise SpecError(f"the request's observation is {seen}, expected {wanted}")
        noise, prefix = request.noise, request.prefix
        if noise.dtype != np.float32 or noise.shape[1:] != (horizon, dim) or not 1 <= len(noise) <= MAX_CANDIDATES:
            wanted_noise = f"(1 to {MAX_CANDIDATES}, {horizon}, {dim}) float32"
            raise SpecError(f"the noise is {noise.shape} {noise.dtype}, expected {wanted_noise}")
        if prefix is not None and (
            prefix.dtype != np.float32 or prefix.shape[1:] != (dim,) or not 1 <= len(prefix) <= horizon
        ):
            raise SpecError(f"the prefix is {prefix.shape} {prefix.dtype}, expected (1 to {horizon}, {dim}) float32")
