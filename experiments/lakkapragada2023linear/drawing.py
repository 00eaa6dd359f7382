"""The picture: D through training, D by depth beside the published, and D on the flow's own clock.

Okabe and Ito's colours for what is compared; one scale of blue for what is ordered.
"""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib import colormaps
from matplotlib.figure import Figure
from reporting import Row
from tables import Known

NOISES = {0.05: "#0072B2", 0.15: "#D55E00"}
BLUES = colormaps["viridis_r"]


def picture(found: dict[str, list[Row]], known: Known) -> Figure:
    """Three panels."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    through_training(left, found["curves"])
    by_depth(middle, found["depths"], known)
    by_time(right, found["rate_curves"])
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    return figure


def lines(rows: list[Row], *names: str) -> Iterator[tuple[tuple, list[Row]]]:
    """The rows of each value of these columns, in order."""
    for key in dict.fromkeys(tuple(r[n] for n in names) for r in rows):
        yield key, [r for r in rows if tuple(r[n] for n in names) == key]


def shade(place: float) -> tuple:
    """0: light, 1: dark; neither end of the scale is readable on white."""
    return BLUES(0.1 + 0.9 * place)


def through_training(axes, rows: list[Row]) -> None:
    """Mean D by step, a line a depth, on a plain axis as published."""
    for (depth,), mine in lines(rows, "depth"):
        steps, D = [r["step"] for r in mine], [r["D"] for r in mine]
        axes.plot(steps, D, color=shade((depth - 1) / 9), lw=1.3)
        if depth % 2 == 0 and depth > 2:
            axes.annotate(depth, (steps[-1], D[-1]), (3, -3), textcoords="offset points", size=8)
    axes.set_xlabel("step")
    axes.set_ylabel("D, mean of 1,000 trials")
    axes.set_title("Through training, by depth (noise 0.15)", fontsize=9)


def by_depth(axes, rows: list[Row], known: Known) -> None:
    """D at the end, ours with three standard errors, and what was published."""
    for noise, colour in NOISES.items():
        mine = [r for r in rows if r["noise"] == noise]
        depths, D = [r["depth"] for r in mine], [r["D"] for r in mine]
        bars = [3 * float(r["D se"]) for r in mine]
        label = f"here, noise {noise:g} (± 3 s.e.)"
        axes.errorbar(depths, D, bars, color=colour, lw=1.3, capsize=2, label=label)
        theirs = {d: v for (source, n, d), v in known.items() if (source, n) == ("figure", noise)}
        axes.plot(theirs.keys(), theirs.values(), "o", mfc="none", color=colour, ms=6,
                  label="published (100 trials)")  # fmt: skip
    axes.set_xlabel("depth")
    axes.set_xticks(range(1, 11))
    axes.set_title("After 10,000 steps at rate 0.001", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def by_time(axes, rows: list[Row]) -> None:
    """D against rate x steps: were steps small, all rates of a depth would be one curve."""
    rates = list(dict.fromkeys(r["rate"] for r in rows))
    for (depth, rate), mine in lines(rows, "depth", "rate"):
        later = [r for r in mine if r["step"] > 0]
        label = f"rate {rate:g}" if depth == rows[0]["depth"] else None
        time, D = [r["step"] * rate for r in later], [r["D"] for r in later]
        style, colour = "-" if label else "--", shade(rates.index(rate) / (len(rates) - 1))
        axes.plot(time, D, style, lw=1.3, color=colour, label=label)
        axes.plot(time[-1], D[-1], "o", color=colour, ms=5)  # where 10,000 steps of it end
    axes.axvline(10, color="#999999", lw=0.8)
    axes.annotate("published budget ", (10, 0.02), xycoords=("data", "axes fraction"), size=8,
                  ha="right", color="#666666")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left=1e-2)
    axes.set_xlabel("rate x steps")
    axes.set_title("Depth 5 (solid), 10 (dashed); dots: 10,000 steps", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
