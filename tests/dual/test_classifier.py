"""NPKClassifier: scikit-learn's own checks, the kernel it is on, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import gatewise as gw
from gatewise.dual.machines.classifier import NPKClassifier
from gatewise.errors import DataError

SMALL = {"hidden_layer_sizes": (16, 16), "random_state": 0}


@parametrize_with_checks(
    [
        NPKClassifier(**SMALL),
        NPKClassifier(**SMALL, gates="half-spaces", method="svm", inputs=False),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def naive_kernel(model, a, b):
    """<z, z'> times the products of the gates shared, rows one by one, as a cosine."""

    def features(x):
        z = np.append((x - model.mean_) / model.scale_, 1)
        h, gates = z, []
        for w in model.gate_weights_:
            gates.append((w @ h > 0).astype(float))
            h = np.maximum(w @ h, 0) if model.gates == "relu" else z
        return z, gates

    def raw(x, y):
        (z, g), (z2, g2) = features(x), features(y)
        return z @ z2 * np.prod([one @ two for one, two in zip(g, g2, strict=True)])

    return np.array([[raw(x, y) / np.sqrt(raw(x, x) * raw(y, y)) for y in b] for x in a])


@pytest.mark.parametrize("gates", ["relu", "half-spaces"])
@pytest.mark.parametrize("method", ["ridge", "svm"])
def test_predictions_are_those_of_the_machine_on_the_kernel_written_out(gates, method):
    X, y = make_moons(60, noise=0.2, random_state=0)
    model = NPKClassifier(gates=gates, method=method, ridge=0.1, **SMALL).fit(X, y)
    new = make_moons(9, noise=0.2, random_state=1)[0]
    gram, cross = naive_kernel(model, X, X), naive_kernel(model, new, X)
    if method == "ridge":
        signs = np.where(y == 1, 1.0, -1.0)
        shift = signs.mean()
        scores = cross @ np.linalg.solve(gram + 0.1 * np.eye(60), signs - shift) + shift
        assert_allclose(model.decision_function(new), scores, atol=1e-8)
    else:
        theirs = SVC(kernel="precomputed").fit(gram, y)
        assert_allclose(model.decision_function(new), theirs.decision_function(cross), atol=1e-5)


def relu_network(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return gw.read(nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 2)))


def test_gates_of_a_network_are_taken_from_it():
    network = relu_network(0)
    X, y = make_moons(50, noise=0.1, random_state=0)
    model = clone(NPKClassifier(network, ridge=1e-3)).fit(X, y)
    assert not hasattr(model, "gate_weights_")
    assert model.score(X, y) > 0.9
    other = NPKClassifier(relu_network(5), ridge=1e-3).fit(X, y)
    assert not np.allclose(model.decision_function(X), other.decision_function(X))


def test_random_gates_tell_digits_apart_better_than_a_line_does():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = NPKClassifier(random_state=0, ridge=(1e-3, 1e-2)).fit(X, y)
    assert model.score(X_test, y_test) > 0.975  # ridge on the inputs: 0.92
    assert model.machine_.ridge in (1e-3, 1e-2)


REFUSED = {
    "gates": ({"gates": "soft"}, "`gates` is one of 'relu', 'half-spaces', and it is 'soft'"),
    "method": ({"method": "lasso"}, "`method` is one of 'ridge', 'svm'"),
    "widths": ({"hidden_layer_sizes": ()}, "width of each layer of gates"),
    "ridge": ({"ridge": -1.0}, "ridge must be above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_mean_nothing_are_refused(name):
    settings, words = REFUSED[name]
    X, y = make_moons(20, random_state=0)
    with pytest.raises(DataError, match=words):
        NPKClassifier(**settings).fit(X, y)


def test_labels_of_one_class_are_refused():
    with pytest.raises(DataError, match="at least two classes"):
        NPKClassifier(**SMALL).fit(np.eye(4), ["a"] * 4)


def test_a_constant_column_changes_nothing():
    X, y = make_moons(40, noise=0.1, random_state=0)
    whole = np.c_[X, np.full(40, 0.1)]
    model = NPKClassifier(**SMALL).fit(whole, y)
    assert whole.std(0)[2] > 0 and model.scale_[2] == 1
    near = whole + np.array([0, 0, 1e-9])  # far away in units of what rounding left of the spread
    assert_allclose(model.decision_function(near), model.decision_function(whole), atol=1e-6)
