"""Pictures of gates: overlap by layer and class, alignment, the units and the paths of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.show.axes import DOWN, FULL, INK, LINE, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.gates.facts import largest_units
from gatewise.show.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
LAYERS = 6  # with a picture each
CLASSES = 20  # in a matrix
UNITS = 8  # bars a layer


def overlap(o: Any, ax: Axes | None = None) -> Figure:
    """Equal gates of two rows, layer by layer: within a class and between classes (`Overlap`)."""
    ax = new_axes(ax, 5.2, 1.1 + 0.32 * len(o.layers))
    within, between = o.within(), o.between()
    many = len(o.classes) > 1
    for i in range(len(o.layers)):
        if many:
            ax.plot([between[i], within[i]], [i, i], color=LINE, lw=5, solid_capstyle="butt")
            ax.plot([between[i]], [i], "o", color=DOWN, ms=6)
        ax.plot([within[i]], [i], "o", color=UP, ms=6)
    ax.set_yticks(range(len(o.layers)), [label(name) for name in o.layers])
    seen = np.concatenate([within, between]) if many else within
    seen = seen[np.isfinite(seen)]  # nothing is, of one row: it has no second to be equal to
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    room = 0.06 * max(high - low, 0.05)
    ax.set(
        ylim=(len(o.layers) - 0.4, -0.9 if many else -0.5),
        xlim=(max(0.0, low - room), min(1.0, high) + room),
        xlabel="share of the layer's gates that are equal at two rows",
    )
    ax.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %" if v <= 1 else "")
    ax.grid(axis="x", color=LINE, lw=0.8)
    if many:
        _key(ax, (("●", "between two classes", DOWN), ("●", "within a class", UP)))
    return figure_of(ax)


def _key(ax: Axes, parts: tuple[tuple[str, str, str], ...]) -> None:
    """A legend on one line above the axes: marks in colour, words in grey."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    boxes: list[Any] = []
    for mark, says, colour in parts:
        boxes += [
            TextArea(mark, textprops={"color": colour, "fontsize": TEXT}),
            TextArea(says + "   ", textprops={"color": SOFT, "fontsize": TEXT}),
        ]
    packed = HPacker(children=boxes, pad=0, sep=4, align="baseline")
    ax.add_artist(
        AnchoredOffsetbox(
            "lower left",
            child=packed,
            frameon=False,
            pad=0,
            bbox_to_anchor=(0, 1.01),
            bbox_transform=ax.transAxes,
            borderpad=0,
        )
    )


def matrices(o: Any) -> Figure:
    """Equal gates of two rows by their classes, a square a pair of classes, a matrix a layer."""
    from matplotlib.figure import Figure as NewFigure

    shown = layers_shown(len(o.layers))
    columns = max(4, len(shown))
    figure = NewFigure((FULL, 0.5 + FULL / columns), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, columns)).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, i in zip(axes, shown, strict=False):
        new_axes(ax, 0, 0).patch.set_alpha(0)
        _matrix(ax, o, i)
    return figure


def layers_shown(count: int) -> list[int]:
    """All layers, or the first and last few with all gates together."""
    if count <= LAYERS:
        return list(range(count))
    return [*range(LAYERS // 2), *range(count - LAYERS // 2, count)]


def _matrix(ax: Axes, o: Any, i: int) -> None:
    """One layer: opacity from the least to the most equal pair of classes of this layer."""
    from matplotlib.patches import Rectangle

    table = o.equal[i]
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    for a, b in np.ndindex(*table.shape):
        depth = (table[a, b] - low) / (high - low or 1.0)
        if np.isfinite(depth):
            box = Rectangle((b - 0.5, a - 0.5), 1, 1, facecolor=UP, lw=0, alpha=0.05 + 0.95 * depth)
            ax.add_patch(box)
    ax.set(xlim=(-0.5, len(table) - 0.5), ylim=(len(table) - 0.5, -0.5), aspect="equal")
    names = [label(str(name)) for name in o.classes]
    ticks = range(0, len(names), 1 if len(names) <= 12 else 2)
    long = max(map(len, names)) > 3
    ax.set_xticks(ticks, [names[k] for k in ticks], rotation=60 if long else 0)
    ax.set_yticks(ticks, [names[k] for k in ticks])
    ax.tick_params(length=0, labelsize=TEXT - 2)
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{label(o.layers[i])}: {100 * low:.0f} to {100 * high:.0f} %",
        fontsize=TEXT,
        color=INK,
        loc="left",
    )


def alignment(k: Any, ax: Axes | None = None) -> Figure:
    """Kernel-label alignment of each layer's own gates beside random ones (`GatesKnow`)."""
    lines = [*k.kernels[2:], k.kernels[1], k.kernels[0]]
    ax = new_axes(ax, 5.2, 1.1 + 0.32 * len(lines))
    for i, line in enumerate(lines):
        random = np.asarray(line.random_alignment, float)
        ax.plot([random.mean(), line.alignment], [i, i], color=LINE, lw=5, solid_capstyle="butt")
        ax.plot(random, [i] * len(random), "o", color=DOWN, ms=5, alpha=0.8)
        ax.plot([line.alignment], [i], "o", color=UP, ms=6)
    names = [label(line.kernel) for line in k.kernels[2:]] + ["gates alone", "inputs and gates"]
    ax.set_yticks(range(len(lines)), names)
    ax.set(
        ylim=(len(lines) - 0.4, -0.9),
        xlim=(min(0.0, *(line.alignment for line in lines)) - 0.01, 1.01),
        xlabel="alignment of the kernel with the labels",
    )
    ax.grid(axis="x", color=LINE, lw=0.8)
    _key(ax, (("●", "random weights", DOWN), ("●", "the network's own gates", UP)))
    return figure_of(ax)


def units(shares: Any, on: list[int]) -> Figure:
    """The units with the largest shares in the output, a column of bars a layer (`UnitShares`)."""
    from matplotlib.figure import Figure as NewFigure

    shown = layers_shown(len(shares.layers))
    columns = 3 if len(shown) > 4 else len(shown)
    lines = -(-len(shown) // columns)
    figure = NewFigure((FULL, 2.1 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, i in zip(axes, shown, strict=False):
        new_axes(ax, 0, 0).patch.set_alpha(0)
        _bars(ax, shares.layers[i], on[i])
    return figure


def _bars(ax: Axes, layer: Any, on: int) -> None:
    found = largest_units(layer, UNITS)
    for i, (_, share) in enumerate(found):
        ax.barh(i, share, height=0.7, color=UP if share > 0 else DOWN)
    ax.axvline(0, color=SOFT, lw=0.8)
    ax.set_yticks(range(len(found)), [name for name, _ in found])
    ax.set(ylim=(UNITS - 0.4, -0.6))
    ax.locator_params(axis="x", nbins=3)
    ax.xaxis.set_major_formatter(lambda v, _: number(v))
    ax.set_title(
        f"{label(layer.name)}: {on:,} of {layer.shares.shape[1]:,} on",
        fontsize=TEXT,
        color=INK,
        loc="left",
    )
    ax.grid(axis="x", color=LINE, lw=0.8)
