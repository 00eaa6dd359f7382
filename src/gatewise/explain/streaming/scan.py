"""The pass that explains: rows in, Parquet parts and sums out; every finished part is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.explain.export import row_columns
from gatewise.explain.streaming import tallies
from gatewise.explain.streaming.asked import Question
from gatewise.explain.streaming.labels import Wanted
from gatewise.explain.streaming.pieces import Maps, Ruler, explained, step_of
from gatewise.explain.streaming.reading import Clusters, Ids, Rows, rows_of
from gatewise.explain.streaming.sums import Sums
from gatewise.explain.streaming.tallies import Tally
from gatewise.patterns.streaming import folder
from gatewise.patterns.streaming.reading import Place
from gatewise.tables.writing import whole_file

PART_NUMBERS = 1 << 25  # of a part's table: 256 MB before compression
PART_ROWS = 1 << 20
ROWS = "rows"
WHAT = "explanation"


def part_rows(q: Question) -> int:
    """Rows of a part, bad ones counted: what a process that is killed may have to do again."""
    wide = len(q.outputs) * len(q.feature_names)
    return max(1, min(PART_ROWS, PART_NUMBERS // (wide + 8)))


@dataclass(frozen=True, eq=False)
class Plan:
    """All that the pass needs: the question, its maps and ruler, the target's reading, folders."""

    q: Question
    maps: Maps
    ruler: Ruler
    wanted: Wanted | None
    kind: Any
    clusters: Path
    out: Path
    work: Path
    part_rows: int
    total: int

    def part(self, k: int) -> Path:
        """The file of part k."""
        return self.out / ROWS / f"part-{k:06d}.parquet"

    def tally(self, k: int) -> Path:
        """The sums of part k, whose presence says that it is done."""
        return self.work / f"sums-{k:06d}.safetensors"


def scan(plan: Plan) -> Tally:
    """Every part that is not there yet; the tally of all."""
    done = 0
    place, start = Place(), 0
    while plan.tally(done).is_file():
        with folder.known(plan.out, WHAT):
            facts = tallies.facts_of(plan.tally(done))
            place, start = Place(*facts["next"]), facts["stop"]
            if facts.get("good") and not plan.part(done).is_file():
                raise FileNotFoundError(f"{plan.part(done).name} is gone")
        done += 1
    rows = rows_of(plan.q.table, plan.q.asked.on_bad_files, place, start)
    clusters = Clusters(plan.clusters, start)
    pieces = _pieces(plan, rows)
    for k in range(done, -(-plan.total // plan.part_rows)):
        _write(plan, k, pieces, clusters)
    if next(pieces, None) is not None or clusters.take(1).size:
        raise _changed()
    return _whole(plan)


def _changed() -> DataError:
    return DataError(
        "the files hold other rows than the census of them counted: they changed as they were "
        "read. Start again in another folder"
    )


def _pieces(plan: Plan, rows: Iterator[Rows]) -> Iterator[Rows]:
    """The rows, cut where parts end and into what is explained at once."""
    step = step_of(plan.q)
    for block in rows:
        left = block
        while len(left):
            room = plan.part_rows - left.start % plan.part_rows
            piece, left = left.cut(min(step, room, len(left)))
            yield piece


def _write(plan: Plan, k: int, pieces: Iterator[Rows], clusters: Clusters) -> None:
    """One part and its sums, whole or not at all; a part without a good row is no file."""
    goal = min(plan.total, (k + 1) * plan.part_rows)
    stop, place, writer = k * plan.part_rows, Place(), None
    tally: Tally | None = None
    with ExitStack() as stack:
        while stop < goal:
            piece = next(pieces, None)
            if piece is None:
                raise _changed()
            stop, place = piece.stop, piece.next
            made = _explained(plan, piece, clusters)
            if made is not None:
                table, more = made
                if writer is None:
                    draft = stack.enter_context(whole_file(plan.part(k)))
                    writer = stack.enter_context(_writer(draft, table.schema))
                writer.write_table(table)
                tally = more if tally is None else tally.merge(more)
            plan.q.asked.progress("rows", stop, plan.total)
    facts = {"next": [place.part, place.row], "stop": stop, "good": tally is not None}
    tallies.write(plan.tally(k), tally or tallies.nothing(plan.q, len(plan.maps.bits)), facts)


def _writer(path: Path, schema: Any) -> Any:
    """Contributions neither repeat nor compress; clusters and counts do."""
    few = ["cluster", "undecided_units", "target", "cohort"]
    return pyarrow.parquet.ParquetWriter(
        path, schema, use_dictionary=[c for c in few if c in schema.names]
    )


def _explained(plan: Plan, rows: Rows, clusters: Clusters) -> tuple[Any, Tally] | None:
    """The table of the rows that are good, and their sums; None for no such row."""
    ids, doubts = clusters.take(len(rows)).reshape(2, -1)
    good = np.isfinite(rows.values).all(1)
    if len(ids) != len(rows) or not np.array_equal(good, ids >= 0):
        raise _changed()
    if not good.any():
        return None
    place = np.flatnonzero(good)
    x, index = rows.values[place], place + rows.start
    e = explained(plan.q, plan.maps, plan.ruler, x, index, ids[place], doubts[place])
    target = None if rows.target is None else rows.target.take(pa.array(place)).cast(plan.kind)
    found = plan.q.asked.cohorts
    cohort = None if found is None else found._placed(x)
    columns = _columns(e, ids[place], cohort)
    if target is not None:
        columns = _with_target(columns, target)
    tally = tallies.of(plan.q, len(plan.maps.bits), e, ids[place], cohort, target, plan.wanted)
    return pa.table(columns), tally


def _columns(e: Explanation, ids: Ids, cohort: Ids | None) -> dict[str, Any]:
    """As in memory, with the clusters' numbers among all rows."""
    columns = row_columns(e) | {"cluster": ids}
    if cohort is None:
        return columns
    front = {name: columns.pop(name) for name in ("row", "cluster")}
    return {**front, "cohort": cohort, **columns}


def _with_target(columns: dict[str, Any], target: Any) -> dict[str, Any]:
    names = list(columns)
    at = 1 + max(names.index(n) for n in ("row", "cluster", "cohort") if n in names)
    items = list(columns.items())
    return dict([*items[:at], ("target", target), *items[at:]])


def _whole(plan: Plan) -> Tally:
    """The tallies of all parts, in order."""
    whole = tallies.nothing(plan.q, len(plan.maps.bits))
    k = 0
    while plan.tally(k).is_file():
        with folder.known(plan.out, WHAT):
            whole = whole.merge(tallies.read(plan.tally(k)))
        k += 1
    return whole


def said(tally: Tally) -> dict[str, Any]:
    """The figures of a tally that go into meta.json."""
    sums: Sums = tally.sums
    return {
        "rows": int(sums.counts.sum()),
        "max_error": tally.max_error,
        "max_bound": tally.max_bound,
        "means": {name: m for name, m in sums.whole().items() if np.isfinite(m)},
    }
