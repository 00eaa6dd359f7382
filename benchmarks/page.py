"""The figures as lines of a terminal, and as docs/benchmarks.md with its picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.measure import NEAR, ROOT, Figures, Slope, Taken, short

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "_static" / "benchmarks_growth.png"
WIDTHS = (58, 9, 9, 7, 40, 9, 8, 7)
HEADS = ("job", "ours", "floor", "x floor", "peer", "peer", "x ours", "MB")
UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))

INTRO = """---
html_theme.sidebar_secondary.remove: true
---

# Benchmarks

<!-- made by `python -m benchmarks --page` from the figures in benchmarks/; not to be edited -->

Every job runs in a process of its own, on one thread unless it says otherwise. After a first run,
Gatewise, the floor and the peers take turns, so that all meet the same machine. A figure is the
median of up to five rounds, in CPU seconds of the process; a ratio is the median of the rounds'
ratios. *MB* is how far the resident memory rises above what it was before one run, the answer
included.

The floor is what an implementation cannot do without: the multiplications at the rate this machine
multiplies matrices, the bytes at the rate it copies them, or a forward pass over the same rows.
*× floor* says how often ours takes that long; *× ours* how often a peer takes as long as ours, so
that a number below 1 is a peer that is faster. A star marks a peer that did a part of the job and
was scaled up. Answers are checked as well; a wrong one would stand in its line in place of figures.

`make bench` makes the figures and this page again, in a quarter of an hour or so. How they came
about, what else was measured and what was tried is in the lab book, `benchmarks/RESULTS.md`.
"""

GROWTH = f"""## How the cost grows

The slope of log cost against log size, by least squares, with its standard error. It holds when it
is within {NEAR} of what is expected.
"""

SEEN = (
    "![Cost against size, measured and expected, both logarithmic](_static/benchmarks_growth.png)"
)


# ---------------------------------------------------------------- figures of JSON


def figures_of(row: dict) -> Figures:
    """The dataclass again."""
    parts = {k: row[k] and Taken(**row[k]) for k in ("ours", "floor") if k in row}
    peers = [Taken(**p) for p in row.get("peers", ())]
    return Figures(**(row | parts | {"peers": peers}))


def slopes_of(row: dict) -> Slope:
    return Slope(**row)


# ---------------------------------------------------------------- cells


def seconds(value: float | None) -> str:
    """Three digits with a unit: 12.3 ms."""
    if value is None:
        return ""
    size, unit = next((u for u in UNITS if value >= u[0]), UNITS[-1])
    return f"{value / size:.3g} {unit}" if value < 100 else f"{value:,.0f} s"


def times(value: float | None) -> str:
    """A ratio of three digits at most, in full."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def cells(found: Figures) -> list[list[str]]:
    """A row, and one more for each further peer: as HEADS, the floor as time."""
    if found.failed:
        return [[found.name, "", "", "", found.failed, "", "", ""]]
    floor, clock = found.floor, found.clock
    mine = [found.name, seconds(getattr(found.ours, clock))]
    mine += [seconds(floor and getattr(floor, clock)), times(floor and floor.ratio)]
    peers = [peer(p, clock) for p in found.peers] or [["", "", ""]]
    rows = [[*mine, *peers[0], "" if found.MB is None else f"{found.MB:,.0f}"]]
    return rows + [["", "", "", "", *more, ""] for more in peers[1:]]


def peer(taken: Taken, clock: str) -> list[str]:
    """Who, seconds, and times ours."""
    if taken.failed:
        return [f"{taken.who}: {taken.failed}", "", ""]
    star = "*" if taken.scaled else ""
    return [taken.who, seconds(getattr(taken, clock)) + star, times(taken.ratio)]


def slope_cells(found: Slope) -> list[str]:
    """Name, sizes, slope with error, expected, why, whether it holds."""
    if found.failed or found.slope is None:
        return [found.name, "", found.failed or "", f"{found.expected:g}", found.why, ""]
    sizes = f"{found.size}, {found.at[0]:,.0f} to {found.at[-1]:,.0f}"
    error = "" if found.error is None else f" ± {found.error:.2f}"
    verdict = "holds" if found.holds else "does not hold"
    return [
        found.name,
        sizes,
        f"{found.slope:.2f}{error}",
        f"{found.expected:g}",
        found.why,
        verdict,
    ]


# ---------------------------------------------------------------- the terminal


def heading(about: dict) -> str:
    """The machine in a line, and the heads of the table."""
    row = padded(HEADS)
    return f"{named(about)}\n{row}\n{'-' * len(row)}"


def padded(row: Sequence[str]) -> str:
    return " ".join(
        f"{text:<{w}}" if i in (0, 4) else f"{text:>{w}}"
        for i, (text, w) in enumerate(zip(row, WIDTHS, strict=True))
    ).rstrip()


def lines(found: Figures) -> list[str]:
    return [padded(row) for row in cells(found)]


def slope_line(found: Slope) -> str:
    name, sizes, slope, expected, why, verdict = slope_cells(found)
    return f"{name}: slope {slope}, expected {expected} ({why}): {verdict}; {sizes}"


# ---------------------------------------------------------------- the page


def named(about: dict) -> str:
    """The machine in a sentence."""
    libraries = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    blas = ", ".join(f"{v} ({k})" for k, v in about["blas"].items())
    gpu = f", {about['gpu']}" if about["gpu"] else ""
    load = f"load {about['load_before']:.1f}"
    if "load_after" in about:
        load += f" before and {about['load_after']:.1f} after"
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory_GB']:.0f} GB{gpu}; {libraries}; "
        f"{blas}; one thread multiplies at {about['gflops_float64']:.0f} GFLOP/s in float64 and "
        f"{about['gflops_float32']:.0f} in float32 and copies {about['copy_GB_s']:.0f} GB/s; "
        f"{about['date']}, {load}; {about['size']} sizes."
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; numbers to the right."""
    words = ("job", "peer", "cost", "sizes", "expected", "")
    rule = ["---" if h in words else "---:" for h in heads]
    body = [[cell(c) for c in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in ([*heads], rule, *body))


def cell(text: str) -> str:
    """Nothing in it is Markdown but a link; a number and its unit stay together."""
    for mark in "|*_<>":
        text = text.replace(mark, f"\\{mark}") if "](" not in text else text
    return re.sub(r"(?<=\d) (?=(s|ms|µs)\b)", "\N{NO-BREAK SPACE}", text)


def section(file: str, found: Sequence[Figures]) -> str:
    """The table of one file."""
    heads = ["job", "ours", "floor", "× floor", "peer", "× ours", "MB"]
    rows = []
    for one in found:
        first, *more = cells(one)
        first[0] = linked(one) + (f" ({one.note})" if one.note else "")
        rows += [[*r[:4], joined(r[4], r[5]), *r[6:]] for r in (first, *more)]
    floors = list(dict.fromkeys(f.floor.who for f in found if f.floor))
    under = f"\n\nFloors: {'; '.join(floors)}." if floors else ""
    return f"### {file}\n\n{first_line(file)}\n\n{table(heads, rows)}{under}"


def joined(who: str, time: str) -> str:
    return f"{who}: {time}" if time else who


def linked(found: Figures | Slope) -> str:
    """The name, as a link to the file that makes it."""
    return f"[{found.name}](../benchmarks/{found.file}.py)"


def growth_row(found: Slope) -> list[str]:
    _, sizes, slope, expected, why, verdict = slope_cells(found)
    return [linked(found), sizes, slope, f"{expected}: {why}", verdict]


def first_line(file: str) -> str:
    """What the file says it is."""
    text = (ROOT / "benchmarks" / f"{file}.py").read_text()
    return text.partition('"""')[2].partition("\n")[0].strip()


def page(results: Sequence[Path]) -> str:
    """The whole page; a part for each machine."""
    parts = [INTRO]
    for number, path in enumerate(results):
        held = json.loads(path.read_text())
        found = [figures_of(row) for row in held["jobs"]]
        parts.append(f"## {held['machine']['gpu'] or 'Jobs'}\n\n{named(held['machine'])}\n")
        parts += [
            section(file, list(group)) + "\n" for file, group in groupby(found, lambda f: f.file)
        ]
        slopes = [slopes_of(row) for row in held["growth"]]
        if slopes:
            heads = ["cost", "sizes", "slope", "expected", ""]
            rows = [growth_row(s) for s in slopes]
            picture = f"{SEEN}\n\n" if not number else ""
            parts.append(f"{GROWTH}\n{picture}{table(heads, rows)}\n")
    return "\n".join(parts)


def results() -> list[Path]:
    """benchmarks/results.json first, then those of other machines."""
    return sorted((ROOT / "benchmarks").glob("results*.json"), key=lambda p: (len(p.stem), p.stem))


def write_page() -> str:
    """Page and picture; says where they are."""
    found = results()
    PAGE.write_text(page(found))
    picture(json.loads(found[0].read_text()))
    return f"{PAGE}\n{PICTURE}"


def picture(held: dict) -> None:
    """A small panel a curve: what was measured, and a line of the expected slope through it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = [s for s in map(slopes_of, held["growth"]) if s.slope is not None]
    across = 4
    down = -(-len(curves) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.1 * across, 2.7 * down), squeeze=False)
    for ax in axes.flat[len(curves) :]:
        ax.axis("off")
    for ax, curve in zip(axes.flat, curves, strict=False):
        panel(ax, curve)
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)


def panel(ax, curve: Slope) -> None:
    """Points, and the dashed line of the expected slope through their middle."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    at, cost = np.array(curve.at), np.array(curve.cost)
    middle = np.exp(np.log(cost).mean() - curve.expected * np.log(at).mean())
    ax.loglog(at, middle * at**curve.expected, "--", color="0.6")
    ax.loglog(at, cost, "o-", color="C0" if curve.holds else "C3", ms=4)
    low, high = ax.get_ylim()
    if high / low < 10:  # so that noise does not look like growth
        ax.set_ylim((low * high) ** 0.5 / 10**0.5, (low * high) ** 0.5 * 10**0.5)
    words = seconds if curve.unit == "s" else lambda v: f"{v:g} {curve.unit}"
    ax.xaxis.set(major_locator=FixedLocator(at), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v).replace(" ", "")))
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: words(v)))
    ax.set_title(f"{curve.name}\nslope {curve.slope:.2f}, expected {curve.expected:g}", fontsize=9)
    ax.set_xlabel(curve.size, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.25)
