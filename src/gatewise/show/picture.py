"""The regions of a network of two inputs, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.patterns.census import Census, census
from gatewise.show.axes import DOWN, INK, SOFT, TEXT, UP, figure_of, label, new_axes
from gatewise.show.truth import target
from gatewise.show.words import count
from gatewise.tables import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
HUE = 2.6  # of a slope along the first input


def picture(
    e: Explanation, ax: Axes | None = None, *, output: int = 0, resolution: int = 400
) -> Figure:
    """The regions of a network of two inputs around its data, coloured by slope; its zero line.

    Hue is the direction in which the output rises, depth how steeply. The title counts the
    distinct maps met on a resolution x resolution grid.
    """
    if len(e.feature_names) != 2:
        raise DataError(f"picture needs a network of 2 inputs, this one has {len(e.feature_names)}")
    ax = new_axes(ax, 7.2, 4.8)
    axes, grid = _grid(e.data, resolution)
    found = _draw(ax, e, axes, grid, (0, 1), output)
    _points(ax, e)
    maps = _distinct(found, e.outputs[output])
    ax.set_title(
        f"One network, {count(maps, 'affine map')}",
        color=INK,
        fontsize=16,
        pad=28,
        loc="left",
        fontweight="bold",
    )
    ax.text(
        0,
        1.025,
        "Within each region the output is exactly b + w·x. The dark line is where it is 0.",
        transform=ax.transAxes,
        color=SOFT,
        fontsize=10,
    )
    return figure_of(ax)


def region_map(
    e: Explanation,
    row: int,
    features: tuple[int | str, int | str],
    ax: Axes | None = None,
    *,
    output: int = 0,
    resolution: int = 300,
) -> Figure:
    """The regions met when two features of a row vary over the data's range and the others stay.

    Colours as in `picture`, walls in white, the zero line dark, the row itself marked. The
    pattern is evaluated on a resolution x resolution grid: a region thinner than a cell may be
    missed, and the title says so.
    """
    i, j = (_feature(e, feature) for feature in features)
    if i == j:
        raise DataError(
            f"region_map needs two different features, got '{e.feature_names[i]}' twice"
        )
    if not -len(e) <= row < len(e):
        raise DataError(f"there are {len(e)} rows, counted from 0; got row {row}")
    ax = new_axes(ax, 6.4, 4.6)
    axes, plane = _grid(e.data[:, [i, j]], resolution)
    grid = np.tile(e.data[row], (len(plane), 1))
    grid[:, [i, j]] = plane
    found = _draw(ax, e, axes, grid, (i, j), output)
    here = e.data[row, [i, j]]
    ax.plot(*here[:, None], "o", ms=9, mfc=INK, mec="white", mew=1.6)
    ax.set_title(
        f"{count(len(found), 'region')} met on a {resolution} × {resolution} grid through row "
        f"{e.matrix.index[row]}; thinner ones may be missed",
        color=SOFT,
        fontsize=TEXT,
        loc="left",
    )
    return figure_of(ax)


def _feature(e: Explanation, asked: int | str) -> int:
    """A feature by its name or position."""
    if isinstance(asked, str) and asked in e.feature_names:
        return e.feature_names.index(asked)
    if not isinstance(asked, str) and -len(e.feature_names) <= asked < len(e.feature_names):
        return int(asked) % len(e.feature_names)
    raise DataError(f"no feature {asked!r}: there are {listed(e.feature_names)}")


def _draw(
    ax: Axes,
    e: Explanation,
    axes: tuple[Floats, Floats],
    grid: Floats,
    pair: tuple[int, int],
    output: int,
) -> Census:
    """Regions, walls and zero line of the network on a plane of points; what was met."""
    found = census(e.network, e.network.rows(grid))
    shape = (len(axes[1]), len(axes[0]))
    ids = found.ids.reshape(shape)
    box = (axes[0][0], axes[0][-1], axes[1][0], axes[1][-1])
    tones = _tones(found, e.outputs[output], pair, np.array([box[1] - box[0], box[3] - box[2]]))
    ax.imshow(tones[ids], origin="lower", extent=box, aspect="auto", interpolation="nearest")
    _walls(ax, ids, axes)
    height = found.output[:, e.outputs[output]].double().cpu().numpy().reshape(shape)
    if height.min() < 0 < height.max():
        ax.contour(*axes, height, levels=[0], colors=INK, linewidths=2.4)
    ax.set(
        xlim=box[:2],
        ylim=box[2:],
        xlabel=label(e.feature_names[pair[0]]),
        ylabel=label(e.feature_names[pair[1]]),
    )
    ax.spines[:].set_visible(False)
    return found


def _distinct(found: Census, output: int) -> int:
    """How many of the clusters' maps differ by more than rounding."""
    weight, offset = found.maps.rows([output])
    maps = torch.cat([weight[:, 0], offset], 1).double().cpu().numpy()
    return len(np.unique(np.round(maps / (np.abs(maps).max() or 1.0), 10), axis=0))


def _grid(data: Floats, n: int) -> tuple[tuple[Floats, Floats], Floats]:
    low, high = data.min(0), data.max(0)
    room = np.where(high > low, 0.12 * (high - low), 1.0)
    x, y = (np.linspace(a, b, n) for a, b in zip(low - room, high + room, strict=True))
    return (x, y), np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _tones(found: Census, output: int, pair: tuple[int, int], span: Floats) -> Floats:
    """(clusters, 3) colours: hue = direction of the slope on the picture, depth = its size."""
    w = found.maps.rows([output])[0][:, 0].double().cpu().numpy()[:, list(pair)] * span
    steep = np.linalg.norm(w, axis=1)
    depth = np.argsort(np.argsort(steep)) / max(1, len(steep) - 1)
    return _oklch(0.95 - 0.17 * depth, 0.025 + 0.055 * depth, HUE - np.arctan2(w[:, 1], w[:, 0]))


def _oklch(light: Floats, chroma: Floats, hue: Floats) -> Floats:
    """sRGB of a colour of even lightness (Ottosson's Oklab)."""
    lab = np.stack([light, chroma * np.cos(hue), chroma * np.sin(hue)], -1)
    to_cone = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    rgb = np.clip(((lab @ to_cone.T) ** 3) @ to_rgb.T, 0, 1)
    return cast(Floats, np.where(rgb > 0.0031308, 1.055 * rgb ** (1 / 2.4) - 0.055, 12.92 * rgb))


def _walls(ax: Axes, ids: NDArray[np.int64], axes: tuple[Floats, Floats]) -> None:
    """A thin white line wherever two neighbours on the grid differ."""
    edge = np.zeros(ids.shape)
    edge[:, :-1] += ids[:, :-1] != ids[:, 1:]
    edge[:-1] += ids[:-1] != ids[1:]
    ink = np.ones((*ids.shape, 4))
    ink[..., 3] = 0.9 * (edge > 0)
    ax.imshow(ink, origin="lower", extent=(*axes[0][[0, -1]], *axes[1][[0, -1]]), aspect="auto")


def _points(ax: Axes, e: Explanation) -> None:
    """The rows: two labels in blue and orange, anything else in grey."""
    found = target(e)
    two = found is not None and len(found.names) == 2
    codes = found.codes if found is not None and two else np.zeros(len(e), np.int64)
    for code, colour in ((0, DOWN if two else SOFT), (1, UP)):
        part = e.data[codes == code]
        ax.plot(part[:, 0], part[:, 1], "o", ms=4.6, mfc=colour, mec="white", mew=0.7, ls="")
