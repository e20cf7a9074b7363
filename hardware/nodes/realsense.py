"""A RealSense camera on the contract's camera topics, named after the node.

<camera>/color/image_raw (and /compressed), <camera>/color/camera_info,
<camera>/aligned_depth_to_color/image_raw (16UC1, millimetres), and /diagnostics. Only what somebody
listens to is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hardware import ros_messages
from hardware.camera import CameraConfig, fit
from hardware.nodes.lifecycle import ManagedNode, run
from hardware.realsense import CameraStatus, RealSenseCamera, RealSenseConfig
from robot_rl.types import CameraFrame

DIAGNOSTICS_PERIOD_S = 1.0


@dataclass(frozen=True)
class RealSenseNodeConfig(RealSenseConfig):
    """Parameters of the camera node: the camera's, and how it is published."""

    camera: str = ""
    """Name of the camera on its topics; the node's own when empty."""
    view: CameraConfig = field(default_factory=CameraConfig)
    """Crop and size of what is published."""
    jpeg_quality: int = 85
    """Of the compressed image, 0 to 100."""


class RealSenseNode(ManagedNode[RealSenseNodeConfig]):
    """Thin: frames of `hardware.realsense.RealSenseCamera` out as messages, from its thread."""

    def configure(self) -> None:
        name = self.config.camera or self.get_name()
        self._frame_id = f"{name}_color_optical_frame"
        sensor = qos_profile_sensor_data
        self._raw = self.create_publisher(Image, f"{name}/color/image_raw", sensor)
        self._compressed = self.create_publisher(CompressedImage, f"{name}/color/image_raw/compressed", sensor)
        self._info = self.create_publisher(CameraInfo, f"{name}/color/camera_info", sensor)
        self._depth = self.create_publisher(Image, f"{name}/aligned_depth_to_color/image_raw", sensor)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._camera = RealSenseCamera(self.config, self._publish)
        self._last: CameraStatus = self._camera.status()
        self._camera.start()
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._report)

    def cleanup(self) -> None:
        if hasattr(self, "_camera"):
            self._camera.close()

    def _publish(self, frame: CameraFrame) -> None:
        """In the camera's thread: rclpy's publishers may be used from any."""
        if not self.active:
            return
        frame = fit(frame, self.config.view)
        stamp_s, frame_id = frame.stamp_s, self._frame_id
        if self._raw.get_subscription_count():
            self._raw.publish(ros_messages.image_message(frame.color, stamp_s, frame_id))
        if self._compressed.get_subscription_count():
            self._compressed.publish(
                ros_messages.compressed_message(frame.color, stamp_s, frame_id, self.config.jpeg_quality)
            )
        if frame.intrinsics is not None and self._info.get_subscription_count():
            height, width = frame.color.shape[:2]
            self._info.publish(ros_messages.camera_info_message(frame.intrinsics, (height, width), stamp_s, frame_id))
        if frame.depth_m is not None and self._depth.get_subscription_count():
            self._depth.publish(ros_messages.depth_message(frame.depth_m, stamp_s, frame_id))

    def _report(self) -> None:
        status, last = self._camera.status(), self._last
        self._last = status
        rate_hz = (status.frames - last.frames) / DIAGNOSTICS_PERIOD_S
        level, text = DiagnosticStatus.OK, f"{rate_hz:.0f} frames/s"
        if status.usb.startswith("2"):
            level, text = DiagnosticStatus.WARN, "on USB 2: use a USB 3 port and cable"
        if rate_hz < 0.5 * self.config.fps:
            level, text = DiagnosticStatus.WARN, f"only {rate_hz:.0f} of {self.config.fps} frames/s"
        if not status.connected:
            level, text = DiagnosticStatus.ERROR, status.error
            self.get_logger().warning(f"not connected: {status.error}", throttle_duration_sec=5.0)
        values = {
            "serial": status.serial,
            "usb": status.usb,
            "rate_hz": f"{rate_hz:.1f}",
            "frames": status.frames,
            "incomplete": status.incomplete,
            "connections": status.connections,
            "error": status.error,
        }
        name = f"camera {self.config.camera or self.get_name()}"
        self._diagnostics.publish(ros_messages.diagnostics_message(name, values, self.now_s(), level=level, text=text))


def main(argv: Sequence[str] | None = None) -> int:
    return run("realsense", RealSenseNode, RealSenseNodeConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
