"""The census on Ray is that in memory, however cut, killed or broken; or is refused in a sentence.

Ray is started once, with two processors, by the code under test.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import onnx_files
import relu_nets
from commands import refused, run
from explained_abroad import a_worker_that_dies_changes_no_explanation
from gatewise.errors import BadRows, DataError, EmptyData, EngineError, MissingExtra, ModelError
from gatewise.patterns import engine, ray_session
from gatewise.patterns.streaming import gathering
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.pieces import Piece, cut, partial
from inline_ray import InlineRay
from nets import mlp
from ray_workers import killed

F64 = torch.float64
X = torch.randn(2000, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
NET = relu_nets.read(3, 6, 5, 1)
NAMES = ["a", "b", "c"]


def table(x: torch.Tensor, names: list[str] = NAMES) -> pa.Table:
    return pa.table({n: x[:, j].numpy() for j, n in enumerate(names)})


def written(path: Path, x: torch.Tensor = X, cuts=(700, 1500), group: int = 128) -> Path:
    """x as Parquet files f0, f1, ... in a folder."""
    path.mkdir(exist_ok=True)
    for i, part in enumerate(torch.tensor_split(x, cuts)):
        pa.parquet.write_table(table(part), path / f"f{i}.parquet", row_group_size=group)
    return path


def assert_same(found, whole) -> None:
    assert found.clusters == len(whole)
    for name in ("counts", "first"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    assert np.array_equal(found.pattern.bits, whole.pattern.bits)
    assert found.rows == whole.rows
    assert found.undecided == (whole.undecided > 0).sum()


def ids(found) -> np.ndarray:
    return np.concatenate(list(found.ids()))


@pytest.fixture(scope="module")
def whole():
    return gw.census(NET, X)


# ------------------------------------------------------------------------------- without Ray


def added_up(source, pieces, ranges: int, out: Path | None = None, **asked):
    """What the engine does, in this process: (counts, first, bits, ids)."""
    columns = table_of(source, (), 3)
    parts = [partial(NET, columns, p, keep_rows=True, **asked) for p in pieces]
    starts = np.cumsum([0, *(p.rows for p in parts)])
    runs = [gathering.shifted(p.run, a) for p, a in zip(parts, starts, strict=False)]
    slices = [gathering.sliced(r, ranges) for r in runs]
    run = gathering.chained([gathering.added(s) for s in zip(*slices, strict=True)])
    order = gathering.by_size(run)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    went = gathering.went(run, runs)
    rows = [np.append(rank[w], -1)[p.places] for w, p in zip(went, parts, strict=True)]
    return run.counts[order], run.first[order], run.bits[order], np.concatenate(rows)


def cuts_of(x: torch.Tensor, cuts: list[int], folder: Path, sizes: int) -> list[Piece]:
    """Any pieces of one file, which need not end where row groups do."""
    written(folder, x, cuts=(), group=sizes)
    edges = [0, *sorted(set(cuts) - {0}), None]
    return [Piece(0, a, b) for a, b in pairwise(edges)]


@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(1, 1999), max_size=5),
    group=st.integers(100, 900),
    ranges=st.sampled_from([1, 2, 8, 64]),
    poor=st.booleans(),
)
def test_any_pieces_add_up_to_the_census(tmp_path_factory, cuts, group, ranges, poor):
    """Also where patterns share their hashes: they are told apart by their bits."""
    folder = tmp_path_factory.mktemp("pieces")
    pieces = cuts_of(X, cuts, folder / "data", group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "WAITING", 50)
        if poor:
            patch.setattr(gathering, "hashes", lambda bits: np.zeros(len(bits), np.uint64))
        counts, first, bits, rows = added_up(folder / "data", pieces, ranges)
    expected = gw.census(NET, X)
    assert np.array_equal(counts, expected.counts)
    assert np.array_equal(first, expected.first)
    assert np.array_equal(bits, expected.pattern.bits)
    assert np.array_equal(rows, expected.ids)


def test_a_piece_says_what_it_left_out_and_where_it_broke_off(tmp_path):
    bad = X.clone()
    bad[[300, 1000], 1] = torch.tensor([float("nan"), float("inf")], dtype=F64)
    data = written(tmp_path / "data", bad, cuts=(700,))
    columns = table_of(data, (), 3)
    pieces = cut(columns, 400)
    assert pieces[:3] == [Piece(0, 0, 512), Piece(0, 512, None), Piece(1, 0, 512)]
    with pytest.raises(BadRows, match=r"1 row of '.*f1.parquet', rows counted from 0: 300 "):
        partial(NET, columns, pieces[2])
    found = partial(NET, columns, pieces[2], on_bad_rows="skip", keep_rows=True)
    assert (found.rows, found.skipped, found.trouble) == (512, 1, "")
    assert np.flatnonzero(found.places == -1).tolist() == [300]
    assert found.run.counts.sum() == 511
    raw = bytearray((data / "f0.parquet").read_bytes())
    raw[len(raw) // 3 : len(raw) // 2] = b"\xff" * (len(raw) // 2 - len(raw) // 3)
    (data / "f0.parquet").write_bytes(raw)
    columns = table_of(data, (), 3)
    halves = [partial(NET, columns, p, on_bad_rows="skip") for p in cut(columns, 256)]
    assert "" in {h.trouble for h in halves}
    assert {h.trouble for h in halves} != {""}
    os.utime(data / "f0.parquet", ns=(0, 0))
    with pytest.raises(DataError, match=r"f0.parquet' was changed"):
        partial(NET, columns, pieces[0], on_bad_rows="skip")


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"engine": "spark"}, DataError, r"engine must be 'ray', or None .*, got 'spark'"),
        ({"address": "x:1"}, DataError, r"address \('x:1'\) is that of an engine: .*engine='ray'"),
        ({"engine": "ray", "on_bad_rows": "drop"}, DataError, r"on_bad_rows must be .*'drop'"),
        ({"engine": "ray", "batch_size": 0}, DataError, r"batch_size must be a whole number"),
    ],
)
def test_settings_are_refused_before_a_ray_is_started(tmp_path, asked, error, words):
    data = written(tmp_path / "data")
    with pytest.raises(error, match=words):
        gw.census(NET, data, **asked)


def test_an_address_where_nobody_answers_is_a_sentence_within_seconds(monkeypatch):
    monkeypatch.setattr(ray_session, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(EngineError, match=rf"nobody answers at '127.0.0.1:{port}' \(timed out"):
            ray_session.require_answer(f"127.0.0.1:{port}")
    with pytest.raises(EngineError, match=r"nobody answers .*'ray status'"):
        ray_session.require_answer(f"127.0.0.1:{port}")
    with pytest.raises(DataError, match=r"is 'host:port' .* or 'auto', got 'here'"):
        ray_session.require_answer("here")


def test_what_cannot_travel_and_a_ray_that_is_missing(monkeypatch, tmp_path):
    data = written(tmp_path / "data")
    with pytest.raises(ModelError, match=r"node 'n0' \(Affine\) cannot be sent .* by name"):
        gw.census(mlp(3, 2, 1), data, engine="ray")  # its rules are the tests' own functions
    with pytest.raises(DataError, match=r"from a path or a pyarrow dataset of files, got Tensor"):
        gw.census(NET, X, engine="ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"needs the package 'ray'.*'gatewise\[ray\]'"):
        gw.census(NET, data, engine="ray")


# ------------------------------------------------------------- on a stand-in that works at once


@pytest.fixture
def stand_in(monkeypatch):
    """Ray as it is used here, in this process; small pieces, several ranges."""
    ray = InlineRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engine, "session", ray.session)
    monkeypatch.setattr(engine, "LEAST_ROWS", 1)
    monkeypatch.setattr(engine, "RANGE_ROWS", 100)
    return ray


def test_undecided_rows_are_counted_as_they_are_left_out(stand_in, monkeypatch, tmp_path):
    """Several of one pattern, in one piece and in others; and one that is left out."""
    monkeypatch.setattr("gatewise.patterns.exact.AT_ONCE", 0)
    x = relu_nets.doubtful(NET, X, [100, 101, 900, 1700])
    x[901, 0] = float("nan")
    data, skip = written(tmp_path / "data", x), {"on_bad_rows": "skip"}
    one = gw.census(NET, data, out=tmp_path / "one", **skip)
    found = gw.census(NET, data, engine="ray", out=tmp_path / "ray", **skip)
    assert (found.undecided, found.skipped, found.rows) == (4, 1, 2000)
    assert np.array_equal(ids(found), ids(one))
    units = [pa.parquet.read_table(f.folder / "rows.parquet")["undecided"] for f in (one, found)]
    assert units[0].equals(units[1])


def broken(path: Path, begin: float, end: float) -> None:
    """The file with nonsense in that part of its bytes."""
    raw = path.read_bytes()
    a, b = int(begin * len(raw)), int(end * len(raw))
    path.write_bytes(raw[:a] + b"\xff" * (b - a) + raw[b:])


def test_what_is_wrong_is_said_as_the_streamed_census_says_it(stand_in, tmp_path):
    bad = X.clone()
    bad[[5, 1600], [1, 2]] = torch.tensor([float("nan"), float("inf")], dtype=F64)
    data = written(tmp_path / "data", bad)
    broken(data / "f1.parquet", 1 / 3, 1 / 2)
    for asked in ({}, {"on_bad_rows": "skip"}):
        said = []
        for how in ({}, {"engine": "ray"}):
            with pytest.raises(DataError) as error:
                gw.census(NET, data, **asked, **how)
            said.append((type(error.value), str(error.value), getattr(error.value, "rows", ())))
        assert said[0] == said[1]
    skip = {"on_bad_rows": "skip", "on_bad_files": "skip"}
    one = gw.census(NET, data, out=tmp_path / "streamed", **skip)
    other = gw.census(NET, data, engine="ray", out=tmp_path / "ray", **skip)
    assert other.broken == one.broken
    assert other.broken[0].row > 0
    assert (other.rows, other.skipped, other.undecided) == (one.rows, one.skipped, one.undecided)
    assert other.skipped == 2
    assert np.array_equal(ids(other), ids(one))
    assert np.array_equal(other.first, one.first)
    for path in data.iterdir():
        pa.parquet.write_table(table(X[:0]), path)
    with pytest.raises(EmptyData, match="needs at least one row"):
        gw.census(NET, data, engine="ray", out=tmp_path / "none")
    assert not (tmp_path / "none" / ".unfinished").exists()


def test_a_row_after_a_file_breaks_off_is_never_met(stand_in, tmp_path):
    """Though its piece was counted: a bad one is no error, and the files after it go on."""
    bad = X.clone()
    bad[1390, 0] = float("nan")
    data = written(tmp_path / "data", bad, cuts=(1400,))
    broken(data / "f0.parquet", 1 / 3, 1 / 2)
    one, other = (gw.census(NET, data, on_bad_files="skip", engine=e) for e in (None, "ray"))
    assert one.broken == other.broken
    assert 0 < one.broken[0].row < 1390
    assert (one.rows, one.skipped) == (other.rows, 0)
    assert np.array_equal(one.first, other.first)


def test_a_killed_census_goes_on(stand_in, tmp_path, whole):
    """With the pieces that it kept; one that was cut off as it was written is counted again."""
    data, out, told = written(tmp_path / "data"), tmp_path / "out", []

    def killed(rows, total, rate):
        if rows > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gw.census(NET, data, engine="ray", out=out, progress=killed)
    kept = sorted((out / ".unfinished").glob("piece-*.parquet"))
    assert len(kept) > 3
    kept[1].unlink()
    stand_in.jobs.clear()
    (out / ".unfinished" / ".piece.partial").write_bytes(b"half")
    with pytest.MonkeyPatch.context() as patch:  # by fewer processors, which cut it in other pieces
        patch.setattr(engine, "SHARES", 1)
        with pytest.raises(DataError, match="is of another model"):
            gw.census(relu_nets.read(3, 2, 1), data, engine="ray", out=out)
        found = gw.census(NET, data, engine="ray", out=out, progress=lambda *s: told.append(s))
    assert len(told) == 9
    assert stand_in.jobs.count("count_piece") == 9 - (len(kept) - 1)
    assert told[-1][0] == 2000
    assert_same(found, whole)
    assert np.array_equal(ids(found), whole.ids)
    assert not (out / ".unfinished").exists()


# ------------------------------------------------------------------------------- on Ray


def test_the_census_on_ray_is_that_in_memory(monkeypatch, capfd, tmp_path, whole):
    """One test, for Ray takes ten seconds of a processor to start, and each worker three."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: the engine was NOT tested")
    monkeypatch.setattr(engine, "LEAST_ROWS", 1)
    monkeypatch.setattr(engine, "RANGE_ROWS", 100)
    handler = signal.getsignal(signal.SIGTERM)
    with ray_session.session(None, processors=2) as ray:
        folder = Path(ray._private.worker._global_node.get_session_dir_path()).parent
        files_and_groups_change_nothing(folder_of(tmp_path, "files"), whole)
        assert capfd.readouterr() == ("", "")
        what_is_wrong_is_said(folder_of(tmp_path, "wrong"))
        a_worker_that_dies_changes_no_explanation(folder_of(tmp_path, "explained"))
        the_command_says_it(folder_of(tmp_path, "command"))
        if Path("/proc/self/cmdline").exists():  # where a worker is found
            a_killed_worker_changes_nothing(folder_of(tmp_path, "worker"))
    assert not ray.is_initialized()
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is handler


def folder_of(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def files_and_groups_change_nothing(place: Path, whole) -> None:
    data, out, told = written(place / "data"), place / "out", []
    (data / "f1.parquet").unlink()
    pa.csv.write_csv(table(X[700:1500, [2, 0, 1]], ["c", "a", "b"]), data / "f1.csv")

    def progress(*seen):
        told.append(seen)

    found = gw.census(NET, data, engine="ray", out=out, batch_size=97, progress=progress)
    assert_same(found, whole)
    assert np.array_equal(ids(found), whole.ids)
    assert [rows for rows, _, _ in told] == sorted({rows for rows, _, _ in told})
    assert told[-1][:2] == (2000, None)  # a CSV does not say
    files = {p.name: p.read_bytes() for p in out.iterdir()}
    assert set(files) == {".lock", "meta.json", "patterns.parquet", "rows.parquet"}
    gw.census(NET, data, out=place / "alone")
    for name in ("meta.json", "patterns.parquet"):
        assert files[name] == (place / "alone" / name).read_bytes()
    with pytest.MonkeyPatch.context() as patch:  # what is finished is read, by either
        patch.setattr(engine, "count_piece", None)
        assert_same(gw.census(NET, data, out=out), whole)
        assert_same(gw.census(NET, data, out=place / "alone", engine="ray"), whole)
    (data / "f1.csv").unlink()
    told.clear()
    found = gw.census(NET, data, engine="ray", progress=progress)
    assert np.array_equal(found.counts, gw.census(NET, torch.cat([X[:700], X[1500:]])).counts)
    assert told[-1][:2] == (1200, 1200)
    assert len(told) == 5  # pieces of 256 rows and what is left of a file


def what_is_wrong_is_said(place: Path) -> None:
    """An error, its rows too, comes from the worker as it would from this process."""
    bad = X.clone()
    bad[1600, 2] = float("nan")
    data, said = written(place / "data", bad), []
    for e in (None, "ray"):
        with pytest.raises(BadRows, match=r"rows counted from 0: 100 ") as error:
            gw.census(NET, data, engine=e)
        said.append((str(error.value), error.value.rows))
    assert said[0] == said[1]


def the_command_says_it(place: Path) -> None:
    model = onnx_files.mlp(place / "m.onnx", (3, 6, 1))
    data = written(place / "data")
    done = run("census", model, data, "--out", place / "out", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert f"2000 rows in {len(gw.census(gw.read(model), X))} clusters" in done.stdout
    asked = ("--engine", "ray", "--address", "10.0.0.1:6379")
    refused(run("census", model, data, "--out", place / "x", *asked), "is connected to the Ray")


def a_killed_worker_changes_nothing(place: Path) -> None:
    net = relu_nets.read(3, 300, 300, 1)
    data = written(place / "data", X.repeat(2, 1), cuts=(2000,), group=250)
    kills = []

    def progress(rows, total, rate):
        if not kills and killed():
            kills.append(rows)

    found = gw.census(net, data, engine="ray", progress=progress)
    assert kills
    assert kills[0] < 4000
    assert_same(found, gw.census(net, X.repeat(2, 1)))
