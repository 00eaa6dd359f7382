"""Pictures of both experiments, in Okabe and Ito's colours, which all can tell apart."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def rule_picture(weights: np.ndarray, labels: list[str], names: tuple[str, ...]) -> Figure:
    """Clusters by features, coloured by the signed slope; the number is written in each cell."""
    figure = Figure(figsize=(8.2, 0.42 * len(labels) + 1.3), layout="constrained")
    axes = figure.subplots()
    most = np.abs(weights).max()
    image = axes.imshow(weights, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    for (i, j), value in np.ndenumerate(weights):
        colour = "white" if abs(value) > 0.6 * most else "black"
        axes.text(j, i, f"{value:+.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.tick_params(length=0)
    figure.colorbar(image, label="log-odds a deviation", fraction=0.03, pad=0.01)
    return figure


def slope_picture(
    weights: np.ndarray, sizes: np.ndarray, mean: np.ndarray, names: tuple[str, ...]
) -> Figure:
    """A dot a cluster and feature, spread sideways by a fixed pattern; a bar at the mean."""
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    axes = figure.subplots()
    aside = (np.arange(len(weights)) * 0.618) % 1 * 0.6 - 0.3
    for j in range(weights.shape[1]):
        axes.scatter(j + aside, weights[:, j], s=3 + sizes, color=BLUE, alpha=0.45, lw=0)
        axes.plot([j - 0.38, j + 0.38], [mean[j]] * 2, color=ORANGE, lw=2)
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
    axes.set_ylabel("slope, log-odds a deviation")
    _bare(axes)
    return figure


def clusters_of_width(found: list[dict]) -> Figure:
    """Clusters (left) and held-out accuracy (right) against the number of units."""
    figure = Figure(figsize=(8.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for depth, colour, mark in ((1, BLUE, "o"), (2, ORANGE, "s")):
        rows = [r for r in found if r["hidden"].count("-") == depth - 1]
        units = [r["units"] for r in rows]
        middle = np.array([r["clusters"] for r in rows])
        error = [middle - [r["low"] for r in rows], np.array([r["high"] for r in rows]) - middle]
        label = f"{depth} hidden layer{'s' * (depth > 1)}"
        style = {"color": colour, "marker": mark, "label": label}
        left.errorbar(units, middle, yerr=error, capsize=3, **style)
        right.plot(units, [r["accuracy"] for r in rows], **style)
    _units(left, "clusters among the rows")
    _units(right, "held-out accuracy")
    right.set_ylim(0.7, 0.9)
    left.legend(frameon=False)
    return figure


def switch_picture(
    x0: np.ndarray, slopes: np.ndarray, laws: np.ndarray, shown: list[int]
) -> Figure:
    """Each row's slope of some features against x0, over the two true values."""
    figure = Figure(figsize=(8.2, 2.9), layout="constrained")
    for axes, j in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for law, ends in ((laws[1], (x0.min(), 0)), (laws[0], (0, x0.max()))):
            axes.plot(ends, [law[j]] * 2, color=ORANGE, lw=6, alpha=0.5, label="true law")
        axes.scatter(x0, slopes[:, j], s=3, color=BLUE, lw=0, zorder=3, label="network, a row each")
        low, high = laws[:, j].min() - 1.5, laws[:, j].max() + 1.5
        axes.set_ylim(low, high)
        outside = int(((slopes[:, j] < low) | (slopes[:, j] > high)).sum())
        beyond = f"; {outside} rows lie beyond" if outside else ""
        axes.set_xlabel(f"x0{beyond}", fontsize=9)
        axes.set_title(f"slope of x{j}", fontsize=10)
        _bare(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.axes[0].legend(handles[1:], labels[1:], frameon=False, loc="lower left", fontsize=8)
    return figure


def counts_picture(by_width: list[dict], by_alpha: list[dict]) -> Figure:
    """Clusters against width and against weight decay (above); agreement with the laws (below)."""
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (rows, what) in enumerate(((by_width, "units"), (by_alpha, "alpha"))):
        top, bottom = grid[:, column]
        ones = [r for r in rows if "-" not in r["hidden"]]
        x = [r[what] for r in ones]
        middle = np.array([r["clusters"] for r in ones])
        error = [middle - [r["low"] for r in ones], np.array([r["high"] for r in ones]) - middle]
        top.errorbar(x, middle, yerr=error, capsize=3, color=BLUE, marker="o")
        bottom.plot(x, [r["ari"] for r in ones], color=BLUE, marker="o", label="clusters")
        bottom.plot(x, [r["rules ari"] for r in ones], color=ORANGE, marker="s", label="two rules")
        top.set_yscale("log")
        bottom.set_ylim(-0.05, 1.05)
        bottom.set_xscale("log", base=2 if what == "units" else 10)
        for axes in (top, bottom):
            if what == "units":
                axes.set_xticks(x, x)
            _bare(axes)
        bottom.set_xlabel("hidden units" if what == "units" else "L2 penalty (weight decay)")
        if column == 0:
            top.set_ylabel("clusters")
            bottom.set_ylabel("adjusted Rand index")
            bottom.legend(frameon=False, fontsize=8)
    return figure


def _units(axes, label: str) -> None:
    axes.set_xlabel("hidden units")
    axes.set_ylabel(label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
    _bare(axes)


def _bare(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
