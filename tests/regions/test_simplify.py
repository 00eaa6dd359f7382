"""Networks without their constant units: the same function and regions on the box, but smaller."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import gatewise as gw
from cases import CASES
from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.ir.network import Network
from gatewise.ir.rounding import enclose
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.exact import rational
from gatewise.patterns.observe import pattern
from gatewise.regions.cells.slices import slice_through
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.regions.polyhedral.simplify import simplify
from gatewise.regions.polyhedral.statistics import constant_units
from nets import F64, Chain, mixed, mlp


def same(complex, simple: Network) -> None:
    """Equal at fresh points of the box."""
    where = complex.slice
    s = np.random.default_rng(5).uniform(where.low, where.high, (3000, where.dimension))
    x = where.inputs(s)
    assert torch.allclose(complex.network(x), simple(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("box", [(-1, 1), (0, 0.3), (-0.05, 0.05)], ids=str)
@pytest.mark.parametrize("gate", ["relu", "leaky", "hardtanh", "abs"])
def test_the_function_is_the_same_and_smaller(gate, box):
    complex = enumerate_regions(mlp(2, 14, 14, 2, gate=gate, seed=1), box)
    found = simplify(complex)
    same(complex, found.network)
    assert found.error <= found.bound < 1e-10
    assert found.parameters[1] <= found.parameters[0]
    gone = sum(len(c.off) + len(c.on) for c in constant_units(complex))
    assert found.units[1] == found.units[0] - gone - sum(found.dead.values())
    assert sum(found.off.values()) + sum(found.on.values()) == gone


def test_the_regions_are_the_same():
    complex = enumerate_regions(mlp(2, 14, 14, 2), (-0.5, 0.5))
    found = simplify(complex)
    again = enumerate_regions(found.network, (-0.5, 0.5))
    assert len(again) == len(complex)
    assert np.sort(again.volumes()) == pytest.approx(np.sort(complex.volumes()), rel=1e-6)
    assert all((c.branch < 0).all() for c in constant_units(again))  # nothing more to take


def test_what_comes_out_is_a_network_like_any_other():
    """Bounds, exact rows and maps hold of it."""
    complex = enumerate_regions(mlp(2, 14, 14, 2), (-0.5, 0.5))
    simple = simplify(complex).network
    assert rational(simple) is not None
    x = simple.rows(np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2)))
    assert (enclose(simple, x).error < 1e-12).all()
    maps = AffineMap(simple, pattern(simple, x))
    assert torch.allclose(maps.mv(x), simple(x), atol=1e-13)
    assert torch.allclose(maps.matrix(), complex_map(complex.network, x), atol=1e-12)
    assert "box" in simple.notes[-1]


def complex_map(network: Network, x) -> torch.Tensor:
    return AffineMap(network, pattern(network, x)).matrix()


def test_a_network_that_is_affine_in_the_box_has_no_gates_left():
    network = mlp(2, 6, 6, 1)
    box = (0.2, 0.2 + 1e-4)
    complex = enumerate_regions(network, box)
    assert len(complex) == 1
    found = simplify(complex)
    assert found.units == (12, 0) and len(found.network.nodes) == 1
    assert found.parameters[1] == 3
    same(complex, found.network)


def test_units_that_nothing_hangs_on_go():
    network = mlp(2, 8, 8, 1, seed=3)
    affine = network.nodes[2].kind  # between the gates
    affine.weights[0][:, 5] = 0
    complex = enumerate_regions(network, (-2, 2))
    found = simplify(complex)
    branch = constant_units(complex)[0].branch
    assert found.dead["n1"] == (branch[5] < 0)
    same(complex, found.network)


@pytest.mark.parametrize("seed", range(3))
def test_residual_and_maxout(seed):
    chain = Chain(3, seed)
    chain.linear(6)
    first = chain.gate("relu")
    chain.linear(6)
    chain.gate("hardtanh")
    chain.skip(first)
    chain.linear(12)
    chain.maxout(4)
    chain.linear(2)
    complex = enumerate_regions(chain.network(), (-0.3, 0.3))
    found = simplify(complex)
    assert found.units[1] < found.units[0]
    assert found.error <= found.bound < 1e-9
    same(complex, found.network)


@pytest.mark.parametrize("name", ["max_pool", "pooled_view", "concat", "prelu", "relu6"])
def test_networks_that_were_read(name):
    case = CASES[name]
    network = gw.read(case.module().double().eval(), case.rows(1).double())
    points = case.rows(3).double().reshape(3, -1).numpy() / (3 if name == "pooled_view" else 1)
    complex = enumerate_regions(network, slice=slice_through(*points))
    found = simplify(complex)
    assert found.units[1] < found.units[0]
    same(complex, found.network)


def test_a_gate_at_the_end():
    chain = Chain(2)
    chain.linear(8)
    chain.gate("relu")
    chain.linear(3)
    chain.gate("relu")
    complex = enumerate_regions(chain.network(), (-0.5, 0.5))
    found = simplify(complex)
    assert found.network.output == complex.network.output
    same(complex, found.network)


def test_what_cannot_be_simplified_is_said():
    complex = enumerate_regions(mixed(1), ((-0.3, -0.3, -0.3, 0), (0.3, 0.3, 0.3, 0)))
    with pytest.raises(NotPiecewiseAffine, match="node 'n9' is Product"):
        simplify(complex)
    part = dataclasses.replace(enumerate_regions(mlp(2, 9, 1), (-1, 1)), complete=False)
    with pytest.raises(DataError, match="needs every region of the box"):
        simplify(part)


def test_one_input_held():
    network = mlp(3, 10, 10, 1)
    complex = enumerate_regions(network, ((-1, -1, 0.5), (1, 1, 0.5)))
    found = simplify(complex)
    same(complex, found.network)
    assert found.network.dtype == F64


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_biases_rounding_is_held_against_its_own_point(seed):
    """At 0 both networks are exactly 0 and the bound is too: that is no bound of other points."""
    chain = Chain(2, seed)
    for width in (6, 6):
        chain.linear(width, bias=False)
        chain.gate("relu")
    chain.linear(3, bias=False)
    complex = enumerate_regions(chain.network(), (-1, 1))
    found = simplify(complex)
    same(complex, found.network)
    assert found.error <= found.bound < 1e-10
