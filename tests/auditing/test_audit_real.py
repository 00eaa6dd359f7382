"""The audit of a real Pipeline, from its raw table: against scikit-learn on the same rows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import gatewise as gw
import tabular

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def titanic():
    model, x_train, x_test, y_train, y_test = tabular.pipeline("titanic", (12,), max_iter=40)
    train, test = x_train.assign(survived=y_train), x_test.assign(survived=y_test)
    return model, train, test, gw.audit(
        model, train, "survived", test=test, rules=(1, 3), repeats=200
    )  # fmt: skip


def test_the_figures_are_those_of_the_pipeline(titanic):
    model, _, test, a = titanic
    x, y = test.drop(columns="survived"), test["survived"]
    said = model.predict_proba(x)[:, 1]
    assert a["network"].figures["AUC"].value == pytest.approx(roc_auc_score(y, said))
    assert a["network"].figures["accuracy"].value == pytest.approx(model.score(x, y))
    assert (a.fit_rows, a.test_rows, a.classes) == (668, 223, ("0", "1"))


def test_the_linear_model_is_that_of_scikit_learn_on_the_pipelines_columns(titanic):
    model, train, test, a = titanic
    network = gw.read(model)
    x, z = (
        gw.explain(network, t.drop(columns="survived"), margin=False).data for t in (train, test)
    )
    spread = x.std(0)
    scaled = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = LogisticRegression(C=1 / a.linear.alpha, solver="newton-cholesky", tol=1e-12)
        there.fit(scaled, train["survived"])
    np.testing.assert_allclose(a.linear.coefficients[0] * spread, there.coef_[0], atol=1e-8)
    mine = a.linear.scores(z)[:, 0]
    assert a["linear"].figures["AUC"].value == pytest.approx(roc_auc_score(test["survived"], mine))
    assert any("collinear" in note for note in a.linear.notes)


def test_cohorts_speak_of_the_raw_columns_and_gains_add_up(titanic):
    _, train, _, a = titanic
    tests = [c for g in a.gains for c in g.condition.split(" and ")]
    assert {c.split()[0] for c in tests} <= set(train.columns) - {"survived"}
    total = sum(g.share * g.gain.value for g in a.gains)
    assert total == pytest.approx(a.overall.value)
    assert sum(g.rows for g in a.gains) == a.test_rows
