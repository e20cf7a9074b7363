"""The web server that a browser sees: viser's page with keys, banner and heartbeat added, on one port.

viser itself has no keyboard events for the page and listens without asking who comes. So it runs on
a port of its own behind this server, which checks every request, relays viser's socket and adds one
of its own (`/input`) for held keys, heartbeat and banner. Checks: on a loopback address the `Host`
must be a loopback name (DNS rebinding); a socket's `Origin` must be this page's (other sites must
not reach the arm through the person's browser); on any other address a token is needed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hmac
import io
import json
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import viser
from viser import infra
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from hardware.gui.gate import TOKEN_COOKIE, Gate, PageInput, parse_input
from robot_rl.errors import ConfigError

MAX_INPUT_BYTES = 1024
MAX_VISER_BYTES = 50 * 1024 * 1024  # as viser's own server


class PageServer:
    """Serves the page and its sockets from a thread of its own; callbacks run in that thread."""

    def __init__(
        self,
        host: str,
        port: int,
        token: str | None,
        on_input: Callable[[str, PageInput], None],
        on_leave: Callable[[str], None],
    ) -> None:
        self._gate = Gate(host, port, token)
        self._token = token
        self._on_input, self._on_leave = on_input, on_leave
        self._secret = secrets.token_urlsafe(24)
        self.viser = _start_viser()
        self._page_of_client = _guard_viser(self.viser, self._secret)
        self._html = _page_html()
        self._sockets: set[ServerConnection] = set()
        self._banner = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._failure: OSError | None = None
        self.host, self.port = host, port
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True, name="gui-page")
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self.viser.stop()
            reason = self._failure.strerror
            raise ConfigError(f"cannot listen on {host}:{port}: {reason}; choose another --port")

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self._token}" if self._token else "")

    @property
    def clients(self) -> int:
        """Pages now open."""
        return len(self._sockets)

    def page_of(self, client_id: int | None) -> str | None:
        """The page that a viser client belongs to."""
        return None if client_id is None else self._page_of_client.get(client_id)

    def show_banner(self, state: dict[str, str]) -> None:
        """Send the banner to every page, when it has changed."""
        text = json.dumps(state)
        if text != self._banner:
            self._banner = text
            self._loop.call_soon_threadsafe(self._broadcast, text)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=3.0)
        self.viser.stop()

    def _broadcast(self, text: str) -> None:
        for socket in tuple(self._sockets):
            task = self._loop.create_task(_send(socket, text))
            task.add_done_callback(lambda done: done.exception())

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(ready))
        except OSError as error:
            self._failure = error
        finally:
            ready.set()
            self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        logger = logging.getLogger("hardware.gui.web")
        logger.setLevel(logging.CRITICAL)  # a browser that goes away mid-handshake is not worth a traceback
        async with serve(
            self._handle,
            self.host,
            self.port,
            process_request=self._answer,
            select_subprotocol=_select_subprotocol,
            compression=None,
            max_size=MAX_VISER_BYTES,
            logger=logger,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            ready.set()
            await self._stop.wait()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Plain HTTP requests get the page; sockets pass when the gate lets them."""
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if (reason := self._gate.refusal(request.headers, query, is_socket)) is not None:
            return connection.respond(HTTPStatus.FORBIDDEN, reason + "\n")
        if is_socket:
            known = parts.path in ("/viser", "/input")
            return None if known else connection.respond(HTTPStatus.NOT_FOUND, "no such socket\n")
        if parts.path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "the page is at /\n")
        headers = Headers(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Encoding": "gzip",
                "Content-Length": str(len(self._html)),
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "Content-Security-Policy": "frame-ancestors 'none'",
            }
        )
        if self._token:
            headers["Set-Cookie"] = f"{TOKEN_COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        return Response(HTTPStatus.OK, "OK", headers, self._html)

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        parts = urlsplit(socket.request.path)
        page = parse_qs(parts.query).get("page", [""])[0][:64]
        if parts.path == "/viser":
            await self._relay(socket, page)
        else:
            await self._listen(socket, page)

    async def _listen(self, socket: ServerConnection, page: str) -> None:
        """Keys and heartbeat of one page until it goes."""
        self._sockets.add(socket)
        try:
            if self._banner:
                await socket.send(self._banner)
            async for raw in socket:
                message = parse_input(raw) if len(raw) <= MAX_INPUT_BYTES else None
                if message is not None:
                    self._on_input(page, message)
        except ConnectionClosed:
            pass
        finally:
            self._sockets.discard(socket)
            self._on_leave(page)

    async def _relay(self, outer: ServerConnection, page: str) -> None:
        """Carry viser's messages between the browser and the viser server behind."""
        protocols = [Subprotocol(outer.subprotocol)] if outer.subprotocol else None
        address = f"ws://127.0.0.1:{self.viser.get_port()}/?secret={self._secret}&page={page}"
        async with connect(
            address, subprotocols=protocols, compression=None, max_size=MAX_VISER_BYTES, proxy=None
        ) as inner:
            pumps = [asyncio.create_task(_pump(outer, inner)), asyncio.create_task(_pump(inner, outer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                self._on_leave(page)


async def _pump(source: Connection, sink: Connection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in source:
            await sink.send(message)


async def _send(socket: ServerConnection, text: str) -> None:
    with contextlib.suppress(ConnectionClosed):
        await socket.send(text)


def _select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((name for name in offered if name.startswith("viser-v")), None)


def _page_html() -> bytes:
    """viser's page with ours in front, compressed once."""
    viser_html = Path(viser.__file__).parent / "client" / "build" / "index.html"
    html = viser_html.read_text(encoding="utf-8")
    script = resources.files("hardware.gui").joinpath("assets/page.js").read_text(encoding="utf-8")
    if html.count("<head>") < 1:
        raise ConfigError(f"{viser_html} has no <head>: this needs viser 1.1")
    return gzip.compress(html.replace("<head>", f"<head><script>{script}</script>", 1).encode())


def _start_viser() -> viser.ViserServer:
    with contextlib.redirect_stdout(io.StringIO()):  # it would print its own address, which is not the page's
        return viser.ViserServer(host="127.0.0.1", port=0, label="robot-rl", verbose=False)


def _guard_viser(server: viser.ViserServer, secret: str) -> dict[int, str]:
    """Refuse sockets to viser that do not come through our relay; returns client id -> page."""
    pages: dict[int, str] = {}
    inner = server._websock_server

    async def check(client: infra.WebsockClientConnection) -> None:
        connection = inner._live_connections[client.client_id]
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        if not hmac.compare_digest(query.get("secret", [""])[0].encode(), secret.encode()):
            inner._live_connections.pop(client.client_id, None)
            inner._client_state_from_id.pop(client.client_id, None)
            raise PermissionError("a viser socket that did not come through the page")
        pages[client.client_id] = query.get("page", [""])[0]

    async def forget(client: infra.WebsockClientConnection) -> None:
        pages.pop(client.client_id, None)

    inner._client_connect_cb.insert(0, check)
    inner.on_client_disconnect(forget)
    inner.disconnect_all_clients()  # whoever came before the check was in place
    return pages
