"""audit of tables larger than memory: what can be fitted in closed form is fitted on all rows, the
rest on a sample of them; everything is measured on all test rows.

Not streamed, and said so in the notes: logistic regressions, cohorts and regional maps are fitted
on a sample; what units do is of the sample; AUC is within bounds and has no interval.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from gatewise.auditing.audit import Audit, Line, counts_of, require_share, share_of
from gatewise.auditing.bootstrap import Draws
from gatewise.auditing.rows import FEWEST, Question
from gatewise.auditing.streaming import scores
from gatewise.auditing.streaming.fitting import compared_models
from gatewise.auditing.streaming.measuring import Found, gains_of, measured
from gatewise.auditing.streaming.scores import Model
from gatewise.auditing.streaming.source import (
    Asked,
    Seen,
    Source,
    all_labels,
    first,
    looked_at,
    question_of,
    require_rows,
    source_of,
)
from gatewise.auditing.units import effective_rules, gate_uses
from gatewise.errors import DataError
from gatewise.explain.compute import Tell, quiet
from gatewise.explain.inputs import OnBadRows
from gatewise.explain.streaming.labels import Wanted, wanted
from gatewise.ir.network import Network
from gatewise.numeric import whole_number
from gatewise.patterns.streaming import is_stored
from gatewise.patterns.streaming.parts import OnBadFiles
from gatewise.tables.words import counted

SAMPLE = 50_000  # rows that what is not streamed is fitted on


def ask(
    network: Network,
    source: Any,
    y: Any,
    *,
    test: Any,
    rules: Any,
    holdout: Any,
    level: Any,
    repeats: Any,
    seed: Any,
    rows: Any,
    on_bad_rows: OnBadRows,
    on_bad_files: OnBadFiles,
    progress: Tell | None,
) -> Audit:
    """`streamed` with the settings of `audit`, each refused by name where it makes no sense."""
    if not isinstance(y, str):
        raise DataError(
            f"an audit of files compares with a column of them: give y as its name, got a "
            f"{type(y).__name__}"
        )
    if test is not None and not is_stored(test):
        raise DataError(
            f"the data are in files, and test is a {type(test).__name__}: give the path of a file "
            "or folder of test rows"
        )
    if on_bad_rows not in ("raise", "skip"):
        raise DataError(f"on_bad_rows must be 'raise' or 'skip', got {on_bad_rows!r}")
    share = share_of(holdout, test)
    require_share(level, "level")
    how = Draws(whole_number(repeats, "repeats", 100), level, whole_number(seed, "seed", 0))
    most = SAMPLE if rows is None else whole_number(rows, "rows", FEWEST)
    asked = Asked(
        y, counts_of(rules), share, how, most, on_bad_rows, on_bad_files, progress or quiet
    )
    return streamed(network, source, asked, test)


def streamed(network: Network, source: Any, asked: Asked, test: Any = None) -> Audit:
    """The Audit of rows in files; test: a table of rows the network was not trained on, too."""
    began = time.process_time()
    s = source_of(network.to(torch.float64), source, test, asked)
    fitted, seen, labels = first(s)
    looked, held, more = looked_at(s)
    require_rows(seen.rows, held.rows)
    meant = wanted(s.network, all_labels(labels, more), s.kind)
    q = question_of(s, fitted, looked)
    if meant.measured == bool(q.classes):
        raise DataError("the sample's target reads otherwise than that of all rows: give sample=")
    return replace(_audit(s, q, meant, seen), seconds=time.process_time() - began)


def _audit(s: Source, q: Question, meant: Wanted, seen: Seen) -> Audit:
    notes = [n for n in q.notes if "test table" not in n and "without a target" not in n]
    every, linear, places = compared_models(s, q, seen, notes)
    found = measured(s, q, meant, every, places)
    classes = len(q.classes)
    shown = scores.compared(found.totals, len(every), classes, s.asked.how)
    lines = tuple(
        Line(m.key, m.name, m.rules, m.how, f, a)  # type: ignore[arg-type]
        for m, f, a in zip(every, shown.figures, shown.ahead, strict=True)
    )
    gains, overall = gains_of(found, places, classes, s.asked.how)
    e = q.explanation
    return Audit(
        target_name=s.asked.target,
        classes=q.classes,
        names=q.names,
        input_scale=seen.inputs.deviation,
        fit_rows=seen.rows,
        test_rows=found.rows,
        held_out=s.split,
        measures=scores.measures_of(classes),
        lines=lines,
        linear=linear,
        linear_how=every[1].how,
        gains=gains,
        overall=overall,
        cohorts=places,
        affine_explains=found.explains,
        affine_agrees=found.agrees,
        uses=() if e is None else gate_uses(e),
        regions=0 if e is None else e.clusters,
        effective=float("nan") if e is None else effective_rules(e),
        level=s.asked.how.level,
        repeats=s.asked.how.count,
        seed=s.asked.how.seed,
        notes=tuple([*_split_note(s, found.rows), *notes, *_limits(s, q, every, found)]),
        seconds=0.0,
    )


def _split_note(s: Source, test: int) -> Iterator[str]:
    if s.split:
        yield (f"no test table was given: {test:,} rows were held out by their number and the seed;"
               " if the network was trained on them, its figures are too good")  # fmt: skip


def _limits(s: Source, q: Question, every: list[Model], found: Found) -> Iterator[str]:
    """What is not of all rows, by name."""
    sample = f"a sample of {len(q.fit):,} fitting rows"
    logistic = f"{every[1].name}, " if q.classes else ""
    yield (f"rows were streamed: {logistic}the regional map, the cohorts and what units do are of "
           f"{sample}; every figure is of all {found.rows:,} test rows")  # fmt: skip
    passed = s.fit.passed + (0 if s.split else s.test.passed)
    if passed:
        yield f"{counted(passed, 'file')} of other kinds in the folders passed over"
    yield "intervals are the normal limit of the bootstrap, from sums and products over test rows"
    for m, ranks in zip(every, found.ranks, strict=False):
        low, high = ranks.auc
        yield f"AUC of {m.name} between {low:.6f} and {high:.6f} (scores in bins; no interval)"
