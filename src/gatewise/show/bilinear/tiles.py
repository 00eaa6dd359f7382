"""Images inside the page as plain SVG: no raster, no script, the page's own colours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from gatewise.bilinear.spectral.spectrum import Spectrum
from gatewise.show.bilinear.facts import Bilinear
from gatewise.show.bilinear.parts import Floats
from gatewise.show.bilinear.plots import SIDE, both_signs
from gatewise.show.bilinear.words import label_of
from gatewise.show.words import number, plain, signed

LEVELS = 14  # opacities of each colour
TERMS = 7  # tiles of a row, beside the row itself
PARTNERS = 5  # pixels of each output with all that they are multiplied with


class Tile(NamedTuple):
    """A small picture with a heading and lines below."""

    svg: Any
    head: str
    says: tuple[str, ...] = ()


class Line(NamedTuple):
    """An output, or a direction: what raises it, what lowers it (or all in `up`)."""

    name: str
    up: tuple[Tile, ...]
    down: tuple[Tile, ...] = ()


def svg(image: Floats, label: str, ink: bool = False, mark: tuple[int, int] | None = None) -> Any:
    """(height, width) numbers as squares: blue above zero, orange below, opacity for size.

    ink: in the page's ink, for an image that is nowhere negative. mark: the (line, column) of a
    square to outline. label: for who cannot see it.
    """
    from markupsafe import Markup, escape

    height, width = image.shape
    largest = float(np.abs(image).max()) or 1.0
    levels = np.rint(image / largest * LEVELS).astype(int)
    runs: dict[int, list[str]] = {}
    for level, path in _runs(levels):
        runs.setdefault(level, []).append(path)
    paths = [
        f'<path fill="var(--{_colour(level, ink)})" fill-opacity="{abs(level) / LEVELS:.2f}" '
        f'd="{"".join(d)}"/>'
        for level, d in sorted(runs.items())
    ]
    if mark is not None:
        paths.append(
            f'<rect x="{mark[1] - 0.5}" y="{mark[0] - 0.5}" width="2" height="2" fill="none" '
            'stroke="var(--ink)" stroke-width="0.5"/>'
        )
    head = f'viewBox="0 0 {width} {height}" shape-rendering="crispEdges" role="img"'
    return Markup(f'<svg {head} aria-label="{escape(label)}">{"".join(paths)}</svg>')


def _colour(level: int, ink: bool) -> str:
    return "ink" if ink else "up" if level > 0 else "down"


def _runs(levels: Any) -> Iterator[tuple[int, str]]:
    """Squares of one level that touch in a line, as one rectangle each."""
    for y, line in enumerate(levels.tolist()):
        x = 0
        for level, same in groupby(line):
            n = len(list(same))
            if level:
                yield level, f"M{x} {y}h{n}v1h-{n}z"
            x += n


def ramp() -> Any:
    """The legend: from the most negative through zero to the most positive."""
    return svg(np.linspace(-1, 1, 2 * LEVELS + 1)[None], "From negative, orange, to positive, blue")


def of_outputs(b: Bilinear) -> list[Line]:
    """The strongest eigenvectors of each output, of both signs."""
    return [_line(b, plain(name), b.found, u, b.means) for u, name in enumerate(b.outputs)]


def of_directions(b: Bilinear) -> list[Line]:
    """The same of the output directions."""
    d = b.directions
    assert d is not None
    return [_line(b, f"{u + 1}", d.found, u, None) for u in range(len(d.found.values))]


def _line(b: Bilinear, name: str, found: Spectrum, u: int, means: Floats | None) -> Line:
    values, readers = found.values[u].numpy(), found.readers[u].numpy()

    def tile(i: int) -> Tile:
        says = [] if means is None else [f"mean {signed(means[u, i])}"]
        says += [f"1: {signed(readers[i, -1])}"] if b.constant else []
        picture = _vector(b, readers[i], f"Eigenvector {i + 1} of {name}")
        return Tile(picture, _lambda(values[i]), tuple(says))

    up, down = both_signs(values, SIDE)
    return Line(name, tuple(map(tile, up)), tuple(map(tile, down)))


def _lambda(value: float) -> str:
    return f"λ {signed(value)}"


def _vector(b: Bilinear, reader: Floats, label: str, mark: tuple[int, int] | None = None) -> Any:
    assert b.image is not None
    return svg(reader[: b.view.inputs].reshape(b.image), label, mark=mark)


def of_row(b: Bilinear) -> list[Tile]:
    """The row as an image, then its largest terms."""
    r = b.row
    assert r is not None and b.image is not None
    x = r.x.reshape(b.image)
    label = (label_of(b),) if b.labels_name else ()
    tiles = [Tile(svg(x, f"Row {r.row}", ink=bool((x >= 0).all())), f"Row {r.row}", label)]
    for i in range(min(TERMS, len(r.terms))):
        head = f"brings {signed(r.terms[i])}"
        says = (_lambda(r.values[i]), f"v·x {number(float(r.activations[i]))}")
        tiles.append(Tile(_vector(b, r.readers[i], f"Eigenvector of term {i + 1}"), head, says))
    return tiles


def of_pairs(b: Bilinear) -> list[Line]:
    """Of each output: the pixels alone, and what its most multiplied pixels are multiplied with."""
    found = b.interactions
    assert found is not None and b.image is not None
    lines = []
    for u, name in enumerate(b.outputs):
        Q = 2 * b.found.forms[u : u + 1].dense()[0].numpy()
        partners = [_partners(b, Q[j], j) for j in _most_multiplied(b, u)]
        if b.constant:
            alone = _vector(b, Q[-1], f"Each pixel alone in {plain(name)}")
            partners.insert(0, Tile(alone, "each pixel alone", (_largest(b, Q[-1]),)))
        lines.append(Line(plain(name), tuple(partners)))
    return lines


def _most_multiplied(b: Bilinear, u: int) -> list[int]:
    """Pixels of the strongest products of an output, each away from those before it."""
    found = b.interactions
    assert found is not None and b.image is not None
    here = (found.outputs == u) & (found.second < b.view.inputs)
    picked: list[int] = []
    for j in np.stack([found.first[here], found.second[here]], 1).ravel().tolist():
        at = np.array(divmod(j, b.image[1]))
        if all(np.abs(at - divmod(p, b.image[1])).max() > 2 for p in picked):
            picked.append(j)
    return picked[:PARTNERS]


def _partners(b: Bilinear, row: Floats, j: int) -> Tile:
    assert b.image is not None
    at = (j // b.image[1], j % b.image[1])
    row = np.where(np.arange(len(row)) == j, row / 2, row)  # its square is one product, not two
    picture = _vector(b, row, f"Coefficients with pixel {at}", at)
    return Tile(picture, f"with pixel {at[0]},{at[1]}", (_largest(b, row),))


def _largest(b: Bilinear, row: Floats) -> str:
    return f"up to ±{number(float(np.abs(row[: b.view.inputs]).max()))}"
