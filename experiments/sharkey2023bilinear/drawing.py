"""The picture, in Okabe and Ito's colours, which all can tell apart."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from paths import KINDS
from reporting import Row

LINES = {
    "bilinear": ("#0072B2", "-"),
    "bilinear, no MLP": ("#0072B2", ":"),
    "softmax": ("#D55E00", "-"),
    "softmax, no MLP": ("#D55E00", ":"),
}
COLOURS = ("#999999", "#56B4E9", "#E69F00", "#009E73", "#CC79A7")
RULE = "and"


def picture(curves: list[Row], carried: list[Row], pairs: list[Row]) -> Figure:
    """Loss above the floor by pass; what kinds of terms carry the margin; the pairs found."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.35, 0.75))
    _curves(left, curves)
    _bars(middle, [r for r in carried if r["model"] == "bilinear"])
    shown = _pairs(right, [r for r in pairs if r["model"] == "bilinear"])
    bar = figure.colorbar(shown, ax=right, shrink=0.8)
    bar.set_label("interaction in logit t", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    for axes in (left, middle):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(axes: Axes, curves: list[Row]) -> None:
    for model, (colour, style) in LINES.items():
        mine = [r for r in curves if (r["model"], r["rule"]) == (model, RULE)]
        for n, seed in enumerate(dict.fromkeys(r["seed"] for r in mine)):
            one = [r for r in mine if r["seed"] == seed]
            label = None if n else model
            axes.plot([r["pass"] for r in one], [r["nats"] for r in one], color=colour,
                      ls=style, lw=1.2, label=label)  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("passes")
    axes.set_ylabel("nats above the floor (log scale)")
    axes.set_title("where the answer takes two tokens", fontsize=9)
    axes.legend(frameon=False, fontsize=8, title="attention", title_fontsize=8, loc="lower left")


def _bars(axes: Axes, rows: list[Row]) -> None:
    width = 0.16
    for n, (kind, colour) in enumerate(zip(KINDS, COLOURS, strict=True)):
        where = np.arange(len(rows)) + (n - 2) * width
        axes.bar(where, [float(r[kind]) for r in rows], width, color=colour, label=kind)
    for x, row in enumerate(rows):
        whole = float(row["margin"])
        axes.hlines(whole, x - 0.42, x + 0.42, color="black", lw=1)
        axes.text(x + 0.43, whole, f" {whole:.1f}", va="center", fontsize=8)
    axes.axhline(0, color="black", lw=0.5)
    axes.set_xticks(range(len(rows)), [str(r["rule"]) for r in rows])
    axes.set_ylabel("mean contribution to the margin, logits")
    axes.set_title("kinds of terms; black line: their sum, the margin", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_ylim(top=1.55 * max(float(r["margin"]) for r in rows))


def _pairs(axes: Axes, rows: list[Row]):
    m = 1 + max(int(r["t"]) for r in rows)
    table = np.zeros((m * m, m))
    for r in rows:
        table[m * int(r["a"]) + int(r["b"]), int(r["t"])] = r["interaction"]
    size = np.abs(table).max()
    shown = axes.imshow(table, cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto")
    for r in rows:
        if r["planted"]:
            axes.plot(int(r["t"]), m * int(r["a"]) + int(r["b"]), "k.", ms=4)
    axes.set_xticks(range(m), [f"t{t}" for t in range(m)], fontsize=8)
    names = [f"a{i} × b{j}" for i in range(m) for j in range(m)]
    axes.set_yticks(range(m * m), names, fontsize=7)
    axes.set_title("pairs, planted ones dotted", fontsize=9)
    return shown
