"""Stretches of affine layers as one map: against exact rationals, one by one, and out of range."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from cases import CASES
from gatewise.errors import DataError
from gatewise.linear.chains import Factor, product, scaled, spectral
from gatewise.linear.stretches import collapsed
from nets import F64, Chain, mixed, mlp


def chain(*sizes: int, seed: int = 0, gain: float = 1.0, bias: bool = True):
    made = Chain(sizes[0], seed)
    for width in sizes[1:]:
        made.linear(width, bias)
    network = made.network()
    for node in network.nodes:
        node.kind.weights[0].mul_(gain)
    return network


def exact(network):
    """W and b in rational numbers."""
    W, b = None, None
    for node in network.nodes:
        A = [[Fraction(v) for v in row] for row in node.kind.weights[0].tolist()]
        c = [Fraction(v) for v in node.kind.bias.tolist()]
        if W is None:
            W, b = A, c
            continue
        b = [_dot(row, b) + d for row, d in zip(A, c, strict=True)]
        columns = list(zip(*W, strict=True))
        W = [[_dot(row, column) for column in columns] for row in A]
    return W, b


def _dot(row, column):
    return sum(a * v for a, v in zip(row, column, strict=True))


def distance(ours, theirs) -> float:
    """The Frobenius norm of the difference, from rationals."""
    flat = np.ravel(ours).tolist()
    gaps = [Fraction(v) - w for v, w in zip(flat, np.ravel(theirs).tolist(), strict=True)]
    return math.sqrt(float(sum(g * g for g in gaps)))


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=7),
    gain=st.sampled_from([1.0, 1e-9, 3e11]),
    seed=st.integers(0, 99),
)
def test_the_error_against_exact_numbers_is_within_the_bound(sizes, gain, seed):
    network = chain(*sizes, seed=seed, gain=gain)
    found = collapsed(network).whole
    W, b = exact(network)
    assert distance(found.weight.tolist(), np.array(W, dtype=object)) <= found.weight_bound
    assert distance(found.bias.tolist(), np.array(b, dtype=object)) <= found.bias_bound


def test_fifty_layers_of_512_to_1e_13():
    found = collapsed(chain(512, *[512] * 50, bias=False)).whole
    assert 3.64 * found.error < 1e-13  # the true error is no larger, but with probability 1e-12
    assert found.error < found.relative_bound < 1e-5
    assert found.difference < 1e-13


def test_a_bound_that_says_why_not():
    """Layers that cancel: their norms multiply to far more than the product's."""
    network = chain(6, 6, 6)
    A = network.nodes[0].kind.weights[0]
    A[:, 5] = A[:, 4] + 1e-8 * A[:, 3].flip(0)  # nearly singular
    inverse = torch.linalg.inv(A)
    network.nodes[1].kind.weights[0].copy_(inverse)
    found = collapsed(network).whole
    W, _ = exact(network)
    error = distance(found.weight.tolist(), np.array(W, dtype=object))
    assert 1e-13 < error / float(found.weight.norm()) <= found.relative_bound
    assert found.growth > 1e7 and found.layers[0].condition > 1e7


def test_measured_error_agrees_with_exact_numbers():
    network = chain(5, 5, 5, 5, 5)
    found = collapsed(network).whole
    W, _ = exact(network)
    true = distance(found.weight.tolist(), np.array(W, dtype=object))
    assert true / 4 < found.error * float(found.weight.norm()) < true * 4


@pytest.mark.parametrize("gain,side", [(1e40, "overflows"), (1e-40, "vanishes")])
def test_a_product_that_no_float_holds(gain, side):
    network = chain(8, *[8] * 12, gain=gain)
    with pytest.raises(DataError, match=f"from 'n0' to 'n11' {side}: .*scaled=True"):
        collapsed(network)
    found = collapsed(network, scaled=True).whole
    assert abs(found.scale) > 1100 and 0.5 <= float(found.weight.abs().max()) < 1
    plain = collapsed(chain(8, *[8] * 12)).whole
    ratio = 12 * math.log2(gain) - found.scale  # the same product, times gain^12
    assert torch.allclose(found.weight, plain.weight * 2.0**ratio, rtol=1e-9)
    assert found.error < 1e-14


def test_large_and_small_layers_in_between_do_not_matter():
    network = chain(4, 4, 4, 4, bias=False)
    for node, gain in zip(network.nodes, (1e300, 1e250, 1e-300), strict=True):
        node.kind.weights[0].mul_(gain)
    found = collapsed(network).whole
    assert bool(found.weight.isfinite().all()) and found.error < 1e-14


def test_the_norm_bound_holds_and_the_order_is_cheap():
    A = torch.randn(40, 60, dtype=F64, generator=torch.Generator().manual_seed(0))
    A /= A.abs().max() * 1.01
    true = float(torch.linalg.matrix_norm(A, 2))
    assert true <= spectral(A) <= 2 * true
    tall = torch.ones(1 << 12, 1, dtype=F64)
    thin = [Factor(scaled(t)) for t in (tall.T, tall) * 50]
    assert product(thin).weight.value.shape == (1 << 12, 1 << 12)  # in another order: minutes


def test_ranks_and_conditions_are_numpys():
    network = chain(12, 5, 9, bias=False)
    found = collapsed(network).whole
    for ours, W in zip(
        (*found.layers, found.whole),
        (*(n.kind.weights[0].numpy() for n in network.nodes), found.weight.numpy()),
        strict=True,
    ):
        assert ours.rank == np.linalg.matrix_rank(W)
        assert ours.singular_values.numpy() == pytest.approx(np.linalg.svd(W)[1], abs=1e-13)
        assert ours.norm == pytest.approx(np.linalg.norm(W, 2))
        s = np.linalg.svd(W)[1]
        assert ours.stable_rank == pytest.approx((s**2).sum() / s[0] ** 2)
        p = s[s > 1e-14] / s.sum()
        assert ours.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert found.layers[0].condition == pytest.approx(
        np.linalg.cond(network.nodes[0].kind.weights[0])
    )
    assert found.whole.rank == found.whole.proven_rank == 5
    assert found.whole.condition == math.inf


def test_stretches_between_gates_compute_the_network():
    network = mixed()
    found = collapsed(network)
    assert [s.name for s in found.stretches] == ["n0", "n2", "n5", "n7", "n10"]
    x = network.rows(torch.randn(20, 4, dtype=F64))
    values = {"input": x}
    for node in network.nodes:
        values[node.name] = node.kind(*(values[n] for n in node.inputs))
    for part in found.stretches:
        given = torch.cat([values[s] for s in part.sources], 1)
        assert torch.allclose(part(given), values[part.name], atol=1e-13)
    assert found["n5"].sources == ("n3", "n1")
    told = str(found["n5"])
    assert "n3 + n1 -> n5" in told and "condition" in told and "all of it" in told


@pytest.mark.parametrize("name", ["batch_norm_after", "grouped_conv", "linear", "residual"])
def test_networks_that_were_read(name):
    case = CASES[name]
    network = gw.read(case.module().double().eval(), case.rows(1).double())
    for part in collapsed(network).stretches:
        assert part.difference < 1e-13
        assert part.relative_bound < 1e-11


def test_a_convolution_without_a_bias_has_its_bound():
    """The bound adds what underflow can lose where there is no bias to add it to."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, bias=False), torch.nn.ReLU(), torch.nn.Flatten()
    )
    x = torch.randn(3, 2, 5, 5)
    network = gw.read(module, x[:1])
    first = collapsed(network).stretches[0]
    assert 0 < first.relative_bound < 1e-12
    assert (gw.affine(network, x).bound(x) < 1e-12).all()


def test_zeros_and_no_layer_at_all():
    network = chain(3, 2)
    network.nodes[0].kind.weights[0].zero_()
    found = collapsed(network).whole
    assert found.relative_bound == 0 and found.whole.rank == 0 and found.whole.condition == math.inf
    assert "nan" not in str(found)
    with pytest.raises(DataError, match="no affine node, so there is nothing to collapse"):
        _ = collapsed(gw.read(torch.nn.ReLU(), torch.zeros(1, 3))).whole
    with pytest.raises(DataError, match="give a Network"):
        collapsed(torch.nn.Linear(3, 2))


def test_what_is_refused():
    gated = mlp(3, 4, 2)
    with pytest.raises(DataError, match="not affine: gates or curves cut it into 2 stretches"):
        _ = collapsed(gated).whole
    with pytest.raises(DataError, match="no stretch ends in 'n1': they end in 'n0', 'n2'"):
        collapsed(gated, at="n1")
    with pytest.raises(DataError, match="no stretch ends in 'n9'"):
        _ = collapsed(gated)["n9"]
    maps = gw.affine(gated, torch.zeros(2, 3))
    frozen = next(maps.frozen())[1]
    with pytest.raises(DataError, match="frozen to 2 patterns at once"):
        collapsed(frozen)
    one = next(maps[:1].frozen())[1]
    assert torch.allclose(collapsed(one).whole.weight, maps.matrix()[0], atol=1e-14)
    wide = chain(3, 2)
    node = dataclasses.replace(wide.nodes[0], shape=(1 << 25,))
    with pytest.raises(DataError, match="matrix of 33554432 x 3 numbers, more than fits"):
        collapsed(dataclasses.replace(wide, nodes=(node,)))


def test_overflow_in_a_stretch_that_is_no_chain():
    made = Chain(3)
    first = made.linear(3)
    made.linear(3)
    made.skip(first)
    network = made.network()
    for node in network.nodes[:2]:
        node.kind.weights[0].mul_(1e200)
    with pytest.raises(DataError, match="overflow float64 when multiplied"):
        collapsed(network)
