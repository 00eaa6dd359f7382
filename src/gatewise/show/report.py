"""report(explanation, path): everything an Explanation says, as one HTML file that needs no other.

No network: the page's own Content-Security-Policy forbids it, and lets only its own scripts run.
Every name that came from a model or a table is escaped (Jinja2's autoescape, ElementTree inside
pictures, JSON for the script, which sets names as text only).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation, require_explanation
from gatewise.show import (
    cohort_view,
    embed,
    facts,
    given,
    payload,
    pictures,
    profiles,
    row_facts,
    say,
    scripts,
    trust,
    truth,
    words,
)
from gatewise.show.files import whole_file
from gatewise.show.gates import page as gates_page
from gatewise.show.template import template

Source = Mapping[str, Any] | str | None
PAGES = (
    ("model", "The model"),
    ("cohorts", "Cohorts"),
    ("features", "Features"),
    ("row", "One row"),
    ("trust", "Trust"),
)


class Objects(NamedTuple):
    """What may be given beside the explanation; None where it was not."""

    cohorts: Any
    evaluation: Any
    reasons: Any
    recourse: Any


def report(
    explanation: Explanation,
    path: str | Path,
    *,
    top: int = 10,
    title: str | None = None,
    source: Source = None,
    **objects: Any,
) -> Path:
    """Write the page of `html` to a file, whole or not at all (OutputError says why not)."""
    out = Path(path)
    given.require_known(objects)
    page = html(explanation, top=top, title=title, source=source, **objects)
    with whole_file(out) as draft:
        draft.write_text(page, "utf-8")
    return out


def html(
    explanation: Explanation,
    *,
    top: int = 10,
    title: str | None = None,
    source: Source = None,
    cohorts: Any = None,
    evaluation: Any = None,
    reasons: Any = None,
    recourse: Any = None,
) -> str:
    """The page: the model, its cohorts, its features, its rows, and how far to trust it.

    top: how many of the largest clusters get a card; source: where it came from, as text or as
    the mapping that meta.json holds; cohorts, evaluation, reasons: what gatewise's functions of
    these names return for this explanation; recourse: {row of the data: what `recourse` returns}.
    A part that is not given is left out (reasons: at most 4 towards the low side); one of another
    network, or of other rows, is refused.
    """
    if top < 1:
        raise DataError(f"top must be at least 1, got {top}: it is how many clusters are shown")
    texts = scripts.scripts()
    objects = Objects(cohorts, evaluation, reasons, recourse)
    given.require_own(_whole(explanation), objects._asdict())
    context = _context(explanation, top, objects) | {
        "title": words.plain(title) if title else "The rules of this network, exactly",
        "provenance": list(_provenance(source, explanation)),
        "scripts": [_raw(text) for text in texts],
        "policy": _raw(scripts.policy(texts)),
        "pages": PAGES,
        "verdict": say.verdict(explanation),
        "notes": explanation.notes,
        "skipped": say.skipped(explanation),
    }
    page: str = template("report.html").render(context)
    return page


def _whole(explanation: Explanation) -> Explanation:
    require_explanation(explanation, "report")
    return explanation


def _context(e: Explanation, top: int, objects: Objects) -> dict[str, Any]:
    """What the templates show, page by page."""
    target = truth.target(e)
    sections = [facts.section(e, o, top, target) for o in facts.outputs(e)]
    page = payload.embedded(e)
    view = None if objects.cohorts is None else cohort_view.view(objects.cohorts)
    curves = profiles.profiles(e)
    walls = row_facts.stopping(e, page.rows)
    extra = _extra(e, sections, view, curves) | {
        "reasons": row_facts.reasons(e, page.rows, objects.reasons),
        "stops": walls and walls[1],
        "recourse": objects.recourse and row_facts.recourses(e, objects.recourse),
    }
    shared = {
        "stops": walls and row_facts.stops_say(walls[0]),
        "unit": facts.unit(e),
        "know": gates_page.section(e),
        "gates": bool(e.census.pattern.units),
        "head": [words.plain(n.layer) for n in e.network.head],
        "target": say.target_name(e, target),
        "many": len(e.outputs) > 1,
        "unshown": e.output_names[len(sections) :],
        "cohorts": view,
        "trust": None if objects.evaluation is None else trust.trust(objects.evaluation),
        "certificate": say.certificate(e, page.error if page.layers else None),
        "rows_say": say.rows_embedded(e, len(page.rows)),
        "sampled": len(page.rows) < len(e),
        "without": page.without,
        "agreement": say.agreement(page.error, len(page.rows)),
        "data": _raw(embed.as_json(payload.payload(e, page, extra))),
    }
    if objects.cohorts is not None:
        shared |= pictures.cohorts(objects.cohorts)
    return shared | pictures.model(e, top, target) | pictures.sections(e, sections, top, curves)


def _extra(
    e: Explanation, sections: list[facts.Section], view: Any, curves: profiles.Profiles | None
) -> dict[str, Any]:
    """The parts of the payload that belong to one page each."""
    slopes = [
        {"output": s.index, "features": [_slope(t) for t in s.slopes]} for s in sections if s.slopes
    ]
    found: dict[str, Any] = {"slopes": slopes, "cohorts": 0}
    if view is not None:
        found |= {"cohorts": view.count, "cohort_ids": view.ids, "curve": view.points}
        found["cohort_rules"] = view.rules
    if curves is not None:
        found["profiles"] = profiles.for_page(curves, e)
    return found


def _slope(t: facts.Slope) -> dict[str, Any]:
    found = {name: getattr(t, name) for name in ("mean", "low", "high", "positive", "scale")}
    return {"name": words.plain(t.name), **found}


def _raw(text: str) -> Any:
    """Text that is already safe where it stands: scripts, their policy, and JSON."""
    from markupsafe import Markup

    return Markup(text)


def _provenance(source: Source, e: Explanation) -> Iterator[tuple[str, str]]:
    if isinstance(source, str):
        yield "Source", source
    meta: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
    for what in ("model", "data"):
        file = meta.get(what)
        if isinstance(file, Mapping):
            yield what.capitalize(), f"{file.get('name', '')} (sha256 {file.get('sha256', '')})"
        elif file:
            yield what.capitalize(), str(file)
    network = meta.get("network")
    if isinstance(network, Mapping) and "fingerprint" in network:
        yield "Network fingerprint", str(network["fingerprint"])
    yield "Network", repr(e.network)
    yield "Computed in", str(e.network.dtype).removeprefix("torch.")
    versions = meta.get("versions") or _versions()
    yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in ("gatewise", "torch")}
    return found | {"numpy": np.__version__, "python": platform.python_version()}
