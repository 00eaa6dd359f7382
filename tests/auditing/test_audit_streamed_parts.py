"""What an audit of files is made of: sums, samples, ranks; what it refuses; its command."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pyarrow as pa
import pytest

import gatewise as gw
import onnx_files
from audited import N, network, pair
from commands import run
from gatewise.auditing.bootstrap import Draws, draws, interval
from gatewise.auditing.measures import Truth, one_auc
from gatewise.auditing.streaming import sampling, scores
from gatewise.auditing.streaming.scores import Ranks, Totals
from gatewise.errors import BadRows, DataError
from streamed import written

RNG = np.random.default_rng(0)


def test_what_an_audit_of_files_cannot_take_is_named(tmp_path):
    net = network(1, False)
    fit, _, files = pair(tmp_path, False)
    bad = fit.set_column(0, "a", pa.array([np.nan, *fit["a"].to_pylist()[1:]]))
    broken = written(tmp_path / "bad", bad)
    unknown = written(tmp_path / "unknown", fit.set_column(3, "y", pa.nulls(N, pa.float64())))
    few = written(tmp_path / "few", fit.slice(0, 50), ())
    for kind, given, said in (
        (DataError, {"y": [1, 2]}, "give y as its name, got a list"),
        (DataError, {"test": fit}, "the data are in files, and test is a Table"),
        (DataError, {"y": "z"}, "no column 'z' to use as target"),
        (DataError, {"on_bad_rows": "drop"}, "on_bad_rows must be 'raise' or 'skip', got 'drop'"),
        (DataError, {"on_bad_files": 1}, "on_bad_files must be 'raise' or 'skip', got 1"),
        (DataError, {"X": unknown, "test": None}, "no row has a known target"),
        (DataError, {"holdout": 2, "test": None}, "holdout must be a share"),
        (DataError, {"X": few, "test": None}, "is for large tables"),
        (BadRows, {"X": broken}, r"NaN or infinity in 1 row, the first is row 0 .*'skip'"),
    ):
        with pytest.raises(kind, match=said):
            gw.audit(net, **{**files, "y": "y", "rules": (), **given})
    (broken / "more.json").touch()
    found = gw.audit(net, broken, "y", test=files["test"], rules=(), on_bad_rows="skip")
    assert found.fit_rows == N - 1
    assert "1 file of other kinds in the folders passed over" in found.notes


def test_the_command_audits_a_folder_and_writes_its_page(tmp_path):
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 1))
    _, _, files = pair(tmp_path, False)
    asked = ("audit", model, files["X"], "--out", tmp_path / "out", "--target", "y")
    done = run(*asked, "--test", files["test"], "--rules", "2", "--repeats", "100")
    assert done.returncode == 0, done.stderr
    assert "The network is worse than a ridge regression" in done.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "rows were streamed" in page


# ------------------------------------------------------------------------------- the parts


def test_the_normal_limit_is_the_bootstrap():
    """Of a mean, a ratio of sums and a difference: the ends of the percentile interval."""
    n, how = 3000, Draws(4000, 0.95, 0)
    right, weight = RNG.random(n) < 0.8, RNG.random(n) < 0.1
    columns = {"rows": np.ones(n), "right": right * 1.0, "in": weight * 1.0, "both": right * weight}
    found = Totals.of(columns).drawn(how)
    every = np.concatenate(list(draws(n, how.count, 1)))
    for top, under in (("right", "rows"), ("both", "in")):
        mine = interval(0.0, found[top] / found[under], how.level)
        theirs = interval(0.0, every @ columns[top] / (every @ columns[under]), how.level)
        wide = theirs.high - theirs.low
        assert mine.low == pytest.approx(theirs.low, abs=0.08 * wide)
        assert mine.high == pytest.approx(theirs.high, abs=0.08 * wide)


def test_totals_and_samples_merge_in_any_order():
    n = 5000
    columns = {"rows": np.ones(n), "v": RNG.normal(size=n) + 1e3}
    cuts = [slice(0, 70), slice(70, 3000), slice(3000, n)]
    parts = [Totals.of({k: v[c] for k, v in columns.items()}) for c in cuts]
    whole = Totals.of(columns)
    for order in (parts, parts[::-1]):
        found = reduce(Totals.merge, order)
        np.testing.assert_allclose(found.first.sum(0), whole.first.sum(0), rtol=1e-14)
        np.testing.assert_allclose(found.second.sum(0), whole.second.sum(0), rtol=1e-14)
    x, index = RNG.normal(size=(n, 2)), np.arange(n)
    target = pa.array(x[:, 0])
    made = [sampling._least(100, 3, x[c], target[c.start : c.stop], index[c]) for c in cuts]
    expected = sampling._least(100, 3, x, target, index)
    for order in (made, made[::-1]):
        found = reduce(sampling.Sample.merge, order)
        assert np.array_equal(found.index, expected.index)
        assert np.array_equal(found.x, expected.x)
    assert len(expected) == 100
    assert abs(expected.index.mean() - n / 2) < n / 8
    assert np.array_equal(x[expected.index, 0], expected.target.to_numpy())


def test_the_area_lies_within_its_bounds():
    score = np.round(RNG.normal(size=4000), 2)
    second = RNG.random(4000) < 1 / (1 + np.exp(-score))
    exact = float(one_auc(second, score, np.ones((1, 4000)))[0])
    for seen in (score[:50], score):
        ranks = Ranks.like(seen).add(score[:1000], second[:1000]).add(score[1000:], second[1000:])
        low, high = ranks.auc
        assert low <= exact <= high
    assert high - low < 0.02
    columns = scores.columns(Truth(second.astype(int), 2), [score[:, None]], 0.0)
    assert set(columns) == {"rows", "0 squared", "0 right", "0 loss"}
