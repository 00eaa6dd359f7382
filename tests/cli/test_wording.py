"""What is wrong is said in the command's own options, in one line, whatever the command."""

from __future__ import annotations

import re
import sys

import numpy as np
import onnx
import pytest
import torch

import onnx_files
from commands import refused, run
from gatewise.cli.wording import in_options

PYTHON = re.compile(r"\b[a-z_]+=|\bmax_|\bon_bad_")  # an argument of the library
COMMANDS = {
    "explain": ("MODEL", "DATA", "--target", "label"),
    "gates": ("MODEL", "DATA", "--labels", "label"),
    "bilinear": ("PRODUCT", "DATA", "--labels", "label"),
    "audit": ("MODEL", "DATA", "--target", "label"),
    "census": ("MODEL", "DATA"),
    "regions": ("MODEL", "--data", "DATA", "--target", "label", "--hold", "0=0", "--hold", "1=0"),
}


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.w, self.v = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.w(x) * self.v(x)


class Two(torch.nn.Module):
    def forward(self, x):
        return x[:, :1], x * 2


def export(module, path):
    rows = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(module, (torch.zeros(3, 4),), dynamic_shapes=rows), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model each, and tables: good ones, with NaN, without a row, with names of their own."""
    folder, rng = tmp_path_factory.mktemp("wording"), np.random.default_rng(0)
    onnx_files.mlp(folder / "MODEL", (4, 8, 8, 2)).rename(folder / "MODEL.onnx")
    export(Product(), folder / "PRODUCT.pt2")
    export(Two(), folder / "two.pt2")
    two = onnx.load(folder / "MODEL.onnx")
    two.graph.output.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, None))
    rows = [[repr(v) for v in row] for row in rng.normal(size=(30, 4)).tolist()]
    plain = [",".join(row) for row in rows]
    labelled = [f"{row},{i % 2}" for i, row in enumerate(plain)]
    head = "f0,f1,f2,f3"
    tables = {
        "DATA": (f"{head},label", *labelled),
        "inputs": (head, *plain),
        "nan": (f"{head},label", *labelled[:2], "nan,1,2,3,0", *labelled[3:]),
        "nan_inputs": (head, *plain[:2], "nan,1,2,3", *plain[3:]),
        "none": (f"{head},label",),
        "one": (f"{head},label", labelled[0]),
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def command(folder, name, *more, **given):
    """`gatewise NAME ..` with files by name; given: others in their place."""
    args = [given.get(a, a) for a in COMMANDS[name]]
    files = {p.stem: p for p in folder.iterdir() if p.is_file()}
    return run(name, *(files.get(a, a) for a in args), "--out", folder / f"out-{name}", *more)


@pytest.mark.parametrize("name", COMMANDS)
def test_rows_with_nan(folder, name):
    """The option that skips them, in the commands that have it."""
    said = command(folder, name, DATA="nan_inputs" if name == "census" else "nan")
    refused(said, "NaN or infinity", "2", "Repair them")
    assert not PYTHON.search(said.stderr)
    assert ("--on-bad-rows skip" in said.stderr) == (name not in ("gates", "regions"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_target_that_is_not_named(folder, name):
    """--target, or --labels; census has neither."""
    if name == "audit":
        pytest.skip("there the option is required")
    args = [a for a in COMMANDS[name] if a not in ("--target", "--labels", "label")]
    files = {p.stem: p for p in folder.iterdir()}
    said = run(name, *(files.get(a, a) for a in args), "--out", folder / f"out-{name}")
    option = {"gates": "with --labels", "bilinear": "with --labels", "census": "Leave it out"}
    refused(said, "4 inputs", "Is one of them the target?", option.get(name, "with --target"))


def test_settings_and_outputs(folder):
    for name, more, words in (
        ("explain", ("--max-error=-1",), ("--max-error must be",)),
        ("explain", ("--max-error=0", "--max-rules=1"), ("--max-error 0", "or --max-rules")),
        ("audit", ("--holdout=2",), ("--holdout must be a share",)),
        ("audit", ("--rules=0",), ("--rules must be",)),
        ("inspect", ("two",), ("pass --model-output with one",)),
        ("inspect", ("two", "--model-output", "h"), ("got --model-output h",)),
    ):
        files = {p.stem: p for p in folder.iterdir()}
        said = (
            run(name, *(files.get(a, a) for a in more))
            if name == "inspect"
            else command(folder, name, *more)
        )
        refused(said, *words)
        assert not PYTHON.search(said.stderr), said.stderr


def test_positions_are_counted_from_0(folder):
    for name, option in (
        ("explain", "--output"),
        ("gates", "--output"),
        ("bilinear", "--outputs"),
        ("regions", "--output"),
    ):
        for asked in ("-1", "3", "1" + "0" * 30, ""):
            refused(command(folder, name, f"{option}={asked}"), f"no output '{asked}'", "from 0")
    refused(command(folder, "bilinear", "--outputs=0,-2"), "no output '-2'")


def test_counts_that_are_none(folder):
    """Refused as options are, with exit code 2, before any work."""
    for name, option, end in (
        ("explain", "--top=0", "greater than or equal to 1"),
        ("explain", "--batch-size=0", "greater than or equal to 1"),
        ("explain", "--max-rules=-3", "greater than or equal to 1"),
        ("gates", "--row=-1", "greater than or equal to 0"),
        ("gates", "--rows=0", "greater than or equal to 4"),
        ("gates", "--draws=1000000000000", "less than or equal to 10000"),
        ("gates", "--paths=0", "greater than or equal to 1"),
        ("bilinear", "--top=-1", "greater than or equal to 1"),
        ("bilinear", "--row=-1", "greater than or equal to 0"),
        ("audit", "--repeats=0", "greater than or equal to 100"),
        ("audit", "--repeats=1000000000000", "less than or equal to 1000000"),
        ("audit", "--seed=-1", "greater than or equal to 0"),
        ("census", "--batch-size=0", "greater than or equal to 1"),
        ("regions", "--max-regions=0", "greater than or equal to 1"),
    ):
        said = command(folder, name, option)
        assert said.returncode == 2
        words = " ".join(said.stderr.replace("│", " ").split())
        assert f"Invalid value for '{option.partition('=')[0]}'" in words and end in words


def test_more_than_there_can_be(folder):
    """At most so many: as many as there are."""
    huge = "1" + "0" * 30
    args = ("--hold", "2=0", "--max-regions", huge)
    assert command(folder, "regions", *args, DATA="DATA").returncode == 0
    refused(command(folder, "gates", "--row", huge), f"no row {huge}", "30 rows")


def test_tables_of_no_row_and_of_one(folder):
    for name in ("explain", "gates", "bilinear", "audit", "regions"):
        refused(command(folder, name, DATA="none"), "0 rows")
    assert command(folder, "gates", DATA="one").returncode == 0


def test_what_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(command(folder, "explain"), "'onnx'", "pip install 'gatewise[onnx]'")


def test_in_options():
    known = {"on_bad_rows": "--on-bad-rows", "rules": "--rules"}
    for message, said in (
        ("skip with on_bad_rows='skip'", "skip with --on-bad-rows skip"),
        ("Repair it, or go on (on_bad_files='skip')", "Repair it"),
        ("Repair it, or go on (on_bad_rows='skip')", "Repair it, or go on (--on-bad-rows skip)"),
        ("save it there, or give config=", "save it there"),
        ("rules must be whole; 3 rules are 3 rules", "--rules must be whole; 3 rules are 3 rules"),
        ("'/data/rules=3/on_bad_rows=1.csv' is no table", None),
        ("age=40 and on_bad_rows", "age=40 and --on-bad-rows"),
    ):
        assert in_options(message, known) == (message if said is None else said)
