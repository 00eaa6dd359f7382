"""An explanation of files on Ray is that of one process: whatever the pieces, parts and merges.

Here on a stand-in that does each task at once; tests/patterns/test_engine.py has the real one.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatewise as gw
import onnx_files
from commands import refused, run
from gatewise.errors import BadRows, DataError, EngineError, OutputError
from gatewise.explain.streaming import abroad, pieces, reading, scan, workers
from gatewise.explain.streaming.first import first
from gatewise.patterns import engine
from gatewise.patterns.streaming import census as counting
from gatewise.patterns.streaming.parts import table_of
from gatewise.patterns.streaming.pieces import Piece
from inline_ray import InlineRay
from streamed import X, assert_same, rows_of, table, written

RNG = np.random.default_rng(0)
NET = gw.read([(RNG.normal(size=(b, a)), RNG.normal(size=b)) for a, b in ((3, 6), (6, 5), (5, 2))])


def on_stand_in(patch: pytest.MonkeyPatch) -> InlineRay:
    """Everything that asks for Ray gets the stand-in; several pieces a file, several parts."""
    ray = InlineRay()
    patch.setitem(sys.modules, "ray", ray)
    for room in (engine, workers):
        patch.setattr(room, "session", ray.session)
    for room in (engine, abroad):
        patch.setattr(room, "LEAST_ROWS", 1)
    patch.setattr(workers, "FAN", 2)
    patch.setattr(abroad, "FAN", 2)
    patch.setattr(scan, "PART_ROWS", 400)
    patch.setattr(reading, "BLOCK_BYTES", 250 * 24)
    patch.setattr(pieces, "ROWS", 90)
    return ray


@pytest.fixture
def ray(monkeypatch):
    return on_stand_in(monkeypatch)


@pytest.fixture(scope="module")
def whole():
    return gw.explain(NET, table(), target="y")


def both(data, place: Path, **asked):
    """In this process, and on Ray."""
    one = gw.explain(NET, data, out=place / "one", **asked)
    return one, gw.explain(NET, data, out=place / "ray", engine="ray", **asked)


def assert_equal(one, other) -> None:
    """Counts, ids and names bit for bit; sums to 1e-12 of the sum of sizes."""
    mine, theirs = rows_of(other), rows_of(one)
    for name in ("row", "cluster", "undecided_units"):
        assert mine[name].equals(theirs[name]), name
    assert np.array_equal(other.census.counts, one.census.counts)
    assert np.array_equal(other.census.first, one.census.first)
    assert other.sums.names == one.sums.names
    assert other.sums.counts.tolist() == one.sums.counts.tolist()
    size = np.abs(one.sums.totals) + np.sqrt(one.sums.counts.sum())
    away = np.abs(other.sums.totals - one.sums.totals) / size
    assert np.nanmax(away) < 1e-12
    assert np.array_equal(np.isnan(other.sums.totals), np.isnan(one.sums.totals))
    np.testing.assert_allclose(other.scale, one.scale, rtol=1e-13)
    if one.furthest is not None:
        np.testing.assert_allclose(other.furthest, one.furthest, rtol=1e-12)
    assert sorted(p.relative_to(other.folder) for p in other.folder.rglob("*")) == sorted(
        p.relative_to(one.folder) for p in one.folder.rglob("*")
    )


@settings(max_examples=2)
@given(st.data())
def test_any_files_groups_pieces_and_parts(whole, tmp_path_factory, data):
    place = tmp_path_factory.mktemp("cuts")
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, 1500), max_size=3))))
    source = written(place / "data", table(), cuts, data.draw(st.integers(120, 900)))
    with pytest.MonkeyPatch.context() as patch:
        ray = on_stand_in(patch)
        ray.processors = data.draw(st.sampled_from([1, 3]))
        patch.setattr(scan, "PART_ROWS", data.draw(st.integers(250, 2000)))
        one, found = both(source, place, target="y", top=5)
    assert_equal(one, found)
    assert_same(found, whole)
    assert {"count_piece", "see_piece", "explain_part", "add_tallies"} <= set(ray.jobs)


@settings(max_examples=8)
@given(st.data())
def test_spans_are_the_rows_of_the_parts(data):
    """Every row in one part, at its place; an explicit list of all rows says where it is."""
    rows = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any))
    size = data.draw(st.integers(1, 9))
    places = [(i, r) for i, n in enumerate(rows) for r in range(n)]
    found = list(abroad.spans(rows, size))
    assert [s.start for s in found] == list(range(0, len(places), size))
    for s in found:
        held = places[s.start : s.start + size]
        assert (s.before + s.place.part, s.place.row) == held[0]
        last = s is found[-1]
        assert s.stop == (len(rows) if last else held[-1][0] + 1)


def test_the_first_reading_of_any_pieces_merged_in_any_order(tmp_path):
    x = X.copy()
    x[[3, 901], 0] = np.nan
    data = written(tmp_path / "data", table(x), (700,))
    columns = table_of(data, (), 3, target="y")
    expected = first(columns, tmp_path, "raise", (), None, lambda *told: None)
    cuts = [Piece(0, 0, 1), Piece(0, 1, 333), Piece(0, 333, 700), Piece(1, 0, 500), Piece(1, 500)]
    facts, parts = zip(
        *(abroad.seen(columns, p, "raise", (), pa.int64()) for p in cuts), strict=True
    )
    assert [f.rows for f in facts] == [1, 332, 367, 500, 300]
    assert sum(f.good for f in facts) == 1498
    for order in ([4, 1, 0, 3, 2], [2, 3, 4, 0, 1]):
        found = workers.merged(*(parts[k] for k in order))
        assert sorted(found.labels) == expected.labels
        np.testing.assert_allclose(found.inputs.mean, expected.inputs.mean, rtol=1e-13)
        np.testing.assert_allclose(found.inputs.deviation, expected.inputs.deviation, rtol=1e-13)
    many = abroad.Seen(parts[0].inputs, frozenset(range(900)), ())
    more = abroad.Seen(parts[1].inputs, frozenset(range(800, 1100)), ())
    assert many.merge(more).labels is None
    with pytest.raises(DataError, match="other rows than the census"):
        abroad.seen(columns, Piece(1, 500, 801), "raise", (), pa.int64())


def test_cohorts_of_a_sample_and_a_row_as_reference_over_csv(ray, tmp_path):
    """A CSV says how many rows it has only when it was read."""
    net = NET
    data = written(tmp_path / "data", table(y=None))
    (data / "f1.parquet").unlink()
    pa.csv.write_csv(table(X[500:1100], None), data / "f1.csv")
    cohorts = gw.cohorts(gw.explain(net, table(X[:200], None)), max_rules=2)
    one, found = both(data, tmp_path, cohorts=cohorts, reference="row 903")
    assert_equal(one, found)
    np.testing.assert_array_equal(found.reference, X[903])
    ids = cohorts.assign(X)
    assert found.table()["rows"] == [*np.bincount(ids, minlength=len(cohorts)).tolist(), 0]
    assert rows_of(found)["cohort"].to_pylist() == ids.tolist()
    ray.jobs.clear()
    plain = {"reference": "zero", "margin": False}
    assert_equal(*both(data, tmp_path / "plain", **plain))
    assert "see_piece" in ray.jobs  # to count the rows of the CSV
    with pytest.raises(DataError, match=r"reference row 1500 is not among the 1500 rows"):
        gw.explain(net, data, out=tmp_path / "none", engine="ray", reference="row 1500")


def from_elsewhere(job, home: Path):
    """The job as a worker does it that was started in another folder."""

    def there(*arguments):
        with contextlib.chdir(home / "data"):
            return job(*arguments)

    return there


def test_bad_rows_and_broken_files_are_left_out_or_named(ray, monkeypatch, tmp_path):
    bad = X.copy()
    bad[[5, 1250], [1, 2]] = np.nan, np.inf
    data = written(tmp_path / "data", table(bad))
    with pytest.raises(BadRows, match=r"f0.parquet', .*: 5 .*on_bad_rows='skip'"):
        gw.explain(NET, data, target="y", out=tmp_path / "out", engine="ray")
    raw = (data / "f1.parquet").read_bytes()
    hole = b"\xff" * (len(raw) // 2 - len(raw) // 3)
    (data / "f1.parquet").write_bytes(raw[: len(raw) // 3] + hole + raw[len(raw) // 2 :])
    (data / "f3.parquet").write_bytes(b"not Parquet at all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(abroad, "explain_part", from_elsewhere(abroad.explain_part, tmp_path))
    data, tmp_path = Path("data"), Path()
    skip = {"on_bad_rows": "skip", "on_bad_files": "skip"}
    one, found = both(data, tmp_path, target="y", groups={"ab": ["a", "b"]}, **skip)
    assert_equal(one, found)
    assert found.groups == one.groups
    np.testing.assert_allclose(found.group_importance, one.group_importance, rtol=1e-12)
    assert found.skipped == 2
    assert [(Path(b.file).name, b.row > 0) for b in found.broken] == [
        ("f1.parquet", True),
        ("f3.parquet", False),
    ]
    assert 900 < len(found) < 1498  # some of f1 was read


@pytest.mark.parametrize("begun, ended", [(None, "ray"), ("ray", None)])
def test_broken_off_it_goes_on_in_either_way(ray, tmp_path, whole, begun, ended):
    def stop(what, done, total):
        if what == "rows" and done >= 800:
            raise KeyboardInterrupt

    data, out = written(tmp_path / "data", table()), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        gw.explain(NET, data, target="y", out=out, engine=begun, progress=stop)
    assert not (out / "meta.json").exists()
    if begun:
        assert len(list((out / ".unfinished").glob("abroad-*"))) == 1
    sums = out / ".unfinished" / "sums-000000.safetensors"
    kept = sums.read_bytes()
    sums.write_bytes(kept[:100])
    with pytest.raises(OutputError, match=r"holds an explanation that cannot be read \(sums-000"):
        gw.explain(NET, data, target="y", out=out, engine=ended)
    sums.write_bytes(kept)
    ray.jobs.clear()
    seen: list[str] = []
    tell = {"progress": lambda what, done, total: seen.append(what)}
    found = gw.explain(NET, data, target="y", out=out, engine=ended, **tell)
    assert set(seen) == {"rows"}
    assert ray.jobs.count("explain_part") == (3 if ended else 0)  # this process ended in part 1
    assert_same(found, whole)
    assert not list(out.rglob("*.partial"))
    assert {p.name for p in out.iterdir()} == {
        *(".lock", "census", "meta.json", "rows", "summary.parquet", "sums.safetensors")
    }


def test_what_goes_wrong_on_a_worker_is_said(ray, monkeypatch, tmp_path):
    data, out = written(tmp_path / "data", table()), tmp_path / "out"
    asked = {"target": "y", "out": out, "engine": "ray"}
    run_part = abroad.explain_part

    def elsewhere(network, errand, files, span):
        shutil.rmtree(errand.work, ignore_errors=True)  # this machine's disk is another one
        return run_part(network, errand, files, span)

    def beside_itself(*arguments):
        raise InlineRay.exceptions.RayError("its worker died\nTraceback")

    with monkeypatch.context() as patch:
        patch.setattr(abroad, "explain_part", elsewhere)
        with pytest.raises(EngineError, match=r"a worker does not see '.*all machines share"):
            gw.explain(NET, data, **asked)
        patch.setattr(abroad, "explain_part", beside_itself)
        with pytest.raises(
            EngineError, match=r"Ray gave up .*its worker died\).*call again to go on"
        ):
            gw.explain(NET, data, **asked)
        patch.setattr(abroad, "explain_part", run_part)
        patch.setattr(counting, "streamed", None)  # what the census found is kept
        clusters = np.full(1500, 0)
        census = pa.table({"cluster": clusters, "undecided": pa.array(clusters, pa.int32())})
        kept = (out / "census" / "rows.parquet").read_bytes()
        pa.parquet.write_table(census.slice(0, 1499), out / "census" / "rows.parquet")
        with pytest.raises(DataError, match=r"hold other rows than the census"):
            gw.explain(NET, data, **asked)
        (out / "census" / "rows.parquet").write_bytes(kept)
    assert gw.explain(NET, data, **asked).clusters == len(gw.census(NET, X))


def test_settings_are_refused_before_a_ray_is_started(tmp_path):
    data, out = written(tmp_path / "data", table(y=None), ()), tmp_path / "out"
    for asked, said in (
        ({"engine": "spark"}, r"engine must be 'ray', or None .*, got 'spark'"),
        ({"address": "x:1"}, r"address \('x:1'\) is that of an engine: .*engine='ray'"),
    ):
        with pytest.raises(DataError, match=said):
            gw.explain(NET, data, out=out, **asked)
    with pytest.raises(DataError, match=r"engine= is for tables in files, and this one is in mem"):
        gw.explain(NET, table(), target="y", engine="ray")
    prepared = NET.__class__(**{**vars(NET), "prepare": lambda rows: rows})
    with pytest.raises(DataError, match=r"a scikit-learn Pipeline.* explain without an engine"):
        gw.explain(prepared, data, out=out, engine="ray")
    assert not out.exists()
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 2))
    pa.csv.write_csv(table(y=None), tmp_path / "x.csv")
    asked = ("explain", model, tmp_path / "x.csv", "--out", out, "--engine", "ray")
    refused(run(*asked), "only for rows that are streamed: --engine. Give a folder")


def test_the_command_on_ray(ray, tmp_path):
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 2))
    data = written(tmp_path / "data", table(X[:600], None), (300,))
    done = run("explain", model, data, "--out", tmp_path / "out", "--engine", "ray")
    assert done.returncode == 0, done.stderr
    assert "StreamedExplanation: 600 rows in" in done.stdout
    assert ray.jobs.count("explain_part") == 2
