"""The simulated robot as a process: state, cameras, targets, resets, keeping time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from hardware import ros_messages
from hardware.nodes.sim_robot_config import SimRobotConfig, make_world
from hardware.pacing import Pacer
from robot_rl.actor import episode_seed
from robot_rl.errors import ConfigError
from robot_rl.types import TaskState
from tests.hardware.guard_rig import PATIENCE_S, Rig, shifted


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as made:
        made.start_sim(cameras=["front", "wrist"], seed=40)
        made.wait(lambda: bool(made.poses), "the robot to speak")
        yield made


def hear(rig: Rig, kind: Any, topic: str, count: int = 1) -> list[Any]:
    """The next `count` messages of a topic."""
    heard: list[Any] = []
    subscription = rig.link.node.create_subscription(kind, topic, heard.append, qos_profile_sensor_data)
    rig.wait(lambda: len(heard) >= count, topic)
    rig.link.node.destroy_subscription(subscription)
    return heard


def seed_of(rig: Rig) -> float:
    assert rig.task is not None
    return dict(zip(rig.task.name, rig.task.position, strict=True))["seed"]


def test_state_topics_carry_the_world(rig: Rig) -> None:
    joints = hear(rig, JointState, "joint_states")[0]
    assert list(joints.name) == [f"joint{i}" for i in range(1, 8)]
    np.testing.assert_allclose(joints.position, np.arange(7) / 10.0)
    gripper = hear(rig, JointState, "gripper/state")[0]
    assert (list(gripper.name), list(gripper.position)) == (["gripper"], [1.0])
    assert hear(rig, TwistStamped, "current_twist")[0].header.frame_id == "base"
    assert hear(rig, WrenchStamped, "external_wrench")[0].wrench.force.x == 0.0
    task = ros_messages.read_task(hear(rig, JointState, "task/state")[0])
    assert task is not None and not task.success
    assert set(task.poses) == {"cube"}


def test_rate_and_stamps(rig: Rig) -> None:
    poses = hear(rig, PoseStamped, "current_pose", 50)
    stamps = np.array([ros_messages.seconds_of(message.header.stamp) for message in poses])
    assert np.all(np.diff(stamps) > 0)
    assert np.median(np.diff(stamps)) == pytest.approx(0.02, abs=0.004)
    assert abs(stamps[-1] - time.time()) < 5.0


def test_each_camera_shows_its_own_pictures_on_both_topics(rig: Rig) -> None:
    for camera, number in (("front", 11), ("wrist", 22)):
        images = [ros_messages.read_image(m) for m in hear(rig, Image, f"{camera}/color/image_raw", 3)]
        for image in images:
            assert image is not None and image.shape == (48, 64, 3)
            np.testing.assert_array_equal(image[:, :32], 0)
            np.testing.assert_array_equal(image[:, 32:, 1], number)
            np.testing.assert_array_equal(image[:, 32:, 2], 7)
        counts = [int(image[0, 40, 0]) for image in images if image is not None]
        assert counts == sorted(set(counts))
        jpeg = hear(rig, CompressedImage, f"{camera}/color/image_raw/compressed")[0]
        picture = ros_messages.read_compressed(jpeg)
        assert picture is not None and abs(int(picture[24, 48, 1]) - number) <= 6


def test_camera_info_comes_with_the_images(rig: Rig) -> None:
    images: list[Image] = []
    subscription = rig.link.node.create_subscription(
        Image, "front/color/image_raw", images.append, qos_profile_sensor_data
    )
    info = hear(rig, CameraInfo, "front/color/camera_info")[0]
    rig.link.node.destroy_subscription(subscription)
    assert (info.height, info.width) == (48, 64)
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), [[50, 0, 32], [0, 50, 24], [0, 0, 1]])


def test_reset_counts_seeds_up_and_answers_when_the_new_state_is_out(rig: Rig) -> None:
    client = rig.link.node.create_client(SetParameters, "sim_robot/set_parameters")

    def set_seed(value: ParameterValue) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
        return rig.link.call(client, request, PATIENCE_S).results[0]

    assert set_seed(ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=70)).successful
    for seed in (70, 71, 72):
        rig.task = None
        response = rig.call("reset_world")
        assert response.success and json.loads(response.message) == {"seed": seed}
        # What is published from now on is of the new world; the first of it is already on its way.
        asked_s = time.monotonic()
        rig.wait(lambda seed=seed: rig.task is not None and seed_of(rig) == seed, "the new state")
        assert time.monotonic() - asked_s < 5.0
    far = episode_seed(4242, "learn", 0)  # beyond 32 bits
    assert set_seed(ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=far)).successful
    assert json.loads(rig.call("reset_world").message) == {"seed": far}
    refused = set_seed(ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=-1))
    assert not refused.successful and "seed must be" in refused.reason


def test_targets_are_obeyed_only_when_fresh_sound_and_from_one_publisher(rig: Rig) -> None:
    node = rig.link.node
    rig.call("reset_world")
    before_reset_s = rig.link.now_s() - 0.5
    time.sleep(0.2)
    start = rig.poses[-1].copy()

    def send(publisher: Any, offset: float, stamp_s: float | None = None, scale: float = 1.0) -> None:
        pose = shifted(start, offset)
        pose[3:] *= scale
        for _ in range(5):
            publisher.publish(ros_messages.pose_message(pose, rig.link.now_s() if stamp_s is None else stamp_s, "base"))
            time.sleep(0.04)

    def moved() -> bool:
        return abs(rig.poses[-1][0] - start[0]) > 1e-6

    guard = node.create_publisher(PoseStamped, "target_pose", 1)
    rig.wait(lambda: guard.get_subscription_count() >= 2, "discovery")  # the robot and the ear
    second = node.create_publisher(PoseStamped, "target_pose", 1)
    time.sleep(0.5)
    send(guard, 0.05)
    assert not moved()
    node.destroy_publisher(second)
    time.sleep(0.5)
    send(guard, 0.05, before_reset_s)
    send(guard, 0.05, rig.link.now_s() - 2.0)
    send(guard, float("nan"))
    send(guard, 0.05, scale=1.1)
    assert not moved()
    send(guard, 0.05)
    rig.wait(lambda: abs(rig.poses[-1][0] - start[0] - 0.05) < 1e-3, "the motion")
    node.destroy_publisher(guard)


def test_diagnostics_report_time_keeping_and_a_missing_guard(rig: Rig) -> None:
    heard: list[DiagnosticStatus] = []

    def keep(message: DiagnosticArray) -> None:
        heard.extend(status for status in message.status if status.name == "sim_robot")

    rig.link.node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
    rig.wait(lambda: len(heard) > 0 and heard[-1].level != DiagnosticStatus.OK, "diagnostics")
    values = {pair.key: pair.value for pair in heard[-1].values}
    assert 0.3 < float(values["real_time_factor"]) < 1.5
    assert values["target_publishers"] == "0"
    assert "must be 1" in heard[-1].message


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_pacer_keeps_the_grid_while_work_fits() -> None:
    clock = Clock()
    pacer = Pacer(clock)
    for work_s in (0.0, 0.03, 0.09, 0.1, 0.02):
        pacer.schedule(0.1, 0.1)
        clock.now_s += work_s
        clock.now_s += pacer.remaining_s()
    assert clock.now_s == pytest.approx(50.5)
    assert pacer.late_ticks == 0


def test_pacer_catches_up_small_lags_and_drops_large_ones() -> None:
    clock = Clock()
    pacer = Pacer(clock)
    clock.now_s += 0.15
    pacer.schedule(0.1, 0.1)
    assert pacer.remaining_s() == pytest.approx(-0.05)  # the next period is shorter
    pacer.schedule(0.1, 0.1)
    assert pacer.remaining_s() == pytest.approx(0.05)
    clock.now_s += 1.0
    pacer.schedule(0.1, 0.1)
    assert pacer.remaining_s() == pytest.approx(0.0)
    assert (pacer.late_ticks, pacer.lost_s) == (1, pytest.approx(0.85))
    pacer.schedule(0.1, 0.1)
    assert pacer.remaining_s() == pytest.approx(0.1)


@pytest.mark.parametrize("world", ["nowhere:make", "json", "json:nothing"])
def test_unknown_world(world: str) -> None:
    with pytest.raises(ConfigError, match=r"package\.module:function"):
        make_world(SimRobotConfig(world=world), "panda")


@pytest.mark.parametrize("world", ["", "tests.hardware.guard_rig:GlidingWorld"])
def test_world_options_that_the_world_does_not_take(world: str) -> None:
    with pytest.raises(ConfigError, match=r"world_options .*'colour'"):
        make_world(SimRobotConfig(world=world, world_options={"colour": 3}), "panda")


def test_a_task_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"nowhere/family\.json cannot be read"):
        make_world(SimRobotConfig(task="nowhere/family.json"), "panda")


def test_a_robot_with_other_joints_than_the_worlds_is_refused() -> None:
    with Rig() as rig:
        process = rig.start("sim_robot", robot="sim_ur5e", world="tests.hardware.guard_rig:GlidingWorld", cameras=[])
        assert process.wait(PATIENCE_S) == 2


@pytest.mark.parametrize(
    ("names", "positions", "value"),
    [
        (["gripper"], [0.25], 0.25),
        (["arm", "gripper"], [3.0, 0.5], 0.5),
        (["fr3_finger"], [0.75], 0.75),
        ([], [], None),
        (["gripper"], [], None),
        (["gripper"], [float("nan")], None),
        (["left", "right"], [0.1, 0.2], None),
        (["left", "right"], [0.1, float("nan")], None),
    ],
)
def test_reading_a_gripper(names: list[str], positions: list[float], value: float | None) -> None:
    assert ros_messages.read_gripper(JointState(name=names, position=positions)) == value


def test_task_state_survives_the_wire_and_damage_is_noticed() -> None:
    pose = np.array([0.1, -0.2, 0.3, 0.6, 0.0, 0.8, 0.0])
    task = TaskState(7.25, {"cube": pose, "door.handle": -pose}, {"angle": 0.5}, True)
    message = ros_messages.task_message(task, 7.25)
    back = ros_messages.read_task(message)
    assert back is not None and back.success and back.stamp_s == 7.25
    assert dict(back.scalars) == {"angle": 0.5}
    np.testing.assert_array_equal(back.poses["door.handle"], -pose)
    for index in range(len(message.name)):
        values = list(message.position)
        values[index] = float("nan")
        broken = JointState(name=list(message.name), position=values)
        assert ros_messages.read_task(broken) is None
    for field in ("cube.y", "success"):
        keep = [i for i, name in enumerate(message.name) if name != field]
        names, values = list(message.name), list(message.position)
        partial = JointState(name=[names[i] for i in keep], position=[values[i] for i in keep])
        assert ros_messages.read_task(partial) is None


def decoded(message: Image) -> NDArray[np.uint8]:
    image = ros_messages.read_image(message)
    assert image is not None
    return image


def test_images_of_other_encodings_and_with_padded_rows() -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = np.concatenate([rgb[:, :, ::-1].reshape(2, 9), np.full((2, 3), 99, np.uint8)], axis=1)
    message = Image(height=2, width=3, encoding="bgr8", step=12, data=padded.tobytes())
    np.testing.assert_array_equal(decoded(message), rgb)
    alpha = np.concatenate([rgb, np.full((2, 3, 1), 255, np.uint8)], axis=2)
    message = Image(height=2, width=3, encoding="rgba8", step=12, data=alpha.tobytes())
    np.testing.assert_array_equal(decoded(message), rgb)
    mono = Image(height=2, width=3, encoding="mono8", step=3, data=bytes(range(6)))
    np.testing.assert_array_equal(decoded(mono)[:, :, 2], np.arange(6).reshape(2, 3))
    for change in ({"encoding": "yuv422"}, {"height": 3}, {"step": 2}, {"width": 0}):
        sound: dict[str, Any] = {"height": 2, "width": 3, "encoding": "mono8", "step": 3, "data": bytes(6)}
        broken = Image(**{**sound, **change})
        assert ros_messages.read_image(broken) is None
    assert ros_messages.read_compressed(CompressedImage(data=b"not a jpeg")) is None
    assert ros_messages.read_compressed(CompressedImage()) is None


def test_fit_crops_the_middle_and_scales() -> None:
    image = np.zeros((48, 80, 3), np.uint8)
    image[:, 16:64] = 200  # the middle square
    fitted = ros_messages.fit(image, (24, 24))
    assert fitted.shape == (24, 24, 3)
    np.testing.assert_array_equal(fitted, 200)
    np.testing.assert_array_equal(ros_messages.fit(image, (48, 80)), image)


@pytest.mark.parametrize("stamp_s", [float("nan"), float("inf"), -1.0, 0.0, 1e12])
def test_impossible_stamps_become_the_zero_time(stamp_s: float) -> None:
    assert ros_messages.seconds_of(ros_messages.stamp_of(stamp_s)) == 0.0
    assert ros_messages.seconds_of(ros_messages.stamp_of(1795234092.25)) == 1795234092.25
