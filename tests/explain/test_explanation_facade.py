"""The façade hands models, tables and Explanations to the analyses, Pipelines included."""

from __future__ import annotations

import importlib.util
import inspect

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gatewise as gw

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(RNG.normal(size=(30, 3)) * [1, 10, 100], columns=list("abc"))


@pytest.fixture(scope="module")
def model():
    y = np.abs(TABLE["a"]) + TABLE["b"].clip(0) / 10
    net = MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=60, random_state=0, tol=1)
    return make_pipeline(StandardScaler(), net).fit(TABLE, y)


def test_integrated_gradients_of_a_model_and_of_an_explanation(model):
    exp = gw.explain(model, TABLE, reference="zero")
    one = gw.integrated_gradients(exp)
    two = gw.integrated_gradients(model, TABLE, np.zeros(3))
    np.testing.assert_array_equal(one.values, two.values)
    change = model.predict(TABLE) - model.predict(TABLE * 0)
    np.testing.assert_allclose(one.values[..., 0].sum(1), change, rtol=1e-10, atol=1e-10)


def test_profiles_go_through_the_model(model):
    found = gw.profile(model, TABLE, "b", low=-5, high=5)
    again = gw.profile(gw.explain(model, TABLE), feature="b", low=-5, high=5)
    np.testing.assert_array_equal(found.mean, again.mean)


def test_a_trace_is_the_model_along_a_line(model):
    line = gw.trace(model, TABLE.head(2), [1.0, 0, 0], -2, 2)
    for i in range(2):
        part = slice(int(line.ptr[i]), int(line.ptr[i + 1]))
        moved = pd.concat([TABLE.iloc[[i]]] * (part.stop - part.start))
        moved["a"] = moved["a"] + line.t[part].numpy()
        np.testing.assert_allclose(line.values[part, 0], model.predict(moved), rtol=1e-10)


def needs(module: str):
    found = importlib.util.find_spec(f"gatewise.explain.{module}")
    return pytest.mark.skipif(found is None, reason=f"explain/{module}.py is not there yet")


@needs("recourse")
def test_recourse_is_replayed_on_the_model():
    label = (TABLE["a"] + TABLE["b"] / 10 > 0).astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, label)
    row = TABLE.iloc[[0]]
    found = gw.recourse(model, row)
    point = pd.DataFrame([found.point], columns=list("abc"))
    assert model.predict(point)[0] != model.predict(row)[0]
    assert found.model_error is not None
    assert found.model_error <= 1e-9


@needs("reasons")
def test_reason_codes(model):
    exp = gw.explain(model, TABLE)
    assert type(gw.reason_codes(exp, 2)) is type(gw.reason_codes(exp))


@needs("cohorts")
def test_cohorts(model):
    assert len(gw.cohorts(gw.explain(model, TABLE), max_rules=2)) <= 2


def test_every_name_has_a_docstring():
    assert [name for name in gw.__all__ if not inspect.getdoc(getattr(gw, name))] == []
