"""Pictures of one row: the waterfall from the reference to its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.show.axes import DOWN, INK, LINE, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def waterfall(
    e: Explanation, row: int = 0, ax: Axes | None = None, *, output: int = 0, features: int = 10
) -> Figure:
    """A row's contributions one after another, largest first, from the reference to its output.

    row: position among the explanation's rows. The inputs of a category or group are one bar, and
    so are the smaller contributions together.
    """
    if not -len(e) <= row < len(e):
        raise DataError(f"there are {len(e)} rows, counted from 0; got row {row}")
    row %= len(e)
    names, sizes = _steps(e, row, output, features)
    start = float(e.intercept[row, output] + e.coefficients[e.ids[row], output] @ e.reference)
    ends = start + np.cumsum([0.0, *sizes])
    ax = new_axes(ax, 5.6, 1.1 + 0.32 * (len(names) + 2))
    _bars(ax, ends, sizes)
    ends_all = [start, *ends[1:], ends[-1]]
    texts = [number(start), *(f"{'+' if s > 0 else ''}{number(s)}" for s in sizes)]
    _say(ax, ends_all, [0.0, *sizes, 0.0], [*texts, number(float(e.output[row, output]), 4)])
    said = ["at the reference", *names, f"row {e.matrix.index[row]}"]
    ax.set_yticks(range(len(said)), said)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(len(said) - 0.4, -0.6), xlabel=label(e.output_names[output]))
    ax.grid(axis="x", color=LINE, lw=0.8)
    return figure_of(ax)


def _steps(e: Explanation, row: int, output: int, most: int) -> tuple[list[str], list[float]]:
    """Names with their values and contributions, largest first, the rest summed.

    The 0/1 inputs of one category are one step, named by the row's level.
    """
    parts = e.contributions(np.array([row]))[0, :, output]
    folded = {j for g in e.groups for j in g.members}
    steps = [
        (
            f"{label(g.name)} = {label(str(g.said(e.data[[row]])[0]))}",
            float(parts[list(g.members)].sum()),
        )
        for g in e.groups
    ]
    steps += [
        (f"{label(name)} = {number(float(e.data[row, j]))}", float(parts[j]))
        for j, name in enumerate(e.feature_names)
        if j not in folded
    ]
    steps = sorted((s for s in steps if s[1] != 0), key=lambda s: -abs(s[1]))
    shown, rest = steps[:most], steps[most:]
    if rest:
        shown.append((count(len(rest), "other"), float(sum(size for _, size in rest))))
    return [name for name, _ in shown], [size for _, size in shown]


def _bars(ax: Axes, ends: Floats, sizes: list[float]) -> None:
    for i, size in enumerate(sizes):
        colour = UP if size > 0 else DOWN
        ax.barh(i + 1, size, left=ends[i], height=0.6, color=colour, lw=0)
    levels = [ends[0], *ends[1:], ends[-1]]
    for i, level in enumerate(levels[:-1]):
        ax.plot([level, level], [i, i + 1], color=SOFT, lw=0.8, alpha=0.6)
    ax.plot([levels[0]] * 2, [-0.3, 0.3], color=SOFT, lw=2)
    ax.plot([levels[-1]] * 2, [len(sizes) + 0.7, len(sizes) + 1.3], color=INK, lw=2)


def _say(ax: Axes, ends: list[float], sizes: list[float], texts: list[str]) -> None:
    """Each step's number beside the end it reaches, on the side it moved to."""
    for i, (end, size, text) in enumerate(zip(ends, sizes, texts, strict=True)):
        side = -1 if size < 0 else 1
        ax.annotate(
            text,
            (end, i),
            (4 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=TEXT - 1,
            color=INK,
        )
    low, high = min(ends), max(ends)
    room = 0.24 * ((high - low) or 1.0)
    ax.set_xlim(low - room, high + room)
