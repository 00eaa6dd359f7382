"""`gatewise audit` as its user runs it, on files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import gatewise as gw
import onnx_files
from commands import names, refused, run
from gatewise.tables import load_table

WRITTEN = ["audit.json", "cohorts.parquet", "gains.svg", "linear.parquet", "models.parquet"]


def audit(*args):
    """`gatewise audit` in this process."""
    return run("audit", *args)


def csv(path, x, y):
    rows = [
        ",".join([*map(repr, row), str(label)]) for row, label in zip(x.tolist(), y, strict=True)
    ]
    path.write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    model = onnx_files.mlp(folder / "m.onnx", (4, 6, 1), head="Sigmoid")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 4))
    chance = gw.read(model).predict(x).numpy()[:, 0]
    y = np.where(rng.uniform(size=260) < chance, "yes", "no")
    return (
        model,
        csv(folder / "data.csv", x[:160], y[:160]),
        csv(folder / "t.csv", x[160:], y[160:]),
    )


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "o"
    model, data, test = files
    result = audit(model, data, "--target", "y", "--test", test, "--rules", "1,2", "--repeats", 200,
                   "--out", out)  # fmt: skip
    assert result.returncode == 0, result.stderr
    return out, result


def test_it_writes_everything_and_says_where(done):
    out, result = done
    assert names(out) == sorted([*WRITTEN, "models.svg", "report.html"])
    assert result.stdout.startswith(("The network ", "Whether the network "))
    for word in ("Models", "Cohorts", "A logistic", "CPU time", "wrote "):
        assert word in result.stdout


def test_the_numbers_are_true(done, files):
    out, _ = done
    model, data, test = files
    a = gw.audit(model, load_table(data), "y", test=load_table(test), rules=(1, 2), repeats=200)
    said = json.loads((out / "audit.json").read_text("utf-8"))
    assert said["verdict"] == a.verdict and said["answer"] == a.answer
    assert (said["model"], said["data"], said["test"]) == ("m.onnx", "data.csv", "t.csv")
    assert (said["fit_rows"], said["test_rows"], said["classes"]) == (160, 100, ["no", "yes"])
    for line, mine in zip(said["models"], a.lines, strict=True):
        assert line["figures"]["AUC"]["value"] == mine.figures["AUC"].value
        assert line["network_ahead"]["AUC"]["low"] == mine.ahead["AUC"].low
    table = pq.read_table(out / "models.parquet").to_pydict()
    assert table["log loss"] == [line.figures["log loss"].value for line in a.lines]
    cohorts = pq.read_table(out / "cohorts.parquet").to_pydict()
    assert cohorts["condition"] == [g.condition for g in a.gains]
    linear = pq.read_table(out / "linear.parquet").to_pydict()
    assert linear["input"] == ["(intercept)", "a", "b", "c", "d"]
    assert linear["coefficient"] == [a.linear.intercepts[0], *a.linear.coefficients[0]]


def test_without_a_test_table_and_without_rules(files, tmp_path):
    model, data, _ = files
    out = tmp_path / "o"
    result = audit(model, data, "--target", "y", "--rules", "none", "--format", "png", "--repeats",
                   100, "--out", out)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert names(out) == sorted(["audit.json", "linear.parquet", "models.parquet", "models.png",
                                 "report.html"])  # fmt: skip
    assert "split off by the seed" in result.stdout
    assert "it looks better here than it is" in (out / "report.html").read_text("utf-8")


def test_refusals_are_one_sentence(files, tmp_path):
    model, data, test = files
    out = tmp_path / "o"
    rest = ("--out", out)
    refused(audit(model, data, "--target", "nope", *rest), "no column 'nope'")
    refused(audit(model, data, "--target", "y", "--rules", "few", *rest), "--rules", "'few'")
    refused(audit(model, data, "--target", "y", "--holdout", "2", *rest), "holdout")
    both = ("--test", test, "--holdout", "0.5")
    refused(audit(model, data, "--target", "y", *both, *rest), "leave out one of the two")
    one = csv(tmp_path / "one.csv", np.eye(4).repeat(5, 0), ["no"] * 20)
    refused(audit(model, one, "--target", "y", *rest), "'no' in all rows")
    three = csv(tmp_path / "three.csv", np.eye(4).repeat(5, 0), list("abcd") * 5)
    refused(audit(model, three, "--target", "y", *rest), "cannot be matched")
    refused(audit(model, data, "--target", "y", "--test", three, *rest), "cannot be matched")
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refused(audit(model, data, "--target", "y", "--test", test, *rest), "thesis.tex")
