"""The command as its user runs it, on files.

In a process of its own where signals, pipes and a full disk matter; else in this one, which saves
the seconds that importing torch takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import onnx_files
from commands import refused
from commands import run as gatewise

FILES = [
    "cohorts.parquet",
    "maps.safetensors",
    "meta.json",
    "report.html",
    "rows.parquet",
    "rules.parquet",
]


def process(*args: object, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gatewise", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(command, text=True, timeout=240, **pipes)


def table(path: Path, n: int = 60, columns: int = 4, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, columns))
    names = ",".join(f"f{j}" for j in range(columns)) + ",label"
    lines = [",".join(map(repr, map(float, row))) + f",{i % 2}" for i, row in enumerate(x)]
    path.write_text("\n".join([names, *lines]) + "\n")
    return x


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    model = onnx_files.mlp(folder / "model.onnx", (4, 8, 8, 1))
    x = table(folder / "data.csv")
    result = process(
        "explain",
        model,
        folder / "data.csv",
        "--out",
        folder / "out",
        "--target",
        "label",
        "--top",
        "3",
    )
    assert result.returncode == 0, result.stderr
    return folder, x, result


def test_it_writes_everything_and_says_where(done):
    folder, _, result = done
    assert sorted(p.name for p in (folder / "out").iterdir()) == FILES
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    assert "60 rows in" in result.stdout and "report.html" in result.stdout


def test_rules_reproduce_the_rows(done):
    """What the Parquet files say is the network: checked with onnxruntime."""
    import onnxruntime

    folder, x, _ = done
    rules = pq.read_table(folder / "out/rules.parquet").to_pandas()
    rows = pq.read_table(folder / "out/rows.parquet").to_pandas()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    y = session.run(None, {"x": x.astype(np.float32)})[0][:, 0]
    coefs = rules.set_index("cluster").loc[rows["cluster"], [f"coef:f{j}" for j in range(4)]]
    rule = (coefs.to_numpy() * x).sum(axis=1) + rules.set_index("cluster").loc[
        rows["cluster"], "intercept"
    ]
    np.testing.assert_allclose(rule, y, rtol=1e-4, atol=1e-5)
    contributions = (
        rows[[f"contribution:f{j}" for j in range(4)]].sum(axis=1) + rows["base_value:y0"]
    )
    np.testing.assert_allclose(contributions, rows["output:y0"], rtol=1e-12, atol=1e-12)
    assert rules["rows"].sum() == 60
    assert rules["share"].sum() == pytest.approx(1)
    assert (rules["rows"].diff().dropna() <= 0).all()
    assert (rows["error"] <= rows["bound"]).all()
    assert (rows["margin_l2"] > 0).all()
    assert {"active:relu0", "active:relu1"} <= set(rules.columns)


def test_meta_and_maps(done):
    folder, _, _ = done
    meta = json.loads((folder / "out/meta.json").read_text())
    assert meta["schema_version"] == 1
    assert len(meta["model"]["sha256"]) == 64
    assert meta["dtype"] == "float64"
    assert 0 <= meta["max_error"] <= meta["max_bound"]
    assert meta["target"] == "label"
    assert any("checked against" in note for note in meta["network"]["notes"])
    maps = load_file(folder / "out/maps.safetensors")
    assert maps["weight"].shape == (meta["clusters"], 1, 4)
    assert maps["counts"].sum() == 60


def test_running_again_gives_the_same_files(done, tmp_path):
    folder, _, _ = done
    again = gatewise(
        "explain",
        folder / "model.onnx",
        folder / "data.csv",
        "--out",
        tmp_path / "o",
        "--target",
        "label",
        "--top",
        "3",
    )
    assert again.returncode == 0, again.stderr
    for name in FILES:
        assert (tmp_path / "o" / name).read_bytes() == (folder / "out" / name).read_bytes(), name


def test_the_batch_size_changes_no_cluster(done, tmp_path):
    folder, _, _ = done
    again = gatewise(
        "explain",
        folder / "model.onnx",
        folder / "data.csv",
        "--out",
        tmp_path / "o",
        "--target",
        "label",
        "--batch-size",
        "7",
    )
    assert again.returncode == 0, again.stderr
    old, new = (
        pq.read_table(p / "rules.parquet").to_pandas() for p in (folder / "out", tmp_path / "o")
    )
    exact = ["cluster", "pattern", "rows", "first_row", "active:relu0", "active:relu1"]
    assert old[exact].equals(new[exact])
    np.testing.assert_allclose(old["mean_output"], new["mean_output"], rtol=1e-12)


def test_an_old_result_is_replaced(done, tmp_path):
    folder, _, _ = done
    for _ in range(2):
        assert (
            gatewise(
                "explain",
                folder / "model.onnx",
                folder / "data.csv",
                "--out",
                tmp_path / "o",
                "--target",
                "label",
            ).returncode
            == 0
        )
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == FILES


def test_mistakes_are_one_line(done, tmp_path):
    folder, _, _ = done
    model, data, out = folder / "model.onnx", folder / "data.csv", tmp_path / "out"
    refused(gatewise("explain", model, data, "--out", out), "takes 4 inputs", "label")
    refused(gatewise("explain", folder / "no.onnx", data, "--out", out), "no.onnx")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04K\x01.")
    refused(gatewise("explain", tmp_path / "model.pkl", data, "--out", out), "pickle")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(model.read_bytes()[:200])
    refused(gatewise("inspect", cut), "cut.onnx")
    refused(gatewise("explain", model, folder / "no.csv", "--out", out), "no.csv")
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".partial"]


def test_bad_rows_can_be_skipped(done, tmp_path):
    folder, _, _ = done
    lines = (folder / "data.csv").read_text().splitlines()
    lines[3] = "nan,1,2,3,0"
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    args = (
        "explain",
        folder / "model.onnx",
        tmp_path / "bad.csv",
        "--out",
        tmp_path / "o",
        "--target",
        "label",
    )
    refused(gatewise(*args), "rows 2 (counted from 0)")
    skipped = gatewise(*args, "--on-bad-rows", "skip")
    assert skipped.returncode == 0 and "skipped 1 row with NaN or infinity: 2" in skipped.stdout
    assert json.loads((tmp_path / "o/meta.json").read_text())["skipped_rows"] == [2]


def test_a_full_disk_leaves_what_was_there(done, tmp_path):
    """Simulated with a limit on file size: the write fails half-way, as on a full disk."""
    folder, _, _ = done
    out = tmp_path / "out"
    args = [
        "explain",
        folder / "model.onnx",
        folder / "data.csv",
        "--out",
        out,
        "--target",
        "label",
    ]
    assert gatewise(*args).returncode == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "from gatewise.__main__ import main; sys.argv = ['gatewise', *sys.argv[1:]]; main()"
    )
    full = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    refused(full, "could not write", "Nothing was left half-written")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path, sent):
    model = onnx_files.mlp(tmp_path / "model.onnx", (4, 64, 64, 1))
    table(tmp_path / "data.csv", n=30_000)
    command = [
        sys.executable,
        "-m",
        "gatewise",
        "explain",
        tmp_path / "model.onnx",
        tmp_path / "data.csv",
        "--out",
        tmp_path / "out",
        "--target",
        "label",
        "--no-margin",
    ]
    assert model.exists()
    run = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    while not any(p.suffix == ".partial" for p in tmp_path.iterdir()):
        assert run.poll() is None, "the run ended before it could be interrupted: make it longer"
        time.sleep(0.01)
    run.send_signal(sent)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.strip().endswith("interrupted; nothing was left half-written")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "model.onnx"]


def test_inspect_names_what_breaks_it(tmp_path):
    curved = onnx_files.mlp(tmp_path / "a.onnx", (2, 3, 1), head="")
    said = gatewise("inspect", curved)
    assert said.returncode == 0
    for word in ("gemm0", "relu0", "Gate", "Affine", "piecewise affine: 3 gate units in 1 gate"):
        assert word in said.stdout
    head = gatewise("inspect", onnx_files.mlp(tmp_path / "b.onnx", (2, 3, 2), head="Softmax"))
    assert "set aside" in head.stdout


def test_ops_prints_the_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = gatewise("ops")
    assert said.returncode == 0
    for word in ("ReLU", "Gate", "Conv", "Affine", "Softmax", "Smooth", "Product"):
        assert word in said.stdout


def test_a_name_is_never_markup(done, tmp_path):
    """Square brackets are rich's markup; a node's name is shown as it is."""
    import onnx

    folder, _, _ = done
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].name = "[red]danger[/red]"
    onnx.save(model, tmp_path / "m.onnx")
    assert "[red]danger[/red]" in gatewise("inspect", tmp_path / "m.onnx").stdout


def test_the_folder_is_checked_before_any_work(done, tmp_path):
    """Neither model nor data exist, and the sentence is about the folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    said = gatewise("explain", "no.onnx", "no.csv", "--out", tmp_path / "out")
    refused(said, "thesis.tex", "not a result of gatewise")
    refused(gatewise("demo", "--out", tmp_path / "out"), "thesis.tex")


def test_one_of_several_tensors_is_picked_by_its_option(done, tmp_path):
    import onnx
    import torch

    folder, _, _ = done
    model = onnx.load(folder / "model.onnx")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("h0", onnx.TensorProto.FLOAT, ["batch", 8])
    )
    onnx.save(model, tmp_path / "two.onnx")
    refused(gatewise("inspect", tmp_path / "two.onnx"), "h0", "--model-output")
    assert "8 outputs" in gatewise("inspect", tmp_path / "two.onnx", "--model-output", "h0").stdout
    args = ("explain", tmp_path / "two.onnx", folder / "data.csv", "--target", "label")
    said = gatewise(*args, "--out", tmp_path / "o", "--model-output", "h0", "--output", "3")
    assert said.returncode == 0 and "1 output\n" in said.stdout, said.stderr

    class Two(torch.nn.Module):
        def forward(self, x):
            return x[:, :1], x * 2

    torch.export.save(torch.export.export(Two(), (torch.zeros(3, 2),)), tmp_path / "two.pt2")
    refused(gatewise("inspect", tmp_path / "two.pt2"), "--model-output")
    assert "2 outputs" in gatewise("inspect", tmp_path / "two.pt2", "--model-output", "1").stdout


def test_stdout_that_cannot_be_written():
    with Path("/dev/full").open("w") as full:
        said = process("ops", stdout=full)
    refused(said, "could not be read or written", "No space left on device")


def test_a_terminal_of_ascii_and_a_reader_that_has_gone():
    said = process("ops", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert said.returncode == 0 and said.stderr == "" and said.stdout.isascii()
    head, tail = os.pipe()
    os.close(head)
    said = process("ops", stdout=tail)
    os.close(tail)
    assert said.returncode != 0 and said.stderr == ""


def test_an_interrupt_while_the_command_is_imported_is_one_line(monkeypatch):
    """Before `main`, Python itself answers: nothing has been opened by then."""

    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr("gatewise.__main__._app", interrupted)
    said = gatewise("ops")
    assert said.returncode == 130
    assert said.stderr == "gatewise: interrupted; nothing was left half-written\n"
