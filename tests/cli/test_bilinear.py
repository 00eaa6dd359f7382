"""`gatewise bilinear` as its user runs it, on files."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

import gatewise as gw
import onnx_files
import shared
from commands import names, refused, run

FROM_WEIGHTS = ["eigenpairs.parquet", "interactions.parquet", "bilinear.html", "summary.json"]
DRAWN = ["directions", "eigenvalues", "eigenvectors"]


def bilinear(*args):
    """`gatewise bilinear` in this process."""
    return run("bilinear", *args)


def said(out):
    return json.loads((out / "summary.json").read_text("utf-8"))


def save(path, W, V, P, E=None, residual=False):
    """An ONNX file of P (W e * V e) (+ P e), e = E x."""
    given = {"W": W, "V": V, "P": P} | ({} if E is None else {"E": E})
    weights = [numpy_helper.from_array(a.astype(np.float32).T.copy(), n) for n, a in given.items()]
    e = "x" if E is None else "e"
    nodes = [] if E is None else [helper.make_node("MatMul", ["x", "E"], ["e"], "embed")]
    nodes += [helper.make_node("MatMul", [e, side], [side.lower()], side.lower()) for side in "WV"]
    nodes.append(helper.make_node("Mul", ["w", "v"], ["wv"], "product"))
    nodes += [helper.make_node("Add", ["wv", e], ["sum"], "sum")] if residual else []
    nodes.append(helper.make_node("MatMul", ["sum" if residual else "wv", "P"], ["y"], "head"))
    ends = [("x", (W if E is None else E).shape[1]), ("y", len(P))]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", k]) for n, k in ends]
    graph = helper.make_graph(nodes, "bilinear", shapes[:1], shapes[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def csv(path, x, label=None):
    head = [f"f{j}" for j in range(x.shape[1])] + ([] if label is None else ["label"])
    rows = x if label is None else np.c_[x, label]
    np.savetxt(path, rows, delimiter=",", header=",".join(head), comments="")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("bilinear"), np.random.default_rng(0)
    W, V, P = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.normal(size=(3, 4))
    model = save(folder / "m.onnx", W, V, P)
    x = rng.normal(size=(80, 6)).round(3)
    label = gw.read(model)(x).argmax(1).numpy()
    return model, csv(folder / "d.csv", x, label), x


def test_weights_alone(files, tmp_path):
    model, _, _ = files
    out = tmp_path / "o"
    result = bilinear(model, "--out", out, "--top", "3", "--outputs", "y2,0")
    assert result.returncode == 0, result.stderr
    pictures = [f"{name}.svg" for name in [*DRAWN, "interactions"]]
    assert names(out) == sorted([*FROM_WEIGHTS, *pictures])
    assert [o["output"] for o in said(out)["outputs"]] == ["y2", "y0"]
    pairs = pq.read_table(out / "eigenpairs.parquet").to_pandas()
    layer = gw.bilinear.bilinear_layer(gw.read(model))
    found = gw.bilinear.spectrum(layer, 3, directions=np.eye(3)[[2, 0]])
    assert np.array_equal(pairs["value"], found.values.numpy().ravel())
    assert pairs["residual"].max() < 1e-12
    for value, v in zip(pairs["value"], pairs["vector"], strict=True):
        Q = gw.bilinear.interaction(layer, np.eye(3)[2]).numpy()
        assert value not in found.values[0] or np.allclose(Q @ v, value * v, atol=1e-12)


def test_rows_labels_and_a_row(files, tmp_path):
    model, data, x = files
    out = tmp_path / "o"
    out.mkdir()
    (out / "row.svg").write_text("of an earlier run")
    asked = ("--row", "5", "--outputs", "0,1", "--title", "Rows and more")
    result = bilinear(model, data, "--labels", "label", *asked, "--out", out)
    assert result.returncode == 0, result.stderr
    for word in ("Quadratic forms", "Few eigenpairs", "Outputs of row 5", "CPU time", "wrote "):
        assert word in result.stdout
    s, y = said(out), gw.read(model)(x).numpy()
    assert s["truncation"]["whole"] == 1 and s["truncation"]["measured"][-1] < 1e-12
    assert s["row"]["value"] == pytest.approx(y[5, :2].max()) and s["row"]["error"] < 1e-12
    assert s["row"]["complete"] and s["row"]["others"] == pytest.approx(0, abs=1e-12)
    assert (s["model"], s["data"], s["rows"]) == ("m.onnx", "d.csv", 80)
    assert "Rows and more" in (out / "bilinear.html").read_text("utf-8")


def test_rows_with_nan_are_refused_or_left_out(files, tmp_path):
    model, data, x = files
    lines, out = data.read_text().splitlines(), tmp_path / "o"
    broken = tmp_path / "nan.csv"
    lines[3] = "nan" + lines[3][lines[3].index(",") :]  # row 2
    broken.write_text("\n".join(lines))
    asked = (model, broken, "--labels", "label", "--out", out)
    refused(bilinear(*asked), "rows 2", "--on-bad-rows skip")
    refused(bilinear(*asked, "--on-bad-rows", "skip", "--row", "2"), "row 2 holds NaN")
    refused(bilinear(*asked, "--on-bad-rows", "skip", "--row", "80"), "no row 80", "80 rows")
    result = bilinear(*asked, "--on-bad-rows", "skip", "--row", "5")
    assert result.returncode == 0, result.stderr
    s, y = said(out), gw.read(model)(x).numpy()
    assert s["rows"] == 79 and s["truncation"]["whole"] == 1
    assert "1 row with NaN or infinity left out" in s["notes"]
    assert s["row"]["row"] == 5 and s["row"]["value"] == pytest.approx(y[5].max())
    assert s["row"]["label"] == str(y[5].argmax())


def test_refusals_are_one_sentence(files, tmp_path):
    model, data, _ = files
    out = tmp_path / "o"
    relu = onnx_files.mlp(tmp_path / "relu.onnx", (6, 4, 2))
    refused(bilinear(relu, "--out", out), "no bilinear layer", "ReLU", "`gatewise explain`")
    refused(bilinear(model, data, "--out", out), "label")  # a column too many
    refused(bilinear(model, data, "--labels", "nope", "--out", out), "nope")
    refused(bilinear(model, "--labels", "label", "--out", out), "no DATA")
    refused(bilinear(model, "--layer", "relu", "--out", out), "no bilinear layer 'relu'", "product")
    refused(bilinear(model, "--outputs", "y9", "--out", out), "no output 'y9'")
    refused(bilinear(model, "--image", "2x2", "--out", out), "4 pixels", "6 numbers")
    refused(bilinear(model, "--image", "big", "--out", out), "HEIGHTxWIDTH")
    refused(bilinear(model, "--tokens", "1,2", "--out", out), "--tokens", ".npz")
    refused(bilinear(tmp_path / "m.safetensors", "--out", out), "export the network", ".npz")
    refused(bilinear(model, "--row", "1", "--out", out), "--row", "no DATA")
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refused(bilinear(model, "--out", out), "thesis.tex")
    assert names(out) == ["thesis.tex"]


# ---------------------------------------------------------------- transformers


def transformer(path, vocabulary=5, d=4):
    rng = np.random.default_rng(0)
    shapes = {"embed": (vocabulary, d), "unembed": (vocabulary, d)}
    shapes |= {f"blocks.0.attn.{n}_proj": (2, d) for n in ("q1", "q2", "k1", "k2", "v")}
    shapes |= {"blocks.0.attn.o_proj": (d, 2), "blocks.0.mlp.w_proj": (d, 6)}
    shapes |= {f"blocks.0.mlp.{n}": (6, d) for n in ("w_m", "w_n")}
    np.savez(path, **{f"{n}.weight": rng.normal(size=s) / 2 for n, s in shapes.items()})
    settings = {"n_layers": 1, "d_head": 2, "rope_base": 10000.0, "norm_type": "none"}
    path.with_name("t.config.json").write_text(json.dumps(settings))
    return path


def test_paths_of_a_transformer_sum_to_the_logit(tmp_path):
    model, out = transformer(tmp_path / "t.npz"), tmp_path / "o"
    result = bilinear(model, "--tokens", "3,1,4", "--outputs", "2", "--top", "3", "--out", out)
    assert result.returncode == 0, result.stderr
    assert names(out) == ["bilinear.html", "paths.parquet", "paths.svg", "summary.json"]
    s, logits = said(out), gw.bilinear.load_transformer(model)([3, 1, 4])
    assert s["value"] == pytest.approx(logits[-1, 2]) and s["paths"] == 6 and s["error"] < 1e-12
    kept = pq.read_table(out / "paths.parquet").to_pandas()["contribution"]
    assert len(kept) == 3 and kept.sum() + s["remainder"] == pytest.approx(logits[-1, 2])
    refused(bilinear(model, "--out", out), "give --tokens 3,1,4")
    refused(bilinear(model, "d.csv", "--tokens", "1", "--out", out), "no DATA")
    refused(bilinear(model, "--tokens", "1,x", "--out", out), "got 'x'")
    refused(bilinear(model, "--tokens", "1", "--outputs", "1,2", "--out", out), "one logit")
    for option in ("--layer", "--labels", "--row", "--image", "--model-output"):
        value = "2x2" if option == "--image" else "1"
        result = bilinear(model, "--tokens", "1", option, value, "--out", out)
        refused(result, f"a transformer of arrays takes no {option}")


def test_names_that_no_file_can_hold_are_written_all_the_same(files, tmp_path):
    out, path = tmp_path / "o", tmp_path / os.fsdecode(b"\xff.onnx")
    path.write_bytes(files[0].read_bytes())
    assert bilinear(path, "--out", out).returncode == 0 and said(out)["model"] == "?.onnx"
    model = transformer(tmp_path / "t.npz")
    settings = json.loads(model.with_name("t.config.json").read_text())
    settings["token_names"] = [f"\ud800<script>{i}" for i in range(5)]
    model.with_name("t.config.json").write_text(json.dumps(settings))
    result = bilinear(model, "--tokens", "1,2", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "<script" not in (out / "bilinear.html").read_text("utf-8")
    assert said(out)["tokens"] == ["?<script>1", "?<script>2"]


# ---------------------------------------------------------------- real networks


@pytest.mark.real_data
def test_the_published_mnist_network(tmp_path):
    """Residual bilinear layer behind an embedding: 20 pairs a digit lose one row of 300."""
    folder = shared.folder()
    held = np.load(folder / "bilinear/bilinear_mnist_1layer/gaussian_0.15.npz")
    both = held["blocks.0.weight"]
    model = save(
        tmp_path / "mnist.onnx",
        *(both[:512], both[512:], held["head.weight"], held["embed.weight"]),
        residual=True,
    )
    raw = {
        name: gzip.decompress((folder / f"images/mnist/t10k-{name}-ubyte.gz").read_bytes())
        for name in ("images-idx3", "labels-idx1")
    }
    x = np.frombuffer(raw["images-idx3"], np.uint8, offset=16).reshape(-1, 784)[:300] / 255
    y = np.frombuffer(raw["labels-idx1"], np.uint8, offset=8)[:300]
    import pyarrow as pa

    columns = {f"p{j}": x[:, j] for j in range(784)} | {"digit": y.astype(np.int64)}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    out = tmp_path / "o"
    result = bilinear(
        *(model, tmp_path / "d.parquet", "--labels", "digit", "--image", "28x28"),
        *("--outputs", "4,7", "--row", "6", "--out", out),
    )
    assert result.returncode == 0, result.stderr
    s = said(out)
    assert s["truncation"]["score"][20] >= s["truncation"]["whole"] - 0.005
    assert s["truncation"]["whole"] > 0.96 and s["truncation"]["score"][1] < 0.6
    assert s["row"]["label"] == s["row"]["output"] == "4" and s["row"]["error"] < 1e-10
    assert s["image"] == [28, 28] and all(10 < o["effective_rank"] < 25 for o in s["outputs"])
    pairs = pq.read_table(out / "eigenpairs.parquet").to_pandas()
    first = np.abs(pairs["vector"][0][:784].reshape(28, 28))
    assert first[5:23, 5:23].mean() > 2 * np.r_[first[:3].ravel(), first[-3:].ravel()].mean()
