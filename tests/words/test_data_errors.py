"""Every kind of bad data has its own sentence: the fact, what was got, what to do."""

from __future__ import annotations

import dataclasses
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
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
from gatewise.show.inspect import node_rows, summary
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
        ("twice.csv", "a,a\n1,2\n", WrongColumns, "more than one column named a"),
        ("unnamed.csv", ",a\n1,2\n", WrongColumns, "no name for column 0"),
        ("latin.csv", "\u00e9,b\n1,2\n".encode("latin1"), DataError, "not UTF-8"),
        ("latin2.csv", "a,b\n1,\u00e9\n".encode("latin1"), WrongColumns, "'b' holds Binary"),
        ("semi.csv", "a;b\n1,5;2,0\n", WrongColumns, "separator must be a comma"),
        ("tab.csv", "a\tb\n1\t2\n", WrongColumns, "by tabs: the separator must be a comma"),
        ("mark.csv", "a,b\n1,2\n1,?\n", WrongColumns, "row 1 (counted from 0) is '?'"),
        ("numbered.csv", "1,0\n3,4\n", WrongColumns, "has no header"),
    ],
)
def test_files(tmp_path, name, content, error, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
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


def test_a_parquet_file_with_a_name_twice(tmp_path):
    table = pa.table([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
    pq.write_table(table, tmp_path / "d.parquet")
    text = said(WrongColumns, lambda: load_table(tmp_path / "d.parquet"))
    assert "more than one column named a: give every column its own name" in text


def test_a_header_of_positions_is_what_pandas_writes(tmp_path):
    pd.DataFrame(X).to_csv(tmp_path / "d.csv", index=False)
    e = gw.explain(NET, load_table(tmp_path / "d.csv"))
    np.testing.assert_allclose(e.data, X)
    assert e.feature_names == ("0", "1")


@pytest.mark.parametrize("names", [[0, 1], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])])
def test_columns_named_by_anything_are_taken(names):
    frame = pd.DataFrame(X, columns=names)
    e = gw.explain(NET, frame)
    np.testing.assert_array_equal(e.data, X)
    assert e.feature_names == tuple(map(str, frame.columns))


@pytest.mark.parametrize("kind", [pd.DataFrame, pa.table])
def test_a_name_twice(kind):
    columns = {"data": X, "columns": ["a", "a"]}
    one = pa.array([1.0])
    frame = kind(**columns) if kind is pd.DataFrame else kind([one, one], names=["a", "a"])
    assert "more than one column named a" in said(WrongColumns, lambda: gw.explain(NET, frame))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (pd.Series([1, 2.5], dtype=object), "its cells are numbers kept as Object"),
        (pd.Series([1, "x"], dtype=object), "row 1 (counted from 0) is 'x'"),
        (pd.Series(["1", "2"]), "its cells are numbers kept as String"),
        (pd.Series([1j, 2]), "holds complex128, not numbers: convert"),
        (pd.to_datetime(["2020-01-01", None]), "holds Datetime"),
    ],
)
def test_columns_of_something_else(cells, words):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": cells})
    assert words in said(WrongColumns, lambda: gw.explain(NET, frame))


def test_a_column_of_no_dates_at_all_is_missing_values():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.to_datetime([None, None])})
    assert "2 of 2 rows hold NaN" in said(BadRows, lambda: gw.explain(NET, frame))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (X + 1j, "complex numbers (complex128), not real"),
        (X.astype("datetime64[s]"), "dates"),
        (X.astype(str), "text (<U"),
        ([["1", "2"]], "text (<U1)"),
        (X.astype("S8"), "bytes"),
        (np.array([[1, "x"]], dtype=object), "row 0, column 1 (counted from 0) is 'x', a str"),
        (torch.zeros(2, 2).to_sparse(), "sparse tensor: give them as X.to_dense()"),
        (torch.zeros(2, 2, dtype=torch.complex64), "complex"),
        (scipy.sparse.eye(2), "X.toarray()"),
        ({"a": [1]}, "the data are a dict"),
        ((row for row in X), "the data are a generator"),
    ],
)
def test_arrays_of_something_else(x, words):
    assert words in said(WrongShape, lambda: gw.explain(NET, x))


def test_masked_entries_are_missing():
    x = np.ma.masked_array(X, mask=np.zeros_like(X, bool))
    np.testing.assert_array_equal(gw.explain(NET, x).data, X)
    x.mask[2, 1] = True
    assert "rows 2 (counted from 0)" in said(BadRows, lambda: gw.explain(NET, x))
    assert gw.explain(NET, x, on_bad_rows="skip").matrix.skipped == (2,)


def test_half_precision_and_python_numbers_are_numbers():
    half = torch.tensor(X).bfloat16()
    np.testing.assert_array_equal(gw.explain(NET, half).data, half.double().numpy())
    exact = [[Fraction(1, 2), Decimal("0.25")], [True, 3]]
    assert gw.explain(NET, exact).data.tolist() == [[0.5, 0.25], [1, 3]]


@pytest.mark.parametrize("size", [8e307, 1e300, 1.7e308])
def test_rows_the_network_overflows_on(size):
    x = broken(4, size)
    net = mlp(2, 5, 2, seed=3)
    try:
        e = gw.explain(net, x)
    except BadRows as error:
        assert error.rows == (4,)
        assert "the network overflows on 1 row of 6: rows 4 (counted from 0)" in str(error)
        return
    found = (e.values, e.base_values, e.error, e.bound, e.scale, e.importance, e.output)
    assert all(np.isfinite(values).all() for values in found)
    assert np.isfinite(e.cluster_mean(e.output)).all()


def test_overflow_is_refused_by_name():
    x = broken(4, 1.7e308)
    grown = gw.read([(np.full((3, 2), 1e3), np.zeros(3)), (np.ones((1, 3)), np.zeros(1))])
    for job in (lambda: gw.explain(grown, abs(x)), lambda: gw.census(grown, abs(x))):
        text = said(BadRows, job)
        assert "the network overflows on 1 row of 6: rows 4 (counted from 0)" in text
        assert "repair or leave them out" in text
    small = NET.to(torch.float32)
    assert "overflows" in said(BadRows, lambda: gw.affine(small, x))


NAMED = dataclasses.replace(NET, feature_names=("a", "b"))
FRAME = pd.DataFrame(X, columns=["a", "b"])


@pytest.mark.parametrize(
    "given",
    [
        {"b": 2, "a": 1},
        pd.Series({"b": 2, "a": 1}),
        pd.DataFrame({"b": [2], "a": [1]}),
        pd.DataFrame({"b": [2], "y": [7], "a": [1]}).iloc[0],
        pl.DataFrame({"b": [2], "a": [1]}),
        pa.table({"b": [2], "a": [1]}),
        [1, 2],
        np.array([[1, 2]]),
        torch.tensor([1.0, 2.0]),
        pd.Series([1, 2]),
        pl.Series([1, 2]),
    ],
)
@pytest.mark.parametrize("network", [NET, NAMED])
def test_the_reference_is_matched_by_name(given, network):
    e = gw.explain(network, FRAME.assign(y=1), reference=given, target="y")
    assert e.reference.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1, 2, 3], "reference has 3 values, and the network takes 2 inputs"),
        ([1, np.nan], "reference holds NaN or infinity at b"),
        ("nought", "reference is 'nought': name 'mean', 'median', 'zero' or 'row 17'"),
        (0, "reference is not a row of 2 numbers"),
        (["1", "2"], "reference is not a row of 2 numbers"),
        ({"a": 1}, "reference's columns are not the network's (missing: b)"),
        ({"a": 1, "b": 2, "c": 3}, "not known to the network: c"),
        (FRAME, "reference is a table of 6 rows: give one row"),
        ([1e308, 1e308], "overflows on the reference, whose largest number is 1e+308"),
    ],
)
def test_a_reference_that_is_none(given, words):
    assert words in said(DataError, lambda: gw.explain(NAMED, FRAME, reference=given))


def test_a_raw_reference_goes_through_the_preparation():
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"age": np.arange(20.0), "sex": ["f", "m"] * 10, "y": [0, 1] * 10})
    steps = make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough")
    with warnings.catch_warnings(action="ignore"):
        model = make_pipeline(steps, MLPClassifier((4,), max_iter=5, random_state=0))
        model.fit(frame[["age", "sex"]], frame["y"])
    network = gw.read(model)
    e = gw.explain(network, frame, target="y", reference=frame.iloc[[3]])
    np.testing.assert_array_equal(e.reference, e.data[3])
    lazy = gw.explain(network, pl.from_pandas(frame).lazy(), target="y")
    np.testing.assert_array_equal(lazy.data, e.data)


def test_a_lazy_table_with_its_target():
    e = gw.explain(NET, pl.from_pandas(FRAME.assign(y=1)).lazy(), target="y")
    np.testing.assert_array_equal(e.data, X)
    assert e.target.tolist() == [1] * 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "target is a int"),
        ((i for i in range(6)), "target is a generator"),
        ({"y": 1}, "target is a dict"),
        (np.zeros((6, 1)), "target has shape (6, 1): give one value a row"),
        ([1, "a", 2, 3, 4, 5], "target holds int and str"),
        ([1, [2], 3, 4, 5, 6], "target is not one value a row"),
        ([1j] * 6, "complex"),
        (pd.array([True, False, None, True, True, False], "boolean"), "target holds bool"),
        (np.arange(5), "5 values for 6 rows of data"),
    ],
)
def test_targets_that_are_none(given, words):
    calls = []
    network = dataclasses.replace(NET, prepare=lambda x: calls.append(1) or x)
    assert words in said(DataError, lambda: gw.explain(network, X, target=given))
    assert not calls


def test_a_missing_text_may_be_none_or_nan_of_any_kind():
    target = np.array(["a", None, np.nan, np.float32("nan"), pd.NA, "b"], object)
    assert len(gw.explain(NET, X, target=target).target) == 6


def test_the_targets_length_is_compared_with_the_rows_given():
    x = broken(4, np.nan)
    job = lambda: gw.explain(NET, x, target=[1] * 5, on_bad_rows="skip")  # noqa: E731
    assert "5 values for 6 rows of data" in said(DataError, job)
    assert len(gw.explain(NET, x, target=list("abcdef"), on_bad_rows="skip").target) == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "output= is empty"),
        (1.0, "no output 1.0: the network has 2 (y0, y1)"),
        (True, "no output True"),
        ([0, 0], "names 'y0' more than once"),
        ([0, "y0"], "names 'y0' more than once"),
        ("\u00b2", "no output"),
        ("--1", "no output '--1'"),
        ("-1", "no output '-1'"),  # written out, a position is counted from 0
        (2, "its position, counted from 0"),
        ({0: 1}, "no output {0: 1}"),
    ],
)
def test_outputs_that_are_none(given, words):
    assert words in said(DataError, lambda: gw.explain(NET, X, output=given))


def test_outputs_from_numpy_and_torch():
    for given in (np.int64(1), torch.tensor(1), "1", -1, np.array([1]), ("y1",)):
        assert gw.explain(NET, X, output=given).output_names == ("y1",)


def test_a_whole_number_is_a_position_and_a_text_a_name():
    named = dataclasses.replace(NET, output_names=("1", "0"))
    assert gw.explain(named, X, output=1).output_names == ("0",)
    assert gw.explain(named, X, output="1").output_names == ("1",)


@pytest.mark.parametrize("size", ["3", 2.5, True, -1])
def test_a_batch_size_that_is_none(size):
    for job in (gw.census, gw.explain):
        text = said(DataError, lambda job=job: job(NET, X, batch_size=size))
        assert f"batch_size must be a whole number, at least 1, got {size!r}" in text


def test_top_is_a_whole_number(tmp_path):
    e = gw.explain(NET, X)
    for job in (gw.save, gw.report):
        assert "top must be" in said(DataError, lambda job=job: job(e, tmp_path / "o", top="3"))


def test_one_is_not_many():
    one = mlp(1, 1, 1)
    x = np.array([[1.0]])
    assert "1 row in 1 cluster, 1 feature, 1 output\n" in repr(gw.explain(one, x))
    assert "takes 1 input a row, got 2" in said(WrongShape, lambda: gw.affine(one, x.repeat(2, 1)))
    assert "the only row holds NaN" in said(
        BadRows, lambda: gw.explain(one, x * np.nan, on_bad_rows="skip")
    )
    assert summary(one)[:2] == [
        "1 input, 1 output, 4 parameters",
        "piecewise affine: 1 gate unit in 1 gate",
    ]


def test_a_leading_one_is_shown_where_more_axes_follow():
    def shapes(shape):
        node = dataclasses.replace(NET.nodes[0], shape=shape)
        return next(node_rows(dataclasses.replace(NET, nodes=(node,))))[3]

    assert [shapes(s) for s in [(1, 5), (5,), (1, 2, 3), (), (4, 5)]] == [
        *("5", "5", "1x2x3", "1", "4x5"),
    ]
