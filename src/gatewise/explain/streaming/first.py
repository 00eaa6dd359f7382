"""The first reading: what contributions and margins are measured by must be known before them.

Sums over all rows (mean, deviation, range of every input), the labels of the target, and whether
the columns of each category are one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.errors import DataError
from gatewise.explain.groups import Group
from gatewise.explain.streaming.labels import Labels, kind_of
from gatewise.explain.streaming.reading import Floats, rows_of
from gatewise.explain.streaming.sums import Columns
from gatewise.patterns.streaming import folder
from gatewise.patterns.streaming.parts import OnBadFiles, Table
from gatewise.tables.words import counted

FIRST = "first.json"


@dataclass(frozen=True, eq=False)
class First:
    """inputs: their sums; labels: distinct values of the target, None where too many; plain: for
    each group, is one level at most 1 in every row? row: the inputs of the row asked for."""

    inputs: Columns
    labels: list[Any] | None
    plain: list[bool]
    row: Floats | None = None


def first(
    table: Table,
    work: Path,
    on_bad_files: OnBadFiles,
    groups: tuple[Group, ...],
    row: int | None,
    tell: Any,
) -> First:
    """Read in `work` where it was written before, else from all rows."""
    if (work / FIRST).is_file():
        with folder.known(work.parent, "explanation"):
            return _read(json.loads((work / FIRST).read_text()))
    whole, labels = Columns.none(len(table.columns)), Labels()
    plain, picked = [True] * len(groups), None
    kind = kind_of(table) if table.target else None
    for rows in rows_of(table, on_bad_files):
        x = rows.values[np.isfinite(rows.values).all(1)]
        if row is not None and whole.rows <= row < whole.rows + len(x):
            picked = x[row - whole.rows]
        whole = whole.merge(Columns.of(x))
        if rows.target is not None:
            labels.see(rows.target.cast(kind))
        plain = [p and bool((g.level(x) >= 0).all()) for p, g in zip(plain, groups, strict=True)]
        tell("inputs", rows.stop, table.rows or rows.stop)
    if row is not None and picked is None:
        raise DataError(
            f"reference row {row} is not among the {counted(whole.rows, 'row')}, counted from 0"
        )
    found = First(whole, labels.values, plain, picked)
    folder.write_json(work / FIRST, _said(found))
    return found


def _said(f: First) -> dict[str, Any]:
    """JSON reads back every float64 as it was."""
    c = f.inputs
    columns = {n: getattr(c, n).tolist() for n in ("centre", "scatter", "exponent", "low", "high")}
    row = None if f.row is None else f.row.tolist()
    return {
        "rows": c.rows,
        **columns,
        "labels": f.labels,
        "plain": f.plain,
        "row": row,
    }


def _read(said: dict[str, Any]) -> First:
    arrays = {n: np.array(said[n]) for n in ("centre", "scatter", "exponent", "low", "high")}
    row = None if said["row"] is None else np.array(said["row"])
    return First(Columns(said["rows"], **arrays), said["labels"], said["plain"], row)
