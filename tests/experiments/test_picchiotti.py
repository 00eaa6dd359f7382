"""The experiments of the first paper: small runs here, the whole of them by `run.py`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import shared

FOLDER = shared.ROOT / "experiments" / "picchiotti2021clustering"
EXPERIMENTS = ("titanic", "simulation")
PAGE = shared.ROOT / "docs" / "explanation" / "picchiotti.md"


def small(common, name: str, **changes) -> dict:
    return {**common.settings(name), "seeds": [0], **changes}


# ---------------------------------------------------------------- what is kept in the repository


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_kept_results_are_as_expected(experiment, name):
    common = experiment("common")
    lines = (FOLDER / "results" / f"{name}.csv").read_text().splitlines()[1:]
    numbers = {k.strip('"'): float(v) for k, v in (line.rsplit(",", 1) for line in lines)}
    checks = common.compare(numbers, common.read_expected(FOLDER / "expected.csv", name))
    assert len(checks) > 10
    assert [c for c in checks if not c.ok] == []


def test_the_page_has_both_sections_and_small_pictures():
    text = PAGE.read_text()
    for name in EXPERIMENTS:
        section = text.split(f"<!-- begin {name} -->")[1].split(f"<!-- end {name} -->")[0]
        assert len(section) > 1000 and "| --- |" in section
    pictures = re.findall(r"!\[[^]]+\]\(\.\./_static/(\w+\.png)\)", text)
    assert len(pictures) == 5
    for picture in pictures:
        assert (shared.ROOT / "docs" / "_static" / picture).stat().st_size < 150_000
    assert max(map(len, text.splitlines())) < 2000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_unfilled_field_is_left_on_the_page(name):
    assert not re.search(r"\{[a-z]|nan", PAGE.read_text())


# ---------------------------------------------------------------- small runs


@pytest.mark.real_data
def test_titanics_network_is_the_expected_one(experiment):
    common, titanic = experiment("common"), experiment("titanic")
    section = titanic.run(small(common, "titanic", widths=[[4], [4, 4]]))
    expected = common.read_expected(FOLDER / "expected.csv", "titanic")
    shown = {k: v for k, v in section.numbers.items() if not k.startswith("clusters, ")}
    wanted = {k: v for k, v in expected.items() if not k.startswith("clusters, ")}
    assert [c for c in common.compare(shown, wanted) if not c.ok] == []
    assert section.numbers["largest error"] < 1e-12
    assert len(section.pictures) == 3


def test_the_laws_are_found_in_the_simulation(experiment):
    common, simulation = experiment("common"), experiment("simulation")
    c = small(common, "simulation", widths=[[8]], alphas=[0.1])
    section = simulation.run(c)
    assert section.numbers["largest coefficient error"] < 0.05
    assert section.numbers["R², linear"] < 0.7 < 0.98 < section.numbers["r2, hidden 8"]
    assert section.numbers["rules ari, hidden 8"] > 0.9
    assert section.numbers["rules error, hidden 8"] < 0.2
    assert section.numbers["ari, hidden 8"] < section.numbers["rules ari, hidden 8"]


def test_a_simulation_of_one_law_has_no_two_to_find(experiment):
    common, simulation = experiment("common"), experiment("simulation")
    c = small(common, "simulation", rows=400)
    c["second"] = c["first"]
    train, test = (simulation.sample(c, np.random.default_rng(k)) for k in (1, 2))
    found = simulation.examined(c, [4], 0.1, 0, train, test)
    assert abs(found["rules ari"]) < 0.2
    assert found["median error"] < 0.1


@pytest.mark.real_data
def test_importances_are_shares_and_group_the_one_hot_columns(experiment):
    import gatewise as gw

    common, titanic = experiment("common"), experiment("titanic")
    X, y = titanic.load()
    c = small(common, "titanic", max_iter=20)
    e = gw.explain(titanic.trained(c, [4], 0, X, y), X, target=y, margin=False)
    assert list(titanic.columns(e)) == titanic.NUMBERS + titanic.CATEGORIES
    everywhere, within = titanic.importances(e)
    np.testing.assert_allclose(everywhere.sum(1), 1)
    cluster = 0
    members = e.data[e.ids == cluster]
    parts = {
        name: (members[:, g] @ e.coefficients[cluster, 0, g]).std()
        for name, g in titanic.columns(e).items()
    }
    want = np.array(list(parts.values())) / sum(parts.values())
    np.testing.assert_allclose(within[cluster], want, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.skipif(os.environ.get("GATEWISE_FULL") != "1", reason="whole run: GATEWISE_FULL=1")
def test_one_command_reproduces_everything(name, tmp_path):
    job = [sys.executable, str(FOLDER / "run.py"), name, "--out", str(tmp_path)]
    done = subprocess.run(job, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "explanation" / "picchiotti.md").exists()


# ---------------------------------------------------------------- the comparison can fail


def test_a_number_that_is_off_missing_or_new_is_not_as_expected(experiment):
    common = experiment("common")
    expected = {"a": (1.0, 0.1), "b": (2.0, 0.0)}
    checks = common.compare({"a": 1.05, "b": 2.0}, expected)
    assert all(c.ok for c in checks)
    off = common.compare({"a": 1.2, "c": 3.0}, expected)
    assert [c.ok for c in off] == [False, False, False]
    assert math.isnan(off[1].value) and math.isnan(off[2].expected)
    assert not dataclasses.replace(checks[0], value=math.nan).ok


def test_a_section_replaces_itself_and_nothing_else(experiment, tmp_path):
    common = experiment("common")
    page = tmp_path / "page.md"
    for text in ("what was \\1 {x}", "what is"):
        common.write_page(page, common.Section("titanic", {}, text, {}))
    first = page.read_text()
    assert (
        "what is\n<!-- end titanic" in first
        and "what was" not in first
        and "<!-- begin simulation -->" in first
    )
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no marks <!-- begin titanic -->"):
        common.write_page(page, common.Section("titanic", {}, "x", {}))


def test_an_unknown_experiment_is_refused():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "mnist"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "invalid choice: 'mnist'" in done.stderr
