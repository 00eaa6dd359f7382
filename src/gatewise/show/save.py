"""save(explanation, folder): the files of a run, all of them or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatewise.explain.explanation import Explanation
from gatewise.explain.export import SCHEMA_VERSION, describe
from gatewise.show import tables
from gatewise.show.files import whole_folder
from gatewise.show.report import report

TABLES = ("cohorts", "evaluation")  # objects that are written as a table too, where given
FILES = frozenset(
    {
        *("rules.parquet", "rows.parquet", "maps.safetensors", "meta.json", "report.html"),
        *(f"{name}.parquet" for name in TABLES),
    }
)


def save(
    e: Explanation,
    out: str | Path,
    *,
    top: int = 10,
    model: str | Path | None = None,
    data: str | Path | None = None,
    title: str | None = None,
    **objects: Any,
) -> Path:
    """Write rules.parquet, rows.parquet, maps.safetensors, meta.json and report.html into `out`.

    Everything goes to a hidden folder beside `out`, renamed at the end: a full disk or an
    interrupted run leaves what was there before. `top` clusters are shown in the report. objects:
    cohorts=, evaluation=, ... as `report` takes them; those two are written as cohorts.parquet
    and evaluation.parquet as well.
    """
    folder = Path(out)
    meta = describe(e) | {"model": _file(model), "data": _file(data)}
    with whole_folder(folder, FILES) as draft:
        tables.arrow().parquet.write_table(tables.rules(e), draft / "rules.parquet")
        _write_rows(e, objects.get("cohorts"), draft / "rows.parquet")
        _write_maps(e, draft / "maps.safetensors")
        (draft / "meta.json").write_text(
            json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )
        _write_objects(objects, draft)
        report(e, draft / "report.html", top=top, title=title, source=meta, **objects)
    return folder


def _file(path: str | Path | None) -> dict[str, Any] | None:
    """Name and sha256 of a file, read in pieces."""
    if path is None:
        return None
    with Path(path).open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
    return {"name": Path(path).name, "sha256": digest.hexdigest()}


def _write_rows(e: Explanation, cohorts: Any, path: Path) -> None:
    parts = tables.rows(e, None if cohorts is None else cohorts.ids)
    first = next(parts)
    with tables.arrow().parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def _write_objects(objects: Mapping[str, Any], folder: Path) -> None:
    """The tables of the cohorts and of the evaluation, where they were given."""
    arrow = tables.arrow()
    for name in TABLES:
        if objects.get(name) is not None:
            table = arrow.table(objects[name].table())
            arrow.parquet.write_table(table, folder / f"{name}.parquet")


def _write_maps(e: Explanation, path: Path) -> None:
    """weight (clusters, outputs, features), offset, counts, first rows and packed patterns."""
    from safetensors.numpy import save_file

    pattern = e.census.pattern
    layout = [
        {"gate": f.name, "shape": f.shape, "branches": f.branches, "byte": f.start}
        for f in pattern.fields
    ]
    save_file(
        {
            "weight": e.coefficients.copy(),
            "offset": e.intercepts.copy(),
            "counts": e.census.counts,
            "first": e.matrix.index[e.census.first],
            "pattern": pattern.bits,
        },
        # One key: safetensors writes several in an order that changes from run to run.
        path,
        metadata={"gatewise": json.dumps({"schema_version": SCHEMA_VERSION, "layout": layout})},
    )
