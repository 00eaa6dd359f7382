"""Makes the pictures of the dual view in the docs: a 2-2-2-1 net, its paths, its gates.

python docs/make_dual_pictures.py     # writes docs/_static/dual_*.svg
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import gatewise as gw
from gatewise.show.axes import DOWN, INK, LINE, SOFT, UP
from gatewise.show.results import save_figure

STATIC = Path(__file__).parent / "_static"
WEIGHTS = (  # also in docs/explanation/dual.md
    [[1.0, -1.0], [1.0, 2.0]],
    [[1.0, 1.0], [-3.0, 1.0]],
    [[1.0, 2.0]],
)
POINTS = {"x": [3.0, 1.0], "x'": [1.0, 2.0]}
NAMES = (("x0", "x1"), ("a0", "a1"), ("b0", "b1"), ("f",))


def network() -> gw.Network:
    layers = []
    for weight in WEIGHTS:
        linear = nn.Linear(2, len(weight), bias=False).double()
        linear.weight.data = torch.tensor(weight).double()
        layers += [linear, nn.ReLU()]
    return gw.read(nn.Sequential(*layers[:-1]), torch.zeros(1, 2).double())


def place(layer: int, unit: int) -> tuple[float, float]:
    return 1.7 * layer, 0.55 if layer == 3 else 1.1 * (1 - unit)


def draw(ax, x: list[float]) -> None:
    """The net with what is active at x in colour, and what is off in grey."""
    values = [np.array(x)]
    for weight in WEIGHTS[:-1]:
        values.append(np.maximum(np.array(weight) @ values[-1], 0))
    values.append(np.array(WEIGHTS[-1]) @ values[-1])
    for layer, weight in enumerate(WEIGHTS):
        for to, source in itertools.product(*map(range, np.shape(weight))):
            on = all(layer_on(values, k, u) for k, u in ((layer, source), (layer + 1, to)))
            edge(ax, place(layer, source), place(layer + 1, to), weight[to][source], on)
    for layer, units in enumerate(NAMES):
        for unit, name in enumerate(units):
            on = layer_on(values, layer, unit)
            spot(ax, place(layer, unit), name, values[layer][unit], on)
    ax.set(xlim=(-0.5, 5.6), ylim=(-0.45, 1.6), aspect="equal")
    ax.set_axis_off()


def layer_on(values: list[np.ndarray], layer: int, unit: int) -> bool:
    return layer in (0, 3) or values[layer][unit] > 0


def edge(ax, a: tuple[float, float], b: tuple[float, float], weight: float, on: bool) -> None:
    colour = (UP if weight > 0 else DOWN) if on else LINE
    ax.plot(*zip(a, b, strict=True), color=colour, lw=2.0 if on else 1.0, zorder=1)
    at = np.array(a) + 0.33 * (np.array(b) - np.array(a))
    ax.text(
        *at, f"{weight:g}".replace("-", "−"), color=colour if on else SOFT, fontsize=9,
        ha="center", va="center", zorder=2, bbox={"fc": "white", "ec": "none", "pad": 0.8},
    )  # fmt: skip


def spot(ax, at: tuple[float, float], name: str, value: float, on: bool) -> None:
    ax.plot(*at, "o", ms=25, mfc="white", mec=INK if on else LINE, mew=1.6, zorder=3)
    ax.text(*at, f"{value:g}".replace("-", "−"), ha="center", va="center", fontsize=10,
            color=INK if on else SOFT, zorder=4)  # fmt: skip
    ax.text(at[0], at[1] + 0.31, name if on else f"{name} off", ha="center", va="bottom",
            fontsize=9, color=SOFT, zorder=4)  # fmt: skip


def gates() -> None:
    figure = Figure((9.4, 2.5), layout="constrained")
    for ax, (name, x) in zip(figure.subplots(1, 2), POINTS.items(), strict=True):
        draw(ax, x)
        ax.set_title(f"{name} = ({x[0]:g}, {x[1]:g})", fontsize=11, color=INK, loc="left")
    save_figure(figure, STATIC / "dual_gates.svg")


def paths() -> None:
    """All eight paths at x, one small net each: active in colour."""
    table = gw.dual.explicit_paths(network(), [POINTS["x"]])
    figure = Figure((9.4, 3.1), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    order = np.lexsort((table.units[:, 1], table.units[:, 0], table.starts))
    for ax, i in zip(axes, order, strict=True):
        one_path(ax, table, int(i))
    save_figure(figure, STATIC / "dual_paths.svg")


def one_path(ax, table, i: int) -> None:
    way = [int(table.starts[i]), *(int(u) for u in table.units[i])]
    on = table.features[0, i] != 0
    for layer, weight in enumerate(WEIGHTS):
        for to, source in itertools.product(*map(range, np.shape(weight))):
            ax.plot(*zip(place(layer, source), place(layer + 1, to), strict=True), color=LINE, lw=1)
    spots = [place(layer, unit) for layer, unit in enumerate(way)]
    brings = float(table.contributions[0, i])
    colour = SOFT if not on else UP if brings > 0 else DOWN
    ax.plot(*zip(*spots, strict=True), color=colour, lw=2.6 if on else 1.6, ls="-" if on else ":")
    for layer, units in enumerate(NAMES):
        for unit in range(len(units)):
            ax.plot(*place(layer, unit), "o", ms=6, mfc="white", mec=LINE if not on else INK)
    v, phi = (f"{n:g}".replace("-", "−") for n in (table.values[i], table.features[0, i]))
    ax.set_title(f"v = {v},  φ = {phi}", fontsize=10, color=INK if on else SOFT)
    ax.set(xlim=(-0.3, 5.4), ylim=(-0.3, 1.4))
    ax.set_axis_off()


if __name__ == "__main__":
    STATIC.mkdir(exist_ok=True)
    gates()
    paths()
    print(gw.dual.explicit_paths(network(), list(POINTS.values())))
    print(gw.dual.npk(network(), list(POINTS.values())).values)
