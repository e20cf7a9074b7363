"""Every arm in conf/robot builds; what is wrong in a binding is named with its file, key and choices."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hardware import robots
from hardware.arm_adapter import ArmAdapter
from hardware.arm_binding import binding_from, load_binding
from hardware.guard_config import GuardConfig
from hardware.gui.config import GuiConfig
from hardware.gui.scene import drawn_arm
from hardware.nodes.arm import ArmNodeConfig
from hardware.nodes.guard import GuardNodeConfig, guard_config
from hardware.nodes.lifecycle import read_robot
from hardware.nodes.person import PersonNodeConfig
from hardware.nodes.sim_robot_config import SimRobotConfig
from hardware.yaml_files import ROBOT_DIR, override, robot_names
from robot_rl import frames
from robot_rl.apps.graph import graph_path, read_graph, resolve
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import to_dataclass

NAMES = robot_names()


def test_the_first_four_are_there_and_each_model_has_an_arm() -> None:
    assert {"fr3", "ur5e", "sim_panda", "sim_ur5e"} <= set(NAMES)
    assert set(robots.names()) == {load_binding(name).model for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_each_builds_and_its_home_lies_in_its_workspace(name: str) -> None:
    binding = load_binding(name)
    arm = binding.kinematics()
    home = np.array(binding.home_joints_rad)
    guard = to_dataclass(GuardConfig, binding.guard, name)
    position = arm.forward(home)[:3]
    assert np.all(position > guard.workspace_low_m) and np.all(position < guard.workspace_high_m)
    np.testing.assert_allclose(arm.inverse(arm.forward(home), home), home, atol=1e-3)
    if binding.native is not None:
        assert ArmAdapter(binding).tick(0.0) is None


def test_fr3_joint_limits_are_the_makers() -> None:
    """Limits for Franka Research 3, frankarobotics.github.io/docs/robot_specifications.html."""
    binding = load_binding("fr3")
    lower = [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]
    upper = [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]
    np.testing.assert_array_equal(binding.column("lower_rad"), lower)
    np.testing.assert_array_equal(binding.column("upper_rad"), upper)
    np.testing.assert_array_equal(binding.column("velocity_rad_s"), [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("native.command.kind=poze", r"fr3.yaml: unknown native.command.kind 'poze'; valid choices: .*pose, twist"),
        (
            "native.command.qos=best",
            r"unknown native.command.qos 'best'; valid choices: latched, reliable",
        ),
        ("native.comand={}", r"unknown key 'native.comand' \(did you mean 'command'\?\); valid keys of .*: command, "),
        ("native.state.joints={}", r"native.state.joints lacks topic"),
        ("joints.2.lower_rad=low", r"joints\[2\].lower_rad must be float, got 'low'"),
        ("joints.2.lower_rad=5.0", r"fr3_joint3: lower_rad 5.0 must be below"),
        ("joints.0.velocity_rad_s=0", r"velocity_rad_s must be positive"),
        ("home_joints_rad=[0.0]", r"home_joints_rad has 1 values, not 7"),
        ("home_joints_rad.3=0.0", r"0.0 is outside the limits of fr3_joint4"),
        ("pose_flange_tcp.3=0.5", r"not a unit quaternion"),
        ("pose_flange_tcp=[0, 0, 0]", r"must have 7 elements, got 3"),
        ("model=fr4", r"unknown robot model 'fr4'; valid choices: .*fr3, .*ur5e"),
        ("model_options={x: 1}", r"takes no model_options"),
        ("native.gripper={kind: float64_array}", r"needs command, state and joint"),
        ("native.gripper.open=0.0", r"closed and open must differ"),
        ("native.command.velocity_scale=1.5", r"velocity_scale 1.5 must be in"),
        ("native.command.stale_s=2e-1", r"stale_s must be float, got '2e-1' \(str\); YAML takes this for a text"),
        ("rate_hz=true", r"rate_hz must be float, got True"),
        ("rate_hz=.inf", r"rate_hz must be a positive number, got inf"),
        ("native.state.timeout_s=.nan", r"timeout_s must be a positive number, got nan"),
        ("native.command.stale_s=.inf", r"stale_s must be a positive number, got inf"),
        ("native.command.max_jump_rad=.nan", r"max_jump_rad must be a positive number, got nan"),
        ("native.command.max_lead_rad=.nan", r"max_lead_rad must be a positive number, got nan"),
        ("native.command.gain_per_s=-4.0", r"gain_per_s must be a positive number, got -4"),
        ("native.gripper.closed=.nan", r"closed and open must differ and be finite"),
        ("joints.0.velocity_rad_s=150", r"limits are in rad and rad/s; .* looks like degrees"),
        ("joints.0.lower_rad=-166", r"limits are in rad and rad/s; .* looks like degrees"),
        ("joints.1.native=fr3_joint1", r"two joints have the same native_name"),
        ("pose_flange_tcp.2=103.4", r"103.4\) must be finite, and in m"),
        ("native.faults.0.ok=[]", r"each fault needs a topic of its own, and values that are ok"),
        ("name=other", r"name is 'other' but the file is called 'fr3'"),
        ("joints.9.name=x", r"'9' is not an index below 7"),
        ("name.x=1", r"'x' is below a plain value"),
        ("name", r"expected dotted.key=value"),
    ],
)
def test_what_is_wrong_is_named(change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_binding("fr3", [change]).kinematics()


def test_unknown_robot_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown robot 'fr4'; valid choices: fr3, "):
        load_binding("fr4")
    for text, said in (
        ("[1]", "expected a mapping"),
        ("a: [", "broken.yaml"),
        ("guard: {step_m: 0.05}\nname: x\nguard: {step_m: 0.1}", "'guard' is given twice.*line 3"),
        ("!!python/name:os.system", "tag"),
    ):
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=f"(?s){said}"):
            load_binding(str(path))


def test_a_new_arm_takes_one_yaml_of_its_own(tmp_path: Path) -> None:
    content = yaml.safe_load((ROBOT_DIR / "ur5e.yaml").read_text())
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({**content, "name": "lab"}))
    assert load_binding("lab", folder=tmp_path).name == "lab"
    assert robot_names(tmp_path) == ("lab",)


def test_a_new_arm_takes_one_py_and_one_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard, arm node, page and graph know it from these alone; the page, which has no meshes of it, draws rods."""
    shutil.copy(Path(robots.__path__[0]) / "ur5e.py", tmp_path / "lab6.py")
    monkeypatch.setattr(robots, "__path__", [*robots.__path__, str(tmp_path)])
    content = yaml.safe_load((ROBOT_DIR / "ur5e.yaml").read_text()) | {"name": "lab6", "model": "lab6"}
    file = tmp_path / "lab6.yml"
    file.write_text(yaml.safe_dump(content))
    binding = load_binding(str(file))
    assert ArmAdapter(binding).tick(0.0) is None
    assert guard_config(GuardNodeConfig(robot=str(file)))[1] == binding.base_frame

    drawn = drawn_arm(GuiConfig(robot=str(file)).for_robot(read_robot(str(file))))
    arm = binding.kinematics()
    for joints in np.random.default_rng(0).uniform(-3.0, 3.0, (5, 6)):
        assert drawn.set_joints(dict(zip(drawn.joint_names, joints, strict=True)) | {"knuckle": 1.0}) == 6
        position, quat = drawn.body_poses()[drawn.bodies[-1]]
        tip = position + frames.quat_to_matrix(quat) @ drawn.meshes[-1].vertices[12:].mean(0)
        np.testing.assert_allclose(tip, arm.forward(joints)[:3], atol=1e-6)
    assert drawn.set_joints({"wrist_3_joint": np.nan}) == 0

    graph = resolve(read_graph(graph_path("arm")), {"robot": str(file), "namespace": "lab"}, {})
    told = [one.node.name for one in graph.processes if f'robot:="{file}"' in one.command]
    assert told == ["guard", "arm", "gui"]


def test_overrides_leave_the_original_alone() -> None:
    content: dict[str, Any] = {"a": {"b": [1, 2]}}
    assert override(content, "a.b.1=7") == {"a": {"b": [1, 7]}}
    assert override(content, "a.c.d=x") == {"a": {"b": [1, 2], "c": {"d": "x"}}}
    assert content == {"a": {"b": [1, 2]}}


def test_simulated_arms_need_no_arm_node() -> None:
    with pytest.raises(ConfigError, match="needs no arm node"):
        ArmAdapter(load_binding("sim_panda"))


def test_ur5e_calibration_file(tmp_path: Path) -> None:
    """As ur_calibration writes it; here the nominal chain with a shoulder 3 mm higher."""
    half = np.pi / 2
    rows = {
        "shoulder": (0, 0, 0.1655, 0, 0, 0),
        "upper_arm": (0, 0, 0, half, 0, 0),
        "forearm": (-0.425, 0, 0, 0, 0, 0),
        "wrist_1": (-0.3922, 0, 0.1333, 0, 0, 0),
        "wrist_2": (0, -0.0997, 0, half, 0, 0),
        "wrist_3": (0, 0.0996, 0, half, np.pi, np.pi),
    }
    keys = ("x", "y", "z", "roll", "pitch", "yaw")
    links = {name: dict(zip(keys, map(float, row), strict=True)) for name, row in rows.items()}
    path = tmp_path / "calibration.yaml"
    path.write_text(yaml.safe_dump({"kinematics": {**links, "hash": "calib_1"}}))
    nominal = load_binding("ur5e")
    own = load_binding("ur5e", [f"model_options.calibration_file={path}"])
    home = np.array(nominal.home_joints_rad)
    moved = own.kinematics().forward(home) - nominal.kinematics().forward(home)
    np.testing.assert_allclose(moved, [0, 0, 0.003, 0, 0, 0, 0], atol=1e-9)

    path.write_text(yaml.safe_dump({"kinematics": {"shoulder": links["shoulder"]}}))
    with pytest.raises(ConfigError, match=r"calibration.yaml.*KeyError.*upper_arm"):
        own.kinematics()


def test_a_binding_can_come_from_a_mapping() -> None:
    content = yaml.safe_load((ROBOT_DIR / "sim_panda.yaml").read_text())
    assert binding_from(content, "composed").sim_robot == "Panda"


@pytest.mark.parametrize(
    ("config", "name"),
    [(SimRobotConfig, "rate_hz"), (ArmNodeConfig, "diagnostics_rate_hz"), (PersonNodeConfig, "rate_hz")],
)
def test_rates_of_nodes_are_positive_numbers(config: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a positive number, got 0"):
        config(**{name: 0.0})


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**63}, {"image_hw": (0, 64)}])
def test_a_simulated_robot_is_refused_what_its_world_cannot_take(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"seed must be in \[0, 2\^63\), image_hw positive; got"):
        SimRobotConfig(**wrong)
