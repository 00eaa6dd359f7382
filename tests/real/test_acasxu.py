"""ACAS Xu: every region on random lines across the inputs, checked on the file's own arrays.

GATEWISE_FULL=1 asks for 2,000 lines a network instead of 40; benchmarks/acasxu.py for 10,000.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import gatewise as gw
import shared
from gatewise.regions.lines import trace
from oracles import pieces

LINES = 2_000 if os.environ.get("GATEWISE_FULL") == "1" else 40
LOWER = np.array([-0.328422877, -0.5, -0.5, -0.5, -0.5])  # of all inputs, scaled
UPPER = np.array([0.679857769, 0.5, 0.5, 0.5, 0.5])
NETS = shared.params("onnx/acasxu/*.onnx")


def across(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """From a point of one side of the box to a point of the opposite one: x and direction."""
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, count, 5))
    axis = rng.integers(0, 5, count)
    a[np.arange(count), axis], b[np.arange(count), axis] = 0, 1
    return LOWER + (UPPER - LOWER) * a, (UPPER - LOWER) * (b - a)


@pytest.mark.parametrize("path", NETS)
def test_random_lines_are_traced_exactly(path):
    x, way = across(LINES, seed=1)
    found = trace(gw.read(path), torch.from_numpy(x), torch.from_numpy(way))
    line, t, values = (v.numpy() for v in (found.row, found.t, found.values))
    assert (found.ptr.diff() > 10).all()
    layers, scale = pieces.onnx_layers(path), np.abs(values).max()
    for first in range(0, LINES, 500):
        part = (line >= first) & (line < first + 500)
        c = pieces.check(layers, x, way, line[part], t[part], values[part])
        assert c.pieces == part.sum() - len(set(line[part]))
        assert (c.missed, c.invented) == (0, 0)
        assert c.undecided <= c.pieces / 1e4
        assert c.gap < 1e-12 * scale
    assert float(found.error.max()) < 1e-12 * scale


@pytest.mark.parametrize("path", NETS[::6])
def test_slopes_of_the_pieces_are_autograd_s(path):
    network = gw.read(path)
    x, way = (torch.from_numpy(v) for v in across(20, seed=2))
    found = trace(network, x, way)
    length = found.t.diff()
    left = ((found.row[1:] == found.row[:-1]) & (length > 1e-4)).nonzero()[:, 0]
    line = found.row[left]  # shorter ones are left out: their difference of values has few digits
    middle = x[line] + (found.t[left] + length[left] / 2)[:, None] * way[line]
    truth = torch.stack(
        [(gradient(network, middle, k) * way[line]).sum(1) for k in range(network.outputs)], 1
    )
    assert len(left) > 500
    torch.testing.assert_close(found.slopes[left], truth, rtol=1e-8, atol=1e-9)


def gradient(network: gw.Network, x: torch.Tensor, output: int) -> torch.Tensor:
    """(rows, inputs) of one output, by autograd."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(x)[:, output].sum(), x)
    return found
