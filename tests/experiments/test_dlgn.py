"""The DLGN experiment: what is kept holds, a small run trains and says so, claims can fail."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import shared

FOLDER = shared.ROOT / "experiments" / "lakshminarayanan2021dlgn"


@pytest.mark.parametrize("name", ["digits", "cifar"])
def test_the_kept_results_bear_out_the_claims_and_are_as_expected(experiment, name):
    report, trials = experiment("report"), experiment("trials")
    found = trials.read(FOLDER / "results" / f"{name}.csv")
    table = report.rows(found)
    claims = report.claims(name, table)
    assert claims and all(claim.holds for claim in claims)
    assert min(table[m].trials for m in ("DNN", "DLGN")) >= 2
    close = report.expected(name, table)
    assert close and all(abs(mean - value) <= room for _, mean, value, room in close)


def test_the_kept_page_shows_the_kept_results(experiment):
    report, trials = experiment("report"), experiment("trials")
    text = (report.DOCS / "explanation" / "dlgn.md").read_text()
    for name in ("digits", "cifar"):
        table = report.rows(trials.read(FOLDER / "results" / f"{name}.csv"))
        assert all(line in text for line in report.lines(name, table))
    assert "{" not in text.replace("1{q > 0}", "")
    assert 5_000 < (report.DOCS / "_static" / "dlgn.png").stat().st_size < 150_000


def test_a_small_run_on_digits_trains_writes_and_holds(experiment, tmp_path, capsys):
    run, trials = experiment("run"), experiment("trials")
    c = {**run.settings("digits", small=True), "seeds": [0], "epochs": 12}
    found = list(trials.digits(c, "cpu", []))
    assert {t.model for t in found} == set(experiment("report").ORDER)
    assert all(t.test > 90 for t in found)
    trials.write(tmp_path / "digits.csv", found)
    again = trials.read(tmp_path / "digits.csv")
    assert [t.model for t in again] == [t.model for t in found]
    assert list(trials.digits(c, "cpu", again)) == []  # all are done
    assert all(experiment("report").say("digits", again, small=True))
    assert "holds  DLGN less DNN, points: " in capsys.readouterr().out
    page = experiment("report").page(tmp_path, small=True)
    assert "A small run" in page.read_text() and (tmp_path / "accuracies.png").exists()


@pytest.mark.real_data
def test_images_are_standardised_by_the_training_rows(experiment):
    X, y, T, t = experiment("data").cifar(500, 2)
    assert X.shape == (500, 3, 16, 16) and T.shape == (2000, 3, 16, 16)
    torch.testing.assert_close(X.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(X.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    assert np.bincount(t).tolist() == [200] * 10 and set(y.tolist()) == set(range(10))


def test_a_changed_image_is_a_flip_and_a_shift_of_itself(experiment):
    X = torch.arange(2 * 25.0).reshape(1, 2, 5, 5).expand(40, -1, -1, -1) + 1
    rng = torch.Generator().manual_seed(0)
    changed = experiment("data").changed(True, 1)(X, rng)
    wide = torch.nn.functional.pad(X[0], (1, 1, 1, 1))
    flipped = torch.nn.functional.pad(X[0].flip(2), (1, 1, 1, 1))
    every = [
        w[:, i : i + 5, j : j + 5] for w in (wide, flipped) for i in range(3) for j in range(3)
    ]
    which = {next(k for k, e in enumerate(every) if torch.equal(e, image)) for image in changed}
    assert len(which) > 10
    same = experiment("data").changed(False, 0)(X, rng)
    assert torch.equal(same, X)


@pytest.mark.parametrize("name", ["cifar", "c4gap", "vgg", "resnet"])
def test_every_run_has_the_same_layers_in_all_its_networks(experiment, name):
    run, networks = experiment("run"), experiment("networks")
    c = run.settings(name, small=True)
    c.update(width=2, blocks=1)
    nets = {n: networks.convolutional(c, n, 0, c.get("order")) for n in networks.NAMES}
    own = [tuple(p.shape) for p in nets["DNN"].parameters()]
    for net in list(nets.values())[1:]:
        assert [tuple(p.shape) for p in net.value_parameters()] == own
        assert net(torch.zeros(2, 3, 32 // c["shrink"], 32 // c["shrink"])).shape == (2, 10)


# ---------------------------------------------------------------- the claims can fail


def test_a_mean_below_its_claim_fails_and_other_runs_are_left_out(experiment, capsys):
    report, trials = experiment("report"), experiment("trials")
    found = [
        trials.Trial("DNN", 0, "", 60.0, 70.0, 1.0),
        trials.Trial("DNN", 1, "", 62.0, 70.0, 1.0),
        trials.Trial("DLGN", 0, "", 50.0, 70.0, 1.0),
    ]
    table = report.rows(found)
    assert (table["DNN"].mean, table["DNN"].trials) == (61.0, 2)
    assert table["DNN"].spread == pytest.approx(math.sqrt(2))
    (claim,) = report.claims("cifar", table)
    assert claim.found == pytest.approx(50 / 61) and not claim.holds
    assert dataclasses.replace(claim, found=0.835).holds
    assert not dataclasses.replace(claim, found=math.nan).holds
    assert report.say("cifar", found, small=True) == [False]
    assert "FAILS  DLGN: accuracy over the DNN's: 0.820" in capsys.readouterr().out
    assert report.claims("cifar", {}) == []
    assert not any(c.holds for c in report.claims("digits", table))


def test_a_mean_that_is_not_expected_is_out(experiment, capsys):
    report, trials = experiment("report"), experiment("trials")
    found = [trials.Trial("DNN", 0, "", 50.0, 70.0, 1.0)]
    assert report.say("digits", found, small=False) == [False]
    assert "OUT    DNN: 50.00, expected 9" in capsys.readouterr().out


def test_an_unknown_run_and_two_sizes_are_refused():
    for words in (["--only", "mnist"], ["--small", "--full"]):
        done = subprocess.run(
            [sys.executable, str(FOLDER / "run.py"), *words], capture_output=True, text=True
        )
        assert done.returncode == 2 and "error: argument" in done.stderr


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_one_command_runs_small(tmp_path):
    job = [sys.executable, str(FOLDER / "run.py"), "--small", "--out", str(tmp_path)]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "page.md").exists()
