"""The files of `gatewise audit`: a page, pictures, tables, audit.json; all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.auditing.audit import Audit, Line
from gatewise.auditing.bootstrap import Interval
from gatewise.auditing.gains import Gain
from gatewise.show.audit import page as audit_page
from gatewise.show.results import FORMATS, sources, write_folder
from gatewise.show.words import plain

TABLES = ("models.parquet", "cohorts.parquet", "linear.parquet")
FILES = frozenset(
    {
        *(f"{p}.{f}" for p in audit_page.PICTURES for f in FORMATS),
        *TABLES,
        "report.html",
        "audit.json",
    }
)
SCHEMA_VERSION = 1


def write(
    a: Audit, out: str | Path, format: str = "svg", title: str | None = None, **about: Path | None
) -> list[str]:
    """Write everything into `out`, whole or not at all; the names of the files.

    about: files that it came from, by name: model, data, test.
    """
    figures = list(audit_page.drawn(a))
    source = sources(about)
    shown = {name.capitalize(): file for name, file in source.items()}
    page = audit_page.html(a, figures, title, shown)
    texts = {"report.html": page, "audit.json": source | summary(a)}
    return write_folder(out, FILES, texts, figures, format, _tables(a))


def _tables(a: Audit) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "models.parquet", a.table()
    if a.gains:
        yield "cohorts.parquet", a.cohort_table()
    yield "linear.parquet", _linear(a)


def _linear(a: Audit) -> dict[str, Any]:
    """A row an input, after one for the intercept."""
    m = a.linear
    many = len(m.intercepts) > 1
    found: dict[str, Any] = {"input": ["(intercept)", *map(plain, a.names)]}
    for k, start in enumerate(m.intercepts):
        name = f"coefficient:{a.classes[int(m.classes[k])]}" if many else "coefficient"
        found[name] = np.concatenate([[start], m.coefficients[k]])
    return found


def summary(a: Audit) -> dict[str, Any]:
    """The numbers of the page as JSON; what is not a number there is null."""
    m = a.linear
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": a.verdict,
        "answer": a.answer,
        "target": a.target_name,
        "classes": list(a.classes),
        "fit_rows": a.fit_rows,
        "test_rows": a.test_rows,
        "held_out": a.held_out,
        "headline": a.headline.name,
        "level": a.level,
        "repeats": a.repeats,
        "seed": a.seed,
        "models": [_line(line) for line in a.lines],
        "gain": _interval(a.overall),
        "cohorts": [_gain(g) for g in a.gains],
        "affine_map": {
            "explains": _plain(a.affine_explains),
            "same_decisions": _plain(a.affine_agrees),
        },
        "units_never_switching": _plain(a.linear_units),
        "gates": [{"name": u.name, "units": u.units, "off": u.off, "on": u.on} for u in a.uses],
        "regions": a.regions,
        "effective_regions": _plain(a.effective),
        "linear_model": {
            "kind": m.kind,
            "penalty": m.alpha,
            "condition": _plain(m.condition),
            "residual": _plain(m.residual),
            "notes": list(m.notes),
        },
        "notes": list(a.notes),
        "cpu_seconds": round(a.seconds, 3),
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "key": line.key,
        "name": line.name,
        "rules": line.rules,
        "how": line.how,
        "figures": {n: _interval(i) for n, i in line.figures.items()},
        "network_ahead": {n: _interval(i) for n, i in line.ahead.items()},
    }


def _gain(g: Gain) -> dict[str, Any]:
    return {
        "cohort": g.cohort,
        "condition": g.condition,
        "rows": g.rows,
        "network": _plain(g.network),
        "linear": _plain(g.linear),
        "gain": _interval(g.gain),
        "answer": g.answer,
    }


def _interval(i: Interval) -> dict[str, float | None]:
    return {"value": _plain(i.value), "low": _plain(i.low), "high": _plain(i.high)}


def _plain(value: float) -> float | None:
    """A finite number, or null."""
    return float(value) if np.isfinite(value) else None
