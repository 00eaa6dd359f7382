"""Eigenpairs against dense eigh: both signs, repeated ones, none missed; every space, every way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilinear.layers import F64, layer, random
from gatewise.bilinear import BilinearLayer, forms, spectrum, spectrum_plan, truncation
from gatewise.bilinear.quadratic import Forms
from gatewise.bilinear.spectral.cost import plan
from gatewise.bilinear.spectral.krylov import bounds
from gatewise.bilinear.spectral.pairs import top_pairs
from gatewise.errors import DataError, WrongShape
from oracles.quadratic import full_tensor, largest


def with_values(*values: float, seed: int = 0) -> Forms:
    """One form with these eigenvalues, in a random orthonormal basis: squared units."""
    n = len(values)
    basis = torch.linalg.qr(random(n, n, seed=seed))[0]
    return Forms(basis, basis, torch.tensor([values], dtype=F64))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(["dense", "implicit", "small", "auto"]),
    st.integers(0, 99),
)
def test_every_way_gives_the_eigenvalues_of_dense_eigh(d, h, o, biased, method, seed):
    one = layer(d, h, o, seed=seed, biased=biased)
    k = min(d, 4)
    Q = full_tensor(one) if biased else full_tensor(one)[:, :d, :d]
    found = spectrum(one, k, method=method)
    scale = np.abs(largest(Q, 1)).max()
    want = np.abs(largest(Q, k))
    np.testing.assert_allclose(found.values.abs().numpy(), want, rtol=1e-6, atol=1e-9 * scale)
    form = forms(one)
    residual = form.apply(found.vectors) - found.values[..., None] * found.vectors
    room = 1e-12 * scale * (d + 1)
    assert bool((residual.norm(dim=2) <= found.residuals * (1 + 1e-6) + room).all())
    gram = found.vectors @ found.vectors.mT
    torch.testing.assert_close(gram, torch.eye(k, dtype=F64).expand_as(gram), rtol=0, atol=1e-6)


@pytest.mark.parametrize("h", [90, 20])
def test_implicit_on_a_larger_layer(h):
    one = layer(d=120, h=h, o=4, seed=3)
    found = spectrum(one, 10, method="implicit")
    want = largest(full_tensor(one)[:, :-1, :-1], 10)
    np.testing.assert_allclose(found.values.numpy(), want, rtol=1e-6)
    assert found.method == "implicit" and found.steps < 120


REPEATED = {
    "twice the first": [5, 5, -3, 2, *np.linspace(-1, 1, 96)],
    "both signs": [5, -5, 5, -5, 4, *np.linspace(-1, 1, 95)],
    "five times": [3, 3, 3, 3, 3, -2, *np.linspace(-1, 1, 94)],
    "twenty times": [*[2.0] * 20, *np.linspace(-1, 1, 80)],
    "a mirrored pair low in the list": [9, -8, 7, 6, 4, 4, *np.linspace(-1, 1, 94)],
    "all equal": [1.0] * 100,
    "two values only": [1.0, -1.0] * 50,
    "nothing": [0.0] * 100,
    "one": [2.0, *[0.0] * 99],
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_eigenvalues_are_all_found(name):
    values = [float(v) for v in REPEATED[name]]
    found = top_pairs(with_values(*values), 6, "implicit")
    want = sorted(np.abs(values), reverse=True)[:6]
    np.testing.assert_allclose(found.values[0].abs().numpy(), want, rtol=1e-7, atol=1e-9)
    signed = sorted(found.values[0].tolist())
    if name in ("twice the first", "a mirrored pair low in the list"):
        best = sorted(values, key=lambda v: -abs(v))[:6]
        np.testing.assert_allclose(signed, sorted(best), rtol=1e-7)
    gram = found.vectors[0] @ found.vectors[0].mT
    torch.testing.assert_close(gram, torch.eye(6, dtype=F64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", [0, 8, 9])
def test_a_copy_in_a_crowded_spectrum_is_found(seed, place):
    """Eigenvalues of a random matrix lie half a percent apart: the copy hides among them."""
    A = random(300, 300, seed=seed)
    values = torch.linalg.eigvalsh(A + A.mT)
    values = values[values.abs().argsort(descending=True)]
    twice = torch.cat([values[: place + 1], values[place:-1]])
    found = top_pairs(with_values(*twice.tolist()), 10, "implicit", seed=seed)
    torch.testing.assert_close(found.values[0].abs(), twice[:10].abs(), rtol=1e-6, atol=0)


def test_without_the_second_look_a_copy_would_be_missed(monkeypatch):
    """The test above can fail: one start alone does not see an eigenvalue twice."""
    from gatewise.bilinear.spectral import pairs

    monkeypatch.setattr(pairs, "second_look", lambda f, r, g: r.values.new_zeros(len(f)))
    found = pairs.top_pairs(with_values(*REPEATED["twice the first"]), 3, "implicit")
    assert abs(float(found.values[0, 1])) < 4.9


def test_bounds_hold_and_are_not_vacuous():
    """Kato and Temple, on a matrix whose eigenvalues are known."""
    values = torch.linspace(-1, 1, 50, dtype=F64) ** 3
    form = with_values(*values.tolist())
    found = top_pairs(form, 5, "implicit", tol=1e-4)
    near = (found.values[0, :, None] - values).abs().amin(1)
    assert bool((near <= found.errors[0] + 1e-14).all())
    assert float(found.errors.max()) < 1e-3
    flat = bounds(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.1, 0.1, 0.1]]))
    assert float(flat[0, 2]) == pytest.approx(0.01 / 1.9)


def test_small_problem_covers_the_zeros_too():
    one = layer(d=20, h=3, o=2)
    found = spectrum(one, 20, method="small")
    want = largest(full_tensor(one)[:, :-1, :-1], 20)
    np.testing.assert_allclose(found.values.abs().numpy(), np.abs(want), atol=1e-10)
    whole = torch.einsum("uk,uki,ukj->uij", found.values, found.vectors, found.vectors)
    torch.testing.assert_close(whole, forms(one).dense(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("space", ["hidden", "input", "data"])
def test_all_pairs_make_the_output_in_every_space(biased, space):
    """x' Q x is the sum of λ (t'x)², with all of them."""
    embedding = {"embedding": random(6, 9, seed=70)}
    if biased:
        embedding["embedding_bias"] = random(6, seed=71)
    one = layer(biased=biased, **embedding)
    pixels = random(30, 9, seed=72)
    rows = pixels @ one.embedding.mT + (one.embedding_bias if biased else 0)
    k = {"hidden": 6 + biased, "input": 9 + biased, "data": 6 + biased}[space]
    found = spectrum(one, k, space=space, data=rows if space == "data" else None)
    x = found.coordinates(pixels if space == "input" else rows)
    seen = torch.einsum("ri,uki->ruk", x, found.readers)
    torch.testing.assert_close((found.values * seen**2).sum(2), one(rows), rtol=1e-10, atol=1e-10)


def test_an_embedding_of_rank_below_its_width_is_reduced():
    one = layer(d=6, embedding=random(6, 50, seed=5))
    found = spectrum(one, 4, space="input")
    E = one.embedding.numpy()
    Q = np.einsum("ia,oij,jb->oab", E, full_tensor(one)[:, :-1, :-1], E)
    np.testing.assert_allclose(found.values.numpy(), largest(Q, 4), rtol=1e-9)
    assert "rows of the embedding" in found.method


def test_directions_are_combinations_of_outputs():
    one = layer(d=12)
    u = random(2, 3, seed=9)
    found = spectrum(one, 3, directions=u)
    Q = np.einsum("mo,oij->mij", u.numpy(), full_tensor(one)[:, :-1, :-1])
    np.testing.assert_allclose(found.values.numpy(), largest(Q, 3), rtol=1e-9)


def test_the_plan_follows_the_sizes():
    assert plan(10, 512, 784, 10).method == "implicit"
    assert plan(512, 2048, 512, 10).method == "implicit"
    assert plan(10, 512, 784, 784).method == "dense"
    assert plan(10, 64, 784, 128).method == "small"
    assert plan(3, 5, 6, 2).method == "dense"
    assert "implicit" in str(spectrum_plan(layer(d=500, h=300)))


def test_float32_is_as_good_as_float32():
    one = layer(d=200, h=150, o=2)
    found = spectrum(one, 5, dtype="float32", method="implicit")
    want = largest(full_tensor(one)[:, :-1, :-1], 5)
    assert found.values.dtype == torch.float32
    np.testing.assert_allclose(found.values.numpy(), want, rtol=2e-5)


def test_the_predicted_error_is_the_measured_one_on_gaussian_rows():
    one = layer(d=12, h=10, o=3, biased=True)
    mix = random(12, 12, seed=5)
    X = random(200_000, 12, seed=6) @ mix.mT + random(12, seed=7)
    for space in ("hidden", "data"):
        found = spectrum(one, 5, space=space, data=X if space == "data" else None)
        curve = truncation(found, X, labels=one(X).argmax(1))
        torch.testing.assert_close(curve.predicted, curve.measured, rtol=0.03, atol=0)
        assert curve.whole == 1.0 and float(curve.agreement[-1]) > float(curve.agreement[0])
        assert torch.equal(curve.accuracy, curve.agreement)
        assert "accuracy" in str(curve)


def test_nothing_is_lost_with_all_pairs():
    one = layer(d=5)
    X = random(50, 5, seed=1)
    curve = truncation(spectrum(one, 5), X)
    assert float(curve.measured[:, -1].max()) < 1e-12 * float(curve.size.max())
    assert float(curve.agreement[-1]) == 1 and curve.accuracy is None


def test_weighting_by_data_beats_the_plain_order_there():
    """On data along few directions, the weighted pairs lose less for the same k."""
    one = layer(d=20, h=30, o=4)
    scale = torch.logspace(1, -2, 20, dtype=F64)
    X = random(500, 20, seed=3) * scale
    plain = truncation(spectrum(one, 2), X)
    weighted = truncation(spectrum(one, 2, space="data", data=X), X)
    assert float(weighted.measured[:, 2].norm()) < 0.7 * float(plain.measured[:, 2].norm())


REFUSALS = [
    ({"k": 7}, DataError, "a form over 6 coordinates has 6 eigenpairs, got k=7"),
    ({"k": 0}, DataError, "got k=0"),
    ({"space": "pixels"}, DataError, "space must be one of hidden, input, data, got 'pixels'"),
    ({"space": "data"}, DataError, "give rows of the layer's input"),
    ({"space": "input"}, DataError, "not affine in the network's input"),
    ({"method": "fast"}, DataError, "method must be one of auto, dense, implicit, small"),
    ({"directions": [1.0, 2.0]}, WrongShape, r"has 3 entries, one an output; got shape \(1, 2\)"),
]


@pytest.mark.parametrize(("asked", "error", "words"), REFUSALS)
def test_bad_requests_are_refused(asked, error, words):
    with pytest.raises(error, match=words):
        spectrum(layer(), **({"k": 3} | asked))


def test_labels_and_rows_must_fit():
    found = spectrum(layer(), 2)
    with pytest.raises(WrongShape, match="one label for each of the 5 rows, got 4"):
        truncation(found, random(5, 6), labels=[0, 1, 2, 0])
    with pytest.raises(WrongShape, match="rows of 6 numbers"):
        truncation(found, random(5, 7))


def test_a_spectrum_says_what_it_is():
    text = str(spectrum(layer(), 2))
    assert "3 directions of 'layer': 6 -> 5 products -> 3" in text and "hidden space" in text
    assert isinstance(BilinearLayer.from_weights(random(2, 2), random(2, 2)), BilinearLayer)
