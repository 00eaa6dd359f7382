"""A Network says what its outputs are for, and which labels they tell apart."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import gatewise as gw
from gatewise.errors import DataError, ModelError
from gatewise.explain.truth import decides, read_target, target
from gatewise.ir.network import fingerprint
from nets import mlp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
YES = X[:, 0] > 0


def perceptron(y, kind=MLPClassifier):
    with warnings.catch_warnings():  # three steps are enough here
        warnings.simplefilter("ignore")
        return make_pipeline(
            StandardScaler(), kind(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
        ).fit(X, y)


@pytest.mark.parametrize(
    ("model", "task", "classes"),
    [
        (perceptron(YES), "classification", ("False", "True")),
        (perceptron(np.array(["no", "yes"])[YES * 1]), "classification", ("no", "yes")),
        (perceptron(np.arange(60) % 3), "classification", ("0", "1", "2")),
        (perceptron(np.stack([YES, X[:, 1] > 0], 1) * 1), "classification", ()),
        (LogisticRegression().fit(X, YES * 2), "classification", ("0", "2")),
        (perceptron(X[:, 0], MLPRegressor), "regression", ()),
        (Ridge().fit(X, X[:, :2]), "regression", ()),
        (PoissonRegressor().fit(X, YES * 3.0), "regression", ()),
        (OneClassSVM(kernel="linear").fit(X), None, ()),
    ],
)
def test_the_reader_says_what_the_model_does(model, task, classes):
    """Of several yes-or-no answers none wins, so they are no classes."""
    network = gw.read(model)
    assert (network.task, network.classes) == (task, classes)
    single = network.to("float32")
    assert (single.task, single.classes) == (task, classes)
    exp = gw.explain(model, X)
    assert (exp.network.task, exp.network.classes) == (task, classes)


def test_it_does_not_change_what_the_network_computes():
    network = mlp(3, 4, 2)
    assert fingerprint(gw.read(network, classes=("a", "b"))) == fingerprint(network)


def test_a_network_that_nobody_asked_does_not_say():
    network = gw.read(mlp(3, 4, 2))
    assert (network.task, network.classes, network.output_names) == (None, (), ())


def test_the_user_says_it():
    network = gw.read(mlp(3, 4, 2), classes=[0, 1])
    assert (network.task, network.classes) == ("classification", ("0", "1"))
    assert network.output_names == ("0", "1")
    one = gw.read(mlp(3, 4, 1), classes=("no", "yes"), output_names=["logit"])
    assert (one.classes, one.output_names) == (("no", "yes"), ("logit",))
    assert gw.read(mlp(3, 4, 1), classes=("no", "yes")).output_names == ("yes",)


@pytest.mark.parametrize(
    ("outputs", "classes", "words"),
    [
        (1, ["yes"], r"names 1 labels \(1 different\), and the network has 1 output: give two"),
        (2, ["a", "b", "c"], "the network has 2 outputs: give one label for each"),
        (3, ["a", "b", "a"], r"names 3 labels \(2 different\)"),
        (2, "ab", r"names 0 labels"),
    ],
)
def test_classes_that_do_not_fit_are_refused(outputs, classes, words):
    with pytest.raises(ModelError, match=words):
        gw.read(mlp(3, 4, outputs), classes=classes)


def test_renamed_outputs_keep_the_classes_of_the_model():
    labels = np.array(["no", "yes"])[YES * 1]
    network = gw.read(perceptron(labels), output_names=["risk"])
    t = target(network, labels, len(X))
    assert t.names == ("no", "yes")
    assert read_target(network, t).codes.tolist() == [0, 1]
    with pytest.raises(DataError, match="the model says 'no', 'yes'"):
        read_target(network, target(network, YES * 1, len(X)))


def test_a_regression_with_a_target_of_two_numbers_is_a_quantity_and_decides_nothing():
    network = gw.read(Ridge().fit(X, YES * 1.0))
    t = target(network, YES * 1.0, len(X))
    assert t.measured and read_target(network, t) is None
    assert not decides(network, None)
    words = target(network, np.where(YES, "a", "b"), len(X))
    assert read_target(network, words) is None


def test_an_exponential_head_decides_nothing():
    network = gw.read(PoissonRegressor().fit(X, YES * 3.0))
    assert network.head and not decides(network, None)
    assert target(network, YES * 3.0, len(X)).measured
    silent = dataclasses.replace(network, task=None)
    assert not decides(silent, None)


def test_a_classifier_decides_without_a_target_and_without_a_head():
    network = gw.read(mlp(3, 4, 2), classes=("a", "b"))
    assert not network.head and decides(network, None)


def test_a_contrast_of_two_classes_is_no_answer_among_all():
    exp = gw.explain(perceptron(np.arange(60) % 3), X).contrast(0, 1)
    assert (exp.network.task, exp.network.classes) == ("classification", ())


def test_meta_json_says_it(tmp_path):
    folder = gw.save(gw.explain(perceptron(YES), X), tmp_path / "out")
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    assert meta["network"]["task"] == "classification"
    assert meta["network"]["classes"] == ["False", "True"]
