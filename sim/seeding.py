"""Reproducible draws from libraries that use global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(rng: np.random.Generator | None, seed: int) -> Iterator[None]:
    """Seed `rng` in place, and numpy's and Python's global generators for the duration (then put back)."""
    if rng is not None:
        rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
