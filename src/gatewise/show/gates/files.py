"""The files of `gatewise gates`: a page, pictures, tables, a summary; all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.show.gates import page as gates_page
from gatewise.show.gates.facts import Gates
from gatewise.show.results import FORMATS, sources, write_folder
from gatewise.show.words import plain

TABLES = ("overlap.parquet", "units.parquet", "paths.parquet")
FILES = frozenset(
    {
        *(f"{p}.{f}" for p in gates_page.PICTURES for f in FORMATS),
        *TABLES,
        "report.html",
        "summary.json",
    }
)
SCHEMA_VERSION = 1


def write(
    g: Gates, out: str | Path, format: str = "svg", title: str | None = None, **about: Path | None
) -> list[str]:
    """Write everything into `out`, whole or not at all; the names of the files.

    about: files that it came from, by name: model, data, test.
    """
    figures = list(gates_page.drawn(g))
    source = sources(about)
    shown = {name.capitalize(): file for name, file in source.items()}
    page = gates_page.html(g, figures, title, shown)
    texts = {"report.html": page, "summary.json": source | summary(g)}
    return write_folder(out, FILES, texts, figures, format, _tables(g))


def _tables(g: Gates) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "overlap.parquet", _overlap(g.overlap)
    yield "units.parquet", _units(g)
    if g.paths is not None:
        yield "paths.parquet", _paths(g.paths)


def _overlap(o: Any) -> dict[str, Any]:
    """A row for each layer and pair of classes."""
    n, m = len(o.classes), len(o.classes2)
    names = [np.array([str(c) for c in each]) for each in (o.classes, o.classes2)]
    return {
        "layer": np.repeat(np.array(o.layers), n * m),
        "units": np.repeat(np.array(o.units), n * m),
        "class": np.tile(np.repeat(names[0], m), len(o.layers)),
        "other_class": np.tile(names[1], n * len(o.layers)),
        "equal": o.equal.ravel(),
        "on_at_both": o.shared.ravel(),
    }


def _units(g: Gates) -> dict[str, Any]:
    """A row for each unit of each layer that a path runs through."""
    layers = g.shares.layers
    return {
        "layer": np.concatenate([np.repeat(x.name, x.shares.shape[1]) for x in layers]),
        "unit": np.concatenate([np.arange(x.shares.shape[1]) for x in layers]),
        "share": np.concatenate([x.shares[0] for x in layers]),
    }


def _paths(p: Any) -> dict[str, Any]:
    """A row a path, strongest first; unit:<layer> is -1 where the path passes the layer by."""
    units = {f"unit:{name}": p.units[:, i] for i, name in enumerate(p.layers)}
    return {
        "contribution": p.contributions,
        "start": p.starts,
        **units,
        "path": [p.path(i) for i in range(len(p))],
    }


def summary(g: Gates) -> dict[str, Any]:
    """The numbers of the page as JSON; what is not a number there is null."""
    o = g.overlap
    return {
        "schema_version": SCHEMA_VERSION,
        "rows": g.rows,
        "layers": [{"name": s.at, "units": s.units} for s in g.gated.sites],
        "overlap": [
            {
                "layer": name,
                "equal_within": _plain(o.within()[i]),
                "equal_between": _plain(o.between()[i]),
                "on_at_both_within": _plain(o.within(o.shared)[i]),
                "on_at_both_between": _plain(o.between(o.shared)[i]),
                "on": _plain(np.average(o.active[i], weights=o.rows)),
            }
            for i, name in enumerate(o.layers)
        ],
        "gates_know": None if g.know is None else _know(g.know),
        "row": _row(g),
        "notes": list(g.notes),
        "cpu_seconds": round(g.seconds, 3),
    }


def _know(k: Any) -> dict[str, Any]:
    return {
        "task": k.task,
        "network": _plain(k.network),
        "linear": _plain(k.linear),
        "rows": k.rows,
        "test_rows": k.test_rows,
        "ridge": k.ridge,
        "standard_error": _plain(k.standard_error),
        "residual": _plain(k.residual),
        "kernels": [
            {
                "kernel": line.kernel,
                "units": line.units,
                "own": _plain(line.own),
                "random": [_plain(v) for v in line.random],
                "alignment": _plain(line.alignment),
                "random_alignment": [_plain(v) for v in line.random_alignment],
            }
            for line in k.kernels
        ],
        "notes": list(k.notes),
    }


def _row(g: Gates) -> dict[str, Any]:
    """One row: its output, where paths start, and how little single paths carry."""
    names = ["inputs", *g.starts.starts[1:]]
    found: dict[str, Any] = {
        "row": g.row,
        "label": g.label,
        "output": plain(g.outputs[g.output]),
        "value": _plain(g.shares.values[0]),
        "gates_on": {s.at: on for s, on in zip(g.gated.sites, g.on, strict=True)},
        "starts": {n: _plain(v) for n, v in zip(names, g.starts.parts[0], strict=True)},
        "relative_error": _plain(max(g.shares.error, g.starts.relative)),
    }
    if g.paths is not None:
        p = g.paths
        found["paths"] = {
            "shown": len(p),
            "active": str(p.active),  # exact: may exceed what a JSON number holds
            "absolute_sum": _plain(p.mass),
            "carried": _plain(p.carried),
            "output_of_absolute_sum": _plain(p.cancellation),
        }
    return found


def _plain(value: Any) -> float | None:
    """A finite number, or null."""
    return float(value) if np.isfinite(value) else None
