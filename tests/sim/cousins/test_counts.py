"""Users' counts of moving parts."""

from __future__ import annotations

import pytest

from robot_rl.errors import ConfigError, UnknownNameError
from sim.cousins.counts import PartCounts, read_counts


def test_counts_are_read_by_object() -> None:
    found = read_counts(["object_0:doors=1,drawers=2", "object_3:lids=1"])
    assert found == {"object_0": PartCounts(doors=1, drawers=2), "object_3": PartCounts(lids=1)}
    assert read_counts([]) == {}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("object_0", ConfigError, "expected OBJECT:doors=1"),
        ("object_0:flaps=1", UnknownNameError, "valid choices: doors, drawers, lids"),
        ("object_0:doors=one", ConfigError, "whole number"),
        ("object_0:doors=²", ConfigError, "whole number"),
        ("object_0:lids=2", ConfigError, "at most one lid"),
    ],
)
def test_malformed_counts_are_refused(text: str, error: type[ConfigError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_counts([text])
