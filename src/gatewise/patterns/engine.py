"""on_ray(network, source): the census of a table larger than memory, on Ray.

Map: one task counts one piece of a file (`streaming.pieces`). Reduce: by ranges of the patterns'
hashes, so that no worker holds all of them; a tree of pairs would end in one that does. Plain
tasks and not Ray Data: rows are numbered by file and position, which its blocks do not keep. What
a worker that dies was doing is done again with the same answer: a piece's census is a function of
the piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.errors import DataError, EmptyData, EngineError, GatewiseError
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.ir.parcel import packed, unpacked
from gatewise.ir.pattern import layout, row_bytes
from gatewise.numeric import whole_number
from gatewise.patterns.ray_session import session
from gatewise.patterns.streaming import folder, gathering
from gatewise.patterns.streaming.answer import Broken, StreamedCensus
from gatewise.patterns.streaming.census import NO_ROWS, Progress, finished_in, job_of
from gatewise.patterns.streaming.parts import OnBadFiles, Table, table_of, unreadable
from gatewise.patterns.streaming.pieces import PIECE_ROWS, Piece, cut, partial
from gatewise.patterns.streaming.runs import BUCKETS, Ids, Run, nothing
from gatewise.patterns.streaming.watch import OnBadRows
from gatewise.tables.words import counted, one_line

RETRIES = 5  # of a piece whose worker died
LEAST_ROWS = 1 << 16  # of a piece: below, starting a task is what costs
SHARES = 4  # pieces a processor, where there are rows enough: the last ones end together
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
    ranges: int


@dataclass(frozen=True, eq=False)
class Counted:
    """A piece that was counted: its facts, and where on the cluster the rest of its answer lies."""

    piece: Piece
    facts: Facts
    slices: list[Any]
    rows: Any


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
    out: as `streamed` has it, but a census that was killed starts again. Memory here: the answer.
    """
    require_piecewise_affine(network, "a census of patterns")
    size = None if batch_size is None else whole_number(batch_size, "batch_size")
    for name, value in (("on_bad_rows", on_bad_rows), ("on_bad_files", on_bad_files)):
        if value not in ("raise", "skip"):
            raise DataError(f"{name} must be 'raise' or 'skip', got {value!r}")
    if network.prepare is not None:
        raise DataError(
            "the model prepares raw columns (a scikit-learn Pipeline), which is not sent to other "
            "processes: leave engine= out, or write the prepared table and read the network alone"
        )
    data = packed(network)
    table = table_of(source, network.feature_names, network.inputs, on_bad_files)
    how = Settings(on_bad_rows, on_bad_files, size, out is not None, 1)
    if out is None:
        return _census(network, data, table, how, address, progress, None)
    with folder.only_one(Path(out)):
        job = job_of(network, table, {"on_bad_rows": on_bad_rows, "on_bad_files": on_bad_files})
        if not folder.finished(Path(out), job):
            work = folder.opened(Path(out), job)
            try:
                found = _census(network, data, table, how, address, progress, Path(out))
                _say(Path(out), found, job)
            finally:
                if (Path(out) / folder.META).is_file() or not folder.runs_of(work):
                    folder.discard(Path(out))
        return finished_in(network, Path(out))


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
        processors = int(ray.cluster_resources().get("CPU", 1))
        how = replace(how, ranges=_ranges(table, processors))
        pieces = cut(table, _piece_rows(table, processors))
        try:
            done = _until_broken(_mapped(ray, data, table, pieces, how, progress))
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


def _mapped(
    ray: Any,
    data: bytes,
    table: Table,
    pieces: list[Piece],
    how: Settings,
    progress: Progress | None,
) -> list[Counted]:
    """Every piece counted, in order. The first error, in order of the rows, is raised."""
    task = ray.remote(max_retries=RETRIES, num_returns=how.ranges + 2)(count_piece)
    network, settings = ray.put(data), ray.put(how)
    refs = []
    for piece in pieces:
        alone = replace(table, parts=(table.parts[piece.part],))
        refs.append(task.remote(network, alone, replace(piece, part=0), settings))
    try:
        found = _facts(ray, table, pieces, [r[0] for r in refs], how, _told(progress, table))
    except BaseException:
        for ref in refs:  # of a cluster that goes on without us
            ray.cancel(ref[0])
        raise
    return [Counted(p, f, r[1:-1], r[-1]) for p, f, r in zip(pieces, found, refs, strict=True)]


def _facts(
    ray: Any,
    table: Table,
    pieces: list[Piece],
    refs: list[Any],
    how: Settings,
    tell: Callable[[int], None],
) -> list[Facts]:
    """What the pieces say, as they are done; an error waits for the pieces before it."""
    place = {ref: k for k, ref in enumerate(refs)}
    found: dict[int, Facts] = {}
    errors: dict[int, GatewiseError] = {}
    waiting, rows = list(refs), 0
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        k, facts = place[done], ray.get(done)
        found[k] = facts
        error = facts.error or _broken_off(table, pieces[k], facts, how)
        if error is not None:
            errors[k] = error
            waiting = [ref for ref in waiting if place[ref] < min(errors)]
        rows += facts.rows
        tell(rows)
    if errors:
        raise errors[min(errors)]
    return [found[k] for k in range(len(refs))]


def _broken_off(table: Table, piece: Piece, facts: Facts, how: Settings) -> GatewiseError | None:
    """The error of a file that cannot be read to its end, where that is one."""
    if not facts.trouble or how.on_bad_files == "skip":
        return None
    after = counted(piece.start + facts.rows, "row")
    return unreadable(table.parts[piece.part].name, f"{facts.trouble} (after {after})")


def _told(progress: Progress | None, table: Table) -> Callable[[int], None]:
    begin = time.monotonic()

    def tell(rows: int) -> None:
        if progress is not None:
            progress(rows, table.rows, rows / max(time.monotonic() - begin, 1e-9))

    return tell


def _until_broken(done: list[Counted]) -> list[Counted]:
    """Without the pieces of a file after the one where it breaks off: they have no numbers."""
    broken: set[int] = set()
    kept = []
    for each in done:
        if each.piece.part not in broken:
            kept.append(each)
        if each.facts.trouble:
            broken.add(each.piece.part)
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
        Broken(table.parts[c.piece.part].name, c.piece.start + c.facts.rows, c.facts.trouble)
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
