"""`gatewise gates` as its user runs it, on files."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import gatewise as gw
import onnx_files
import shared
from commands import names, refused, run

PICTURES = ["alignment.svg", "classes.svg", "overlap.svg", "paths.svg", "units.svg"]
TABLES = ["overlap.parquet", "paths.parquet", "report.html", "summary.json", "units.parquet"]


def gates(*args):
    """`gatewise gates` in this process."""
    return run("gates", *args)


def csv(path, x, y=None, header=None):
    head = header or [f"f{j}" for j in range(x.shape[1])]
    rows = [",".join(map(repr, row)) for row in x.tolist()]
    if y is not None:
        head = [*head, "label"]
        rows = [f"{row},{label}" for row, label in zip(rows, y, strict=True)]
    path.write_text("\n".join([",".join(head), *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    x = np.random.default_rng(0).normal(size=(150, 5))
    y = (x[:, 0] > x[:, 1]).astype(int)
    model = onnx_files.mlp(folder / "m.onnx", (5, 16, 12, 2))
    return model, csv(folder / "data.csv", x, y), x, y


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "o"
    result = gates(files[0], files[1], "--labels", "label", "--row", "7", "--out", out)
    assert result.returncode == 0, result.stderr
    return out, result


def test_it_writes_everything_and_says_where(done):
    out, result = done
    assert names(out) == sorted([*PICTURES, *TABLES])
    for word in ("Overlap of gates", "What do the gates know?", "Strongest paths", "CPU time"):
        assert word in result.stdout
    assert "wrote " in result.stdout and "report.html" in result.stdout


def test_the_numbers_are_true(done, files):
    out, _ = done
    model, _, x, y = files
    net = gw.read(model)
    said = json.loads((out / "summary.json").read_text("utf-8"))
    assert (said["model"], said["data"], said["rows"]) == ("m.onnx", "data.csv", 150)
    k = gw.dual.gates_know(net, x, y, rows=2000, draws=3)
    know = said["gates_know"]
    assert know["network"] == k.network and know["linear"] == k.linear
    assert [line["own"] for line in know["kernels"]] == [line.own for line in k.kernels]
    assert [line["random"] for line in know["kernels"]] == [list(v.random) for v in k.kernels]
    row = said["row"]
    value = net(x[[7]]).numpy()[0].max()
    assert row["value"] == pytest.approx(value, rel=1e-12)
    assert sum(row["starts"].values()) == pytest.approx(value, rel=1e-9)
    units = pq.read_table(out / "units.parquet").to_pandas()
    shares = gw.dual.unit_shares(net, x[[7]])
    for layer in shares.layers:
        mine = units[units["layer"] == layer.name]["share"].to_numpy()
        assert np.array_equal(mine, layer.shares[0])
    paths = pq.read_table(out / "paths.parquet").to_pandas()
    p = gw.dual.strongest_paths(net, x[7], k=12)
    assert np.allclose(paths["contribution"], p.contributions, rtol=1e-12)
    assert int(row["paths"]["active"]) == p.active


def test_overlap_file_is_the_mean_over_pairs(done, files):
    """Counted anew, pair by pair."""
    out, _ = done
    model, _, x, y = files
    on = [m.numpy() for m in gw.dual.masks(gw.read(model), x)]
    cells = pq.read_table(out / "overlap.parquet").to_pandas()
    here = cells[(cells["class"] == "0") & (cells["other_class"] == "1")]
    for mask, (_, line) in zip(on, here.iterrows(), strict=False):
        a, b = mask[y == 0], mask[y == 1]
        assert line["equal"] == pytest.approx((a[:, None] == b[None]).mean())
        assert line["on_at_both"] == pytest.approx((a[:, None] & b[None]).mean())


def test_running_again_gives_the_same_files_but_for_the_time(done, files):
    out, _ = done
    before = {n: (out / n).read_bytes() for n in names(out) if n != "summary.json"}
    again = gates(files[0], files[1], "--target", "label", "--row", "7", "--out", out)
    assert again.returncode == 0  # --target is --labels, and an old result goes
    assert {n: (out / n).read_bytes() for n in before} == before


def test_without_labels(files, tmp_path):
    model, _, x, _ = files
    data = csv(tmp_path / "d.csv", x)
    result = gates(model, data, "--out", tmp_path / "o", "--format", "png", "--paths", "3")
    assert result.returncode == 0, result.stderr
    assert names(tmp_path / "o") == sorted(["overlap.png", "paths.png", "units.png", *TABLES])
    assert "What do the gates know?" not in result.stdout
    assert pq.read_table(tmp_path / "o" / "paths.parquet").num_rows == 3


def test_rows_never_seen(files, tmp_path):
    model, data, x, y = files
    test = csv(tmp_path / "t.csv", x[:40] + 0.1, y[:40])
    out = tmp_path / "o"
    result = gates(model, data, "--labels", "label", "--test", test, "--out", out, "--draws", "1")
    assert result.returncode == 0, result.stderr
    know = json.loads((out / "summary.json").read_text("utf-8"))["gates_know"]
    assert (know["rows"], know["test_rows"]) == (150, 40)
    assert "held out" not in result.stdout


def test_refusals_are_one_sentence(files, tmp_path):
    model, data, *_ = files
    out = tmp_path / "o"
    refused(gates(model, data, "--labels", "label", "--row", "150", "--out", out), "no row 150")
    refused(gates(model, data, "--labels", "nope", "--out", out), "nope")
    refused(gates(model, data, "--out", out), "label")  # a column too many
    refused(gates(model, data, "--labels", "label", "--output", "9", "--out", out), "9")
    leaky = tmp_path / "leaky.onnx"
    _leaky(leaky, model)
    refused(gates(leaky, data, "--labels", "label", "--out", out), "LeakyReLU", "on/off")
    linear = onnx_files.mlp(tmp_path / "l.onnx", (5, 2))
    refused(gates(linear, data, "--labels", "label", "--out", out), "no gates")
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refused(gates(model, data, "--labels", "label", "--out", out), "thesis.tex")
    assert names(out) == ["thesis.tex"]


def _leaky(path, model):
    """The same file with LeakyRelu."""
    import onnx

    found = onnx.load(model)
    for node in found.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
    onnx.save(found, path)


@pytest.mark.real_data
def test_a_trained_digit_network(tmp_path):
    """Published 256x4 on test images: its gates alone know nearly all, random gates do not."""
    folder = shared.folder() / "images/mnist"
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 784)[:800] / 255.0
    y = np.frombuffer(labels, np.uint8, offset=8)[:800]
    data = csv(tmp_path / "d.csv", x, y)
    model = shared.folder() / "onnx/mnist_fc/mnist-net_256x4.onnx"
    out = tmp_path / "o"
    result = gates(model, data, "--labels", "label", "--draws", "1", "--out", out)
    assert result.returncode == 0, result.stderr
    said = json.loads((out / "summary.json").read_text("utf-8"))
    alone = next(k for k in said["gates_know"]["kernels"] if k["kernel"] == "gates alone")
    assert alone["own"] > 0.9 > alone["random"][0]
    assert alone["alignment"] > 0.6 > alone["random_alignment"][0]
    assert [layer["units"] for layer in said["layers"]] == [256] * 4
