"""An explanation of files: what is refused, and that a killed one goes on to the same bytes."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import gatewise as gw
from gatewise.errors import DataError, OutputError
from gatewise.explain.streaming import pieces, reading, scan
from nets import mlp
from streamed import NET, X, assert_same, table, written


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several parts, several blocks a part, several pieces a block."""
    monkeypatch.setattr(scan, "PART_ROWS", 400)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 250 * 24)
    monkeypatch.setattr(pieces, "ROWS", 160)


@pytest.fixture(scope="module")
def whole():
    return gw.explain(NET, table(), target="y")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Files that no test changes."""
    return written(tmp_path_factory.mktemp("stored"), table())


@pytest.fixture
def data(tmp_path):
    return written(tmp_path / "data", table())


def test_what_is_not_streamed_is_refused_by_name(stored, tmp_path):
    data = stored
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


def test_a_question_that_is_refused_leaves_the_folder_free(stored, tmp_path):
    """Given back where nothing was kept; a census that was made serves the next question."""
    out = tmp_path / "out"
    nan = written(tmp_path / "nan", table(np.where(X > 3, np.nan, X)))
    with pytest.raises(DataError, match="NaN"):
        gw.explain(NET, nan, target="y", out=out)
    assert not out.exists()
    with pytest.raises(DataError, match="row 9999 is not among"):
        gw.explain(NET, stored, target="y", out=out, reference="row 9999")
    seen: list[str] = []
    asked = {"reference": "zero", "margin": False}
    found = gw.explain(
        NET, stored, target="y", out=out, progress=lambda w, *_: seen.append(w), **asked
    )
    assert found.reference_name == "zero"
    assert "patterns" not in seen
    with pytest.raises(OutputError, match=r"lies inside the folder that is read"):
        gw.explain(NET, stored, target="y", out=stored / "out")


def test_text_that_is_none_is_named(tmp_path):
    """pyarrow reads such bytes and says nothing."""
    spaces, text = np.arange(1501, dtype="int32"), b"a" * 700 + b"\xff" + b"b" * 799
    y = pa.StringArray.from_buffers(1500, pa.py_buffer(spaces), pa.py_buffer(text))
    data = written(tmp_path / "data", table(y=y))
    with pytest.raises(DataError, match=r"f1.parquet', rows \d+ to \d+: column 'y' of text holds"):
        gw.explain(NET, data, target="y", out=tmp_path / "out")


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


DAMAGES = {
    "meta.json": (False, lambda path: path.write_text("{")),
    "sums.safetensors": (False, lambda path: path.write_bytes(b"none")),
    "rows/part-000001.parquet": (False, Path.unlink),
    "census/patterns.parquet": (False, lambda path: path.write_bytes(b"none")),
    ".unfinished/sums-000000.safetensors": (True, lambda path: path.write_bytes(b"none")),
    ".unfinished/first.json": (True, lambda path: path.write_text("{}")),
    "rows/part-000000.parquet": (True, Path.unlink),
    "census/rows.parquet": (True, lambda path: path.write_bytes(b"")),
}


def test_a_damaged_answer_or_checkpoint_is_one_sentence(stored, tmp_path):
    """No rows are missing without a word, and no error is a raw one."""
    for stop in (False, True):
        whole = tmp_path / f"whole{stop}"
        with suppress(Stop):
            gw.explain(NET, stored, target="y", out=whole, progress=stopping("rows", 950, stop))
        for name, (unfinished, damage) in DAMAGES.items():
            if unfinished == stop:
                out = shutil.copytree(whole, tmp_path / name.replace("/", "-"))
                damage(out / name)
                with pytest.raises(OutputError, match=r"holds an? \w+ that cannot be read .*: del"):
                    repr(gw.explain(NET, stored, target="y", out=out))


# ------------------------------------------------------------------------------- resume


class Stop(Exception):
    pass


def stopping(job, at, really=True):
    def tell(what, done, total):
        if really and what == job and done >= at:
            raise Stop

    return tell


@pytest.mark.parametrize("job, at", [("inputs", 700), ("rows", 950)])
def test_broken_off_it_goes_on(stored, tmp_path, whole, job, at):
    out, data = tmp_path / "out", stored
    with pytest.raises(Stop):
        gw.explain(NET, data, target="y", out=out, progress=stopping(job, at))
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
