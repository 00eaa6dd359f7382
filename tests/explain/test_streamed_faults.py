"""An explanation of files: what is refused, and that a killed one goes on to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import gatewise as gw
import onnx_files
from commands import refused, run
from gatewise.errors import DataError, OutputError
from gatewise.explain.streaming import pieces, reading, scan
from nets import mlp
from streamed import NET, X, assert_same, table, written


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several parts, several blocks a part, several pieces a block."""
    monkeypatch.setattr(scan, "PART_ROWS", 400)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 250 * 24)
    monkeypatch.setattr(pieces, "ROWS", 90)


@pytest.fixture(scope="module")
def whole():
    return gw.explain(NET, table(), target="y")


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "data", table())


def test_what_is_not_streamed_is_refused_by_name(data, tmp_path):
    out = tmp_path / "out"
    mask = np.zeros(len(X), bool)
    for asked, said in (
        ({"reference": "median"}, r"reference is 'median', which is not streamed: .*'row 17'"),
        ({"reference": mask}, r"a mask of rows, which is not streamed"),
        ({"reference": "row 9999"}, r"reference row 9999 is not among the 1500 rows"),
        ({"reference": [1.0]}, r"reference has 1 value"),
        ({"target": "z"}, r"no column 'z' to use as target: '.*f0.parquet' has a, b, c, y"),
        ({"target": [1, 2]}, r"target is a list: for rows in files give the name of a column"),
        ({"target": None}, r"Is one of them the target\? Name it as target"),
        ({"output": "y9"}, r"no output 'y9'"),
        ({"top": -1}, r"top must be a whole number, at least 0, got -1"),
        ({"cohorts": 3}, r"cohorts are what gatewise.cohorts returns .*, got a int"),
        ({"groups": {"ab": ["a", "z"]}}, r"z"),
        ({"out": None}, r"explained into files: give a folder, out="),
    ):
        with pytest.raises(DataError, match=said):
            gw.explain(NET, data, **{"target": "y", "out": out, **asked})
    days = table(y=None).append_column("y", pa.array([0] * len(X), pa.date32()))
    dated = written(tmp_path / "dated", days)
    with pytest.raises(DataError, match=r"the target 'y' holds date32\[day\]: give a column"):
        gw.explain(NET, dated, target="y", out=tmp_path / "days")
    with pytest.raises(DataError, match=r"out= is for tables in files, and this one is in memory"):
        gw.explain(NET, table(), target="y", out=out)
    (out / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"holds other files \(mine.txt\)"):
        gw.explain(NET, data, target="y", out=out)


def test_another_question_in_the_same_folder_is_refused(data, tmp_path):
    out = tmp_path / "out"
    gw.explain(NET, data, target="y", out=out)
    for asked, said in (
        ({"reference": "zero"}, r"holds an explanation that .* other settings \(reference\)"),
        ({"margin": False}, r"other settings \(margin\)"),
    ):
        with pytest.raises(DataError, match=said):
            gw.explain(NET, data, target="y", out=out, **asked)
    with pytest.raises(DataError, match="is of another model"):
        gw.explain(mlp(3, 6, 5, 2, seed=4), data, target="y", out=out)
    os.utime(data / "f1.parquet", ns=(0, 0))
    with pytest.raises(DataError, match=r"f1.parquet changed, came or went"):
        gw.explain(NET, data, target="y", out=out)


# ------------------------------------------------------------------------------- resume


class Stop(Exception):
    pass


@pytest.mark.parametrize("job, at", [("inputs", 700), ("rows", 950)])
def test_broken_off_it_goes_on(data, tmp_path, whole, job, at):
    def stop(what, done, total):
        if what == job and done >= at:
            raise Stop

    out = tmp_path / "out"
    with pytest.raises(Stop):
        gw.explain(NET, data, target="y", out=out, progress=stop)
    assert not (out / "meta.json").exists()
    assert not list(out.rglob("*.partial"))
    seen: list[tuple[str, int]] = []
    found = gw.explain(NET, data, target="y", out=out, progress=lambda w, n, _: seen.append((w, n)))
    assert_same(found, whole)
    if job == "rows":
        assert min(n for what, n in seen if what == "rows") > 800  # two parts were done
        assert not [w for w, _ in seen if w != "rows"]
    seen.clear()
    again = gw.explain(NET, data, target="y", out=out, progress=lambda w, n, _: seen.append((w, n)))
    assert not seen
    assert_same(again, whole)


WORKER = """
import sys, time
from nets import mlp
import gatewise as gw
from gatewise.explain.streaming import pieces, scan
scan.PART_ROWS, pieces.ROWS = 400, 90
print("ready", flush=True)
gw.explain(mlp(3, 6, 5, 2), sys.argv[1], target="y", out=sys.argv[2],
           progress=lambda *told: time.sleep(0.03))
"""


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


KILLS = int(os.environ.get("GATEWISE_KILLS", "1"))


def test_killed_and_started_again_every_byte_is_the_same(data, tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK_BYTES", 1 << 23)
        gw.explain(NET, data, target="y", out=alone)
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, str(data), str(out)]
        rng = np.random.default_rng(None if KILLS > 1 else 0)
        for _ in range(KILLS):
            with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as worker:
                worker.stdout.readline()
                time.sleep(rng.uniform(0.1, 0.7))
                worker.send_signal(signal.SIGKILL)
        gw.explain(NET, data, target="y", out=out)
    mine, theirs = contents(out), contents(alone)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


# ------------------------------------------------------------------------------- the command


def test_the_command_streams_a_folder_and_a_file_that_is_said_to_be_large(tmp_path):
    model = onnx_files.mlp(tmp_path / "m.onnx", (3, 6, 2))
    data, out = written(tmp_path / "data", table(y=None)), tmp_path / "out"
    refused(
        run("explain", model, data, "--out", out, "--evaluate"),
        "not for rows that are streamed: --evaluate.",
    )
    done = run("explain", model, data, "--out", out, "--top", 3)
    assert done.returncode == 0, done.stderr
    assert "StreamedExplanation: 1500 rows in" in done.stdout
    assert "census, meta.json, rows, summary.parquet, sums.safetensors" in done.stdout
    expected = gw.explain(gw.read(model), table(y=None))
    found = gw.explain(gw.read(model), data, out=out)
    assert_same(found, expected)
    pa.csv.write_csv(table(y=None), tmp_path / "x.csv")
    asked = ("explain", model, tmp_path / "x.csv", "--out", tmp_path / "csv", "--stream")
    done = run(*asked, "--no-margin")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "csv" / "rows" / "part-000003.parquet").is_file()
