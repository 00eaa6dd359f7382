"""A heat map of effects: blue raises, orange lowers, strength by opacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gatewise.show.axes import DOWN, LINE, SOFT, TEXT, UP, figure_of, label, new_axes, say_only
from gatewise.show.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


def heat(
    ax: Axes | None, names: Sequence[str], values: Floats, ticks: Sequence[str], xlabel: str
) -> Figure:
    """(features, columns) effects as squares, names down the side, ticks along the top."""
    rows, columns = values.shape
    ax = new_axes(ax, 5.2, 1.35 + 0.36 * max(rows, 1))
    if not rows:
        return say_only(ax, "no input moves this output")
    largest = float(np.abs(values).max()) or 1.0
    for i, j in np.ndindex(rows, columns):
        _cell(ax, j, i, float(values[i, j]) / largest)
    ax.set_xticks(range(columns), list(ticks))
    ax.set_yticks(range(rows), [label(name) for name in names])
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows + 0.9, -0.5), xlabel=xlabel)
    ax.spines[:].set_visible(False)
    _ramp(ax, rows + 0.45, columns, largest)
    return figure_of(ax)


def _cell(ax: Axes, x: float, y: float, value: float, width: float = 0.94) -> None:
    """A square: blue raises, orange lowers, strength by opacity; a bare outline is exactly 0."""
    from matplotlib.patches import Rectangle

    box = (x - width / 2, y - 0.45)
    if value == 0:
        ax.add_patch(Rectangle(box, width, 0.9, fill=False, edgecolor=LINE, lw=0.6))
    else:
        ax.add_patch(
            Rectangle(
                box,
                width,
                0.9,
                facecolor=UP if value > 0 else DOWN,
                lw=0,
                alpha=0.06 + 0.94 * min(1.0, abs(value)),
            )
        )


def _ramp(ax: Axes, y: float, columns: int, largest: float) -> None:
    """The legend of `slopes`: from lowers to raises."""
    step = 0.055 * columns
    centre = (columns - 1) / 2
    for k in range(-4, 5):
        _cell(ax, centre + k * step, y, k / 4, step * 0.9)
    for side, text in ((-1, f"lowers, −{number(largest)}"), (1, f"raises, +{number(largest)}")):
        ax.text(
            centre + side * 5 * step,
            y,
            text,
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=TEXT - 1,
            color=SOFT,
        )
