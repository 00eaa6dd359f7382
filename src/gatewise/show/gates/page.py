"""The page of `gatewise gates`: one HTML file without a script, and the section of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gatewise.errors import GatewiseError
from gatewise.explain.explanation import Explanation
from gatewise.show import pictures
from gatewise.show.gates import facts, plots
from gatewise.show.gates import paths as gates_paths
from gatewise.show.gates import words as say
from gatewise.show.gates.facts import Gates
from gatewise.show.results import Drawn
from gatewise.show.template import template
from gatewise.show.words import plain

PICTURES = ("overlap", "classes", "alignment", "units", "paths")


def drawn(g: Gates) -> Iterator[Drawn]:
    """The pictures of the page, in order."""
    many = say.classes(g)
    yield Drawn(
        "overlap",
        plots.overlap(g.overlap),
        "Gates that are equal at two rows",
        "Share of equal gates by layer, within a class and between classes.",
        "A long bar: the layer's gates tell the classes apart." if many else "By layer.",
    )
    if many and len(g.overlap.classes) <= plots.CLASSES:
        yield Drawn(
            "classes",
            plots.matrices(g.overlap),
            "The same by classes",
            "Matrices of classes: share of gates equal at two rows of those classes.",
            "Dark: most gates equal. Each matrix has a scale of its own, printed above it.",
        )
    if g.know is not None:
        yield Drawn(
            "alignment",
            plots.alignment(g.know),
            "How the gates align with the labels",
            "Centred kernel-label alignment of each layer's gates, trained and random.",
            "1: rows share gates exactly where they share the label. Orange: before any training.",
        )
    yield from _of_row(g)


def _of_row(g: Gates) -> Iterator[Drawn]:
    yield Drawn(
        "units",
        plots.units(g.shares, say.gates_on(g)),
        "Units that carry the output",
        "Bars: the units with the largest share in the output, layer by layer.",
        "A unit's share is all paths through it, added up. Each layer adds up to the output.",
    )
    if g.paths is not None and len(g.paths):
        yield Drawn(
            "paths",
            gates_paths.paths(g.paths, g.outputs[g.output]),
            f"The {len(g.paths)} strongest paths of the row",
            "Lines from inputs and biases through units to the output, one for each path.",
            "Blue raises the output, orange lowers it; width is the size of the contribution.",
        )


def html(g: Gates, figures: Sequence[Drawn], title: str | None, source: dict[str, str]) -> str:
    """The page. Every name that came from a model or a table is escaped."""
    shown = {
        d.name: pictures.inline(d.figure, f"gates-{d.name}", d.title, d.label, d.says)
        for d in figures
    }
    context = {
        "title": plain(title) if title else "The gates of this network",
        "verdict": say.verdict(g),
        "figures": say.figures(g),
        "notes": g.notes,
        "pictures": dict.fromkeys(PICTURES) | shown,
        "overlap_says": say.overlap_says(g),
        "overlap": say.overlap_table(g),
        "know": know_view(g.know),
        "row": say.row_says(g),
        "row_number": g.row,
        "starts": say.starts_table(g),
        "units": say.units_table(g),
        "error": max(g.shares.error, g.starts.relative),
        "paths": None if g.paths is None else say.paths_table(g),
        "paths_say": "" if g.paths is None else say.paths_say(g),
        "many": say.classes(g),
        "provenance": [*source.items(), ("Network", repr(g.network))],
    }
    page: str = template("gates.html").render(context)
    return page


def know_view(k: Any) -> dict[str, Any] | None:
    """What the template know.html shows."""
    if k is None:
        return None
    return {"says": say.know_says(k), "table": say.know_table(k), "notes": say.know_notes(k)}


# ---------------------------------------------------------------- in the report


def section(e: Explanation) -> dict[str, Any] | None:
    """What the gates know, for the report; None where there are no labels or no on/off gates.

    Only for plain fully connected networks, on at most 1,000 rows; others get a hint.
    """
    if e.target is None:
        return None
    try:
        whole = facts.require_gates(e.network)
        labels = facts.labels_of(e.network, e.target, len(e))
        if labels.values is None or len(labels.values) < 8:
            return None
        if whole.layers is None:
            return {"says": "", "hint": True}
        rows = {"rows": facts.SECTION_ROWS * 3 // 4, "draws": 1}
        found = facts.know(whole, e.data[labels.known], labels.values, rows)
    except GatewiseError:
        return None
    view = know_view(found)
    return None if view is None else view | {"hint": False}
