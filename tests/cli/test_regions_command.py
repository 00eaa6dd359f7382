"""`gatewise regions` as its user runs it, on files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import gatewise as gw
import onnx_files
from commands import names, refused, run

TABLES = ["regions.parquet", "summary.json"]


def regions(*args: object) -> subprocess.CompletedProcess[str]:
    """`gatewise regions ARGS`."""
    return run("regions", *args)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def plane(tmp_path_factory) -> Path:
    return onnx_files.mlp(tmp_path_factory.mktemp("plane") / "m.onnx", (2, 10, 8, 3))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[Path, Path, np.ndarray]:
    """A model of 12 inputs and a table for it, with a column that is none."""
    folder = tmp_path_factory.mktemp("wide")
    x = np.random.default_rng(0).normal(size=(6, 12))
    header = ",".join(f"f{j}" for j in range(12)) + ",label"
    rows = [",".join(map(repr, map(float, row))) + f",{i % 2}" for i, row in enumerate(x)]
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n")
    return onnx_files.mlp(folder / "m.onnx", (12, 8, 1)), folder / "data.csv", x


@pytest.fixture(scope="module")
def done(plane, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deep" / "o"
    result = regions(plane, "--box", "-2,2", "--out", out)
    assert result.returncode == 0, result.stderr
    return out, result


def test_it_writes_everything_and_says_where(done):
    out, result = done
    assert names(out) == sorted(["map.svg", *TABLES])
    assert names(out.parent) == ["o"]  # nothing beside it
    for word in ("regions", "behind gate relu0", "signs undecided", "a second", "map.svg"):
        assert word in result.stdout


def test_the_summary_is_true(done, plane):
    """Counted anew on a grid: its patterns are among those of the file, and the areas add up."""
    out, _ = done
    said, network = summary(out), gw.read(plane)
    cells = pq.read_table(out / "regions.parquet")
    assert said["complete"] and said["undecided"] == 0 and said["coordinates"] == 2
    assert said["regions"] == cells.num_rows == said["regions_behind_gate"]["relu1"]
    area = cells["volume"].to_numpy()
    assert area.sum() == pytest.approx(16, rel=1e-9)
    assert (said["largest_cell"], said["smallest_cell"]) == (area.max(), area.min())
    side = np.linspace(-2, 2, 201)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    met = {bytes(row) for row in gw.pattern(network, grid).bits}
    assert len(met) > 50 and met <= set(cells["pattern"].to_pylist())
    met = np.array([list(bits) for bits in cells["pattern"].to_pylist()], np.uint8)
    change = np.unpackbits(np.bitwise_or.reduce(met, 0) ^ np.bitwise_and.reduce(met, 0)).sum()
    assert sum(said["constant_units"].values()) == 18 - change


def test_insides_belong_to_their_region(done, plane):
    out, _ = done
    cells = pq.read_table(out / "regions.parquet")
    inside = np.array(cells["interior"].to_pylist())
    bits = np.array([list(b) for b in cells["pattern"].to_pylist()], np.uint8)
    big = cells["volume"].to_numpy() > 1e-6
    found = gw.pattern(gw.read(plane).to("float64"), inside[big]).bits
    assert big.sum() > 50 and (found == bits[big]).all()


def test_running_again_gives_the_same_files_but_for_the_time(done, plane):
    out, _ = done
    before = {n: (out / n).read_bytes() for n in ("map.svg", *TABLES) if n != "summary.json"}
    assert regions(plane, "--box", "-2,2", "--out", out).returncode == 0  # an old result goes
    assert {n: (out / n).read_bytes() for n in before} == before


@pytest.mark.parametrize("kind", ["png", "pdf"])
@pytest.mark.parametrize("colour", ["region", "creases", "output"])
def test_other_pictures(plane, tmp_path, kind, colour):
    args = ("--box", "-1,1", "--format", kind, "--colour", colour, "--output", "1")
    assert regions(plane, *args, "--out", tmp_path / "o").returncode == 0
    start = (tmp_path / "o" / f"map.{kind}").read_bytes()[:4]
    assert start == {"png": b"\x89PNG", "pdf": b"%PDF"}[kind]


def test_three_coordinates_are_a_page_and_one_is_none(tmp_path):
    onnx_files.mlp(tmp_path / "three.onnx", (3, 5, 1))
    onnx_files.mlp(tmp_path / "one.onnx", (1, 5, 1))
    assert (
        regions(tmp_path / "three.onnx", "--box", "-1,1", "--out", tmp_path / "a").returncode == 0
    )
    assert names(tmp_path / "a") == sorted(["solid.html", *TABLES])
    said = regions(tmp_path / "one.onnx", "--box", "-1,1", "--out", tmp_path / "b")
    assert "note: no picture: 1" in said.stdout and names(tmp_path / "b") == TABLES


def test_a_stop_is_said(tmp_path):
    onnx_files.mlp(tmp_path / "m.onnx", (2, 48, 48, 1))
    args = ("--box", "-2,2", "--max-regions", 5, "--out", tmp_path / "o")
    said = regions(tmp_path / "m.onnx", *args)
    assert "there are more" in said.stdout
    told = summary(tmp_path / "o")
    assert not told["complete"] and told["constant_units"] is None


# ---------------------------------------------------------------- where


def test_a_slice_goes_through_rows(wide, tmp_path):
    model, data, x = wide
    args = ("--slice", "4,0,2", "--data", data, "--target", "label", "--out", tmp_path / "o")
    result = regions(model, *args)
    assert result.returncode == 0, result.stderr
    where = summary(tmp_path / "o")["place"]
    assert where["rows"] == [4, 0, 2]
    marks = np.array(where["origin"]) + np.array(where["marks"]) @ np.array(where["directions"])
    np.testing.assert_allclose(marks, x[[4, 0, 2]], atol=1e-9)


def test_inputs_are_held_by_name_and_by_position(wide, tmp_path):
    model, data, x = wide
    hold = [a for j in range(2, 12) for a in ("--hold", f"f{j}={j / 10}")]
    hold[1] = "2=0.5"
    args = ("--data", data, "--target", "label", *hold, "--out", tmp_path / "o")
    result = regions(model, *args)
    assert result.returncode == 0, result.stderr
    where = summary(tmp_path / "o")["place"]
    assert where["features"] == ["f0", "f1"]
    assert where["held"]["f2"] == 0.5 and where["held"]["f11"] == 1.1
    assert where["low"] == x[:, :2].min(0).tolist()  # no box: the range of the data


def test_a_file_of_bounds(wide, tmp_path):
    model, *_ = wide
    lines = ["feature,low,high", "x3,-1,1", "x5,0,2"]
    (tmp_path / "box.csv").write_text("\n".join(lines))
    args = ("--box-file", tmp_path / "box.csv", "--out", tmp_path / "o")
    refused(regions(model, *args), "has no bounds for", "x0")
    assert regions(model, *args, "--box", "1,1").returncode == 0
    where = summary(tmp_path / "o")["place"]
    assert where["features"] == ["x3", "x5"] and where["high"] == [1, 2]
    for line, word in (("x5,2,0", "low <= high"), ("x5,,1", "finite"), ("y,0,1", "no feature 'y'")):
        (tmp_path / "box.csv").write_text("\n".join([*lines[:2], line]))
        refused(regions(model, *args, "--box", "1,1"), "box.csv", word)
    (tmp_path / "box.csv").write_text("name,low,high\nx3,0,1\n")
    refused(regions(model, *args), "feature,low,high")


def test_mistakes_are_one_line_and_leave_nothing(wide, plane, tmp_path):
    model, data, _ = wide
    out = ("--out", tmp_path / "o")
    table = ("--data", data, "--target", "label")
    refused(regions(model, *out), "say where to look")
    refused(regions(model, "--box", "-1,1", *out), "12 inputs free", "--hold", "--slice")
    refused(regions(model, "--box", "1,-1", *out), "low must not exceed high")
    refused(regions(model, "--box", "1", *out), "LOW,HIGH")
    refused(regions(model, "--box", "0,inf", *out), "finite")
    refused(regions(plane, "--box", "-1,1", "--hold", "q=1", *out), "no feature 'q'", "x0")
    refused(regions(plane, "--box", "-1,1", "--hold", "x0", *out), "FEATURE=NUMBER")
    twice = ("--hold", "x0=1", "--hold", "0=2")
    refused(regions(plane, "--box", "-1,1", *twice, *out), "twice")
    refused(regions(model, "--slice", "0,1,6", *table, *out), "no row 6", "6 rows")
    refused(regions(model, "--slice", "0,b", *table, *out), "row numbers")
    refused(regions(model, "--slice", "0,0,1", *table, *out), "fewer than 2 dimensions")
    refused(regions(model, "--slice", "0,1,2", *out), "--data FILE")
    refused(regions(model, "--slice", "0,1,2", "--box", "0,1", *table, *out), "not both")
    refused(regions(model, "--slice", "0,1,2", "--hold", "f0=1", *table, *out), "--hold goes with")
    refused(regions(plane, "--box", "-1,1", "--target", "label", *out), "--data")
    refused(regions(plane, "--box", "-1,1", "--output", "y7", *out), "no output 'y7'")
    refused(regions(tmp_path / "no.onnx", "--box", "-1,1", *out), "no.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_curved_network_names_its_node(tmp_path):
    import onnx

    model = onnx.load(onnx_files.mlp(tmp_path / "m.onnx", (2, 4, 1)))
    relu = next(n for n in model.graph.node if n.op_type == "Relu")
    relu.op_type = "Tanh"
    onnx.save(model, tmp_path / "m.onnx")
    said = regions(tmp_path / "m.onnx", "--box", "-1,1", "--out", tmp_path / "o")
    refused(said, relu.name)
    assert not (tmp_path / "o").exists()


def test_a_folder_of_others_is_left_alone(plane, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    said = regions(plane, "--box", "-1,1", "--out", tmp_path)
    refused(said, "thesis.tex", "not a result of gatewise")
    assert names(tmp_path) == ["thesis.tex"]
