"""The census of files is that of the rows in memory: however cut, broken off, or killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import onnx_files
from commands import refused, run
from gatewise.errors import BadRows, DataError, EmptyData, OutputError, WrongColumns
from gatewise.patterns import hashing
from gatewise.patterns.census import census
from gatewise.patterns.streaming import census as streaming
from gatewise.patterns.streaming import folder, reading
from gatewise.patterns.streaming.census import streamed
from nets import F64, mlp

NET = mlp(3, 6, 5, 1)
X = torch.randn(2000, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(streaming, "SEGMENT_ROWS", 300)


def table(x: torch.Tensor, names: list[str] = NAMES) -> pa.Table:
    return pa.table({n: x[:, j].numpy() for j, n in enumerate(names)})


def written(
    path: Path, x: torch.Tensor = X, cuts: tuple[int, ...] = (700, 1500), group=128
) -> Path:
    """x as Parquet files f0, f1, ... in a folder."""
    path.mkdir(exist_ok=True)
    for i, part in enumerate(torch.tensor_split(x, cuts)):
        pa.parquet.write_table(table(part), path / f"f{i}.parquet", row_group_size=group)
    return path


def assert_same(found, whole) -> None:
    assert found.clusters == len(found) == len(whole)
    for name in ("counts", "first"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    assert np.array_equal(found.pattern.bits, whole.pattern.bits)
    assert found.names == whole.names
    assert found.undecided == (whole.undecided > 0).sum()


def ids(found) -> np.ndarray:
    return np.concatenate(list(found.ids()))


@pytest.fixture(scope="module")
def whole():
    return census(NET, X)


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "data")


@settings(max_examples=6)
@given(st.data())
def test_cuts_into_files_groups_runs_and_batches_change_nothing(whole, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("cuts")
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, 2000), max_size=4))))
    source = written(place / "data", cuts=cuts, group=data.draw(st.integers(50, 900)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SEGMENT_ROWS", data.draw(st.integers(100, 3000)))
        out = place / "out"
        found = streamed(NET, source, out=out, batch_size=data.draw(st.integers(20, 500)))
    assert_same(found, whole)
    assert np.array_equal(ids(found), whole.ids)
    assert found.rows == len(X)
    assert {p.name for p in out.iterdir()} == {".lock", "meta.json", *FILES}


FILES = ("patterns.parquet", "rows.parquet")


def test_patterns_that_share_a_hash_keep_their_order(monkeypatch, data, tmp_path):
    """Order among equals is by (hash, bits): of the set of patterns, not of the runs."""

    def poor(bits, salt=0):
        return bits.view(np.uint64)[:, 0] % np.uint64(3) << np.uint64(62)

    monkeypatch.setattr(hashing, "hashes", poor)
    monkeypatch.setattr("gatewise.patterns.streaming.runs.hashes", poor)
    expected = census(NET, X)
    found = streamed(NET, data, out=tmp_path / "out")
    assert len(found) > 10
    assert_same(found, expected)
    assert np.array_equal(ids(found), expected.ids)


def test_every_kind_of_file_and_a_dataset(whole, tmp_path):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    a, b, c, d = torch.tensor_split(X, 4)
    pa.parquet.write_table(table(a), mixed / "1.parquet")
    pa.feather.write_feather(table(b), mixed / "2.arrow", chunksize=100)
    pa.csv.write_csv(table(c[:, [2, 0, 1]], ["c", "a", "b"]), mixed / "3.csv")
    (mixed / "sub").mkdir()
    pa.parquet.write_table(table(d), mixed / "sub" / "4.pq")
    (mixed / "notes.txt").write_text("not a table")
    (mixed / "_metadata.parquet").write_text("hidden")
    found = streamed(NET, mixed)
    assert_same(found, whole)
    parquet = written(tmp_path / "parquet")
    assert_same(streamed(NET, pa.dataset.dataset(parquet)), whole)
    with pytest.raises(DataError, match=r"rows' clusters were not kept: give .* out="):
        list(found.ids())


def test_an_empty_row_group_and_whole_numbers(tmp_path):
    rows = pa.table({n: pa.array([1, -2, 3], pa.int32()) for n in NAMES})
    with pa.parquet.ParquetWriter(tmp_path / "x.parquet", rows.schema) as out:
        for part in (rows.slice(0, 2), rows.slice(0, 0), rows.slice(2)):
            out.write_table(part)
    pa.parquet.write_table(rows.slice(0, 0), tmp_path / "y.parquet")
    expected = census(NET, torch.tensor([1.0, -2, 3], dtype=F64)[:, None].expand(3, 3))
    assert_same(streamed(NET, tmp_path), expected)
    with pytest.raises(EmptyData, match="needs at least one row"):
        streamed(NET, tmp_path / "y.parquet")


def test_the_progress_knows_the_total(data):
    seen = []
    streamed(NET, data, progress=lambda *told: seen.append(told))
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)
    assert seen[-1][:2] == (2000, 2000)
    assert all(rate > 0 for _, _, rate in seen)


# ------------------------------------------------------------------------------- faults


def test_rows_of_nan_are_named_or_left_out(tmp_path):
    bad = X.clone()
    bad[[5, 1600], [1, 2]] = torch.tensor([float("nan"), float("inf")], dtype=F64)
    data = written(tmp_path / "data", bad)
    with pytest.raises(BadRows, match=r"1 row of '.*f0.parquet', .*: 5 .*on_bad_rows='skip'") as e:
        streamed(NET, data, out=tmp_path / "out")
    assert e.value.rows == (5,)
    found = streamed(NET, data, out=tmp_path / "out", on_bad_rows="skip")
    good = torch.ones(len(X), dtype=torch.bool)
    good[[5, 1600]] = False
    expected = census(NET, X[good])
    assert found.skipped == 2
    assert np.array_equal(ids(found)[good.numpy()], expected.ids)
    assert (ids(found)[[5, 1600]] == -1).all()
    assert np.array_equal(found.first, np.flatnonzero(good)[expected.first])


def damaged(path: Path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "middle":  # pages of all groups but the first
        raw[len(raw) // 3 : len(raw) // 2] = b"\xff" * (len(raw) // 2 - len(raw) // 3)
    path.write_bytes(raw[:-50] if how == "end" else raw)


@pytest.mark.parametrize("how", ["end", "middle"])
def test_an_unreadable_file_is_named_or_left_out_and_listed(monkeypatch, data, tmp_path, how):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100 * 24)
    damaged(data / "f1.parquet", how)
    with pytest.raises(DataError, match=r"f1.parquet' cannot be read: .*on_bad_files='skip'"):
        streamed(NET, data)
    found = streamed(NET, data, out=tmp_path / "out", on_bad_files="skip")
    (broken,) = found.broken
    assert broken.file.endswith("f1.parquet")
    assert broken.row == 0 if how == "end" else 0 < broken.row < 800
    expected = census(NET, torch.cat([X[: 700 + broken.row], X[1500:]]))
    assert_same(found, expected)
    assert np.array_equal(ids(found), expected.ids)
    assert found.rows == 1200 + broken.row


def test_other_columns_in_one_file_are_refused_by_name(data):
    pa.parquet.write_table(table(X[:5], ["a", "b", "d"]), data / "f9.parquet")
    said = r"f9.parquet' are not those of '.*f0.parquet' \(missing: c; not known: d\)"
    with pytest.raises(WrongColumns, match=said):
        streamed(NET, data)
    pa.parquet.write_table(pa.table({"a": [1.0], "b": ["x"], "c": [1]}), data / "f9.parquet")
    with pytest.raises(WrongColumns, match=r"column 'b' of '.*f9.parquet' holds string, not num"):
        streamed(NET, data)


def test_text_amid_a_csv_and_a_header_that_is_missing(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n1,2,3\n1,two,3\n")
    with pytest.raises(DataError, match=r"x.csv' cannot be read: .*two"):
        streamed(NET, path)
    path.write_text("0.5,2,3\n1,2,3\n")
    with pytest.raises(WrongColumns, match=r"x.csv' has no header"):
        streamed(NET, path)


def test_places_without_a_table(tmp_path):
    for source, said in (
        (tmp_path / "none", "there is no file or folder"),
        (tmp_path, "has no table: .arrow, .csv, "),
        (3, "from a path or a pyarrow dataset of files, got int"),
    ):
        with pytest.raises(DataError, match=said):
            streamed(NET, source)
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(DataError, match=r"is none of .arrow, .csv"):
        streamed(NET, tmp_path / "x.txt")


@pytest.mark.parametrize("at", ["run-000003", "ids-000002", "patterns", "rows", "meta"])
def test_a_full_disk_is_one_sentence_and_the_census_goes_on(monkeypatch, data, tmp_path, whole, at):
    real, out = Path.replace, tmp_path / "out"

    def full(self, target):
        if Path(target).name.startswith(at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OutputError, match=r"No space left .*half-written; free some space"):
            streamed(NET, data, out=out)
    assert not (out / "meta.json").exists()
    assert not list(out.rglob("*.partial"))
    found = streamed(NET, data, out=out)
    assert_same(found, whole)
    assert np.array_equal(ids(found), whole.ids)


# ------------------------------------------------------------------------------- resume


class Stop(Exception):
    pass


def stopped(data: Path, out: Path, rows: int) -> None:
    """A census that ends in an exception once so many rows were read."""

    def stop(done, total, rate):
        if done >= rows:
            raise Stop

    with pytest.raises(Stop):
        streamed(NET, data, out=out, progress=stop, batch_size=50)


def test_a_finished_census_is_read_again_and_not_made_again(data, tmp_path, whole):
    streamed(NET, data, out=tmp_path / "out")
    seen = []
    again = streamed(NET, data, out=tmp_path / "out", progress=lambda *told: seen.append(told))
    assert seen == []
    assert_same(again, whole)


@pytest.mark.parametrize("finished", [False, True])
def test_another_model_or_input_is_noticed(data, tmp_path, finished):
    out = tmp_path / "out"
    if finished:
        streamed(NET, data, out=out)
    else:
        stopped(data, out, 1500)
    with pytest.raises(DataError, match=r"is of another model: its fingerprint is [0-9a-f]{12}, "):
        streamed(mlp(3, 6, 5, 1, seed=9), data, out=out)
    before = (data / "f1.parquet").stat()
    os.utime(data / "f1.parquet", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"is of other files: \S*f1.parquet changed, came or went"):
        streamed(NET, data, out=out)


def test_a_second_census_in_one_folder_is_refused(data, tmp_path):
    out = tmp_path / "out"
    with (
        folder.only_one(out),
        pytest.raises(OutputError, match=r"another process is writing to '.*out': wait"),
    ):
        streamed(NET, data, out=out)
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"holds other files \(mine.txt\)"):
        streamed(NET, data, out=out)


WORKER = """
import sys, time
import torch
from nets import mlp
from gatewise.patterns.streaming import census as streaming
streaming.SEGMENT_ROWS = 300
def slowly(done, total, rate): time.sleep(0.004)
print("ready", flush=True)
streaming.streamed(mlp(3, 6, 5, 1), sys.argv[1], out=sys.argv[2], progress=slowly, batch_size=50)
"""


def killed(data: Path, out: Path, after: float) -> bool:
    """Start a census in a process of its own and kill it; False when it was done before."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(data), str(out)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        time.sleep(after)
        worker.send_signal(signal.SIGKILL)
        return worker.wait() != 0


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir()}


KILLS = int(os.environ.get("GATEWISE_KILLS", "2"))


def test_killed_and_started_again_it_ends_the_same(monkeypatch, tmp_path, whole):
    """SIGKILL at random times: every byte of the answer is that of a census left alone."""
    data, out = written(tmp_path / "data"), tmp_path / "out"
    streamed(NET, data, out=tmp_path / "alone")
    rng = np.random.default_rng(0 if KILLS == 2 else None)
    times, began = 0, 0
    while times < KILLS:
        times += killed(data, out, rng.uniform(0, 0.4))
        began += (out / ".unfinished").exists()
        if (out / "meta.json").exists():
            streamed(NET, data, out=out)
            assert contents(out) == contents(tmp_path / "alone")
            for path in out.iterdir():
                path.unlink()
    found = streamed(NET, data, out=out)
    assert began
    assert contents(out) == contents(tmp_path / "alone")
    assert_same(found, whole)
    assert json.loads((out / "meta.json").read_text())["rows"] == len(X)


# ------------------------------------------------------------------------------- façade, command


def test_the_command_counts_leaves_out_and_lists(tmp_path):
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 1))
    data = written(tmp_path / "data")
    (data / "f1.parquet").write_bytes(b"broken")
    refused(run("census", model, data, "--out", tmp_path / "out"), "f1.parquet", "cannot be read")
    done = run("census", model, data, "--out", tmp_path / "out", "--on-bad-files", "skip")
    assert done.returncode == 0, done.stderr
    expected = gw.census(gw.read(model), torch.cat([X[:700], X[1500:]]))
    assert f"1200 rows in {len(expected)} clusters" in done.stdout
    assert "left out: '" in done.stdout
    assert (tmp_path / "out" / "rows.parquet").is_file()


def test_the_facade_streams_paths_and_datasets(whole, data, tmp_path):
    assert_same(gw.census(NET, str(data)), whole)
    found = gw.census(NET, pa.dataset.dataset(data), out=tmp_path / "out")
    assert np.array_equal(ids(found), whole.ids)
    assert np.array_equal(gw.census(NET, X).ids, whole.ids)
    for source, asked, said in (
        (X, {"out": tmp_path}, r"rows are streamed from a path or .*, got Tensor"),
        (data, {"on_bad_rows": "drop"}, r"on_bad_rows must be 'raise' or 'skip', got 'drop'"),
        (data, {"batch_size": 0}, r"batch_size must be a whole number, at least 1, got 0"),
    ):
        with pytest.raises(DataError, match=said):
            gw.census(NET, source, **asked)
