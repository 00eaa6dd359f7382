"""Profiles of the leading features: exact curves with their true knots, for page and picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.explain.profile import Profile
from gatewise.explain.profile import profile as along
from gatewise.patterns.fixed_point import products
from gatewise.show import embed, facts
from gatewise.show.axes import INK, LINE, SOFT, UP, figure_of, label, new_axes
from gatewise.show.words import count, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEATURES = 12
WORK = 2.5e7  # rows x features x products: some seconds
CURVES, KNOTS, RUG = 24, 400, 60
ROWS = 20  # fewer make no mean worth showing


class Profiles(NamedTuple):
    """The profiles of the leading features of one output, and over which rows."""

    found: tuple[Profile, ...]
    says: str


def profiles(e: Explanation, output: int = 0) -> Profiles | None:
    """Profiles of the features that matter most, over all rows or evenly spaced ones.

    None where nothing varies, or the network is too large for a report that is made in seconds.
    """
    part = facts.importance(e, output)
    varies = e.data.max(0) > e.data.min(0)
    order = [int(j) for j in np.argsort(-part, kind="stable") if part[j] > 0 and varies[j]]
    shown = order[:FEATURES]
    each = WORK / max(1_000, products(e.network))
    shown = shown[: max(1, int(each / ROWS))]
    rows = min(len(e), int(each / max(1, len(shown))))
    if not shown or rows < min(ROWS, len(e)):
        return None
    place = np.linspace(0, len(e) - 1, rows).round().astype(np.int64)
    at, x = e.outputs[output], e.data[place]
    low, high = e.data.min(0), e.data.max(0)
    found = (
        along(e.network, x, j, float(low[j]), float(high[j]), output=at, max_knots=KNOTS)
        for j in shown
    )
    return Profiles(tuple(found), _says(e, len(order), len(shown), rows, output))


def _says(e: Explanation, moving: int, shown: int, rows: int, output: int) -> str:
    which = "" if moving == shown else f" The {shown} most important of {moving} features."
    over = "all rows" if rows == len(e) else f"{rows:,} evenly spaced of {count(len(e), 'row')}"
    name = f" Output {plain(e.output_names[output])}." if len(e.outputs) > 1 else ""
    return (
        "The output as one feature moves over its range and all others stay as they are: exact, "
        f"not on a grid. The mean is over {over}.{which}{name}"
    )


def for_page(found: Profiles, e: Explanation) -> list[dict[str, Any]]:
    """Name, mean, single curves and a rug, packed."""
    return [_for_page(p, e) for p in found.found]


def _for_page(p: Profile, e: Explanation) -> dict[str, Any]:
    column = np.sort(e.data[:, p.feature])
    rug = column[np.unique(np.linspace(0, len(column) - 1, RUG).astype(int))]
    return {
        "name": plain(e.feature_names[p.feature]),
        "mean": [_pack(p.t), _pack(p.mean[:, 0])],
        "curves": [[_pack(t), _pack(v[:, 0])] for t, v in (p.curve(i) for i in _some(p, CURVES))],
        "rug": np.unique(rug).tolist(),
    }


def _pack(values: NDArray[Any]) -> dict[str, Any]:
    return embed.packed(embed.rounded(values))


def _some(p: Profile, most: int) -> list[int]:
    """Rows whose curves are shown: evenly spaced by the value they have."""
    order = np.argsort(p.at, kind="stable")
    return [int(i) for i in order[np.unique(np.linspace(0, len(p) - 1, most).astype(int))]]


def profile(p: Profile, ax: Axes | None = None, *, output: int = 0, curves: int = CURVES) -> Figure:
    """A Profile: the mean curve, some rows' curves behind it, the rows' own values as a rug.

    output: position among the profile's outputs; curves: how many single rows, evenly spaced.
    """
    ax = new_axes(ax, 5.2, 2.9)
    for i in _some(p, curves) if curves else []:
        t, values = p.curve(i)
        ax.plot(t, values[:, output], color=UP, lw=0.8, alpha=0.35)
    ax.plot(p.t, p.mean[:, output], color=INK, lw=2.2, solid_joinstyle="round")
    low = ax.get_ylim()[0]
    rug = np.quantile(p.at, np.linspace(0, 1, RUG))
    ax.plot(rug, np.full(RUG, low), "|", color=SOFT, ms=7, mew=0.8, alpha=0.6)
    ax.set(xlabel=label(p.name), ylabel=label(p.output_names[output]))
    ax.grid(axis="y", color=LINE, lw=0.8)
    return figure_of(ax)
