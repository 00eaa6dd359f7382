"""streamed(network, source, out): the Explanation of a table larger than memory, in files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import torch

from gatewise.errors import DataError
from gatewise.explain.compute import Floats, deviation
from gatewise.explain.export import SCHEMA_VERSION, versions
from gatewise.explain.groups import Group
from gatewise.explain.references import MEAN
from gatewise.explain.streaming import abroad, tallies
from gatewise.explain.streaming import scan as scanning
from gatewise.explain.streaming.asked import Asked, Question, job_of, question
from gatewise.explain.streaming.first import First, first
from gatewise.explain.streaming.labels import Wanted, kind_of, wanted
from gatewise.explain.streaming.pieces import Maps, Ruler, unpacked
from gatewise.explain.streaming.scan import Plan, part_rows, scan
from gatewise.explain.streaming.sums import Sums
from gatewise.explain.streaming.tallies import Tally
from gatewise.explain.streaming.workers import Workers, require, workers
from gatewise.ir.network import Network, require_piecewise_affine
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.engine import on_ray
from gatewise.patterns.streaming import census as counting
from gatewise.patterns.streaming import folder
from gatewise.patterns.streaming.answer import Broken, StreamedCensus
from gatewise.patterns.streaming.parts import table_of
from gatewise.tables import counted
from gatewise.tables.writing import sentences, whole_file

CENSUS, SUMS, SUMMARY = "census", "sums.safetensors", "summary.parquet"
FILES = (scanning.ROWS, CENSUS, SUMMARY, SUMS, folder.META)
OURS = frozenset({folder.LOCK, folder.UNFINISHED, *FILES})
DONE = "meta.json"
WHAT = scanning.WHAT
OF_TARGET = ("target", "right", "|error|", "error²")


@dataclass(frozen=True, eq=False)
class StreamedExplanation:
    """The exact rules of a network on rows that stay on the disk: what `Explanation` says of them.

    folder: rows/part-*.parquet has a row an input (row, cluster, target, output, base value,
    contributions, margins, error, bound, undecided units), in the columns of `save`; census/ the
    patterns and the cluster of every row; summary.parquet what `table` says. reference, scale:
    what contributions and margins are measured by; max_error, max_bound: over all rows; sums: of
    inputs, outputs, contributions and errors for each of the largest clusters (or cohorts), the
    last entry for all other rows; furthest: of cohorts, max |rule - network|.
    """

    network: Network
    folder: Path
    census: StreamedCensus
    feature_names: tuple[str, ...]
    outputs: tuple[int, ...]
    output_names: tuple[str, ...]
    reference: Floats
    reference_name: str
    scale: Floats
    max_error: float
    max_bound: float
    sums: Sums
    furthest: Floats | None
    cohorts: int
    target: str
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return int(self.sums.counts.sum())

    @property
    def clusters(self) -> int:
        """How many distinct patterns the rows have."""
        return len(self.census)

    @property
    def skipped(self) -> int:
        """Rows left out for NaN or infinity."""
        return self.census.skipped

    @property
    def broken(self) -> tuple[Broken, ...]:
        """Files left out, from where on."""
        return self.census.broken

    @property
    def maps(self) -> AffineMap:
        """The affine map of each cluster, lazy: `maps[:10].rows([0])` are those of the largest."""
        return self.census.maps

    @property
    def parts(self) -> list[Path]:
        """The files of rows, in order."""
        return sorted((self.folder / scanning.ROWS).glob("part-*.parquet"))

    def rows(self, columns: list[str] | None = None, batch_size: int = 65_536) -> Iterator[Any]:
        """The rows as pyarrow record batches, some at a time."""
        for path in self.parts:
            with pa.parquet.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size, columns=columns)

    def dataset(self) -> Any:
        """A pyarrow dataset of all rows, which pandas, polars and DuckDB read, too."""
        return pa.dataset.dataset([str(p) for p in self.parts])

    @property
    def importance(self) -> Floats:
        """(outputs, features) the mean |contribution| over all rows."""
        return self._mean("|contribution|")

    @property
    def group_importance(self) -> Floats:
        """(outputs, groups) the mean |sum of its members' contributions| over all rows."""
        return self._mean("|group contribution|")

    def _mean(self, kind: str) -> Floats:
        found = self.sums.whole()
        values = [v for name, v in found.items() if name.startswith(kind + ":")]
        return np.array(values).reshape(len(self.outputs), -1)

    def table(self) -> dict[str, list[Any]]:
        """Columns, one entry a cluster or cohort (the last: all other rows): rows, share, means.

        known: rows with a target, over which its means are taken; nan for a group of no row.
        """
        sums, rows = self.sums, self.sums.counts
        named = [*map(str, range(len(sums) - 1)), "rest"]
        found: dict[str, list[Any]] = {"cohort" if self.cohorts else "cluster": named}
        found |= {"rows": rows.tolist(), "share": (rows / max(len(self), 1)).tolist()}
        totals = dict(zip(sums.names, sums.totals.T, strict=True))
        known = totals.pop("known", rows)
        if self.target:
            found["known"] = known.astype(np.int64).tolist()
        for name, total in totals.items():
            if not np.isnan(total).any():
                with np.errstate(divide="ignore", invalid="ignore"):
                    mean = total / (known if name in OF_TARGET else rows)
                found[f"mean {name}"] = mean.tolist()
        if self.furthest is not None:
            found["largest |rule - network|"] = self.furthest.tolist()
        return found

    def __repr__(self) -> str:
        left = f", {counted(self.skipped, 'row')} skipped" if self.skipped else ""
        if self.census.passed:
            left += f"; {counted(self.census.passed, 'other file')} passed over"
        share = self.census.counts[0] / max(len(self), 1)
        return (
            f"StreamedExplanation: {counted(len(self), 'row')} in "
            f"{counted(self.clusters, 'cluster')}, "
            f"{counted(len(self.feature_names), 'feature')}, "
            f"{counted(len(self.outputs), 'output')}\n"
            f"  largest cluster {share:.1%} of the rows; contributions against "
            f"{self.reference_name}\n"
            f"  largest error |Wx + b - f(x)| {self.max_error:.2g} (bound {self.max_bound:.2g}), "
            f"{counted(self.census.undecided, 'row')} undecided{left}\n"
            f"  in {self.folder}: rows/ ({counted(len(self.parts), 'file')}), census/, meta.json"
        )


def ask(
    network: Network,
    source: Any,
    *,
    out: Any,
    target: Any = None,
    engine: str | None = None,
    address: str | None = None,
    **asked: Any,
) -> StreamedExplanation:
    """`streamed` with the settings of `explain`; what only tables in memory have is refused."""
    if out is None:
        raise DataError(
            "rows in files are explained into files: give a folder, out= (or read the table into "
            "memory, where it fits, and explain that)"
        )
    if target is not None and not isinstance(target, str):
        raise DataError(
            f"target is a {type(target).__name__}: for rows in files give the name of a column"
        )
    hands = {"engine": engine, "address": address}
    if engine is not None and isinstance(source, str | Path):
        source = Path(source).absolute()  # workers may have been started in another folder
    return streamed(network, source, out, Asked(target=target or "", **asked), **hands)


def streamed(
    network: Network,
    source: Any,
    out: str | Path,
    asked: Asked,
    *,
    engine: str | None = None,
    address: str | None = None,
) -> StreamedExplanation:
    """The Explanation of the rows of `source`, written to the folder `out` part by part.

    source: a file or folder of Parquet, Arrow or CSV files, or a pyarrow dataset of files. Read up
    to three times: for the census (a cluster's number is its rank among all), for means and
    deviations (unless a reference and a background are given, or no margins are wanted), and for
    the rows. Killed at any point and called again in the same way, it goes on.
    engine: "ray" shares all that out, into the same files (`abroad`); address: of its cluster.
    """
    require_piecewise_affine(network, "an explanation")
    require(network, engine, address)
    network = network.to(torch.float64)
    columns = (network.feature_names, network.inputs, asked.on_bad_files)
    table = table_of(source, *columns, target=asked.target, prepare=network.prepare)
    if asked.target:
        kind_of(table)  # a column of dates, say, is refused now
    q = question(network, table, asked)
    job = job_of(q, part_rows(q))
    where = folder.place_of(out)
    with folder.only_one(where, OURS, table.tops):
        if not folder.finished(where, job, WHAT):
            refused = False
            try:
                with workers(q.network, engine, address) as hands:
                    _run(q, where, job, hands)
            except DataError:
                refused = True
                raise
            finally:
                _leave_free(where, refused)
        return _made(q, where, where / folder.META)


def _leave_free(out: Path, refused: bool) -> None:
    """Where no row was explained, a question that was refused binds the next one to nothing; nor
    does any that left no part of a census. The census itself is of the rows: it is kept."""
    census, work = out / CENSUS, out / folder.UNFINISHED
    begun = any((census / name).exists() for name in (folder.META, folder.UNFINISHED))
    if not begun or (refused and not any(work.glob("sums-*"))):
        folder.discard(out)


def _run(q: Question, out: Path, job: folder.Job, hands: Workers | None) -> None:
    """The census, the first reading where it is needed, the rows; what was done is kept."""
    work = folder.opened(out, job, WHAT)
    found = _census(q, out, hands)
    known, sizes = _first(q, work, found, hands)
    ruler = _ruler(q, known)
    with sentences(out):
        bits = unpacked(out / CENSUS / folder.PATTERNS, work / "bits", q.network)
        (out / scanning.ROWS).mkdir(exist_ok=True)
    reading = None if known is None or not q.asked.target else _wanted(q, known)
    kind = kind_of(q.table) if q.asked.target else None
    maps = Maps(q.network, q.outputs, bits)
    rows, size = out / CENSUS / folder.ROWS, part_rows(q)
    plan = Plan(q, maps, ruler, reading, kind, rows, out, work, size, found.rows)
    tally = scan(plan) if hands is None else abroad.scanned(hands, plan, sizes)
    tallies.write(out / SUMS, tally, {})
    folder.write_json(work / DONE, _described(q, job, found, ruler, known, tally))
    with whole_file(out / SUMMARY) as draft:
        pa.parquet.write_table(pa.table(_made(q, out, work / DONE).table()), draft)
    folder.write_json(out / folder.META, json.loads((work / DONE).read_text()))
    folder.discard(out)


def _census(q: Question, out: Path, hands: Workers | None = None) -> StreamedCensus:
    asked = q.asked

    def tell(rows: int, total: int | None, rate: float) -> None:
        asked.progress("patterns", rows, total or rows)

    alone = dataclasses.replace(q.network, prepare=None, feature_names=q.table.columns)
    bad = {"on_bad_rows": asked.on_bad_rows, "on_bad_files": asked.on_bad_files}
    how: dict[str, Any] = {"batch_size": asked.batch_size, "progress": tell, **bad}
    count = counting.streamed if hands is None else on_ray  # which uses the Ray that is connected
    return count(alone, q.table, out=out / CENSUS, **how)


def _first(
    q: Question, work: Path, census: StreamedCensus, hands: Workers | None
) -> tuple[First | None, list[int]]:
    """What the first reading finds, where it is needed; for workers, the rows of every file."""
    if hands is not None:
        return abroad.surveyed(hands, q, work, census)
    if not q.needs_first:
        return None, []
    how = (q.asked.on_bad_files, q.groups, q.row, q.asked.progress)
    return first(q.table, work, *how), []


def _ruler(q: Question, known: First | None) -> Ruler:
    """Reference, deviations and reach, from the background or from all rows."""
    behind = q.asked.background
    base, name = q.reference or (None, MEAN)
    if base is None and known is not None:
        base = known.inputs.mean if known.row is None else known.row
        name = MEAN if known.row is None else f"row {q.row}"
    assert base is not None  # without a reference there was a first reading
    if behind is not None:
        scale = deviation(behind.values)
    else:
        scale = np.ones(len(base)) if known is None else known.inputs.deviation
    return Ruler(base, name, scale, None if known is None else known.inputs.reach)


def _wanted(q: Question, known: First) -> Wanted:
    return wanted(q.network, known.labels, kind_of(q.table))


def _described(
    q: Question,
    job: folder.Job,
    census: StreamedCensus,
    ruler: Ruler,
    known: First | None,
    tally: Tally,
) -> dict[str, Any]:
    """meta.json: enough to know what was explained, by what, and how exactly."""
    inputs = None if known is None else known.inputs
    plain = [True] * len(q.groups) if known is None else known.plain
    groups = [
        {"name": g.name, "members": g.members, "levels": g.levels if p else ()}
        for g, p in zip(q.groups, plain, strict=True)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "gatewise.streamed_explanation",
        "features": list(q.feature_names),
        "explained_outputs": list(q.output_names),
        "target": q.asked.target or None,
        "reference": {"name": ruler.base_name, "values": ruler.base.tolist()},
        "scale": ruler.scale.tolist(),
        "groups": groups,
        "inputs": None
        if inputs is None
        else {n: getattr(inputs, n).tolist() for n in ("mean", "deviation", "low", "high")},
        "skipped_rows": census.skipped,
        "clusters": len(census),
        "undecided_rows": census.undecided,
        "broken": [dataclasses.astuple(b) for b in census.broken],
        "notes": list(q.network.notes),
        "versions": dict(versions()),
        **scanning.said(tally),
        "job": job,
    }


def _made(q: Question, out: Path, meta: Path) -> StreamedExplanation:
    """The explanation in a folder, all parts of which are there."""
    census = _census(q, out)
    with folder.known(out, WHAT):
        return _read(q, out, json.loads(meta.read_text()), census)


def _read(
    q: Question, out: Path, said: dict[str, Any], census: StreamedCensus
) -> StreamedExplanation:
    tally = tallies.read(out / SUMS)
    levels = [g["levels"] for g in said["groups"]]
    found = StreamedExplanation(
        q.network,
        out,
        census,
        q.feature_names,
        q.outputs,
        q.output_names,
        np.array(said["reference"]["values"]),
        said["reference"]["name"],
        np.array(said["scale"]),
        said["max_error"],
        said["max_bound"],
        tally.sums,
        tally.furthest,
        0 if q.asked.cohorts is None else len(q.asked.cohorts),
        q.asked.target,
        tuple(
            g if held else dataclasses.replace(g, levels=(), dropped=None)
            for g, held in zip(q.groups, levels, strict=True)
        ),
    )
    if (kept := found.dataset().count_rows() if found.parts else 0) != said["rows"]:
        raise ValueError(f"rows/ has {counted(kept, 'row')} of {said['rows']}")
    return found
