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
    from benchmarks.measure import BUDGET

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGET, "quick", 0.1)  # seconds of a job's rounds
        yield
    sys.path.remove(str(shared.ROOT))


@pytest.fixture
def one_thread():
    """A job sets torch's threads for its process, which here is everyone's."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def job(run, *peers, name="sums", **more):
    """A job beside itself as its floor."""
    from benchmarks.measure import Job, Setup, Way

    setup = Setup(Way("gatewise", run), [Way("itself", run)], [Way(*p) for p in peers], **more)
    return Job(name, lambda: setup, repeat=3)


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

    chosen = jobs_of("linear", "quick")[0]  # collapse, 128 x 20
    row = child("job", "linear", chosen.name, 1, "quick")
    assert row["failed"] is None and row["took"] > row["ours"]["wall"]
    assert row["note"].startswith("error ") and row["process"] > 0


@pytest.fixture
def sums(monkeypatch, one_thread):
    """The command with two jobs and a curve that take no time, in this process."""
    from benchmarks import __main__ as command
    from benchmarks.measure import Curve, Job, Setup, fitted, measured

    made = {"first": job(busy, ("twice", busy, 2.0)), "second": Job("second", lambda: Setup(None))}
    grows = {"make": lambda n: lambda: n**2, "expected": 2.0, "why": "squares", "measure": "value"}
    curve = Curve("squares", "rows N", (1, 2, 3), **grows)

    def here(kind, file, name, threads, size):
        found = fitted(file, curve, size) if kind == "curve" else measured(file, made[name], size)
        return json.loads(json.dumps(asdict(found) | {"name": name}))

    jobs = [Job(name, held.build) for name, held in made.items()]
    monkeypatch.setattr(command, "child", here)
    monkeypatch.setattr(command, "jobs_of", lambda file, size: jobs)
    monkeypatch.setattr(command, "curves_of", lambda file, size: [curve])
    monkeypatch.setattr("benchmarks.machine.rate", lambda way, work: 1e9)
    return command


def test_the_command_writes_its_figures(tmp_path, sums, capsys):
    out = tmp_path / "figures.json"
    assert sums.main(["--quick", "--only", "census", "--out", str(out)]) == 1  # the second fails
    held = json.loads(out.read_text())
    first, second = held["jobs"]
    positive(first)
    assert second["failed"].startswith("AttributeError")
    assert held["growth"][0]["slope"] == pytest.approx(2)
    assert first["name"] in capsys.readouterr().out
    for key in ("cpu", "cores", "blas", "versions", "date", "load_before", "load_after", "minutes"):
        assert held["machine"][key] is not None


def test_figures_and_page_are_written_together_and_what_is_missing_has_its_line(
    tmp_path, sums, monkeypatch
):
    from benchmarks import page

    for name, file in (("RESULTS", "results.json"), ("PAGE", "b.md"), ("PICTURE", "b.png")):
        monkeypatch.setattr(page, name, tmp_path / file)
    monkeypatch.setattr(sums, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(sums, "names", lambda: ["census"])
    run, done = sums.child, []

    def stopped(*about):
        done.append(about)
        if len(done) == 2:
            raise KeyboardInterrupt
        return run(*about)

    monkeypatch.setattr(sums, "child", stopped)
    with pytest.raises(KeyboardInterrupt):
        sums.main(["--quick"])
    text = (tmp_path / "b.md").read_text()
    assert text == page.page(page.results()) and (tmp_path / "b.png").exists()
    assert text.count("not measured: the run ended before it") == 2
    positive(json.loads((tmp_path / "results.json").read_text())["jobs"][0])


def test_a_file_that_does_not_load_is_a_line(monkeypatch):
    from benchmarks import __main__ as command

    def absent(file, size):
        raise ModuleNotFoundError("No module named 'highspy'")

    monkeypatch.setattr(command, "jobs_of", absent)
    (line,) = command.asked_for(["facets"], "default")
    assert line.failed == "ModuleNotFoundError: No module named 'highspy'"


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

    x, y = np.random.default_rng(0).normal(size=(2, 7))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert line(x, y) == pytest.approx((slope, covariance[0, 0] ** 0.5))


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


def test_a_slope_holds_that_is_near_or_within_two_errors():
    from benchmarks.measure import Slope
    from benchmarks.page import slope_cells

    def verdict(slope, error):
        found = Slope("f", "n", "rows N", 1.0, "why", at=[1, 2], slope=slope, error=error)
        return slope_cells(found)[5]

    assert verdict(1.14, 0.01) == verdict(0.86, None) == "holds"
    assert verdict(1.29, 0.15) == verdict(0.71, 0.15) == "holds, by its error"
    assert verdict(1.31, 0.15) == verdict(0.69, 0.15) == verdict(1.16, None) == "does not hold"


def test_sizes_outside_the_fit_are_measured_and_told_apart(one_thread):
    from benchmarks.measure import Curve, fitted
    from benchmarks.page import slope_line

    made = {"make": lambda n: lambda: max(n, 10) ** 2, "expected": 2.0, "why": "a sum"}
    more = {"beyond": (1, 5), "aside": "below 10 nothing grows"}
    found = fitted("t", Curve("c", "N", (10, 20, 40), measure="value", **made, **more), "quick")
    assert found.at == [10, 20, 40] and found.beyond_at == [1, 5]
    assert found.slope == pytest.approx(2) and 0 < found.wide < 1.5 and found.holds
    words = f"of all sizes {found.wide:.2f}, 1 to 40 (below 10 nothing grows)"
    assert words in slope_line(found)


# ---------------------------------------------------------------- the page


def test_the_page_is_made_of_the_figures():
    from benchmarks.page import PAGE, PICTURE, page, results

    assert PAGE.read_text() == page(results()), "make it again: python -m benchmarks --page"
    assert PICTURE.exists()


def test_a_figure_that_changes_changes_the_page():
    from benchmarks.page import page, plain, results

    held = results()[:1]
    before = page(held)
    row = next(r for r in held[0]["jobs"] if r["failed"] is None)
    row["ours"]["cpu"] = row["ours"]["wall"] = 99.25
    large = "99.2\N{NO-BREAK SPACE}s"
    assert large in page(held) and large not in before
    assert f"[{plain(row['name'])}](../benchmarks/{row['file']}.py)" in page(held)


def test_nothing_in_a_name_is_markdown(one_thread):
    from benchmarks.measure import Slope, measured
    from benchmarks.page import growth_row, section
    from markdown_it import MarkdownIt

    hostile = "a|b ](x) **c** <script>d</script> `e` _f_ ![g](h) {i}`j` $k$ &amp; \\"

    def broken():
        raise ValueError(hostile)

    failed = measured("census", job(broken, name=hostile), "quick")
    found = measured("census", job(busy, (hostile, busy), check=lambda _: hostile), "quick")
    found.headline = hostile
    slope = Slope("census", hostile, hostile, 1.0, hostile, failed=hostile)
    text = section("census", [failed, found])
    text += "\n\n| a | b | c | d | e | f |\n|-|-|-|-|-|-|\n| " + " | ".join(growth_row(slope))
    seen = MarkdownIt("commonmark").enable("table").parse(text)
    spans = [s for token in seen for s in token.children or ()]
    kinds = {s.type for s in spans} - {"text", "text_special", "link_open", "link_close"}
    assert not kinds and not {t.type for t in seen} & {"html_block", "fence", "code_block"}
    links = [s.attrs["href"] for s in spans if s.type == "link_open"]
    assert {*links} == {"../benchmarks/census.py"} and len(links) == 3
    cells = ["".join(s.content for s in t.children) for t in seen if t.children]
    assert hostile in cells and f"sums ({hostile})" in cells


def test_numbers_are_readable():
    from benchmarks.measure import short
    from benchmarks.page import seconds, times

    given = (None, 0.0000123, 0.0123, 1.234, 123.4, 12345.6)
    assert [seconds(v) for v in given] == ["", "12.3 µs", "12.3 ms", "1.23 s", "123 s", "12,346 s"]
    assert [times(v) for v in (None, 0.0123, 0.52, 1.5, 36999)] == [
        "", "0.012", "0.52", "1.5", "36,999",
    ]  # fmt: skip
    assert [short(v) for v in (3.0, 4500, 2.3e9, 7e15)] == ["3 ", "4.5 k", "2.3 G", "7e+03 T"]
