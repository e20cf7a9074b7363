"""What a browser may send, and who may talk to the page's server at all. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from robot_rl.network import check_address, is_loopback, same_token

TOKEN_COOKIE = "robot_rl_token"
PRESSES = ("gripper", "take_over")


@dataclass(frozen=True)
class PageInput:
    """What a page says several times a second."""

    keys: frozenset[str]
    press: str | None
    hidden: bool


def parse_input(raw: str | bytes) -> PageInput | None:
    """A message of `/input`, None when it is not one."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("keys"), list):
        return None
    press, hidden = values.get("press"), values.get("hidden")
    if press not in (None, *PRESSES) or not isinstance(hidden, bool):
        return None
    return PageInput(frozenset(k for k in values["keys"] if isinstance(k, str)), press, hidden)


class Gate:
    """Who may talk to the page's server."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        check_address(host, port, token)
        self._local = is_loopback(host)
        self._token = token

    def refusal(self, headers: Headers, query: dict[str, list[str]], is_socket: bool) -> str | None:
        """Why a request is refused, or None."""
        host = headers.get("Host", "")
        if self._local and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return "this server answers on loopback names only"
        if is_socket and urlsplit(headers.get("Origin", "")).netloc != host:
            return "a socket must be opened by this server's own page"
        if self._token is not None:
            given = (query.get("token", [""])[0], _cookie(headers))
            if not any(same_token(one, self._token) for one in given):
                return "token missing or wrong: open /?token=..."
        return None


def _cookie(headers: Headers) -> str:
    try:
        cookie = SimpleCookie("; ".join(headers.get_all("Cookie")))
    except CookieError:
        return ""
    return cookie[TOKEN_COOKIE].value if TOKEN_COOKIE in cookie else ""
