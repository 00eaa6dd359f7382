"""Closed forms: against scikit-learn, normal equations in exact fractions, and rows left out."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV

import gatewise as gw
from gatewise.linear.fits import newton, squares
from gatewise.linear.fits.classes import data_of, fit
from gatewise.linear.fits.strength import GRID, best_alpha, leave_one_out

UNITS = np.array([1, 10, 1e3, 0.01, 1, 1])
START = np.array([0, 1e5, 5, 0, 0, 3])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 6))
    score = z @ rng.normal(size=6)
    y = score + rng.normal(size=600)
    yes = np.where(score + rng.logistic(size=600) > 0, "yes", "no")
    three = np.where(score + rng.normal(size=600) > 1, 2, rng.integers(0, 2, 600))
    return z * UNITS + START, y, yes, three


def close(mine, theirs, units=UNITS, tolerance=1e-8):
    np.testing.assert_allclose(mine * units, theirs * units, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- least squares


def test_least_squares_is_that_of_scikit_learn(data):
    X, y, *_ = data
    found, there = gw.linear.least_squares(X, y), LinearRegression().fit(X, y)
    close(found.coefficients[0], there.coef_)
    np.testing.assert_allclose(found.predict(X), there.predict(X), atol=1e-9)
    assert found.residual < 1e-12 and found.steps == 0


def test_it_is_the_exact_solution():
    """Normal equations in fractions: a table far from 0, which second moments about 0 lose."""
    X = np.array([[1e8 + i, (i * i) % 7] for i in range(12)], float)
    y = np.array([3.0 * i - 2 * ((i * i) % 7) + (i % 3) for i in range(12)])
    rows = [[Fraction(v) for v in (*r, 1)] for r in X.tolist()]
    a = [[sum(r[i] * r[j] for r in rows) for j in range(3)] for i in range(3)]
    b = [sum(r[i] * Fraction(t) for r, t in zip(rows, y.tolist(), strict=True)) for i in range(3)]
    exact = solved(a, b)
    found = gw.linear.least_squares(X, y)
    np.testing.assert_allclose(found.coefficients[0], [float(v) for v in exact[:2]], rtol=1e-11)


def solved(a, b):
    """Gaussian elimination."""
    a = [[*row, v] for row, v in zip(a, b, strict=True)]
    for k in range(len(a)):
        pivot = next(i for i in range(k, len(a)) if a[i][k])
        a[k], a[pivot] = a[pivot], a[k]
        a[k] = [v / a[k][k] for v in a[k]]
        for i in range(len(a)):
            if i != k:
                a[i] = [v - a[i][k] * w for v, w in zip(a[i], a[k], strict=True)]
    return [row[-1] for row in a]


def test_standard_errors_are_those_of_the_textbook(data):
    X, y, *_ = data
    found = gw.linear.least_squares(X, y)
    whole = np.c_[(X - X.mean(0)) / UNITS, np.ones(len(X))]
    _, left, *_ = np.linalg.lstsq(whole, y, rcond=None)
    covariance = left[0] / (len(X) - 7) * np.linalg.inv(whole.T @ whole)
    np.testing.assert_allclose(found.errors[0] * UNITS, np.sqrt(np.diag(covariance))[:6], rtol=1e-8)
    way = np.append(-X.mean(0) / UNITS, 1)
    np.testing.assert_allclose(
        found.intercept_errors[0], np.sqrt(way @ covariance @ way), rtol=1e-8
    )


@given(cuts=st.lists(st.integers(1, 599), max_size=5), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_moments_do_not_mind_how_rows_are_cut_or_ordered(cuts, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(600, 3)) * [1, 1e3, 1] + [1e6, 0, 0], rng.normal(size=(600, 2))
    edges = [0, *sorted(set(cuts)), 600]
    parts = [gw.linear.Moments.of(X[a:b], y[a:b]) for a, b in pairwise(edges)]
    rng.shuffle(parts)
    whole = gw.linear.Moments.empty(("x0", "x1", "x2"), 2)
    for part in parts:
        whole = whole.merge(part)
    z = np.c_[X, y]
    scatter = np.cov(z.T, bias=True) * 600
    size = np.sqrt(np.outer(scatter.diagonal(), scatter.diagonal()))
    assert whole.rows == 600
    np.testing.assert_allclose(whole.mean, z.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(whole.scatter / size, scatter / size, atol=1e-10)
    np.testing.assert_allclose(whole.covariance, np.cov(z.T), rtol=1e-6, atol=1e-9 * size.max())
    one = gw.linear.least_squares(whole)
    np.testing.assert_allclose(
        one.coefficients, gw.linear.least_squares(X, y).coefficients, rtol=1e-7, atol=1e-12
    )


def test_batches_of_tables_keep_their_names(data):
    X, y, yes, _ = data
    frame = pd.DataFrame(X, columns=list("abcdef"))
    batches = [(frame[i::3], y[i::3]) for i in range(3)]
    found = gw.linear.least_squares(iter(batches))
    assert found.feature_names == tuple("abcdef")
    close(found.coefficients[0], LinearRegression().fit(X, y).coef_)
    shuffled = frame[list("fedcba")]
    np.testing.assert_allclose(found.predict(shuffled), found.predict(frame))
    one = gw.linear.logistic([(frame[i::3], yes[i::3]) for i in range(3)])
    close(one.coefficients, gw.linear.logistic(frame, yes).coefficients)


def test_ill_conditioned_columns_are_named_and_still_fitted():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 3))
    X[:, 2] = X[:, 0] + 1e-9 * rng.normal(size=200)
    y = X[:, 0] - X[:, 1]
    found = gw.linear.least_squares(pd.DataFrame(X, columns=list("abc")), y)
    assert 1e8 < found.condition < 1e11
    assert "condition number" in found.notes[0] and "'b'" not in found.notes[0]
    assert "'a'" in found.notes[0] and "'c'" in found.notes[0]
    np.testing.assert_allclose(found.predict(X), y, atol=1e-8)


# ---------------------------------------------------------------- ridge


@pytest.mark.parametrize("alpha", [1e-3, 3.0, 1e5])
def test_ridge_is_that_of_scikit_learn(data, alpha):
    X, y, *_ = data
    found = gw.linear.ridge(X, y, alpha=alpha)
    close(found.coefficients[0], Ridge(alpha).fit(X, y).coef_)
    z = (X - X.mean(0)) / X.std(0)
    scaled = gw.linear.ridge(X, y, alpha=alpha, standardise=True)
    close(scaled.coefficients[0], Ridge(alpha).fit(z, y).coef_ / X.std(0))
    assert max(found.residual, scaled.residual) < 1e-9


def test_the_strength_by_leave_one_out_is_that_of_scikit_learn(data):
    X, y, *_ = data
    X, y = X[:40], y[:40]
    z = (X - X.mean(0)) / X.std(0)
    there = RidgeCV(np.array(squares.GRID) * len(X)).fit(z, y)
    found = gw.linear.ridge(X, y, alpha="loo")
    assert found.alpha == pytest.approx(there.alpha_)
    close(found.coefficients[0], there.coef_ / X.std(0))


# ---------------------------------------------------------------- classes


@pytest.mark.parametrize("alpha", [1e-2, 1.0, 50.0])
def test_logistic_is_that_of_scikit_learn(data, alpha):
    X, _, yes, _ = data
    X = X - START  # sklearn's Newton loses digits far from 0
    there = LogisticRegression(C=1 / alpha, solver="newton-cholesky", tol=1e-13, max_iter=300)
    found, there = gw.linear.logistic(X, yes, alpha=alpha), there.fit(X, yes)
    close(found.coefficients, there.coef_)
    np.testing.assert_allclose(found.intercepts, there.intercept_, atol=1e-8)
    np.testing.assert_allclose(found.probabilities(X), there.predict_proba(X), atol=1e-9)
    assert (found.predict(X) == there.predict(X)).all()
    assert found.classes == ("no", "yes") and found.residual < 1e-12


@pytest.mark.parametrize("exact", [True, False])
def test_multinomial_is_that_of_scikit_learn(data, exact, monkeypatch):
    X, _, _, three = data
    z = (X - START) / UNITS
    if not exact:
        monkeypatch.setattr(newton, "EXACT", 0)  # L-BFGS in place of a Hessian
    there = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=300).fit(z, three)
    found = gw.linear.multinomial(z, three)
    close(found.coefficients, there.coef_, 1.0)
    np.testing.assert_allclose(found.probabilities(z), there.predict_proba(z), atol=1e-8)
    assert abs(found.intercepts.sum()) < 1e-9


def test_maximum_likelihood_has_no_gradient_and_its_errors_are_those_of_the_hessian(data):
    X, _, yes, three = data
    found = gw.linear.logistic(X, yes, alpha=0)
    p = found.probabilities(X)[:, 1]
    whole = np.c_[(X - X.mean(0)) / UNITS, np.ones(len(X))]
    assert np.abs(whole.T @ (p - (yes == "yes"))).max() < 1e-8
    covariance = np.linalg.inv((whole.T * (p * (1 - p))) @ whole)
    np.testing.assert_allclose(found.errors[0] * UNITS, np.sqrt(np.diag(covariance))[:6], rtol=1e-7)
    many = gw.linear.multinomial(X, three, alpha=0)
    truth = three[:, None] == np.arange(3)
    assert np.abs(whole.T @ (many.probabilities(X) - truth)).max() < 1e-8


def test_leave_one_out_by_one_newton_step_is_near_the_fits_without_each_row(data):
    X, _, yes, three = data
    X = ((X - START) / UNITS)[:60]
    for y, outputs in ((yes[:60], 1), (three[:60], 3)):
        whole = data_of(X, y)
        _, problem, found = fit(whole, 3.0, True, outputs)
        z = (X - X.mean(0)) / X.std(0)
        total = 0.0
        for i in range(len(X)):
            rest = np.arange(len(X)) != i
            make = gw.linear.logistic if outputs == 1 else gw.linear.multinomial
            one = make(z[rest], y[rest], alpha=3.0)
            total -= np.log(one.probabilities(z[[i]])[0, one.classes.index(y[i])])
        assert leave_one_out(problem, found.theta) == pytest.approx(total / len(X), rel=0.01)
        losses = [leave_one_out(*at(whole, alpha, outputs)) for alpha in GRID]
        near = [a for a, loss in zip(GRID, losses, strict=True) if loss <= 1.001 * min(losses)]
        assert best_alpha(whole, outputs) == pytest.approx(max(near))


def at(whole, alpha, outputs):
    """The problem of a penalty, and its solution."""
    _, problem, found = fit(whole, alpha, True, outputs)
    return problem, found.theta


# ---------------------------------------------------------------- what is refused


def table(**columns):
    return pd.DataFrame(columns)


def refused(what, *words):
    with pytest.raises(gw.GatewiseError) as caught:
        what()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def test_bad_input_is_refused_in_one_sentence(data):
    X, y, yes, three = data
    lin = gw.linear
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)
    twice = table(a=a, b=b, c=3 + 2 * a - b)
    hot = table(a=a, p=(b > 0) * 1.0, q=(b <= 0) * 1.0)
    refused(lambda: lin.least_squares(X, 0 * y + 7), "7 in all 600 rows")
    refused(lambda: lin.least_squares(X[:5], y[:5]), "6 features and only 5 rows", "ridge")
    refused(lambda: lin.least_squares(twice, y[:50]), "'c' = 3 + 2 'a' - 'b'", "penalty")
    refused(lambda: lin.least_squares(hot, y[:50]), "'q' = 1 - 'p'")
    refused(lambda: lin.least_squares(table(a=a, k=a * 0 + 0.1), y[:50]), "'k' has one value")
    refused(lambda: lin.logistic(twice, yes[:50], alpha=0), "perfectly collinear", "'c'")
    refused(lambda: lin.logistic(X[:5], yes[:5], alpha=0), "only 5 rows", "alpha > 0")
    refused(lambda: lin.least_squares(np.where(X > 1e5, np.nan, X), y), "NaN or infinity")
    refused(lambda: lin.least_squares(X, np.where(y > 2, np.inf, y)), "y holds NaN or infinity")
    refused(lambda: lin.ridge(X, yes), "needs numbers", "logistic")
    refused(lambda: lin.logistic(X, ["a"] * 600), "all 600 labels are 'a'", "two classes")
    refused(lambda: lin.logistic(X, three), "two classes apart", "multinomial")
    refused(lambda: lin.logistic(X, [1] + ["a"] * 599), "y mixes text and numbers")
    refused(lambda: lin.logistic(X, [None] + ["a"] * 599), "no label in rows 0")
    refused(lambda: lin.logistic(X, yes[:9]), "y has 9 values for 600 rows")
    refused(lambda: lin.logistic(X), "no target")
    refused(lambda: lin.logistic(iter([(X, yes)])), "several times", "list of batches")
    refused(lambda: lin.least_squares([X]), "batch 0", "(X, y)")
    refused(lambda: lin.least_squares([]), "no batches")
    refused(lambda: lin.least_squares([(X, y), (X[:, :3], y)]), "batch 1")
    refused(lambda: lin.ridge(X, y, alpha=-1), "alpha", "-1")
    refused(lambda: lin.ridge(X, y, alpha="gcv"), "alpha", "'gcv'")
    refused(lambda: lin.ridge(lin.Moments.of(X, y), alpha="loo"), "needs the rows")
    refused(lambda: lin.least_squares(X, y, collinear_columns="drop"), "'refuse' or 'least'")
    refused(lambda: lin.Moments.of(X, y).merge(lin.Moments.of(X[:, :2], y)), "same columns")
    refused(lambda: lin.least_squares(X, y).probabilities(X), "no classes")


def test_separable_classes_are_found_and_the_columns_named(data):
    X, _, yes, _ = data
    score = (X - START) / UNITS @ np.arange(6)
    frame = pd.DataFrame((X - START) / UNITS, columns=list("abcdef"))
    refused(
        lambda: gw.linear.logistic(frame, score > 0, alpha=0), "perfectly separable", "'f'", "alpha"
    )
    refused(
        lambda: gw.linear.multinomial(frame, np.digitize(score, [-3, 3]), alpha=0),
        "perfectly separable",
    )
    partly = frame.assign(a=np.where(yes == "yes", np.arange(600) % 2, 0))
    refused(lambda: gw.linear.logistic(partly, yes, alpha=0), "partly separable", "'a'")
    refused(lambda: gw.linear.multinomial(partly, yes, alpha=0), "partly separable", "'a'")
    assert gw.linear.logistic(frame, score > 0).residual < 1e-12  # a penalty: nothing is infinite


def test_a_penalty_copes_with_collinear_and_constant_columns_and_says_so():
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=60), rng.normal(size=60)
    frame = table(a=a, b=2 * a, k=a * 0 + 0.1)
    found = gw.linear.ridge(frame, y)
    there = Ridge(1.0).fit(frame[["a", "b"]], y)
    np.testing.assert_allclose(found.coefficients[0], [*there.coef_, 0], atol=1e-12)
    assert "'b' = 2 'a'" in " ".join(found.notes) and "'k' has one value" in " ".join(found.notes)
    assert found.condition == np.inf and found.errors is None
    least = gw.linear.least_squares(frame, y, collinear_columns="least")
    fewer = gw.linear.least_squares(frame[["a"]], y)
    np.testing.assert_allclose(least.predict(frame), fewer.predict(frame[["a"]]), atol=1e-12)
    sick = gw.linear.logistic(frame, y > 0)
    assert sick.coefficients[0, 2] == 0 and sick.residual < 1e-12


def test_it_prints_its_rule(data):
    X, _, yes, _ = data
    text = repr(gw.linear.logistic(pd.DataFrame(X, columns=list("abcdef")), yes))
    assert text.startswith("LinearModel by logistic: 600 rows, 6 features, alpha 1; gradient ")
    assert "log odds of 'yes' = " in text
