"""plane_map(complex): every region of a plane, drawn from its exact polygons and not from a grid.

Lines and fills are vectors. What is affine on a region is drawn as what it is: bands and level
lines of an output, the pieces of each class and the decision boundary are cut out of the polygons
at the exact crossings of their sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.names import output_index, output_names
from gatewise.regions.polyhedral.boundary import boundary
from gatewise.regions.polyhedral.complex import Complex
from gatewise.show import polygons
from gatewise.show.axes import DOWN, INK, LINE, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.plane import frame, place_images, place_points
from gatewise.show.words import number
from gatewise.tables import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Colour = Literal["region", "output", "class", "creases"]
COLOURS = ("region", "output", "class", "creases")
# Of even steps in lightness, so that neighbours stay apart for every kind of colour blindness.
TILES = ("#dbe7f3", "#a9c6e3", "#f3dfc3", "#e0b98a", "#c9dccb", "#8fb39a", "#d9cfe4", "#a899c4")
# Okabe and Ito's, lightened where they fill an area.
CLASSES = (
    *("#8fc3e8", "#f2c879", "#7fc9ae", "#e7a0c4", "#f4ee9c", "#5f97c6", "#e59b6d", "#b9bec4"),
    *("#c3b1e1", "#8d6e63"),
)
# Of the layers' creases, first to last.
LAYERS = ("#1b2430", "#2166ac", "#c2570c", "#3d8f6e", "#a05195", "#8a8d1f", "#6b7785", "#d0021b")
RED = "#c8102e"
BANDS = 12
VECTORS = 5_000_000  # bytes: above that fills are drawn as pixels, then lines too


class Style(NamedTuple):
    """How wide lines are among so many regions, and what is drawn as pixels."""

    line: float
    fill_pixels: bool
    line_pixels: bool


def plane_map(
    c: Complex,
    ax: Axes | None = None,
    *,
    colour: Colour = "region",
    output: int | str = 0,
    level: float | None = None,
    decision: bool = True,
    points: Any = None,
    labels: Sequence[int] | NDArray[Any] | None = None,
    images: Sequence[Any] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """The regions of a complex of two coordinates, one polygon each.

    colour: "region" (neighbours differ), "output" (bands of equal steps, exact), "class" (the
    largest output; with one output, below and above `level`) or "creases" (each edge by the gate
    that bends there). output: for "output", and for the level line. decision: draw where it
    changes: between the two largest outputs, or where the one output is `level`, 0 if not
    given. points: rows of inputs, put on the plane where they are nearest; labels: their classes,
    0, 1, ...; images: pictures put beside the slice's marks; names: of the inputs, where the
    network has none.
    """
    _require(c, colour)
    ax = new_axes(ax, 8.2, 6.2)
    rings = polygons.rings(c)
    edges = polygons.edges(c)
    style = _style(len(c), len(rings.ring), len(edges.who))
    place = output_index(output, output_names(c.network))
    drawn = _DRAW[colour](ax, c, rings, edges, style, place)
    line = _boundary(ax, c, rings, place, level, colour) if decision else ""
    frame(ax, c, " ".join(part for part in (drawn, line) if part), names)
    if points is not None:
        place_points(ax, c, points, labels)
    place_images(ax, c, images)
    return figure_of(ax)


def _require(c: Complex, colour: str) -> None:
    if c.dimension != 2:
        raise DataError(
            f"a map needs 2 coordinates, this complex has {c.dimension}: hold the other inputs by "
            f"equal bounds, or cut a slice through three points"
        )
    if colour not in COLOURS:
        raise DataError(f"colour must be one of {listed(COLOURS)}, got {colour!r}")


def _style(regions: int, corners: int, sides: int) -> Style:
    """A corner takes about 22 bytes as a vector, a side twice that."""
    fills, lines = 22 * corners, 44 * sides
    width = float(np.clip(18 / np.sqrt(regions), 0.1, 1.1))
    return Style(width, fills + lines > VECTORS, lines > VECTORS)


# ---------------------------------------------------------------- the four colourings


def _regions(
    ax: Axes, c: Complex, r: polygons.Rings, e: polygons.Edges, style: Style, output: int
) -> str:
    found = polygons.neighbour_colours(len(c), e.cells)
    tones = [TILES[i % len(TILES)] for i in range(int(found.max()) + 1)]
    _fill(ax, r, found, tones, style)
    _lines(ax, c.vertices[e.ends], "white", style.line, style)
    return "Neighbours differ in colour."


def _output(
    ax: Axes, c: Complex, r: polygons.Rings, e: polygons.Edges, style: Style, output: int
) -> str:
    """Bands between levels of equal steps: each region cut by lines, exactly."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    levels = _levels(r.value[:, output])
    parts = polygons.bands(r, output, levels)
    band = np.concatenate([np.full(len(p.cell), i) for i, p in enumerate(parts)])
    tones = _band_tones(levels, c)
    _fill(ax, polygons.together(parts), band, tones, style)
    _lines(ax, c.vertices[e.ends], "white", 0.7 * style.line, style)
    scale = ScalarMappable(BoundaryNorm(levels, len(tones)), ListedColormap(tones))
    bar = figure_of(ax).colorbar(scale, ax=ax, pad=0.02, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", labelsize=TEXT - 1, color=LINE, labelcolor=SOFT)
    name = output_names(c.network)[output]
    bar.set_label(label(name), color=SOFT, fontsize=TEXT)
    return f"Bands of {label(name)}: straight and evenly spaced in each region."


def _classes(
    ax: Axes, c: Complex, r: polygons.Rings, e: polygons.Edges, style: Style, output: int
) -> str:
    parts, kind = polygons.by_class(polygons.decided(r, 0.0))
    names = class_names(c)
    tones = _class_tones(len(names))
    _fill(ax, parts, kind, tones, style)
    _lines(ax, c.vertices[e.ends], "white", 0.8 * style.line, style, alpha=0.8)
    area = np.bincount(kind, polygons.ring_areas(parts), len(names))
    shown = np.flatnonzero(area > 0)
    _legend(ax, [names[i] for i in shown], [tones[i] for i in shown])
    return ""


def _creases(
    ax: Axes, c: Complex, r: polygons.Rings, e: polygons.Edges, style: Style, output: int
) -> str:
    """Edges by the gate whose unit changes there, the first layers on top."""
    inner = np.flatnonzero(e.who >= 0)
    gate = polygons.gate_of(e.who[inner])
    used = np.unique(gate)[::-1]
    for g in used:
        width = max(style.line, 0.4) * (1.6 if g == 0 else 1.0)
        tone = LAYERS[g % len(LAYERS)]
        _lines(ax, c.vertices[e.ends[inner[gate == g]]], tone, width, style)
    names = [f"gate {c.network.gates[g].name}" for g in used[::-1]]
    _legend(ax, names, [LAYERS[g % len(LAYERS)] for g in used[::-1]])
    return "Each line is where units of one gate change branch."


_DRAW = {"region": _regions, "output": _output, "class": _classes, "creases": _creases}


def _boundary(
    ax: Axes, c: Complex, r: polygons.Rings, output: int, level: float | None, colour: str
) -> str:
    """The decision boundary, or a level line, always as vectors; what it is, if it is there."""
    several = r.value.shape[1] > 1
    if several and level is None and (colour == "output" or c.network.task == "regression"):
        return ""
    if several and level is None:
        lines, said = polygons.named_sides(*polygons.by_class(r)), "the largest output changes"
    else:
        lines = _at_level(c, r, output, level or 0.0)
        said = f"{label(output_names(c.network)[output])} = {number(level or 0.0)}"
    if not len(lines):
        return ""
    tone, name = (RED, "Red") if colour == "creases" else (INK, "Dark")
    for shade, width in (("white", 3.4), (tone, 1.9)):
        _lines(ax, lines, shade, width, Style(0, False, False), zorder=3)
    return f"{name} line: {'where ' if several and level is None else ''}{said}."


def _at_level(c: Complex, r: polygons.Rings, output: int, level: float) -> Floats:
    """Segments (n, 2, 2) where the output is at the level; in each region alone where it jumps."""
    if polygons.jumps(c):
        return polygons.level_lines(r, r.value[:, output], level)
    found = boundary(c, output, level=level)
    return found.points[found.point.reshape(-1, 2)]


def _band_tones(levels: Floats, c: Complex) -> list[Any]:
    """From orange over white at 0 to blue where the sign decides; else from dark to light."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    middles = (levels[1:] + levels[:-1]) / 2
    if c.network.outputs == 1 and levels[0] < 0 < levels[-1] and c.network.task != "regression":
        both = LinearSegmentedColormap.from_list("signs", [DOWN, "#f4f2ee", UP])
        return [both(0.5 + 0.46 * v / np.abs(middles).max()) for v in middles]
    return [colormaps["cividis"](v) for v in np.linspace(0.12, 1, len(middles))]


def _levels(values: Floats) -> Floats:
    """About BANDS steps of a round size that hold all values."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    if high - low < 1e-12 * (1 + abs(high)):
        low, high = low - 0.5, high + 0.5
    return np.asarray(MaxNLocator(BANDS).tick_values(low, high), np.float64)


def class_names(c: Complex) -> tuple[str, ...]:
    """The labels the outputs tell apart; of one output: below and above 0."""
    if c.network.classes:
        return c.network.classes
    names = output_names(c.network)
    return names if len(names) > 1 else (f"{names[0]} < 0", f"{names[0]} > 0")


def _class_tones(n: int) -> list[str]:
    return list(CLASSES[1::-1]) if n == 2 else [CLASSES[i % len(CLASSES)] for i in range(n)]


# ---------------------------------------------------------------- ink


def _fill(ax: Axes, r: polygons.Rings, group: Ints, tones: Sequence[Any], style: Style) -> None:
    """One path a colour: in it, neighbours have no seam between them.

    add_artist, for add_patch measures every corner in a Python loop.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    start = np.diff(r.ring, prepend=-1) != 0
    codes = np.where(start, Path.MOVETO, Path.LINETO).astype(np.uint8)
    of = group[r.ring]
    for i in np.unique(group):
        path = Path(r.corner[of == i], codes[of == i])
        patch = PathPatch(path, facecolor=tones[i], edgecolor="none", lw=0)
        ax.add_artist(patch).set_rasterized(style.fill_pixels)


def _lines(ax: Axes, segments: Floats, tone: str, width: float, style: Style, **more: Any) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(segments))
    path = Path(segments.reshape(-1, 2), codes)
    path.should_simplify = False
    ink = {"fill": False, "edgecolor": tone, "lw": width, "capstyle": "round", **more}
    ax.add_artist(PathPatch(path, **ink)).set_rasterized(style.line_pixels)


def _legend(ax: Axes, names: Sequence[str], tones: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    most = 10
    marks = [Patch(facecolor=t, label=label(n)) for n, t in zip(names, tones, strict=True)][:most]
    ax.legend(
        handles=marks,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=TEXT,
        labelcolor=SOFT,
        borderaxespad=0,
        handlelength=1.2,
        handleheight=1.0,
    )


def pixels(figure: Figure) -> str:
    """Which parts of a map are pixels in a vector file, as a sentence; empty where none is."""
    parts = [p for ax in figure.axes for p in ax.patches if p.get_rasterized()]
    if not parts:
        return ""
    what = "fills and edges" if any(not p.get_fill() for p in parts) else "fills"
    return f"{what} are drawn as pixels: as vectors they would exceed {VECTORS // 10**6} MB"
