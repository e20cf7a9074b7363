"""Who may reach a server: loopback addresses, and whoever knows the token."""

import pytest

from robot_rl.errors import ConfigError
from robot_rl.network import check_address, read_token, same_token


def test_addresses_that_others_reach_need_a_token():
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.5"):
        check_address(host, 8080, None)
    for host in ("0.0.0.0", "::", "192.168.1.7", "robot.local"):  # noqa: S104 - refused, not bound
        with pytest.raises(ConfigError, match="--token"):
            check_address(host, 8080, None)
        check_address(host, 8080, "a-long-enough-token")
    with pytest.raises(ConfigError, match="at least"):
        check_address("0.0.0.0", 8080, "short")  # noqa: S104 - refused, not bound


def test_a_refusal_names_the_option_and_the_tunnel():
    with pytest.raises(ConfigError, match=r"give --token-file .*ssh -L 8765:127.0.0.1:8765"):
        check_address("0.0.0.0", 8765, None, "--token-file")  # noqa: S104 - refused, not bound


def test_a_token_is_what_its_file_holds(tmp_path):
    (tmp_path / "token").write_text("  a-long-enough-token\n")
    token = read_token(tmp_path / "token")
    assert token is not None and same_token("a-long-enough-token", token) and not same_token("a-long", token)
    assert read_token(None) is None
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for wrong in ("none", "binary"):
        with pytest.raises(ConfigError, match="no token can be read"):
            read_token(tmp_path / wrong)
