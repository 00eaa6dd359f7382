"""How linear a network is, against slow counts and against scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gatewise.explain.explanation import explain
from gatewise.show import linearity, say, truth
from gatewise.tables import Matrix
from nets import Chain, mlp


def test_units_that_never_switch_are_counted_unit_by_unit(explained):
    e = explained(3, 12, 9, 1, rows=40, X=np.random.default_rng(1).normal(0.4, 0.3, (40, 3)))
    for use in linearity.gate_uses(e):
        codes = e.census.pattern.codes(use.name).numpy()[e.ids]
        assert use.off == sum((codes[:, u] == 0).all() for u in range(use.units))
        assert use.on == sum((codes[:, u] == 1).all() for u in range(use.units))
        assert use.both == use.units - use.off - use.on
    total = linearity.gate_uses(e)
    assert sum(u.off + u.on for u in total) > 0 < sum(u.both for u in total)


def test_a_branch_in_the_middle_is_on(explained):
    chain = Chain(1, 0)
    chain.gate("hardtanh")
    chain.linear(1)
    X = np.linspace(-0.9, 0.9, 9)[:, None]
    (use,) = linearity.gate_uses(explain(chain.network(), Matrix(X, (), np.arange(9))))
    assert (use.off, use.on, use.both) == (0, 1, 0)


def test_chunks_change_nothing(explained, monkeypatch):
    e = explained(4, 10, 6, 1, rows=200)
    whole = linearity.gate_uses(e)
    monkeypatch.setattr(linearity, "CODES", 37)
    assert linearity.gate_uses(e) == whole


@pytest.mark.parametrize("counts", [[1], [1, 1, 1, 1], [5, 1], [997, 1, 1, 1]])
def test_effective_rules_is_the_perplexity(explained, counts):
    e = explained(2, 3, 1)
    census = dataclasses.replace(e.census, counts=np.array(counts))
    e = dataclasses.replace(
        e, census=census, matrix=dataclasses.replace(e.matrix, values=np.zeros((sum(counts), 2)))
    )
    p = np.array(counts) / sum(counts)
    product = np.prod(p**-p)
    assert linearity.effective_rules(e) == pytest.approx(product)


def test_the_fit_is_the_one_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 5)) * [1, 10, 100, 0.01, 1] + [0, 5, 1000, 0, 0]
    X[:, 4] = 3.0  # a column of one value
    labels = np.where(X[:, 1] + rng.normal(size=300) > 5, "yes", "no")
    e = explain(
        mlp(5, 8, 1), Matrix(X, (), np.arange(300)), target=labels.astype(object), target_name="y"
    )
    fit = linearity.linear_fit(e, truth.target(e))
    there = linear_model.LinearRegression().fit(X, e.output[:, 0])
    assert fit.network == pytest.approx(there.score(X, e.output[:, 0]), abs=1e-9)
    same = (there.predict(X) > 0) == (e.output[:, 0] > 0)
    assert fit.same == pytest.approx(same.mean())
    codes = (labels == "yes").astype(float)
    on_target = linear_model.LinearRegression().fit(X, codes).predict(X) > 0.5
    assert fit.target == pytest.approx((on_target == codes).mean())
    assert fit.metric == "Accuracy"


def test_an_affine_network_is_wholly_linear(explained):
    e = explained(3, 2, rows=30)
    fit = linearity.linear_fit(e, None)
    assert fit.network == pytest.approx(1)
    assert (fit.metric, fit.target, fit.same) == ("", None, None)
    assert "explains 100" in say.linear(e, fit, 1.0)


def test_rows_left_out_are_said(explained, monkeypatch):
    e = explained(3, 8, 1, rows=500)
    monkeypatch.setattr(linearity, "WORK", 16 * 100)
    fit = linearity.linear_fit(e, None)
    assert fit.rows == 100
    assert "fitted on 100 evenly spaced rows" in say.linear(e, fit, 3.0)


def test_a_constant_output(explained):
    e = explained(3, 4, 1, X=np.ones((10, 3)))
    assert linearity.linear_fit(e, None).network == 1.0
    assert torch.is_tensor(e.census.output)
