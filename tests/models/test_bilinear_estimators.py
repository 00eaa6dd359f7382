"""Bilinear networks as scikit-learn estimators: its checks, what they learn, how they are read."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks

import gatewise as gw
from gatewise.errors import DataError, ModelError
from gatewise.models import BilinearClassifier, BilinearRegressor

CHECKED = {"hidden": 6, "epochs": 4, "batch": 32, "lr": 8e-2}


@parametrize_with_checks([BilinearClassifier(**CHECKED), BilinearRegressor(**CHECKED)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_digits_are_learned_better_than_by_a_line_and_read_as_one_layer():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = BilinearClassifier(48, epochs=12, noise=0.3, random_state=0).fit(X, y)
    line = LogisticRegression(max_iter=100).fit(X / 16, y)
    assert model.score(X_test, y_test) > line.score(X_test / 16, y_test) > 0.95
    net = gw.read(model)
    logits = model.decision_function(X_test)
    assert_allclose(net(X_test).numpy(), logits, atol=1e-9)
    layer = gw.bilinear.bilinear_layer(net)
    assert (layer.hidden, layer.outputs) == (48, 10)
    rows = gw.bilinear.layer_input(net, layer, X_test)
    assert_allclose(layer(rows).numpy(), logits, atol=1e-9)


def test_a_regressor_finds_the_products_that_made_its_target():
    rng = np.random.default_rng(0)
    X = 5 + 2 * rng.normal(size=(300, 3))
    Y = np.stack([100 + X[:, 0] * X[:, 1], 3 * X[:, 2] ** 2 - 7 * X[:, 0]], 1)
    settings = {"epochs": 40, "batch": 32, "noise": 0, "weight_decay": 0, "lr": 2e-2}
    model = BilinearRegressor(8, random_state=0, **settings).fit(X, Y)
    assert model.score(X, Y) > 0.999
    layer = gw.bilinear.bilinear_layer(gw.read(model))
    first, second = (gw.bilinear.interaction(layer, u).numpy()[:3, :3] for u in np.eye(2))
    sizes = np.outer(model.scale_, model.scale_)  # what the layer reads is standardised
    assert_allclose(first, sizes * [[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]], atol=0.1)
    assert_allclose(second, sizes * np.diag([0, 0, 3]), atol=0.3)


def test_a_swish_gate_ends_as_a_bilinear_layer_and_progress_hears_each_epoch():
    X, y = load_iris(return_X_y=True)
    heard = []
    settings = {"gate": "swish", "early_stopping": True, "epochs": 50, "lr": 2e-2}
    model = BilinearClassifier(12, batch=32, random_state=0, progress=heard.append, **settings).fit(
        X, y
    )
    assert model.histories_[0].kept >= 15 and len(heard) == model.n_iter_
    net = gw.read(model)
    assert len(gw.bilinear.bilinear_layers(net)) == 1 and model.score(X, y) > 0.9
    assert_allclose(net(X).numpy(), model.decision_function(X), atol=1e-12)


def test_layers_residual_and_embedding_are_passed_on_and_seeds_repeat():
    X, y = load_iris(return_X_y=True, as_frame=True)
    deep = BilinearClassifier(
        6, embed=5, layers=2, residual=True, project=True, epochs=3, random_state=1
    )
    one, two = deep.fit(X, y), clone(deep).fit(X, y)
    assert np.array_equal(one.decision_function(X), two.decision_function(X))
    other = clone(deep).set_params(random_state=2).fit(X, y)
    assert not np.allclose(one.decision_function(X), other.decision_function(X))
    net = gw.read(one)
    assert net.feature_names == tuple(X.columns)
    layers = gw.bilinear.bilinear_layers(net)
    assert [layer.inputs for layer in layers] == [5, 5] and layers[0].skip is not None


def test_columns_of_any_size_are_standardised():
    X, y = load_iris(return_X_y=True)
    plain = BilinearClassifier(8, epochs=5, random_state=0).fit(X, y)
    sizes = np.ldexp(1.0, [650, -600, 1, 0])  # powers of two: nothing is rounded
    scaled = BilinearClassifier(8, epochs=5, random_state=0).fit(X * sizes, y)
    assert np.array_equal(scaled.decision_function(X * sizes), plain.decision_function(X))


REFUSED = {
    "flag": ({"standardise": "no"}, ModelError, "`standardise` is True or False, and it is 'no'"),
    "hidden": ({"hidden": 0}, ModelError, "`hidden` is a whole number from 1, and it is 0"),
    "gate": ({"gate": "relu"}, ModelError, "`gate` is 'bilinear' or 'swish', and it is 'relu'"),
    "noise": ({"noise": -1.0}, ModelError, "standard deviation is a number from 0, and it is -1"),
    "anneal": ({"gate": "swish", "anneal": 2}, ModelError, r"training in \(0, 1\], and it is 2"),
    "residual": ({"residual": True}, ModelError, "adds 64 products to the 4 numbers it reads"),
    "rows": ({"early_stopping": True}, DataError, r"early stopping holds out 0\.1 of 3 rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_mean_nothing_are_refused(name):
    settings, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        BilinearClassifier(**settings).fit(np.eye(4)[:3], [0, 1, 2])
