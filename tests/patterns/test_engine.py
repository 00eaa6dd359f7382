"""The census on Ray is that in memory, however cut, killed or broken; or is refused in a sentence.

Ray is started once, with two processors, by the code under test.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import time
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
from gatewise.errors import BadRows, DataError, EmptyData, EngineError, MissingExtra, ModelError
from gatewise.patterns import engine, ray_session
from gatewise.patterns.streaming import gathering
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.pieces import Piece, cut, partial
from nets import mlp

pytestmark = pytest.mark.xdist_group("ray")
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


# ------------------------------------------------------------------------------- on Ray


@pytest.fixture(scope="module")
def ray():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: the engine was NOT tested")
    handler = signal.getsignal(signal.SIGTERM)
    with ray_session.session(None, processors=2) as module:
        folder = Path(module._private.worker._global_node.get_session_dir_path()).parent
        yield module
    assert not module.is_initialized()
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(engine, "LEAST_ROWS", 1)
    monkeypatch.setattr(engine, "RANGE_ROWS", 100)


def test_files_groups_and_csv_change_nothing(
    ray, small_pieces, monkeypatch, capfd, tmp_path, whole
):
    data = written(tmp_path / "data")
    told = []
    found = gw.census(NET, data, engine="ray", progress=lambda *seen: told.append(seen))
    assert_same(found, whole)
    assert len(told) == 9  # pieces, some of which share a row group's end
    assert told[-1][:2] == (2000, 2000)
    (data / "f1.parquet").unlink()
    pa.csv.write_csv(table(X[700:1500, [2, 0, 1]], ["c", "a", "b"]), data / "f1.csv")
    out = tmp_path / "out"
    found = gw.census(NET, data, engine="ray", out=out, batch_size=97)
    assert_same(found, whole)
    assert np.array_equal(ids(found), whole.ids)
    files = {p.name: p.read_bytes() for p in out.iterdir()}
    assert set(files) == {".lock", "meta.json", "patterns.parquet", "rows.parquet"}
    # what is finished is read, by either, and not counted again
    for asked in ({}, {"engine": "ray"}):
        monkeypatch.setattr(engine, "count_piece", None)
        assert_same(gw.census(NET, data, out=out, **asked), whole)
    gw.census(NET, data, out=tmp_path / "alone")
    for name in ("meta.json", "patterns.parquet"):
        assert files[name] == (tmp_path / "alone" / name).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_is_said_as_the_streamed_census_says_it(ray, small_pieces, tmp_path):
    bad = X.clone()
    bad[[5, 1600], [1, 2]] = torch.tensor([float("nan"), float("inf")], dtype=F64)
    data = written(tmp_path / "data", bad)
    raw = (data / "f1.parquet").read_bytes()
    hole = b"\xff" * (len(raw) // 2 - len(raw) // 3)
    (data / "f1.parquet").write_bytes(raw[: len(raw) // 3] + hole + raw[len(raw) // 2 :])
    for asked in ({}, {"on_bad_rows": "skip"}):
        said = []
        for how in ({}, {"engine": "ray", "out": tmp_path / "none"}):
            with pytest.raises(DataError) as error:
                gw.census(NET, data, **asked, **how)
            said.append((type(error.value), str(error.value), getattr(error.value, "rows", ())))
        assert said[0] == said[1]
    assert {p.name for p in (tmp_path / "none").iterdir()} == {".lock"}
    skip = {"on_bad_rows": "skip", "on_bad_files": "skip"}
    one = gw.census(NET, data, out=tmp_path / "streamed", **skip)
    other = gw.census(NET, data, engine="ray", out=tmp_path / "ray", **skip)
    assert other.broken == one.broken
    assert (other.rows, other.skipped, other.undecided) == (one.rows, one.skipped, one.undecided)
    assert other.skipped == 2
    assert np.array_equal(ids(other), ids(one))
    assert np.array_equal(other.first, one.first)
    for path in data.iterdir():
        pa.parquet.write_table(table(X[:0]), path)
    with pytest.raises(EmptyData, match="needs at least one row"):
        gw.census(NET, data, engine="ray")


def busy() -> list[int]:
    """Processes that count a piece now: Ray's workers say it in their title."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:  # it has ended
            continue
        if title.startswith(b"ray::count_piece"):
            found.append(int(path.parent.name))
    return found


def killed() -> bool:
    """SIGKILL to a worker that is at work: it is stopped first, so that it still is."""
    for pid in busy():
        os.kill(pid, signal.SIGSTOP)
        at_work = pid in busy()
        os.kill(pid, signal.SIGKILL if at_work else signal.SIGCONT)
        if at_work:
            while Path(f"/proc/{pid}").exists() and pid in busy():
                time.sleep(0.01)
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to find a worker")
def test_a_worker_that_is_killed_changes_nothing(ray, small_pieces, tmp_path):
    net = relu_nets.read(3, 300, 300, 1)
    data = written(tmp_path / "data", X.repeat(2, 1), cuts=(2000,), group=250)
    kills = []

    def progress(rows, total, rate):
        if not kills and killed():
            kills.append(rows)

    found = gw.census(net, data, engine="ray", progress=progress)
    assert kills
    assert kills[0] < 4000
    assert_same(found, gw.census(net, X.repeat(2, 1)))


def test_the_command_on_ray_and_an_address_that_is_not_ours(ray, tmp_path):
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 1))
    data = written(tmp_path / "data")
    done = run("census", model, data, "--out", tmp_path / "out", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert f"2000 rows in {len(gw.census(gw.read(model), X))} clusters" in done.stdout
    asked = ("--engine", "ray", "--address", "10.0.0.1:6379")
    refused(run("census", model, data, "--out", tmp_path / "x", *asked), "is connected to the Ray")
