"""The files of `gatewise bilinear`: page, pictures, eigenpairs, a summary; all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.show.bilinear import page as bilinear_page
from gatewise.show.bilinear import words as say
from gatewise.show.bilinear.facts import Bilinear
from gatewise.show.results import FORMATS, as_unicode, sources, write_folder
from gatewise.show.words import plain

PAGE = "bilinear.html"
TABLES = ("eigenpairs.parquet", "interactions.parquet", "paths.parquet")
PICTURES = (*bilinear_page.PICTURES, "paths")
FILES = frozenset({*(f"{p}.{f}" for p in PICTURES for f in FORMATS), *TABLES, PAGE, "summary.json"})
SCHEMA_VERSION = 1


def write(
    b: Bilinear,
    out: str | Path,
    format: str = "svg",
    title: str | None = None,
    **about: Path | None,
) -> list[str]:
    """Write everything into `out`, whole or not at all; the names of the files.

    about: files that it came from, by name: model, data.
    """
    figures = list(bilinear_page.drawn(b))
    source = sources(about)
    page = bilinear_page.html(b, figures, title, {n.capitalize(): f for n, f in source.items()})
    texts = {PAGE: page, "summary.json": source | summary(b)}
    return write_folder(out, FILES, texts, figures, format, _tables(b))


def _tables(b: Bilinear) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "eigenpairs.parquet", _eigenpairs(b)
    if b.interactions is not None:
        yield "interactions.parquet", _interactions(b)


def _eigenpairs(b: Bilinear) -> dict[str, Any]:
    """A row an output and eigenpair, the largest |λ| first; vector: v, its 1 last."""
    m, k = b.found.values.shape
    values, residuals, errors = (
        t.numpy().ravel() for t in (b.found.values, b.found.residuals, b.found.errors)
    )
    columns = {
        "output": np.repeat(np.array([as_unicode(name) for name in b.outputs]), k),
        "rank": np.tile(np.arange(k), m),
        "value": values,
        "residual": residuals,
        "error": errors,
        "vector": list(b.found.readers.reshape(m * k, -1).numpy()),
    }
    if b.means is not None:
        columns["mean_contribution"] = b.means.ravel()
    return columns


def _interactions(b: Bilinear) -> dict[str, Any]:
    """A row a product of two inputs, by output, the largest effect first; second '' is alone."""
    found = b.interactions
    assert found is not None
    names = np.array([*(as_unicode(name) for name in b.inputs), ""])
    return {
        "output": np.array([as_unicode(name) for name in b.outputs])[found.outputs],
        "first": names[found.first],
        "second": names[found.second],
        "coefficient": found.coefficient,
        "effect": found.effect,
    }


# ---------------------------------------------------------------- the summary


def summary(b: Bilinear) -> dict[str, Any]:
    """The numbers of the page as JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "layer": b.layer.name,
        "layers": list(b.layers),
        "reads": b.view.source,
        "gives": b.layer.target,
        "sizes": {n: getattr(b.layer, n) for n in ("inputs", "hidden", "outputs")},
        "inputs": [plain(name) for name in b.inputs],
        "constant": b.constant,
        "image": b.image,
        "method": b.found.method,
        "outputs": [_output(b, u) for u in range(len(b.outputs))],
        "directions": _directions(b),
        "rows": b.rows,
        "truncation": _curve(b),
        "row": _row(b),
        "notes": list(b.notes),
        "cpu_seconds": round(b.seconds, 3),
    }


def _output(b: Bilinear, u: int) -> dict[str, Any]:
    return {
        "output": plain(b.outputs[u]),
        "norm": float(b.norms[u]),
        "effective_rank": None if b.ranks is None else float(b.ranks[u]),
        "kept": float(b.kept[u]),
        "values": b.found.values[u].tolist(),
        "largest_residual": float(b.found.residuals[u].max()),
    }


def _directions(b: Bilinear) -> dict[str, Any] | None:
    d = b.directions
    if d is None:
        return None
    return {
        "singular": d.singular.tolist(),
        "share": d.share.tolist(),
        "first": d.outputs[0].tolist(),
    }


def _curve(b: Bilinear) -> dict[str, Any] | None:
    """Lists over 0 .. k pairs."""
    c = b.curve
    if c is None:
        return None
    return {
        "predicted": c.predicted.tolist(),
        "measured": c.measured.tolist(),
        "agreement": None if c.agreement is None else c.agreement.tolist(),
        "score_is": c.what or None,
        "score": None if c.score is None else c.score.tolist(),
        "whole": None if c.score is None else c.whole,
    }


def _row(b: Bilinear) -> dict[str, Any] | None:
    r = b.row
    if r is None:
        return None
    return {
        "row": r.row,
        "label": plain(b.label) if b.labels_name else None,
        "output": plain(b.outputs[r.output]),
        "value": r.own,
        "terms": r.terms[: say.TERMS].tolist(),
        "others": float(r.own - r.terms[: say.TERMS].sum()),
        "complete": r.complete,
        "error": r.error,
    }
