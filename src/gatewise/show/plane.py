"""What stands around a map of regions: title, names of axes, points, marks, thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, WrongShape
from gatewise.regions.polyhedral.complex import Complex
from gatewise.show.axes import DOWN, INK, SOFT, TEXT, UP, label
from gatewise.show.words import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
HELD = 4  # inputs held that are named
# Okabe and Ito's: apart for every kind of colour blindness.
POINTS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d8c820", "#1d4e79", "#d55e00", "#7a828a"),
    *("#7e57c2", "#5d4037"),
)
THUMB = 0.6  # inches, the longer side of a thumbnail


def frame(ax: Axes, c: Complex, says: str, names: Sequence[str] = ()) -> None:
    """Limits, names of the axes, how many regions, and one sentence."""
    (x0, y0), (x1, y1) = c.slice.low, c.slice.high
    axes = axis_names(c, names)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel=axes[0], ylabel=axes[1])
    if free_inputs(c) is None:
        ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    ax.set_title(title(c), color=INK, fontsize=14, pad=26, loc="left", fontweight="bold")
    held = held_says(c, names)
    line = "  ".join(part for part in (says, held) if part)
    ax.annotate(
        line,
        (0, 1),
        (0, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        color=SOFT,
        fontsize=TEXT,
        va="bottom",
    )


def title(c: Complex) -> str:
    """'20,714 regions', and what is not known of them."""
    said = count(len(c), "region")
    if not c.complete:
        said = f"The first {said}: not all"
    return said if not c.undecided else f"{said}, {count(c.undecided, 'sign')} undecided"


def free_inputs(c: Complex) -> list[int] | None:
    """The inputs that the coordinates are, where each is one; None on an oblique slice."""
    directions = c.slice.directions
    one = (directions != 0).sum(1) == 1
    place = [int(i) for i in np.abs(directions).argmax(1)]
    return place if one.all() and (directions[range(len(place)), place] == 1).all() else None


def feature_names(c: Complex, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The network's names, else those given, else x0, x1, ..."""
    return (
        c.network.feature_names or tuple(names) or tuple(f"x{j}" for j in range(c.network.inputs))
    )


def axis_names(c: Complex, names: Sequence[str] = ()) -> list[str]:
    """The features that vary, or what the directions of a slice are."""
    free = free_inputs(c)
    if free is not None:
        known = feature_names(c, names)
        return [label(known[i]) for i in free]
    if len(c.slice.marks) == c.dimension + 1:
        return ["distance along the line from point 1 to point 2", "distance from that line"][
            : c.dimension
        ] + [f"coordinate {i + 1}" for i in range(2, c.dimension)]
    return [f"coordinate {i + 1}" for i in range(c.dimension)]


def held_says(c: Complex, names: Sequence[str] = ()) -> str:
    """Which inputs are held, and at what."""
    free = free_inputs(c)
    if free is None or len(free) == c.network.inputs:
        return ""
    names = feature_names(c, names)
    held = [i for i in range(c.network.inputs) if i not in free]
    said = [f"{label(names[i])} = {number(c.slice.origin[i])}" for i in held[:HELD]]
    more = f" and {len(held) - HELD} more" if len(held) > HELD else ""
    return "Held: " + ", ".join(said) + more + "."


def place_points(ax: Axes, c: Complex, points: Any, labels: Any) -> None:
    """Rows of inputs at the nearest point of the plane, coloured by label."""
    x = np.asarray(points, np.float64)
    if x.ndim != 2 or x.shape[1] != c.network.inputs:
        raise WrongShape(f"points must be rows of {c.network.inputs} inputs, got shape {x.shape}")
    kind = np.zeros(len(x), np.int64) if labels is None else np.asarray(labels, np.int64)
    if len(kind) != len(x):
        raise WrongShape(f"there are {len(x)} points and {len(kind)} labels: give one for each")
    s = c.slice.coordinates(x)
    size = float(np.clip(60 / len(x) ** 0.5, 2.0, 4.6))
    for k in np.unique(kind):
        tones = (DOWN, UP) if kind.max() == 1 else POINTS
        tone = INK if labels is None else tones[k % len(tones)]
        here = s[kind == k].T
        ax.plot(*here, "o", ls="", ms=size, mfc=tone, mec="white", mew=0.6, zorder=4)


def place_images(ax: Axes, c: Complex, images: Sequence[Any] | None) -> None:
    """The marks of a slice, with a thumbnail beside each where there are pictures."""
    marks = c.slice.marks
    if not len(marks):
        return
    ax.plot(marks[:, 0], marks[:, 1], "o", ms=6.5, mfc="white", mec=INK, mew=1.6, zorder=6)
    if images is None:
        for i, (x, y) in enumerate(marks):
            ax.annotate(
                str(i + 1),
                (x, y),
                (6, 5),
                textcoords="offset points",
                fontsize=TEXT + 1,
                fontweight="bold",
                color=INK,
                zorder=7,
                path_effects=_halo(),
            )
        return
    if len(images) != len(marks):
        raise DataError(f"there are {len(marks)} marks and {len(images)} images: give one a mark")
    middle = marks.mean(0)
    for mark, image in zip(marks, images, strict=True):
        _thumbnail(ax, mark, mark - middle, np.asarray(image))


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]


def _thumbnail(ax: Axes, mark: Floats, away: Floats, image: NDArray[Any]) -> None:
    """The picture beside its mark, on the side away from the others."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    away = away / (np.linalg.norm(away) or 1.0)
    picture = OffsetImage(
        image, zoom=72 * THUMB / max(image.shape[:2]), cmap="gray", interpolation="nearest"
    )
    box = AnnotationBbox(
        picture,
        (float(mark[0]), float(mark[1])),
        xybox=(float(38 * away[0]), float(38 * away[1])),
        boxcoords="offset points",
        pad=0.12,
        bboxprops={"edgecolor": INK, "linewidth": 1.0, "facecolor": "white"},
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 1.0},
    )
    box.set_zorder(5)
    ax.add_artist(box)


def as_image(shape: Sequence[int], x: Any) -> NDArray[Any] | None:
    """The pixels of one input, (height, width) or (height, width, 3), in 0 .. 1; None if it is no
    picture: of one row and column, or with other than 1 or 3 channels."""
    size = tuple(n for n in shape if n > 1)
    values = np.asarray(x, np.float64).reshape(size)
    if len(size) == 1 and size[0] >= 256 and int(size[0] ** 0.5) ** 2 == size[0]:
        values = values.reshape(int(size[0] ** 0.5), -1)
    if values.ndim == 3 and values.shape[0] == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        return None
    low, high = values.min(), values.max()
    found: NDArray[Any] = (values - low) / ((high - low) or 1.0)
    return found
