"""DLGNs as scikit-learn estimators: its own checks, what they promise, and how they are read."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_moons
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import gatewise as gw
from gatewise.dual.gating import gated
from gatewise.errors import BadRows, DataError, MissingExtra, ModelError, WrongShape
from gatewise.models.estimators.dlgn import DLGNClassifier, DLGNRegressor

FAST = {"hidden_layer_sizes": (8, 8), "epochs": 8, "batch": 32, "lr": 2e-2, "random_state": 0}
CHECKED = {"hidden_layer_sizes": (16,), "epochs": 15, "batch": 32, "lr": 2e-2}


@parametrize_with_checks(
    [DLGNClassifier(**CHECKED), DLGNRegressor(**CHECKED), DLGNClassifier(**CHECKED, harden=False)]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(400, noise=0.15, random_state=0)
    return train_test_split(X, y, random_state=0)


# -- what they learn --


def test_digits_are_learned_and_hardening_is_measured():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = DLGNClassifier((64, 64, 64), epochs=25, random_state=0).fit(X, y)
    assert model.score(X_test, y_test) > 0.95  # a linear model: 0.96 to 0.97, an MLP 0.975
    soft = clone(model).set_params(harden=False).fit(X, y)
    assert model.agreement_ == (soft.predict(X) == model.predict(X)).mean()
    assert 0.95 < model.agreement_ <= 1 and soft.agreement_ == 1
    assert (
        (model.n_iter_, soft.n_iter_)
        == (30, 25)
        == tuple(len(m.loss_curve_) for m in (model, soft))
    )
    assert model.loss_curve_[24] < model.loss_curve_[0] / 4


def test_two_classes_share_one_logit(moons):
    X, X_test, y, y_test = moons
    model = DLGNClassifier(**FAST | {"epochs": 60}).fit(X, np.array(["lo", "hi"])[y])
    logit = model.decision_function(X_test)
    assert logit.shape == (len(X_test),)
    assert_allclose(model.predict_proba(X_test)[:, 1], 1 / (1 + np.exp(-logit)))
    assert list(model.classes_) == ["hi", "lo"]
    assert model.score(X_test, np.array(["lo", "hi"])[y_test]) > 0.9


def test_a_regressor_of_several_outputs_answers_in_their_units():
    X, y = load_diabetes(return_X_y=True)
    Y = np.stack([y, 1000 - 5 * y], 1)
    settings = FAST | {"epochs": 30, "lr": 5e-3, "weight_decay": 1e-3}
    model = DLGNRegressor(**settings).fit(X, Y)
    assert model.predict(X).shape == Y.shape and model.score(X, Y) > 0.35
    first, second = model.predict(X).T
    assert np.corrcoef(first, second)[0, 1] < -0.95
    assert abs(np.std(second) / np.std(first) - 5) < 0.5
    alone = DLGNRegressor(**settings).fit(X, y)
    assert alone.predict(X).shape == y.shape and alone.score(X, y) > 0.35
    assert alone.agreement_ <= 1


def test_the_same_seed_gives_the_same_network_and_torch_keeps_its_own(moons):
    X, _, y, _ = moons
    state = torch.get_rng_state()
    one, two = (DLGNClassifier(**FAST).fit(X, y).decision_function(X) for _ in range(2))
    other = DLGNClassifier(**FAST | {"random_state": 1}).fit(X, y).decision_function(X)
    assert np.array_equal(one, two) and not np.allclose(one, other)
    assert torch.equal(state, torch.get_rng_state())


def test_early_stopping_keeps_the_best_epoch_and_progress_hears_each(moons):
    X, _, y, _ = moons
    heard = []
    settings = FAST | {"epochs": 200, "patience": 3, "lr": 5e-2, "schedule": "constant"}
    model = DLGNClassifier(**settings, early_stopping=True, progress=heard.append).fit(X, y)
    assert model.n_iter_ < 200 and len(heard) == model.n_iter_
    first = model.histories_[0]
    assert first.stopped_by == "patience" and first.kept == len(first.epochs) - 3
    with pytest.raises(DataError, match=r"early stopping holds out 0\.1 of 2 rows"):
        DLGNClassifier(**FAST, early_stopping=True).fit(np.eye(2), [0, 1])


def test_a_table_is_taken_by_its_columns_and_a_grid_is_searched():
    X, y = load_iris(return_X_y=True, as_frame=True)
    search = GridSearchCV(DLGNClassifier(**FAST), {"beta": [2.0, 8.0]}, cv=2).fit(X, y)
    model = search.best_estimator_
    assert list(model.feature_names_in_) == list(X.columns)
    assert gw.read(search).feature_names == tuple(X.columns)


REFUSED = {
    "beta": ({"beta": 0.0}, ModelError, "beta > 0, and beta is 0"),
    "no layer": ({"hidden_layer_sizes": ()}, ModelError, "width of each gated layer"),
    "width": ({"hidden_layer_sizes": (0,)}, ModelError, "whole numbers from 1"),
    "gate": ({"gate": "relu"}, ModelError, "there is no gate 'relu'"),
    "value": ({"value_input": "zeros"}, ModelError, "`value_input` is 'x' or 'ones'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_mean_nothing_are_refused(name, moons):
    settings, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        DLGNClassifier(**FAST | settings).fit(moons[0], moons[2])


def test_one_class_is_refused():
    with pytest.raises(DataError, match=r"y holds one class, 'a': .* at least two classes"):
        DLGNClassifier(**FAST).fit(np.eye(3), ["a"] * 3)


def test_without_scikit_learn_the_missing_extra_is_named(monkeypatch):
    for name in ("estimators.dlgn", "estimators.base"):
        monkeypatch.delitem(sys.modules, f"gatewise.models.{name}")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(MissingExtra, match=r"gatewise\[sklearn\]"):
        import_module("gatewise.models.estimators.dlgn")


# -- how they are read --

MODELS = {
    "deep": DLGNClassifier(**FAST),
    "shallow": DLGNClassifier(**FAST, shallow=True),
    "ones": DLGNClassifier(**FAST, value_input="ones"),
    "no bias": DLGNClassifier(**FAST, bias=False),
    "raw units": DLGNClassifier(**FAST, standardise=False),
    "random gates": DLGNClassifier(**FAST, gate="hard"),
    "pipeline": make_pipeline(MinMaxScaler(), DLGNClassifier(**FAST, standardise=False)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_read_is_what_predicts_and_is_a_plain_gated_chain(name, classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < classes], np.array(["a", "b", "c"])[y[y < classes]]
    model = clone(MODELS[name]).fit(X, y)
    net = gw.read(model)
    new = X + 0.1 * np.random.default_rng(0).standard_normal(X.shape)
    logits = model.decision_function(new).reshape(len(X), -1)
    assert_allclose(net(new).numpy(), logits, atol=1e-12)
    assert_allclose(
        net.predict(new).numpy(), model.predict_proba(new)[:, -net.outputs :], atol=1e-12
    )
    assert net.classes == tuple("abc"[:classes]) and net.task == "classification"
    if name != "pipeline":
        assert [s.shape[-1] for s in gated(net).sites] == [8, 8]
        assert gated(net).layers is not None


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressor_is_read_in_the_units_of_its_target(outputs):
    X, y = load_diabetes(return_X_y=True)
    Y = y if outputs == 1 else np.stack([y, -y], 1)
    model = DLGNRegressor(**FAST).fit(X, Y)
    net = gw.read(model)
    assert_allclose(net(X).numpy(), model.predict(X).reshape(len(X), -1), atol=1e-9)
    assert net.task == "regression" and gated(net).layers is not None


def test_a_target_that_was_transformed_is_transformed_back():
    X, y = load_diabetes(return_X_y=True)
    model = TransformedTargetRegressor(DLGNRegressor(**FAST), transformer=StandardScaler())
    net = gw.read(model.fit(X, y))
    assert_allclose(net(X).numpy()[:, 0], model.predict(X), atol=1e-9)


def test_gates_in_raw_units_are_hyperplanes_and_regions_can_be_counted(moons):
    X, _, y, _ = moons
    model = DLGNClassifier(**FAST | {"hidden_layer_sizes": (5, 5), "epochs": 20}).fit(X, y)
    net = gw.read(model)
    found = gw.regions.enumerate_regions(net, (X.min(0), X.max(0)))
    patterns = gw.pattern(net, X)
    assert len(np.unique(patterns.bits, axis=0)) <= len(found) <= 1 + 10 + 45  # of 10 lines
    planes = model.soft_module_.effective_halfspaces()
    z = torch.tensor((X - model.mean_) / model.scale_)
    for site, (a, c) in zip(gated(net).sites, planes, strict=True):
        on = patterns.codes(site.gate).reshape(len(X), -1)
        assert torch.equal(on, z @ a.T + c > 0)


def test_soft_gates_are_read_but_have_no_regions(moons):
    X, _, y, _ = moons
    model = DLGNClassifier(**FAST, harden=False).fit(X, y)
    net = gw.read(model)
    assert_allclose(net(X).numpy()[:, 0], model.decision_function(X), atol=1e-12)
    with pytest.raises(gw.errors.NotPiecewiseAffine, match="Sigmoid"):
        gw.affine(net, X)


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(ModelError, match="DLGNClassifier is not fitted"):
        gw.read(DLGNClassifier())


CONSTANT = np.full(60, 0.1)  # 0.1 has no binary form: its deviation is a rounding error, not 0


def test_a_constant_column_is_not_divided_by_its_rounding_error():
    assert 0 < CONSTANT.std() < 1e-15
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=60), CONSTANT, 1 + 1e-9 * rng.normal(size=60)], 1)
    y = (X[:, 0] > 0).astype(int)
    model = DLGNClassifier(**FAST).fit(X, y)
    assert model.scale_[1] == 1
    assert_allclose(model.scale_[2], X[:, 2].std())  # little, but more than rounding
    moved = X + np.array([0, 1e-9, 0])
    assert_allclose(model.decision_function(moved), model.decision_function(X), atol=1e-6)


def test_a_constant_target_is_predicted_as_it_is():
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = DLGNRegressor(**FAST).fit(X, CONSTANT)
    assert model._spread == 1
    both = DLGNRegressor(**FAST).fit(X, np.stack([CONSTANT, X[:, 0]], 1))
    assert both._spread[0] == 1 and both._spread[1] == pytest.approx(X[:, 0].std())


MIXED = r"15 of 30 labels are strings and the others are not: make all of them strings, or all"


@pytest.mark.parametrize(
    "labels, error, words",
    [
        ([1, "a"] * 15, DataError, MIXED),
        (np.array([1, "a"] * 15, object), DataError, MIXED),
        (["a", None] * 15, BadRows, "y has no label in rows 1, 3, .* and 5 more: leave out these"),
        ([0.0, np.nan] * 15, BadRows, "y has no label in rows 1, 3"),
        (np.zeros((30, 2), int), ValueError, r"y should be a 1d array, got .* shape \(30, 2\)"),
        ([[0], [1, 2]] * 15, WrongShape, "labels are one a row, .* y's rows are unequal lists"),
    ],
)
def test_labels_that_are_none_are_refused(labels, error, words):
    with pytest.raises(error, match=words):
        DLGNClassifier(**FAST).fit(np.random.default_rng(0).normal(size=(30, 2)), labels)
