"""Every kind of bad data has its own sentence: the fact, what was got, what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import gatewise as gw
from gatewise.errors import (
    BadRows,
    DataError,
    EmptyData,
    GatewiseError,
    OutputError,
    WrongColumns,
    WrongShape,
)
from gatewise.tables import load_table
from nets import mlp, rows

NET = mlp(2, 5, 2)
X = rows(NET, 6).numpy()


def said(error: type[GatewiseError], job) -> str:
    """The message, after checks that hold for every message: one line, and nothing vague."""
    with pytest.raises(error) as caught:
        job()
    text = str(caught.value)
    assert "\n" not in text
    assert 20 < len(text) < 500
    return text


def broken(row: int, value: float) -> np.ndarray:
    x = X.copy()
    x[row, 0] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite(value):
    text = said(BadRows, lambda: gw.explain(NET, broken(4, value)))
    assert "1 of 6 rows hold NaN or infinity: rows 4 (counted from 0)" in text
    assert "on_bad_rows='skip'" in text


def test_all_rows_bad():
    x = np.full((3, 2), np.nan)
    text = said(BadRows, lambda: gw.explain(NET, x, on_bad_rows="skip"))
    assert "all 3 rows" in text


def test_many_bad_rows_are_not_all_printed():
    x = np.full((50, 2), np.nan)
    x[0] = 1
    assert "and 39 more" in said(BadRows, lambda: gw.explain(NET, x))


def test_wrong_number_of_inputs():
    text = said(WrongShape, lambda: gw.affine(NET, np.zeros((4, 3))))
    assert "takes 2 inputs a row, got 3" in text


def test_one_row_without_its_row_axis():
    text = said(WrongShape, lambda: gw.affine(NET, np.zeros(2)))
    assert "row axis" in text and "X[None]" in text


def test_ragged_lists():
    assert "rectangular" in said(WrongShape, lambda: gw.affine(NET, [[1, 2], [3]]))


def test_zero_rows():
    assert "0 rows" in said(EmptyData, lambda: gw.explain(NET, np.zeros((0, 2))))


def test_too_many_columns_asks_for_the_target():
    frame = pd.DataFrame({"a": [1.0], "b": [2.0], "y": [0]})
    text = said(WrongColumns, lambda: gw.explain(NET, frame))
    assert "takes 2 inputs, the table has 3 columns: a, b, y" in text
    assert "target" in text


def test_wrong_names():
    import dataclasses

    named = dataclasses.replace(NET, feature_names=("age", "fare"))
    frame = pd.DataFrame({"age": [1.0], "fair": [2.0]})
    text = said(WrongColumns, lambda: gw.explain(named, frame))
    assert "missing: fare" in text and "not known to the network: fair" in text


def test_text_columns():
    frame = pd.DataFrame({"a": [1.0, 2.0], "sex": ["male", "female"]})
    text = said(WrongColumns, lambda: gw.explain(NET, frame))
    assert "column 'sex' holds String, not numbers" in text and "Pipeline" in text


def test_unknown_target():
    frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
    assert "no column 'y'" in said(DataError, lambda: gw.explain(NET, frame, target="y"))


def test_target_of_another_length():
    text = said(DataError, lambda: gw.explain(NET, X, target=[1, 2]))
    assert "2 values for 6 rows" in text


def test_unknown_output():
    text = said(DataError, lambda: gw.explain(NET, X, output="z"))
    assert "no output 'z': the network has 2 (y0, y1)" in text


def test_batch_size_and_policy():
    assert "at least 1, got 0" in said(DataError, lambda: gw.census(NET, X, batch_size=0))
    assert "'raise' or 'skip'" in said(DataError, lambda: gw.explain(NET, X, on_bad_rows="drop"))


def test_float16_is_not_an_analysis_dtype():
    from gatewise.numeric import as_float_dtype

    assert "float32 or float64" in said(DataError, lambda: as_float_dtype(torch.float16))


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("empty.csv", "", EmptyData, "0 bytes"),
        ("header.csv", "a,b\n", EmptyData, "0 rows"),
        ("noheader.csv", "1,2\n3,4\n", WrongColumns, "has no header"),
        ("ragged.csv", "a,b\n1,2\n3\n", DataError, "not a readable CSV"),
        ("text.csv", "a,b\n1,x\n", WrongColumns, "column 'b' holds String"),
        ("nan.csv", "a,b\n1,2\n1,nan\n", BadRows, "rows 1 (counted from 0)"),
        ("missing.csv", "a,b\n1,2\n1,\n", BadRows, "rows 1 (counted from 0)"),
        ("not.parquet", "PAR1 not really", DataError, "not a readable Parquet"),
        ("table.xlsx", "x", DataError, "neither .csv nor .parquet"),
    ],
)
def test_files(tmp_path, name, content, error, words):
    path = tmp_path / name
    path.write_text(content)
    assert words in said(error, lambda: gw.explain(NET, load_table(path)))


def test_no_such_file(tmp_path):
    assert "there is no file" in said(DataError, lambda: load_table(tmp_path / "gone.csv"))


def test_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    e = gw.explain(NET, X)
    text = said(OutputError, lambda: gw.save(e, tmp_path))
    assert "holds 'thesis.tex', which is not a result of gatewise: nothing was written" in text
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    assert "is a file" in said(OutputError, lambda: gw.save(gw.explain(NET, X), tmp_path / "out"))
