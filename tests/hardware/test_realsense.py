"""The RealSense camera through librealsense's own pipeline, from a recording of a software device.

Frame n has red = n and depth = 1000 + n mm, so that a frame that is late, swapped or misaligned shows.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hardware.nodes.realsense import RealSenseNode, RealSenseNodeConfig
from hardware.realsense import RealSenseCamera, RealSenseConfig, is_of_the_same_moment
from hardware.ros_messages import read_compressed, read_diagnostics, read_image, seconds_of
from robot_rl.errors import ConfigError, HardwareError, StaleError
from robot_rl.types import CameraFrame

rs: Any = pytest.importorskip("pyrealsense2")

WIDTH, HEIGHT, FPS = 64, 48, 30
SERIAL = "123456"
COLOR_FX, COLOR_CX, DEPTH_CX = 60.0, 32.0, 24.0
FRAMES = 14
MARK = (slice(20, 24), slice(10, 20))  # a patch of other depth, in the depth image
MARK_MM = 500
PATIENCE_S = 20.0


def profile(kind: Any, form: Any, uid: int, bytes_per_pixel: int, cx: float) -> Any:
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid, stream.fmt = kind, 0, uid, form
    stream.width, stream.height, stream.fps, stream.bpp = WIDTH, HEIGHT, FPS, bytes_per_pixel
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = WIDTH, HEIGHT
    intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = COLOR_FX, 61.0, cx, 24.0
    intrinsics.model, intrinsics.coeffs = rs.distortion.none, [0.0] * 5
    stream.intrinsics = intrinsics
    return stream


def send(sensor: Any, stream: Any, pixels: np.ndarray, number: int) -> None:
    frame = rs.software_video_frame()
    frame.pixels, frame.bpp = pixels, pixels[0, 0].nbytes
    frame.stride = WIDTH * frame.bpp
    frame.timestamp, frame.domain = number * 1000.0 / FPS, rs.timestamp_domain.hardware_clock
    frame.frame_number, frame.profile = number, stream.as_video_stream_profile()
    sensor.on_video_frame(frame)


def color_of(number: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = number, 200
    return pixels


def depth_of(number: int) -> np.ndarray:
    millimetres = np.full((HEIGHT, WIDTH), 1000 + number, np.uint16)
    millimetres[MARK] = MARK_MM
    return millimetres


def record(path: Path, *, with_color: bool = True, with_depth: bool = True) -> Path:
    """`FRAMES` framesets at the camera's rate."""
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, SERIAL)
    streams = []
    if with_depth:
        sensor = device.add_sensor("Depth")
        sensor.add_read_only_option(rs.option.depth_units, 0.001)
        depth = sensor.add_video_stream(profile(rs.stream.depth, rs.format.z16, 0, 2, DEPTH_CX))
        streams.append((sensor, depth, depth_of))
    if with_color:
        sensor = device.add_sensor("Color")
        color = sensor.add_video_stream(profile(rs.stream.color, rs.format.rgb8, 1, 3, COLOR_CX))
        streams.append((sensor, color, color_of))
    together = rs.extrinsics()
    together.rotation, together.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
    streams[0][1].register_extrinsics_to(streams[-1][1], together)
    recorder = rs.recorder(str(path), device)
    recorded, queue = recorder.query_sensors(), rs.frame_queue(100)
    for sensor, (_, stream, _) in zip(recorded, streams, strict=True):
        sensor.open(stream)
        sensor.start(queue)
    for number in range(FRAMES):
        for sensor, stream, pixels_of in streams:
            send(sensor, stream, pixels_of(number), number)
        time.sleep(1.0 / FPS)  # the recorder writes by the clock
    for sensor in recorded:
        sensor.stop()
        sensor.close()
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("realsense") / "recording.db3")


class Collected:
    """A camera and everything it has sent."""

    def __init__(self, **changes: object) -> None:
        defaults = {"frame_timeout_s": 0.4, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2, "fps": FPS}
        self.frames: list[CameraFrame] = []
        self.camera = RealSenseCamera(RealSenseConfig(**{**defaults, **changes}), self.frames.append)  # type: ignore[arg-type]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"waited for {what}: {self.camera.status()}"
            time.sleep(0.01)


@pytest.fixture
def collect() -> Iterator[Callable[..., Collected]]:
    made: list[Collected] = []

    def build(**changes: object) -> Collected:
        made.append(Collected(**changes))
        return made[-1]

    yield build
    for collected in made:
        collected.camera.close()


def test_colour_and_depth_belong_together_and_depth_is_aligned(
    recording: Path, collect: Callable[..., Collected]
) -> None:
    playing = collect(playback_file=str(recording), serial=SERIAL, reconnect_min_s=100.0, reconnect_max_s=100.0)
    playing.camera.start()
    playing.until(lambda: not playing.camera.status().connected, "the recording to end")
    assert playing.camera.status().serial == SERIAL
    whole = [frame for frame in playing.frames if frame.depth_m is not None]
    assert len(whole) >= FRAMES // 2
    numbers = []
    for frame in whole:
        number = int(frame.color[0, 0, 0])
        numbers.append(number)
        assert frame.color.shape == (HEIGHT, WIDTH, 3) and frame.color.dtype == np.uint8
        np.testing.assert_array_equal(frame.color, color_of(number))
        assert frame.intrinsics == (COLOR_FX, 61.0, COLOR_CX, 24.0)
        depth_m = frame.depth_m
        assert depth_m is not None and depth_m.dtype == np.float32 and depth_m.shape == (HEIGHT, WIDTH)
        # The depth camera's axis lies 8 pixels further left: aligned, its image is moved to the right.
        shift = int(COLOR_CX - DEPTH_CX)
        middle = depth_m[22, MARK[1].start + shift + 1 : MARK[1].stop + shift - 1]
        np.testing.assert_allclose(middle, MARK_MM * 1e-3, atol=1e-6)
        assert depth_m[22, MARK[1].start + shift - 2] == pytest.approx((1000 + number) * 1e-3, abs=1e-6)
        assert depth_m[40, 50] == pytest.approx((1000 + number) * 1e-3, abs=1e-6)
    assert numbers == sorted(set(numbers)), "frames came twice or out of order"
    # The recording's own stamps (seconds since its start) are no time of this host.
    assert all(abs(frame.stamp_s - time.time()) < 60.0 for frame in playing.frames)


def test_framesets_without_a_stream(tmp_path: Path, collect: Callable[..., Collected]) -> None:
    path = record(tmp_path / "colour.db3", with_depth=False)
    playing = collect(playback_file=str(path), reconnect_min_s=100.0, reconnect_max_s=100.0)
    playing.camera.start()
    playing.until(lambda: not playing.camera.status().connected, "the recording to end")
    status = playing.camera.status()
    assert status.frames == len(playing.frames) > 0
    assert status.incomplete == status.frames, "missing depth was not counted"
    for frame in playing.frames:
        assert frame.depth_m is None
        np.testing.assert_array_equal(frame.color, color_of(int(frame.color[0, 0, 0])))

    path = record(tmp_path / "depth.db3", with_color=False)
    with pytest.raises(HardwareError, match=f"camera {SERIAL} has no colour stream"):
        RealSenseCamera(RealSenseConfig(playback_file=str(path))).start()


def test_depth_of_another_moment_is_told_apart() -> None:
    def frame(timestamp_ms: float, domain: str = "device") -> SimpleNamespace:
        return SimpleNamespace(get_timestamp=lambda: timestamp_ms, get_frame_timestamp_domain=lambda: domain)

    assert is_of_the_same_moment(frame(1000.0), frame(1033.0), FPS)
    assert not is_of_the_same_moment(frame(1000.0), frame(933.0), FPS)
    assert is_of_the_same_moment(frame(1000.0), frame(0.0, "host"), FPS)


def test_stale_is_refused_and_the_reason_told(recording: Path, collect: Callable[..., Collected]) -> None:
    playing = collect(playback_file=str(recording), reconnect_min_s=100.0, reconnect_max_s=100.0, stale_s=0.3)
    with pytest.raises(StaleError, match="has sent no frame yet"):
        playing.camera.read()
    playing.camera.start()
    playing.until(lambda: bool(playing.frames), "a frame")
    assert playing.camera.read().color[0, 0, 2] == 200
    playing.until(lambda: not playing.camera.status().connected, "the recording to end")
    time.sleep(0.3)
    with pytest.raises(StaleError, match=r"newest frame is .* s old: the recording .* has ended"):
        playing.camera.read()


def test_reconnects_with_back_off(recording: Path, tmp_path: Path, collect: Callable[..., Collected]) -> None:
    path = tmp_path / "unplugged.db3"
    shutil.copy(recording, path)
    playing = collect(playback_file=str(path))
    playing.camera.start()
    playing.until(lambda: playing.camera.status().connections >= 2, "a second connection")
    path.unlink()
    playing.until(lambda: "no recording" in playing.camera.status().error, "the loss to be noticed")
    before = playing.camera.status()
    time.sleep(0.5)
    assert playing.camera.status().connections == before.connections
    shutil.copy(recording, path)
    playing.until(lambda: playing.camera.status().frames > before.frames, "frames after the return")
    assert playing.camera.read().color[0, 0, 2] == 200
    assert playing.camera.status().error == ""
    started = time.monotonic()
    playing.camera.close()
    assert time.monotonic() - started < 5.0
    count = len(playing.frames)
    time.sleep(0.1)
    assert len(playing.frames) == count and not playing.camera.status().connected


def test_what_is_absent_is_named(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"no RealSense camera 000000000000; connected serials: "):
        RealSenseCamera(RealSenseConfig(serial="000000000000")).start()
    with pytest.raises(HardwareError, match=rf"no RealSense camera 777 in .*; recorded serials: {SERIAL}"):
        RealSenseCamera(RealSenseConfig(serial="777", playback_file=str(recording))).start()
    with pytest.raises(HardwareError, match="no recording"):
        RealSenseCamera(RealSenseConfig(playback_file=str(tmp_path / "none.db3"))).start()
    damaged = tmp_path / "damaged.db3"
    damaged.write_bytes(b"not a recording")
    with pytest.raises(HardwareError, match="cannot play"):
        RealSenseCamera(RealSenseConfig(playback_file=str(damaged))).start()
    with pytest.raises(ConfigError, match="fps must be a positive number"):
        RealSenseConfig(fps=0)
    with pytest.raises(ConfigError, match="reconnect_max_s"):
        RealSenseConfig(reconnect_max_s=0.1)


def test_node_publishes_the_contract(recording: Path) -> None:
    context = Context()
    rclpy.init(context=context)
    config = {
        "playback_file": str(recording),
        "camera": "wrist",
        "reconnect_min_s": 0.1,
        "frame_timeout_s": 0.4,
    }
    view = {"crop": [0.25, 0.0, 0.75, 1.0]}
    node = RealSenseNode("realsense", RealSenseNodeConfig, context, json.dumps({**config, "view": view}))
    listener = Node("listener", context=context)
    got: dict[str, list] = {}
    topics = {
        "wrist/color/image_raw": Image,
        "wrist/color/image_raw/compressed": CompressedImage,
        "wrist/color/camera_info": CameraInfo,
        "wrist/aligned_depth_to_color/image_raw": Image,
        "/diagnostics": DiagnosticArray,
    }
    for topic, kind in topics.items():
        got[topic] = []
        listener.create_subscription(kind, topic, got[topic].append, qos_profile_sensor_data)
    executor = EventsExecutor(context=context)
    executor.add_node(node)
    executor.add_node(listener)
    try:
        assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() is TransitionCallbackReturn.SUCCESS
        end_s = time.monotonic() + PATIENCE_S
        while any(len(messages) < 3 for messages in got.values()):
            assert time.monotonic() < end_s, {topic: len(messages) for topic, messages in got.items()}
            executor.spin_once(timeout_sec=0.05)
    finally:
        node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        listener.destroy_node()
        rclpy.shutdown(context=context)

    colors = {seconds_of(message.header.stamp): read_image(message) for message in got["wrist/color/image_raw"]}
    for message in got["wrist/color/image_raw"]:
        assert message.header.frame_id == "wrist_color_optical_frame"
    for color in colors.values():
        assert color is not None and color.shape == (HEIGHT, WIDTH // 2, 3)
        np.testing.assert_array_equal(color, color_of(int(color[0, 0, 0]))[:, : WIDTH // 2])
    paired = 0
    for message in got["wrist/aligned_depth_to_color/image_raw"]:
        color = colors.get(seconds_of(message.header.stamp))
        assert message.encoding == "16UC1" and message.step == WIDTH
        depth = np.frombuffer(message.data, "<u2").reshape(HEIGHT, WIDTH // 2)
        if color is not None:
            assert depth[40, 10] == 1000 + int(color[0, 0, 0])
            paired += 1
    assert paired > 0, "no depth with the stamp of a colour image"
    decoded = read_compressed(got["wrist/color/image_raw/compressed"][0])
    assert decoded is not None and abs(int(decoded[0, 0, 2]) - 200) < 8
    info = got["wrist/color/camera_info"][0]
    assert (info.width, info.height) == (WIDTH // 2, HEIGHT)
    assert info.k[0] == COLOR_FX and info.k[2] == COLOR_CX - WIDTH / 4
    values = read_diagnostics(got["/diagnostics"][-1])
    assert values["serial"] == SERIAL and int(values["frames"]) > 0
