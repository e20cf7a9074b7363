"""The operational-space controller's parts; its behaviour is tested through the worlds."""

from __future__ import annotations

import numpy as np
import pytest

from sim.osc import solve_positive


@pytest.mark.parametrize("columns", [None, 1, 6])
def test_small_positive_systems_are_solved(columns: int | None) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 7))
    matrix = root @ root.T + 0.1 * np.eye(7)
    right = rng.normal(size=7 if columns is None else (columns, 7)).T
    np.testing.assert_allclose(solve_positive(matrix, right), np.linalg.solve(matrix, right), rtol=1e-9)
