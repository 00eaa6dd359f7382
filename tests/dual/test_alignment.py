"""nu and centred alignment against dense algebra; the table on digits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import gatewise as gw
from gatewise.dual.gates.alignment import alignment, centred_alignment, nu_alignment
from gatewise.dual.kernels.path_kernel import npk
from gatewise.errors import BadRows, DataError, EmptyData, NotGated, WrongShape


def mlp(*sizes, seed=0):
    """A ReLU network read from its matrices."""
    rng = np.random.default_rng(seed)
    return gw.read([(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)])


def rows(net, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, net.inputs))


def kernel(n, rank, seed=0):
    a = np.random.default_rng(seed).normal(size=(n, rank))
    return a @ a.T


def targets(y):
    classes = np.unique(y)
    if len(classes) == 2:
        return np.where(y == classes[1], 1.0, -1.0)[:, None]
    return (y[:, None] == classes).astype(float)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(2, 4), st.integers(0, 1000))
def test_both_are_what_dense_algebra_gives(n, classes, seed):
    k = kernel(n, 2 * n, seed)
    y = np.arange(n) % classes
    t, h = targets(y), np.eye(n) - 1 / n
    found = nu_alignment(k, y)
    expected = np.trace(t.T @ np.linalg.inv(k / np.trace(k)) @ t)
    assert found.jitter == 0
    assert float(found) == pytest.approx(expected, rel=1e-8)
    assert found.condition == pytest.approx(np.linalg.cond(k), rel=0.2)
    kc, yc = h @ k @ h, h @ t @ t.T @ h
    cosine = (kc * yc).sum() / np.linalg.norm(kc) / np.linalg.norm(yc)
    assert centred_alignment(k, y) == pytest.approx(cosine, abs=1e-12)


def test_neither_depends_on_scale_nor_on_the_names_of_the_labels():
    k, y = kernel(10, 20), np.arange(10) % 2
    names = np.array(["no", "yes"])[y]
    for measure in (lambda a, b: float(nu_alignment(a, b)), centred_alignment):
        assert measure(1e6 * k, names) == pytest.approx(measure(k, y))


def test_labels_in_the_top_direction_align_best():
    y = np.arange(20) % 2
    signs = 2.0 * y - 1
    good = np.eye(20) + 20 * np.outer(signs, signs)
    other = np.roll(np.repeat([1.0, -1.0], 10), 5)
    bad = np.eye(20) + 20 * np.outer(other, other)
    assert float(nu_alignment(good, y)) < float(nu_alignment(bad, y))
    assert centred_alignment(good, y) > 0.9 > centred_alignment(bad, y)
    assert centred_alignment(np.outer(signs, signs), y) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_singular_kernel_is_solved_with_a_jitter_that_is_stated(dtype):
    k = kernel(12, 3).astype(dtype)
    found = nu_alignment(k, np.arange(12) % 3)
    assert found.jitter > 0
    assert np.isfinite(found.value)
    assert "K is singular" in str(found)
    t = targets(np.arange(12) % 3)
    k = k.astype(float) / np.trace(k.astype(float)) + found.jitter * np.eye(12)
    assert found.value == pytest.approx(np.trace(t.T @ np.linalg.inv(k) @ t), rel=1e-2)


def test_bad_input_is_refused():
    k = kernel(6, 9)
    for measure in (nu_alignment, centred_alignment):
        with pytest.raises(DataError, match=r"all 6 labels are 1\.0, so nothing is told apart"):
            measure(k, np.ones(6))
        with pytest.raises(WrongShape, match=r"shape \(rows, rows\), got \(6, 5\)"):
            measure(k[:, :5], np.arange(6))
        with pytest.raises(WrongShape, match="one label for each of 6 rows"):
            measure(k, np.arange(5))
        with pytest.raises(DataError, match="not symmetric"):
            measure(k + np.triu(k), np.arange(6) % 2)
        with pytest.raises(BadRows, match="y holds NaN or infinity in rows 5:"):
            measure(k, np.array([0, 1, 0, 1, 0, np.nan]))
        with pytest.raises(DataError, match="the kernel holds NaN or infinity"):
            measure(np.full((6, 6), np.inf), np.arange(6) % 2)
    with pytest.raises(DataError, match="it is no kernel"):
        nu_alignment(np.diag([1.0, 1, 1, 1, 1, -0.5]), np.arange(6) % 2)
    with pytest.raises(DataError, match="tells no two rows apart"):
        centred_alignment(np.ones((6, 6)), np.arange(6) % 2)


def test_the_table_holds_the_alignment_of_each_kernel():
    net = mlp(4, 9, 7, 3, seed=2)
    X, y = rows(net, 30), np.arange(30) % 3
    found = alignment(net, X, y, draws=2)
    pattern = gw.pattern(net, X)
    on = [pattern.codes(n.name).numpy().reshape(30, -1).astype(float) for n in net.gates]
    kernels = [X @ X.T, *(g @ g.T for g in on), npk(net, X, scale="normalised").values]
    expected = [centred_alignment(k, y) for k in kernels]
    np.testing.assert_allclose(found.centred, expected, rtol=1e-9)
    assert found.kernels == ("inputs", *(n.name for n in net.gates), "NPK")
    assert found.random.shape == (4, 2)
    assert float(found.nu[3]) == pytest.approx(float(nu_alignment(kernels[3], y)), rel=1e-3)
    again = alignment(net, X, y, draws=2)
    assert np.array_equal(found.random, again.random)


def test_trained_gates_align_with_the_labels_and_random_ones_less():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = MLPClassifier((64, 64, 64), max_iter=200, random_state=0).fit(X[:1000], y[:1000])
    found = alignment(gw.read(model), X[1000:1400], y[1000:1400])
    assert found.centred[3] > found.random[3].max() + 0.1  # the last gate layer
    assert found.centred[-1] > found.random[-1].max()
    assert "random gates" in str(found)


def test_a_network_that_cannot_be_aligned_is_refused():
    net = mlp(3, 4, 2)
    with pytest.raises(NotGated, match="has no gates"):
        alignment(mlp(3, 2), np.ones((2, 3)), [0, 1])
    with pytest.raises(DataError, match="all 2 labels are 1, so nothing"):
        alignment(net, np.ones((2, 3)), [1, 1])
    for draws in (0, 1.5):
        with pytest.raises(
            DataError, match=f"draws must be a whole number, at least 1, got {draws}"
        ):
            alignment(net, np.ones((2, 3)), [0, 1], draws=draws)
    with pytest.raises(EmptyData, match="X has 0 rows: give 2 or more"):
        alignment(net, np.ones((0, 3)), [])
    with pytest.raises(BadRows, match="X holds NaN or infinity in rows 1"):
        alignment(net, [[1, 2, 3], [1, np.nan, 2]], [0, 1])


def test_rows_that_are_all_the_same_are_refused():
    with pytest.raises(DataError, match="all 6 rows of X are the same, so no kernel"):
        alignment(mlp(3, 4, 2), np.full((6, 3), 0.1), [0, 1] * 3)


def test_a_layer_whose_gates_are_the_same_at_all_rows_is_said_to_tell_nothing():
    rng = np.random.default_rng(0)
    net = gw.read([(rng.normal(size=(5, 3)), np.full(5, 99.0)), (rng.normal(size=(2, 5)), None)])
    found = alignment(net, rows(net, 8), np.arange(8) % 2)
    assert np.isnan(found.centred[1])  # its gates are on everywhere
    assert "nan: the same gates are on at all rows" in str(found)


def test_columns_of_a_table_are_matched_by_their_names():
    X, y = rows(mlp(3, 2), 20), np.arange(20) % 2
    table = pd.DataFrame(X, columns=list("abc"))
    model = MLPClassifier((5,), max_iter=2000, random_state=0).fit(table, y)
    net = gw.read(model)
    found, turned = (alignment(net, t, y) for t in (table, table[["c", "a", "b"]]))
    np.testing.assert_array_equal(found.centred, turned.centred)
