"""The kernel that a GPU computes by matrices is the one that a CPU counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatewise.dual.kernels.gram import gram
from gatewise.dual.kernels.on_device import fill
from gatewise.dual.kernels.packed import pack
from gatewise.dual.kernels.panels import both

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def rows(count: int, soft: bool):
    """Gates of two layers, the last one soft or not, and inputs; a row without an active path."""
    gates = [RNG.random((count, 9)) < 0.5, RNG.random((count, 70)) < 0.4]
    gates[0][0] = False
    last = RNG.random((count, 3)) if soft else RNG.random((count, 3)) < 0.7
    return pack([*gates, last]), RNG.normal(size=(count, 4))


@pytest.mark.parametrize("scale", ["raw", "normalised", "cosine", "log"])
@pytest.mark.parametrize("biases", [None, (True, False, True, True)])
@pytest.mark.parametrize("soft", [False, True])
def test_panels_of_matrices_are_the_counted_kernel(monkeypatch, scale, biases, soft):
    monkeypatch.setattr("gatewise.dual.kernels.on_device.PANEL", 8)
    (gates, x), (gates2, x2) = rows(21, soft), rows(13, soft)
    options = {"biases": biases, "scale": scale, "dtype": "float64"}
    for more in ((None, x, None), (gates2, x, x2), (None, None, None)):
        want = gram(gates, *more, **options)
        sides = both(gates, *more, **options)
        found = np.full(want.shape, np.nan)
        fill(found, sides, CPU)
        if sides.symmetric:
            found = np.where(np.isnan(found), found.T, found)
            found = np.tril(found) + np.tril(found, -1).T
        assert np.allclose(found, want, rtol=1e-12, atol=1e-300, equal_nan=True)


def test_float32_inputs_are_multiplied_in_float64_where_torch_would_take_fewer_digits():
    gates, x = rows(12, soft=False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        found = np.zeros((12, 12), np.float32)
        fill(found, both(gates, None, x), CPU)
    finally:
        torch.set_float32_matmul_precision(before)
    lower = np.tril_indices(12)
    assert np.allclose(found[lower], gram(gates, None, x, dtype="float64")[lower], rtol=1e-5)
