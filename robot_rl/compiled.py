"""The C functions of hidden.c, built by the machine's own compiler at first use and kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("hidden.c")
SWITCH = "ROBOT_RL_COMPILE"  # 0: plain PyTorch
# The parts of -ffast-math that change a result by rounding alone and keep NaN: a diverged network must not look well.
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math",
         "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math")  # fmt: skip
BUILD_TIMEOUT_S = 60.0
_log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None when they are switched off or there is no compiler that can build them."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get(SWITCH) == "0" or compiler is None:
        return None
    try:
        built = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("hidden layers run in plain PyTorch: %s", error)
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
    built.hidden_forward.argtypes = [pointer] * 6 + [size] * 3 + [ctypes.c_float, ctypes.c_int]
    built.hidden_backward.argtypes = [pointer] * 7 + [size] * 3 + [ctypes.c_int]
    built.hidden_forward.restype = built.hidden_backward.restype = None
    return built


def _build(compiler: str) -> Path:
    """Path of the built library; one for each source, compiler and kind of processor."""
    key = hashlib.sha256("\n".join([SOURCE.read_text(), compiler, *FLAGS, processor()]).encode()).hexdigest()[:16]
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_rl"
    final = directory / f"hidden-{key}.so"
    if not final.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            partial = Path(scratch) / "hidden.so"
            command = [compiler, *FLAGS, "-o", str(partial), str(SOURCE), "-lm"]
            subprocess.run(command, check=True, timeout=BUILD_TIMEOUT_S, capture_output=True)
            partial.replace(final)  # at once: another process may be loading it
    return final


@cache
def processor() -> str:
    """Architecture, vendor and instruction sets of this processor, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = [platform.processor()]
    wanted = ("vendor_id", "model", "flags", "CPU", "Features")
    return "\n".join([platform.machine(), *(line for line in lines if line.startswith(wanted))])
