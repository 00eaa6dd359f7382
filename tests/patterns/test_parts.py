"""Files that differ in how they hold their columns make one table, or are refused by name."""

from __future__ import annotations

import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gatewise as gw
from gatewise.errors import DataError, WrongColumns
from gatewise.patterns.streaming import parts, raw, reading
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.reading import Place, blocks

RNG = np.random.default_rng(0)


def values(table, start: Place = Place()) -> np.ndarray:  # noqa: B008
    """All rows of a table, as the census reads them."""
    found = [block.values for block in blocks(table, start)]
    assert found
    return np.concatenate(found)


def held(folder: Path, **files: pa.Table) -> Path:
    for name, table in files.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(table, path, row_group_size=3)
    return folder


def test_numbers_of_every_type_and_columns_in_any_order(tmp_path):
    columns = {
        "float": pa.array([0.5, None, 2.0]),
        "float32": pa.array([0.1, 2.5, -1.0], pa.float32()),
        "int": pa.array([1, None, 3], pa.int64()),
        "uint8": pa.array([0, 255, 7], pa.uint8()),
        "bool": pa.array([True, None, False]),
        "decimal": pa.array([Decimal("0.1"), Decimal("-2.5"), None]),
        "nothing": pa.nulls(3),
        "codes": pa.array([2.5, 0.5, 2.5]).dictionary_encode(),
        "whole codes": pa.array([7, None, 7]).dictionary_encode(),
    }
    others = [
        pa.table({"x": c, "y": pa.array([1.0, 2.0, 3.0])}).select(["y", "x"])
        for c in columns.values()
    ]
    held(tmp_path, **{f"f{i}": t for i, t in enumerate(others)})
    pa.parquet.write_table(others[0].slice(0, 0), tmp_path / "f99.parquet")
    found = values(table_of(tmp_path, ("x", "y"), 2))
    expected = [np.nan if v is None else float(v) for c in columns.values() for v in c.to_pylist()]
    assert np.array_equal(found[:, 0], expected, equal_nan=True)
    assert np.array_equal(found[:, 1], np.tile([1.0, 2.0, 3.0], len(columns)))


@pytest.mark.parametrize(
    "odd, said",
    [
        (pa.table({"a": [1.0]}), r"f1.parquet' are not those of '.*f0.parquet' \(missing: b\)"),
        (pa.table({"a": [1.0], "b": ["1"]}), r"'b' of '.*f1.parquet' holds string, not numbers"),
        (pa.table({"a": [1.0], "b": pa.array(["1"]).dictionary_encode()}), r"holds string"),
        (pa.table({"a": [1.0], "b": [[1.0]]}), r"'b' of '.*' holds list<.*>, not numbers"),
        (pa.table({"a": [1.0], "b": [1.0], "c": [1.0]}), r"\(not known: c\)"),
    ],
)
def test_a_schema_that_changes_is_named(tmp_path, odd, said):
    held(tmp_path, f0=pa.table({"a": [1.0], "b": [2.0]}), f1=odd)
    with pytest.raises(WrongColumns, match=said):
        table_of(tmp_path, (), 2)


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.arrow"])
def test_an_empty_file_is_named_or_left_out(tmp_path, name):
    held(tmp_path, a=pa.table({"a": [1.0], "b": [2.0]}))
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name}' cannot be read: .*on_bad_files='skip'"):
        table_of(tmp_path, ("a", "b"), 2)
    table = table_of(tmp_path, ("a", "b"), 2, "skip")
    assert [bool(p.trouble) for p in table.parts] == [False, True]
    (tmp_path / name).unlink()
    (tmp_path / "y.csv").write_text("b,a\n")
    assert values(table_of(tmp_path, ("a", "b"), 2)).tolist() == [[1.0, 2.0]]


# ------------------------------------------------------------------------------- folders


def test_the_index_that_pandas_writes_is_no_column(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
    for i, part in frame.groupby("b"):
        part.to_parquet(tmp_path / f"{i}.parquet")
    assert "__index_level_0__" in pa.parquet.read_schema(tmp_path / "1.0.parquet").names
    assert values(table_of(tmp_path, (), 2)).tolist() == [[1, 0], [3, 0], [2, 1]]


def hive(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """year=2023/half=1/.. with columns a and b; rows in the order of the names."""
    rows = RNG.normal(size=(24, 2))
    cut = [("2023", "0.5"), ("2023", "1"), ("2024", "__HIVE_DEFAULT_PARTITION__")]
    for i, (year, half) in enumerate(cut):
        part = pa.table({"a": rows[8 * i : 8 * i + 8, 0], "b": rows[8 * i : 8 * i + 8, 1]})
        held(tmp_path / f"year={year}" / f"half={half}", p=part)
    extra = np.repeat([[2023, 0.5], [2023, 1.0], [2024, np.nan]], 8, 0)
    return tmp_path, np.hstack([rows, extra])


def test_columns_that_lie_in_the_names_of_folders(tmp_path, monkeypatch):
    root, expected = hive(tmp_path)
    names = ("half", "a", "year", "b")
    order = [3, 0, 2, 1]
    assert np.array_equal(values(table_of(root, names, 4)), expected[:, order], equal_nan=True)
    table = table_of(root, names, 4)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 3 * 32)
    again = values(table, Place(1, 5))  # as a census that goes on reads it
    assert np.array_equal(again, expected[13:, order], equal_nan=True)
    whole = values(table_of(root, (), 4))  # without names: as pyarrow puts them
    assert np.array_equal(whole, expected[:, [0, 1, 2, 3]], equal_nan=True)
    assert np.array_equal(values(table_of(root, (), 2)), expected[:, :2])
    data = pa.dataset.dataset(root, partitioning="hive")
    assert np.array_equal(values(table_of(data, names[1:], 3)), expected[:, [0, 2, 1]])


def test_folders_that_say_text_and_files_that_lack_one(tmp_path):
    part = pa.table({"a": [1.0]})
    held(tmp_path / "kind=x", p=part)
    held(tmp_path / "kind=y", p=part)
    with pytest.raises(WrongColumns, match=r"column 'kind' of '.*' holds string, not numbers"):
        table_of(tmp_path, ("a", "kind"), 2)
    held(tmp_path / "month=07", p=part)
    held(tmp_path / "month=%31%32", p=part)
    months = [p.folders.get("month") for p in table_of(tmp_path, ("a",), 1).parts]
    assert months == [None, None, 12, 7]
    with pytest.raises(WrongColumns, match=r"kind=x/p.parquet' are not .* \(missing: month\)"):
        table_of(tmp_path, ("a", "month"), 2)


# ------------------------------------------------------------------------------- a Pipeline


@pytest.fixture(scope="module")
def raw_table() -> pd.DataFrame:
    n = 240
    city = RNG.choice(np.array(["ab", "cd", "ef", None], object), n)
    city[100:160] = None  # a whole file of nothing
    age = RNG.normal(40, 10, n)
    age[[3, 200]] = np.nan
    sex, size = RNG.choice(["m", "f"], n), RNG.integers(0, 3, n)
    return pd.DataFrame({"age": age, "city": city, "sex": sex, "size": size})


@pytest.fixture(scope="module")
def network(raw_table):
    y = RNG.integers(0, 2, len(raw_table))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    steps = make_column_transformer(
        (numbers, ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        (OneHotEncoder(drop="first"), ["sex", "size"]),
    )  # fmt: skip
    model = make_pipeline(steps, MLPClassifier((5,), max_iter=5, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gw.read(model.fit(raw_table, y))


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def test_raw_columns_are_prepared_block_by_block(monkeypatch, network, raw_table, tmp_path):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 8 * 9 * 50)
    pieces = [raw_table[:100], raw_table[100:160], raw_table[160:200], raw_table[200:]]
    one, two, three, four = map(arrow, pieces)
    two = two.set_column(1, "city", pa.nulls(len(two)))
    three = three.set_column(1, "city", three["city"].dictionary_encode())
    held(tmp_path, f0=one, f1=two, f2=three.select(["size", "sex", "city", "age"]))
    pa.feather.write_feather(four, tmp_path / "f3.arrow")
    expected = network.prepare(raw_table)
    table = table_of(tmp_path, network.feature_names, network.inputs, prepare=network.prepare)
    assert np.array_equal(values(table), expected)
    assert np.array_equal(values(table, Place(2, 7)), expected[167:])
    found, whole = gw.census(network, tmp_path), gw.census(network, raw_table)
    assert np.array_equal(found.counts, whole.counts)
    assert np.array_equal(found.pattern.bits, whole.pattern.bits)


def test_a_pipeline_over_csv_with_a_target_and_a_folder(network, raw_table, tmp_path):
    frame = raw_table.assign(y=np.arange(len(raw_table)) % 2, city=raw_table.city.fillna("ab"))
    for sex, part in frame.groupby("sex"):
        (tmp_path / f"sex={sex}").mkdir()
        part.drop(columns="sex").to_csv(tmp_path / f"sex={sex}" / "x.csv", index=False)
    table = table_of(tmp_path, (), network.inputs, target="y", prepare=network.prepare)
    assert table.columns == network.feature_names
    expected = pd.concat([part for _, part in frame.groupby("sex")])
    np.testing.assert_allclose(values(table), network.prepare(expected), rtol=1e-15)
    assert table.preparation


def test_what_a_pipeline_cannot_take_is_said_with_file_and_rows(network, raw_table, tmp_path):
    def refused(said: str, **files: pd.DataFrame) -> None:
        held(tmp_path, **{n: arrow(f) for n, f in files.items()})
        with pytest.raises(DataError, match=said):
            values(table_of(tmp_path, (), network.inputs, prepare=network.prepare))

    odd = raw_table[:50].assign(sex="x")
    refused(r"'.*f1.parquet', rows 0 to \d+: the model's own step", f0=raw_table, f1=odd)
    said = r"f1.parquet' lacks columns that the model was trained on \(missing: city"
    refused(said, f1=odd.drop(columns="city"))
    text = odd.assign(size=odd["size"].map(str))
    refused(r"column 'size' holds int64 in '.*f0.parquet' and .*string in '.*f1", f1=text)


def test_another_preparation_is_noticed(network, raw_table, tmp_path):
    held(tmp_path, f0=arrow(raw_table))
    known = [
        table_of(tmp_path, (), 9, prepare=p).preparation
        for p in (network.prepare, network.prepare, lambda t: network.prepare(t) + 1)
    ]
    assert known[0] == known[1] != known[2]
    assert isinstance(table_of(tmp_path, (), 9, prepare=network.prepare), parts.Table)
    assert raw.matrix(pa.record_batch({"a": [1, 2]})).tolist() == [[1.0], [2.0]]
