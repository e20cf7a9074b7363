"""The page's server, spoken to as a browser, as another site and as another program would."""

from __future__ import annotations

import gzip
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sized

import pytest
import viser
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from hardware.gui.gate import PageInput
from hardware.gui.web import PageServer
from robot_rl.errors import ConfigError

VISER = [Subprotocol(f"viser-v{viser.__version__}")]


class Served:
    """A running page server and what it was told."""

    def __init__(self) -> None:
        self.inputs: list[tuple[str, PageInput]] = []
        self.left: list[str] = []
        self.server = PageServer(
            "127.0.0.1", 0, None, lambda page, said: self.inputs.append((page, said)), self.left.append
        )

    def socket(self, path: str, origin: str | None = None) -> ClientConnection:
        address = f"127.0.0.1:{self.server.port}"
        given = Origin(f"http://{address}" if origin is None else origin)
        return connect(f"ws://{address}{path}", origin=given, subprotocols=VISER, proxy=None, compression=None)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    running = Served()
    yield running
    running.server.close()


def wait_for_length(things: Sized, length: int) -> None:
    deadline = time.monotonic() + 10.0
    while len(things) < length:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_page_is_visers_with_ours_in_front(served: Served) -> None:
    with urllib.request.urlopen(served.server.url, timeout=10) as response:
        html = gzip.decompress(response.read()).decode()
        assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert html.index("rl-banner") < html.index("</head>")
    assert len(html) > 1_000_000
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(served.server.url + "../etc/passwd", timeout=10)


@pytest.mark.parametrize("path", ["/input?page=evil", "/viser?page=evil"])
def test_another_sites_socket_is_refused(served: Served, path: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        served.socket(path, origin="http://evil.example")
    assert not served.left and not served.inputs


def test_visers_own_port_speaks_only_to_the_relay(served: Served) -> None:
    port = served.server.viser.get_port()
    for query in ("", "?secret=guess&page=x"):
        address = f"ws://127.0.0.1:{port}/{query}"
        with connect(address, subprotocols=VISER, proxy=None) as socket, pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    assert served.server.viser.get_clients() == {}


def test_viser_answers_through_the_relay_and_leaving_is_told(served: Served) -> None:
    served.left.clear()
    with served.socket("/viser?page=a") as socket:
        assert socket.subprotocol == VISER[0]
        assert isinstance(socket.recv(timeout=10), bytes)
    wait_for_length(served.left, 1)
    assert served.left == ["a"]


def test_input_arrives_banners_go_out_and_nonsense_is_ignored(served: Served) -> None:
    served.left.clear()
    served.server.show_banner({"title": "POLICY"})
    with served.socket("/input?page=b") as socket:
        assert json.loads(socket.recv(timeout=10)) == {"title": "POLICY"}
        assert served.server.clients == 1
        for nonsense in ("", "{", "[]", b"\xff\x00", json.dumps({"keys": ["w"] * 1000, "hidden": False})):
            socket.send(nonsense)
        socket.send(json.dumps({"keys": ["w"], "press": None, "hidden": False}))
        wait_for_length(served.inputs, 1)
        served.server.show_banner({"title": "HUMAN"})
        assert json.loads(socket.recv(timeout=10)) == {"title": "HUMAN"}
    assert served.inputs == [("b", PageInput(frozenset({"w"}), None, False))]
    wait_for_length(served.left, 1)
    assert served.left == ["b"] and served.server.clients == 0


def test_a_port_in_use_is_named(served: Served) -> None:
    with pytest.raises(ConfigError, match=f"{served.server.port}.*--port"):
        PageServer("127.0.0.1", served.server.port, None, lambda *_: None, lambda _: None)
