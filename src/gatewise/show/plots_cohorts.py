"""Pictures of Cohorts: their rules side by side, and how many rules buy how much fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.show import facts
from gatewise.show.axes import DOWN, INK, LINE, TEXT, UP, figure_of, new_axes
from gatewise.show.cohort_view import points
from gatewise.show.heat import heat
from gatewise.show.words import compact, count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def cohorts(c: Cohorts, ax: Axes | None = None, *, top: int = 12, features: int = 12) -> Figure:
    """The rules of the largest cohorts: coefficient x deviation of the leading features.

    A row of one colour is a feature that acts alike in all.
    """
    names, values, order = leading(c, top, features)
    sizes = [compact(int(n)) for n in c.sizes[order]]
    ticks = [f"{k}\n{n}" for k, n in zip(order, sizes, strict=True)]
    return heat(ax, names, values, ticks, "cohort, and its number of rows")


def leading(c: Cohorts, top: int, features: int) -> tuple[list[str], Floats, NDArray[np.int64]]:
    """Names, (features, cohorts) effects of one deviation, and which cohorts, largest first."""
    e = c.explanation
    order = np.argsort(-c.sizes, kind="stable")[:top]
    w = c.coefficients
    effect = np.abs(w) * facts.scale(e)
    weight = c.sizes @ effect
    rank = facts.ranked(weight, np.abs(w).mean(0))
    rank = np.array([j for j in rank if w[:, j].any()], np.int64)[:features]
    values = (w[order] * facts.scale(e)).T[rank]
    return [e.feature_names[j] for j in rank], values, order


def fidelity(c: Cohorts, ax: Axes | None = None) -> Figure:
    """The curve of the mean |rule - network| on held-out rows against the number of rules."""
    found = points(c)
    rules, error = np.array(found["rules"]), np.array(found["error"])
    ax = new_axes(ax, 5.2, 2.9)
    ax.plot(rules, error, "-o", color=UP, lw=2, ms=4.5)
    here = int(np.flatnonzero(rules == len(c))[0])
    ax.plot(rules[here], error[here], "o", color=DOWN, ms=9)
    ax.annotate(
        f"{count(int(rules[here]), 'rule')}: {number(float(error[here]))}",
        (rules[here], error[here]),
        (4, 10),
        textcoords="offset points",
        ha="right" if here > len(rules) // 2 else "left",
        color=INK,
        fontsize=TEXT,
    )
    if found["log"]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda x, _: compact(round(x)) if x >= 1 else "")
    ax.set(
        xlabel="rules",
        ylabel="mean |rule − network|, held out",
        ylim=(0, 1.15 * float(error.max()) or 1.0),
    )
    ax.grid(axis="y", color=LINE, lw=0.8)
    return figure_of(ax)
