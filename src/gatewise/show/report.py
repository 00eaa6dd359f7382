"""report(explanation, path): everything an Explanation says, as one HTML file that needs no other.

No script, no network: the page's own Content-Security-Policy forbids both. Every name that came
from a model or a table is escaped (Jinja2's autoescape, and ElementTree inside pictures).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gatewise.errors import DataError, missing
from gatewise.explain.explanation import Explanation
from gatewise.show import axes, facts, plots, say, svg, truth, words
from gatewise.show.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Source = Mapping[str, Any] | str | None
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


def report(
    explanation: Explanation,
    path: str | Path,
    *,
    top: int = 10,
    title: str | None = None,
    source: Source = None,
) -> Path:
    """Write the page of `html` to a file, whole or not at all (OutputError says why not)."""
    out = Path(path)
    page = html(explanation, top=top, title=title, source=source)
    with whole_file(out) as draft:
        draft.write_text(page, "utf-8")
    return out


def html(
    explanation: Explanation, *, top: int = 10, title: str | None = None, source: Source = None
) -> str:
    """The page: verdict, key figures, pictures, the rules of the `top` largest clusters.

    source: where it came from, as text or as the mapping that meta.json holds.
    """
    if top < 1:
        raise DataError(f"top must be at least 1, got {top}: it is how many clusters are shown")
    e, target = explanation, truth.target(explanation)
    sections = [facts.section(e, o, top, target) for o in facts.outputs(e)]
    page: str = _template().render(
        title=words.plain(title) if title else "The rules of this network, exactly",
        verdict=say.verdict(e),
        figures=say.figures(e, top, truth.fit(e, target)),
        notes=e.notes,
        skipped=say.skipped(e),
        locality=say.locality(e),
        overview=_overview(e, top),
        sections=[(s, _slopes(e, s, top), _reach(s)) for s in sections],
        unshown=e.output_names[len(sections) :],
        unit=facts.unit(e),
        gates=bool(e.census.pattern.units),
        provenance=list(_provenance(source, e)),
        head=[words.plain(n.layer) for n in e.network.head],
        target=say.target_name(e, target),
    )
    return page


def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise missing("jinja2", "report", "the report") from None
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("gatewise.show", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": words.number,
        "percent": words.percent,
        "count": words.count,
        "plain": words.plain,
        "short": words.short,
    }
    env.globals |= {"abs": abs, "signed": say.signed}
    return env.get_template("report.html")


def _picture(figure: Figure, key: str, title: str, label: str, says: str) -> Picture:
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
    return _picture(
        plots.coverage(e, top=top),
        "coverage",
        "How few rules cover the rows",
        f"Line: cumulative share of the rows by cluster; the {min(top, e.clusters)} largest "
        f"hold {held}.",
        "A steep line means that few rules speak for most rows.",
    )


def _margins(e: Explanation) -> Picture:
    return _picture(
        plots.margins(e),
        "margins",
        "How far each rule reaches",
        f"Histogram: distance of each row to the wall of its region, in {facts.unit(e)}s.",
        "Past the wall another rule holds. Distances near the rounding floor cannot be trusted.",
    )


def _slopes(e: Explanation, s: facts.Section, top: int) -> Picture:
    names = ", ".join(words.plain(t.name) for t in s.slopes[:5])
    return _picture(
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
