"""Tables, Parquet and JSON hold the numbers of the Explanation, whole or not at all."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gatewise as gw
from gatewise.errors import DataError, OutputError
from gatewise.ir.network import fingerprint
from nets import mlp, rows

NETWORK = dataclasses.replace(mlp(2, 5, 1), feature_names=("a", "b"), output_names=("y",))
X = rows(NETWORK, 8).numpy()
X[3, 0] = np.nan
GOOD = [0, 1, 2, 4, 5, 6, 7]
LABELS = list("stuvwxyz")


def explained(table, **options):
    return gw.explain(NETWORK, table, on_bad_rows="skip", **options)


def table(kind):
    columns = {"a": X[:, 0], "b": X[:, 1]}
    if kind == "pandas":
        return pd.DataFrame(columns, index=pd.Index(LABELS, name="who"))
    if kind == "lazy":
        return pl.DataFrame(columns).lazy()
    return {"polars": pl.DataFrame, "pyarrow": pa.table}[kind](columns)


@pytest.mark.parametrize(
    ("kind", "returned"),
    [
        ("pandas", pd.DataFrame),
        ("polars", pl.DataFrame),
        ("lazy", pl.DataFrame),
        ("pyarrow", pa.Table),
    ],
)
def test_the_kind_that_came_in_comes_out(kind, returned):
    exp = explained(table(kind))
    frame = exp.to_frame(inputs=True, slopes=True)
    assert type(frame) is returned
    assert np.asarray(frame["row"]).tolist() == GOOD
    for name, column in {
        "cluster": exp.ids,
        "output:y": exp.output[:, 0],
        "base_value:y": exp.base_values[:, 0],
        "intercept:y": exp.intercept[:, 0],
        "input:b": exp.data[:, 1],
        "contribution:a": exp.values[:, 0, 0],
        "slope:b": exp.slopes[:, 1, 0],
        "margin": exp.margin.scaled.numpy(),
        "error": exp.error[:, 0],
    }.items():
        np.testing.assert_array_equal(np.asarray(frame[name]), column)
    if kind == "pandas":
        assert frame.index.tolist() == [LABELS[i] for i in GOOD]
        assert frame.index.name == "who"


def test_through_a_pipeline_the_index_is_kept():
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = table("pandas").dropna()
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, np.arange(7))
    found = gw.explain(model, frame).to_frame()
    assert found.index.equals(frame.index)
    assert type(gw.explain(model, pl.from_pandas(frame)).to_frame()) is pl.DataFrame


def test_arrays_give_a_dict_that_any_library_takes():
    exp = explained(X)
    columns = exp.to_frame()
    assert type(columns) is dict
    assert pd.DataFrame(columns).shape == pl.DataFrame(columns).shape == (7, len(columns))
    assert type(exp.to_frame(library="polars")) is pl.DataFrame
    assert type(explained(table("pandas")).to_frame(library="pyarrow")) is pa.Table
    kept = explained(table("pandas")).to_frame(library="pandas")
    assert kept.index.name == "who"
    with pytest.raises(DataError, match="library must be one of pandas, polars, pyarrow; got 'R'"):
        exp.to_frame(library="R")


def test_several_outputs_have_columns_each_and_targets_are_there():
    network = dataclasses.replace(mlp(2, 5, 2), output_names=("no", "yes"))
    frame = pd.DataFrame({"a": X[GOOD, 0], "b": X[GOOD, 1], "t": np.arange(7)})
    exp = gw.explain(network, frame, target="t", margin=False)
    found = exp.to_frame()
    assert found["target"].tolist() == list(range(7))
    assert "margin" not in found
    np.testing.assert_array_equal(found["contribution:yes:b"], exp.values[:, 1, 1])
    np.testing.assert_array_equal(found["base_value:no"], exp.base_values[:, 0])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_groups_can_be_one_column_each(library):
    x = np.column_stack([np.arange(4.0), [1, 0, 0, 0], [0, 1, 0, 0]])
    network = dataclasses.replace(mlp(3, 4, 1), feature_names=("age", "town=A", "town=B"))
    exp = gw.explain(network, x, groups={"town": ["town=A", "town=B"]})
    found = exp.to_frame(folded=True, inputs=True, library=library)
    assert [str(v) for v in np.asarray(found["input:town"])] == ["A", "B", "none", "none"]
    assert np.asarray(found["input:age"]).tolist() == [0, 1, 2, 3]
    values = exp.folded().values
    np.testing.assert_array_equal(np.asarray(found["contribution:town"]), values[:, 1, 0])
    np.testing.assert_array_equal(np.asarray(found["contribution:age"]), values[:, 0, 0])


def test_two_columns_of_one_name_are_refused():
    network = dataclasses.replace(
        mlp(2, 3, 2), feature_names=("x", "b:x"), output_names=("a:b", "a")
    )
    exp = gw.explain(network, X[GOOD])
    with pytest.raises(DataError, match=r"would be called 'contribution:a:b:x': rename a feature"):
        exp.to_frame()


def test_parquet_holds_the_table_and_what_was_explained(tmp_path):
    exp = explained(table("pandas"), target=np.arange(8))
    path = exp.to_parquet(tmp_path / "deep" / "rows.parquet", slopes=True)
    read = pq.read_table(path)
    expected = exp.to_frame(slopes=True, library="pyarrow")
    assert read.select(expected.column_names).equals(expected)
    said = json.loads(read.schema.metadata[b"gatewise"])
    assert said["schema_version"] == 1
    assert said["network"]["fingerprint"] == fingerprint(exp.network)
    assert said["features"] == ["a", "b"]
    assert said["skipped_rows"] == [3]
    assert said["reference"] == {"name": exp.reference_name, "values": exp.reference.tolist()}
    assert set(said["versions"]) == {"gatewise", "torch", "numpy", "python", "machine"}


def test_json_is_enough_to_compute_every_output_again(tmp_path):
    exp = explained(table("pandas"), target=np.array([1, np.nan] * 4))
    text = exp.to_json(tmp_path / "e.json")
    assert (tmp_path / "e.json").read_text("utf-8") == text + "\n"
    said = json.loads(text)
    assert (said["schema_version"], said["kind"]) == (1, "gatewise.explanation")
    assert said["network"]["fingerprint"] == fingerprint(exp.network)
    rules, data = said["rules"], said["data"]
    for i, c in enumerate(data["cluster"]):
        w, b = np.array(rules["coefficients"][c]), np.array(rules["intercepts"][c])
        np.testing.assert_allclose(w @ data["inputs"][i] + b, exp.output[i], rtol=1e-13, atol=1e-14)
    assert data["inputs"] == exp.data.tolist()
    assert data["output"] == exp.output.tolist()
    assert data["row"] == GOOD
    assert data["target"] == [1, None, 1, 1, None, 1, None]


def test_json_says_groups_and_infinite_margins():
    flat = [(np.ones((1, 2)), np.zeros(1))]
    exp = gw.explain(flat, np.eye(2), groups={"g": [0, 1]})
    said = json.loads(exp.to_json())
    assert said["data"]["margin"] == [None, None]
    group = {"name": "g", "members": [0, 1], "levels": ["x0", "x1"], "dropped": None}
    assert said["groups"] == [group]
    assert said["units"] == ["original", "original"]


@pytest.mark.parametrize("write", ["to_json", "to_parquet"])
def test_a_failure_leaves_what_was_there(write, tmp_path, monkeypatch):
    out = tmp_path / "e"
    out.write_text("old")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatewise.tables.writing.flush", full)
    with pytest.raises(OutputError, match="No space left"):
        getattr(explained(X), write)(out)
    assert out.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize("index", ["text", "named", "range", "row"])
def test_parquet_keeps_the_index_of_a_pandas_table(tmp_path, index):
    data = table("pandas").reset_index(drop=True)
    if index != "range":
        data.index = [f"p{i}" for i in range(len(data))]
    if index in ("named", "row"):
        data = data.rename_axis("patient" if index == "named" else "row")
    exp = explained(data)
    read = pd.read_parquet(exp.to_parquet(tmp_path / "rows.parquet"))
    frame = exp.to_frame()
    assert read.index.tolist() == frame.index.tolist()
    pd.testing.assert_frame_equal(read, frame, check_names=index != "row")


def test_an_index_that_parquet_cannot_hold_is_refused(tmp_path):
    data = table("pandas")
    data.index = pd.Index([1, "b", *range(2, len(data))], dtype=object)
    exp = explained(data)
    with pytest.raises(DataError, match="cannot be written with its index"):
        exp.to_parquet(tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []
