"""A RealSense camera: colour with depth aligned to it, found by serial number, back by itself after a loss.

A thread of its own reads the device, since `wait_for_frames` blocks and a frame that nobody fetches ages
in librealsense's queue. The newest frame wins.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, HardwareError, StaleError
from robot_rl.typed import check_positive
from robot_rl.types import CameraFrame

MAX_CLOCK_ERROR_S = 1.0
"""A frame's own stamp that is further than this from the host's clock is not one of the host's clock."""


@dataclass(frozen=True)
class RealSenseConfig:
    """Which camera, what it sends, and when it counts as lost."""

    serial: str = ""
    """Serial number, as `robot-rl doctor` lists it; empty takes the first camera that is free."""
    width: int = 640
    """Width of the colour image, pixels."""
    height: int = 480
    """Height of the colour image, pixels."""
    fps: int = 30
    """Frames per second."""
    depth: bool = True
    """Whether depth is read too, at the same size, and aligned to colour."""
    playback_file: str = ""
    """A recording (.db3, .bag) to play instead of a camera, once per connection."""
    stale_s: float = 0.2
    """`read` refuses a frame older than this: 6 frames at 30 fps."""
    frame_timeout_s: float = 1.0
    """Without a frame for so long, the connection is given up and made anew."""
    reconnect_min_s: float = 0.5
    """First pause before a new connection; each failure doubles it."""
    reconnect_max_s: float = 8.0
    """Longest pause between attempts."""

    def __post_init__(self) -> None:
        check_positive(self, "width", "height", "fps", "stale_s", "frame_timeout_s", "reconnect_min_s")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ConfigError(f"reconnect_max_s {self.reconnect_max_s} is below reconnect_min_s")
        if not self.serial.isascii():
            raise ConfigError(f"serial {self.serial!r} is not a serial number")


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How the camera has fared. Counts since the start."""

    connected: bool
    serial: str
    usb: str  # type of the USB connection, "3.2" or "2.1"; empty when unknown
    frames: int
    incomplete: int  # framesets without colour, or without the depth that was asked for
    connections: int
    error: str  # why it is not connected; empty when it is


class RealSenseCamera:
    """Implements `robot_rl.protocols.Camera`. `start` it, `read` it, `close` it."""

    def __init__(self, config: RealSenseConfig, on_frame: Callable[[CameraFrame], None] | None = None) -> None:
        """`on_frame` is called in the reader's thread with each new frame."""
        self.config = config
        self._on_frame = on_frame
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._newest: tuple[float, CameraFrame] | None = None
        self._connection: _Connection | None = None
        self._serial = self._usb = self._error = ""
        self._frames = self._incomplete = self._connections = 0

    def start(self) -> None:
        """Connect and begin to read. Raises `HardwareError` when the camera is not there."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._connect()
        self._thread = threading.Thread(target=self._run, name="realsense", daemon=True)
        self._thread.start()

    def read(self) -> CameraFrame:
        """Newest frame. Raises `StaleError` when there is none within `stale_s`."""
        with self._lock:
            newest, error = self._newest, self._error
        name = f"camera {self.config.serial or self._serial or '(first free)'}"
        if newest is None:
            raise StaleError(f"{name} has sent no frame yet{': ' + error if error else ''}")
        age_s = time.monotonic() - newest[0]
        if age_s > self.config.stale_s:
            raise StaleError(f"{name}: newest frame is {age_s:.2f} s old{': ' + error if error else ''}")
        return newest[1]

    def status(self) -> CameraStatus:
        with self._lock:
            connected, counts = self._connection is not None, (self._frames, self._incomplete)
            return CameraStatus(connected, self._serial, self._usb, *counts, self._connections, self._error)

    def close(self) -> None:
        """End the reader and let go of the device."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=self.config.frame_timeout_s + 5.0)
            self._thread = None
        self._disconnect("closed")

    def _connect(self) -> None:
        connection = _Connection(self.config)
        with self._lock:
            self._connection, self._error = connection, ""
            self._serial, self._usb = connection.serial, connection.usb
            self._connections += 1

    def _disconnect(self, reason: str) -> None:
        with self._lock:
            connection, self._connection, self._error = self._connection, None, reason
        if connection is not None:
            connection.close()

    def _run(self) -> None:
        pause_s = self.config.reconnect_min_s
        while not self._stop.is_set():
            try:
                if self._connection is None:
                    self._connect()
                if self._read_one():
                    pause_s = self.config.reconnect_min_s
                continue
            except (HardwareError, RuntimeError) as error:  # librealsense raises RuntimeError
                self._disconnect(str(error))
            self._stop.wait(pause_s)
            pause_s = min(2.0 * pause_s, self.config.reconnect_max_s)

    def _read_one(self) -> bool:
        """Take the next frameset; whether it had a colour image. Raises when the device is gone."""
        if self._connection is None:
            return False
        frame = self._connection.wait(self.config.frame_timeout_s)
        lacks_depth = frame is not None and self.config.depth and frame.depth_m is None
        with self._lock:
            self._incomplete += frame is None or lacks_depth
            if frame is None:
                return False
            self._frames += 1
            self._newest = (time.monotonic(), frame)
        if self._on_frame is not None:
            self._on_frame(frame)
        return True


class _Connection:
    """One run of a librealsense pipeline, from its start to its first error."""

    def __init__(self, config: RealSenseConfig) -> None:
        self._rs = _librealsense()
        self._config = config
        self._pipeline, profile = self._open()
        device = profile.get_device()
        self._playback = device.as_playback() if device.is_playback() else None
        self.serial = self._info(device, "serial_number")
        self.usb = self._info(device, "usb_type_descriptor")
        self._align = self._rs.align(self._rs.stream.color)
        try:
            color = profile.get_stream(self._rs.stream.color).as_video_stream_profile().get_intrinsics()
        except RuntimeError as error:
            self.close()
            raise HardwareError(f"the camera {self.serial} has no colour stream: {error}") from error
        self._intrinsics = (color.fx, color.fy, color.ppx, color.ppy)

    def wait(self, timeout_s: float) -> CameraFrame | None:
        """The next frame; None for a frameset without colour. Raises `HardwareError` when none comes."""
        arrived, frameset = self._pipeline.try_wait_for_frames(round(timeout_s * 1e3))
        if not arrived:
            raise HardwareError(self._silence(timeout_s))
        if not frameset.get_color_frame():
            return None
        # A frameset may lack depth (a dropped USB packet): the colour is good all the same.
        if self._config.depth and frameset.get_depth_frame():
            frameset = self._align.process(frameset)
        color, depth = frameset.get_color_frame(), frameset.get_depth_frame()
        depth_m = None
        if self._config.depth and depth and is_of_the_same_moment(color, depth, self._config.fps):
            depth_m = np.asarray(depth.get_data()).astype(np.float32) * np.float32(depth.get_units())
        # Copies: librealsense takes its buffers back.
        pixels = np.array(color.get_data(), np.uint8)
        return CameraFrame(self._stamp_s(color), pixels, depth_m, self._intrinsics)

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the device is gone, and the pipeline with it
            self._pipeline.stop()

    def _silence(self, timeout_s: float) -> str:
        if self._playback is not None and self._playback.current_status() == self._rs.playback_status.stopped:
            return f"the recording {self._config.playback_file} has ended"
        return f"no frame for {timeout_s} s"

    def _stamp_s(self, frame: Any) -> float:
        """Time of exposure on the host's clock where librealsense knows it, else now."""
        now_s = time.time()
        domain = frame.get_frame_timestamp_domain()
        known = (self._rs.timestamp_domain.global_time, self._rs.timestamp_domain.system_time)
        stamp_s = frame.get_timestamp() * 1e-3
        return stamp_s if domain in known and abs(stamp_s - now_s) < MAX_CLOCK_ERROR_S else now_s

    def _open(self) -> tuple[Any, Any]:
        """A running pipeline and its profile, of the first candidate that starts."""
        if self._config.playback_file:
            return self._start_recording()
        serials = connected_serials()
        wanted = [self._config.serial] if self._config.serial else serials
        if not wanted or not set(wanted) <= set(serials):
            raise HardwareError(
                f"no RealSense camera{' ' + self._config.serial if self._config.serial else ''}; "
                f"connected serials: {', '.join(serials) or '(none)'}"
            )
        problems = []
        for serial in wanted:
            try:
                return self._start(serial)
            except RuntimeError as error:
                problems.append(f"{serial}: {error}")
        raise HardwareError(f"cannot start RealSense camera {'; '.join(problems)}")

    def _start(self, serial: str) -> tuple[Any, Any]:
        rs, wanted = self._rs, self._config
        config = rs.config()
        config.enable_device(serial)
        config.enable_stream(rs.stream.color, wanted.width, wanted.height, rs.format.rgb8, wanted.fps)
        if wanted.depth:
            config.enable_stream(rs.stream.depth, wanted.width, wanted.height, rs.format.z16, wanted.fps)
        pipeline = rs.pipeline()
        return pipeline, pipeline.start(config)

    def _start_recording(self) -> tuple[Any, Any]:
        path = Path(self._config.playback_file)
        if not path.is_file():
            raise HardwareError(f"no recording {path}")
        config, pipeline = self._rs.config(), self._rs.pipeline()
        config.enable_device_from_file(str(path), repeat_playback=False)
        try:
            profile = pipeline.start(config)
        except RuntimeError as error:
            raise HardwareError(f"cannot play {path}: {error}") from error
        serial = self._info(profile.get_device(), "serial_number")
        if self._config.serial and serial != self._config.serial:
            pipeline.stop()
            raise HardwareError(
                f"no RealSense camera {self._config.serial} in {path}; recorded serials: {serial or '(none)'}"
            )
        return pipeline, profile

    def _info(self, device: Any, name: str) -> str:
        field = getattr(self._rs.camera_info, name)
        return str(device.get_info(field)) if device.supports(field) else ""


def is_of_the_same_moment(color: Any, depth: Any, fps: int) -> bool:
    """Whether two frames lie within one and a half periods: librealsense pairs a colour image whose own
    depth was lost with an older one."""
    if color.get_frame_timestamp_domain() != depth.get_frame_timestamp_domain():
        return True  # two clocks: nothing can be said
    return abs(color.get_timestamp() - depth.get_timestamp()) <= 1.5e3 / fps


def connected_serials() -> list[str]:
    """Serial numbers of the RealSense cameras on this machine."""
    rs = _librealsense()
    try:
        devices = list(rs.context().query_devices())
    except RuntimeError as error:
        raise HardwareError(f"librealsense cannot list its devices: {error}") from error
    field = rs.camera_info.serial_number
    return sorted(str(device.get_info(field)) for device in devices if device.supports(field))


def _librealsense() -> Any:
    try:
        import pyrealsense2
    except ImportError as error:
        raise HardwareError(
            f"pyrealsense2 does not load ({error}): pip install pyrealsense2, and apt install libusb-1.0-0"
        ) from error
    return pyrealsense2
