"""Pictures of a bilinear layer: eigenvectors, eigenvalues, curve, interactions, directions, a row.

Colours as everywhere: blue above zero, orange below, zero in the middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.show.axes import DOWN, FULL, INK, LINE, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.bilinear.facts import Bilinear
from gatewise.show.bilinear.parts import Floats, beyond_dust
from gatewise.show.bilinear.words import input_name, terms_shown
from gatewise.show.words import number, plain, short, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 3  # eigenvectors of each sign, of each output
BARS = 6  # inputs of an eigenvector
COLUMNS = 5  # of eigenvalues
CELLS = 10  # inputs of a matrix of interactions
MATRICES = 3  # outputs with one
NUMBERED = 6  # inputs up to which its numbers are written


def both_signs(values: Floats, each: int = SIDE) -> tuple[list[int], list[int]]:
    """Positions of the largest positive and of the largest negative."""
    real = np.where(beyond_dust(values), values, 0.0)
    up, down = (np.flatnonzero(s * real > 0)[:each].tolist() for s in (1, -1))
    return up, down


def eigenvectors(b: Bilinear) -> Figure:
    """The strongest eigenvectors of each output, those that raise it left: images or bars."""
    from matplotlib.figure import Figure as NewFigure

    lines, columns = len(b.outputs), 2 * SIDE if b.image else 4
    size = (FULL, (1.95 if b.image else 1.6) * lines + 0.3)
    figure = NewFigure(size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    said = "left: v that raise the output (λ > 0); right: v that lower it; blue +, orange −"
    said += ", each v on its own scale" if b.image else ""
    figure.suptitle(said, fontsize=TEXT, color=SOFT, x=0.005, ha="left")
    for u, name in enumerate(b.outputs):
        values, readers = b.found.values[u].numpy(), b.found.readers[u].numpy()
        sides = both_signs(values, columns // 2)
        for side, start in zip(sides, (0, columns // 2), strict=True):
            for c in range(columns // 2):
                ax = axes[u, start + c]
                if c < len(side):
                    _vector(b, ax, readers[side[c]])
                    _head(ax, f"λ {signed(values[side[c]])}")
                else:
                    ax.set_axis_off()
        axes[u, 0].text(
            0, 1.22, label(short(name)), transform=axes[u, 0].transAxes, color=INK,
            fontsize=TEXT + 1.5, fontweight="bold",
        )  # fmt: skip
    return figure


def _vector(b: Bilinear, ax: Axes, reader: Floats) -> None:
    if b.image:
        pixels(ax, reader[: b.view.inputs].reshape(b.image))
    else:
        _bars(b, ax, reader)


def pixels(ax: Axes, image: Floats) -> None:
    """An image between -largest (orange) and +largest (blue), zero white."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("signed", [DOWN, "white", UP])
    largest = float(np.abs(image).max()) or 1.0
    ax.imshow(image, cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color(LINE)


def _bars(b: Bilinear, ax: Axes, reader: Floats) -> None:
    """The strongest inputs of an eigenvector."""
    new_axes(ax, 0, 0).patch.set_alpha(0)
    real = beyond_dust(reader)
    order = [int(j) for j in np.argsort(-np.abs(reader), kind="stable")[:BARS] if real[j]]
    for i, j in enumerate(order):
        ax.barh(i, reader[j], height=0.7, color=UP if reader[j] > 0 else DOWN)
    ax.axvline(0, color=SOFT, lw=0.8)
    ax.set_yticks(range(len(order)), [label(short(input_name(b, j), 14)) for j in order])
    ax.set(ylim=(BARS - 0.4, -0.6), xlim=(-1.05, 1.05))
    ax.set_xticks([-1, 0, 1], ["−1", "0", "1"])
    ax.tick_params(labelsize=TEXT - 1.5)


def _head(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=TEXT, color=SOFT, loc="left", pad=3)


def eigenvalues(b: Bilinear) -> Figure:
    """Each output's eigenvalues, from the largest to the smallest; one scale for all."""
    from matplotlib.figure import Figure as NewFigure

    lines = -(-len(b.outputs) // COLUMNS)
    figure = NewFigure((FULL, 1.75 * lines + 0.2), layout="constrained")
    axes = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).ravel()
    for ax in axes[len(b.outputs) :]:
        ax.set_axis_off()
    for ax, name, values in zip(axes, b.outputs, b.found.values.numpy(), strict=False):
        new_axes(ax, 0, 0).patch.set_alpha(0)
        falling = np.sort(values)[::-1]
        ax.bar(range(len(falling)), falling, width=0.8, color=np.where(falling > 0, UP, DOWN))
        ax.axhline(0, color=SOFT, lw=0.8)
        ax.set_xticks([])
        ax.yaxis.set_major_formatter(lambda v, _: number(v))
        ax.set_title(label(short(name)), fontsize=TEXT, color=INK, loc="left", pad=3)
    return figure


def truncation(b: Bilinear) -> Figure:
    """Error predicted and measured, and the score, against the pairs kept."""
    c = b.curve
    assert c is not None
    from matplotlib.figure import Figure as NewFigure

    panels = 2 if c.score is not None else 1
    figure = NewFigure((5.2 * panels, 2.9), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _error(axes[0], c)
    if c.score is not None:
        _score(axes[1], c)
    for ax in axes:
        ax.set(xlim=(-0.02 * b.found.k, 1.02 * b.found.k), xlabel="eigenpairs kept of each output")
        ax.grid(axis="y", color=LINE, lw=0.8)
        ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _error(ax: Axes, c: Any) -> None:
    new_axes(ax, 0, 0).patch.set_alpha(0)
    ax.plot(c.measured, color=UP, lw=2, label="measured on the rows")
    ax.plot(c.predicted, color=DOWN, lw=1.6, ls=(0, (4, 2)), label="predicted from their moments")
    ax.set(ylim=(0, None), ylabel="error, of the outputs' size")
    ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    ax.legend(frameon=False, fontsize=TEXT, labelcolor=SOFT, loc="upper right")


def _score(ax: Axes, c: Any) -> None:
    new_axes(ax, 0, 0).patch.set_alpha(0)
    ax.axhline(c.whole, color=SOFT, lw=1, ls=(0, (2, 2)))
    share = c.what == "Accuracy"
    said = f"{100 * c.whole:.1f} %" if share else number(c.whole)
    ax.plot(c.score, color=UP, lw=2)
    ax.text(0, c.whole, f" all pairs: {said}", va="bottom", ha="left", fontsize=TEXT, color=SOFT)
    low = max(0.0 if share else -1.0, float(np.min(c.score)))
    room = 0.14 * (c.whole - low or 1.0)
    ax.set(ylim=(low - room / 3, max(c.whole, float(np.max(c.score))) + room), ylabel=c.what.lower()
           if share else c.what)  # fmt: skip
    if share:
        ax.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %" if v <= 1 else "")


def row(b: Bilinear, ax: Axes | None = None) -> Figure:
    """The largest terms of the row's output, the sum of the others, and the output."""
    r = b.row
    assert r is not None
    shown = terms_shown(r)
    names = [f"{i + 1}: λ {signed(r.values[i])}" for i in range(shown)]
    if b.image is None:
        names = [f"{i + 1}: {_read_most(b, r.readers[i])}" for i in range(shown)]
    values = r.terms[:shown].tolist()
    if not r.complete or beyond_dust(r.terms)[shown:].any():
        names.append(f"{len(r.terms) - shown:,} other terms" if r.complete else "all others")
        values.append(r.own - sum(values))
    return sum_of(names, values, r.own, "output", f"output {label(b.outputs[r.output])}", ax)


def sum_of(
    names: list[str], parts: list[float], total: float, last: str, what: str, ax: Axes | None = None
) -> Figure:
    """Parts as bars, blue raises, orange lowers, and what they add up to in grey."""
    values, names = [*parts, total], [*names, last]
    ax = new_axes(ax, 5.6, 0.8 + 0.27 * len(values))
    colours = [UP if v > 0 else DOWN for v in parts] + [SOFT]
    ax.barh(range(len(values)), values, height=0.72, color=colours)
    ax.axvline(0, color=SOFT, lw=0.8)
    for i, v in enumerate(values):
        ax.annotate(
            signed(v), (v, i), (3 if v >= 0 else -3, 0), textcoords="offset points",
            ha="left" if v >= 0 else "right", va="center", fontsize=TEXT - 1, color=SOFT,
        )  # fmt: skip
    ax.set_yticks(range(len(values)), [as_text(n) for n in names])
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.2 * (high - low or 1.0)
    ax.set(ylim=(len(values) - 0.4, -0.6), xlim=(low - (room if low < 0 else 0), high + room))
    ax.set_xlabel(f"brings to {what}")
    ax.xaxis.set_major_formatter(lambda v, _: number(v))
    return figure_of(ax)


def as_text(name: str) -> str:
    """A name in full as matplotlib text: a dollar sign is not the start of mathematics."""
    return plain(name).replace("$", r"\$")


def _read_most(b: Bilinear, reader: Floats) -> str:
    """The names of the inputs that an eigenvector reads most."""
    order = np.argsort(-np.abs(reader), kind="stable")[:3]
    return ", ".join(
        short(input_name(b, int(j)), 11) for j in order if abs(reader[j]) > 0.1 * abs(reader).max()
    )


def directions(b: Bilinear) -> Figure:
    """The first output directions of the HOSVD, as bars over the outputs."""
    from matplotlib.figure import Figure as NewFigure

    d = b.directions
    assert d is not None
    shown = len(d.found.values)
    figure = NewFigure((FULL, 2.6), layout="constrained")
    for i, ax in enumerate(figure.subplots(1, shown, squeeze=False)[0]):
        new_axes(ax, 0, 0).patch.set_alpha(0)
        u = d.outputs[i]
        kept = np.sort(np.argsort(-np.abs(u), kind="stable")[:16])
        ax.bar(range(len(kept)), u[kept], width=0.7, color=np.where(u[kept] > 0, UP, DOWN))
        ax.axhline(0, color=SOFT, lw=0.8)
        names = [label(short(b.every_output[o], 12)) for o in kept]
        ax.set_xticks(range(len(kept)), names, rotation=60 if max(map(len, names)) > 3 else 0)
        ax.set_ylim(-1.05, 1.05)
        _head(ax, f"Direction {i + 1}: {100 * d.share[i]:.0f} % of the squared norm")
    return figure


def interactions(b: Bilinear) -> Figure:
    """The symmetrised interaction matrix among the inputs of the strongest products."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure((FULL, 3.9), layout="constrained")
    for u, ax in enumerate(figure.subplots(1, MATRICES, squeeze=False)[0]):
        if u >= len(b.outputs):
            ax.set_axis_off()
            continue
        at = strongest_inputs(b, u)
        Q = b.found.forms[u : u + 1].dense()[0].numpy()
        names = [label(short(input_name(b, j), 12)) for j in at]
        _matrix(ax, np.where(beyond_dust(Q), Q, 0.0)[np.ix_(at, at)], names)
        largest = number(float(np.abs(Q).max()))
        ax.set_title(
            f"{label(b.outputs[u])}: up to ±{largest}", fontsize=TEXT, color=INK, loc="left"
        )
    return figure


def _matrix(ax: Axes, Q: Floats, names: list[str]) -> None:
    """Squares, opacity for size; their numbers too where there are few."""
    from matplotlib.patches import Rectangle

    new_axes(ax, 0, 0).patch.set_alpha(0)
    n, largest = len(Q), float(np.abs(Q).max()) or 1.0
    for i, j in np.ndindex(n, n):
        depth = abs(Q[i, j]) / largest
        colour = LINE if not depth else UP if Q[i, j] > 0 else DOWN
        face = {"facecolor": colour, "alpha": 0.06 + 0.94 * depth} if depth else {"fill": False}
        ax.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, lw=0.6, ec=LINE, **face))
        if n <= NUMBERED:
            tone = "white" if depth > 0.55 else INK
            ax.text(
                j, i, number(float(Q[i, j])), ha="center", va="center", color=tone, fontsize=TEXT
            )
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
    ax.set_xticks(range(n), names, rotation=60 if max(map(len, names)) > 3 else 0)
    ax.set_yticks(range(n), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def strongest_inputs(b: Bilinear, u: int) -> list[int]:
    """The coordinates of the strongest products of an output, in their own order."""
    found = b.interactions
    assert found is not None
    here = found.outputs == u
    picked: list[int] = []
    for j in np.stack([found.first[here], found.second[here]], 1).ravel().tolist():
        if j not in picked and len(picked) < CELLS:
            picked.append(j)
    return sorted(picked) or list(range(min(CELLS, b.found.forms.size)))
