"""html(complex): the regions of a complex of three coordinates, or a decision surface, to turn.

One page that needs no other: the drawing library's own bundle is in it, and the page's policy lets
no other script run and asks no network. Inside a region the colours are the output's own: the
values at the corners are exact, and the output is affine between them.
"""

from __future__ import annotations

import base64
import html as entities
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, missing
from gatewise.explain.names import output_index, output_names
from gatewise.regions.polyhedral.boundary import boundary
from gatewise.regions.polyhedral.complex import Complex
from gatewise.show import embed, plane, polygons, scripts
from gatewise.show.axes import SOFT
from gatewise.show.maps import TILES
from gatewise.show.words import number, plain

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST = 5_000  # regions: more are neither read nor turned
EYE = {"eye": {"x": 1.45, "y": 1.6, "z": 0.95}, "center": {"x": 0, "y": 0, "z": -0.08}}
APART = 0.35  # of its distance from the middle by which each cell is moved away from it
SCALE = (
    (0.0, "#1d3f6e"),
    (0.35, "#6f9bc8"),
    (0.55, "#f1ede4"),
    (0.75, "#e3a763"),
    (1.0, "#a3450b"),
)
OWN = """
const figure = JSON.parse(document.getElementById("figure").textContent);
const place = document.getElementById("picture");
if (innerWidth < 640) {
  for (const axis of "xyz") figure.layout.scene.camera.eye[axis] *= 1.7;
  figure.data[0].showscale = false;
}
const options = {responsive: true, displayModeBar: false};
Plotly.newPlot(place, figure.data, figure.layout, options)
  .then(() => { document.documentElement.dataset.ready = ""; });
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0; font: 15px/1.45 system-ui, sans-serif; color: #1b2430; background: #fff; }}
main {{ max-width: 1200px; margin: 0 auto; padding: 20px; }}
h1 {{ font-size: 22px; margin: 0; }} p {{ color: #5b6876; margin: 4px 0 0; }}
#picture {{ height: min(78vh, 900px); min-height: 420px; }}
</style></head><body><main>
<h1>{title}</h1><p>{says}</p>
<div id="picture" role="img" aria-label="{title}: {says}"></div></main>
<script type="application/json" id="figure">{figure}</script>
{scripts}
</body></html>
"""


class Facets(NamedTuple):
    """Polygons in three dimensions: corner (N,) places in cells.vertex, ring (N,) ascending."""

    corner: Ints
    ring: Ints


def html(
    c: Complex,
    *,
    output: int | str = 0,
    level: float | None = None,
    title: str | None = None,
    names: Sequence[str] = (),
) -> str:
    """The page: every cell, moved apart, coloured by the output; by a button the surface where the
    output is `level` (0 by default, for a network of one output).

    names: of the coordinates, the features that vary by default.
    """
    _require(c)
    place = output_index(output, output_names(c.network))
    several = c.network.outputs > 1 or c.network.task == "regression"
    wanted = level if level is not None or several else 0.0
    name = plain(output_names(c.network)[place])
    surface = _surface(c, place, wanted)
    shown = f"{name} = {number(wanted or 0.0)}" if surface else ""
    figure = {
        "data": [_cells(c, place), _edges(c), *surface],
        "layout": _layout(c, list(names) or plane.axis_names(c), _text(shown) if shown else ""),
    }
    texts = [_library(), OWN]
    return PAGE.format(
        policy=scripts.policy(tuple(texts)),
        title=entities.escape(plain(title) if title else plane.title(c)),
        says=f"Regions coloured by {entities.escape(name)} and moved apart. Drag to turn.",
        figure=embed.as_json(figure),
        scripts="\n".join(f"<script>{text}</script>" for text in texts),
    )


def _require(c: Complex) -> None:
    if c.dimension != 3:
        raise DataError(
            f"a solid picture needs 3 coordinates, this complex has {c.dimension}: hold the other "
            f"inputs by equal bounds, or cut a slice through four points"
        )
    if len(c) > MOST:
        raise DataError(
            f"a solid picture shows at most {MOST:,} regions, this complex has {len(c):,}: take a "
            f"smaller box, or its boundary"
        )


def _library() -> str:
    """The bundle as the installed package holds it, fit to stand between script tags."""
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise missing("plotly", "report", "a solid picture") from None
    return _safe(get_plotlyjs())


def _safe(text: str) -> str:
    plain_ends = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain_ends.replace("</script", "<\\/script").replace("<!--", "<\\!--")


# ---------------------------------------------------------------- shapes


def facets(c: Complex) -> Facets:
    """The facets of all cells, each with its corners in order around it."""
    cell = np.repeat(np.arange(len(c)), np.diff(c.cells.ptr))
    flat = np.ascontiguousarray(c.cells.mask.astype("<u8")).view(np.uint8)
    corner, bit = np.nonzero(np.unpackbits(flat.reshape(len(cell), -1), axis=1, bitorder="little"))
    of = c.cells.facet_ptr[cell[corner]] + bit
    order = np.argsort(of, kind="stable")
    _, ring = np.unique(of[order], return_inverse=True)
    corner = corner[order]
    turn = _angles(c.vertices[c.cells.vertex[corner]], ring)
    order = np.lexsort((turn, ring))
    return Facets(corner[order], ring[order])


def _angles(at: Floats, ring: Ints) -> Floats:
    """The angle of each corner around the middle of its polygon, in the polygon's own plane."""
    start = np.flatnonzero(np.diff(ring, prepend=-1))
    size = np.diff(start, append=len(ring))
    away = at - (np.add.reduceat(at, start) / size[:, None])[ring]
    spread = np.add.reduceat(away[:, :, None] * away[:, None, :], start)
    _, frame = np.linalg.eigh(spread)  # the plane is spanned by the two longest axes
    flat = np.einsum("ni,nij->nj", away, frame[ring])
    return np.asarray(np.arctan2(flat[:, 2], flat[:, 1]), np.float64)


def fans(f: Facets) -> Ints:
    """(T, 3) places among the facets' corners: triangles from each polygon's first corner."""
    start = np.flatnonzero(np.diff(f.ring, prepend=-1))
    size = np.diff(start, append=len(f.ring)) - 2
    first = np.repeat(start, size)
    step = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    return np.stack([first, first + step + 1, first + step + 2], 1)


# ---------------------------------------------------------------- traces


def _cells(c: Complex, output: int) -> dict[str, Any]:
    """Every cell, moved away from the middle of the box as a whole."""
    f = facets(c)
    name = _text(output_names(c.network)[output])
    return {
        "type": "mesh3d",
        "name": "regions",
        **_columns("xyz", _apart(c)),
        **_columns("ijk", f.corner[fans(f)]),
        "intensity": _array(polygons.corner_values(c)[:, output]),
        "colorscale": [list(pair) for pair in SCALE],
        "colorbar": {"title": {"text": name}, "thickness": 14, "outlinewidth": 0, "len": 0.7},
        "flatshading": True,
        "lighting": {"ambient": 0.8, "diffuse": 0.35, "specular": 0.02},
        "hovertemplate": name + " = %{intensity:.4g}<extra></extra>",
    }


def _apart(c: Complex) -> Floats:
    """The corners of every cell, moved with their cell."""
    middle = (c.slice.low + c.slice.high) / 2
    cell = np.repeat(np.arange(len(c)), np.diff(c.cells.ptr))
    found: Floats = c.vertices[c.cells.vertex] + APART * (c.interior - middle)[cell]
    return found


def _edges(c: Complex) -> dict[str, Any]:
    """The edges of every cell, where the cell is drawn."""
    f = facets(c)
    ends = np.sort(np.stack([f.corner, f.corner[polygons.following(f.ring)]], 1), 1)
    ends = np.unique(ends, axis=0)
    at = np.full((len(ends), 3, 3), np.nan)  # a gap after each
    at[:, :2] = _apart(c)[ends]
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": "edges",
        **_columns("xyz", at.reshape(-1, 3)),
        "line": {"color": "#ffffff", "width": 1.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _surface(c: Complex, output: int, level: float | None) -> list[dict[str, Any]]:
    """Where the output is at the level, if it is anywhere; the piece in each region in a colour."""
    if level is None or polygons.jumps(c):
        return []
    found = boundary(c, output, level=level)
    if not len(found):
        return []
    tone = np.random.default_rng(0).integers(0, len(TILES), len(found))
    tone = np.repeat(tone, np.diff(found.ptr) - 2)
    return [
        {
            "type": "mesh3d",
            "name": "surface",
            "visible": False,
            **_columns("xyz", found.points),
            **_columns("ijk", found.triangles()),
            "facecolor": [TILES[i] for i in tone],
            "flatshading": True,
            "lighting": {"ambient": 0.85, "diffuse": 0.4, "specular": 0.05},
            "hoverinfo": "skip",
        }
    ]


def _text(name: str) -> str:
    """A name on one line in which the drawing library's script sees no tags."""
    return plain(name).replace("<", "‹").replace(">", "›").replace("&", "＆")


def _columns(names: str, rows: Any) -> dict[str, Any]:
    return {name: _array(rows[:, i]) for i, name in enumerate(names)}


def _array(values: Any) -> dict[str, str]:
    """Numbers as the drawing library's script takes them in few bytes."""
    kind = "f4" if values.dtype.kind == "f" else "i4"
    packed = np.ascontiguousarray(values, "<" + kind)
    return {"dtype": kind, "bdata": base64.b64encode(packed.tobytes()).decode()}


def _layout(c: Complex, names: Sequence[str], surface: str) -> dict[str, Any]:
    """Room for the cells moved apart; a button each for the regions and the surface."""
    more = APART / 2 * (c.slice.high - c.slice.low)
    axes = {}
    for i, key in enumerate(("xaxis", "yaxis", "zaxis")):
        axes[key] = {
            "title": {"text": _text(names[i])},
            "range": [float(c.slice.low[i] - more[i]), float(c.slice.high[i] + more[i])],
            "backgroundcolor": "#f6f7f9",
            "gridcolor": "#dfe4ea",
            "zeroline": False,
            "showbackground": True,
            "color": SOFT,
        }
    oblique = plane.free_inputs(c) is None
    return {
        "scene": {**axes, "aspectmode": "data" if oblique else "cube", "camera": EYE},
        "margin": {"l": 0, "r": 0, "t": 8, "b": 0},
        "font": {"family": "system-ui, sans-serif", "color": SOFT, "size": 13},
        "updatemenus": [_buttons(surface)] if surface else [],
    }


def _buttons(surface: str) -> dict[str, Any]:
    views = (("regions", [True, True, False]), (surface, [False, False, True]))
    return {
        "type": "buttons",
        "direction": "right",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "top",
        "showactive": True,
        "buttons": [
            {"label": text, "method": "restyle", "args": [{"visible": v}]} for text, v in views
        ],
    }
