"""The page's pictures, of kept tables and eigenvectors. Blue is positive, red negative."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reporting import Row
from tables import MASKS, RANDOM, Tables, column, where

Pictures = dict[str, np.ndarray]
CLASSES = (
    "top",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
GREY, BLUE, RED = "#777777", "#0072B2", "#D55E00"


def pictures(tables: Tables, kept: Pictures) -> dict[str, Figure]:
    """Name and figure of each that the tables at hand allow."""
    need = {
        "eigenvectors": (eigenvectors, ("spectra", "hosvd")),
        "similarity": (similarity, ("agreement", "truncation")),
        "masks": (masks, ("masks",)),
        "noise": (noise, ("sparsity", "augment")),
    }
    return {
        name: draw(tables, kept)
        for name, (draw, at) in need.items()
        if all(t in tables for t in at)
    }


def show(axes: Axes, image: np.ndarray, label: str = "", upright: bool = True, most: float = 1.0):
    """One picture of 28 by 28; an eigenvector's sign is arbitrary, so its larger side is blue."""
    image = image * np.sign((image**3).sum() or 1) if upright else image
    axes.imshow(image, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
    bare(axes)
    if label:
        axes.set_xlabel(label, fontsize=8, labelpad=2)


def bare(axes: Axes) -> None:
    """No ticks, a hair of a frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_linewidth(0.4)
        side.set_color("#bbbbbb")


def plain(axes: Axes) -> None:
    """No frame above and right, small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


# ---------------------------------------------------------------- figures 2B, 3, 17, 18


def eigenvectors(tables: Tables, kept: Pictures) -> Figure:
    """First eigenvectors of both data sets; digit 5; the first two HOSVD directions."""
    figure = Figure(figsize=(8.2, 6.6), layout="constrained")
    parts = figure.subfigures(4, 1, height_ratios=[1, 1, 1.9, 1.9])
    for part, data, names in (
        (parts[0], "mnist", "0123456789"),
        (parts[1], "fashion", CLASSES),
    ):
        for axes, image, name in zip(
            part.subplots(1, 10), kept[f"{data} first"], names, strict=True
        ):
            show(axes, image, name)
    five(parts[2], where(tables["spectra"], data="mnist", output=5), kept["mnist 5"])
    for part, k in zip(parts[3].subfigures(1, 2), (1, 2), strict=True):
        direction(part, where(tables["hosvd"], data="mnist", direction=k)[0], kept[f"hosvd {k}"])
    return figure


def five(part, rows: list[Row], images: np.ndarray) -> None:
    """Digit 5: eigenvalues of either sign, four eigenvectors of each."""
    grid = part.subplots(2, 5, width_ratios=[1.5, 1, 1, 1, 1])
    for line, sign, colour, at in ((grid[0], "positive", BLUE, 0), (grid[1], "negative", RED, 4)):
        values = column(where(rows, sign=sign), "value")
        line[0].plot(range(1, len(values) + 1), values, color=colour, marker=".", ms=4, lw=1)
        line[0].axhline(0, color="#cccccc", lw=0.6)
        line[0].set_ylabel(f"{sign} λ", fontsize=8)
        plain(line[0])
        for k in range(4):
            show(line[k + 1], images[at + k], f"{values[k]:+.3f}")
    grid[0][0].set_title("digit 5: 20 eigenvalues a side, of 512", fontsize=8)


def direction(part, row: Row, images: np.ndarray) -> None:
    """An HOSVD direction: what it adds to each digit, and its eigenvectors."""
    grid = part.subplots(2, 4, width_ratios=[1.9, 1, 1, 1])
    shares = np.array([float(row[f"output {u}"]) for u in range(10)])
    big = grid[0][0].get_gridspec()
    for line in grid:
        line[0].remove()
    axes = part.add_subplot(big[:, 0])
    colours = np.where(shares > 0.25, BLUE, np.where(shares < -0.25, RED, "#bbbbbb"))
    axes.barh(range(10), shares, color=list(colours))
    axes.set_yticks(range(10))
    axes.invert_yaxis()
    axes.set_title(f"HOSVD {row['direction']}: σ {float(row['singular']):.2f}", fontsize=8)
    plain(axes)
    for line, at, end in ((grid[0], 0, "top"), (grid[1], 3, "bottom")):
        for k in range(3):
            show(line[k + 1], images[at + k], f"λ {float(row[end]):+.2f}" if k == 0 else "")


# ---------------------------------------------------------------- figures 5A, 5B, 20


def similarity(tables: Tables, kept: Pictures) -> Figure:
    """Agreement between seeds by rank, and the error with few eigenpairs, by size."""
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, cuts = tables["agreement"], tables["truncation"]
    sizes = sorted({int(r["hidden"]) for r in rows})
    shades = colormaps["viridis"](np.linspace(0, 0.88, len(sizes)))
    for size, colour in zip(sizes, shades, strict=True):
        mine = where(rows, hidden=size)
        for order, pairs, style in (
            ("positive", "distinct", "-"),
            ("negative", "with_self", ":"),
        ):
            line = where(mine, order=order, pairs=pairs)
            label = f"hidden {size}" if style == "-" else None
            left.plot(
                column(line, "rank"), column(line, "cosine"), style, color=colour, label=label
            )
        error_curve(right, where(cuts, hidden=size, space="hidden"), colour, "-")
    largest = where(cuts, hidden=sizes[-1], space="data")
    error_curve(right, largest, RED, "--", f"hidden {sizes[-1]}, weighted by data")
    left.axhspan(0.8, 0.9, xmax=0.06, color="#dddddd", zorder=0)
    left.set(ylim=(0, 1), xlabel="rank of the eigenvector", ylabel="mean |cosine| between seeds")
    left.set_title("true pairs (—), counted as published (···)", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    left.set_xticks([1, 5, 10, 15, 20])
    right.set(yscale="log", xlabel="eigenpairs kept for each digit", ylabel="test error")
    right.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], ["2%", "5%", "10%", "20%", "50%", "100%"])
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        plain(axes)
    return figure


def error_curve(axes: Axes, rows: list[Row], colour, style: str, label: str | None = None) -> None:
    """Mean error over the seeds, from one eigenpair on."""
    steps = sorted({int(r["kept"]) for r in rows} - {0})
    error = [1 - column(where(rows, kept=k), "accuracy").mean() for k in steps]
    axes.plot(steps, error, style, color=colour, lw=1.5, label=label)


# ---------------------------------------------------------------- figure 7


def masks(tables: Tables, kept: Pictures) -> Figure:
    """Examples above; accuracy and share called the digit, ours and published, below."""
    figure = Figure(figsize=(8.2, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.8, 2])
    words = ("eigenvector", "mask", "5 + mask", "5 + permuted")
    for part, kind in zip(above.subfigures(1, 2), ("dense", "outer"), strict=True):
        grid = part.subplots(1, 4)
        for axes, image, word in zip(grid, kept[kind], words, strict=True):
            show(axes, image, word, upright=word == "eigenvector")
        grid[0].set_title({"dense": "dense, for 3", "outer": "outer pixels"}[kind], fontsize=9)
    left, right = below.subplots(1, 2)
    for kind, colour in (("dense", BLUE), ("outer", RED)):
        rows = where(tables["masks"], masks=kind)
        curves(left, rows, "accuracy", kind, colour)
        curves(right, rows, "as digit", kind, colour)
    left.set(ylim=(0, 1.02), ylabel="accuracy on the training images")
    right.set(ylim=(0, 0.4), ylabel="called the mask's digit, wrongly")
    for axes in (left, right):
        axes.set_xlabel("standard deviation of the mask")
        plain(axes)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def curves(axes: Axes, rows: list[Row], what: str, kind: str, colour: str) -> None:
    """Ours with 1.96 standard errors, permuted masks, and the published points."""
    s, at = column(rows, "strength"), 2 * (kind == "outer") + (what == "as digit")
    value, error = column(rows, what), 1.96 * column(rows, f"{what} error")
    axes.plot(s, value, color=colour, lw=1.5, label=f"{kind}, here")
    axes.fill_between(s, value - error, value + error, color=colour, alpha=0.15, lw=0)
    told = [row[at] for row in MASKS.values()]
    axes.plot(list(MASKS), told, "o", mfc="none", color=colour, ms=4, label=f"{kind}, published")
    axes.plot(s, column(rows, f"random {what}"), ":", color=colour, label=f"{kind}, permuted")
    random = RANDOM[kind][what == "as digit"]
    axes.plot(0.3, random, "x", color=colour, ms=5, label=f"{kind}, random, published")


# ---------------------------------------------------------------- figures 4, 6, 13, 14, 19


def noise(tables: Tables, kept: Pictures) -> Figure:
    """Digit 0 by noise; augmentations; what noise and weight decay do; the challenge."""
    figure = Figure(figsize=(8.2, 7.4), layout="constrained")
    above, middle, below = figure.subfigures(3, 1, height_ratios=[1.05, 2.1, 1.9])
    rows = sorted(tables["sparsity"], key=lambda r: (float(r["decay"]), float(r["noise"])))
    grid = above.subplots(1, len(kept["noise"]))
    above.suptitle("first eigenvector of digit 0 by input noise (weight decay 1)", fontsize=9)
    for axes, image, row in zip(grid, kept["noise"], rows[-len(grid) :], strict=True):
        show(axes, image, f"{float(row['noise']):g}: {100 * float(row['test']):.1f} %")
    augmented(middle, tables["augment"], kept)
    heat, side = below.subfigures(1, 2, width_ratios=[2.1, 1])
    for axes, what, title in zip(
        heat.subplots(1, 2),
        ("rank", "pixels first"),
        ("eigenvalues, (L1/L2)²", "pixels of the first, (L1/L2)²"),
        strict=True,
    ):
        heat_map(axes, rows, what, title)
    if "challenge" in kept:
        names = ("target", "first", "second", "most negative")
        side.suptitle("challenge", fontsize=9)
        flat = side.subplots(2, 2).ravel()
        for axes, image, name in zip(flat, kept["challenge"], names, strict=True):
            show(axes, image, name)
    return figure


def augmented(part, rows: list[Row], kept: Pictures) -> None:
    """The first eigenvector of digit 0: a column an augmentation, a row a level of noise."""
    noises = sorted({float(r["noise"]) for r in rows})
    columns = list(dict.fromkeys((r["kind"], float(r["level"])) for r in rows))
    part.suptitle("digit 0 by augmentation, without noise (above) and with .4 (below)", fontsize=9)
    grid = part.subplots(2, len(columns))
    for line, n in zip(grid, (noises[0], noises[-1]), strict=True):
        for axes, (kind, level) in zip(line, columns, strict=True):
            row = where(rows, kind=kind, noise=n, level=level)[0]
            show(axes, kept[f"{kind} {level:g} {n:g}"][0], f"{100 * float(row['test']):.1f} %")
            if n == noises[0]:
                words = {
                    "none": "as it is",
                    "rotation": f"turned {level:g}°",
                    "blur": f"blur σ {level:g}",
                }
                axes.set_title(words.get(kind, f"moved {28 * level:.1f} px"), fontsize=8)


def heat_map(axes: Axes, rows: list[Row], what: str, title: str) -> None:
    """Weight decay upwards, noise to the right, the number in each cell."""
    noises, decays = (sorted({float(r[n]) for r in rows}) for n in ("noise", "decay"))
    table = np.array(
        [[float(where(rows, noise=n, decay=w)[0][what]) for n in noises] for w in decays]
    )
    axes.imshow(table, cmap="viridis", origin="lower", aspect="auto")
    middle = (table.min() + table.max()) / 2
    for (i, j), v in np.ndenumerate(table):
        axes.text(j, i, f"{v:.0f}", ha="center", va="center", fontsize=7,
                  color="black" if v > middle else "white")  # fmt: skip
    axes.set_xticks(range(len(noises)), [f"{v:g}" for v in noises], fontsize=8)
    axes.set_yticks(range(len(decays)), [f"{v:g}" for v in decays], fontsize=8)
    axes.set_xlabel("input noise", fontsize=8)
    axes.set_ylabel("weight decay", fontsize=8)
    axes.set_title(title, fontsize=9)
