"""Importance against its definition, written out row by row; and its spread against numpy's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.importance import importance
from nets import mlp, rows

NAMES = ("a", "b", "c")


def explained(seed=0, outputs=2, n=40, **options):
    network = dataclasses.replace(mlp(3, 5, outputs, seed=seed), feature_names=NAMES)
    x = rows(network, n, seed).numpy() * [1, 10, 0.1]
    return gw.explain(network, x, margin=False, **options)


def one_by_one(exp, kind, part):
    """(rows, features, outputs) by a loop over rows, from the definitions."""
    found = np.empty((len(exp), 3, len(exp.outputs)))
    for i in range(len(exp)):
        w = exp.slopes[i]
        peers = exp.data[part == part[i]]
        found[i] = {
            "coefficient": w,
            "scaled": w * exp.data.std(0)[:, None],
            "within": w * peers.std(0)[:, None],
            "contribution": w * (exp.data[i] - exp.reference)[:, None],
        }[kind]
    return found


KINDS = ("coefficient", "scaled", "within", "contribution")


@given(st.integers(0, 300), st.sampled_from(KINDS), st.sampled_from(("row", "cluster", "cohort")))
def test_mean_and_spread_are_those_of_the_rows(seed, kind, by):
    exp = explained(seed)
    ids = np.random.default_rng(seed).integers(0, 4, len(exp)) if by == "cohort" else None
    part = {"row": np.arange(len(exp)), "cluster": exp.ids, "cohort": ids}[by]
    slow = one_by_one(exp, kind, exp.ids if by != "cohort" else ids)
    found = importance(exp, by, kind, ids=ids)
    assert len(found) == len(np.unique(part))
    for k, label in enumerate(np.unique(part)):
        mine = slow[part == label]
        assert found.rows[k] == len(mine)
        close(found.values[k], mine.mean(0))
        close(found.size[k], np.abs(mine).mean(0))
        for q, column in ((0.05, found.low), (0.5, found.median), (0.95, found.high)):
            close(column[k], np.quantile(mine, q, axis=0, method="inverted_cdf"))
        if kind != "within":
            close(found.positive[k], (mine > 0).mean(0))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_global_is_over_all_rows(kind):
    exp = explained(n=300)
    slow = one_by_one(exp, kind, exp.ids)
    found = exp.importances(kind=kind)
    assert found.parts == ("all rows",)
    close(found.values[0], slow.mean(0))
    close(found.low[0], np.quantile(slow, 0.05, axis=0, method="inverted_cdf"))
    close(found.high[0], np.quantile(slow, 0.95, axis=0, method="inverted_cdf"))
    assert found.order(0, 1).tolist() == np.argsort(-np.abs(slow).mean(0)[:, 1]).tolist()


def test_a_sign_that_turns_is_shown_and_not_averaged_away():
    """f = |a|: the mean slope is about 0, and the spread says why."""
    layers = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]
    x = np.linspace(-1, 1, 200)[:, None]
    found = gw.explain(layers, x).importances(kind="coefficient")
    assert found.values[0, 0, 0] == pytest.approx(0, abs=1e-12)
    assert (found.low[0, 0, 0], found.high[0, 0, 0]) == (-1, 1)
    assert found.positive[0, 0, 0] == 0.5
    assert found.size[0, 0, 0] == 1
    assert "x0: 0 (-1 to 1, > 0 for 50% of 200 rows)" in repr(found).replace("-0 (", "0 (")


def test_a_column_of_one_value_inside_a_cluster_counts_for_nothing_there():
    exp = explained(n=1)
    assert (importance(exp, "cluster", "within").values == 0).all()
    layers = [(np.ones((1, 2)), np.zeros(1))]
    x = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    found = gw.explain(layers, x).importances(kind="within")
    assert found.values[0, 0, 0] == 0
    assert found.values[0, 1, 0] == pytest.approx(2)


def test_contributions_against_a_reference():
    exp = explained()
    for reference, row in (
        ("zero", np.zeros(3)),
        ("median", np.median(exp.data, 0)),
        ("row 5", exp.data[5]),
        (exp.data[:, 0] > 0, exp.data[exp.data[:, 0] > 0].mean(0)),
        ({"c": 1, "a": 2, "b": 3}, np.array([2.0, 3.0, 1.0])),
    ):
        found = importance(exp, "row", "contribution", reference=reference)
        close(found.values, exp.slopes * (exp.data - row)[:, :, None])
        assert found.reference_name != exp.reference_name
    assert importance(exp, "row", "contribution").reference_name == "the mean of the data"


def test_odds_ratios_are_what_a_step_does_to_the_models_odds():
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:, :3], y)
    exp = gw.explain(model, x[:, :3], margin=False)
    for kind, step in (("odds", np.ones(3)), ("scaled_odds", x[:, :3].std(0))):
        found = exp.importances(kind=kind)
        for j in range(3):
            moved = x[:5, :3].copy()
            moved[:, j] += step[j]
            before, after = (model.predict_proba(a)[:, 1] for a in (x[:5, :3], moved))
            ratio = (after / (1 - after)) / (before / (1 - before))
            np.testing.assert_allclose(ratio, found.values[0, j, 0], rtol=1e-6)
        close(found.low, found.high)
        assert set(found.positive[0, :, 0]) <= {0, 1}
        assert ((found.values > 1) == (found.positive > 0.5)).all()


def test_folded_groups_have_contributions():
    exp = explained(groups={"g": ["a", "c"]})
    found = importance(exp.folded(), "row", "contribution")
    assert found.feature_names == ("g", "b")
    close(found.values[:, 0], exp.values[:, [0, 2]].sum(1))
    other = importance(exp.folded(), "row", "contribution", reference="zero")
    close(other.values[:, 1], exp.slopes[:, 1] * exp.data[:, 1:2])
    with pytest.raises(DataError, match="'scaled' needs a coefficient, and a folded category has"):
        importance(exp.folded(), kind="scaled")


def test_the_table_has_a_row_a_part_output_and_feature():
    exp = explained(groups={"g": ["a", "c"]})
    found = exp.importances("cohort", "scaled", ids=np.where(exp.data[:, 0] > 0, "old", "young"))
    table = found.table()
    assert found.parts == ("old", "young")
    assert len(table["cohort"]) == 2 * 2 * 3
    for k in range(12):
        p, o, f = (
            found.parts.index(table["cohort"][k]),
            found.output_names.index(table["output"][k]),
            NAMES.index(table["feature"][k]),
        )
        assert table["scaled"][k] == found.values[p, f, o]
        assert table["low"][k] == found.low[p, f, o]
        assert table["rows"][k] == found.rows[p]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "rows"}, "by must be one of row, cluster, cohort, global; got 'rows'"),
        ({"kind": "gain"}, "kind must be one of coefficient, scaled, within, contribution, odds"),
        ({"by": "cohort"}, "by='cohort' and ids= go together"),
        ({"ids": [0] * 40}, "by='cohort' and ids= go together"),
        ({"by": "cohort", "ids": [0, 1]}, "ids has shape (2,): give one cohort for each of the 40"),
        ({"kind": "odds"}, "an odds ratio needs the logit of a sigmoid, and behind these outputs"),
    ],
)
def test_words_that_are_none(options, words):
    with pytest.raises(DataError) as caught:
        importance(explained(), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nought", "reference is 'nought': name 'mean', 'median', 'zero' or 'row 17'"),
        ("row 40", "reference row 40 is not among the 40 rows, counted from 0"),
        (np.ones(3, bool), "the mask of reference rows has shape (3,): give one truth value for"),
        (np.zeros(40, bool), "the mask of reference rows picks no row: pick at least one"),
        ({"a": 1, "b": 2}, "reference's columns are not the network's (missing: c)"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "reference's columns are not the network's (not known"),
        ([1, 2], "reference has 2 values, and the network takes 3 inputs"),
        ([1e308, 1e308, 1e308], "the network overflows on the reference"),
    ],
)
def test_a_reference_that_is_none(reference, words):
    exp = explained()
    for job in (
        lambda: exp.against(reference),
        lambda: importance(exp, kind="contribution", reference=reference),
        lambda: explained(reference=reference),
    ):
        with pytest.raises(DataError) as caught:
            job()
        assert words in str(caught.value)
