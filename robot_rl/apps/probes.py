"""Short programs that `robot-rl doctor` runs in processes of their own: a broken driver or GL stack may crash
the process that tries it. Each prints one JSON object on its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 180.0  # the first import of torch on a busy machine takes minutes

TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
}))
"""

RENDER = """
import json, time, mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="sphere" size=".2" rgba="1 0 0 1"/>'
    '<camera name="c" pos="0 -1 0" xyaxes="1 0 0 0 0 1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 64, 64) as renderer:
    start = time.perf_counter()
    for _ in range(5):
        renderer.update_scene(data, camera="c")
        image = renderer.render()
    rate_hz = 5 / (time.perf_counter() - start)
red = [int(v) for v in image[32, 32]]
assert red[0] > 60 and red[0] > 3 * red[1], f"the sphere is not red: {red}"
print(json.dumps({"rate_hz": rate_hz}))
"""

# Two contexts are two DDS participants, so the message takes the way that it takes between processes.
ROS = """
import json, os, sys, time
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
topic, word, heard = f"robot_rl_doctor_{os.getpid()}", f"ping {os.getpid()}", []
contexts, nodes, executors = [Context(), Context()], [], []
for context, name in zip(contexts, ("talker", "listener")):
    rclpy.init(context=context, args=["doctor"])
    nodes.append(rclpy.create_node(f"doctor_{name}_{os.getpid()}", context=context))
    executors.append(SingleThreadedExecutor(context=context))
    executors[-1].add_node(nodes[-1])
publisher = nodes[0].create_publisher(String, topic, 1)
nodes[1].create_subscription(String, topic, lambda m: heard.append((m.data, time.perf_counter())), 1)
start = time.perf_counter()
while not heard and time.perf_counter() - start < 15:
    sent = time.perf_counter()
    publisher.publish(String(data=word))
    for executor in executors:
        executor.spin_once(timeout_sec=0.05)
found_s = time.perf_counter() - start
for node, context in zip(nodes, contexts):
    node.destroy_node()
    context.try_shutdown()
print(json.dumps({
    "rmw": rclpy.get_rmw_implementation_identifier(),
    "where": os.path.dirname(rclpy.__file__),
    "heard": bool(heard) and heard[0][0] == word,
    "found_s": found_s,
}))
"""

REALSENSE = """
import json, pyrealsense2 as rs
info = rs.camera_info
def get(device, key):
    return device.get_info(key) if device.supports(key) else "?"
print(json.dumps({"devices": [
    {"name": get(d, info.name), "serial": get(d, info.serial_number), "usb": get(d, info.usb_type_descriptor)}
    for d in rs.context().query_devices()]}))
"""


class ProbeError(Exception):
    """The probe's process failed; the message is its last line of output."""


def run_probe(code: str, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Run `code` in a fresh interpreter; returns what it printed. Raises `ProbeError`."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    try:
        # -P: what lies in the working directory must not hide an installed module.
        result = subprocess.run(
            [sys.executable, "-P", "-c", code], env=environ, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer within {timeout_s:g} s") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise ProbeError(_telling_line(lines) or f"ended with code {result.returncode}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def _telling_line(lines: list[str]) -> str:
    """The exception's line: the last one at the margin that looks like `SomeError: text`."""
    errors = [line for line in lines if not line.startswith(" ") and "Error" in line.split(":")[0]]
    return (errors or lines or [""])[-1].strip()
