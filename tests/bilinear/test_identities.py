"""The identities a bilinear layer is defined by, to 1e-12 of its size, biases included."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilinear.layers import layer, random
from gatewise import bilinear
from gatewise.bilinear import BilinearLayer, folded, forms, interaction, spectrum, tensor
from gatewise.bilinear.layer import with_one

sizes = st.integers(1, 9)


def close(got: torch.Tensor, want: torch.Tensor, scale: torch.Tensor) -> bool:
    return bool(((got - want).abs() <= 1e-12 * scale + 1e-300).all())


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.booleans(), st.integers(0, 999))
def test_a_value_is_the_sum_over_eigenvectors(d, h, o, biased, seed):
    """x' Q x = Σ λ (v·x)²; Q = Σ λ v v'; the symmetric part is all that a value depends on."""
    one = layer(d, h, o, seed=seed, biased=biased)
    X = random(5, d, seed=seed + 30)
    x = with_one(X) if biased else X
    y, B = one(X), tensor(one, symmetric=False)
    size = torch.einsum("ri,oij,rj->ro", x.abs(), B.abs(), x.abs()).amax()
    left = torch.einsum("ri,oij->roj", x, B)
    right = torch.einsum("oij,rj->roi", B, x)
    assert close(torch.einsum("roj,rj->ro", left, x), y, size)
    assert close(torch.einsum("roi,ri->ro", right, x), y, size)
    sym = tensor(one)
    assert close(torch.einsum("ri,oij,rj->ro", x, sym, x), y, size)
    found = spectrum(one, x.shape[1], method="dense")
    seen = torch.einsum("ri,uki->ruk", x, found.readers)
    assert close((found.values * seen**2).sum(2), y, 10 * size)
    whole = torch.einsum("uk,uki,ukj->uij", found.values, found.vectors, found.vectors)
    assert close(whole, sym, 10 * sym.abs().amax())


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, sizes, st.integers(0, 999))
def test_biases_are_a_column_and_a_constant_one(d, h, o, seed):
    one = layer(d, h, o, seed=seed, biased=True)
    X = random(5, d, seed=seed + 30)
    whole = folded(one)
    size = folded(_absolute(one))(with_one(X.abs())).amax()
    assert whole.homogeneous and close(whole(with_one(X)), one(X), size)
    u = random(o, seed=seed + 40)
    Q = interaction(one, u)
    x = with_one(X)
    assert close(torch.einsum("ri,ij,rj->r", x, Q, x), one(X) @ u, size * u.abs().sum())
    apart = torch.einsum("o,oij->ij", u, forms(one).dense())
    assert close(Q, apart, 10 * forms(_absolute(one), u.abs()).dense().amax())


def _absolute(one: BilinearLayer) -> BilinearLayer:
    names = ("W", "V", "P", "w_bias", "v_bias", "skip", "bias")
    return BilinearLayer.from_weights(**{n: getattr(one, n).abs() for n in names})


def test_an_and_built_by_hand_is_found_in_the_spectrum():
    """a b = ½ ((a + b)/√2)² - ½ ((a - b)/√2)²."""
    both = BilinearLayer.from_weights([[1.0, 0, 0]], [[0, 1.0, 0]])
    found = spectrum(both, 2)
    order = found.values[0].argsort(descending=True)
    np.testing.assert_allclose(found.values[0][order].numpy(), [0.5, -0.5], atol=1e-15)
    plus, minus = found.readers[0][order].abs().numpy()
    np.testing.assert_allclose([plus, minus], [[0.5**0.5, 0.5**0.5, 0]] * 2, atol=1e-12)
    X = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]])
    assert both(X)[:, 0].tolist() == [0, 0, 0, 1]


def test_a_xor_built_by_hand_is_one_square():
    """On 0 and 1, a xor b = (a - b)²: one eigenvector, λ = 2."""
    either = BilinearLayer.from_weights([[1.0, -1.0]], [[1.0, -1.0]])
    found = spectrum(either, 2)
    np.testing.assert_allclose(found.values[0].numpy(), [2, 0], atol=1e-14)
    assert either([[0, 0], [0, 1], [1, 0], [1, 1]])[:, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("name", bilinear.__all__)
def test_every_name_of_the_door_opens(name):
    assert getattr(bilinear, name).__name__ == name
    assert getattr(bilinear, name).__doc__


def test_the_door_is_light_and_knows_its_names():
    with pytest.raises(AttributeError, match=r"'gatewise.bilinear' has no attribute 'nothing'"):
        _ = bilinear.nothing
    assert set(dir(bilinear)) >= {"spectrum", "hosvd", "bilinear_layers"}
    code = (
        "import sys, gatewise.bilinear; print([m for m in ('scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
