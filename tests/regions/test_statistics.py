"""What is said of the regions of a box, against what is known and what sampling shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gatewise.errors import DataError
from gatewise.ir.kinds import Affine
from gatewise.regions.halfspaces import region
from gatewise.regions.local.balls import inscribed
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.statistics import constant_units, statistics
from nets import F64, Chain, dense, mlp


def cross():
    """Creases x = 0 and y = 0, a unit that is off on [-1, 1]^2 and one that is on."""
    chain = Chain(2)
    w = torch.tensor([[1, 0], [0, 1], [1, 1], [1, -1]], dtype=F64)
    b = torch.tensor([0, 0, -5, 5], dtype=F64)
    chain.put(Affine(dense, (w,), b, 2, 4), shape=(4,))
    chain.gate("relu")
    chain.linear(1)
    return chain.network()


def test_four_quarters_of_a_square():
    found = statistics(enumerate_regions(cross(), (-1, 1)))
    assert found.volume.tolist() == [1] * 4
    assert found.vertices.tolist() == found.facets.tolist() == [4] * 4
    assert not found.inside.any()
    assert list(found.quantiles.values()) == [1.0] * 7
    (constant,) = found.constant
    assert constant.off.tolist() == [2] and constant.on.tolist() == [3]
    assert constant.branch.tolist() == [-1, -1, 0, 1]
    assert [found.radius(i) for i in range(4)] == pytest.approx([0.5] * 4)


def test_it_reads_as_a_table():
    text = repr(statistics(enumerate_regions(cross(), (-1, 1))))
    assert "4 regions of a box in 2 dimensions, 0 touch no wall" in text
    assert "behind n1: 4 cells; of 4 units 1 always off, 1 always on" in text
    columns = statistics(enumerate_regions(cross(), (-1, 1))).columns()
    assert {len(c) for c in columns.values()} == {4}


@pytest.mark.parametrize("gate", ["relu", "hardtanh"])
def test_constant_units_are_those_that_no_point_moves(gate):
    """A unit that takes two branches at random points is not constant; with as many regions as

    points have patterns, one that takes one branch only is."""
    network = mlp(2, 12, 12, 1, gate=gate)
    complex = enumerate_regions(network, (-0.4, 0.4))
    x = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=F64) * 0.8 - 0.4
    values = {"input": x}
    for node in network.nodes:
        values[node.name] = node.kind(*(values[name] for name in node.inputs))
    for constant in constant_units(complex):
        node = network.node(constant.gate)
        codes = node.kind.choose(values[node.inputs[0]]).int()
        for unit, branch in enumerate(constant.branch.tolist()):
            seen = set(codes[:, unit].tolist())
            assert seen == {branch} if branch >= 0 else len(seen) > 1


def test_the_regions_inside_are_those_off_the_walls():
    complex = enumerate_regions(mlp(3, 10, 9, 1), (-1, 1))
    found = statistics(complex)
    for i in range(len(complex)):
        corners = np.abs(complex.vertices_of(i))
        assert found.inside[i] == (corners < 1).all()
    assert 0 < found.inside.sum() < len(complex)
    assert (np.diff(found.volume[found.largest(20)]) <= 0).all()
    assert found.volume[found.largest(1)[0]] == found.volume.max()


@pytest.mark.parametrize("sizes", [(2, 8, 6, 1), (3, 6, 5, 1), (4, 6, 1)], ids=str)
def test_radii_are_those_of_the_proven_balls(sizes):
    """`balls.inscribed` has the half-spaces themselves, not the vertices."""
    network = mlp(*sizes)
    complex = enumerate_regions(network, (-1, 1))
    found = statistics(complex)
    d = sizes[0]
    for i in range(0, len(complex), max(1, len(complex) // 8)):
        if found.volume[i] < 1e-6:
            continue
        x = torch.from_numpy(complex.slice.inputs(complex.interior[i : i + 1]))
        ball = inscribed(region(network, x), box=(-torch.ones(d), torch.ones(d)))
        assert found.radius(i) == pytest.approx(ball.radius, rel=1e-6)


def test_what_is_incomplete_proves_nothing():
    complex = dataclasses.replace(enumerate_regions(mlp(2, 9, 1), (-1, 1)), complete=False)
    assert statistics(complex).constant is None
    assert "(incomplete)" in repr(statistics(complex))
    with pytest.raises(DataError, match="needs every region of the box"):
        constant_units(complex)


def test_a_point_is_one_region():
    """Every input held: 0 coordinates, no facets, and the ball in a point has radius 0."""
    complex = enumerate_regions(mlp(2, 6, 1), ([0.5, 0.2], [0.5, 0.2]))
    found = statistics(complex)
    assert (len(found), found.facets.tolist(), found.vertices.tolist()) == (1, [0], [1])
    assert found.volume.tolist() == [1] and found.inside.tolist() == [True]
    assert found.radius(0) == 0 and "1 regions" in repr(found)
