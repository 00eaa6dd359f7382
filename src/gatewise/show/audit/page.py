"""The page of `gatewise audit`: one HTML file without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gatewise.auditing.audit import Audit
from gatewise.show import pictures
from gatewise.show.audit import plots
from gatewise.show.audit import words as say
from gatewise.show.results import Drawn
from gatewise.show.template import template
from gatewise.show.words import percent, plain

PICTURES = ("models", "gains")


def drawn(a: Audit) -> Iterator[Drawn]:
    """The pictures of the page, in order."""
    yield Drawn(
        "models",
        plots.models(a),
        f"{say.heading(a.headline)} of each model",
        f"Dots with intervals: {a.headline.name} of each model on the test rows.",
        f"Line: {percent(a.level)} of the draws of a bootstrap of the test rows. Intervals may "
        "overlap where the difference is sure, for the rows are the same.",
    )
    if len(a.gains) > 1:
        yield Drawn(
            "gains",
            plots.gains(a),
            "Where the network is better, and where worse",
            "Dots with intervals: gain of the network over the linear model in each cohort.",
            "Blue: better beyond doubt. Orange: worse. Grey: undecided; hollow: too few rows.",
        )


def html(a: Audit, figures: Sequence[Drawn], title: str | None, source: dict[str, str]) -> str:
    """The page. Every name that came from a model or a table is escaped."""
    shown = {
        d.name: pictures.inline(d.figure, f"audit-{d.name}", d.title, d.label, d.says)
        for d in figures
    }
    context = {
        "title": plain(title) if title else "How linear is this network?",
        "verdict": say.verdict(a),
        "figures": list(say.figures(a)),
        "notes": a.notes,
        "pictures": dict.fromkeys(PICTURES) | shown,
        "models": say.models_table(a),
        "cohorts": say.cohorts_table(a) if len(a.gains) > 1 else None,
        "cohorts_say": say.cohorts_say(a),
        "own_says": say.own_says(a),
        "gate_uses": a.uses,
        "linear_says": say.linear_says(a),
        "terms": say.terms_table(a),
        "rules": any(line.key == "cohorts" for line in a.lines),
        "linear_notes": a.linear.notes,
        "level": percent(a.level),
        "repeats": a.repeats,
        "held_out": a.held_out,
        "classes": bool(a.classes),
        "provenance": list(source.items()),
    }
    page: str = template("audit.html").render(context)
    return page
