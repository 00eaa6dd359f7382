"""The models that are compared: of all fitting rows in closed form, else of a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gatewise.auditing import models
from gatewise.auditing.rows import Question
from gatewise.auditing.streaming.scores import Model
from gatewise.auditing.streaming.source import Seen, Source, scored_by
from gatewise.errors import DataError
from gatewise.explain.cohorts.cohorts import Cohorts, cohorts
from gatewise.explain.streaming.labels import numbers
from gatewise.linear.fits.model import LinearModel
from gatewise.linear.fits.moments import Moments, triangle
from gatewise.linear.fits.squares import least_squares, ridge

Floats = NDArray[np.float64]


class _Rows:
    """Fitting rows as batches (X, y), anew each time they are gone through."""

    def __init__(self, s: Source) -> None:
        self.s = s

    def __iter__(self) -> Iterator[tuple[Any, Floats]]:
        for block, rows in self.s.blocks(self.s.fit, False, "linear model"):
            if rows.any():
                x = pa.table(dict(zip(self.s.fit.columns, block.values[rows].T, strict=True)))
                yield x, numbers(block.target)[rows]


def _linear(s: Source, q: Question) -> tuple[LinearModel, str]:
    """A ridge regression of all fitting rows; a logistic one of the sample."""
    if not q.classes:
        found = ridge(_Rows(s), alpha="loo")
        return found, f"penalty {found.alpha:.3g}, by leave-one-out in closed form, of all rows"
    found, how = models.linear_model(q)
    return found, f"{how}, of a sample of {len(q.fit):,} rows"


def _affine(seen: Seen, classes: int) -> tuple[Floats, Floats]:
    """Slopes and intercepts of the affine map nearest to the network's scores on fitting rows."""
    m = seen.scores
    assert m is not None
    p, spread = m.features, np.sqrt((m.root[:, m.features :] ** 2).sum(0))
    moving = np.flatnonzero(spread > 1e-12 * np.abs(m.mean[p:]) * np.sqrt(m.rows))
    slopes, starts = np.zeros((m.targets, p)), m.mean[p:].copy()
    if len(moving):
        kept = [*range(p), *(p + moving)]
        some = Moments(m.rows, m.mean[kept], triangle(m.root[:, kept]), len(moving),
                       m.names)  # fmt: skip
        found = least_squares(some, collinear_columns="least")
        slopes[moving], starts[moving] = found.coefficients, found.intercepts
    if classes == 2 and m.targets == 2:
        return slopes[1:] - slopes[:1], starts[1:] - starts[:1]
    return slopes, starts


def _map(slopes: Floats, starts: Floats) -> Callable[[Floats], Floats]:
    return lambda x: np.asarray(x @ slopes.T + starts)


def compared_models(
    s: Source, q: Question, seen: Seen, notes: list[str]
) -> tuple[list[Model], LinearModel, Cohorts | None]:
    """The network first, then the linear model, then its own maps and rules."""
    e, of = q.explanation, f"of a sample of {len(q.fit):,} rows"
    regions = 0 if e is None else e.clusters
    say = scored_by(s.network, len(q.classes))
    linear, how = _linear(s, q)
    found = [Model("network", "the network", regions, "as it is", say)]
    found.append(
        Model("linear", models.linear_name(q), 1, how, lambda x: models.said(linear, q, x))
    )
    nearest = "least squares to the network's outputs, of all rows"
    affine = _map(*_affine(seen, len(q.classes)))
    found.append(Model("affine", "its own best affine map", 1, nearest, affine))
    region = models.best_region(q)
    if region is not None:
        found.append(Model("regional", models.REGIONAL, 1, f"{region[2]}, {of}", _map(*region[:2])))
    few, places = _rules(s, q, notes)
    return [*found, *few], linear, places


def _rules(s: Source, q: Question, notes: list[str]) -> tuple[list[Model], Cohorts | None]:
    """Cohorts of the sample: few rules for all rows, and places to look at."""
    e, found = q.explanation, list[Model]()
    if e is None or not s.asked.rules:
        return found, None
    try:
        if len(q.classes) <= 2:
            for k in sorted(set(s.asked.rules)):
                here = cohorts(e, max_rules=k, seed=s.asked.how.seed)
                if not found or found[-1].rules < len(here):
                    name = f"its rules, {len(here)}" if len(here) > 1 else "its rules, one"
                    how = f"cohorts of a sample of {len(e):,} rows"
                    say = _predicted(here)
                    found.append(Model("cohorts", name, len(here), how, say))
        output = models._output(q)
        places = cohorts(
            e, output=output, max_rules=max(s.asked.rules), conjunctions=1, seed=s.asked.how.seed
        )
    except DataError as why:
        notes.append(f"no cohorts: {why}")
        return found, None
    return found, places


def _predicted(c: Cohorts) -> Callable[[Floats], Floats]:
    return lambda x: c.predict(x)[:, None]
