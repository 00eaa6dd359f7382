"""Linear chains against least squares, 2023: the protocol on small sets, what is kept, the page."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from torch import nn

import shared

FOLDER = shared.ROOT / "experiments" / "lakkapragada2023linear"
PAGE = shared.ROOT / "docs" / "explanation" / "lakkapragada.md"
CONFIG = tomllib.loads((FOLDER / "config.toml").read_text())
SMALL = {"noises": [0.15, 0.5], "rows": 200, "validation_rows": 50, "lr": 0.01, "steps": 60,
         "seed": 0}  # fmt: skip


# ---------------------------------------------------------------- the protocol


def test_noise_is_the_setting_times_the_mean_of_y_in_that_trial(experiment):
    rows = experiment("protocol").rows
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    intercept = torch.tensor([3.0, 0.0, -1.0], dtype=torch.float64)
    x, y = rows(slope, intercept, 20_000, 0.5, torch.Generator().manual_seed(0))
    clean = slope[:, None, None] * x + intercept[:, None, None]
    spread = (y - clean).std(1)[:, 0]
    torch.testing.assert_close(spread, 0.5 * clean.mean(1).abs()[:, 0], rtol=0.02, atol=1e-12)
    assert float(spread[1]) < 0.02  # an intercept of 0: next to no noise
    assert float(x.mean().abs()) < 0.01 and float(x.std()) == pytest.approx(1, abs=0.01)


def test_the_rows_of_the_table_are_what_torch_finds_on_the_data(experiment):
    """The first trials of the second noise, trained again by autograd on rows drawn again."""
    protocol = experiment("protocol")
    figures, curves = protocol.published(SMALL, SMALL["noises"], [3], 4)
    draw = torch.Generator().manual_seed(1)
    slope, intercept = torch.randn(2, 4, generator=draw, dtype=torch.float64)
    x, y = protocol.rows(slope, intercept, 200, 0.5, draw)
    x2, y2 = protocol.rows(slope, intercept, 50, 0.5, draw)
    begin = protocol.start(SMALL, 8, 3)
    D, train, test, least = [], [], [], []
    for k in range(4):
        chain = nn.Sequential(*[nn.Linear(1, 1) for _ in range(3)]).double()
        with torch.no_grad():
            for i, layer in enumerate(chain):
                layer.weight.copy_(begin.weights[i][4 + k])
                layer.bias.copy_(begin.biases[i][4 + k])
        rule = torch.optim.SGD(chain.parameters(), lr=0.01)
        for _ in range(60):
            rule.zero_grad()
            nn.functional.mse_loss(chain(x[k]), y[k]).backward()
            rule.step()
        with torch.no_grad():
            M = float(chain[2].weight * chain[1].weight * chain[0].weight)
            C = float((chain(x[k]) - M * x[k]).mean())
            best = np.polyfit(x[k, :, 0], y[k, :, 0], 1)
            D.append(abs(M - best[0]) + abs(C - best[1]))
            train.append(float((chain(x[k]) - y[k]).square().mean()))
            test.append(float((chain(x2[k]) - y2[k]).square().mean()))
            off = np.polyval(best, x2[k, :, 0].numpy()) - y2[k, :, 0].numpy()
            least.append(float(np.square(off).mean()))
    row = figures[1]
    for name, values in (("D", D), ("train", train), ("test", test)):
        assert row[name] == pytest.approx(np.mean(values), rel=1e-9)
        assert row[f"{name} se"] == pytest.approx(np.std(values, ddof=1) / 2)
    assert row["least test"] == pytest.approx(np.mean(least), rel=1e-9)
    assert curves[-1]["step"] == 60 and curves[-1]["D"] == pytest.approx(np.mean(D))
    shares = [row[v] for v in ("converged", "unfinished", "plateau", "diverged")]
    assert sum(shares) == pytest.approx(1)


def test_rates_share_their_starts_and_a_diverged_trial_is_left_out(experiment):
    protocol = experiment("protocol")
    c = {"run": {**SMALL, "depths": [2], "steps": 200},
         "rates": {"noise": 0.15, "lr": [1e-3, 0.9]}}  # fmt: skip
    figures, curves = protocol.rates(c, 60)
    assert [r["rate"] for r in figures] == [1e-3, 0.9]
    assert figures[0]["diverged"] == 0 < figures[1]["diverged"] < 1
    assert math.isfinite(figures[1]["D"]) and figures[1]["D"] < 10
    first = [r for r in curves if r["step"] == 0]
    assert len(first) == 2 and first[0]["D"] > 1


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def kept(experiment):
    return experiment("tables").read(FOLDER / "results")


def test_the_kept_results_are_as_published(experiment, kept):
    tables = experiment("tables")
    known = FOLDER / "published.csv"
    every = tables.checks(kept["depths"], known) + tables.rate_checks(kept["rates"])
    assert len(every) == 32 and [str(c) for c in every if not c.ok] == []
    assert len(kept["depths"]) == 40 and {r["trials"] for r in kept["depths"]} == {1000}
    theirs = tables.known(known)
    for row in kept["depths"]:  # against 1,000 trials of another program: our error alone
        if row["noise"] == 0.15:
            off = abs(row["D"] - theirs["again", 0.15, row["depth"]])
            assert off <= 3 * row["D se"] + 5e-5, row


def test_a_check_is_out_when_a_value_is(experiment, kept):
    tables = experiment("tables")
    moved = [{**r, "D": r["D"] + 0.5} for r in kept["depths"]]
    assert not any(c.ok for c in tables.checks(moved, FOLDER / "published.csv"))


def test_a_tenfold_rate_and_adam_do_away_with_the_deviation(kept):
    five = {r["rate"]: r["D"] for r in kept["rates"] if r["depth"] == 5}
    assert five[1e-2] < 0.02 < 0.11 < five[1e-3] < five[5e-5]
    adam = [r for r in kept["beyond"] if r["setting"] == "Adam"]
    assert len(adam) == 5 and max(r["D"] for r in adam) < 1e-3
    stuck = [r for r in kept["depths"] if r["depth"] >= 5]
    assert min(r["strict"] for r in stuck) > 0.99
    assert all(r["stuck, wrong sign"] > r["stuck, right sign"] for r in stuck)


def test_the_page_is_filled_and_is_made_again_from_the_results(experiment, tmp_path):
    text = PAGE.read_text()
    assert not re.search(r"\{[a-z]|\bnan\b", text) and "0.131 ± 0.010 | +0.021" in text
    (tmp_path / "results").symlink_to(FOLDER / "results")
    assert experiment("run").main(["--page", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "lakkapragada.md").read_text() == text
    for picture in re.findall(r"\.\./_static/(\w+\.png)", text):
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 150_000
        assert (tmp_path / "_static" / picture).exists()


def test_no_size_is_refused():
    done = subprocess.run([sys.executable, str(FOLDER / "run.py")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "one of the arguments --small --full --page is required" in done.stderr


def test_the_small_run_finds_what_is_known(experiment, monkeypatch):
    """The whole protocol of two depths on fewer trials."""
    config = {**CONFIG, "small": {**CONFIG["small"], "trials": 100, "depths": [1, 5]}}
    assert experiment("run").small(config) == 0
