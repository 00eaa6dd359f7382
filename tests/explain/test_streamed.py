"""An explanation of files is that of the rows in memory: however cut, broken off, or killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
from gatewise.errors import BadRows, DataError
from gatewise.explain.streaming import explaining, pieces, reading, scan
from nets import mlp
from streamed import NET, X, Y, assert_same, rows_of, table, written


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several parts, several blocks a part, several pieces a block."""
    monkeypatch.setattr(scan, "PART_ROWS", 400)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 250 * 24)
    monkeypatch.setattr(pieces, "ROWS", 160)


@pytest.fixture(scope="module")
def whole():
    return gw.explain(NET, table(), target="y")


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "data", table())


@settings(max_examples=2)
@given(st.data())
def test_cuts_into_files_groups_parts_and_pieces_change_nothing(whole, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("cuts")
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, 1500), max_size=2))))
    source = written(place / "data", table(), cuts, data.draw(st.integers(50, 900)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "PART_ROWS", data.draw(st.integers(100, 2000)))
        patch.setattr(pieces, "HELD", data.draw(st.sampled_from([0, 80, 1 << 20])))
        size = data.draw(st.integers(60, 500))
        found = gw.explain(NET, source, target="y", out=place / "out", batch_size=size)
    assert_same(found, whole)
    assert {p.name for p in (place / "out").iterdir()} == {
        *(".lock", "census", "meta.json", "rows", "summary.parquet", "sums.safetensors")
    }


def test_maps_parts_and_the_summary(data, tmp_path, whole):
    found = gw.explain(NET, data, target="y", out=tmp_path / "out")
    weight, offset = found.maps[np.arange(3)].rows([0, 1])
    np.testing.assert_allclose(weight.numpy(), whole.coefficients[:3], atol=1e-14)
    np.testing.assert_allclose(offset.numpy(), whole.intercepts[:3], atol=1e-14)
    assert len(found.parts) == 4
    assert found.dataset().count_rows() == len(X)
    mean = np.abs(whole.values).mean(0).T
    np.testing.assert_allclose(found.importance, mean, rtol=1e-12)
    said = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert said["rows"] == len(X)
    assert said["reference"]["name"] == "the mean of the data"
    np.testing.assert_allclose(said["inputs"]["low"], X.min(0))
    shown = pa.parquet.read_table(tmp_path / "out" / "summary.parquet")
    assert shown["rows"].to_pylist()[:-1] == whole.census.counts.tolist()
    assert "1500 rows in" in repr(found)
    assert "1 row" not in repr(found)


REFERENCES = {
    "zero": {"reference": "zero"},
    "a row by name": {"reference": {"c": 1.0, "a": 0.0, "b": 0.25}},
    "row 1203": {"reference": "row 1203"},
    "no margins": {"margin": False, "reference": "zero", "output": "y1"},
}


@pytest.mark.parametrize("asked", REFERENCES.values(), ids=REFERENCES)
def test_every_reference_that_is_no_median(data, tmp_path, asked):
    expected = gw.explain(NET, table(), target="y", **asked)
    found = gw.explain(NET, data, target="y", out=tmp_path / "out", **asked)
    assert_same(found, expected)


def test_a_background_needs_one_reading_less(monkeypatch, tmp_path):
    data = written(tmp_path / "data", table(y=None))
    background = X[:200] * 1.5 + 1

    def never(*args):
        raise AssertionError("the inputs were read for their mean")

    monkeypatch.setattr(explaining, "first", never)
    explainer = gw.Explainer(NET, background, reference="median")
    found = explainer(data, out=tmp_path / "out")
    expected = gw.Explainer(NET, background, reference="median")(table(y=None))
    mine, theirs = rows_of(found), expected.to_frame(library="pyarrow")
    for name in mine.column_names:
        a, b = (t[name].to_numpy() for t in (mine, theirs))
        if name == "bound":  # for the largest inputs of a block, and not of all rows
            assert (b >= a * (1 - 1e-12)).all()
            assert (a >= rows_of(found)["error"].to_numpy()).all()
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=name)


def test_bad_rows_and_broken_files_are_left_out_or_named(tmp_path):
    bad = X.copy()
    bad[[5, 1250], [1, 2]] = np.nan, np.inf
    data, out = written(tmp_path / "data", table(bad)), tmp_path / "out"
    with pytest.raises(BadRows, match=r"f0.parquet', .*: 5 .*on_bad_rows='skip'"):
        gw.explain(NET, data, target="y", out=out)
    found = gw.explain(NET, data, target="y", out=out, on_bad_rows="skip")
    assert_same(found, gw.explain(NET, table(bad), target="y", on_bad_rows="skip"))
    assert found.skipped == 2
    assert "2 rows skipped" in repr(found)
    (data / "f1.parquet").write_bytes(b"no longer Parquet")
    with pytest.raises(DataError, match=r"f1.parquet' cannot be read: .*on_bad_files='skip'"):
        gw.explain(NET, data, target="y", out=tmp_path / "two", on_bad_rows="skip")
    skip = {"on_bad_rows": "skip", "on_bad_files": "skip"}
    found = gw.explain(NET, data, target="y", out=tmp_path / "two", **skip)
    rest = pa.concat_tables([table(bad).slice(0, 500), table(bad).slice(1100)])
    assert_same(found, gw.explain(NET, rest, target="y", on_bad_rows="skip"))
    assert [Path(b.file).name for b in found.broken] == ["f1.parquet"]


def test_a_target_of_text_of_numbers_and_with_gaps(tmp_path):
    text = np.where(Y == 1, "yes", "no").astype(object)
    text[7] = None
    one, x = mlp(3, 6, 1), X[:600]
    data = written(tmp_path / "text", table(x, text[:600]), (300,))
    found = gw.explain(one, data, target="y", out=tmp_path / "a")
    assert rows_of(found)["target"].to_pylist() == text[:600].tolist()
    right = (one(x).numpy()[:, 0] > 0) == (text[:600] == "yes")
    shown = found.table()
    rows, known = np.array(shown["rows"]), np.array(shown["known"])
    assert (rows.sum(), known.sum()) == (600, 599)
    total = np.nansum(np.array(shown["mean right"]) * known)
    assert total == pytest.approx(right[[i for i in range(600) if i != 7]].sum())
    y = one(x).numpy()[:, 0] + np.linspace(-1, 1, 600)
    y[3] = np.nan
    data = written(tmp_path / "numbers", table(x, y), (300,))
    found = gw.explain(one, data, target="y", out=tmp_path / "b")
    shown = found.table()
    off = np.abs(y - one(x).numpy()[:, 0])
    total = np.nansum(np.array(shown["mean |error|"]) * np.array(shown["known"]))
    assert total == pytest.approx(np.nansum(off), rel=1e-12)
