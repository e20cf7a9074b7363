"""The page's logic without browser and without ROS: take-over, curves, gate, status, drawn arm."""

from __future__ import annotations

import json
import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.datastructures import Headers

from hardware.gui.charts import MAX_POINTS, Metrics, parse_episode, parse_scalars
from hardware.gui.config import GuiConfig, TeleopConfig
from hardware.gui.gate import Gate, parse_input
from hardware.gui.panel import IMAGE_ASPECT, letterbox
from hardware.gui.robot_model import RobotModel, thin
from hardware.gui.scene import box_edges, workspace
from hardware.gui.status import STYLES, banner, diagnostic_figures, guard_view
from hardware.gui.teleop import Teleop, gizmo_delta, key_delta
from hardware.ik import Kinematics
from hardware.robots import fr3, ur5e
from robot_rl import frames
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.typed import to_dataclass
from robot_rl.types import FloatArray

FULL = TeleopConfig(action=("x", "y", "z", "rx", "ry", "rz", "gripper"))
# As robosuite's arms stand: TCP x along base y, TCP y along base x, TCP z down.
TCP_DOWN = np.array([0.5, 0.1, 0.2, 0.0, math.sqrt(0.5), math.sqrt(0.5), 0.0])


def moved(x: float, y: float, z: float) -> FloatArray:
    """The TCP's pose, shifted along the base's axes."""
    return TCP_DOWN + np.array([x, y, z, 0.0, 0.0, 0.0, 0.0], np.float64)


def teleop(config: TeleopConfig = FULL, pages: tuple[str, ...] = ("a",)) -> Teleop:
    hand = Teleop(config)
    hand.observe_tcp(TCP_DOWN, 0.0)
    for page in pages:
        hand.heartbeat(page, 0.0)
    return hand


# -- directions -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "base_direction"),
    [
        ("w", (1, 0, 0)),
        ("s", (-1, 0, 0)),
        ("a", (0, 1, 0)),
        ("d", (0, -1, 0)),
        ("e", (0, 0, 1)),
        ("q", (0, 0, -1)),
    ],
)
def test_a_key_moves_along_its_base_axis(key: str, base_direction: tuple[float, float, float]) -> None:
    delta = key_delta(TCP_DOWN, {key}, FULL)
    step = frames.quat_to_matrix(TCP_DOWN[3:]) @ delta[:3]
    np.testing.assert_allclose(step, FULL.key_speed * np.array(base_direction), atol=1e-12)
    np.testing.assert_array_equal(delta[3:], 0.0)


def test_forward_and_up_in_the_tcp_frame_of_a_gripper_that_points_down() -> None:
    np.testing.assert_allclose(key_delta(TCP_DOWN, {"w"}, FULL)[:3], [0, FULL.key_speed, 0], atol=1e-12)
    np.testing.assert_allclose(key_delta(TCP_DOWN, {"e"}, FULL)[:3], [0, 0, -FULL.key_speed], atol=1e-12)


def test_shift_is_fine_and_opposite_keys_cancel() -> None:
    np.testing.assert_allclose(key_delta(TCP_DOWN, {"e", "shift"}, FULL)[2], -FULL.key_speed_fine)
    np.testing.assert_array_equal(key_delta(TCP_DOWN, {"w", "s", "unknown"}, FULL), 0.0)


def test_turning_keys_turn_about_base_axes() -> None:
    delta = key_delta(TCP_DOWN, {"j"}, FULL)
    np.testing.assert_allclose(delta[3:], [0, 0, -FULL.key_speed], atol=1e-12)


unit = st.floats(-1.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(unit, min_size=6, max_size=6), st.lists(unit, min_size=4, max_size=4))
def test_small_gizmo_offsets_are_reached_in_one_step(step: list[float], quat: list[float]) -> None:
    orientation = np.array(quat) if np.linalg.norm(quat) > 0.1 else np.array([1.0, 0, 0, 0])
    tcp = np.concatenate([[0.4, -0.2, 0.3], orientation / np.linalg.norm(orientation)])
    wanted = np.array(step)
    turn = frames.rotvec_to_quat(wanted[3:] * FULL.rotation_rad)
    gizmo = frames.compose(tcp, np.concatenate([wanted[:3] * FULL.translation_m, turn]))
    np.testing.assert_allclose(gizmo_delta(tcp, gizmo, FULL), wanted, atol=1e-9)


def test_a_far_gizmo_is_approached_straight_at_full_step() -> None:
    gizmo = moved(0.2, 0.1, -0.05)
    delta = gizmo_delta(TCP_DOWN, gizmo, FULL)
    step = frames.quat_to_matrix(TCP_DOWN[3:]) @ delta[:3]
    np.testing.assert_allclose(step, [1.0, 0.5, -0.25], atol=1e-12)


def test_the_action_has_the_envs_names_and_order() -> None:
    hand = teleop(TeleopConfig(action=("y", "z", "gripper")))
    hand.begin_drag("a", moved(0.01, 0.004, 0.0), 0.0)
    said = hand.read(0.0)
    assert said.engaged
    np.testing.assert_allclose(said.action, [0.5, 0.0, 0.0], atol=1e-12)


# -- who is in control ----------------------------------------------------------------------------
def test_nobody_is_engaged_at_first_and_a_key_engages_until_shortly_after_its_release() -> None:
    hand = teleop()
    assert not hand.read(0.0).engaged
    hand.set_keys("a", {"w"}, 0.1)
    assert hand.read(0.1).engaged
    hand.set_keys("a", set(), 0.2)
    lingering = hand.read(0.3)
    assert lingering.engaged
    np.testing.assert_array_equal(lingering.action, 0.0)
    assert not hand.read(0.2 + FULL.linger_s + 0.05).engaged
    assert hand.owner is None


@pytest.mark.parametrize("how", ["drag", "keys", "latch"])
def test_a_silent_page_loses_control_after_the_dead_mans_time(how: str) -> None:
    hand = teleop()
    if how == "drag":
        hand.begin_drag("a", TCP_DOWN, 0.0)
    elif how == "keys":
        hand.set_keys("a", {"w"}, 0.0)
    else:
        hand.take_over("a", True, 0.0)
    for now in np.arange(0.0, 2.0, 0.05):
        hand.observe_tcp(TCP_DOWN, now)
        assert hand.read(now).engaged == (now <= FULL.dead_man_s), now
    hand.heartbeat("a", 2.0)
    hand.drag("a", moved(0.1, 0.0, 0.0))
    assert not hand.read(2.0).engaged, "control must be taken anew, not come back by itself"


def test_a_stale_arm_pose_ends_control_and_refuses_it() -> None:
    hand = teleop()
    hand.take_over("a", True, 0.0)
    hand.heartbeat("a", 0.6)
    assert not hand.read(FULL.tcp_timeout_s + 0.1).engaged
    hand.take_over("a", True, 0.7)
    assert hand.owner is None


def test_leaving_releases_and_another_page_may_take_over_only_then() -> None:
    hand = teleop(pages=("a", "b"))
    hand.take_over("a", True, 0.0)
    hand.set_keys("b", {"e"}, 0.1)
    hand.begin_drag("b", moved(0.01, 0.01, 0.01), 0.1)
    hand.end_drag("b")
    said = hand.read(0.1)
    assert said.engaged and hand.owner == "a"
    np.testing.assert_array_equal(said.action, 0.0)
    hand.leave("b")
    assert hand.read(0.1).engaged
    hand.leave("a")
    assert not hand.read(0.1).engaged
    hand.heartbeat("b", 0.2)
    hand.take_over("b", True, 0.2)
    assert hand.read(0.2).engaged and hand.owner == "b"


def test_a_page_that_does_not_beat_cannot_take_control() -> None:
    hand = teleop(pages=())
    hand.set_keys("ghost", {"w"}, 0.0)
    hand.begin_drag("ghost", TCP_DOWN, 0.0)
    assert not hand.read(0.0).engaged


def test_letting_the_gizmo_go_gives_control_back_unless_taken_over() -> None:
    hand = teleop()
    far = moved(0.1, 0.0, 0.0)
    hand.begin_drag("a", far, 0.0)
    hand.end_drag("a")
    assert not hand.read(0.0).engaged
    hand.take_over("a", True, 0.0)
    hand.begin_drag("a", far, 0.0)
    hand.end_drag("a")
    said = hand.read(0.0)
    assert said.engaged
    np.testing.assert_array_equal(said.action, 0.0)


def test_a_drag_follows_the_gizmo() -> None:
    hand = teleop()
    hand.drag("a", moved(0.1, 0.0, 0.0))
    assert not hand.read(0.0).engaged, "it was not grabbed"
    hand.begin_drag("a", TCP_DOWN, 0.0)
    np.testing.assert_allclose(hand.read(0.0).action, 0.0, atol=1e-12)
    hand.drag("a", moved(0.01, 0.0, 0.0))
    np.testing.assert_allclose(hand.read(0.0).action[:3], [0.0, 0.5, 0.0], atol=1e-12)


# -- gripper --------------------------------------------------------------------------------------
def test_the_gripper_is_asked_until_its_target_agrees_then_kept() -> None:
    hand = teleop()
    hand.observe_gripper(1.0)
    hand.toggle_gripper("a", 0.0)
    assert hand.read(0.0).action[-1] == -1.0
    hand.observe_gripper(0.0)
    assert hand.read(0.05).action[-1] == 0.0
    hand.toggle_gripper("a", 0.1)
    assert hand.read(0.1).action[-1] == 1.0
    hand.toggle_gripper("a", 0.15)
    assert hand.read(0.15).action[-1] == 0.0, "two quick toggles: back to closed, which it is"


def test_an_unseen_gripper_command_ends_by_time() -> None:
    hand = teleop()
    hand.toggle_gripper("a", 0.0)
    assert hand.read(0.1).action[-1] == -1.0
    assert not hand.read(FULL.gripper_pulse_s + 0.05).engaged


# -- curves ---------------------------------------------------------------------------------------
def episode(**changes: object) -> str:
    values = {"phase": "learn", "episode": 3, "success": True, "steps": 10, "interventions": 2, "utd": 7.5}
    return json.dumps({**values, **changes})


def test_curves_are_window_averages() -> None:
    metrics = Metrics(window=2)
    for index, (success, steps, hands) in enumerate([(0, 10, 10), (1, 30, 0), (1, 10, 5)]):
        assert metrics.add_episode(episode(episode=index, success=bool(success), steps=steps, interventions=hands))
    curves = metrics.curves()
    np.testing.assert_array_equal(curves.episode, [1, 2, 3])
    np.testing.assert_allclose(curves.success_rate, [0, 0.5, 1])
    np.testing.assert_allclose(curves.intervention_rate, [1, 10 / 40, 5 / 40])
    np.testing.assert_array_equal(curves.length, [10, 30, 10])
    np.testing.assert_array_equal(curves.utd, [7.5] * 3)


def test_long_runs_are_thinned_and_keep_the_newest() -> None:
    metrics = Metrics(window=20)
    for index in range(3 * MAX_POINTS + 7):
        metrics.add_episode(episode(steps=index + 2))
    curves = metrics.curves()
    assert len(curves.episode) <= MAX_POINTS
    assert curves.episode[-1] == metrics.total and curves.length[-1] == 3 * MAX_POINTS + 8


def test_no_episodes_give_empty_curves() -> None:
    assert len(Metrics(window=5).curves().episode) == 0


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "null", '"x"', "[" * 5000, "{}", "x" * 100_000),
        *(episode(steps=-1), episode(steps="9"), episode(steps=None), episode(steps=math.inf)),
        *(episode(interventions=11), episode(success="yes"), episode(phase=3), episode(episode=math.nan)),
    ],
)
def test_malformed_episodes_are_ignored_and_counted(text: str) -> None:
    metrics = Metrics(window=5)
    assert not metrics.add_episode(text)
    assert metrics.malformed == 1 and metrics.total == 0


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_text_raises(text: str) -> None:
    parse_episode(text)
    parse_scalars(text)
    parse_input(text)


def test_scalars_keep_only_finite_numbers() -> None:
    assert parse_scalars('{"a": 1, "b": "x", "c": NaN, "d": true, "e": 2.5}') == {"a": 1.0, "e": 2.5}


# -- gate and input -------------------------------------------------------------------------------
def test_page_input_is_checked() -> None:
    good = parse_input('{"keys": ["w", 3], "press": "gripper", "hidden": false}')
    assert good is not None and good.keys == {"w"} and good.press == "gripper"
    for bad in (
        "[]",
        '{"keys": 3, "hidden": false}',
        '{"keys": [], "press": "fire", "hidden": false}',
        '{"keys": []}',
    ):
        assert parse_input(bad) is None


@pytest.mark.parametrize(
    ("host", "origin", "refused"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", False),
        ("localhost:9000", "http://localhost:9000", False),  # the near end of an SSH tunnel
        ("127.0.0.1:8080", "http://evil.example", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", True),
        ("127.0.0.1:8080", "", True),
        ("evil.example", "http://evil.example", True),  # DNS rebinding
    ],
)
def test_sockets_must_come_from_the_page(host: str, origin: str, refused: bool) -> None:
    headers = Headers({"Host": host, "Origin": origin} if origin else {"Host": host})
    assert (Gate("127.0.0.1", 8080, None).refusal(headers, {}, True) is not None) == refused


def test_a_token_is_asked_for_by_query_or_cookie() -> None:
    gate, token = Gate("192.168.1.7", 8080, "a-long-enough-token"), "a-long-enough-token"
    headers = Headers({"Host": "robot:8080", "Origin": "http://robot:8080"})
    assert gate.refusal(headers, {}, False) is not None
    assert gate.refusal(headers, {"token": ["wrong-wrong-wrong"]}, False) is not None
    assert gate.refusal(headers, {"token": [token]}, False) is None
    headers["Cookie"] = f"other=1; robot_rl_token={token}"
    assert gate.refusal(headers, {}, True) is None


# -- status ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"armed": "true", "source": "policy"}, "policy"),
        ({"armed": "true", "source": "human"}, "human"),
        ({"armed": "true", "source": "nonsense"}, "hold"),
        ({"armed": "false", "source": "policy", "mode": "disarmed"}, "disarmed"),
        ({"armed": "false", "mode": "fault", "reason": "pose jump"}, "fault"),
        ({}, "disarmed"),
    ],
)
def test_the_banner_says_who_is_in_control(values: dict[str, str], state: str) -> None:
    view = guard_view(values)
    assert view.state == state
    assert view.is_armed == (values.get("armed") == "true")
    shown = banner(view, "", "")
    assert (shown["title"], shown["color"]) == STYLES[state]


def test_a_silent_guard_and_its_counts() -> None:
    assert banner(None, "", "")["state"] == "silent"
    counts = {"armed": "true", "rejections": '{"nan": 2}', "rejected.nan": "2", "rejected.stale": "3"}
    assert guard_view(counts).rejections == 5


def test_the_page_shows_what_steering_chose() -> None:
    values = {"chunks.late": "9", "chunks.held": "0", "steering.base_rank": "3", "steering.value": "0.71"}
    values |= {"steering.spread": "0.05", "steering.samples": "16"}
    assert list(diagnostic_figures("deploy", values, GuiConfig().figures).items()) == [
        ("deploy steering value", "0.71"),
        ("deploy steering spread", "0.05"),
        ("deploy steering base rank", "3"),
        ("deploy steering samples", "16"),
        ("deploy chunks held", "0"),
    ]
    assert diagnostic_figures("deploy", {}, GuiConfig().figures) == {}


# -- what is drawn --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "module", "flange_body"),
    [("fr3", fr3, "gripper_right_gripper"), ("ur5e", ur5e, "gripper_robotiq_85_adapter_link")],
)
def test_the_drawn_arm_is_light_and_agrees_with_the_arms_kinematics(
    name: str, module: ModuleType, flange_body: str
) -> None:
    model = RobotModel(name, cell_m=0.008)
    assert 3000 < sum(len(mesh.faces) for mesh in model.meshes) < 30000
    options = {"calibration_file": None} if name == "ur5e" else {}
    count = len(model.joint_names)
    bound = np.full(count, 7.0)
    kinematics = Kinematics(module.chain(options), -bound, bound, np.zeros(count))
    for seed in range(5):
        joints = np.random.default_rng(seed).uniform(-2.5, 2.5, count)
        assert model.set_joints(dict(zip(model.joint_names, joints, strict=True))) == count
        drawn = model.body_poses()[flange_body][0]
        # robosuite rounds the arms' lengths to 1 mm.
        np.testing.assert_allclose(drawn, kinematics.forward(joints)[:3], atol=2e-3)


def test_joints_are_found_by_name_with_any_prefix() -> None:
    model = RobotModel("fr3", cell_m=0.02)
    before = model.body_poses()["link2"][1]
    assert model.set_joints({"fr3_joint1": 1.0, "elbow": 2.0, "fr3_joint3": math.nan}) == 1
    after = model.body_poses()["link2"][1]
    assert frames.geodesic_rad(before, after) == pytest.approx(1.0, abs=1e-6)
    assert frames.geodesic_rad(before, before) == pytest.approx(0.0, abs=1e-6)


def test_the_gripper_opens_by_the_fingers_stroke() -> None:
    model = RobotModel("fr3", cell_m=0.02)

    def gap() -> float:
        poses = model.body_poses()
        return float(np.linalg.norm(poses["gripper_leftfinger"][0] - poses["gripper_rightfinger"][0]))

    model.set_gripper(0.0)
    closed = gap()
    model.set_gripper(1.0)
    assert gap() - closed == pytest.approx(0.08, abs=1e-6)
    model.set_gripper(7.0)
    assert gap() - closed == pytest.approx(0.08, abs=1e-6)


def test_a_port_that_cannot_be_is_refused() -> None:
    for port in (-1, 80000):
        with pytest.raises(ConfigError, match=f"port must be in 0 to 65535 .*, got {port}"):
            GuiConfig(port=port)


def test_unknown_arms_name_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="fr3, ur5e"):
        RobotModel("hexapod")


def test_thinning_keeps_the_shape_and_drops_collapsed_faces() -> None:
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41)), -1).reshape(-1, 2)
    vertices = np.column_stack([grid, np.zeros(len(grid))])
    corner = np.arange(40)[:, None] * 41 + np.arange(40)
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 42], -1).reshape(-1, 3),
                            np.stack([corner, corner + 42, corner + 41], -1).reshape(-1, 3)])  # fmt: skip
    thinned, kept = thin(vertices, faces, 0.1)
    assert len(kept) < len(faces) / 8
    assert np.abs(thinned[:, 2]).max() == 0.0
    a, b, c = (thinned[kept[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert area.min() > 0.0
    assert 0.75 < area.sum() <= 1.01


def test_a_box_has_twelve_edges_between_neighbouring_corners() -> None:
    low, high = np.array([0.0, -1.0, 2.0]), np.array([1.0, 1.0, 5.0])
    edges = box_edges(low, high)
    assert edges.shape == (12, 2, 3)
    assert sorted(np.abs(edges[:, 1] - edges[:, 0]).sum(axis=1)) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert len({tuple(map(tuple, edge)) for edge in edges}) == 12


@pytest.mark.parametrize("size", [(30, 30), (480, 640), (40, 400), (1, 1)])
def test_images_are_fitted_into_the_middle_of_one_frame(size: tuple[int, int]) -> None:
    framed = letterbox(np.full((*size, 3), 200, np.uint8), 320)
    inside = (framed == 200).all(axis=-1)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert framed.shape == (round(320 / IMAGE_ASPECT), 320, 3)
    assert inside.sum() == len(rows) * len(columns)
    assert len(columns) / len(rows) == pytest.approx(size[1] / size[0], rel=0.04)
    assert len(rows) == framed.shape[0] or len(columns) == framed.shape[1]
    assert abs(rows[0] + rows[-1] - (framed.shape[0] - 1)) <= 1
    assert abs(columns[0] + columns[-1] - (framed.shape[1] - 1)) <= 1


# -- configuration --------------------------------------------------------------------------------
def test_configuration_comes_from_plain_values_and_the_robot() -> None:
    config = to_dataclass(
        GuiConfig, {"cameras": ["left"], "objects": [{"name": "cube", "size_m": [0.1, 0.2, 0.3]}]}, "gui"
    ).for_robot({"model": "ur5e", "guard": {"workspace_low_m": [0, -1, 0], "workspace_high_m": [1, 1, math.inf]}})
    assert config.model == "ur5e" and config.objects[0].size_m == (0.1, 0.2, 0.3)
    low, high = workspace(config)
    np.testing.assert_array_equal(low, [0, -1, 0])
    np.testing.assert_array_equal(high, [1, 1, 1])
    assert GuiConfig(model="fr3").for_robot({"model": "ur5e"}).model == "fr3"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"camera": []}, "did you mean 'cameras'"),
        ({"image_rate_hz": 0.0}, "positive"),
        ({"teleop": {"action": ["z", "x"]}}, "order"),
        ({"teleop": {"action": ["q"]}}, "valid choices"),
        ({"workspace_low_m": [1, 0, 0], "workspace_high_m": [1, 1, 1]}, "below"),
    ],
)
def test_wrong_configurations_are_refused_with_a_reason(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_dataclass(GuiConfig, values, "gui")
