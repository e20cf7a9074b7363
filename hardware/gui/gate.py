"""What a browser may send, and who may talk to the page's server at all. Pure."""

from __future__ import annotations

import hmac
import ipaddress
import json
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from robot_rl.errors import ConfigError

TOKEN_COOKIE = "robot_rl_token"
MIN_TOKEN_LENGTH = 12
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


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, token: str | None) -> None:
    """Raise `ConfigError` for an address that others can reach, unless there is a token."""
    if not is_loopback(host) and not token:
        raise ConfigError(
            f"--host {host} can be reached from other machines: give --token as well, or stay on 127.0.0.1 "
            "and use an SSH tunnel (ssh -L 8080:127.0.0.1:8080 <this machine>)"
        )
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"--token must have at least {MIN_TOKEN_LENGTH} characters")


class Gate:
    """Who may talk to the page's server."""

    def __init__(self, host: str, token: str | None) -> None:
        check_address(host, token)
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
            if not any(hmac.compare_digest(g.encode(), self._token.encode()) for g in given):
                return "token missing or wrong: open /?token=..."
        return None


def _cookie(headers: Headers) -> str:
    try:
        cookie = SimpleCookie("; ".join(headers.get_all("Cookie")))
    except CookieError:
        return ""
    return cookie[TOKEN_COOKIE].value if TOKEN_COOKIE in cookie else ""
