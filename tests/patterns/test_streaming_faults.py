"""A census of files among hostile ones: links, formats, files that change while they are read.

No row is lost or doubled without a word: the answer is that of the rows in memory, or an error that
names the file. test_streaming.py has the plain faults (one unreadable file, NaN, other columns).
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch

from gatewise.errors import DataError, OutputError
from gatewise.patterns.streaming import census as streaming
from gatewise.patterns.streaming import reading
from gatewise.patterns.streaming.census import streamed
from nets import F64
from stored import NET, X, assert_is_census_of, parquet, table, three_files, while_read


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(streaming, "SEGMENT_ROWS", 250)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 50 * 24)


@pytest.fixture
def data(tmp_path):
    return three_files(tmp_path / "data")


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def junk(path: Path) -> None:
    path.write_bytes(b"\0" * 5000)


def latin(path: Path) -> None:
    path.write_bytes("a,b,ä\n1,2,3\n".encode("latin-1"))


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def self_link(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("f1.csv", empty_file),
        ("f1.parquet", empty_file),
        ("f1.arrow", empty_file),
        ("f1.csv", junk),
        ("f1.arrow", junk),
        ("f1.csv", latin),
        ("f1.parquet", dangling),
        ("f1.parquet", self_link),
        ("f1.parquet", os.mkfifo),
    ],
)
def test_what_is_no_table_is_named_or_left_out_and_listed(data, name, made):
    (data / "f1.parquet").unlink()
    made(data / name)
    with pytest.raises(DataError, match=rf"{name}' cannot be read: "):
        streamed(NET, data)
    found = streamed(NET, data, on_bad_files="skip")
    assert [Path(b.file).name for b in found.broken] == [name]
    assert_is_census_of(found, torch.cat([X[:200], X[400:]]))


def test_a_name_that_is_no_text_is_refused_in_a_sentence(data):
    (data / "f1.parquet").rename(os.fsdecode(os.fsencode(data) + b"/f\xff.parquet"))
    with pytest.raises(DataError, match="name"):
        streamed(NET, data)


def test_tables_without_rows_in_every_format_and_order(data, tmp_path):
    """Zero rows, empty row groups, columns of no type; other order and other number types."""
    parquet(data / "a.parquet", X[:0])
    pa.feather.write_feather(table(X[:0]), data / "f0a.arrow")
    pa.csv.write_csv(table(X[:0]), data / "f1a.csv")
    nothing = pa.table({n: pa.array([], pa.null()) for n in "abc"})
    pa.parquet.write_table(nothing, data / "f1b.parquet")
    x = torch.tensor([[1.0, 0, 3], [-2, 1, -1]], dtype=F64)
    kinds = {"c": pa.int8(), "a": pa.float32(), "b": pa.bool_()}
    mixed = {n: pa.array(x[:, "abc".index(n)].tolist()).cast(k) for n, k in kinds.items()}
    with pa.parquet.ParquetWriter(data / "g.parquet", pa.table(mixed).schema) as out:
        for part in (slice(0, 0), slice(0, 1), slice(1, 1), slice(1, 2), slice(2, 2)):
            out.write_table(pa.table(mixed)[part])
    found = streamed(NET, data, out=tmp_path / "out")
    assert_is_census_of(found, torch.cat([X, x]))


def test_links_in_a_circle_end_and_no_row_is_counted_twice(data):
    (data / "sub").mkdir()
    (data / "sub" / "up").symlink_to(data)
    (data / "here").symlink_to(data)
    assert_is_census_of(streamed(NET, data), X)


def test_a_linked_folder_is_read_or_named(data, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    parquet(tmp_path / "elsewhere" / "more.parquet", X[:50])
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    try:
        found = streamed(NET, data)
    except DataError as error:
        assert "linked" in str(error)
    else:
        assert_is_census_of(found, torch.cat([X, X[:50]]))


def test_a_linked_file_and_other_kinds_of_file(data, tmp_path):
    (data / "f1.parquet").rename(tmp_path / "moved")
    (data / "f1.parquet").symlink_to(tmp_path / "moved")
    for name in ("notes.txt", "_SUCCESS", ".f0.parquet.crc", "_metadata", "f0.parquet.bak"):
        (data / name).write_text("not a table")
    assert_is_census_of(streamed(NET, data), X)


def test_a_filtered_dataset_is_refused_in_a_sentence(data):
    source = pa.dataset.dataset(data).filter(pa.dataset.field("a") > 0)
    with pytest.raises(DataError, match="filter"):
        streamed(NET, source)


def test_links_that_lead_around_and_files_of_other_kinds(data, tmp_path):
    """A folder reached in two ways is read once; what is passed over is counted, where it shows."""
    (tmp_path / "far" / "near").mkdir(parents=True)
    parquet(tmp_path / "far" / "near" / "more.parquet", X[:50])
    (data / "g").symlink_to(tmp_path / "far" / "near")
    (data / "h").symlink_to(tmp_path / "far")
    (data / "_tmp").mkdir()
    parquet(data / "_tmp" / "x.parquet", X[:7])
    for name in ("a.csv.gz", "b.json", "g/c.json", "_SUCCESS", ".d.crc"):
        (data / name).write_text("not a table")
    found = streamed(NET, data, out=tmp_path / "out")
    assert_is_census_of(found, torch.cat([X, X[:50]]))
    assert found.passed == 3
    assert "3 other files passed over" in repr(found)
    assert streamed(NET, data / "f0.parquet").passed == 0
    for path in data.glob("f*"):
        path.unlink()
    (data / "g").unlink(), (data / "h").unlink()
    with pytest.raises(
        DataError, match=r"has no table: .* are read, and 2 files there passed over"
    ):
        streamed(NET, data)


PATHS = {
    "x" * 5000: "cannot be looked at: File name too long",
    "nul\0": r"there is no file or folder '.*nul\\x00'",
    "f0.txt": "f0.txt' is none of .*: convert it to Parquet",
    "none.csv": "the only file cannot be read: '.*none.csv': Empty CSV file",
    "bare.arrow": "bare.arrow' has no column to take as input: the network takes 3",
    "\x1b[31m\n.parquet": r"no file or folder '.*\\x1b\[31m\\n.parquet'",
}


@pytest.mark.parametrize("name", PATHS, ids=range(len(PATHS)))
def test_a_path_that_holds_no_table_is_one_sentence(tmp_path, name):
    (tmp_path / "f0.txt").touch()
    (tmp_path / "none.csv").touch()
    pa.feather.write_feather(pa.table({}), tmp_path / "bare.arrow")
    with pytest.raises(DataError, match=PATHS[name]) as caught:
        streamed(NET, tmp_path / name, on_bad_files="skip")
    assert str(caught.value).isprintable()


# ------------------------------------------------------------------------------- changes on the way


@pytest.mark.parametrize("skip", [{}, {"on_bad_files": "skip"}])
def test_a_file_that_vanishes_is_named(data, skip):
    """Asked to go on without broken files, too: it was none when the table was listed."""
    with pytest.raises(DataError, match=r"f2.parquet' was changed while its table was read"):
        while_read((data / "f2.parquet").unlink, data, **skip)


CHANGES = {
    "other rows": lambda path: parquet(path, -X[:200]),
    "fewer rows": lambda path: parquet(path, X[:5]),
    "other columns": lambda path: parquet(path, X[:200], "xyz"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changes_before_it_is_read_is_noticed(data, how):
    with pytest.raises(DataError, match=r"f2.parquet' was changed while its table was read"):
        while_read(lambda: CHANGES[how](data / "f2.parquet"), data)


def test_a_csv_that_grows_while_it_is_read_is_noticed(tmp_path):
    pa.csv.write_csv(table(X.repeat(40, 1)), tmp_path / "a.csv")  # more than a block of 1 MB

    def grow():
        with (tmp_path / "a.csv").open("a") as file:
            file.write("1,2,3\n")

    with pytest.raises(DataError, match=r"a.csv' was changed while its table was read"):
        while_read(grow, tmp_path)


def test_a_folder_that_is_removed_on_the_way_is_said(data, tmp_path):
    import shutil

    out = tmp_path / "out"
    with pytest.raises(OutputError, match="out"):
        while_read(lambda: shutil.rmtree(out), data, at=550, out=out)
