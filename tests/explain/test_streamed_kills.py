"""An explanation of files that is killed goes on to the same bytes; the command that makes one."""

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
import pytest

import gatewise as gw
import onnx_files
from commands import refused, run
from gatewise.explain.streaming import pieces, reading, scan
from streamed import NET, assert_same, table, written


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several parts, several pieces a part."""
    monkeypatch.setattr(scan, "PART_ROWS", 400)
    monkeypatch.setattr(pieces, "ROWS", 160)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Files that no test changes."""
    return written(tmp_path_factory.mktemp("stored"), table())


WORKER = """
import sys, time
from nets import mlp
import gatewise as gw
from gatewise.explain.streaming import pieces, scan
scan.PART_ROWS, pieces.ROWS = 400, 160
print("ready", flush=True)
gw.explain(mlp(3, 6, 5, 2), sys.argv[1], target="y", out=sys.argv[2],
           progress=lambda *told: time.sleep(0.03))
"""


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


KILLS = int(os.environ.get("GATEWISE_KILLS", "1"))


def test_killed_and_started_again_every_byte_is_the_same(stored, tmp_path):
    data, alone, out = stored, tmp_path / "alone", tmp_path / "out"
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
