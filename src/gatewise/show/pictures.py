"""The static pictures and tables of a report's pages, drawn once by matplotlib as inline SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.explanation import Explanation
from gatewise.show import axes, facts, inspect, linearity, plots, profiles, say, svg, truth, words
from gatewise.show.truth import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NODES = 60  # listed
PROFILES = 4  # as small pictures
COLOURS = {
    axes.UP: "var(--up)",
    axes.DOWN: "var(--down)",
    axes.INK: "var(--ink)",
    axes.SOFT: "var(--soft)",
    axes.LINE: "var(--line)",
}


class Picture(NamedTuple):
    """An inline SVG with its title and one sentence on how to read it."""

    svg: str
    title: str
    says: str


class Multiples(NamedTuple):
    """Small pictures of one kind, and what is said about them."""

    says: str
    pictures: tuple[Picture, ...]


def model(e: Explanation, top: int, target: Target | None) -> dict[str, Any]:
    """The page of the model: key figures, how linear it is, pictures, nodes."""
    nodes = list(inspect.node_rows(e.network))
    return linearity.section(e, target) | {
        "figures": say.figures(e, top, truth.fit(e, target)),
        "locality": say.locality(e),
        "overview": _overview(e, top),
        "read_says": say.read(e),
        "node_columns": inspect.COLUMNS,
        "nodes": nodes[:NODES],
        "more_nodes": max(0, len(nodes) - NODES),
    }


def sections(
    e: Explanation, found: list[facts.Section], top: int, curves: profiles.Profiles | None
) -> dict[str, Any]:
    """The pages of cohorts and features: a heat map, a strip scale and a chart an output."""
    heats = [_slopes(e, s, top) for s in found]
    return {
        "sections": [(s, h, _reach(s)) for s, h in zip(found, heats, strict=True)],
        "features": [
            (s, h, _importance(e, s), _reach(s)) for s, h in zip(found, heats, strict=True)
        ],
        "profile": None if curves is None else _profiles(curves),
    }


def inline(figure: Figure, key: str, title: str, label: str, says: str) -> Picture:
    """A figure as a Picture; key: unique on the page, label: for who cannot see it."""
    from markupsafe import Markup

    return Picture(Markup(svg.inline(figure, label, key, COLOURS)), title, says)


def _overview(e: Explanation, top: int) -> list[Picture]:
    """The pictures that have something to show."""
    far = facts.margins(e)
    pictures = [_coverage(e, top)] if e.clusters > 1 else []
    if far is not None and len(np.unique(far[(far > 0) & np.isfinite(far)])) > 1:
        pictures.append(_margins(e))
    return pictures


def _coverage(e: Explanation, top: int) -> Picture:
    held = words.percent(float(e.share[:top].sum()))
    return inline(
        plots.coverage(e, top=top),
        "coverage",
        "How few rules cover the rows",
        f"Line: cumulative share of the rows by cluster; the {min(top, e.clusters)} largest "
        f"hold {held}.",
        "A steep line means that few rules speak for most rows.",
    )


def _margins(e: Explanation) -> Picture:
    return inline(
        plots.margins(e),
        "margins",
        "How far each rule reaches",
        f"Histogram: distance of each row to the wall of its region, in {facts.unit(e)}s.",
        "Past the wall another rule holds. Distances near the rounding floor cannot be trusted.",
    )


def _slopes(e: Explanation, s: facts.Section, top: int) -> Picture:
    names = ", ".join(words.plain(t.name) for t in s.slopes[:5])
    return inline(
        plots.slopes(e, output=s.index, top=min(top, 12)),
        f"slopes-{s.index}",
        "What drives the largest clusters",
        f"Heat map: effect of one {facts.unit(e)} of a feature, by cluster; "
        f"leading features: {names}.",
        f"Change of the output for one {facts.unit(e)} of a feature. A row of one colour is a "
        "feature that acts alike everywhere.",
    )


def _reach(s: facts.Section) -> float:
    """The largest effect in the table of slopes: the full width of its strips."""
    ends = [max(abs(t.low), abs(t.high)) * t.scale for t in s.slopes]
    return max(ends, default=1.0) or 1.0


def _importance(e: Explanation, s: facts.Section) -> Picture:
    return inline(
        plots.importance(e, output=s.index),
        f"importance-static-{s.index}",
        "How much a feature moves the output",
        f"Mean effect of one {facts.unit(e)} of each feature, with its 5 to 95 % range over rows.",
        f"Dot: mean effect of one {facts.unit(e)}. Bar: where 5–95 % of the rows lie.",
    )


def cohorts(c: Cohorts) -> dict[str, Any]:
    """The curve and the heat map of the page of cohorts."""
    unit = facts.unit(c.explanation)
    heat = inline(
        plots.cohorts(c),
        "cohorts-static",
        "What drives each cohort",
        f"Heat map: effect of one {unit} of a feature, by cohort.",
        f"Change of the rule for one {unit} of a feature. A row of one colour is a feature that "
        "acts alike in all of them.",
    )
    curve = None
    if len(set(c.curve["rules"].tolist())) > 1:
        curve = inline(
            plots.fidelity(c),
            "curve-static",
            "How many rules it takes",
            "Line: mean difference between rules and network on held-out rows, by number of rules.",
            "On held-out rows. Where the line is flat, more rules buy little.",
        )
    return {"cohort_heat": heat, "cohort_curve": curve}


def _profiles(curves: profiles.Profiles) -> Multiples:
    """The first few as small pictures, for print and for a page without script."""
    shown = curves.found[:PROFILES]
    return Multiples(
        curves.says,
        tuple(
            inline(
                profiles.profile(p, curves=12),
                f"profile-static-{i}",
                words.plain(p.name),
                f"Profile of {words.plain(p.name)}: the output along this feature.",
                "",
            )
            for i, p in enumerate(shown)
        ),
    )
