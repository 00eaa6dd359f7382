"""Ridge against lstsq in feature space and rows really left out; the SVM against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

import gatewise as gw
from gatewise.dual.distilling.network import distill
from gatewise.dual.gates.alignment import alignment, centred_alignment, nu_alignment
from gatewise.dual.gates.overlap import overlap
from gatewise.dual.machines import solvers
from gatewise.dual.machines.know import gates_know
from gatewise.dual.machines.solvers import quality, ridge_machine, svm_machine
from gatewise.errors import BadRows, DataError, WrongShape
from gatewise.given.labels import spread_of


def features(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 30), st.integers(1, 6), st.integers(1, 3), st.integers(0, 999))
def test_ridge_on_a_linear_kernel_is_ridge_on_its_features(n, d, outputs, seed):
    x, new, ridge = features(n, d, seed), features(5, d, seed + 1), 0.3
    y = features(n, outputs, seed + 2)
    machine = ridge_machine(x @ x.T, y, ridge=ridge, task="regression")
    penalty = ridge * np.mean(np.sum(x**2, 1))
    stacked = np.vstack([x, np.sqrt(penalty) * np.eye(d)])
    centred = np.vstack([y - y.mean(0), np.zeros((d, outputs))])
    slopes = np.linalg.lstsq(stacked, centred, rcond=None)[0]
    assert_allclose(machine.scores(new @ x.T), new @ slopes + y.mean(0), atol=1e-8)
    assert machine.residual < 1e-8


def test_several_ridges_agree_with_one_and_the_best_is_taken():
    x = features(40, 8, 0)
    y = x[:, 0] - x[:, 1] + 0.1 * features(40, 1, 1)[:, 0]
    gram, ridges = x @ x.T, (1e-3, 1e-1, 10.0)
    path = ridge_machine(gram, y, ridge=ridges, task="regression")
    alone = ridge_machine(gram, y, ridge=path.ridge, task="regression")
    assert_allclose(path.weights, alone.weights, atol=1e-8)
    errors = dict(path.left_out)
    assert set(errors) == set(ridges) and errors[path.ridge] == min(errors.values())
    assert path.ridge != 10.0


def test_leave_one_out_errors_are_those_of_machines_fitted_without_the_row():
    x, y, ridge = features(12, 5, 3), features(12, 1, 4), 0.2
    gram = x @ x.T
    penalty = ridge * gram.diagonal().mean() * np.eye(11)
    centred, errors = y - y.mean(), []
    for i in range(12):
        rest = np.delete(np.arange(12), i)
        weights = np.linalg.solve(gram[np.ix_(rest, rest)] + penalty, centred[rest])
        errors.append(float((gram[i, rest] @ weights - centred[i])[0]) ** 2)
    path = ridge_machine(gram, y, ridge=(ridge, 5.0), task="regression")
    assert_allclose(dict(path.left_out)[ridge], np.mean(errors), rtol=1e-8)


@pytest.mark.parametrize("labels", [("a", "b"), ("c", "a", "b")])
def test_labels_come_back_as_they_were_given(labels):
    rng = np.random.default_rng(0)
    codes = rng.integers(len(labels), size=60)
    centres = 4 * np.eye(len(labels))[:, : max(2, len(labels))]
    x = centres[codes] + 0.3 * rng.standard_normal((60, centres.shape[1]))
    y = np.array(labels)[codes]
    gram = x @ x.T + 1
    for machine in (ridge_machine(gram, y), svm_machine(gram, y)):
        assert machine.scores(gram).shape == (60, 1 if len(labels) == 2 else 3)
        assert machine.score(gram, y) == 1
        assert list(machine.classes) == sorted(labels)


def test_ridge_means_the_same_for_a_kernel_and_a_multiple_of_it():
    x, y = features(20, 3, 5), np.arange(20) % 2
    one, other = ridge_machine(x @ x.T, y), ridge_machine(1e6 * (x @ x.T), y)
    assert_allclose(one.scores(x @ x.T), other.scores(1e6 * (x @ x.T)), atol=1e-9)


def test_svm_is_the_one_of_scikit_learn_class_against_rest():
    x, y = load_iris(return_X_y=True)
    gram = x @ x.T
    gram /= gram.diagonal().mean()
    theirs = OneVsRestClassifier(SVC(kernel="linear", C=2.0))
    theirs.fit(x / np.sqrt((x**2).sum(1).mean()), y)
    ours = svm_machine(7 * gram, y, C=2.0)
    scores = theirs.decision_function(x / np.sqrt((x**2).sum(1).mean()))
    assert_allclose(ours.scores(7 * gram), scores, atol=2e-3)  # libsvm stops at 1e-3


def test_quality_is_accuracy_or_r2():
    assert quality(["a", "b"], ["a", "c"], labels=True) == 0.5
    assert quality([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], labels=False) == 1
    assert quality([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], labels=False) == 0
    assert np.isnan(quality([2.0, 2.0], [1.0, 1.0], labels=False))


REFUSED = {
    "one class": (np.eye(3), ["a"] * 3, {}, DataError, "all 3 labels are .*at least two classes"),
    "no ridge": (np.eye(3), [0, 1, 1], {"ridge": 0.0}, DataError, "ridge must be above 0"),
    "shape": (np.eye(4), [0, 1, 1], {}, WrongShape, r"one label for each of 4 rows, .*\(3,\)"),
    "overflow": (np.full((2, 2), np.inf), [0, 1], {}, DataError, "NaN or infinity.*cosine"),
    "dead": (np.zeros((2, 2)), [0, 1], {}, DataError, "no gate is on at any row"),
    "no square": (
        np.ones((3, 2)),
        [0, 1, 1],
        {},
        WrongShape,
        r"shape \(rows, rows\); got \(3, 2\)",
    ),
    "task": (np.eye(2), [0, 1], {"task": "foo"}, DataError, "or 'regression', got 'foo'"),
    "NaN targets": (
        np.eye(3),
        [0.5, np.nan, 1],
        {"task": "regression"},
        BadRows,
        "y holds NaN or infinity in rows 1:",
    ),
    "text targets": (
        np.eye(2),
        ["a", "b"],
        {"task": "regression"},
        DataError,
        "must hold the numbers of a regression",
    ),
    "no targets": (np.eye(2), None, {"task": "regression"}, DataError, "y is None: give"),
    "two labels a row": (
        np.eye(2),
        [[0, 1], [1, 0]],
        {},
        WrongShape,
        r"one label for each of 2 rows.*\(2, 2\)",
    ),
    "no kernel": (
        np.array([[1.0, 5.0], [5.0, 1.0]]),
        [0, 1],
        {},
        DataError,
        "not positive definite",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_was_got(name):
    gram, y, more, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        ridge_machine(gram, y, **more)


def test_a_kernel_with_other_rows_is_refused():
    machine = ridge_machine(np.eye(3), [0, 1, 1])
    with pytest.raises(WrongShape, match=r"fitted on 3 rows.*got \(2, 4\)"):
        machine.scores(np.ones((2, 4)))
    assert (
        str(machine) == "KernelMachine(ridge: 3 rows, 1 outputs, ridge 0.01 of the mean diagonal)"
    )


def test_the_residual_is_what_an_inexact_solve_leaves(monkeypatch):
    x, y = features(9, 4, 0), np.arange(9) % 2
    gram, signs = x @ x.T, np.where(np.arange(9) % 2 == 1, 1.0, -1.0)
    exact, off = solvers._by_cholesky, features(9, 1, 1)

    def inexact(k, targets, ridges, unit):
        weights, *rest = exact(k, targets, ridges, unit)
        return weights + torch.from_numpy(off), *rest

    monkeypatch.setattr(solvers, "_by_cholesky", inexact)
    machine = ridge_machine(gram, y, ridge=0.1)
    shifted = gram + 0.1 * gram.diagonal().mean() * np.eye(9)
    centred = (signs - signs.mean())[:, None]
    left = np.abs(shifted @ machine.weights - centred).max() / np.abs(centred).max()
    assert left > 0.1
    assert_allclose(machine.residual, left, rtol=1e-12)


@pytest.mark.parametrize("c", [-1.0, 0, np.nan, np.inf, "1", None, True])
def test_an_svm_without_a_usable_c_is_refused(c):
    with pytest.raises(DataError, match="C must be a finite number above 0, got"):
        svm_machine(np.eye(4), [0, 1, 0, 1], C=c)


def test_a_gram_matrix_may_be_read_backwards():
    x, y = features(8, 3, 0), np.arange(8) % 2
    gram = x @ x.T
    turned = ridge_machine(gram[::-1, ::-1], y[::-1])
    assert_allclose(turned.weights, ridge_machine(gram, y).weights[::-1], atol=1e-12)


def test_a_column_that_is_constant_within_rounding_has_no_spread():
    x = np.c_[np.full(40, 0.1), np.full(40, 1e9), np.zeros(40), np.arange(40.0)]
    assert x.std(0)[0] > 0  # the mean of equal numbers is rounded
    assert_allclose(spread_of(x), [1, 1, 1, np.arange(40.0).std()])


# -- labels are read in one way by all that take them --

X = features(12, 3, 0)
GRAM = X @ X.T + np.eye(12)
Y = np.arange(12) % 2


def network():
    rng = np.random.default_rng(0)
    return gw.read([(rng.normal(size=(5, 3)), np.zeros(5)), (rng.normal(size=(2, 5)), np.zeros(2))])


NET = network()
TAKERS = {
    "ridge": lambda y: ridge_machine(GRAM, y).weights,
    "svm": lambda y: svm_machine(GRAM, y).weights,
    "nu": lambda y: float(nu_alignment(GRAM, y)),
    "centred": lambda y: centred_alignment(GRAM, y),
    "alignment": lambda y: alignment(NET, X, y, draws=1).centred,
    "overlap": lambda y: overlap(NET, X, y=y).equal,
    "know": lambda y: gates_know(NET, X, y, task="classification").kernels[0].own,
    "distill": lambda y: distill(NET, X, y, task="classification").score,
    "score": lambda y: ridge_machine(GRAM, Y).score(GRAM, y),
}
HOLED = [None if i == 4 else int(k) for i, k in enumerate(Y)]
BAD = {
    "none": (None, DataError, "y is None: give one label or number for each row"),
    "scalar": (3, WrongShape, "must hold one label or number for each row, got 3"),
    "NaN": (np.where(Y > 0, 1, np.nan), BadRows, "NaN or infinity in rows 0, 2, 4, 6"),
    "missing": (HOLED, BadRows, "y holds no label in rows 4: fill them in"),
    "mixed": (["a", *Y[1:].tolist()], DataError, r"y mixes text and numbers \('a' and 1\)"),
    "length": (Y[:5], WrongShape, r"one label for each of 12 rows, and it has shape \(5,\)"),
    "columns": (np.eye(12), WrongShape, r"one label for each of 12 rows, .* \(12, 12\)"),
    "lists": ([[0], *[[0, 1]] * 11], DataError, "and a label is text, a number, or"),
    "dates": (np.full(12, "2020-01-01", "M8[D]"), DataError, "and a label is text, a number, or"),
}


OPTIONAL = ("overlap", "distill")  # labels may be left out


@pytest.mark.parametrize(
    ("taker", "bad"), [(t, b) for t in TAKERS for b in BAD if b != "none" or t not in OPTIONAL]
)
def test_labels_that_cannot_be_read_are_refused_alike(taker, bad):
    y, error, words = BAD[bad]
    with pytest.raises(error, match=words):
        TAKERS[taker](y)


@pytest.mark.parametrize("taker", sorted(set(TAKERS) - {*OPTIONAL, "score"}))
def test_labels_of_one_class_are_refused_alike(taker):
    with pytest.raises(DataError, match=r"labels are '?1'?, so nothing is told apart: give rows"):
        TAKERS[taker](np.ones(12, int))


@pytest.mark.parametrize("taker", TAKERS)
def test_a_label_is_the_same_in_every_container(taker):
    one = TAKERS[taker](Y)
    forms = (Y[:, None], Y.tolist(), Y.astype(float), Y.astype(bool), Y.astype(object))
    for y in (*forms, torch.from_numpy(Y), pd.Series(Y, dtype="Int64"), pd.DataFrame({"y": Y})):
        assert_allclose(TAKERS[taker](y), one, rtol=1e-12)
