"""Axes that all pictures share: calm spines, one set of colours, names as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from gatewise.errors import missing
from gatewise.show.words import plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange stay apart for every kind of colour blindness, and in grey.
UP, DOWN = "#2166ac", "#c2570c"
INK, SOFT, LINE = "#1b2430", "#5b6876", "#d8dee5"
TEXT = 9.5
FULL = 10.5  # inches of a picture as wide as the page


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure; calm spines and ticks either way."""
    if ax is None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise missing("matplotlib", "report", "a plot") from None
        ax = Figure((width, height), layout="constrained").add_subplot()
        ax.patch.set_alpha(0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(which="both", color=LINE, labelcolor=SOFT, labelsize=TEXT)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set(color=SOFT, fontsize=TEXT)
    ax.set_axisbelow(True)
    return ax


def say_only(ax: Axes, why: str) -> Figure:
    """Axes that hold only a sentence."""
    ax.text(
        0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=SOFT, fontsize=TEXT
    )
    ax.set_axis_off()
    return figure_of(ax)


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes, also inside a subfigure."""
    figure: Any = ax.get_figure(root=True)
    return cast("Figure", figure)


def label(name: str) -> str:
    """A name as matplotlib text: a dollar sign is not the start of mathematics."""
    return short(plain(name)).replace("$", r"\$")
