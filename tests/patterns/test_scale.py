"""The plan past these machines: its arithmetic is what its simulation does."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

import shared

sys.path.insert(0, str(shared.ROOT))  # the benchmarks are not installed
from benchmarks import plan
from benchmarks.planning import growth, model, page, simulation
from benchmarks.planning.model import Cluster, Growth, Job, Rates

RATES = Rates(
    read=1.2e-7,
    decide=5e-7,
    group=1e-7,
    spill=2e-7,
    merge=1e-7,
    final=3e-7,
    ids=1e-7,
    row_bytes=160,
    pattern_bytes=32,
    id_bytes=8,
    disk=8e8,
    start=2.0,
)
GROWTHS = Growth("saturated", kinds=1e6), Growth("Heaps", 3.0, 0.8), Growth("all different")
CALM = {"sigma": 0.0, "deaths": 0.0}


def job(rows=1e9, growth=GROWTHS[2], machines=8, rates=RATES, **cluster) -> Job:
    return Job(rows, growth, rates, Cluster(machines, cores=4, **cluster))


# ------------------------------------------------------------------------------- the two agree


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda g: g.name)
@pytest.mark.parametrize(("rows", "machines"), [(3e8, 1), (3e9, 8), (1e10, 50), (1e9, 300)])
def test_the_closed_form_is_the_mean_of_the_simulation(rows, machines, growth):
    """With stragglers, and deaths ten times as often as planned."""
    asked = job(rows, growth, machines, deaths=10 / 86_400)
    seen = [simulation.simulate(asked, seed) for seed in range(7)]
    for tree in (True, False):
        totals = [s[tree].total for s in seen]
        error = np.std(totals) / len(totals) ** 0.5
        gap = abs(model.stages(asked, tree)["total"] - np.mean(totals))
        assert gap < plan.TOLERANCE * np.mean(totals) + 3 * error


def test_the_comparison_can_fail():
    """A network a quarter as quick, told to the simulation alone, is noticed."""
    asked = job(1e9, machines=16, **CALM)
    slower = replace(asked, cluster=replace(asked.cluster, net=asked.cluster.net / 4))
    for tree in (True, False):
        seen = simulation.simulate(slower, 0)[tree].total
        assert abs(model.stages(asked, tree)["total"] / seen - 1) > plan.TOLERANCE


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda g: g.name)
def test_without_luck_they_agree_to_the_second(growth):
    """Powers of two: as many pieces for everyone, every stage at its mean."""
    calm = job(2**7 * 2**18, growth, 8, largest=2**18, dispatch=1e-9, **CALM)
    for tree in (True, False):
        seen, said = simulation.simulate(calm)[tree], model.stages(calm, tree)
        assert seen.map == pytest.approx(said["map"], abs=1e-5)
        assert seen.own_runs - seen.map == pytest.approx(said["own runs"], abs=1e-5)
        assert seen.reduction - seen.own_runs == pytest.approx(said["reduction"], abs=1e-5)
        assert seen.total == pytest.approx(said["total"], abs=1e-4)


# ------------------------------------------------------------------------------- by hand


def test_a_census_small_enough_for_pen_and_paper():
    """Two machines of one core, four pieces of a second, networks of a pattern a second."""
    rates = Rates(1, 0, 0, 0, merge=0.5, final=0, ids=0, row_bytes=0, pattern_bytes=1, id_bytes=0,
                  disk=math.inf, start=0)  # fmt: skip
    cluster = Cluster(2, 1, net=1.0, message=0, dispatch=0, smallest=1, largest=1, **CALM)
    asked = Job(4, GROWTHS[2], rates, cluster)
    found = simulation.simulate(asked)
    # map 2 s; own runs: 2 patterns each, 1 s; tree: 2 s to send, 4 * .5 s to merge
    assert (found[True].map, found[True].own_runs, found[True].reduction) == (2, 3, 7)
    # ranges: one pattern each way at once, 1 s; each merges two, 1 s
    assert found[False].reduction == 5
    assert model.reduced(asked, tree=True) == 4
    assert model.reduced(asked, tree=False) == 2


def test_a_piece_that_dies_is_done_again_and_none_twice(monkeypatch):
    """One core, three pieces of a second; its machine dies at 1.5 and is back at 11.5."""
    deaths = iter([1.5, math.inf])
    monkeypatch.setattr(simulation._Deaths, "after", lambda self, machine, time: self.next[machine])
    monkeypatch.setattr(
        simulation._Deaths, "__init__", lambda self, job, rng: setattr(self, "next", Next(deaths))
    )
    rates = replace(RATES, read=1, decide=0, group=0, spill=0, row_bytes=0, id_bytes=0, start=0)
    cluster = Cluster(1, 1, dispatch=0, smallest=1, largest=1, restart=10, **CALM)
    alone = Job(3, Growth("one", kinds=1e-9), rates, cluster)
    done, count, lost = simulation._map(alone, np.random.default_rng(0))
    assert (done[0], count[0], lost) == (13.5, 3, 1)


class Next:
    """The next death, until it has happened."""

    def __init__(self, deaths):
        self.deaths, self.asked = list(deaths), 0

    def __getitem__(self, machine):
        self.asked += 1
        return self.deaths[0] if self.asked <= 2 else self.deaths[1]


# ------------------------------------------------------------------------------- its parts


def test_waiting_times_are_those_of_drawn_ones():
    rng = np.random.default_rng(0)
    factors = np.exp(0.3 * rng.standard_normal((4000, 100)) - 0.045)
    assert model.slowest(100, 0.3) == pytest.approx(factors.max(1).mean(), rel=0.02)
    # the residual time of a renewal process, long after its start, the last of 50
    ends = factors.cumsum(1)[:, 60]
    left = np.where(factors.cumsum(1) > 40, factors.cumsum(1), np.inf).min(1) - 40
    assert ends.min() > 40
    last = left[: 4000 // 50 * 50].reshape(-1, 50).max(1).mean()
    assert model.last_residual(50, 0.3) == pytest.approx(last, rel=0.05)


def test_work_that_begins_again_takes_what_the_formula_says():
    cluster = Cluster(1, deaths=0.5, restart=0.1)
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(20_000):
        while (alive := rng.exponential(2.0)) < 3.0:
            total += alive + 0.1
        total += 3.0
    assert model.retried(3.0, cluster) == pytest.approx(total / 20_000, rel=0.03)
    seen = simulation._work(job(machines=1, deaths=0.01, sigma=0.0), [500.0] * 4000, rng).mean()
    assert model.retried(500.0, Cluster(1, deaths=0.01), model.PARTS) == pytest.approx(
        seen, rel=0.03
    )


def test_distinct_patterns_are_counted_as_they_come():
    rng = np.random.default_rng(0)
    drawn = [len(set(rng.integers(50, size=80).tolist())) for _ in range(3000)]
    assert Growth("saturated", kinds=50)(80) == pytest.approx(np.mean(drawn), rel=0.02)
    ids = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    orders = [rng.permutation(ids) for _ in range(4000)]
    expected = [np.mean([len(set(o[:n].tolist())) for o in orders]) for n in (1, 3, 8)]
    found = growth.curve(np.repeat(ids, 1), np.array([1, 3, 8]))
    assert found == pytest.approx(expected, abs=0.35)  # the mean of 20 orders
    assert found[0] == 1
    assert found[2] == 4
    n = np.array([10, 100, 1000])
    assert growth.fitted(n, 3 * n**0.7) == pytest.approx((3, 0.7))
    assert Growth("Heaps", 3, 0.7)(2) == 2  # no more patterns than rows


# ------------------------------------------------------------------------------- the page


def test_the_page_is_that_of_the_figures(monkeypatch, tmp_path):
    """docs/explanation/scale.md says what plan.json holds, and its figures agree."""
    found = json.loads(plan.RESULTS.read_text())
    written = page.PAGE.read_text()
    monkeypatch.setattr(page, "PAGE", tmp_path / "scale.md")
    monkeypatch.setattr(page, "picture", lambda found: None)
    assert page.write(found).read_text() == written
    assert found["agreement"]["largest"] < plan.TOLERANCE
    assert {(p["rows"], p["machines"]) for p in found["plan"]} == {
        (n, m) for n in plan.ROWS for m in plan.MACHINES
    }
    assert [page.seconds(t) for t in (0.5, 80, 7200, 1e6)] == [
        "0.5 s",
        "80 s",
        "2.0 h",
        "11.6 days",
    ]
    assert (page.size(1.6e11), page.ten(1e9), page.ten(2.5e10)) == ("160 GB", "10⁹", "2.5 · 10¹⁰")
