"""Units constant over a box: never against a sample, and all of those that intervals must find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from cases import CASES
from gatewise.errors import DataError, NotPiecewiseAffine
from gatewise.ir.kinds import Affine, Winner
from gatewise.ir.network import fold, forward
from gatewise.patterns.observe import pattern
from gatewise.regions.local import forms
from gatewise.regions.local.constant import constant_units
from nets import F64, Chain, dense, mlp, networks


def inside(low, high, n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(n, len(low), generator=rng, dtype=F64)
    corner = torch.rand(n, len(low), generator=rng, dtype=F64) < 0.5
    return torch.cat([x, torch.where(corner, low, high)])


def assert_sound(network, low, high, found, seed=0):
    x = inside(low, high, 300, seed).reshape(-1, *network.input_shape)
    seen = pattern(network, x)
    for name, branch in found.branch.items():
        codes = seen.codes(name).reshape(len(x), -1).long()
        known = branch >= 0
        assert bool((codes[:, known] == branch[known]).all())


@settings(max_examples=60)
@given(networks(), st.integers(0, 999), st.floats(0.01, 3))
def test_no_sample_is_against_it_and_bounds_hold(network, seed, size):
    rng = torch.Generator().manual_seed(seed)
    low = torch.randn(network.inputs, generator=rng, dtype=F64)
    high = low + size * (0.1 + torch.rand(network.inputs, generator=rng, dtype=F64))
    found = constant_units(network, (low, high))
    assert_sound(network, low, high, found, seed)
    assert set(found.branch) == {g.name for g in network.gates}
    form = fold(network, forms.start(low, high, network.input_shape), forms.forward)
    y = forward(network, inside(low, high, 300, seed).reshape(-1, *network.input_shape))
    out = form[network.output]
    assert bool((y >= out.low - 1e-12).all()) and bool((y <= out.high + 1e-12).all())
    width = out.parts.abs().sum(0) + out.e[0]
    assert bool(((y - out.c).abs() <= width + 1e-9 * (1 + width)).all())


@pytest.mark.parametrize("seed", range(5))
def test_the_first_layer_is_decided_completely(seed):
    network = mlp(5, 40, 1, seed=seed)
    low, high = -torch.ones(5, dtype=F64) / 3, torch.ones(5, dtype=F64) / 3
    kind = network.nodes[0].kind
    reach = kind.weights[0].abs().sum(1) / 3
    found = constant_units(network, (low, high)).branch["n1"]
    assert torch.equal(found >= 0, kind.bias.abs() > reach)
    assert torch.equal(found[found >= 0] == 1, (kind.bias > 0)[found >= 0])


def test_forms_prove_more_than_intervals():
    """relu(x) - relu(x) + 1e-3 through two equal units: the parts cancel, intervals do not."""
    chain = Chain(1)
    w = torch.ones(2, 1, dtype=F64)
    chain.put(Affine(dense, (w,), torch.ones(2, dtype=F64), 1, 2), shape=(2,))
    chain.gate("relu")
    v = torch.tensor([[1.0, -1.0]], dtype=F64)
    chain.put(Affine(dense, (v,), torch.full((1,), 1e-3, dtype=F64), 2, 1), shape=(1,))
    chain.gate("relu")
    found = constant_units(chain.network(), (-0.5, 0.5))
    assert found.branch["n3"].tolist() == [1] and not found.open
    assert repr(found) == "Constant(3 of 3 units proven; 0 open)"


@pytest.mark.parametrize("sign", [1, -1])
def test_winners_that_are_sure(sign):
    chain = Chain(1)
    w = torch.tensor([[1.0], [1.0], [1.0]], dtype=F64)
    b = torch.tensor([0.0, 5.0, -5.0], dtype=F64)
    chain.put(Affine(dense, (w,), b, 1, 3), shape=(3,))
    chain.put(Winner(torch.tensor([[0, 1, 2], [0, 2, -1]]), sign), shape=(2,))
    found = constant_units(chain.network(), (-1, 1)).branch["n1"]
    assert found.tolist() == ([1, 0] if sign > 0 else [2, 1])


@pytest.mark.parametrize("name", ["residual", "concat", "hardtanh", "max_pool", "batch_norm_after"])
def test_networks_that_are_read(name):
    case = CASES[name]
    network = gw.read(case.module(), case.rows(2)).to(F64)
    d = network.inputs
    low, high = -0.2 * torch.ones(d, dtype=F64), 0.1 * torch.ones(d, dtype=F64)
    found = constant_units(network, (low, high))
    assert_sound(network, low, high, found)


def test_a_constant_network_and_dead_units():
    chain = Chain(2)
    chain.put(
        Affine(dense, (torch.zeros(3, 2, dtype=F64),), torch.tensor([1.0, -1, 0], dtype=F64), 2, 3),
        shape=(3,),
    )
    chain.gate("relu")
    found = constant_units(chain.network(), (-9, 9))
    assert found.branch["n1"].tolist()[:2] == [1, 0]


def test_what_is_refused():
    with pytest.raises(DataError, match="a finite box"):
        constant_units(mlp(2, 3, 1), (0, math.inf))
    with pytest.raises(DataError, match="a finite box"):
        constant_units(mlp(2, 3, 1), None)
    with pytest.raises(DataError, match="empty or flat"):
        constant_units(mlp(2, 3, 1), (np.ones(2), 0))
    with pytest.raises(NotPiecewiseAffine):
        module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU())
        constant_units(gw.read(module), (0, 1))
