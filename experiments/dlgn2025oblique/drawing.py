"""The picture, in Okabe and Ito's colours, which all can tell apart."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from reporting import Row

COLOURS = {"DLGN": "#0072B2", "DLGN-SF": "#D55E00"}


def picture(curves: list[Row], angles: list[Row], chance: np.ndarray, published: dict) -> Figure:
    """Validation accuracy by pass (left), angles of the gates to the nearest split (right), SDI."""
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.arange(0, 91, 5)
    for model, colour in COLOURS.items():
        mine = [r for r in curves if (r["data"], r["model"]) == ("SDI", model)]
        for k, seed in enumerate(dict.fromkeys(r["seed"] for r in mine)):
            one = [r for r in mine if r["seed"] == seed]
            values = [r["validation"] for r in one]
            label = None if k else model
            left.plot([r["pass"] for r in one], values, color=colour, lw=1, label=label)
        left.axhline(published["SDI", model], color=colour, lw=1, ls=":")
        near = [float(r["angle"]) for r in angles if (r["data"], r["model"]) == ("SDI", model)]
        right.hist(near, edges, density=True, histtype="step", color=colour, lw=1.5, label=model)
    right.hist(chance, edges, density=True, color="#cccccc", label="random planes", zorder=0)
    left.set_xlabel("passes (dotted: published test accuracy)")
    left.set_ylabel("validation accuracy, SDI")
    left.legend(frameon=False)
    right.set_xlabel("angle of a gate to the nearest split, degrees")
    right.set_yticks([])
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
