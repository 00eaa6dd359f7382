"""Full disks, places that cannot be written, censuses broken off, damaged checkpoints.

One sentence says what is wrong; called again, a census ends with the bytes of one left alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch

from gatewise.errors import DataError, GatewiseError, OutputError
from gatewise.patterns.streaming import census as streaming
from gatewise.patterns.streaming import folder, reading
from gatewise.patterns.streaming.census import streamed
from nets import mlp
from stored import (
    NET,
    SKIP,
    X,
    assert_is_census_of,
    contents,
    parquet,
    stopped,
    table,
    three_files,
)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(streaming, "SEGMENT_ROWS", 250)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 50 * 24)


@pytest.fixture
def data(tmp_path):
    return three_files(tmp_path / "data")


WRITES = (
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "write_text"),
    (os, "open"),
    (os, "posix_fallocate"),
    (os, "fsync"),
    (pa.parquet.ParquetWriter, "write_table"),
    (pa.parquet.ParquetWriter, "close"),
)


@contextmanager
def failing(number: int):
    """The `number`-th call that writes finds no space; yields the names of all calls."""
    called = []

    def guarded(name, real):
        def call(*args, **kwargs):
            called.append(name)
            if len(called) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in WRITES:
            patch.setattr(owner, name, guarded(name, getattr(owner, name)))
        yield called


def test_every_write_may_find_the_disk_full(monkeypatch, tmp_path):
    """Each of the calls in turn: one sentence, nothing half-written, and the next call ends it."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow; that it is called is counted
    data = tmp_path / "f.parquet"
    parquet(data, X[:300])
    assert_is_census_of(streamed(NET, data, out=tmp_path / "alone"), X[:300])
    alone, called, number = contents(tmp_path / "alone"), [], 0
    while len(called) >= number:
        out, number = tmp_path / f"out{number}", number + 1
        with failing(number) as called:
            try:
                streamed(NET, data, out=out)
            except OutputError as error:
                assert "No space left on device. Nothing was left half-written" in str(error)
                assert len(called) >= number
        assert not list(tmp_path.rglob("*.partial")), (number, called[-1])
        streamed(NET, data, out=out)
        assert contents(out) == alone, (number, called[-1])
    assert set(called) == {name for _, name in WRITES}


def test_files_may_not_grow_beyond_a_limit_of_the_system(data, tmp_path):
    """The same by the kernel's own hand (RLIMIT_FSIZE): every size at which some write breaks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    streamed(NET, data, out=tmp_path / "alone")
    failed = []
    for size in (0, 600, 900, 1200, 1600, 2400, 10_000, 1_000_000):
        out = tmp_path / str(size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            streamed(NET, data, out=out)
        except OutputError as error:
            failed.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(out.rglob("*.partial"))
        streamed(NET, data, out=out)
        assert contents(out) == contents(tmp_path / "alone")
    assert 3 <= len(failed) <= 7
    assert all("File too large" in e and "free some space" in e for e in failed)


# ------------------------------------------------------------------------------- places to write


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("taken", "File exists.*parents are folders"),
        ("taken/below", "Not a directory.*parents are folders"),
        ("n" * 300, "name too long.*shorter name"),
        ("data", r"holds other files \(f0.parquet, f1.parquet, f2.parquet\)"),
        pytest.param("nul\0", r"'.*nul\\x00' is no place to write to", id="nul"),
        pytest.param(os.fsdecode(b"n\xff"), r"'.*n\\udcff' is no place to write to", id="bytes"),
        ("data/census", r"lies inside the folder that is read, '.*data': choose a folder beside"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(data, tmp_path, at, said):
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match=said):
        streamed(NET, data, out=tmp_path / at)


@contextmanager
def a_process(work):
    """A copy of this process that does `work` and then waits to be killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with work():
            os.write(theirs, b"1")
            time.sleep(60)
        os._exit(1)
    os.read(ours, 1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours), os.close(theirs)


def test_a_second_process_is_refused_until_the_first_is_dead(data, tmp_path):
    """Under another name of the same folder, too."""
    out, other = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    other.symlink_to(out)
    with a_process(lambda: folder.only_one(out)):
        for place in (out, other):
            with pytest.raises(OutputError, match=r"another process is writing to"):
                streamed(NET, data, out=place)
    assert_is_census_of(streamed(NET, data, out=other), X)


def test_a_folder_in_which_nothing_was_kept_is_given_back(data, tmp_path):
    """Made or found empty: both are as they were, and free for anything else."""
    (tmp_path / "found").mkdir()
    for out in (tmp_path / "made" / "deep", tmp_path / "found"):
        for source, asked in ((data / "f0.parquet", {"net": mlp(3, 2, 1, seed=3)}), (data, {})):
            parquet(data / "f0.parquet", X[:200] * float("nan"))
            with pytest.raises(DataError, match="NaN"):
                streamed(asked.get("net", NET), source, out=out)
            assert not (tmp_path / "made").exists()
            assert not list((tmp_path / "found").iterdir())


def test_a_lock_that_was_taken_away_is_no_lock(monkeypatch, tmp_path):
    """Another process gives the folder back after we opened its lock and before we held it."""
    out, left, real = tmp_path / "out", [2, 1], fcntl.flock

    def flock(handle, how):
        if left:
            left.pop()
            shutil.rmtree(out)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with folder.only_one(out):
        assert not left
        assert (out / folder.LOCK).is_file()
        with pytest.raises(OutputError, match="another process"), folder.only_one(out):
            pass
        shutil.rmtree(out)  # while we hold it: what others make there now is theirs
        out.mkdir()
        (out / folder.LOCK).touch()
    assert (out / folder.LOCK).is_file()


def test_the_same_files_by_another_path_are_the_same_input(data, tmp_path, monkeypatch):
    """Relative, absolute, with a link on the way, moved as a whole: a census goes on."""
    (data / "sub").mkdir()
    (data / "f1.parquet").rename(data / "sub" / "f1.parquet")
    streamed(NET, data, out=tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    stopped(Path("data"), Path("out"), 250)
    (tmp_path / "link").symlink_to(data)
    stopped(tmp_path / "link", Path("out"), 500)
    data.rename(tmp_path / "moved")
    found = streamed(NET, tmp_path / "out" / ".." / "moved", out=tmp_path / "out")
    assert_is_census_of(found, torch.cat([X[:200], X[400:], X[200:400]]))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    found = streamed(NET, pa.dataset.dataset("moved"), out="out")
    assert found.rows == 600
    (tmp_path / "moved" / "f2.parquet").rename(tmp_path / "moved" / "f3.parquet")
    with pytest.raises(DataError, match=r"other files: f2.parquet, f3.parquet changed, came or"):
        streamed(NET, "moved", out="out")


def test_an_answer_among_the_files_that_are_read(data):
    try:
        streamed(NET, data, out=data / "census")
        again = streamed(NET, data, out=data / "census")
    except GatewiseError as error:
        assert "inside" in str(error)
    else:
        assert_is_census_of(again, X)


@pytest.fixture
def open_place():
    """A folder that everybody may look into; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_nobody_may_not_read_here_nor_write_there(open_place):
    data = three_files(open_place / "data")
    (data / "f1.parquet").chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(DataError, match=r"f1.parquet' cannot be read: .*Permission denied"):
            streamed(NET, data)
        with pytest.raises(OutputError, match=r"Permission denied.*choose a place you may write"):
            streamed(NET, data / "f0.parquet", out=open_place / "out")
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_may_not_be_read_is_named(open_place):
    data = three_files(open_place / "data")
    (data / "sub").mkdir(mode=0)
    os.seteuid(65534)
    try:
        with pytest.raises(DataError, match="sub"):
            streamed(NET, data)
    finally:
        os.seteuid(0)


# ------------------------------------------------------------------------------- resume


def damaged(path: Path) -> None:
    """Half of the rows, from the middle on, are no longer Parquet."""
    raw, half = bytearray(path.read_bytes()), path.stat().st_size // 2
    raw[half : half + half // 2] = b"\xff" * (half // 2)
    path.write_bytes(raw)


def all_kinds(data: Path) -> Path:
    """NaN rows, CSV, Arrow, a file broken in its middle, one that is none."""
    bad = X[400:].clone()
    bad[::7, 1] = float("nan")
    (data / "f2.parquet").unlink()
    pa.csv.write_csv(table(bad[:100]), data / "f2.csv")
    pa.feather.write_feather(table(bad[100:]), data / "f3.arrow", chunksize=30)
    (data / "f4.parquet").write_text("none")
    parquet(data / "f5.parquet", X[:200])
    return data


def ends_the_same(data: Path, tmp_path: Path) -> list[int]:
    """After how many rows a census must be broken off to end otherwise than one left alone."""
    whole, differ = streamed(NET, data, out=tmp_path / "alone", **SKIP), []
    for rows in range(0, whole.rows, 90):
        out = tmp_path / str(rows)
        stopped(data, out, rows, **SKIP)
        streamed(NET, data, out=out, **SKIP)
        if contents(out) != contents(tmp_path / "alone"):
            differ.append(rows)
    return differ


def test_broken_off_anywhere_among_all_kinds_of_files_it_ends_the_same(data, tmp_path):
    assert ends_the_same(all_kinds(data), tmp_path) == []


def test_broken_off_in_a_file_that_breaks_in_its_middle_it_ends_the_same(tmp_path):
    (tmp_path / "data").mkdir()
    parquet(tmp_path / "data" / "f.parquet", X)
    damaged(tmp_path / "data" / "f.parquet")
    assert ends_the_same(tmp_path / "data", tmp_path) == []


def test_what_raised_on_bad_rows_goes_on_without_them(data, tmp_path):
    bad = X[400:].clone()
    bad[150] = float("nan")
    parquet(data / "f2.parquet", bad)
    with pytest.raises(DataError, match=r"f2.parquet', rows counted from 0: 150"):
        streamed(NET, data, out=tmp_path / "out")
    assert (tmp_path / "out" / ".unfinished" / "run-000001.parquet").is_file()
    assert streamed(NET, data, out=tmp_path / "out", on_bad_rows="skip").skipped == 1
    streamed(NET, data, out=tmp_path / "alone", on_bad_rows="skip")
    assert (
        contents(tmp_path / "out")["rows.parquet"] == contents(tmp_path / "alone")["rows.parquet"]
    )


@pytest.mark.parametrize("name", ["run-000001.parquet", "ids-000000.parquet", "job.json"])
def test_a_damaged_checkpoint_is_one_sentence(data, tmp_path, name):
    stopped(data, tmp_path / "out", 550)
    path = tmp_path / "out" / ".unfinished" / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OutputError, match=r"out' holds a census that cannot be read .*delete"):
        streamed(NET, data, out=tmp_path / "out")


@pytest.mark.parametrize("name", [folder.META, folder.PATTERNS])
def test_a_damaged_answer_is_one_sentence(data, tmp_path, name):
    streamed(NET, data, out=tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OutputError, match=r"out' holds a census that cannot be read .*delete"):
        assert streamed(NET, data, out=tmp_path / "out").counts.sum() == len(X)


def test_a_table_of_nan_alone_leaves_the_folder_free(data, tmp_path):
    for i in range(3):
        parquet(data / f"f{i}.parquet", X[:200] * float("nan"))
    with pytest.raises(DataError, match="at least one row"):
        streamed(NET, data, out=tmp_path / "out", on_bad_rows="skip")
    for i, x in enumerate(X.split(200)):
        parquet(data / f"f{i}.parquet", x)
    assert_is_census_of(streamed(NET, data, out=tmp_path / "out", on_bad_rows="skip"), X)
