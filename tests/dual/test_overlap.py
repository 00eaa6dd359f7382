"""Gate overlap: counters against every pair of rows, one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import gatewise as gw
from gatewise.dual.gates.overlap import overlap
from gatewise.errors import BadRows, DataError, EmptyData, NotGated


def mlp(*sizes, seed=0):
    """A ReLU network read from its matrices."""
    rng = np.random.default_rng(seed)
    return gw.read([(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)])


def rows(net, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, net.inputs))


def gates(net, X):
    """The on/off state of every unit, layer by layer, by a plain forward pass."""
    pattern = gw.pattern(net, X)
    return [pattern.codes(n.name).numpy().reshape(len(X), -1) for n in net.gates]


def by_pairs(a, b, same):
    """(equal, shared) share of each pair of different rows, averaged."""
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
    if not pairs:
        return np.nan, np.nan
    equal = np.mean([(a[i] == b[j]).mean() for i, j in pairs])
    return equal, np.mean([(a[i] & b[j]).mean() for i, j in pairs])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=3, max_size=5),
    st.integers(1, 9),
    st.integers(0, 1000),
    st.integers(1, 4),
)
def test_counters_are_the_mean_over_all_pairs(sizes, count, seed, batch):
    net = mlp(*sizes, seed=seed)
    X = rows(net, count, seed)
    y = np.random.default_rng(seed).integers(0, 3, count)
    found = overlap(net, X, y=y, batch=batch)
    for layer, on in enumerate(gates(net, X)):
        for a, first in enumerate(found.classes):
            for b, second in enumerate(found.classes):
                expected = by_pairs(on[y == first], on[y == second], a == b)
                got = (found.equal[layer, a, b], found.shared[layer, a, b])
                np.testing.assert_allclose(got, expected, rtol=1e-12)
            np.testing.assert_allclose(found.active[layer, a], on[y == first].mean())


def test_two_sets_are_compared_row_by_row():
    net = mlp(4, 7, 5, 2)
    X, X2 = rows(net, 6), rows(net, 4, seed=9)
    found = overlap(net, X, X2, pairs=True)
    for layer, (a, b) in enumerate(zip(gates(net, X), gates(net, X2), strict=True)):
        expected = by_pairs(a, b, False)
        np.testing.assert_allclose(found.equal[layer, 0, 0], expected[0])
        np.testing.assert_allclose(found.shared[layer, 0, 0], expected[1])
        assert np.array_equal(found.pairs[layer], a.astype(int) @ b.T.astype(int))


def test_the_last_entry_is_all_gates_together():
    net = mlp(4, 7, 5, 2)
    X = rows(net, 6)
    found = overlap(net, X)
    joined = np.concatenate(gates(net, X), 1)
    np.testing.assert_allclose(found.equal[-1, 0, 0], by_pairs(joined, joined, True)[0])
    assert found.units == (7, 5, 12)


def test_within_and_between_weigh_pairs():
    net = mlp(3, 8, 2)
    X, y = rows(net, 9), np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    found = overlap(net, X, y=y)
    on = gates(net, X)[0]
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    for same, got in ((True, found.within()), (False, found.between())):
        chosen = [(on[i] == on[j]).mean() for i, j in pairs if (y[i] == y[j]) == same]
        np.testing.assert_allclose(got[0], np.mean(chosen))
    assert np.isnan(found.equal[0, 2, 2])  # one row has no pair


def test_training_makes_the_gates_of_a_class_alike():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    net = gw.read(MLPClassifier((64, 64), max_iter=400, random_state=0).fit(X[:900], y[:900]))
    found = overlap(net, X[900:], y=y[900:])
    assert (found.within() > found.between() + 0.05).all()
    assert "all gates" in str(found)


def test_bad_input_is_refused():
    net = mlp(3, 4, 2)
    with pytest.raises(DataError, match=r"one label for each of 2 rows, and it has shape \(1,\)"):
        overlap(net, np.ones((2, 3)), y=[1])
    with pytest.raises(EmptyData, match="X2 has 0 rows: give 1 or more"):
        overlap(net, np.ones((2, 3)), np.ones((0, 3)))
    with pytest.raises(BadRows, match="in rows 3:"):
        overlap(net, [[1, 2, 3]] * 3 + [[1, np.inf, 2]], batch=2)
    with pytest.raises(NotGated, match="has no gates"):
        overlap(mlp(3, 2), np.ones((2, 3)))
    for batch in (-1, 0, 1.5, True):
        with pytest.raises(DataError, match="batch must be a whole number, at least 1, got"):
            overlap(net, np.ones((2, 3)), batch=batch)


def test_two_sets_of_rows_are_both_labelled_or_neither():
    net = mlp(3, 4, 2)
    X, X2 = rows(net, 4), rows(net, 2, seed=1)
    for labels in ({"y": [0, 1, 0, 1]}, {"y2": [0, 1]}):
        with pytest.raises(DataError, match="y and y2 go together"):
            overlap(net, X, X2, **labels)
    with pytest.raises(DataError, match="y2 was given without its rows: give X2 too"):
        overlap(net, X, y=[0, 1, 0, 1], y2=[0, 1, 0, 1])
    found = overlap(net, X, X2, y=[0, 1, 0, 1], y2=["a", "b"])
    assert np.isnan(found.within()).all() and "between" in str(found)  # no class is in both
