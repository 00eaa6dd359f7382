"""Fits of more unknowns than a Hessian is formed for, and numbers, labels and names at the edge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import gatewise as gw
from gatewise.linear.fits import newton, quasi, strength
from gatewise.linear.fits.classes import data_of, fit
from gatewise.linear.fits.strength import GRID, best_alpha_held


def refused(what, *words):
    with pytest.raises(gw.GatewiseError) as caught:
        what()
    for word in words:
        assert word in str(caught.value), caught.value
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def wide():
    """400 rows of 300 columns, many of them near others, some constant; five classes: 1,505."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20)) @ rng.normal(size=(20, 300)) + 0.1 * rng.normal(size=(400, 300))
    x[:, :9] = 3.0
    y = (x[:, 20:25] + 3 * rng.gumbel(size=(400, 5))).argmax(1)
    return x, y


@pytest.mark.parametrize("alpha", [1.0, 100.0])
def test_it_ends_near_the_fit_of_scikit_learn(wide, alpha):
    x, y = wide
    found = gw.linear.multinomial(x, y, alpha=alpha, standardise=True)
    assert found.coefficients.size > newton.EXACT and found.residual <= 1e-7
    spread = x.std(0)
    spread[:9] = 1
    z = (x - x.mean(0)) / spread
    there = LogisticRegression(C=1 / alpha, tol=1e-9, max_iter=9000).fit(z, y)
    np.testing.assert_allclose(found.probabilities(x), there.predict_proba(z), atol=1e-4)
    assert not found.coefficients[:, :9].any()


def test_the_gradient_that_is_left_is_the_one_it_says(wide, monkeypatch):
    x, y = wide
    monkeypatch.setattr(quasi, "STEPS", 4)
    data = data_of(x, y)
    model, problem, found = fit(data, 10.0, True, 5, goal=1e-3)
    z = np.c_[(x - x.mean(0)) / data.deviation, np.ones(len(x))]
    p = np.exp(z @ found.theta.T)
    p /= p.sum(1, keepdims=True)
    whole = (p - np.eye(5)[y]).T @ z + problem.ridge * found.theta
    whole[:, :9] = 0
    assert model.residual == pytest.approx(np.abs(whole).max() / len(x), rel=1e-6)
    assert 1e-7 < model.residual <= 1e-3


def test_its_penalty_is_that_of_rows_held_out(wide, monkeypatch):
    x, y = wide
    monkeypatch.setattr(strength, "ROUGH", 1e-7)
    held = np.random.default_rng(0).permutation(400) < 80
    losses = []
    for alpha in GRID[:10]:
        one = gw.linear.multinomial(x[~held], y[~held], alpha=alpha, standardise=True)
        losses.append(-np.log(one.probabilities(x[held])[np.arange(80), y[held]]).mean())
    near = [a for a, v in zip(GRID, losses, strict=False) if v <= 1.001 * min(losses)]
    assert GRID[0] > max(near) > GRID[9] and best_alpha_held(x, y, 5) == max(near)


def test_separable_classes_of_many_unknowns_are_found(monkeypatch):
    monkeypatch.setattr(newton, "EXACT", 100)
    x = np.random.default_rng(0).normal(size=(300, 150))
    refused(lambda: gw.linear.logistic(x, x[:, 7] > 0, alpha=0), "separable", "alpha > 0")


def test_odd_numbers_labels_and_names_are_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 2)), rng.normal(size=50)
    lin = gw.linear
    refused(lambda: lin.ridge(x * 1e200, y), "column 'x", "overflow", "divide")
    refused(lambda: lin.ridge(x, y * 1e200), "y holds numbers", "overflow")
    refused(lambda: lin.ridge(x[:, :0], y), "no column")
    refused(lambda: lin.ridge(x, y, feature_names=["a"]), "1 name for 2 columns")
    lost = pd.Series(y > 0, dtype="boolean").where(pd.Series(np.arange(50) > 1))
    refused(lambda: lin.logistic(x, lost), "no label in rows 0, 1")
