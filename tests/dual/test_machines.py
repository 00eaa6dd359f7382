"""Ridge against lstsq in feature space and rows really left out; the SVM against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from gatewise.dual.machines.solvers import quality, ridge_machine, svm_machine
from gatewise.errors import DataError, WrongShape


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
    "shape": (np.eye(4), [0, 1, 1], {}, WrongShape, r"3 targets need .*\(3, 3\); got \(4, 4\)"),
    "overflow": (np.full((2, 2), np.inf), [0, 1], {}, DataError, "NaN or infinity.*cosine"),
    "dead": (np.zeros((2, 2)), [0, 1], {}, DataError, "no gate is on at any row"),
    "two labels a row": (np.eye(2), [[0, 1], [1, 0]], {}, WrongShape, "give one label a row"),
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
