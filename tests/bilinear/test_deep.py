"""Stacks against tensors of order 2^L + 1 written out, autograd, and random search."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gatewise as gw
from bilinear.layers import F64, BehindRelu, Chunked, Stream, layer, random
from gatewise.bilinear import (
    BilinearLayer,
    bilinear_layers,
    by_degree,
    expansion,
    homogenised,
    orthogonalise_diagonalise,
    stack,
    tensor,
    top_directions,
    truncate,
)
from gatewise.bilinear.layer import with_one
from gatewise.errors import DataError, NotBilinear, WrongShape

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def deep(*sizes: int, h: int = 7, seed: int = 0, biased: bool = False):
    pairs = pairwise(sizes)
    return stack(
        [
            layer(d, h, o, seed=seed + 10 * i, biased=biased, name=f"layer {i + 1}")
            for i, (d, o) in enumerate(pairs)
        ]
    )


def order_five(two) -> np.ndarray:
    """T (o, d, d, d, d) of two layers: the second's tensor with the first's in both slots."""
    first, second = (tensor(one).numpy() for one in two.layers)
    return np.einsum("oab,aij,bkl->oijkl", second, first, first)


def test_two_layers_are_their_order_five_tensor():
    two = deep(4, 5, 3)
    X = random(6, 4, seed=9)
    want = np.einsum("oijkl,ri,rj,rk,rl->ro", order_five(two), *[X.numpy()] * 4)
    np.testing.assert_allclose(two(X).numpy(), want, rtol=1e-11)
    assert two.degree == 4 and two.homogeneous and "degree 4" in str(two)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_gradients_are_autograds_and_euler_holds(L, biased, seed):
    some = deep(*[4] * (L + 1), seed=seed, biased=biased)
    X = random(3, 4, seed=seed + 7) / 4
    J = some.jacobian(X)
    for x, got in zip(X, J, strict=True):
        want = torch.autograd.functional.jacobian(some, x)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * float(want.abs().max() + 1))
    if not biased:
        y = some(X)
        torch.testing.assert_close((J @ X[..., None])[..., 0], some.degree * y, rtol=1e-9, atol=0)
        torch.testing.assert_close(some(2 * X), 2.0**some.degree * y, rtol=0, atol=0)


@pytest.mark.parametrize("biased", [False, True])
def test_homogenised_carries_its_one(biased):
    some = deep(4, 5, 3, biased=biased)
    whole = homogenised(some)
    X = random(6, 4, seed=9)
    y = whole(with_one(X))
    assert whole.homogeneous
    torch.testing.assert_close(y[:, :-1], some(X), **EXACT)
    torch.testing.assert_close(y[:, -1], torch.ones(6, dtype=F64), **EXACT)


def residual(d: int = 4) -> tuple:
    parts = [layer(d, 6, d, seed=s) for s in (1, 20)]
    return tuple(BilinearLayer.from_weights(p.W, p.V, p.P, skip=True) for p in parts)


def test_a_residual_stack_of_two_has_the_five_terms():
    """y = x + B1 + B2(x, x) + 2 B2(x, B1) + B2(B1, B1)."""
    layers = residual()
    X = random(5, 4, seed=3)
    found = expansion(stack(layers), X)
    B1, B2 = (tensor(BilinearLayer.from_weights(p.W, p.V, p.P)) for p in layers)

    def form(B, a, b):
        return torch.einsum("oij,ri,rj->ro", B, a, b)

    b1 = form(B1, X, X)
    want = {
        "x": X,
        "B1(x, x)": b1,
        "B2(x, x)": form(B2, X, X),
        "B2(x, B1(x, x))": 2 * form(B2, X, b1),
        "B2(B1(x, x), B1(x, x))": form(B2, b1, b1),
    }
    assert set(found.names) == set(want)
    for name, term in zip(found.names, found.terms, strict=True):
        torch.testing.assert_close(term, want[name], **EXACT)
    assert found.error < 1e-12 * float(found.total.abs().max()) + 1e-12
    assert "B2(x, B1(x, x))" in str(found)


@pytest.mark.parametrize("biased", [False, True])
def test_terms_and_degrees_sum_to_the_output(biased):
    some = deep(4, 4, 3, biased=biased)
    X = random(5, 4, seed=3)
    for found in (expansion(some, X), by_degree(some, X)):
        assert found.error < 1e-11 * float(found.total.abs().max())
    degrees = by_degree(some, X)
    twice = by_degree(some, 2 * X)
    for name, a, b in zip(degrees.names, degrees.terms, twice.terms, strict=True):
        torch.testing.assert_close(b, a * 2.0 ** int(name.split()[1]), rtol=1e-12, atol=1e-12)
    assert len(degrees.names) == (5 if biased else 1)


def test_an_expansion_that_is_too_long_is_refused():
    some = stack([residual()[0]] * 4)
    with pytest.raises(DataError, match=r"pairs 20 terms into 231, more than 100; raise `most`"):
        expansion(some, random(2, 4), most=100)


def test_top_directions_are_stationary_and_beat_random_search():
    two = deep(6, 5, 2, h=9)
    u = random(2, seed=4)
    found = top_directions(two, u, starts=40)
    x = found.directions
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x), dtype=F64))
    slope = two.pullback(x, u.expand(len(x), -1)) / 4
    torch.testing.assert_close(
        slope, found.values[:, None] * x, rtol=0, atol=1e-6 * float(found.values[0])
    )
    torch.testing.assert_close(two(x) @ u, found.values)
    points = random(100_000, 6, seed=5)
    best = (two(points / points.norm(dim=1, keepdim=True)) @ u).max()
    assert float(found.values[0]) >= float(best)
    least = top_directions(two, u, starts=40, sign=-1)
    assert float(least.values[0]) < float(found.values[-1])
    assert int(found.found.sum()) == 40 and "of 40 starts" in str(found)


def test_one_layer_peaks_at_its_largest_eigenvalue():
    one = layer(d=6)
    found = top_directions(stack([one]), [1.0, 0, 0], starts=20)
    values = torch.linalg.eigvalsh(tensor(one)[0])
    assert float(found.values[0]) == pytest.approx(float(values[-1]), rel=1e-9)


@pytest.mark.parametrize("sizes", [(4, 5, 3), (4, 3, 5, 2), (3, 9, 2)])
def test_orthogonalising_and_diagonalising_leaves_the_function(sizes):
    some = deep(*sizes)
    X = random(8, sizes[0], seed=3)
    found = orthogonalise_diagonalise(some)
    y = some(X)
    torch.testing.assert_close(found.stack(X), y, rtol=0, atol=1e-12 * float(y.abs().max()))
    widths = [len(w) for w in found.weights]
    whole = truncate(found, widths)
    torch.testing.assert_close(whole.stack(X), y, rtol=0, atol=1e-12 * float(y.abs().max()))
    for w in found.weights:
        assert float(w.sum()) == pytest.approx(found.size**2, rel=1e-9)
    assert "carry 90 %" in str(found)


def test_weights_are_the_singular_values_of_the_tensor():
    """Between two layers: the squared singular values of T with one pair of inputs as rows."""
    two = deep(4, 5, 3)
    T = order_five(two)
    found = orthogonalise_diagonalise(two)
    assert found.size == pytest.approx(np.linalg.norm(T), rel=1e-10)
    singular = np.linalg.svd(T.transpose(1, 2, 0, 3, 4).reshape(16, -1), compute_uv=False)[:5]
    np.testing.assert_allclose(found.weights[0].numpy(), singular**2, rtol=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_bound_holds_for_the_tensor_and_for_values(rank):
    two = deep(4, 5, 3)
    cut = truncate(two, [rank])
    T, less = order_five(two), order_five(cut.stack)
    error = np.linalg.norm(T - less)
    assert error <= cut.bound * (1 + 1e-9)
    assert cut.bound < 2 * error  # and it says something
    X = random(200, 4, seed=3)
    gap = (two(X) - cut.stack(X)).norm(dim=1) / X.norm(dim=1) ** 4
    assert float(gap.max()) <= cut.bound
    assert cut.stack.layers[1].inputs == rank


def test_a_share_of_the_norm_chooses_the_ranks():
    """A stack whose middle is of rank 2 but for a whisper."""
    first = layer(4, 7, 6, seed=1)
    thin = random(6, 2, seed=2) @ random(2, 7, seed=3) + 1e-6 * random(6, 7, seed=4)
    first = BilinearLayer.from_weights(first.W, first.V, thin)
    some = stack([first, layer(6, 7, 3, seed=30)])
    cut = truncate(some, 0.01)
    assert cut.stack.layers[1].inputs == 2
    assert cut.bound <= 0.01 * cut.size
    X = random(20, 4, seed=6)
    assert float((cut.stack(X) - some(X)).abs().max()) < 1e-3 * float(some(X).abs().max())


def test_a_whole_network_is_a_stack():
    torch.manual_seed(0)
    module = Stream().double()
    X = random(4, 5, seed=9)
    some = stack(gw.read(module, X))
    torch.testing.assert_close(some(X), module(X).detach(), **EXACT)
    assert len(some.layers) == 2 and some.inputs == 5


def test_a_network_that_begins_with_a_layer_is_a_stack():
    net, X = gw.read(Chunked().double(), random(4, 5, seed=9)), random(4, 5, seed=3)
    some = stack(net)
    assert some.inputs == 5 and torch.equal(some(X), bilinear_layers(net)[0](X))


def test_what_is_no_stack_is_refused():
    with pytest.raises(WrongShape, match="gives 3 numbers and layer 'layer' takes 6"):
        stack([layer(), layer()])
    with pytest.raises(WrongShape, match="at least one layer"):
        stack([])
    biased = deep(4, 4, 3, biased=True)
    for ask in (lambda: top_directions(biased, [1.0, 0, 0]), lambda: truncate(biased, [2])):
        with pytest.raises(NotBilinear, match=r"homogeneous stack.*homogenised"):
            ask()
    with pytest.raises(DataError, match=r"each of the widths \[5\], got \[6\]"):
        truncate(deep(4, 5, 3), [6])
    with pytest.raises(DataError, match="sign must be 1 or -1, got 0"):
        top_directions(deep(4, 5, 3), [1.0, 0, 0], sign=0)
    X = random(4, 5)
    with pytest.raises(NotBilinear, match="more than affine maps between the network's ends"):
        stack(gw.read(BehindRelu().double(), X))
    tail = nn.Sequential(Stream(), nn.ReLU()).double()
    with pytest.raises(NotBilinear, match="more than affine maps"):
        stack(gw.read(tail, X))
