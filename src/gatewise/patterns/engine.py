"""on_ray(network, source): the census of a table larger than memory, on Ray.

Map: one task counts one piece of a file (`streaming.pieces`). Reduce: by ranges of the patterns'
hashes, so that no worker holds all of them; a tree of pairs would end in one that does. Plain
tasks and not Ray Data: rows are numbered by file and position, which its blocks do not keep. What
a worker that dies was doing is done again with the same answer: a piece's census is a function of
the piece.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.errors import EmptyData, EngineError, GatewiseError
from gatewise.ir.network import Network
from gatewise.ir.parcel import unpacked
from gatewise.ir.pattern import layout, row_bytes
from gatewise.patterns.ray_session import session
from gatewise.patterns.streaming import folder, gathering, saved
from gatewise.patterns.streaming.answer import Broken, StreamedCensus
from gatewise.patterns.streaming.census import NO_ROWS, Progress, finished_in, job_of
from gatewise.patterns.streaming.parts import OnBadFiles, Table, table_of, unreadable
from gatewise.patterns.streaming.pieces import (
    PIECE_ROWS,
    Piece,
    cut,
    partial,
    sent,
    settled,
)
from gatewise.patterns.streaming.runs import BUCKETS, Ids, Run, nothing
from gatewise.patterns.streaming.watch import OnBadRows
from gatewise.tables.words import counted, one_line

RETRIES = 5  # of a piece whose worker died
LEAST_ROWS = 1 << 16  # of a piece: below, starting a task is what costs
SHARES = 4  # pieces a processor, where there are rows enough: the last ones end together
AHEAD = 4  # pieces on the cluster a processor: it need not wait for the driver
FETCHED = 32  # parts of a range that a reducer holds beside its sum
RANGE_ROWS = 1 << 17  # about so many rows' patterns a range: they fit a cache, and sort in a third


@dataclass(frozen=True)
class Facts:
    """What a piece says beside its patterns, small: it goes to the driver."""

    rows: int = 0
    patterns: int = 0
    undecided: int = 0
    skipped: int = 0
    trouble: str = ""
    error: GatewiseError | None = None


@dataclass(frozen=True, eq=False)
class Settings:
    """How pieces are counted and cut."""

    on_bad_rows: OnBadRows
    on_bad_files: OnBadFiles
    batch_size: int | None
    keep_rows: bool
    ranges: int = 1
    abreast: int = 1


@dataclass(frozen=True, eq=False)
class Counted:
    """A piece that was counted: its facts, and where on the cluster the rest of its answer lies."""

    piece: Piece
    facts: Facts
    slices: list[Any]
    rows: Any


@dataclass(eq=False)
class Task:
    """The pieces of a table, the folder to keep them in, and how many rows are done (a builder)."""

    table: Table
    pieces: list[Piece]
    work: Path | None
    progress: Progress | None
    rows: int = 0
    begun: int = 0

    def __post_init__(self) -> None:
        self.begin = time.monotonic()

    def tell(self, rows: int, again: bool = False) -> None:
        """So many more rows; again: counted by a process before this one."""
        self.rows += rows
        self.begun += rows if again else 0
        if self.progress is not None:
            spent = max(time.monotonic() - self.begin, 1e-9)
            self.progress(self.rows, self.table.rows, (self.rows - self.begun) / spent)


# -- what runs on the workers --


def count_piece(data: bytes, table: Table, piece: Piece, how: Settings) -> list[Any]:
    """Facts, then the piece's run in ranges, then its rows' places and undecided units."""
    network = unpacked(data)
    try:
        found = partial(
            network,
            table,
            piece,
            on_bad_rows=how.on_bad_rows,
            batch_size=how.batch_size,
            keep_rows=how.keep_rows,
        )
    except GatewiseError as error:
        empty = nothing(row_bytes(layout(network)))
        return [Facts(error=error), *[empty] * how.ranges, None]
    run = found.run
    facts = Facts(found.rows, len(run), found.undecided, found.skipped, found.trouble)
    return [facts, *gathering.sliced(run, how.ranges), (found.places, found.units)]


def add_range(parts: list[Any], starts: list[int], keep_rows: bool) -> tuple[Run, list[Any]]:
    """The sum of one range of all pieces; where each piece's patterns went in it, if asked."""
    import ray

    def fetched() -> Iterator[Run]:
        for a in range(0, len(parts), FETCHED):
            pairs = zip(ray.get(parts[a : a + FETCHED]), starts[a : a + FETCHED], strict=True)
            yield from (gathering.shifted(run, start) for run, start in pairs)

    whole = gathering.added(fetched())
    return whole, list(gathering.went(whole, fetched())) if keep_rows else []


# -- what runs here --


def on_ray(
    network: Network,
    source: Any,
    *,
    address: str | None = None,
    out: str | Path | None = None,
    on_bad_rows: OnBadRows = "raise",
    on_bad_files: OnBadFiles = "raise",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> StreamedCensus:
    """`streamed`, its work shared out: the same clusters, counts, first rows and order.

    address: of a Ray cluster ("host:port", "auto"), whose machines all see the files under the
    same names; None: RAY_ADDRESS, else a Ray of our own on this machine, which ends with the call.
    out: as `streamed` has it: a census that was killed goes on, a piece that was counted is kept.
    Memory here: a few times the answer.
    """
    bad: dict[str, str] = {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files}
    data, size = sent(network), settled(batch_size, **bad)
    if isinstance(source, str | Path):
        source = Path(source).absolute()  # workers may have been started in another folder
    table = table_of(source, network.feature_names, network.inputs, on_bad_files)
    how = Settings(on_bad_rows, on_bad_files, size, out is not None)
    count = functools.partial(_census, network, data, table, how, address, progress)
    if out is None:
        return replace(count(None), passed=table.passed)
    where, job = folder.place_of(out), job_of(network, table, bad)
    with folder.only_one(where, read=table.tops):
        if not folder.finished(where, job):
            work = folder.opened(where, job)
            try:
                _say(where, count(where), job)
            finally:
                finished = (where / folder.META).is_file()
                if finished or not (folder.runs_of(work) or saved.some(work)):
                    folder.discard(where)
        return replace(finished_in(network, where), passed=table.passed)


def _census(
    network: Network,
    data: bytes,
    table: Table,
    how: Settings,
    address: str | None,
    progress: Progress | None,
    out: Path | None,
) -> StreamedCensus:
    with session(address) as ray:
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        how = replace(how, ranges=_ranges(table, processors), abreast=AHEAD * processors)
        work, rows = out and out / folder.UNFINISHED, _piece_rows(table, processors)
        pieces = saved.cut_again(work, table, rows) if work else cut(table, rows)
        found = _counted(ray, data, Task(table, pieces, work, progress), how)
        try:
            done = _unbroken(table, found, how.on_bad_files)
            return _reduced(ray, network, table, done, how, out)
        except ray.exceptions.RayError as why:
            raise EngineError(
                f"Ray gave up on a part of the census ({_cause(why)}): every machine needs the "
                "same Gatewise, the files, and memory for a piece; a worker that dies is replaced "
                f"{RETRIES} times"
            ) from why


def _cause(why: Any) -> str:
    cause = getattr(why, "cause", None) or why
    return f"{type(cause).__name__}: {one_line(cause)}"


def _piece_rows(table: Table, processors: int) -> int:
    """Small enough that every processor has several, large enough to be worth a task."""
    if table.rows is None:
        return PIECE_ROWS
    return min(PIECE_ROWS, max(LEAST_ROWS, table.rows // (SHARES * processors)))


def _ranges(table: Table, processors: int) -> int:
    """A power of two: one for every processor, more where patterns may be many."""
    wanted = max(processors, (table.rows or BUCKETS * RANGE_ROWS) // RANGE_ROWS)
    return min(BUCKETS, 1 << (wanted - 1).bit_length())


def _counted(ray: Any, data: bytes, task: Task, how: Settings) -> Iterator[Counted]:
    """Every piece counted, in order; how.abreast of them are on the cluster at once.

    What is there when an error is raised is let run: `ray.cancel` may meet a task as it ends, and
    then Ray aborts the whole process.
    """
    remote = ray.remote(max_retries=RETRIES, num_returns=how.ranges + 2)(count_piece)
    network, settings = ray.put(data), ray.put(how)
    coming = enumerate(task.pieces)
    away: dict[Any, tuple[int, Counted]] = {}
    done: dict[int, Counted] = {}
    for k in range(len(task.pieces)):
        while k not in done:
            for j, piece in islice(coming, how.abreast - len(away)):
                known = _loaded(ray, task, j, how.ranges)
                if known is not None:
                    done[j] = known
                    continue
                alone = replace(task.table, parts=(task.table.parts[piece.part],))
                given = network, alone, replace(piece, part=0), settings
                said, *slices, rows = remote.remote(*given)
                away[said] = j, Counted(piece, Facts(), slices, rows)
            if away:
                (said,), _ = ray.wait(list(away), num_returns=1)
                j, each = away.pop(said)
                done[j] = replace(each, facts=ray.get(said))
                _save(ray, task, j, done[j])
                task.tell(done[j].facts.rows)
        yield done.pop(k)


def _save(ray: Any, task: Task, k: int, each: Counted) -> None:
    """The piece to the folder of unfinished work; not one without patterns, nor one that met
    trouble, which may be read better the next time."""
    facts = each.facts
    if task.work and facts.patterns and not facts.error and not facts.trouble:
        run = gathering.chained(ray.get(each.slices))
        saved.save(task.work, k, run, ray.get(each.rows), vars(facts) | {"error": None})


def _loaded(ray: Any, task: Task, k: int, ranges: int) -> Counted | None:
    """The piece as a census that was killed left it."""
    found = None if task.work is None else saved.load(task.work, k)
    if found is None:
        return None
    run, rows, said = found
    facts = Facts(**{f.name: said[f.name] for f in fields(Facts)})
    task.tell(facts.rows, again=True)
    slices = [ray.put(part) for part in gathering.sliced(run, ranges)]
    return Counted(task.pieces[k], facts, slices, ray.put(rows))


def _unbroken(table: Table, found: Iterator[Counted], on_bad_files: OnBadFiles) -> list[Counted]:
    """Those before their file breaks off: rows after it have no numbers. The first error is raised.

    First in order of the rows, as who reads them one after another meets it.
    """
    kept: list[Counted] = []
    broken = -1
    for each in found:
        if each.piece.part == broken:
            continue
        if each.facts.error is not None:
            raise each.facts.error
        if each.facts.trouble:
            broken = each.piece.part
            if on_bad_files == "raise":
                after = counted(each.piece.start + each.facts.rows, "row")
                why = f"{each.facts.trouble} (after {after})"
                raise unreadable(table.parts[broken].name, why)
        kept.append(each)
    return kept


def _reduced(
    ray: Any,
    network: Network,
    table: Table,
    done: list[Counted],
    how: Settings,
    out: Path | None,
) -> StreamedCensus:
    """The answer, range after range; with a folder, its files."""
    rows, skipped = (sum(getattr(c.facts, n) for c in done) for n in ("rows", "skipped"))
    if rows == skipped:
        raise EmptyData(NO_ROWS)
    starts = list(accumulate((c.facts.rows for c in done), initial=0))[:-1]
    task = ray.remote(max_retries=RETRIES, num_returns=2)(add_range)
    ranges = [
        task.remote([c.slices[r] for c in done], starts, how.keep_rows) for r in range(how.ranges)
    ]
    parts = [ray.get(r[0]) for r in ranges]
    sizes, run = [len(part) for part in parts], gathering.chained(parts)
    order = gathering.by_size(run)
    answer = Run(run.bits[order], run.counts[order], run.first[order])
    if out is not None:
        gathering.write_patterns(out, answer)
        went = [ray.get(r[1]) for r in ranges]
        gathering.write_rows(out, _kept(ray, done, went, sizes, order))
    broken = tuple(
        Broken(table.parts[c.piece.part].place, c.piece.start + c.facts.rows, c.facts.trouble)
        for c in done
        if c.facts.trouble
    )
    undecided = sum(c.facts.undecided for c in done)
    return StreamedCensus(network, rows, len(run), undecided, skipped, broken, None, answer)


def _kept(
    ray: Any, done: list[Counted], went: list[list[Any]], sizes: list[int], order: Ids
) -> Iterator[tuple[Any, Any, Ids]]:
    """Of each piece: its rows' places and undecided units, and the cluster of each pattern."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    begins = [0, *accumulate(sizes)]
    for k, each in enumerate(done):
        places, units = ray.get(each.rows)
        at = [begin + where[k] for begin, where in zip(begins, went, strict=False)]
        yield places, units, rank[np.concatenate(at)]


def _say(out: Path, found: StreamedCensus, job: folder.Job) -> None:
    """The file that says it is done."""
    names = ("rows", "clusters", "undecided", "skipped")
    broken = [[b.file, b.row, b.why] for b in found.broken]
    said = {name: getattr(found, name) for name in names} | {"broken": broken, "job": job}
    folder.write_json(out / folder.META, said)
