"""Who may reach a server of this project: loopback addresses, and tokens for any others."""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path

from robot_rl.errors import ConfigError

MIN_TOKEN_LENGTH = 12


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, port: int, token: str | None, option: str = "--token") -> None:
    """Raise `ConfigError` for an address that others can reach, unless there is a token (given by `option`)."""
    if not is_loopback(host) and not token:
        raise ConfigError(
            f"--host {host} can be reached from other machines: give {option} as well, or stay on 127.0.0.1 "
            f"and use an SSH tunnel (ssh -L {port}:127.0.0.1:{port} <this machine>)"
        )
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"{option} must have at least {MIN_TOKEN_LENGTH} characters")


def read_token(path: Path | None) -> str | None:
    """What a file holds, None without one; kept out of command lines, which every user of a machine sees."""
    if path is None:
        return None
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no token can be read from {path}: {error}") from error


def same_token(given: str, token: str) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode(), token.encode())
