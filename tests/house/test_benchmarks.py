"""Every benchmark has jobs that run, their figures are finite, and the page is made of them."""

from __future__ import annotations

import ast
import json
import math
import sys
from dataclasses import asdict

import pytest

import shared

HERE = shared.ROOT / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def root():
    """`benchmarks` lies beside `src`, and is not installed."""
    sys.path.insert(0, str(shared.ROOT))
    yield
    sys.path.remove(str(shared.ROOT))


@pytest.fixture
def one_thread():
    """A job sets torch's threads for its process, which here is everyone's."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def job(run, *peers, **more):
    """A job beside itself as its floor."""
    from benchmarks.measure import Job, Setup, Way

    setup = Setup(Way("gatewise", run), [Way("itself", run)], [Way(*p) for p in peers], **more)
    return Job("sums", lambda: setup, repeat=3)


def busy(times: int = 20_000) -> float:
    return sum(math.sqrt(i) for i in range(times))


def positive(row: dict) -> None:
    """Seconds and ratios are numbers above 0."""
    assert row["failed"] is None, row
    ways = [row["ours"], row["floor"], *row["peers"]]
    numbers = [way[clock] for way in ways for clock in ("cpu", "wall")]
    numbers += [way["ratio"] for way in ways[1:]]
    assert all(math.isfinite(v) and v > 0 for v in numbers), row
    assert row["rounds"] >= 1 and row["MB"] >= 0


# ---------------------------------------------------------------- nothing is forgotten


def functions(file) -> set[str]:
    """Names of the functions at the top of a file."""
    return {n.name for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)}


def test_every_file_has_jobs():
    from benchmarks.__main__ import OTHER, SHARED, names

    without = {p.stem for p in HERE.glob("*.py") if "jobs" not in functions(p)}
    assert without <= {*SHARED, *OTHER}, "a benchmark needs jobs(size): see measure.py"
    assert len(names()) > 10 and not {*names()} & {*SHARED, *OTHER}


def test_jobs_and_costs_have_names_of_their_own_and_costs_say_what_is_expected():
    from benchmarks.__main__ import curves_of, jobs_of

    files = ("census", "regions", "explain", "stored")  # whose imports are light
    for file in files:
        for size in ("quick", "default", "full"):
            found = [job.name for job in jobs_of(file, size)]
            assert found and len({*found}) == len(found)
    curves = [c for file in files for c in curves_of(file, "default")]
    assert len({c.name for c in curves}) == len(curves) > 7
    for curve in curves:
        assert len(curve.sizes) >= 3 and curve.why


# ---------------------------------------------------------------- jobs really run


def test_a_small_job_runs_in_a_process_of_its_own():
    from benchmarks.__main__ import child, jobs_of

    chosen = jobs_of("census", "quick")[3]  # 30-40-40-1, float64
    row = child("job", "census", chosen.name, 1, "quick")
    positive(row)
    assert row["note"].startswith("10,000 patterns") and row["process"] > 0


def test_a_small_job_runs_here_and_the_command_writes_its_figures(
    tmp_path, monkeypatch, capsys, one_thread
):
    from benchmarks import __main__ as command
    from benchmarks.measure import BUDGET, SIZES, measured

    def here(kind, file, name, threads, size):
        assert size in SIZES
        chosen = command.named(command.jobs_of(file, size), name)
        return json.loads(json.dumps(asdict(measured(file, chosen, size))))

    def second(file, size):
        return command_jobs(file, size)[2:3]  # 30-40-40-1, float32

    command_jobs = command.jobs_of
    monkeypatch.setattr("benchmarks.machine.rate", lambda way, work: 1e9)
    monkeypatch.setitem(BUDGET, "quick", 0.3)
    monkeypatch.setattr(command, "child", here)
    monkeypatch.setattr(command, "jobs_of", second)
    monkeypatch.setattr(command, "curves_of", lambda file, size: [])
    out = tmp_path / "figures.json"
    assert command.main(["--quick", "--only", "census", "--out", str(out)]) == 0
    held = json.loads(out.read_text())
    (row,) = held["jobs"]
    positive(row)
    assert row["name"] in capsys.readouterr().out
    for key in ("cpu", "cores", "blas", "versions", "date", "load_before", "load_after"):
        assert held["machine"][key] is not None


def test_peers_that_fail_are_lines_and_a_wrong_answer_has_no_figures(one_thread):
    from benchmarks.measure import Unavailable, measured
    from benchmarks.page import lines

    def missing():
        import no_such_package  # noqa: F401

    def broken():
        raise ValueError("two rows\nare one too many")

    peers = ("half of it", busy, 2.0), ("absent", missing), ("broken", broken)
    found = measured("tests", job(busy, *peers), "quick")
    assert [p.failed for p in found.peers] == [
        None,
        "ModuleNotFoundError: No module named 'no_such_package'",
        "ValueError: two rows",
    ]
    assert found.peers[0].scaled and found.peers[0].ratio > found.floor.ratio / 2
    assert len(lines(found)) == 3 and "ValueError: two rows" in lines(found)[2]

    def wrong(answer):
        raise AssertionError(f"{answer:.0f} is wrong")

    found = measured("tests", job(busy, check=wrong), "quick")
    assert found.ours is None and "is wrong" in lines(found)[0]

    def nowhere():
        raise Unavailable("no such device")

    assert measured("tests", job(nowhere), "quick").failed == "not here: no such device"


def test_a_process_that_dies_or_takes_too_long_is_a_line(monkeypatch):
    from benchmarks import __main__ as command

    asked = [sys.executable, "-c", "import os; os._exit(3)"]
    assert command.finished(asked, {}, 20)[0] == 3
    asked = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert command.finished(asked, {}, 0.2)[0] is None
    for code, words in ((None, "took longer than 300 s"), (-9, "its process ended with -9: sad")):
        monkeypatch.setattr(command, "finished", lambda *_, code=code: (code, "", "so\nsad\n"))
        assert command.child("job", "census", "x", 1, "quick")["failed"] == words


# ---------------------------------------------------------------- slopes


def test_a_slope_and_its_error_are_those_of_least_squares():
    import numpy as np
    from benchmarks.measure import line
    from scipy.stats import linregress

    x, y = np.random.default_rng(0).normal(size=(2, 7))
    want = linregress(x, y)
    assert line(x, y) == pytest.approx((want.slope, want.stderr))


def test_a_curve_finds_the_power_and_says_when_it_does_not_hold(one_thread):
    from benchmarks.measure import Curve, fitted
    from benchmarks.page import slope_line

    def curve(power: float, expected: float) -> Curve:
        made = {"make": lambda n: lambda: 3 * n**power, "expected": expected, "measure": "value"}
        return Curve("bytes", "rows N", (10, 20, 40), why="a sum", unit="MB", **made)

    found = fitted("tests", curve(2, 2), "quick")
    assert found.slope == pytest.approx(2) and found.error < 1e-6 and found.holds
    assert "slope 2.00 ± 0.00, expected 2 (a sum): holds; rows N, 10 to 40" in slope_line(found)
    found = fitted("tests", curve(1.2, 1), "quick")
    assert not found.holds and "does not hold" in slope_line(found)


# ---------------------------------------------------------------- the page


def test_the_page_is_made_of_the_figures():
    from benchmarks.page import PAGE, PICTURE, page, results

    found = results()
    assert found, "python -m benchmarks has never been run"
    assert PAGE.read_text() == page(found), "make it again: python -m benchmarks --page"
    assert PICTURE.exists()


def test_a_figure_that_changes_changes_the_page(tmp_path):
    from benchmarks.page import page, results

    held = json.loads(results()[0].read_text())
    row = next(r for r in held["jobs"] if r["failed"] is None)
    row["ours"]["cpu"] = row["ours"]["wall"] = 99.25
    other = tmp_path / "results.json"
    other.write_text(json.dumps(held))
    large = "99.2\N{NO-BREAK SPACE}s"
    assert large in page([other]) and large not in page(results()[:1])
    assert f"[{row['name']}](../benchmarks/{row['file']}.py)" in page([other])


def test_numbers_are_readable():
    from benchmarks.measure import short
    from benchmarks.page import seconds, times

    given = (None, 0.0000123, 0.0123, 1.234, 123.4, 12345.6)
    assert [seconds(v) for v in given] == ["", "12.3 µs", "12.3 ms", "1.23 s", "123 s", "12,346 s"]
    assert [times(v) for v in (None, 0.0123, 0.52, 1.5, 36999)] == [
        "", "0.012", "0.52", "1.5", "36,999",
    ]  # fmt: skip
    assert [short(v) for v in (3.0, 4500, 2.3e9, 7e15)] == ["3 ", "4.5 k", "2.3 G", "7e+03 T"]
