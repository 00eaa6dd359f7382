"""The figures as lines of a terminal, and as docs/benchmarks.md with its picture."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.measure import ERRORS, NEAR, ROOT, Figures, Slope, Taken, short

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "_static" / "benchmarks_growth.png"
WIDTHS = (58, 9, 9, 7, 40, 9, 8, 7)
HEADS = ("job", "ours", "/ floor", "floor", "peer", "peer", "/ ours", "MB")
UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))

INTRO = """---
html_theme.sidebar_secondary.remove: true
---

# Benchmarks

<!-- made by `python -m benchmarks --page` from the figures in benchmarks/; not to be edited -->

Every job runs in a process of its own, on one thread unless it says otherwise. After a first run,
Gatewise, the floor and the peers take turns; a figure is the median of up to five rounds, in CPU
seconds of the process (by the clock where two threads or a GPU work), a ratio the median of the
rounds' ratios. *MB* (10⁶ bytes) is how far the resident memory rises during one run, the answer
included.

The floor is what an implementation cannot do without: multiplications at the rate this machine
multiplies matrices, bytes at the rate it copies them, or a forward pass over the same rows. In
*ours/floor* 1 is the best possible; in *peer/ours* a number below 1 is a peer that is faster. A
star marks a peer that did a part of the job and was scaled up. Answers are checked; a wrong one, or
a job that could not run, stands in its line with the reason.

`make bench` makes the figures and this page again in about ten minutes. What else was measured,
and what was tried, is in the lab book, `benchmarks/RESULTS.md`.
"""

GROWTH = f"""## How the cost grows

The slope of log cost against log size, by least squares, with its standard error. It *holds* when
it is within {NEAR} of what is expected, or within {ERRORS} standard errors. Most fits leave out
small sizes, where costs weigh that do not grow, chosen so after a look at the slopes: the last
column is the slope of every size measured, those left out included (hollow in the picture).
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
    mine += [times(floor and floor.ratio), seconds(floor and getattr(floor, clock))]
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
    """Name, sizes, slope with error, expected, why, whether it holds, slope of all sizes."""
    if found.failed or found.slope is None:
        reason = found.failed or "no slope"
        return [found.name, "", reason, f"{found.expected:g}", found.why, "not measured", ""]
    error = "" if found.error is None else f" ± {found.error:.2f}"
    verdict = "holds" if found.near else "holds, by its error" if found.holds else "does not hold"
    slope = f"{found.slope:.2f}{error}"
    sizes = f"{found.size}, {span(found.at)}"
    return [found.name, sizes, slope, f"{found.expected:g}", found.why, verdict, wider(found)]


def span(at: Sequence[float]) -> str:
    """From the least to the largest."""
    return f"{min(at):,.0f} to {max(at):,.0f}"


def wider(found: Slope) -> str:
    """The slope of all sizes, and why some are not in the fit."""
    if found.wide is None:
        return ""
    aside = f" ({found.aside})" if found.aside else ""
    return f"{found.wide:.2f}, {span([*found.at, *found.beyond_at])}{aside}"


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
    name, sizes, slope, expected, why, verdict, wide = slope_cells(found)
    if found.slope is None:
        return f"{name}: {slope}"
    every = f"; of all sizes {wide}" if wide else ""
    return f"{name}: slope {slope}, expected {expected} ({why}): {verdict}; {sizes}{every}"


# ---------------------------------------------------------------- the page


def named(about: dict) -> str:
    """The machine in a sentence."""
    libraries = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    blas = ", ".join(f"{v} ({k})" for k, v in about["blas"].items())
    gpu = f", {about['gpu']}" if about["gpu"] else ""
    load = f"load {about['load_before']:.1f}"
    if "load_after" in about:
        load += f" before and {about['load_after']:.1f} after, the run's own 1 included"
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['memory_GB']:.0f} GB{gpu}; {libraries}; "
        f"{blas}; one thread multiplies at {about['gflops_float64']:.0f} GFLOP/s in float64 and "
        f"{about['gflops_float32']:.0f} in float32 and copies {about['copy_GB_s']:.0f} GB/s; "
        f"{about['date']}, {load}; {about['size']} sizes"
        + (f", {about['minutes']:.1f} minutes." if "minutes" in about else ".")
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; numbers to the right. Cells are Markdown already."""
    words = ("job", "peer", "cost", "fitted on", "expected", "", "all sizes")
    rule = ["---" if h in words else "---:" for h in heads]
    return "\n".join("| " + " | ".join(row) + " |" for row in ([*heads], rule, *rows))


def plain(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line; a number keeps its unit."""
    text = re.sub(r"([\\`*_{}\[\]<>|$~#&])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<=\d) (?=(s|ms|µs)\b)", "\N{NO-BREAK SPACE}", text)


def section(file: str, found: Sequence[Figures]) -> str:
    """The table of one file."""
    heads = ["job", "ours", "ours/floor", "floor", "peer", "peer/ours", "MB"]
    rows = []
    for one in found:
        for k, r in enumerate(cells(one)):
            name = "" if k else linked(one) + (" " + plain(f"({one.note})") if one.note else "")
            rows.append([name, *map(plain, (*r[1:4], joined(r[4], r[5]), *r[6:]))])
    floors = list(dict.fromkeys(f.floor.who for f in found if f.floor))
    under = f"\n\nFloors: {plain('; '.join(floors))}." if floors else ""
    return f"### {file}\n\n{plain(first_line(file))}\n\n{table(heads, rows)}{under}"


def joined(who: str, time: str) -> str:
    return f"{who}: {time}" if time else who


def linked(found: Figures | Slope) -> str:
    """The name, as a link to the file that makes it."""
    return f"[{plain(found.name)}](../benchmarks/{found.file}.py)"


def growth_row(found: Slope) -> list[str]:
    _, sizes, slope, expected, why, verdict, wide = slope_cells(found)
    return [linked(found), *map(plain, (sizes, slope, f"{expected}: {why}", verdict, wide))]


def first_line(file: str) -> str:
    """What the file says it is."""
    path = ROOT / "benchmarks" / f"{file}.py"
    text = path.read_text() if path.exists() else ""
    return text.partition('"""')[2].partition("\n")[0].strip()


def headlines(found: Sequence[Figures]) -> str:
    """The rates that a reader looks for first."""
    return "".join(
        f"- **{1 / f.floor.ratio:.2f} {plain(f.headline)}**: {linked(f)}\n"
        for f in found
        if f.headline and f.floor and f.floor.ratio
    )


def page(held: Sequence[dict]) -> str:
    """The whole page; a part for each machine."""
    parts = [INTRO]
    for number, one in enumerate(held):
        found = [figures_of(row) for row in one["jobs"]]
        parts.append(
            f"## {plain(one['machine']['gpu'] or 'Jobs')}\n\n{plain(named(one['machine']))}\n"
        )
        parts += filter(None, [headlines(found)])
        parts += [
            section(file, list(group)) + "\n" for file, group in groupby(found, lambda f: f.file)
        ]
        slopes = [slopes_of(row) for row in one["growth"]]
        if slopes:
            heads = ["cost", "fitted on", "slope", "expected", "", "all sizes"]
            rows = [growth_row(s) for s in slopes]
            seen = f"{SEEN}\n\n" if not number else ""
            parts.append(f"{GROWTH}\n{seen}{table(heads, rows)}\n")
    return "\n".join(parts)


def results(first: str | None = None) -> list[dict]:
    """benchmarks/results.json, or its text as it is about to be, and those of other machines."""
    others = sorted(p for p in RESULTS.parent.glob("results*.json") if p != RESULTS)
    texts = [first or RESULTS.read_text(), *(p.read_text() for p in others)]
    return [json.loads(text) for text in texts]


def write_page(first: str | None = None) -> str:
    """Page and picture, with results.json where its text is given; says where they are."""
    held = results(first)
    text, seen = page(held).encode(), picture(held[0])
    whole(PICTURE, seen)
    if first is not None:
        whole(RESULTS, first.encode())
    whole(PAGE, text)
    return f"{PAGE}\n{PICTURE}"


def whole(path: Path, data: bytes) -> None:
    """The file is the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(data)
    beside.replace(path)


def picture(held: dict) -> bytes:
    """PNG: a small panel a curve: what was measured, a line of the expected slope through it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = [s for s in map(slopes_of, held["growth"]) if s.slope is not None]
    across = 4
    down = max(1, -(-len(curves) // across))
    figure, axes = plt.subplots(down, across, figsize=(3.1 * across, 2.7 * down), squeeze=False)
    for ax in axes.flat[len(curves) :]:
        ax.axis("off")
    for ax, curve in zip(axes.flat, curves, strict=False):
        panel(ax, curve)
    figure.tight_layout()
    seen = io.BytesIO()
    figure.savefig(seen, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return seen.getvalue()


def panel(ax, curve: Slope) -> None:
    """Points, and the dashed line of the expected slope through their middle."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    at, cost = np.array(curve.at), np.array(curve.cost)
    middle = np.exp(np.log(cost).mean() - curve.expected * np.log(at).mean())
    color = "C0" if curve.holds else "C3"
    ends = np.array([min([*at, *curve.beyond_at]), max([*at, *curve.beyond_at])])
    ax.loglog(ends, middle * ends**curve.expected, "--", color="0.6")
    ax.loglog(at, cost, "o-", color=color, ms=4)
    ax.loglog(curve.beyond_at, curve.beyond_cost, "o", color=color, mfc="white", ms=4)
    low, high = ax.get_ylim()
    if high / low < 10:  # so that noise does not look like growth
        ax.set_ylim((low * high) ** 0.5 / 10**0.5, (low * high) ** 0.5 * 10**0.5)
    words = seconds if curve.unit == "s" else lambda v: f"{v:g} {curve.unit}"
    places = FixedLocator(ticks([*at, *curve.beyond_at]))
    ax.xaxis.set(major_locator=places, minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v).replace(" ", "")))
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: words(v)))
    ax.set_title(f"{curve.name}\nslope {curve.slope:.2f}, expected {curve.expected:g}", fontsize=9)
    ax.set_xlabel(curve.size, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.25)


def ticks(at: Sequence[float], most: int = 5) -> list[float]:
    """The sizes, less those that would be written over one another."""
    first, *rest = sorted(at)
    kept, step = [first], (max(at) / first) ** (0.8 / most)
    for size in rest:
        if size >= kept[-1] * step:
            kept.append(size)
    return kept
