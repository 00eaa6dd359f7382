"""Pictures of an audit: the models with their intervals, and the gain cohort by cohort."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from gatewise.auditing.audit import Audit, Line
from gatewise.auditing.gains import Gain
from gatewise.show.audit.words import ordered
from gatewise.show.axes import DOWN, INK, LINE, SOFT, TEXT, UP, figure_of, new_axes
from gatewise.show.words import compact, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, LINES = 46, 3  # of a cohort's condition beside its bar
COLOURS = {"network": UP, "linear": DOWN}


def models(a: Audit, ax: Axes | None = None) -> Figure:
    """Each model's headline figure with its interval, best seen from the network's own line."""
    ax = new_axes(ax, 7.8, 0.9 + 0.34 * len(a.lines))
    name = a.headline.name
    mine = a["network"].figures[name].value
    ax.axvline(mine, color=LINE, lw=1.2)
    for i, line in enumerate(a.lines):
        _interval(ax, i, line, name)
    ax.set_yticks(range(len(a.lines)), [_text(line.name, 30, 2) for line in a.lines])
    ax.set(ylim=(len(a.lines) - 0.4, -0.6), xlabel=f"{name} on the test rows")
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="x", color=LINE, lw=0.8)
    return figure_of(ax)


def _interval(ax: Axes, i: int, line: Line, name: str) -> None:
    held = line.figures[name]
    colour = COLOURS.get(line.key, SOFT)
    if np.isfinite(held.low):
        ax.plot([held.low, held.high], [i, i], color=colour, lw=2.2, solid_capstyle="butt")
    if np.isfinite(held.value):
        ax.plot([held.value], [i], "o", color=colour, ms=6)


def gains(a: Audit, ax: Axes | None = None) -> Figure:
    """The gain of each cohort with its interval, the largest first; grey: undecided."""
    shown = ordered(a)
    labels = [_text(g.condition, WIDE, LINES) for g in shown]
    tall = sum(max(2, text.count("\n") + 1) for text in labels)
    ax = new_axes(ax, 10.5, 1.1 + 0.21 * tall + 0.08 * len(shown))
    ax.axvline(0, color=SOFT, lw=1)
    for i, g in enumerate(shown):
        _gain(ax, i, g)
    ax.set_yticks(range(len(shown)), labels)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(shown) - 0.4, -0.6))
    ax.set_xlabel("gain: points of the target's variance (right: the network is better)")
    _room(ax, shown)
    ax.locator_params(axis="x", nbins=7)
    ax.grid(axis="x", color=LINE, lw=0.8)
    return figure_of(ax)


def _gain(ax: Axes, i: int, g: Gain) -> None:
    colour = {"better": UP, "worse": DOWN}.get(g.answer, SOFT)
    value, low, high = (100 * v for v in (g.gain.value, g.gain.low, g.gain.high))
    if np.isfinite(low):
        ax.plot([low, high], [i, i], color=colour, lw=2.4, solid_capstyle="butt")
    hollow = g.answer == "too few rows"
    face = "none" if hollow else colour
    ax.plot([value], [i], "o", color=colour, mfc=face, ms=6)
    end = high if np.isfinite(high) else value
    ax.annotate(
        f"{compact(g.rows)} rows",
        (max(end, value), i),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontsize=TEXT - 1,
        color=INK if g.answer in ("better", "worse") else SOFT,
    )


def _room(ax: Axes, shown: list[Gain]) -> None:
    """Space to the right for the numbers of rows."""
    ends = [v for g in shown for v in (g.gain.value, g.gain.low, g.gain.high) if np.isfinite(v)]
    low, high = min(0.0, 100 * min(ends)), max(0.0, 100 * max(ends))
    wide = max(high - low, 1e-9)
    ax.set_xlim(low - 0.04 * wide, high + 0.16 * wide)


def _text(name: str, width: int, lines: int) -> str:
    """A name on at most so many lines, as matplotlib text: a dollar sign is no mathematics."""
    rows = textwrap.wrap(plain(name), width) or [""]
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1][: width - 1] + "…"]
    return "\n".join(rows).replace("$", r"\$")
