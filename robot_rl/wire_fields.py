"""The primitives below `robot_rl.wire`: msgpack maps whose every field is checked on the way in and out.

Limits are set before parsing, so that a hostile or damaged message can neither nest deeply nor
announce a length that would be allocated before it is found to be missing.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import WireError
from robot_rl.types import Observation

SCHEMA = 1
MAX_KEYS = 64
MAX_DIMENSIONS = 8
MAX_TEXT = 256
DTYPES = ("float32", "float64", "uint8", "uint16", "int32", "int64")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""Session and episode ids and operators. Ids become file names, so no separators and no leading dot."""

T = TypeVar("T")


def pack(kind: str, body: dict[str, Any], limit: int) -> bytes:
    """One message; raises `WireError` when a value has no place in it."""
    try:
        data = msgpack.Packer().pack({"schema": SCHEMA, "kind": kind, **body})
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(f"cannot encode a {kind} message: {error}") from error
    if len(data) > limit:
        raise WireError(f"a {kind} message of {len(data)} bytes exceeds the limit of {limit}")
    return data


def check_name(name: str, what: str) -> str:
    if not NAME.fullmatch(name):
        raise WireError(f"{what} {name!r} must match {NAME.pattern}")
    return name


def check_finite(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WireError(f"{what} holds NaN or Inf")


def check_text(text: str, what: str) -> str:
    if len(text.encode()) > MAX_TEXT:
        raise WireError(f"{what} must not be longer than {MAX_TEXT} bytes, got {text[:40]!r}...")
    return text


def pack_number(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise WireError(f"{what} is {value}, not a finite number")
    return float(value)


def pack_array(array: NDArray[Any], what: str) -> dict[str, Any]:
    if array.dtype.name not in DTYPES:
        raise WireError(f"{what} is {array.dtype}; valid dtypes: {DTYPES}")
    check_finite(array, what)
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": little.tobytes()}


def pack_observation(observation: Observation) -> dict[str, Any]:
    return {key: pack_array(array, f"observation[{key!r}]") for key, array in observation.items()}


class Fields:
    """The fields of a received message (or of a map within it), each taken once and checked."""

    def __init__(self, values: dict[Any, Any], what: str) -> None:
        self._values = values
        self._what = what

    @classmethod
    def parse(cls, data: bytes, limit: int) -> Fields:
        """Parse a whole message of this schema version."""
        if len(data) > limit:
            raise WireError(f"message of {len(data)} bytes exceeds the limit of {limit}")
        try:
            values = msgpack.unpackb(
                data,
                max_str_len=MAX_TEXT,
                max_array_len=MAX_DIMENSIONS,
                max_map_len=MAX_KEYS,
                max_ext_len=0,
            )
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
            raise WireError(f"not a msgpack message: {error!r}") from error
        if not isinstance(values, dict):
            raise WireError(f"message is a {type(values).__name__}, not a map")
        fields = cls(values, "message")
        if (schema := fields.take("schema", int)) != SCHEMA:
            raise WireError(f"message has schema version {schema}, this program speaks {SCHEMA}")
        return fields

    def take(self, name: str, kind: type[T]) -> T:
        """The value of `name`, exactly of type `kind` (a bool is no int)."""
        value = self._values.pop(name, None)
        if type(value) is not kind:
            raise WireError(f"{self._what}: field {name!r} is {type(value).__name__}, not {kind.__name__}")
        return value

    def integer(self, name: str, low: int = 0) -> int:
        value = self.take(name, int)
        if not low <= value < 2**63:
            raise WireError(f"{self._what}: field {name!r} is {value}, not in [{low}, 2^63)")
        return value

    def optional_integer(self, name: str) -> int | None:
        if name in self._values and self._values[name] is None:
            return self._values.pop(name)
        return self.integer(name)

    def number(self, name: str) -> float:
        return pack_number(self.take(name, float), f"field {name!r}")

    def name(self, name: str) -> str:
        return check_name(self.take(name, str), name)

    def optional_name(self, name: str) -> str:
        """Empty where the sender says nothing."""
        return self.name(name) if name in self._values else ""

    def optional_flag(self, name: str) -> bool:
        """False where the sender says nothing."""
        return name in self._values and self.take(name, bool)

    def choice(self, name: str, valid: tuple[str, ...]) -> str:
        value = self.take(name, str)
        if value not in valid:
            raise WireError(f"{self._what}: {name} is {value!r}; valid choices: {valid}")
        return value

    def optional_array(self, name: str) -> NDArray[Any] | None:
        """None where the sender gives none."""
        return self.array(name) if name in self._values else None

    def array(self, name: str) -> NDArray[Any]:
        """A read-only view into the message."""
        what = f"array {name!r}"
        entry = Fields(self.take(name, dict), what)
        dtype = np.dtype(entry.choice("dtype", DTYPES)).newbyteorder("<")
        shape, data = entry.take("shape", list), entry.take("data", bytes)
        entry.done()
        if any(type(length) is not int or length < 0 for length in shape):
            raise WireError(f"{what} has shape {shape}")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise WireError(f"{what} of shape {shape} and dtype {dtype} has {len(data)} bytes")
        try:
            array = np.frombuffer(data, dtype).reshape(shape)
        except ValueError as error:
            raise WireError(f"{what} has shape {shape}: {error}") from error
        check_finite(array, what)
        return array

    def vector(self, name: str) -> NDArray[np.float32]:
        """An array that must be one-dimensional float32."""
        array = self.array(name)
        if array.ndim != 1 or array.dtype != np.float32:
            raise WireError(f"{name} has shape {array.shape} and dtype {array.dtype}, not (A,) float32")
        return array

    def observation(self, name: str) -> Observation:
        entries = self.take(name, dict)
        if not entries or any(type(key) is not str for key in entries):
            raise WireError(f"{name} has keys {list(entries)[:8]}, expected at least one text key")
        fields = Fields(entries, name)
        return {key: fields.array(key) for key in list(entries)}

    def optional_observation(self, name: str) -> Observation | None:
        """None where the sender gives none."""
        return self.observation(name) if name in self._values else None

    def done(self) -> None:
        """Raise unless every field has been taken."""
        if self._values:
            raise WireError(f"{self._what} has unknown fields {list(self._values)[:8]}")
