"""Volumes of cells: the box is filled, exact areas and volumes are met, thin cells included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

import gatewise as gw
from gatewise.ir.network import Network
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.volumes import volumes
from nets import F64, mlp
from oracles import degenerate_nets
from oracles.cells import cells

SIZES = [(1, 9, 9, 1), (2, 14, 14, 1), (3, 10, 9, 1), (4, 8, 7, 1), (5, 7, 5, 1), (6, 7, 3, 1)]


def layers(network: Network) -> list:
    """(W, b) of every Affine of a chain, as the oracle takes them."""
    return [
        (n.kind.weights[0].numpy(), n.kind.bias.numpy())
        for n in network.nodes
        if n not in network.gates
    ]


def by_pattern(complex, values):
    """{signs of all units: value} of each region."""
    n = len(complex)
    codes = [complex.pattern.codes(name).reshape(n, -1).int().numpy() for name in complex.pattern]
    return dict(zip(map(tuple, np.concatenate(codes, 1).tolist()), values, strict=True))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("gate", ["relu", "hardtanh"])
def test_cells_fill_the_box(sizes, gate):
    d = sizes[0]
    low, high = np.linspace(-1, -0.5, d), np.linspace(0.7, 2, d)
    found = volumes(enumerate_regions(mlp(*sizes, gate=gate), (low, high)))
    assert (found > 0).all()
    assert found.sum() == pytest.approx(np.prod(high - low), rel=1e-9)


@pytest.mark.parametrize("sizes", [(2, 8, 6, 1), (3, 6, 4, 1), (4, 5, 3, 1)], ids=str)
def test_each_is_the_exact_volume(sizes):
    network = mlp(*sizes, seed=3)
    d = sizes[0]
    complex = enumerate_regions(network, (-1, 1))
    found = by_pattern(complex, volumes(complex))
    exact = {c.pattern: float(c.body.volume()) for c in cells(layers(network), [-1] * d, [1] * d)}
    assert found.keys() == exact.keys()
    for pattern, size in exact.items():
        assert found[pattern] == pytest.approx(size, rel=1e-7, abs=1e-14)


@pytest.mark.parametrize("kind", degenerate_nets.PUBLISHED)
def test_areas_where_rows_lie_badly(kind):
    network = gw.read(degenerate_nets.net(kind), torch.zeros(1, 2, dtype=F64))
    complex = enumerate_regions(network, (-1, 1))
    found = by_pattern(complex, volumes(complex))
    exact = cells(degenerate_nets.arrays(kind), *([-1, -1], [1, 1]))
    assert len(found) == len(exact) == degenerate_nets.TRUTH[kind]
    for cell in exact:
        assert found[cell.pattern] == pytest.approx(float(cell.body.volume()), rel=1e-6, abs=1e-15)
    assert sum(found.values()) == pytest.approx(4, rel=1e-12)


def central(d: int, copies: int) -> Network:
    """Units through one point, whose cells are cones: their apex is on more than d facets."""
    network = mlp(d, copies, 1, seed=d)
    network.nodes[0].kind.bias.zero_()
    return network


@pytest.mark.parametrize("d", [3, 4, 5])
def test_cones_of_many_facets_agree_with_their_hulls(d):
    complex = enumerate_regions(central(d, 9 - d // 2), (-1, 1))
    found = volumes(complex)
    assert found.sum() == pytest.approx(2.0**d, rel=1e-12)
    for i in range(0, len(complex), 3):
        hull = ConvexHull(complex.vertices_of(i)).volume
        assert found[i] == pytest.approx(hull, rel=1e-9)


def test_a_sliver_keeps_its_size():
    """Two units whose creases are 1e-9 apart leave a cell of that width."""
    network = mlp(3, 2, 1)
    affine = network.nodes[0].kind
    affine.weights[0].copy_(torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]))
    affine.bias.copy_(torch.tensor([0.0, -(2.0**-30)]))
    found = np.sort(volumes(enumerate_regions(network, (-1, 1))))
    assert found[0] == pytest.approx(4 * 2.0**-30, rel=1e-12)
    assert found.sum() == pytest.approx(8, rel=1e-15)


def test_sizes_in_a_slice_are_in_its_coordinates():
    network = mlp(6, 12, 12, 1, seed=2)
    where = slice_through(*np.eye(6)[:3])
    found = volumes(enumerate_regions(network, slice=where))
    assert len(found) > 5
    assert found.sum() == pytest.approx(np.prod(where.high - where.low), rel=1e-12)
