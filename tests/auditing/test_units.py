"""What units do on the rows, and the one affine rule nearest to a network, against slow counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gatewise.auditing import nearest as fits
from gatewise.auditing import units
from gatewise.auditing.nearest import nearest
from gatewise.explain.explanation import explain
from gatewise.tables import Matrix
from nets import Chain, mlp


def explained(*sizes, rows=60, X=None, seed=0):
    network = mlp(*sizes)
    X = np.random.default_rng(seed).normal(size=(rows, network.inputs)) if X is None else X
    return explain(network, Matrix(X, (), np.arange(len(X))))


def test_units_that_never_switch_are_counted_unit_by_unit():
    e = explained(3, 12, 9, 1, X=np.random.default_rng(1).normal(0.4, 0.3, (40, 3)))
    uses = units.gate_uses(e)
    for use in uses:
        codes = e.census.pattern.codes(use.name).numpy()[e.ids]
        assert use.off == sum((codes[:, u] == 0).all() for u in range(use.units))
        assert use.on == sum((codes[:, u] == 1).all() for u in range(use.units))
        assert use.both == use.units - use.off - use.on
    never = sum(u.off + u.on for u in uses)
    assert never > 0 < sum(u.both for u in uses)
    assert units.linear_share(uses) == never / 21
    assert np.isnan(units.linear_share(()))


def test_a_branch_in_the_middle_is_on():
    chain = Chain(1, 0)
    chain.gate("hardtanh")
    chain.linear(1)
    X = np.linspace(-0.9, 0.9, 9)[:, None]
    (use,) = units.gate_uses(explain(chain.network(), Matrix(X, (), np.arange(9))))
    assert (use.off, use.on, use.both) == (0, 1, 0)


def test_chunks_change_nothing(monkeypatch):
    e = explained(4, 10, 6, 1, rows=200)
    whole = units.gate_uses(e)
    monkeypatch.setattr(units, "CODES", 37)
    assert units.gate_uses(e) == whole


@pytest.mark.parametrize("counts", [[1], [1, 1, 1, 1], [5, 1], [997, 1, 1, 1]])
def test_effective_rules_is_the_perplexity(counts):
    e = explained(2, 3, 1)
    census = dataclasses.replace(e.census, counts=np.array(counts))
    matrix = dataclasses.replace(e.matrix, values=np.zeros((sum(counts), 2)))
    p = np.array(counts) / sum(counts)
    found = units.effective_rules(dataclasses.replace(e, census=census, matrix=matrix))
    assert found == pytest.approx(np.prod(p**-p))


def test_the_nearest_rule_is_the_one_of_scikit_learn():
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 5)) * [1, 10, 100, 0.01, 1] + [0, 5, 1000, 0, 0]
    X[:, 4] = 3.0  # a column of one value
    e = explained(5, 8, 1, X=X)
    y = e.output[:, 0]
    found, there = nearest(e, True), LinearRegression().fit(X, y)
    assert found.explained == pytest.approx(there.score(X, y), abs=1e-9)
    assert found.same == pytest.approx(((there.predict(X) > 0) == (y > 0)).mean())
    assert found.rows == 300


def test_an_affine_network_is_wholly_linear():
    assert nearest(explained(3, 2, rows=30), False).explained == pytest.approx(1)


def test_rows_may_be_left_out(monkeypatch):
    e = explained(3, 8, 1, rows=500)
    monkeypatch.setattr(fits, "WORK", 16 * 100)
    assert nearest(e, False).rows == 100


def test_an_output_of_one_value_is_its_own_map():
    e = explained(3, 4, 2, X=np.ones((10, 3)))
    found = nearest(e, True)
    assert (found.explained, found.same) == (1.0, 1.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), np.c_[np.full(20, 3.0), rng.normal(size=20)]
    slopes, starts = fits.affine_map(x, y)
    assert not slopes[0].any() and starts[0] == 3
    assert np.allclose(
        slopes[1], np.linalg.lstsq(np.c_[x, np.ones(20)], y[:, 1], rcond=None)[0][:2]
    )
