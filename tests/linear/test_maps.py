"""W x + b = f(x) on the whole region, W is autograd's Jacobian, and the bound holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gatewise.errors import DataError, NotPiecewiseAffine, WrongShape
from gatewise.ir.kinds import Smooth
from gatewise.ir.network import forward
from gatewise.linear.affine_map import AffineMap
from gatewise.linear.collapse import by_columns, by_rows, collapse
from gatewise.linear.freeze import freeze
from gatewise.patterns.observe import pattern
from nets import F64, mixed, mlp, networks, rows
from oracles.plain import exact_mlp, jacobian


def maps(network, x):
    return AffineMap(network, pattern(network, network.rows(x)))


@given(networks(), st.integers(0, 99))
def test_the_map_is_the_network_and_its_jacobian(network, seed):
    x = rows(network, seed=seed)
    m = maps(network, x)
    w, b = m.matrix(), m.offset
    assert w.shape == (len(x), network.outputs, network.inputs)
    error = (torch.einsum("nof,nf->no", w, x) + b - network(x)).abs()
    assert (error <= m.bound(x)).all()
    torch.testing.assert_close(
        w, jacobian(lambda v: forward(network, v), x), rtol=1e-12, atol=1e-13
    )


@given(networks(), st.integers(0, 99))
def test_rows_and_columns_agree_and_mv_rmv_need_no_matrix(network, seed):
    x = rows(network, seed=seed)
    frozen = freeze(network, pattern(network, x))
    (w1, b1), (w2, b2) = by_rows(frozen, range(network.outputs)), by_columns(frozen)
    torch.testing.assert_close(w1, w2, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b1, b2, rtol=1e-12, atol=1e-12)
    m = maps(network, x)
    y = torch.einsum("nof,nf->no", w1, x) + b1
    torch.testing.assert_close(m.mv(x), y, rtol=1e-12, atol=1e-12)
    g = rows(network, seed=seed + 1).new_ones(len(x), network.outputs)
    torch.testing.assert_close(m.rmv(g), (g.unsqueeze(1) @ w1)[:, 0], rtol=1e-12, atol=1e-12)


def test_rounding_bound_holds_against_rational_arithmetic_and_is_not_idle():
    """The computed map is off from the exact one, by less than the bound, and not by nothing."""
    network = mlp(6, 20, 20, 2, seed=3)
    layers = [(n.kind.weights[0], n.kind.bias) for n in network.nodes if n.layer == "Affine"]
    x = rows(network, 5)
    m = maps(network, x)
    computed = torch.einsum("nof,nf->no", m.matrix(), x) + m.offset
    bound = m.bound(x)
    worst = 0.0
    for i in range(len(x)):
        exact, _ = exact_mlp(layers, x[i])
        for o, value in enumerate(exact):
            error = abs(float(value - type(value)(float(computed[i, o]))))
            assert error <= float(bound[i, o])
            worst = max(worst, error)
    assert worst > 0
    assert float(bound.max()) < 1e-11


def test_bound_fails_when_a_weight_is_wrong():
    """The test above can fail: a perturbation of 1e-9 of one weight is far outside the bound."""
    network, other = mlp(6, 20, 2, seed=3), mlp(6, 20, 2, seed=3)
    other.nodes[0].kind.weights[0][0, 0] += 1e-9
    x = rows(network, 50)
    m = maps(network, x)
    assert ((m.mv(x) - other(x)).abs() > m.bound(x)).any()


def test_a_chosen_output_alone():
    network = mixed(1)
    m = maps(network, rows(network))
    w, b = m.rows([2])
    torch.testing.assert_close(w[:, 0], m.matrix()[:, 2])
    torch.testing.assert_close(b[:, 0], m.offset[:, 2])


def test_a_network_without_gates_collapses_to_one_map():
    network = mlp(5, 3)
    w, b = collapse(freeze(network, pattern(network, rows(network, 1))))
    assert torch.equal(w[0], network.nodes[0].kind.weights[0])
    assert torch.equal(b[0], network.nodes[0].kind.bias)


def test_many_chunks_give_the_same_answer(monkeypatch):
    network = mixed(4)
    x = rows(network, 50)
    whole = maps(network, x).matrix()
    monkeypatch.setattr("gatewise.linear.affine_map.CHUNK_BYTES", 1)
    torch.testing.assert_close(maps(network, x).matrix(), whole, rtol=0, atol=0)


def test_a_smooth_node_is_named():
    network = mlp(3, 4, 1)
    node = network.nodes[1]
    object.__setattr__(node, "kind", Smooth(torch.sigmoid))
    with pytest.raises(NotPiecewiseAffine, match=f"node '{node.name}'"):
        freeze(network, pattern(network, rows(network)))


def test_a_step_times_a_value_is_affine_but_two_values_are_not():
    network = mixed(0)
    product = next(n for n in network.nodes if n.layer == "Product")
    assert maps(network, rows(network)).matrix().abs().sum() > 0
    object.__setattr__(product, "inputs", (product.inputs[1], product.inputs[1]))
    with pytest.raises(NotPiecewiseAffine, match=product.name):
        freeze(network, pattern(network, rows(network)))


def test_wrong_number_of_rows_is_refused():
    network = mlp(3, 4, 1)
    with pytest.raises(WrongShape, match="one row of 3 for each of the 9 maps"):
        maps(network, rows(network)).mv(torch.zeros(2, 3, dtype=F64))


def test_float32_maps_are_within_their_own_bound():
    network = mlp(6, 30, 30, 1, seed=5).to(torch.float32)
    x = rows(network, 20).float()
    m = maps(network, x)
    y = torch.einsum("nof,nf->no", m.matrix(), x) + m.offset
    assert y.dtype == torch.float32
    assert ((y - network(x)).abs() <= m.bound(x)).all()


def test_a_network_that_ends_in_a_step_has_slope_zero():
    import dataclasses

    network = mlp(4, 5, gate="step")
    chain = dataclasses.replace(mixed(0))
    step = next(n for n in chain.nodes if n.name == "n8")
    ends = dataclasses.replace(chain, output=step.name, input_shape=(4,))
    assert step.kind.constant
    for net in (ends, network):
        x = rows(net, 5)
        m = maps(net, x)
        torch.testing.assert_close(torch.einsum("nof,nf->no", m.matrix(), x) + m.offset, net(x))
    assert not maps(ends, rows(ends, 5)).matrix().any()


def test_outputs_that_are_not_there_are_refused():
    network = mlp(3, 4, 2)
    with pytest.raises(DataError, match="outputs run from 0 to 1"):
        maps(network, rows(network)).rows([5])
