"""One bound for all patterns: never below what a row's own pattern gives, and for shallow nets."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.ir.kinds import Pieces, Winner
from gatewise.linear.affine_map import AffineMap
from gatewise.linear.everywhere import SHALLOW, depth, everywhere
from gatewise.patterns.observe import pattern
from nets import F64, mlp, networks, rows
from oracles.plain import exact_mlp


def bounds(network, x):
    """For all patterns and for each row's own, (rows, outputs) each."""
    every = everywhere(network, range(network.outputs), x.reshape(len(x), -1).abs().amax(0))
    own = AffineMap(network, pattern(network, x)).bound(x)
    return None if every is None else every(x.reshape(len(x), -1)), own


@given(networks(), st.integers(0, 99))
def test_it_is_no_less_than_the_bound_of_the_row_s_own_pattern(network, seed):
    every, own = bounds(network, rows(network, seed=seed))
    if every is not None:
        assert (every >= own * (1 - 1e-12)).all()


@pytest.mark.parametrize("gate", ["relu", "leaky", "step", "hardtanh", "abs"])
def test_each_elementwise_gate_has_one(gate):
    network = mlp(4, 8, 8, 2, gate=gate)
    every, own = bounds(network, rows(network))
    assert (every >= own * (1 - 1e-12)).all()
    assert (every <= 100 * own).all()


def test_it_holds_against_rational_arithmetic():
    network = mlp(6, 20, 20, 2, seed=3)
    layers = [(n.kind.weights[0], n.kind.bias) for n in network.nodes if n.layer == "Affine"]
    x = rows(network, 5)
    m = AffineMap(network, pattern(network, x))
    computed = torch.einsum("nof,nf->no", m.matrix(), x) + m.offset
    bound, _ = bounds(network, x)
    for i in range(len(x)):
        exact, _ = exact_mlp(layers, x[i])
        for o, value in enumerate(exact):
            assert abs(float(value - type(value)(float(computed[i, o])))) <= float(bound[i, o])
    assert float(bound.max()) < 1e-11


def test_a_chosen_output_alone():
    network = mlp(5, 9, 3)
    x = rows(network)
    one = everywhere(network, [2], x.abs().amax(0))(x)
    torch.testing.assert_close(one, bounds(network, x)[0][:, 2:])


def test_a_deep_network_keeps_the_bound_of_each_row():
    shallow, deep = mlp(3, *[4] * SHALLOW, 1), mlp(3, *[4] * (SHALLOW + 1), 1)
    assert depth(shallow) == SHALLOW and depth(deep) == SHALLOW + 1
    assert bounds(shallow, rows(shallow))[0] is not None
    assert bounds(deep, rows(deep))[0] is None


def test_gates_that_pick_an_input_have_none():
    network = mlp(3, 4, 1)
    gate = next(n for n in network.nodes if isinstance(n.kind, Pieces))
    max_ = Winner(torch.stack([torch.arange(4), torch.arange(4)], -1))
    nodes = [dataclasses.replace(n, kind=max_) if n is gate else n for n in network.nodes]
    changed = dataclasses.replace(network, nodes=tuple(nodes))
    assert everywhere(changed, [0], torch.ones(3, dtype=F64)) is None
