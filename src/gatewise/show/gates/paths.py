"""The strongest paths of a row as a picture: columns of units, a line a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gatewise.show.axes import DOWN, FULL, INK, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.gates.facts import unit_name
from gatewise.show.words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Spot = tuple[int, str]  # a column, and the name of what stands there
WIDEST = 5.0  # points, of the strongest path


class Way(NamedTuple):
    """A path as the spots it runs through, from left to right, and what it brings."""

    spots: tuple[Spot, ...]
    brings: float


def paths(p: Any, output: str = "", ax: Axes | None = None) -> Figure:
    """The strongest paths (`StrongPaths`): width by |contribution|, blue raises, orange lowers."""
    ways = [_way(p, i, output) for i in range(len(p))]
    ways, heads = _packed(ways, ["start", *(label(name) for name in p.layers)])
    columns = len(heads)
    place = _places(ways, columns)
    tall = max(len([s for s in place if s[0] == c]) for c in range(columns))
    ax = new_axes(ax, FULL, 1.0 + 0.3 * max(tall, 3))
    largest = float(np.abs(p.contributions).max(initial=0.0)) or 1.0
    for way in reversed(ways):
        _draw(ax, way, place, largest)
    for spot, (x, y) in place.items():
        _spot(ax, spot, x, y, columns)
    for c, head in enumerate(heads):
        ax.text(c, -0.95, head, ha="center", va="bottom", color=SOFT, fontsize=TEXT)
    ax.set(xlim=(-0.62, columns - 0.45), ylim=(max(tall, 3) - 0.4, -1.0))
    ax.set_axis_off()
    return figure_of(ax)


def _way(p: Any, i: int, output: str) -> Way:
    """A path from a bias starts in the column before the first layer that it enters."""
    units = p.units[i].tolist()
    entered = [c for c, unit in enumerate(units) if unit >= 0]
    j = int(p.starts[i])
    name = (p.names[j] if p.names else f"x{j}") if j >= 0 else "bias"
    spots: list[Spot] = [(0 if j >= 0 or not entered else entered[0], name)]
    for c in entered:
        last = c == len(units) - 1
        spots.append((c + 1, output if last and output else unit_name(units[c], p.shapes[c])))
    return Way(tuple(spots), float(p.contributions[i]))


def _packed(ways: list[Way], heads: list[str]) -> tuple[list[Way], list[str]]:
    """Without the columns that no path runs through."""
    used = sorted({spot[0] for way in ways for spot in way.spots})
    place = {c: k for k, c in enumerate(used)}
    moved = [Way(tuple((place[c], n) for c, n in w.spots), w.brings) for w in ways]
    only_starts = {c for c in used if not any(s[0] == c for w in ways for s in w.spots[1:])}
    return moved, ["start" if c in only_starts else heads[c] for c in used]


def _places(ways: list[Way], columns: int) -> dict[Spot, tuple[float, float]]:
    """Each spot's (x, y): in a column, by the ranks of the paths through it, evenly spaced."""
    ranks: dict[Spot, list[int]] = {}
    for rank, way in enumerate(ways):
        for spot in way.spots:
            ranks.setdefault(spot, []).append(rank)
    tall = max(sum(s[0] == c for s in ranks) for c in range(columns))
    found = {}
    for c in range(columns):
        here = sorted((s for s in ranks if s[0] == c), key=lambda s: (np.mean(ranks[s]), s[1]))
        gap = max(tall, 3) / (len(here) or 1)
        for k, spot in enumerate(here):
            found[spot] = (float(c), (k + 0.5) * gap - 0.5)
    return found


def _draw(ax: Axes, way: Way, place: dict[Spot, tuple[float, float]], largest: float) -> None:
    """A smooth line through the spots."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners, codes = [place[way.spots[0]]], [Path.MOVETO]
    for a, b in zip(way.spots, way.spots[1:], strict=False):
        (x, y), (u, v) = place[a], place[b]
        bend = 0.45 * (u - x)
        corners += [(x + bend, y), (u - bend, v), (u, v)]
        codes += [Path.CURVE4] * 3
    width = WIDEST * abs(way.brings) / largest
    colour = UP if way.brings > 0 else DOWN
    line = Path(corners, codes)
    ax.add_patch(PathPatch(line, fill=False, ec=colour, lw=max(0.5, width), alpha=0.55))


def _spot(ax: Axes, spot: Spot, x: float, y: float, columns: int) -> None:
    """A dot with its name: at the left of the first column, else above."""
    ax.plot([x], [y], "o", ms=5, color=INK if spot[1] != "bias" else SOFT, zorder=3)
    name = label(short(spot[1], 14))
    if x == 0:
        ax.annotate(name, (x, y), (-7, 0), textcoords="offset points", ha="right", va="center",
                    color=INK, fontsize=TEXT)  # fmt: skip
    elif x == columns - 1:
        ax.annotate(name, (x, y), (7, 0), textcoords="offset points", ha="left", va="center",
                    color=INK, fontsize=TEXT)  # fmt: skip
    else:
        ax.annotate(name, (x, y), (0, 5), textcoords="offset points", ha="center", va="bottom",
                    color=INK, fontsize=TEXT - 1)  # fmt: skip
