"""The audit of files: its figures are those of the rows in memory; what is of a sample says so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import gatewise as gw
from audited import N, network, pair, rows
from gatewise.auditing.streaming import sampling
from streamed import written


@pytest.mark.parametrize("classes", [False, True])
def test_figures_and_closed_forms_are_those_of_the_rows_in_memory(tmp_path, classes):
    """With a sample of all rows, everything is; the interval is another way to the same thing."""
    net = network(1, classes)
    fit, test, files = pair(tmp_path, classes)
    whole = gw.audit(net, fit, "y", test=test, rules=(2,), repeats=250)
    found = gw.audit(net, files["X"], "y", test=files["test"], rules=(2,), repeats=250)
    assert [line.key for line in found.lines] == [line.key for line in whole.lines]
    assert (found.fit_rows, found.test_rows) == (N, N)
    assert found.classes == whole.classes
    for mine, theirs in zip(found.lines, whole.lines, strict=True):
        for name, held in mine.figures.items():
            other = theirs.figures[name]
            assert held.value == pytest.approx(other.value, rel=1e-9), (mine.key, name)
            wide = other.high - other.low
            assert held.low == pytest.approx(other.low, abs=0.25 * wide)
            assert held.high == pytest.approx(other.high, abs=0.25 * wide)
            assert mine.ahead[name].value == pytest.approx(theirs.ahead[name].value, abs=1e-9)
    np.testing.assert_allclose(found.linear.coefficients, whole.linear.coefficients, rtol=1e-7)
    assert found.affine_explains == pytest.approx(whole.affine_explains, rel=1e-9)
    assert found.affine_agrees == pytest.approx(whole.affine_agrees, nan_ok=True)
    assert found.overall.value == pytest.approx(whole.overall.value, rel=1e-9)
    for mine, theirs in zip(found.gains, whole.gains, strict=True):
        assert (mine.condition, mine.rows) == (theirs.condition, theirs.rows)
        for name in ("network", "linear"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), rel=1e-9)
        assert mine.gain.value == pytest.approx(theirs.gain.value, abs=1e-9)
    assert found.answer == "better"
    assert "better" in found.verdict
    assert any("rows were streamed" in note for note in found.notes)
    if classes:
        auc = whole["network"].figures["AUC"].value
        said = next(n for n in found.notes if n.startswith("AUC of the network between"))
        low, high = (float(said.split()[i]) for i in (5, 7))
        assert low - 1e-6 <= auc <= high + 1e-6
        assert high - low < 0.01


def test_the_rows_are_split_by_number_and_the_cut_into_files_is_no_matter(tmp_path):
    net, table = network(1, False), rows(N, False, 3)
    one = gw.audit(net, written(tmp_path / "a", table, ()), "y", rules=(), rows=900, seed=3)
    two = gw.audit(net, written(tmp_path / "b", table, (7, 1999)), "y", rules=(), rows=900, seed=3)
    assert one.test_rows + one.fit_rows == N
    assert abs(one.test_rows - N / 4) < 200
    for mine, theirs in zip(one.lines, two.lines, strict=True):
        for name, held in mine.figures.items():
            assert held.value == pytest.approx(theirs.figures[name].value, rel=1e-12)
    assert "held out by their number and the seed" in one.notes[0]
    held = sampling.held_out(np.arange(N), 0.25, 3)
    x = np.stack([table[c].to_numpy() for c in "abc"], 1)[held]
    y = table["y"].to_numpy()[held]
    off = ((net(x).numpy()[:, 0] - y) ** 2).mean()
    assert one["network"].figures["RMSE"].value == pytest.approx(np.sqrt(off), rel=1e-12)


def test_several_classes_and_gaps_in_the_target(tmp_path):
    rng, net = np.random.default_rng(5), network(3, False)
    x = rng.normal(size=(N, 3))
    y = pa.array(net(x).numpy().argmax(1))
    y = pa.array([None if i % 50 == 0 else v for i, v in enumerate(y.to_pylist())])
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})
    found = gw.audit(net, written(tmp_path / "d", table), "y", rules=(2,), seed=1)
    assert found["network"].figures["accuracy"].value == 1
    assert found.fit_rows + found.test_rows == N - N // 50
    assert len(found.gains) == 2
