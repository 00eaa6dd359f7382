"""Pictures, in Okabe and Ito's colours, which all can tell apart."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from reporting import Row
from tables import PUBLISHED, nu_means

COLOURS = {
    "DNPFL": "#009E73",
    "ReLU": "#0072B2",
    "FLNPF": "#D55E00",
    "FRNPF-DI": "#CC79A7",
    "FRNPF-II": "#666666",
}


def curves_picture(rows: list[Row]) -> Figure:
    """Test accuracy by pass, a line a network; the published best pass as a bar at the right."""
    figure = Figure(figsize=(8.2, 3.6), layout="constrained")
    axes = figure.subplots()
    passes = np.array([r["pass"] for r in rows])
    for name, colour in COLOURS.items():
        columns = [c for c in rows[0] if c.split("/")[0] == name]
        for k, column in enumerate(columns):
            values = [float(r[column]) for r in rows]
            axes.plot(passes, values, color=colour, lw=0.9, label=None if k else name)
        right = passes[-1]
        axes.plot(
            [right * 1.01, right * 1.05], [PUBLISHED["mnist"][name][0]] * 2, color=colour, lw=4
        )
    axes.set_ylim(93.5, 98.6)
    axes.set_xlabel("passes over the training rows; bars at the right: published best")
    axes.set_ylabel("test accuracy, %")
    axes.legend(frameon=False, ncols=3, fontsize=9)
    _bare(axes)
    return figure


def nu_picture(rows: list[Row]) -> Figure:
    """nu's mean over the runs and its range, by pass."""
    figure = Figure(figsize=(8.2, 2.8), layout="constrained")
    axes = figure.subplots()
    passes, mean, ends = nu_means(rows)
    axes.fill_between(passes, ends[:, 0], ends[:, 1], color="#0072B2", alpha=0.2, lw=0)
    axes.plot(passes, mean, color="#0072B2")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("passes over the training rows")
    axes.set_ylabel("ν of the gates' kernel")
    _bare(axes)
    return figure


def _bare(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
