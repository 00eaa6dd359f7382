"""Pictures of an Explanation. Each takes `ax=` or makes a figure, and returns the figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.show import facts
from gatewise.show.axes import DOWN, INK, LINE, SOFT, TEXT, UP, figure_of, label, new_axes, say_only
from gatewise.show.heat import heat
from gatewise.show.picture import picture, region_map
from gatewise.show.plots_cohorts import cohorts, fidelity
from gatewise.show.plots_row import waterfall
from gatewise.show.profiles import profile
from gatewise.show.words import compact, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def coverage(e: Explanation, ax: Axes | None = None, *, top: int = 10) -> Figure:
    """Cumulative share of the rows held by the k largest clusters, k on a log scale."""
    ax = new_axes(ax, 5.2, 2.7)
    if e.clusters == 1:
        return say_only(ax, "one cluster holds every row")
    k = np.unique(np.geomspace(1, e.clusters, 300).round().astype(int))
    held = np.cumsum(e.share)[k - 1]
    ax.plot(k, held, color=UP, lw=2, solid_capstyle="round")
    first = min(top, e.clusters)
    part = float(e.share[:first].sum())
    ax.plot([first], [part], "o", color=UP, ms=6)
    says: dict[str, Any] = {"color": INK, "fontsize": TEXT, "textcoords": "offset points"}
    text = f"● {first} largest: {percent(part)}"
    if part > 0.15:  # the line only rises, so the corner below it is free
        ax.annotate(text, (1, 0), (-4, 6), xycoords="axes fraction", ha="right", **says)
    else:
        left = first < e.clusters**0.3
        ax.annotate(text, (first, part), (0, 8), ha="left" if left else "right", **says)
    ax.set(
        xscale="log",
        ylim=(0, 1.04),
        xlabel="clusters, largest first (log scale)",
        ylabel="share of the rows",
    )
    ax.set_xlim(0.9, 1.1 * e.clusters)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.xaxis.set_major_formatter(lambda x, _: compact(round(x)) if x >= 1 else "")
    ax.grid(axis="y", color=LINE, lw=0.8)
    return figure_of(ax)


def margins(e: Explanation, ax: Axes | None = None) -> Figure:
    """Histogram of the rows' distance to the wall of their region, on a log scale."""
    ax = new_axes(ax, 5.2, 2.7)
    far = facts.margins(e)
    good = far[np.isfinite(far) & (far > 0)] if far is not None else np.empty(0)
    if not len(good):
        return say_only(
            ax, "margins were not asked for" if far is None else "no wall lies at a finite distance"
        )
    from matplotlib.ticker import MaxNLocator

    low, high = np.log10(good.min()), np.log10(good.max())
    room = max(0.05, 0.02 * (high - low))
    ax.hist(
        good,
        np.logspace(low - room, high + room, 36).tolist(),
        color=UP,
        alpha=0.75,
        histtype="stepfilled",
        lw=0,
    )
    middle = facts.quantile(good, 0.5)
    ax.axvline(middle, color=INK, lw=1.2)
    ax.annotate(
        f"median {number(middle)}",
        (middle, 1),
        (-6, -2),
        ha="right",
        va="top",
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        color=INK,
        fontsize=TEXT,
    )
    ax.set(
        xscale="log", xlabel=f"distance to the wall, {facts.unit(e)}s (log scale)", ylabel="rows"
    )
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.margins(y=0.16)
    ax.grid(axis="y", color=LINE, lw=0.8)
    _floor(ax, e, 10 ** (low - room))
    return figure_of(ax)


def rounding_floor(e: Explanation) -> float:
    """How far rounding its inputs to float64 moves a typical row, in standard deviations."""
    scale = facts.scale(e)
    moves = np.divide(e.data, scale, out=np.zeros_like(e.data), where=scale > 0)
    return float(np.median(np.linalg.norm(moves, axis=1)) * np.finfo(np.float64).eps / 2)


def _floor(ax: Axes, e: Explanation, left: float) -> None:
    """A line at the rounding floor, or where to look for it."""
    floor = rounding_floor(e)
    if floor * 100 > left:
        ax.axvline(floor, color=DOWN, lw=1.2, ls="--")
        ax.annotate(
            "rounding floor",
            (floor, 0.8),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=DOWN,
            fontsize=TEXT,
        )
    elif floor > 0:
        ax.annotate(
            f"← rounding floor {number(floor, 1)}",
            (0, 1),
            (2, -2),
            va="top",
            xycoords="axes fraction",
            textcoords="offset points",
            color=SOFT,
            fontsize=TEXT - 1,
        )


def slopes(
    e: Explanation, ax: Axes | None = None, *, output: int = 0, top: int = 10, features: int = 12
) -> Figure:
    """Coefficient x standard deviation of the leading features in the largest clusters."""
    names, values = leading_slopes(e, output, top, features)
    sizes = [compact(int(n)) for n in e.census.counts[: values.shape[1]]]
    ticks = [f"{c}\n{n}" for c, n in enumerate(sizes)]
    return heat(ax, names, values, ticks, "cluster, and its number of rows")


def leading_slopes(
    e: Explanation, output: int, top: int, features: int
) -> tuple[list[str], Floats]:
    """Names and (features, clusters) slopes a standard deviation (a unit, if no feature varies)."""
    shown = slice(0, min(top, e.clusters))
    w = e.coefficients[shown, output]
    values = (w * facts.scale(e)).T
    order = facts.ranked(facts.importance(e, output, shown), np.abs(w).mean(0))
    order = np.array([j for j in order if w[:, j].any()], np.int64)[:features]
    return [e.feature_names[j] for j in order], values[order]


def importance(
    e: Explanation, ax: Axes | None = None, *, output: int = 0, features: int = 15
) -> Figure:
    """Mean slope a standard deviation, and its 5 % to 95 % range over the rows, by feature."""
    found = facts.section(e, output, 0, None).slopes[:features]
    ax = new_axes(ax, 5.2, 0.9 + 0.3 * max(len(found), 1))
    if not found:
        return say_only(ax, "no input moves this output")
    for i, s in enumerate(found):
        for low, high, colour in ((s.low, min(s.high, 0), DOWN), (max(s.low, 0), s.high, UP)):
            if low < high:
                ax.plot(
                    [low * s.scale, high * s.scale],
                    [i, i],
                    color=colour,
                    alpha=0.45,
                    lw=6,
                    solid_capstyle="butt",
                )
        ax.plot([s.mean * s.scale], [i], "o", color=INK, ms=4.5)
    ax.axvline(0, color=SOFT, lw=0.8)
    ax.set_yticks(range(len(found)), [label(s.name) for s in found])
    ax.set(ylim=(len(found) - 0.5, -0.5), xlabel=f"effect of one {facts.unit(e)}")
    ax.grid(axis="x", color=LINE, lw=0.8)
    return figure_of(ax)


__all__ = [
    "cohorts",
    "coverage",
    "fidelity",
    "importance",
    "margins",
    "picture",
    "profile",
    "region_map",
    "slopes",
    "waterfall",
]
