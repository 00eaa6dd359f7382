"""The tensor, its contractions and its symmetric part, against numpy entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilinear.layers import layer, random
from gatewise.bilinear import (
    BilinearLayer,
    folded,
    forms,
    interaction,
    neurons,
    tensor,
    tensor_inner,
    three_way_identity,
)
from gatewise.bilinear.layer import with_one
from gatewise.errors import DataError, WrongShape
from oracles.quadratic import full_tensor, quadratic

EXACT = {"rtol": 1e-12, "atol": 1e-12}
sizes = st.integers(1, 6)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.booleans(), st.integers(0, 99))
def test_a_layer_is_its_tensor_biases_included(d, h, o, biased, seed):
    one = layer(d, h, o, seed=seed, biased=biased)
    X = random(4, d, seed=seed + 50)
    B = full_tensor(one)
    want = quadratic(B, with_one(X).numpy())
    np.testing.assert_allclose(one(X).numpy(), want, **EXACT)
    held = B if biased else B[:, :d, :d]
    np.testing.assert_allclose(tensor(one).numpy(), held, **EXACT)
    np.testing.assert_allclose(forms(one).dense().numpy(), held, **EXACT)


def test_the_tensor_is_two_inner_products_with_the_identity():
    W, V = random(4, 3), random(4, 3, seed=1)
    half = tensor_inner(W, three_way_identity(4), 1, 2)  # (j, i, k')
    B = tensor_inner(half, V, 3, 1)  # (j, i, k)
    plain = BilinearLayer.from_weights(W, V)
    got = tensor(plain, read_out=False, symmetric=False)
    torch.testing.assert_close(B.permute(1, 0, 2), got, **EXACT)
    want = np.einsum("ij,ik->ijk", W.numpy(), V.numpy())
    np.testing.assert_allclose(got.numpy(), want, **EXACT)
    x = random(3, seed=2)
    left = tensor_inner(tensor_inner(x, got, 1, 2), x, 2, 1)
    right = tensor_inner(x, tensor_inner(got, x, 3, 1), 1, 2)
    torch.testing.assert_close(left, right, **EXACT)
    torch.testing.assert_close(left, plain(x), **EXACT)


def test_inner_products_are_the_familiar_ones():
    a, b = random(3), random(3, seed=1)
    A, C = random(2, 3, seed=2), random(3, 4, seed=3)
    torch.testing.assert_close(tensor_inner(a, b, 1, 1), a @ b)
    torch.testing.assert_close(tensor_inner(A, C, 2, 1), A @ C)
    with pytest.raises(WrongShape, match="axis 1 has 2 entries and axis 1 has 3"):
        tensor_inner(A, C, 1, 1)
    with pytest.raises(WrongShape, match="counted from 1"):
        tensor_inner(A, C, 0, 3)


@pytest.mark.parametrize("biased", [False, True])
def test_the_interaction_of_a_direction_is_the_sum_over_outputs(biased):
    one = layer(biased=biased)
    u = random(3, seed=20)
    whole = torch.einsum("o,oij->ij", u, tensor(one))
    torch.testing.assert_close(interaction(one, u), whole, **EXACT)
    assert interaction(one, u.numpy()).shape == whole.shape
    assert interaction(one, u[None]).shape == (1, *whole.shape)


def test_the_linear_part_of_a_biased_layer_is_the_border():
    one = layer(biased=True)
    B = tensor(one)
    slopes = one.P @ (one.v_bias[:, None] * one.W + one.w_bias[:, None] * one.V) + one.skip
    torch.testing.assert_close(2 * B[:, :-1, -1], slopes, **EXACT)
    torch.testing.assert_close(B[:, -1, -1], one(torch.zeros(6)), **EXACT)


@pytest.mark.parametrize("biased", [False, True])
def test_squares_of_sums_and_differences_make_the_layer(biased):
    one = layer(biased=biased)
    p, m, weight = neurons(one)
    whole = folded(one)
    X = random(5, 6, seed=8)
    x = with_one(X) if biased else X
    square = ((x @ p.mT) ** 2 - (x @ m.mT) ** 2) / 4
    torch.testing.assert_close(square @ whole.P.mT, one(X), **EXACT)
    assert weight.shape == (whole.hidden,)


def test_gauges_leave_the_tensor():
    one = layer()
    s = random(5, seed=30)
    order = torch.tensor([3, 1, 4, 0, 2])
    other = BilinearLayer.from_weights(
        one.V[order] / s[:, None], one.W[order] * s[:, None], one.P[:, order]
    )
    torch.testing.assert_close(tensor(other), tensor(one), **EXACT)


def test_inner_products_and_traces_come_from_the_factors():
    a, b = layer(biased=True), layer(seed=40, biased=True)
    A, B = full_tensor(a), full_tensor(b)
    np.testing.assert_allclose(
        forms(a).products(forms(b)).numpy(), np.einsum("oij,pij->op", A, B), **EXACT
    )
    np.testing.assert_allclose(forms(a).norms().numpy(), np.linalg.norm(A, axis=(1, 2)), **EXACT)
    np.testing.assert_allclose(forms(a).traces().numpy(), np.trace(A, axis1=1, axis2=2), **EXACT)
    wide = layer(d=40, h=3, o=2)
    want = np.linalg.norm(full_tensor(wide), axis=(1, 2))
    np.testing.assert_allclose(forms(wide).norms().numpy(), want, **EXACT)


def test_a_tensor_that_is_too_large_is_refused_with_what_to_use():
    with pytest.raises(DataError, match=r"3 x 6 x 6, 0 MB; raise `largest` above 0"):
        tensor(layer(), largest=1e-5)


def test_a_direction_of_the_wrong_length_is_refused():
    with pytest.raises(WrongShape, match=r"has 3 entries, one an output; got shape \(1, 4\)"):
        interaction(layer(), np.ones(4))
