"""An explanation of files on Ray: its first reading over pieces of files, its rows a part a task.

Parts, their names and their bounds are those of one process (`scan`), and a part is a function of
its rows: what a worker that dies was doing is done again with the same answer. Workers write into
a folder of this run alone, which all machines share; a part that is whole is moved to its place by
the driver, who holds the lock. So a worker that outlives its driver touches no later run.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np

from gatewise.errors import DataError, EngineError, GatewiseError
from gatewise.explain.compute import quiet
from gatewise.explain.groups import Group
from gatewise.explain.streaming import first as reading
from gatewise.explain.streaming import scan, tallies
from gatewise.explain.streaming.asked import Asked, Question
from gatewise.explain.streaming.first import FIRST, First
from gatewise.explain.streaming.labels import MOST, Labels, kind_of
from gatewise.explain.streaming.pieces import Maps, opened
from gatewise.explain.streaming.reading import Clusters, Floats, Rows, rows_of
from gatewise.explain.streaming.scan import Plan
from gatewise.explain.streaming.sums import Columns
from gatewise.explain.streaming.tallies import Tally
from gatewise.explain.streaming.workers import FAN, Workers, merged
from gatewise.ir.parcel import unpacked
from gatewise.patterns.engine import LEAST_ROWS, SHARES
from gatewise.patterns.streaming import folder
from gatewise.patterns.streaming.answer import StreamedCensus
from gatewise.patterns.streaming.parts import OnBadFiles, Table
from gatewise.patterns.streaming.pieces import PIECE_ROWS, Piece, cut
from gatewise.patterns.streaming.reading import Place, require_unchanged
from gatewise.tables.words import counted

DRAFTS = "abroad-"  # folders in that of unfinished work, one a run
BITS = "bits"

# -- the first reading --


@dataclass(frozen=True, eq=False)
class Seen:
    """What `First` says, of some rows: a commutative monoid under `merge`.

    labels: distinct values of the target, None where they are more than MOST.
    """

    inputs: Columns
    labels: frozenset[Any] | None
    plain: tuple[bool, ...]

    def merge(self, other: Seen) -> Seen:
        """Of the rows of both."""
        labels = None
        if self.labels is not None and other.labels is not None:
            both = self.labels | other.labels
            labels = both if len(both) <= MOST else None
        plain = tuple(a and b for a, b in zip(self.plain, other.plain, strict=True))
        return Seen(self.inputs.merge(other.inputs), labels, plain)


@dataclass(frozen=True)
class Facts:
    """How many rows a piece has, and how many of them are finite."""

    rows: int
    good: int


def see_piece(
    network: bytes,
    table: Table,
    piece: Piece,
    on_bad_files: OnBadFiles,
    groups: tuple[Group, ...],
    kind: Any,
) -> list[Any]:
    """Facts and what was seen; or an error, and nothing."""
    try:
        facts, found = seen(table, piece, on_bad_files, groups, kind)
    except GatewiseError as error:
        return [error, None]
    return [facts, found]


def seen(
    table: Table, piece: Piece, on_bad_files: OnBadFiles, groups: tuple[Group, ...], kind: Any
) -> tuple[Facts, Seen]:
    """Of the rows of one piece; kind: the type of the target in all files, None without one."""
    whole, labels, plain = Columns.none(len(table.columns)), Labels(), [True] * len(groups)
    rows = 0
    for block in _inside(table, piece, on_bad_files):
        x = _good(block)
        whole = whole.merge(Columns.of(x))
        if block.target is not None:
            labels.see(block.target.cast(kind))
        plain = [p and bool((g.level(x) >= 0).all()) for p, g in zip(plain, groups, strict=True)]
        rows += len(block)
    held = None if labels.found is None else frozenset(labels.found)
    return Facts(rows, whole.rows), Seen(whole, held, tuple(plain))


def _good(block: Rows) -> Floats:
    return np.asarray(block.values[np.isfinite(block.values).all(1)])


def _inside(table: Table, piece: Piece, on_bad_files: OnBadFiles) -> Iterator[Rows]:
    """The blocks of a piece, all of whose rows must be there."""
    part = table.parts[piece.part]
    require_unchanged(part)
    alone, row = replace(table, parts=(part,)), piece.start
    for block in rows_of(alone, on_bad_files, Place(0, row)):
        one = block if piece.stop is None else block.cut(min(len(block), piece.stop - row))[0]
        yield one
        row += len(one)
        if row == piece.stop:
            return
    if piece.stop is not None:
        raise scan._changed()


def pieces_of(table: Table, census: StreamedCensus, processors: int = 1) -> list[Piece]:
    """What the census read of the table, in pieces; stop is None where only reading tells."""
    known = table.rows or SHARES * processors * PIECE_ROWS
    size = min(PIECE_ROWS, max(LEAST_ROWS, known // (SHARES * processors)))
    ends = _ends(table, census)
    found = []
    for piece in cut(table, size):
        end = ends[piece.part]
        if end is None:
            found.append(piece)
        elif piece.start < end:
            stop = end if piece.stop is None else min(piece.stop, end)
            found.append(replace(piece, stop=stop))
    return found


def _ends(table: Table, census: StreamedCensus) -> list[int | None]:
    """How many rows of each file were counted: up to where it breaks off."""
    broken = {b.file: b.row for b in census.broken}
    return [0 if p.trouble else broken.get(p.place, p.rows) for p in table.parts]


def surveyed(
    w: Workers, q: Question, work: Path, census: StreamedCensus
) -> tuple[First | None, list[int]]:
    """What the first reading finds, where it is needed; how many rows each file has."""
    pieces, ends = pieces_of(q.table, census, w.processors), _ends(q.table, census)
    if (q.needs_first and not (work / FIRST).is_file()) or None in ends:
        facts, parts = _all_seen(w, q, pieces)
        for k, end in enumerate(ends):
            own = (f.rows for f, piece in zip(facts, pieces, strict=True) if piece.part == k)
            ends[k] = sum(own) if end is None else end
        if q.needs_first and not (work / FIRST).is_file():
            found = w.total(parts)
            row = None if q.row is None else picked(q, pieces, [f.good for f in facts], q.row)
            values = None if found.labels is None else Labels(found.labels).values
            known = First(found.inputs, values, list(found.plain), row)
            folder.write_json(work / FIRST, reading._said(known))
    rows = [end or 0 for end in ends]
    if sum(rows) != census.rows:
        raise scan._changed()
    if not q.needs_first:
        return None, rows
    asked = q.asked
    return reading.first(q.table, work, asked.on_bad_files, q.groups, q.row, asked.progress), rows


def _all_seen(w: Workers, q: Question, pieces: list[Piece]) -> tuple[list[Facts], list[Any]]:
    """Facts of every piece; where on the cluster lies what was seen in it."""
    kind = kind_of(q.table) if q.table.target else None
    alone = ((replace(q.table, parts=(q.table.parts[p.part],)), replace(p, part=0)) for p in pieces)
    asked = ((*each, q.asked.on_bad_files, q.groups, kind) for each in alone)
    facts: list[Facts] = []
    parts: list[Any] = []
    rows = 0
    for said, where in w.each(see_piece, asked, answers=2):
        facts.append(said)
        parts.append(where)
        rows += said.rows
        q.asked.progress("inputs", rows, q.table.rows or rows)
    return facts, parts


def picked(q: Question, pieces: list[Piece], good: list[int], row: int) -> Floats:
    """The inputs of the finite row with that number."""
    left = row
    for piece, rows in zip(pieces, good, strict=True):
        if left < rows:
            for block in _inside(q.table, piece, q.asked.on_bad_files):
                x = _good(block)
                if left < len(x):
                    return np.asarray(x[left])
                left -= len(x)
        left -= rows
    raise DataError(
        f"reference row {row} is not among the {counted(sum(good), 'row')}, counted from 0"
    )


# -- the rows --


@dataclass(frozen=True)
class Span:
    """Part k: its rows begin with number `start`, at `place` in the files from `before` on.

    place.part counts from there; stop: the file after the last one that is read.
    """

    k: int
    start: int
    place: Place
    before: int
    stop: int


def spans(rows: list[int], part_rows: int) -> Iterator[Span]:
    """Every part of files with so many rows."""
    ends = np.cumsum(rows)
    total = int(ends[-1])
    begins = [0, *accumulate(rows)]
    for k, start in enumerate(range(0, total, part_rows)):
        goal = start + part_rows
        i = int(np.searchsorted(ends, start, "right"))
        # the last part sees that no row follows
        j = len(rows) if goal >= total else int(np.searchsorted(ends, goal - 1, "right")) + 1
        yield Span(k, start, Place(0, start - begins[i]), i, j)


def explain_part(data: bytes, errand: Plan, table: Table, span: Span) -> GatewiseError | None:
    """One part and its sums, written by the worker; table: the files it lies in."""
    try:
        _explain(data, errand, table, span)
    except GatewiseError as error:
        return error
    return None


def _explain(data: bytes, errand: Plan, table: Table, span: Span) -> None:
    if not errand.work.is_dir():
        raise EngineError(
            f"a worker does not see '{errand.work}', where it would write rows: give a folder out= "
            "that all machines share, or explain without an engine"
        )
    for part in table.parts:
        if not part.trouble:
            require_unchanged(part)  # by another machine's eyes, too
    q = replace(errand.q, network=unpacked(data), table=table)
    maps = Maps(q.network, q.outputs, opened(errand.work.parent / BITS, q.network))
    plan = replace(errand, q=q, maps=maps)
    rows = scan._pieces(plan, rows_of(table, q.asked.on_bad_files, span.place, span.start))
    clusters = Clusters(plan.clusters, span.start)
    scan._write(plan, span.k, _placed(rows, span.before), clusters)
    last = span.start + plan.part_rows >= plan.total
    if last and (next(rows, None) is not None or clusters.take(1).size):
        raise scan._changed()


def _placed(rows: Iterator[Rows], before: int) -> Iterator[Rows]:
    """With their places in the whole table, where an explanation that was killed goes on."""
    for each in rows:
        yield replace(each, place=Place(each.place.part + before, each.place.row))


def scanned(w: Workers, plan: Plan, rows: list[int]) -> Tally:
    """Every part that is not there yet; the tally of all. rows: of each file."""
    for old in plan.work.glob(f"{DRAFTS}*"):  # of a driver that was killed
        shutil.rmtree(old, ignore_errors=True)
    drafts = plan.work.absolute() / f"{DRAFTS}{secrets.token_hex(8)}"
    drafts.mkdir()
    errand = _errand(plan, drafts)
    sent = w.ray.put(errand)
    left = [span for span in spans(rows, plan.part_rows) if not _is_done(plan, span.k)]
    table = plan.q.table
    asked = ((sent, replace(table, parts=table.parts[s.before : s.stop]), s) for s in left)
    for span, _ in zip(left, w.each(explain_part, asked), strict=True):
        if errand.part(span.k).is_file():  # a part without a good row is none
            errand.part(span.k).replace(plan.part(span.k))
        errand.tally(span.k).replace(plan.tally(span.k))
        plan.q.asked.progress("rows", min(span.start + plan.part_rows, plan.total), plan.total)
    done = [plan.tally(k).absolute() for k in range(-(-plan.total // plan.part_rows))]
    chunks = ((plan.out, done[a : a + FAN]) for a in range(0, len(done), FAN))
    return cast(Tally, w.total([where for _, where in w.each(add_tallies, chunks, answers=2)]))


def _is_done(plan: Plan, k: int) -> bool:
    """Are the sums of part k there, and its rows, if it has any?"""
    if not plan.tally(k).is_file():
        return False
    with folder.known(plan.out, scan.WHAT):
        return not tallies.facts_of(plan.tally(k))["good"] or plan.part(k).is_file()


def add_tallies(network: bytes, out: Path, paths: list[Path]) -> list[Any]:
    """Nothing, and the sum of those that were written; or an error, and nothing."""
    try:
        with folder.known(out, scan.WHAT):
            return [None, merged(*map(tallies.read, paths))]
    except GatewiseError as error:
        return [error, None]


def _errand(plan: Plan, drafts: Path) -> Plan:
    """The plan as it travels: network, maps and table are made anew where it arrives."""
    absent = cast(Any, None)
    cohorts = plan.q.asked.cohorts
    asked = Asked(
        target=plan.q.asked.target,
        margin=plan.q.asked.margin,
        batch_size=plan.q.asked.batch_size,
        on_bad_rows=plan.q.asked.on_bad_rows,
        on_bad_files=plan.q.asked.on_bad_files,
        cohorts=None if cohorts is None else _light(cohorts),
        top=plan.q.asked.top,
        progress=quiet,
    )
    q = replace(plan.q, network=absent, table=absent, asked=asked)
    clusters = plan.clusters.absolute()
    return replace(plan, q=q, maps=absent, clusters=clusters, out=drafts, work=drafts)


@dataclass(frozen=True)
class Outputs:
    """All that cohorts need of the explanation they are of, to be counted."""

    outputs: tuple[int, ...]


def _light(cohorts: Any) -> Any:
    """The cohorts without the rows they were found on."""
    none = np.empty(0, np.int64)
    outputs = Outputs(tuple(cohorts.explanation.outputs))
    return replace(cohorts, explanation=outputs, ids=none, held=none.astype(bool), curve={})
