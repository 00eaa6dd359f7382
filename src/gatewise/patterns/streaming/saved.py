"""Pieces that were counted, kept in the folder of an unfinished census for whoever goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from gatewise.patterns.streaming import folder, runs
from gatewise.patterns.streaming.parts import Table
from gatewise.patterns.streaming.pieces import Piece, cut
from gatewise.patterns.streaming.runs import Run

CUT = "cut.json"
Rows = tuple[NDArray[np.int32], NDArray[np.int32]]  # of each its place in the run, undecided units


def cut_again(work: Path, table: Table, rows: int) -> list[Piece]:
    """The pieces as who came first cut them, with more or fewer processors."""
    if not (work / CUT).is_file():
        folder.write_json(work / CUT, rows)
    with folder.known(work.parent):
        return cut(table, int(json.loads((work / CUT).read_text())))


def save(work: Path, k: int, run: Run, rows: Rows, facts: dict[str, Any]) -> None:
    """Piece k: its rows first, for it is the run that counts."""
    runs.write_ids(_rows_path(work, k), *rows)
    runs.write(_run_path(work, k), run, facts)


def load(work: Path, k: int) -> tuple[Run, Rows, dict[str, Any]] | None:
    """What `save` kept of piece k, if it did."""
    if not _run_path(work, k).is_file():
        return None
    with folder.known(work.parent):
        facts = runs.facts_of(_run_path(work, k))
        table = pyarrow.parquet.read_table(_rows_path(work, k))
        places, units = (table.column(name).to_numpy() for name in ("place", "undecided"))
        return runs.read(_run_path(work, k)), (places, units), facts


def some(work: Path) -> bool:
    """Is there a piece to go on from?"""
    return any(work.glob("piece-*.parquet"))


def _run_path(work: Path, k: int) -> Path:
    return work / f"piece-{k:06d}.parquet"


def _rows_path(work: Path, k: int) -> Path:
    return work / f"rows-{k:06d}.parquet"
