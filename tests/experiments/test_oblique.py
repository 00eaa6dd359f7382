"""Oblique trees learnt by DLGNs, 2025: data, training and measures on small sets; see `run.py`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import shared

FOLDER = shared.ROOT / "experiments" / "dlgn2025oblique"
PAGE = shared.ROOT / "docs" / "explanation" / "oblique.md"


SETTING = {"beta": 10.0, "lr": 0.02, "hidden": [8, 8], "init": "torch"}


# ---------------------------------------------------------------- data


def test_a_row_goes_down_the_tree_and_siblings_differ(experiment):
    """Against a walk written row by row, with the side of each split by hand."""
    data = experiment("data")
    sample = data.generate(400, 5, 4, 365)
    tree, x = sample.tree, sample.train.x.astype(float)
    assert tree.normals.shape == (15, 5)
    for row, leaf, label in zip(x, tree.leaf(x), sample.train.y, strict=True):
        node = 0
        for _ in range(4):
            node = 2 * node + 2 if sum(tree.normals[node] * row) > 0 else 2 * node + 1
        assert node == leaf and 15 <= node <= 30
        assert label == (0 if node in range(16, 31, 2) else 1)
    assert [leaf % 2 for leaf in range(15, 31)] == [1, 0] * 8


def test_the_published_numbers_are_drawn_normals_first(experiment):
    sample = experiment("data").generate(40, 6, 2, 365)
    draw = np.random.RandomState(365)
    normals, x = draw.standard_normal((3, 6)), draw.standard_normal((40, 6))
    np.testing.assert_allclose(
        sample.tree.normals, normals / np.linalg.norm(normals, axis=1)[:, None]
    )
    every = np.vstack([sample.train.x, sample.validation.x, sample.test.x])
    np.testing.assert_allclose(every, x / np.linalg.norm(x, axis=1)[:, None], atol=1e-6)
    assert [len(p.y) for p in (sample.train, sample.validation, sample.test)] == [20, 10, 10]


def test_sdi_is_on_the_sphere_and_its_splits_are_not_orthogonal(experiment):
    sample = experiment("data").generate(40000, 20, 4, 365)
    assert sample.train.x.shape == (20000, 20) and sample.train.x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(sample.test.x, axis=1), 1, rtol=1e-6)
    products = np.abs(sample.tree.normals @ sample.tree.normals.T)
    np.testing.assert_allclose(np.diag(products), 1)
    assert 0.3 < np.triu(products, 1).max() < 0.9
    assert 0.45 < sample.train.y.mean() < 0.5


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("name", ["DLGN", "DLGN-SF"])
def test_the_model_has_no_bias_and_is_constant_where_no_gate_switches(experiment, name):
    learning = experiment("learning")
    module = learning.build(name, 5, SETTING, 0)
    assert not [key for key in module.state_dict() if "bias" in key]
    hard, draw = module.hardened(), torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=draw)
    near = x * (0.5 + torch.rand(200, 1, generator=draw))  # splits go through the origin
    with torch.no_grad():
        torch.testing.assert_close(hard(x), hard(near))
        assert len(hard(x).unique()) > 3


def test_a_step_goes_down_the_cross_entropy_of_minus_f_and_f(experiment):
    learning = experiment("learning")
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(30, 5, generator=draw), torch.randint(2, (30,), generator=draw)
    one, two = (learning.build("DLGN", 5, SETTING, 0) for _ in range(2))
    adams = [torch.optim.Adam(m.parameters(), lr=0.02) for m in (one, two)]
    right = learning.step(one, adams[0], x, y.float())
    f = two(x)
    assert right == float(((f[:, 0] > 0) == (y > 0)).sum())
    F.cross_entropy(torch.cat([-f, f], 1), y).backward()
    adams[1].step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_tree_is_learnt_far_beyond_a_linear_model(experiment, tmp_path):
    data, learning, measures = experiment("data"), experiment("learning"), experiment("experiment")
    sample = data.generate(8000, 6, 2, 365)
    one = learning.learnt("DLGN-SF", "tiny", sample, SETTING, 0, 60, tmp_path)
    assert one.test > measures.linear(sample) + 0.15
    held = learning.accuracy(one.module, *learning.tensors(sample.validation))
    assert held == one.validation.max() == one.validation[one.best - 1]
    again = learning.learnt("DLGN-SF", "tiny", sample, SETTING, 0, 60, tmp_path)
    assert (again.test, again.best, again.cpu) == (one.test, one.best, one.cpu)
    x = torch.from_numpy(sample.test.x)
    with torch.no_grad():
        assert torch.equal(one.module(x), again.module(x))
    rerun = learning.learn("DLGN-SF", sample, SETTING, 0, 60)
    np.testing.assert_array_equal(rerun.validation, one.validation)


# ---------------------------------------------------------------- measures


def test_angles_are_of_planes_whatever_their_normals_sign_and_length(experiment):
    angles = experiment("experiment").angles
    gates = np.array([[2.0, 0], [-1, 0], [0, 3], [1, 1]])
    np.testing.assert_allclose(
        angles(gates, np.array([[1.0, 0], [0, -1]])), [[0, 90], [0, 90], [90, 0], [45, 45]]
    )


def test_gates_put_on_the_splits_find_all_of_them(experiment):
    data, learning, measures = experiment("data"), experiment("learning"), experiment("experiment")
    sample = data.generate(80, 20, 4, 365)
    module = learning.build("DLGN-SF", 20, {**SETTING, "hidden": [15]}, 0)
    curve = np.array([0.5, 0.7])
    one = learning.Learnt(module, 0.7, 2, curve, curve, 1.0)
    key = {"data": "SDI", "model": "DLGN-SF", "seed": 0}
    found = measures.Found()
    measures.add(found, key, one, sample, 0.6)
    assert found.runs[0]["planes found"] < 5 and found.runs[0]["median angle"] > 30
    with torch.no_grad():
        module.features[0].weight.copy_(torch.from_numpy(-3 * sample.tree.normals))
    found = measures.Found()
    measures.add(found, key, one, sample, 0.6)
    assert found.runs[0]["planes found"] == 15
    assert found.runs[0]["median angle"] == pytest.approx(0, abs=0.1)
    assert len(found.angles) == 15 and len(found.curves) == 2


def test_a_linear_model_is_right_where_the_labels_are_linear(experiment):
    data, measures = experiment("data"), experiment("experiment")
    x = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    part = data.Part(x, (x[:, 0] > 0).astype(int))
    assert measures.linear(data.Sample(None, part, part, part)) > 0.97


def test_the_table_sets_each_mean_beside_the_published_one(experiment):
    measures = experiment("experiment")
    key = {"data": "SDI", "model": "DLGN-SF", "linear": 0.6, "hardened": 0.95}
    runs = [{**key, "seed": s, "test": t} for s, t in ((0, 0.97), (1, 0.98))]
    assert measures.numbers(runs) == pytest.approx(
        {
            "SDI DLGN-SF": 0.975,
            "SDI DLGN-SF, best start": 0.98,
            "SDI DLGN-SF above linear": 0.375,
        }
    )
    last = measures.table(runs).splitlines()[-1]
    assert last.startswith(
        "| SDI, DLGN-SF | 97.43 | 97.50 ± 0.71 (2) | +0.07 | 98.00 | 95.00 ± 0.00 (2)"
    )


def test_an_unknown_data_set_or_no_size_is_refused():
    for words, message in (
        (["--full", "--data", "SDIV"], "invalid choice: 'SDIV'"),
        ([], "one of the arguments --small --full --page is required"),
    ):
        job = [sys.executable, str(FOLDER / "run.py"), *words]
        done = subprocess.run(job, capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr


# ---------------------------------------------------------------- what is kept in the repository


def test_the_kept_results_are_as_published(experiment):
    reporting, measures = experiment("reporting"), experiment("experiment")
    runs = reporting.read_rows(FOLDER / "results" / "runs.csv")
    numbers = measures.numbers(runs)
    known = [
        c for c in reporting.read_checks(FOLDER / "published.csv", numbers) if c.name in numbers
    ]
    assert len(known) >= 3
    assert [str(c) for c in known if not c.ok] == []
    assert {r["passes"] for r in runs} == {1500}


def test_the_page_is_filled_and_is_made_again_from_the_results(experiment, tmp_path):
    text = PAGE.read_text()
    assert not re.search(r"\{[a-z]|\bnan\b", text) and "97.43" in text
    (tmp_path / "results").symlink_to(FOLDER / "results")
    assert experiment("run").main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "oblique.md").read_text() == text
    for picture in re.findall(r"\.\./_static/(\w+\.png)", text):
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 150_000
        assert (tmp_path / "_static" / picture).exists()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_the_small_run_learns_the_tree():
    job = [sys.executable, str(FOLDER / "run.py"), "--small"]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
