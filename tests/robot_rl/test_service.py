"""What a deployment may act by: a real arm takes what is in service, as it was promoted, and nothing else."""

from __future__ import annotations

import pytest

from robot_rl.apps.service import IN_SERVICE, Chosen, acts_alike, choose_policy
from robot_rl.errors import ConfigError, DataError
from robot_rl.registry import Registry
from tests.robot_rl.test_registry import make_run
from tests.untrained import write_policy, write_run


@pytest.fixture
def lab(tmp_path):
    """A registry in which `new` follows `old`, and a run `other` that was never promoted."""
    registry = Registry(tmp_path / "service")
    for name in ("old", "new"):
        registry.promote(*make_run(tmp_path / name, name.encode()), name=name, why="")
    make_run(tmp_path / "other", b"other")
    return registry


def choose(lab, policy, *changes, unpromoted=False):
    name = policy if policy == IN_SERVICE else str(lab.folder.parent / policy)
    return choose_policy(lab, name, changes, unpromoted=unpromoted)


def test_a_real_arm_takes_what_is_in_service(lab):
    serving = Chosen(lab.checkpoint(lab.in_service()[1]), 2)
    assert choose(lab, IN_SERVICE) == serving
    assert choose(lab, "new") == serving  # by its bytes, whatever it is called: the registry's copy acts


@pytest.mark.parametrize("policy", ["old", "other"])
def test_a_real_arm_takes_nothing_else(lab, policy):
    with pytest.raises(
        ConfigError, match=r"is not in service, and this is a real arm.*robot-rl promote.*unpromoted=true"
    ):
        choose(lab, policy)
    assert choose(lab, policy, unpromoted=True).promotion is None


def test_what_changes_a_promoted_policy_makes_it_another_one(lab):
    with pytest.raises(ConfigError, match=r"critic, overrides: this is not what was promoted"):
        choose(lab, IN_SERVICE, "critic", "overrides")
    assert choose(lab, IN_SERVICE, "critic", unpromoted=True).promotion is None


def test_a_policy_that_was_rolled_back_is_out_of_service(lab):
    lab.roll_back("it drops the cup")
    with pytest.raises(ConfigError, match="is not in service"):
        choose(lab, "new")
    assert choose(lab, IN_SERVICE).promotion == 1


def test_an_empty_registry_and_an_altered_copy_are_told(lab, tmp_path):
    with pytest.raises(ConfigError, match="nothing is in service"):
        choose_policy(Registry(tmp_path / "empty"), IN_SERVICE, (), unpromoted=True)
    (lab.checkpoint(lab.in_service()[1]) / "policy.safetensors").write_bytes(b"tampered")
    with pytest.raises(DataError, match="was altered"):
        choose(lab, IN_SERVICE)


def test_weights_alone_may_differ(tmp_path):
    one, same = write_policy(tmp_path / "one"), write_policy(tmp_path / "same")
    small = ["policy.inputs.goal=false", "policy.goal_dropout=0", "policy.network.width=16"]
    other = write_run(tmp_path / "other", "imitate", *small)
    step = "checkpoints/step_000000007"
    assert acts_alike(one / step, same / step) and not acts_alike(one / step, other / step)
