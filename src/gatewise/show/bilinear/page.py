"""The page of `gatewise bilinear`: one HTML file without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gatewise.show import pictures
from gatewise.show.bilinear import plots, tiles
from gatewise.show.bilinear import words as say
from gatewise.show.bilinear.facts import Bilinear
from gatewise.show.results import Drawn
from gatewise.show.template import template
from gatewise.show.words import plain

PICTURES = ("eigenvectors", "eigenvalues", "truncation", "row", "directions", "interactions")


def drawn(b: Bilinear) -> Iterator[Drawn]:
    """The pictures, in order."""
    yield Drawn(
        "eigenvectors",
        plots.eigenvectors(b),
        "The strongest eigenvectors",
        "For each output, what its strongest eigenvectors read.",
        "Turning all signs of a v over changes nothing: v·x is squared.",
    )
    yield Drawn(
        "eigenvalues",
        plots.eigenvalues(b),
        "Eigenvalues",
        f"Bars: the {b.found.k} largest eigenvalues of each output, falling.",
        "From the largest to the most negative. Few long bars: the output is few squares.",
    )
    if b.curve is not None:
        yield Drawn(
            "truncation",
            plots.truncation(b),
            "How many eigenpairs are enough",
            "Lines: error and score with only the largest eigenpairs of each output.",
            "The prediction takes the rows' mean and covariance, and no row.",
        )
    if b.row is not None:
        yield Drawn(
            "row",
            plots.row(b),
            "Its output as a sum",
            "Bars: the largest terms of the row's output, all others, and the output.",
            "Each bar is λ (v·x)², blue raises, orange lowers. They add up to the last.",
        )
    yield from _of_weights(b)


def _of_weights(b: Bilinear) -> Iterator[Drawn]:
    if b.directions is not None:
        yield Drawn(
            "directions",
            plots.directions(b),
            "Output directions",
            "Bars: the outputs in the first directions of the tensor.",
            "Outputs of one colour share what they read; of two colours, the layer tells apart.",
        )
    if b.interactions is not None and b.image is None:
        yield Drawn(
            "interactions",
            plots.interactions(b),
            "The interaction matrix",
            "Squares: the symmetrised interaction matrix among the inputs of the strongest pairs.",
            "Off the diagonal: two inputs multiplied, twice the entry. With 1: an input alone.",
        )


def html(b: Bilinear, figures: Sequence[Drawn], title: str | None, source: dict[str, str]) -> str:
    """The page. Every name that came from a model or a table is escaped."""
    inside = [d for d in figures if not (b.image and d.name == "eigenvectors")]
    shown = {d.name: inlined(d) for d in inside}
    context = {
        "title": plain(title) if title else say.title(b),
        "verdict": say.verdict(b),
        "figures": say.figures(b),
        "notes": b.notes,
        "pictures": dict.fromkeys(PICTURES) | shown,
        "reads": say.reads(b),
        "outputs": say.outputs_table(b),
        "image": _image(b),
        "curve": None if b.curve is None else (say.curve_says(b), say.curve_table(b)),
        "row": None if b.row is None else _row(b),
        "directions": None if b.directions is None else say.directions_table(b),
        "pairs": None if b.interactions is None else say.interactions_table(b),
        "pairs_say": "" if b.interactions is None else say.interactions_say(b),
        "constant": b.constant,
        "provenance": [*source.items(), ("Layer", str(b.layer)), ("Network", repr(b.network))],
    }
    page: str = template("bilinear.html").render(context)
    return page


def inlined(d: Drawn) -> pictures.Picture:
    """The picture inside the page; its layout stays, so that saving it is not a second search."""
    picture = pictures.inline(d.figure, f"bilinear-{d.name}", d.title, d.label, d.says)
    d.figure.set_layout_engine("none")
    return picture


def _image(b: Bilinear) -> dict[str, Any] | None:
    """The tiles, where what is read is an image."""
    if b.image is None:
        return None
    return {
        "ramp": tiles.ramp(),
        "outputs": tiles.of_outputs(b),
        "directions": [] if b.directions is None else tiles.of_directions(b),
        "row": [] if b.row is None else tiles.of_row(b),
        "pairs": [] if b.interactions is None else tiles.of_pairs(b),
        "means": b.means is not None,
    }


def _row(b: Bilinear) -> dict[str, Any]:
    assert b.row is not None
    terms = say.terms_table(b) if b.image is None else None
    return {"number": b.row.row, "says": say.row_says(b), "table": say.row_table(b), "terms": terms}
