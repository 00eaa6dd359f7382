"""Fitting rows and test rows of files, block by block, and what one pass over each adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.auditing.audit import HOLDOUT
from gatewise.auditing.bootstrap import Draws
from gatewise.auditing.rows import BATCH, Question, Rows, of_tables
from gatewise.auditing.streaming import sampling
from gatewise.auditing.streaming.sampling import Sample
from gatewise.errors import BadRows, DataError
from gatewise.explain.compute import Tell
from gatewise.explain.inputs import OnBadRows
from gatewise.explain.streaming.labels import Labels, kind_of
from gatewise.explain.streaming.reading import Rows as Block
from gatewise.explain.streaming.reading import rows_of
from gatewise.explain.streaming.sums import Columns
from gatewise.ir.network import Network
from gatewise.linear.fits.moments import Moments, of_rows
from gatewise.patterns.streaming.parts import OnBadFiles, Table, table_of
from gatewise.tables import Matrix, Origin, counted

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST = 500  # rows to fit on, and to test on: below that an interval's normal limit is far off
LOOKED_AT = 5_000  # test rows that notes are made from


@dataclass(frozen=True, eq=False)
class Asked:
    """holdout: share of the rows that are test rows, where no test table is given; sample: rows
    that models without a closed form are fitted on."""

    target: str
    rules: Sequence[int]
    holdout: float | None
    how: Draws
    sample: int
    on_bad_rows: OnBadRows
    on_bad_files: OnBadFiles
    tell: Tell


@dataclass(frozen=True, eq=False)
class Source:
    """Tables of fitting and of test rows (one and the same where rows are split by number)."""

    network: Network
    fit: Table
    test: Table
    asked: Asked
    kind: Any

    @property
    def split(self) -> bool:
        return self.fit is self.test

    def blocks(self, table: Table, test: bool, job: str) -> Iterator[tuple[Block, Bools]]:
        """Blocks and which of their rows are meant: good ones, of that part."""
        for block in rows_of(table, self.asked.on_bad_files):
            good = np.isfinite(block.values).all(1)
            if not good.all() and self.asked.on_bad_rows == "raise":
                bad = (block.start + np.flatnonzero(~good)).tolist()
                raise BadRows(
                    f"NaN or infinity in {counted(len(bad), 'row')}, the first is row {bad[0]} "
                    "(counted from 0 over all files). Repair them, or leave such rows out "
                    "(on_bad_rows='skip')",
                    tuple(bad),
                )
            if self.split:
                index = np.arange(block.start, block.stop)
                held = sampling.held_out(index, self.asked.holdout or HOLDOUT, self.asked.how.seed)
                good &= held if test else ~held
            self.asked.tell(job, block.stop, table.rows or block.stop)
            yield block, good & ~_missing(block.target)


def _missing(column: Any) -> Bools:
    return np.asarray(column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))


def source_of(network: Network, source: Any, test: Any, asked: Asked) -> Source:
    """Both tables, with their columns in one order."""

    def table(given: Any) -> Table:
        how: dict[str, Any] = {"target": asked.target, "prepare": network.prepare}
        columns = (network.feature_names, network.inputs, asked.on_bad_files)
        return table_of(given, *columns, **how)

    fit = table(source)
    named = replace(network, feature_names=fit.columns)
    other = fit if test is None else table_of(
        test, fit.columns, network.inputs, asked.on_bad_files, target=asked.target,
        prepare=network.prepare,
    )  # fmt: skip
    text = any(kind_of(t) == pa.string() for t in (fit, other))
    return Source(named, fit, other, asked, pa.string() if text else pa.float64())


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass over the fitting rows adds up: deviations of the inputs, the moments of inputs
    and network's scores, those of inputs and target where it is a quantity."""

    inputs: Columns
    scores: Moments | None
    rows: int


def first(s: Source) -> tuple[Sample, Seen, Labels]:
    """A sample of the fitting rows, their sums, and the labels there are."""
    n, asked = s.network, s.asked
    sample = sampling.none(asked.sample, asked.how.seed, n.inputs, s.kind)
    inputs, moments, labels = Columns.none(n.inputs), None, Labels()
    for block, rows in s.blocks(s.fit, False, "fitting rows"):
        x = block.values[rows]
        if not len(x):
            continue
        sample = sample.merge(sampling.sample_of(block, rows, asked.sample, asked.how.seed, s.kind))
        labels.see(block.target.filter(pa.array(rows)).cast(s.kind))
        inputs = inputs.merge(Columns.of(x))
        part = of_rows(x, outputs_of(n, x), s.fit.columns)
        moments = part if moments is None else moments.merge(part)
    return sample, Seen(inputs, moments, inputs.rows), labels


def looked_at(s: Source) -> tuple[Sample, Seen, Labels]:
    """Some test rows, how many there are, and their labels."""
    n, asked = s.network, s.asked
    sample = sampling.none(LOOKED_AT, asked.how.seed, n.inputs, s.kind)
    count, labels = 0, Labels()
    for block, rows in s.blocks(s.test, True, "test rows"):
        sample = sample.merge(sampling.sample_of(block, rows, LOOKED_AT, asked.how.seed, s.kind))
        labels.see(block.target.filter(pa.array(rows)).cast(s.kind))
        count += int(rows.sum())
    return sample, Seen(Columns.none(n.inputs), None, count), labels


def all_labels(*found: Labels) -> list[Any] | None:
    """The distinct values of the target in all tables; None where there are too many."""
    whole = Labels()
    for each in found:
        if each.found is None:
            return None
        whole = Labels([*(whole.found or ()), *each.found])
    return whole.values


def require_rows(fit: int, test: int) -> None:
    """Intervals here are for thousands of rows."""
    if not max(fit, test):
        raise DataError("no row has a known target: an audit compares with one")
    if min(fit, test) < LEAST:
        raise DataError(
            f"an audit of files is for large tables, and here are {counted(fit, 'row')} to fit on "
            f"and {test} to test on: read them into memory and audit those"
        )


def outputs_of(network: Network, x: Floats) -> Floats:
    """(rows, outputs) of the network, finite."""
    parts = [network(x[i : i + BATCH]).double().cpu().numpy() for i in range(0, len(x), BATCH)]
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise DataError("the network overflows on some rows: repair or leave out extreme numbers")
    return found


def scored_by(network: Network, classes: int) -> Callable[[Floats], Floats]:
    """The network's scores: one column of log odds for two classes."""

    def say(x: Floats) -> Floats:
        found = outputs_of(network, x)
        two = classes == 2 and found.shape[1] == 2
        return found[:, 1:] - found[:, :1] if two else found

    return say


def question_of(s: Source, fitted: Sample, looked: Sample) -> Question:
    """The question of the sample, by which what is not streamed is answered."""
    network = replace(s.network, prepare=None)

    def rows(sample: Sample) -> Rows:
        target = sample.target.to_numpy(zero_copy_only=False)
        names, origin = s.fit.columns, Origin("pyarrow")
        matrix = Matrix(sample.x, names, np.arange(len(sample)), origin=origin)
        return Rows(matrix, target, s.asked.target)

    q = of_tables(network, rows(fitted), rows(looked), HOLDOUT, s.asked.how.seed)
    prepared = getattr(s.network.prepare, "units", None)
    return q if prepared is None else replace(q, network=s.network)
