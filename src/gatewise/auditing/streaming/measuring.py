"""One pass over the test rows: sums for every model, ranks of scores, cohort by cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.auditing.bootstrap import Draws, Interval
from gatewise.auditing.gains import FEWEST, Gain, _answer
from gatewise.auditing.measures import Truth
from gatewise.auditing.rows import Question
from gatewise.auditing.streaming import scores
from gatewise.auditing.streaming.scores import Model, Ranks, Totals
from gatewise.auditing.streaming.source import Source
from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.explain.streaming.labels import Wanted, numbers
from gatewise.explain.streaming.reading import Rows as Block
from gatewise.explain.streaming.sums import Columns, added
from gatewise.given.labels import winners

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Found:
    """Sums over the test rows; ranks: of scores, for two classes; columns: of scores of network."""

    rows: int
    totals: Totals
    spread: float
    ranks: list[Ranks]
    explains: float
    agrees: float
    cohorts: int


def measured(
    s: Source, q: Question, meant: Wanted, every: list[Model], places: Cohorts | None
) -> Found:
    """One pass over the test rows."""
    classes, x = len(q.classes), q.test.x
    shift = 0.0 if classes else float(q.test.truth.hot.mean())
    ranks = [Ranks.like(m.scores(x)[:, 0]) for m in every[:2]] if classes == 2 else []
    totals: Totals | None = None
    outputs, off, same = Columns.none(q.fit.scores.shape[1]), np.zeros((2, 1)), 0
    sizes = np.zeros(max(classes, 1), np.int64)
    for block, rows in s.blocks(s.test, True, "figures"):
        if not rows.any():
            continue
        x, truth = block.values[rows], _truth(block, rows, meant, classes)
        said = [m.scores(x) for m in every]
        columns = scores.columns(truth, said, shift)
        if places is not None:
            columns |= scores.by_cohort(columns, places._placed(x), len(places))
        else:
            columns["saved"] = columns["1 squared"] - columns["0 squared"]
        part = Totals.of(columns)
        totals = part if totals is None else totals.merge(part)
        if classes:
            sizes += np.bincount(truth.values.astype(np.int64), minlength=classes)
        ranks = [r.add(f[:, 0], truth.values == 1) for r, f in zip(ranks, said, strict=False)]
        outputs = outputs.merge(Columns.of(said[0]))
        away = np.array([[float(((said[0] - said[2]) ** 2).sum())], [0.0]])
        off = added(off, away)
        same += int((winners(said[0]) == winners(said[2])).sum()) if classes else 0
    assert totals is not None
    moved = float(np.ldexp(outputs.scatter[0], 2 * outputs.exponent).sum())
    return Found(
        outputs.rows,
        totals,
        _spread(totals, sizes, classes),
        ranks,
        1 - float(off.sum()) / moved if moved > 0 else 1.0,
        same / outputs.rows if classes else float("nan"),
        0 if places is None else len(places),
    )


def _truth(block: Block, rows: Bools, meant: Wanted, classes: int) -> Truth:
    column = block.target.filter(pa.array(rows))
    if not classes:
        return Truth(numbers(column), 0)
    place = meant.places(_like(column, meant))
    if (place < 0).any():
        raise DataError("the test rows hold a label that the network has no answer for")
    return Truth(place, classes)


def _like(column: Any, meant: Wanted) -> Any:
    """The column as it was when its labels were listed: text, or numbers."""
    text = any(isinstance(v, str) for v in meant.codes)
    return column.cast(pa.string() if text else pa.float64())


def _spread(totals: Totals, sizes: NDArray[np.int64], classes: int) -> float:
    """The variance of the target over the test rows, all columns of it together."""
    sums = {name: float(v[0]) for name, v in totals.sums().items()}
    rows = sums["rows"]
    if not classes:
        return sums["y²"] / rows - (sums["y"] / rows) ** 2
    share = sizes / rows
    each = share * (1 - share)
    return float(each[1] if classes == 2 else each.sum())


def gains_of(
    found: Found, places: Cohorts | None, classes: int, how: Draws
) -> tuple[tuple[Gain, ...], Interval]:
    """Cohort by cohort, and over all rows."""
    sums = {name: float(v[0]) for name, v in found.totals.sums().items()}
    sizes = [round(sums[f"rows of {k}"]) for k in range(found.cohorts)]
    large = np.array([k for k, n in enumerate(sizes) if n >= FEWEST], np.int64)
    overall, known = scores.gaps(found.totals, large, found.spread, how)
    if places is None:
        return (), overall
    made = []
    for k, n in enumerate(sizes):
        if n:
            mine = known.get(k)
            value = sums[f"saved in {k}"] / n / found.spread
            nan = float("nan")
            held = mine or Interval(value, nan, nan)
            one, other = (_quality(sums, i, k, n, classes) for i in (0, 1))
            share = n / found.rows
            said = _answer(mine)
            made.append(Gain(k, places.condition(k), n, share, one, other, held, said))
    return tuple(made), overall


def _quality(sums: dict[str, float], i: int, k: int, n: int, classes: int) -> float:
    """Accuracy, or the root mean squared error of a quantity."""
    if classes:
        return sums[f"{i} right in {k}"] / n
    return float(np.sqrt(max(sums[f"{i} squared in {k}"], 0.0) / n))
