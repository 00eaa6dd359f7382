"""Sums that merge: whatever the cut and the order, the numbers are those of all rows at once."""

from __future__ import annotations

import math
import warnings
from functools import reduce

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gatewise as gw
from gatewise.errors import DataError
from gatewise.explain.compute import deviation
from gatewise.explain.streaming import tallies
from gatewise.explain.streaming.sums import Columns, Sums
from nets import mlp
from streamed import X, assert_same, rows_of, table, written

RNG = np.random.default_rng(0)


def columns(n: int = 9000) -> np.ndarray:
    """Far from 0, of one value, huge, tiny, with an outlier first, and plain."""
    x = RNG.normal(size=(n, 6))
    x[:, 0] += 1e9
    x[:, 1] = 0.1
    x[:, 2] *= 1e300
    x[:, 3] *= 1e-300
    x[0, 4] = 1e15
    return x


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations, correctly rounded sums of whole multiples: math.fsum."""
    mean = np.array([math.fsum(c / 2**10) / len(c) * 2**10 for c in x.T])
    spread = [
        math.sqrt(math.fsum(((v - m) / s) ** 2 for v in c) / len(c)) * s
        for c, m, s in zip(x.T, mean, np.abs(x).max(0), strict=True)
    ]
    return mean, np.array(spread)


KNOWN = columns()
EXACT = exact(KNOWN)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_columns_of_any_cut_in_any_order(data):
    x, (mean, spread), moving = KNOWN, EXACT, [0, 2, 3, 4, 5]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=6)))
    parts = [Columns.of(part) for part in np.split(x, cuts)]
    found = reduce(Columns.merge, data.draw(st.permutations(parts)), Columns.none(x.shape[1]))
    size = np.abs(x).max(0)
    assert found.rows == len(x)
    assert np.array_equal(found.low, x.min(0))
    assert np.array_equal(found.high, x.max(0))
    np.testing.assert_allclose(found.mean / size, mean / size, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.deviation[moving], spread[moving], rtol=1e-12)
    assert found.deviation[1] == 0 == deviation(x)[1]
    np.testing.assert_allclose(found.total[5], math.fsum(x[:, 5]), rtol=1e-12)
    np.testing.assert_allclose(found.squares[5], math.fsum(x[:, 5] ** 2), rtol=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_sums_by_group_of_any_cut_in_any_order(data):
    n, groups = 9000, 7
    values = RNG.normal(size=(n, 3)) * [1.0, 1e8, 1.0] + [0.0, 0.0, 1e6]
    ids = RNG.integers(0, groups - 1, n)  # the last has no row
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    names = ("a", "b", "c")
    parts = [
        Sums.of(names, i, groups, v)
        for i, v in zip(np.split(ids, cuts), np.split(values, cuts), strict=True)
    ]
    found = reduce(Sums.merge, data.draw(st.permutations(parts)), Sums.none(names, groups))
    assert found.counts.tolist() == np.bincount(ids, minlength=groups).tolist()
    for g in range(groups - 1):
        held = values[ids == g]
        expected = [math.fsum(c) for c in held.T]
        size = np.abs(held).sum(0)
        assert (np.abs(found.totals[g] - expected) <= 1e-14 * size).all()
    assert np.isnan(found.means[-1]).all()
    whole = [math.fsum(c) / n for c in values.T]
    np.testing.assert_allclose(list(found.whole().values()), whole, atol=1e-14 * 1e8)
    with pytest.raises(DataError, match="only sums of the same columns and groups can be merged"):
        found.merge(Sums.none(("a", "b"), groups))


def summed(values: np.ndarray, ids: np.ndarray, groups: int) -> np.ndarray:
    return np.stack([np.bincount(ids, v, groups) for v in values.T], 1)


def test_the_largest_clusters_and_the_rest(tmp_path):
    net = mlp(3, 6, 5, 2)
    data = written(tmp_path / "data", table())
    whole = gw.explain(net, table(), target="y")
    found = gw.explain(net, data, target="y", out=tmp_path / "out", top=5)
    sums = found.sums
    ids = np.minimum(whole.ids, 5)
    assert sums.counts.tolist() == np.bincount(ids).tolist()
    values = whole.values.transpose(0, 2, 1).reshape(len(whole), -1)
    right = whole.output.argmax(1) == whole.target
    expected = np.hstack(
        [whole.data, whole.output, values, np.abs(values), np.ones((len(whole), 1)),
         whole.target[:, None], right[:, None]]
    )  # fmt: skip
    kept = [j for j, n in enumerate(sums.names) if n not in ("|error|", "error²")]
    np.testing.assert_allclose(
        sums.totals[:, kept], summed(expected, ids, 6), rtol=1e-12, atol=1e-11
    )
    shown = found.table()
    assert shown["cluster"] == ["0", "1", "2", "3", "4", "rest"]
    assert sum(shown["rows"]) == len(whole)
    assert "mean |error|" not in shown


def test_groups_of_inputs_are_summed_too(tmp_path):
    """|the sum of the members' contributions|, over all rows and for each cluster."""
    net, groups = mlp(3, 6, 5, 2), {"ac": ["a", "c"], "b alone": ["b"]}
    data = written(tmp_path / "data", table(y=None))
    found = gw.explain(net, data, out=tmp_path / "out", groups=groups, top=3, margin=False)
    values = gw.explain(net, table(y=None)).values
    size = np.abs(np.stack([values[:, [0, 2]].sum(1), values[:, 1]], 2))  # rows, outputs, groups
    np.testing.assert_allclose(found.group_importance, size.mean(0), rtol=1e-12)
    ids, shown = np.concatenate(list(found.census.ids())), found.table()
    mean = size[ids == 1, 1, 0].mean()
    assert shown["mean |group contribution|:y1:ac"][1] == pytest.approx(mean, rel=1e-12)


def test_sums_that_would_not_fit_are_of_fewer_clusters(tmp_path, monkeypatch):
    monkeypatch.setattr(tallies, "TABLE", 4 * 20)
    data = written(tmp_path / "data", table(y=None))
    found = gw.explain(mlp(3, 6, 5, 2), data, out=tmp_path / "out", margin=False)
    assert len(found.sums) == 80 // len(found.sums.names) + 1 == 5
    assert found.sums.counts.sum() == len(X)


def test_cohorts_of_a_sample_over_all_rows(tmp_path):
    """Fidelity on all rows, by the rules that a sample gave."""
    net = mlp(3, 6, 5, 1)
    sample = gw.explain(net, table(X[:400], None))
    cohorts = gw.cohorts(sample, max_rules=3)
    data = written(tmp_path / "data", table(y=None))
    found = gw.explain(net, data, out=tmp_path / "out", cohorts=cohorts)
    ids, rule = cohorts.assign(X), cohorts.predict(X)
    assert rows_of(found)["cohort"].to_pylist() == ids.tolist()
    away = np.abs(rule - net(X).numpy()[:, 0])
    shown = found.table()
    assert shown["rows"] == [*np.bincount(ids, minlength=len(cohorts)).tolist(), 0]
    for k in range(len(cohorts)):
        assert shown["mean |rule - network|"][k] == pytest.approx(away[ids == k].mean(), rel=1e-12)
        assert shown["largest |rule - network|"][k] == pytest.approx(away[ids == k].max())
    other = gw.cohorts(gw.explain(mlp(3, 6, 5, 1, seed=5), X[:400]), max_rules=2)
    with pytest.raises(DataError, match="the cohorts are of another network"):
        gw.explain(net, data, out=tmp_path / "two", cohorts=other)


def fitted(frame: pd.DataFrame, y: pd.Series) -> gw.Network:
    steps = make_column_transformer(
        (StandardScaler(), ["age", "year"]), (OneHotEncoder(drop="first"), ["city"])
    )
    model = make_pipeline(steps, MLPRegressor(hidden_layer_sizes=(6,), max_iter=20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gw.read(model.fit(frame, y))


def test_a_whole_pipeline_with_categories_folders_and_a_quantity(tmp_path):
    n = 600
    frame = pd.DataFrame(
        {
            "age": RNG.normal(40, 10, n),
            "city": RNG.choice(["ab", "cd", "ef"], n),
            "year": np.repeat([2023, 2024], n // 2),
        }
    )
    y = frame.age / 10 + (frame.city == "cd") + RNG.normal(size=n)
    network = fitted(frame, y)
    whole = gw.explain(network, frame.assign(y=y), target="y")
    for year, part in frame.assign(y=y).groupby("year"):
        (tmp_path / "data" / f"year={year}").mkdir(parents=True)
        part.drop(columns="year").to_parquet(tmp_path / "data" / f"year={year}" / "p.parquet")
    found = gw.explain(network, tmp_path / "data", target="y", out=tmp_path / "out")
    assert_same(found, whole)
    assert found.groups == whole.groups
    assert found.groups
    shown = found.table()
    off = np.abs(whole.output[:, 0] - y).sum()
    total = np.nansum(np.array(shown["mean |error|"]) * shown["known"])
    assert total == pytest.approx(off, rel=1e-12)
    refit = fitted(frame.assign(age=frame.age * 2), y)
    with pytest.raises(DataError, match=r"another model|other settings"):
        gw.explain(refit, tmp_path / "data", target="y", out=tmp_path / "out")
