"""What `robot-rl doctor` looks at: each check says what it found and, unless all is well, how to mend it."""

from __future__ import annotations

import ctypes.util
import grp
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from robot_rl.apps import probes
from robot_rl.apps.graph import DEFAULT_ENV

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
ROS_WHEEL_PYTHONS = ((3, 11), (3, 12))
GUI_PORT = 8080
DISK_LOW_GB, DISK_WARN_GB = 1.0, 10.0
SHM_MIN_MB = 128
"""Shared memory for image topics; containers get 64 MB unless told otherwise."""
RECEIVE_BUFFER_MIN = 2_097_152
"""Bytes; below this, images from another machine lose fragments over UDP."""
SAFE_DOMAINS = (*range(102), *range(215, 233))
"""ROS domain ids whose ports stay clear of Linux's ephemeral ones (docs.ros.org, "The ROS_DOMAIN_ID")."""


class Status(Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Result:
    """One line of the table. FAIL is for what nothing works without."""

    name: str
    status: Status
    found: str
    mend: str = ""


def check_python() -> Result:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] not in ROS_WHEEL_PYTHONS:
        mend = "the ROS 2 wheels are for 3.11 and 3.12: make setup PYTHON=python3.11, or source ROS 2"
        return Result("python", Status.WARN, found, mend)
    return Result("python", Status.OK, found)


def check_packages() -> Result:
    required, page = _packages("sim"), _packages("gui")
    missing = sorted(name for name in required if _version(name) is None)
    if missing:
        return Result("packages", Status.FAIL, f"missing: {', '.join(missing)}", "make setup")
    if missing := sorted(name for name in page if _version(name) is None):
        return Result("packages", Status.WARN, f"no browser page without {', '.join(missing)}", "make setup")
    pins = dict(_pins())
    if not pins:
        return Result("packages", Status.OK, "all required ones (no constraints.txt beside this install)")
    differ = [
        f"{name} {version} (tested: {pins[name]})"
        for name in sorted(pins)
        if (version := _version(name)) is not None and version.split("+")[0] != pins[name]
    ]
    if differ:
        return Result("packages", Status.WARN, "; ".join(differ), "make setup, to get the tested versions")
    return Result("packages", Status.OK, f"{len(required)} required, versions as in constraints.txt")


def _packages(extra: str) -> set[str]:
    """What is required always, and with `extra`."""
    wanted = [line for line in _requirements() if "extra ==" not in line or re.search(rf"""['"]{extra}['"]""", line)]
    return {re.split(r"[ ;<>=!\[]", line)[0] for line in wanted}


def check_torch() -> Result:
    try:
        answer = probes.run_probe(probes.TORCH)
    except probes.ProbeError as error:
        return Result("torch", Status.FAIL, str(error), "pip install -c constraints.txt torch")
    if answer["devices"]:
        return Result("torch", Status.OK, f"{answer['version']}, CUDA on {', '.join(answer['devices'])}")
    found = f"{answer['version']}, CPU only"
    if shutil.which("nvidia-smi"):
        mend = "the driver is there but torch cannot use it: compare `nvidia-smi` with https://pytorch.org"
        return Result("torch", Status.WARN, found, mend)
    return Result("torch", Status.OK, found)


def check_rendering() -> Iterator[Result]:
    """One line per off-screen backend: at least one has to work, and what MUJOCO_GL asks for."""
    packages = {"egl": "libegl1 libgl1", "osmesa": "libosmesa6 libgl1"}
    asked = os.environ.get("MUJOCO_GL", "").lower()
    answers: dict[str, float | str] = {}
    for backend in filter(None, dict.fromkeys([*packages, asked])):
        try:
            env = {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
            answers[backend] = float(probes.run_probe(probes.RENDER, env)["rate_hz"])
        except probes.ProbeError as error:
            answers[backend] = str(error)
    any_works = any(isinstance(answer, float) for answer in answers.values())
    for backend, answer in answers.items():
        if isinstance(answer, float):
            yield Result(f"GL {backend}", Status.OK, f"renders, {answer:.0f} small frames/s")
        else:
            mend = f"apt-get install {packages[backend]}; `make setup` for mujoco" if backend in packages else ""
            if backend == asked:
                mend = "; or ".join(filter(None, ("unset MUJOCO_GL, which asks for this one", mend)))
            fails = backend == asked or not any_works
            yield Result(f"GL {backend}", Status.FAIL if fails else Status.WARN, str(answer), mend)


def check_ros() -> Result:
    try:
        answer = probes.run_probe(probes.ROS, DEFAULT_ENV | dict(os.environ))
    except probes.ProbeError as error:
        mend = "source /opt/ros/<distribution>/setup.bash, or pip install -c constraints.txt -e '.[ros]'"
        if rmw := os.environ.get("RMW_IMPLEMENTATION"):
            mend = f"unset RMW_IMPLEMENTATION (it asks for {rmw}), or install that; else {mend}"
        return Result("ROS 2", Status.FAIL, str(error), mend)
    found = f"{answer['rmw']} from {answer['where']}"
    if not answer["heard"]:
        mend = "allow UDP multicast on the loopback interface; check ROS_AUTOMATIC_DISCOVERY_RANGE, firewall"
        return Result("ROS 2", Status.FAIL, f"{found}: a message to itself did not arrive", mend)
    return Result("ROS 2", Status.OK, f"{found}; message there in {answer['found_s']:.2f} s")


def check_discovery() -> Result:
    names = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "RMW_IMPLEMENTATION")
    names += ("ROS_LOCALHOST_ONLY", "FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_DEFAULT_PROFILES_FILE")
    found = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
    found = found or "nothing set: domain 0, machines on this network are found"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if not domain.isdecimal() or int(domain) not in SAFE_DOMAINS:
        return Result("discovery", Status.WARN, found, "set ROS_DOMAIN_ID to 0..101")
    if "ROS_LOCALHOST_ONLY" in os.environ:
        mend = "ROS_LOCALHOST_ONLY is deprecated: unset it, use ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
        return Result("discovery", Status.WARN, found, mend)
    return Result("discovery", Status.OK, found)


def check_transport() -> Result:
    shm_mb = shutil.disk_usage("/dev/shm").total / 1e6 if os.path.isdir("/dev/shm") else 0.0
    buffer_file = Path("/proc/sys/net/core/rmem_max")
    buffer = int(buffer_file.read_text()) if buffer_file.exists() else RECEIVE_BUFFER_MIN
    found = f"/dev/shm {shm_mb:.0f} MB, largest receive buffer {buffer / 1e6:.2f} MB"
    if shm_mb < SHM_MIN_MB:
        mend = "docker run --shm-size=1g ..., or mount -o remount,size=1G /dev/shm"
        return Result("image transport", Status.WARN, found, mend)
    if buffer < RECEIVE_BUFFER_MIN:
        mend = f"only for images from another machine: sysctl -w net.core.rmem_max={RECEIVE_BUFFER_MIN}"
        return Result("image transport", Status.WARN, found, mend)
    return Result("image transport", Status.OK, found)


def check_cameras() -> Iterator[Result]:
    if ctypes.util.find_library("usb-1.0") is None:
        yield Result("libusb", Status.WARN, "not found", "apt-get install libusb-1.0-0 (RealSense)")
    try:
        devices = probes.run_probe(probes.REALSENSE)["devices"]
    except probes.ProbeError as error:
        yield Result("cameras", Status.WARN, str(error), "pip install -c constraints.txt -e '.[realsense]'")
        return
    if not devices:
        mend = "for a real arm: plug a RealSense into a USB 3 port; then check `lsusb -d 8086:`"
        yield Result("cameras", Status.WARN, "no RealSense device", mend)
    for device in devices:
        found = f"{device['name']}, serial {device['serial']}, USB {device['usb']}"
        slow = device["usb"].startswith("2")
        mend = "USB 2 is too slow for colour and depth: another port or cable" if slow else ""
        yield Result("camera", Status.WARN if slow else Status.OK, found, mend)
    rules = [*Path("/etc/udev/rules.d").glob("*realsense*"), *Path("/lib/udev/rules.d").glob("*realsense*")]
    if devices and not rules and os.getuid() != 0:
        mend = "install 99-realsense-libusb.rules of librealsense, then udevadm control --reload"
        yield Result("camera permissions", Status.WARN, "no udev rules for RealSense", mend)


def check_groups() -> Result:
    mine = {grp.getgrgid(gid).gr_name for gid in os.getgroups() if _known_group(gid)}
    lacking = [name for name in ("video", "dialout") if name not in mine]
    if lacking and os.getuid() != 0:
        mend = f"for cameras and serial grippers: sudo usermod -aG {','.join(lacking)} $USER, log in again"
        return Result("groups", Status.WARN, f"not in {', '.join(lacking)}", mend)
    return Result("groups", Status.OK, "root" if os.getuid() == 0 else "video, dialout")


def check_realtime() -> Result:
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    memory = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    kernel = Path("/sys/kernel/realtime")
    is_realtime = kernel.exists() and kernel.read_text().strip() == "1"
    locked = "unlimited" if memory == resource.RLIM_INFINITY else f"{memory / 1e6:.0f} MB"
    found = f"rtprio {priority}, memlock {locked}, {'real-time' if is_realtime else 'ordinary'} kernel"
    if 0 <= priority < 90:
        mend = "only to drive an arm at 500 Hz or more from here: '@realtime - rtprio 99' and "
        mend += "'@realtime - memlock unlimited' in /etc/security/limits.conf"
        return Result("real time", Status.WARN, found, mend)
    return Result("real time", Status.OK, found)


def check_disk() -> Result:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    found = f"{free_gb:.1f} GB free in {Path.cwd()}"
    try:
        tempfile.TemporaryFile(dir=Path.cwd()).close()
    except OSError as error:
        mend = "runs/ is made where you stand: go to a folder of yours, or name one with run_dir=..."
        return Result("disk", Status.FAIL, f"{Path.cwd()} cannot be written: {error.strerror}", mend)
    if free_gb < DISK_WARN_GB:
        status = Status.FAIL if free_gb < DISK_LOW_GB else Status.WARN
        return Result("disk", status, found, "episodes and checkpoints need room: run from another disk")
    return Result("disk", Status.OK, found)


def check_cpu() -> Result:
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores, load {os.getloadavg()[0]:.1f}"
    if cores < 2:
        return Result("cpu", Status.WARN, found, "control loop and learner want a core each")
    return Result("cpu", Status.OK, found)


def check_port() -> Result:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", GUI_PORT))
        except OSError as error:
            mend = f"robot-rl up graph=... port={GUI_PORT + 1}"
            return Result("browser port", Status.WARN, f"{GUI_PORT}: {error.strerror}", mend)
    return Result("browser port", Status.OK, f"{GUI_PORT} is free")


CHECKS: tuple[Callable[[], Result | Iterator[Result]], ...] = (
    check_python,
    check_packages,
    check_torch,
    check_rendering,
    check_ros,
    check_discovery,
    check_transport,
    check_cameras,
    check_groups,
    check_realtime,
    check_disk,
    check_cpu,
    check_port,
)


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("robot-rl") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _pins() -> Iterator[tuple[str, str]]:
    if CONSTRAINTS.exists():
        for line in CONSTRAINTS.read_text().splitlines():
            name, equals, version = line.partition("==")
            if equals and not line.startswith("#"):
                yield name, version


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _known_group(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True
