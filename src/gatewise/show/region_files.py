"""The files of `gatewise regions`: a picture, the cells as Parquet, a summary; all or none."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatewise.errors import DataError, MissingExtra
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.regions.polyhedral.complex import Complex
from gatewise.regions.polyhedral.enumeration import enumerate_regions
from gatewise.show import maps, plane
from gatewise.show.files import whole_folder
from gatewise.show.region_box import Found, Place, place
from gatewise.show.results import FORMATS, save_figure
from gatewise.show.words import count, number, plain

WRITTEN = ("regions.parquet", "summary.json")
FILES = frozenset({*(f"map.{f}" for f in FORMATS), "solid.html", *WRITTEN})
SCHEMA_VERSION = 1


class Look(NamedTuple):
    """How the picture shall be: its file format, its colouring, and the output it is about."""

    format: str = "svg"
    colour: maps.Colour | None = None
    output: str | None = None


class Run(NamedTuple):
    """What was found, where it was looked for, and how long that took (seconds)."""

    complex: Complex
    found: Found
    seconds: float


def regions(
    network: Network,
    asked: Place,
    *,
    max_regions: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Run:
    """Every region of the network at the place that was asked for."""
    require_piecewise_affine(network, "enumerating regions")
    found = place(network, asked)
    start = time.perf_counter()
    c = enumerate_regions(network, slice=found.slice, max_regions=max_regions, progress=progress)
    return Run(c, found, time.perf_counter() - start)


def write(
    run: Run, out: str | Path, look: Look | None = None, **about: str | Path | None
) -> dict[str, Any]:
    """Write the files of a run into `out`, whole or not at all; what summary.json holds.

    about: files that it came from, by name: model, data (None where there was none).
    """
    look = look or Look()
    if look.format not in FORMATS:
        raise DataError(f"the format must be one of svg, png and pdf, got '{look.format}'")
    said: dict[str, Any] = {name: path and Path(path).name for name, path in about.items()}
    said |= summary(run)
    with whole_folder(Path(out), FILES) as draft:
        pictures, said["notes"] = _pictures(run, look, draft)
        said["files"] = [*pictures, *WRITTEN]
        run.complex.to_parquet(draft / "regions.parquet")
        text = json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False)
        (draft / "summary.json").write_text(text + "\n", "utf-8")
    return said


# ---------------------------------------------------------------- the summary


def summary(run: Run) -> dict[str, Any]:
    """Counts, sizes, what is constant, what is not known, and the time it took."""
    c = run.complex
    found = c.statistics()
    size = found.volume
    box = float(np.prod(c.slice.high - c.slice.low))
    known = None if c.undecided else found.constant
    constant = known and {u.gate: len(u.off) + len(u.on) for u in known}
    return {
        "schema_version": SCHEMA_VERSION,
        "regions": len(c),
        "vertices": len(c.vertices),
        "coordinates": c.dimension,
        "complete": c.complete,
        "undecided": c.undecided,
        "regions_behind_gate": dict(c.counts),
        "units": {f.name: f.units for f in c.pattern.fields},
        "constant_units": constant,
        "largest_cell": float(size.max()),
        "smallest_cell": float(size.min()),
        "cells_together": math.fsum(size.tolist()),
        "box_size": box,
        "vertex_error": float(c.error.max(initial=0.0)),
        "seconds": run.seconds,
        "regions_per_second": len(c) / run.seconds if run.seconds > 0 else None,
        "place": _where(run),
    }


def _where(run: Run) -> dict[str, Any]:
    """The box of features, or the slice with its origin, directions and rows."""
    c, free = run.complex, plane.free_inputs(run.complex)
    ends = {"low": c.slice.low.tolist(), "high": c.slice.high.tolist()}
    if free is None:
        return {
            "rows": list(run.found.rows),
            "origin": c.slice.origin.tolist(),
            "directions": c.slice.directions.tolist(),
            "marks": c.slice.marks.tolist(),
            **ends,
        }
    names = run.found.names
    held = {
        plain(names[i]): float(c.slice.origin[i]) for i in range(len(names)) if i not in set(free)
    }
    return {"features": [plain(names[i]) for i in free], "held": held, **ends}


def lines(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The summary as a table of two columns."""
    some = "" if said["complete"] else " (stopped at --max-regions: there are more)"
    yield "regions", f"{said['regions']:,}{some}"
    yield "vertices", f"{said['vertices']:,}"
    for gate, n in said["regions_behind_gate"].items():
        yield f"  behind gate {plain(gate)}", f"{n:,}"
    for gate, n in (said["constant_units"] or {}).items():
        yield f"  constant units of {plain(gate)}", f"{n:,} of {said['units'][gate]:,}"
    yield "largest cell", number(said["largest_cell"])
    yield "smallest cell", number(said["smallest_cell"])
    yield "signs undecided", f"{said['undecided']:,}"
    rate = said["regions_per_second"]
    speed = "" if rate is None else f" ({count(round(rate), 'region')} a second)"
    yield "seconds", f"{said['seconds']:.2f}{speed}"


# ---------------------------------------------------------------- the pictures


def _pictures(run: Run, look: Look, folder: Path) -> tuple[list[str], list[str]]:
    """The pictures that were made, and why another was not."""
    c = run.complex
    if c.dimension == 2:
        file = f"map.{look.format}"
        figure = _map(run, look)
        save_figure(figure, folder / file)
        said = "" if look.format == "png" else maps.pixels(figure)
        return [file], [f"{file}: {said}"] if said else []
    if c.dimension == 3:
        from gatewise.show import solids

        try:
            page = solids.html(c, names=_axis_names(run))
        except (MissingExtra, DataError) as why:
            return [], [f"no picture: {why}"]
        (folder / "solid.html").write_text(page, "utf-8")
        return ["solid.html"], []
    return [], [f"no picture: {count(c.dimension, 'coordinate')}, and pictures have 2 or 3"]


def _axis_names(run: Run) -> list[str]:
    return plane.axis_names(run.complex, run.found.names)


def _map(run: Run, look: Look) -> Any:
    c = run.complex
    several = c.network.outputs > 1 and c.network.task != "regression"
    colour = look.colour or ("class" if several else "output")
    images = None
    if run.found.rows and run.found.points is not None:
        shape, rows = c.network.input_shape, run.found.points[list(run.found.rows)]
        pictures = [plane.as_image(shape, x) for x in rows]
        images = None if any(p is None for p in pictures) else pictures
    points = None if run.found.rows else run.found.points
    return maps.plane_map(
        c,
        colour=colour,
        output=0 if look.output is None else look.output,
        points=points,
        images=images,
        names=run.found.names,
    )
