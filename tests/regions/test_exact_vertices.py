"""Vertices where rows are nearly parallel, or far from zero: placed as rationals place them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import gatewise as gw
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.exact_vertices import sharpened
from oracles.cells import cells, layers_of, on_slice


def chain(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    parts = [
        part
        for a, b in pairwise(sizes)
        for part in (nn.Linear(a, b, dtype=torch.float64), nn.ReLU())
    ]
    return nn.Sequential(*parts[:-1])


def rounded_multiples(model: nn.Sequential) -> nn.Sequential:
    """Of each layer, unit 1 is -unit 0 and unit 2 is 3 times unit 0: to an ulp, which is not to
    be parallel."""
    with torch.no_grad():
        for layer in list(model)[:-1:2]:
            for unit, factor in ((1, -1.0), (2, 3.0)):
                layer.weight[unit] = factor * layer.weight[0]
                layer.bias[unit] = factor * layer.bias[0]
    return model


def of_oracle(complex, cell) -> int:
    """The region of a cell of the oracle, by its pattern."""
    codes = [complex.pattern.codes(g).reshape(len(complex), -1).numpy() for g in complex.pattern]
    (found,) = np.flatnonzero((np.concatenate(codes, 1) == np.array(cell.pattern)).all(1))
    return int(found)


def agree(complex, expected, exact) -> None:
    """Volumes and vertices are the oracle's; `exact`: to so much of the box."""
    assert len(complex) == len(expected)
    box = float(np.prod(complex.slice.high - complex.slice.low))
    volume = complex.volumes()
    for cell in expected:
        i = of_oracle(complex, cell)
        assert volume[i] == pytest.approx(float(cell.body.volume()), rel=1e-9, abs=exact * box)
        true = np.array([[float(c) for c in v] for v in cell.body.vertices])
        gap = np.abs(true[:, None] - complex.vertices_of(i)[None]).max(2)
        assert len(true) == gap.shape[1] and gap.min(0).max() <= 2 * complex.error.max()
    assert complex.error.max() < 1e-5


@pytest.mark.parametrize("sizes", [(2, 8, 8, 8, 1), (3, 7, 7, 1)], ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rounded_multiples_of_a_unit(sizes, seed):
    model = rounded_multiples(chain(*sizes, seed=seed))
    d = sizes[0]
    network = gw.read(model, torch.zeros(1, d, dtype=torch.float64))
    found = sharpened(enumerate_regions(network, box=(-1, 1)))
    agree(found, cells(layers_of(model), [-1] * d, [1] * d), 1e-12)


def test_a_slice_through_whole_numbers():
    """Its orthonormal directions are rounded, so rows that were parallel are not, quite."""
    model = rounded_multiples(chain(4, 6, 5, 1, seed=3))
    network = gw.read(model, torch.zeros(1, 4, dtype=torch.float64))
    where = slice_through([0, 1, 2, 0], [2, -1, 1, 1], [-1, -2, 0, 2])
    found = sharpened(enumerate_regions(network, slice=where))
    expected = on_slice(layers_of(model), where.origin, where.directions)
    agree(found, cells(expected, where.low, where.high), 1e-12)


def test_what_floats_know_is_left_alone():
    network = gw.read(chain(2, 12, 12, 1, seed=4), torch.zeros(1, 2, dtype=torch.float64))
    found = enumerate_regions(network, box=(-1, 1))
    assert (sharpened(found).vertices == found.vertices).all()
    assert (sharpened(found).error == found.error).all()
