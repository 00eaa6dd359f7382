"""What a report says about an Explanation, as plain values: no sentence, no markup, no drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation
from gatewise.show.truth import Target

Floats = NDArray[np.float64]
TERMS = 12  # written out in a rule
FEATURES = 15  # in the table of slopes
SECTIONS = 3  # outputs that get one


@dataclass(frozen=True)
class Term:
    """w_j x_j: coefficient in input units; effect = w_j scale_j; share of the sum of |effect|."""

    name: str
    coefficient: float
    effect: float
    share: float
    value: float


@dataclass(frozen=True)
class Card:
    """One cluster's rule for one output."""

    cluster: int
    rows: int
    share: float
    intercept: float
    mean_output: float
    truth: tuple[str, float] | None
    margin: tuple[float, float] | None  # smallest, median
    terms: tuple[Term, ...]
    more: int
    rest: float
    error: float
    bound: float
    example: int
    example_output: float
    active: tuple[tuple[str, int, int], ...]

    @property
    def on(self) -> int:
        return sum(n for _, n, _ in self.active)

    @property
    def units(self) -> int:
        return sum(n for _, _, n in self.active)


@dataclass(frozen=True)
class Slope:
    """A feature's slope over all rows: mean, 5 % and 95 % points, share of rows above zero."""

    name: str
    importance: float
    mean: float
    low: float
    high: float
    positive: float
    scale: float


@dataclass(frozen=True)
class Section:
    """All that is said about one output."""

    index: int
    name: str
    cards: tuple[Card, ...]
    slopes: tuple[Slope, ...]
    more: int
    rest: float


def quantile(values: Floats, q: float) -> float:
    """The smallest value with at least a share q of the values at or below it (inf allowed)."""
    return float(np.quantile(values, q, method="inverted_cdf"))


def unit(e: Explanation) -> str:
    """What one step of an input is measured in: its own where no input varies (one row, say)."""
    return "standard deviation" if e.scale.any() else "input unit"


def scale(e: Explanation) -> Floats:
    """(features,) the size of one `unit`."""
    return e.scale if e.scale.any() else np.ones_like(e.scale)


def margins(e: Explanation) -> Floats | None:
    """(rows,) distance to the wall, in units of `unit`."""
    if e.margin is None:
        return None
    found = e.margin.scaled if e.scale.any() else e.margin.l2
    return np.asarray(found.double().cpu())


def alone(e: Explanation) -> int:
    """How many rows are the only one of their cluster."""
    return int((e.census.counts == 1).sum())


def importance(e: Explanation, output: int, clusters: slice | None = None) -> Floats:
    """(features,) share of |w_j| scale_j in a rule, averaged over rows."""
    part = clusters or slice(None)
    raw = np.abs(e.coefficients[part, output]) * scale(e)
    total = raw.sum(-1, keepdims=True)
    raw = np.divide(raw, total, out=raw, where=total > 0)
    weight = e.census.counts[part]
    mean: Floats = weight @ raw / weight.sum()
    return mean


def ranked(effect: Floats, slope: Floats) -> NDArray[np.int64]:
    """Features by |effect|, then by |slope| (which decides where no feature varies)."""
    return np.lexsort((-np.abs(slope), -np.abs(effect)))


def section(e: Explanation, output: int, top: int, target: Target | None) -> Section:
    """What is said about one of the explained outputs."""
    shown = min(top, e.clusters)
    slopes, more, rest = _slopes(e, output)
    cards = tuple(_card(e, output, c, target) for c in range(shown))
    return Section(output, e.output_names[output], cards, slopes, more, rest)


def _slopes(e: Explanation, output: int) -> tuple[tuple[Slope, ...], int, float]:
    part = importance(e, output)
    mean = e.share @ e.coefficients[:, output]
    order = [j for j in ranked(part, mean) if e.coefficients[:, output, j].any()]
    shown = [_slope(e, output, int(j), float(part[j]), float(mean[j])) for j in order[:FEATURES]]
    return tuple(shown), len(order) - len(shown), float(part[order[FEATURES:]].sum())


def _slope(e: Explanation, output: int, j: int, part: float, mean: float) -> Slope:
    column, counts = e.coefficients[:, output, j], e.census.counts
    order = np.argsort(column)
    upto = np.cumsum(counts[order]) / len(e)
    low, high = (float(column[order[np.searchsorted(upto, q - 1e-12)]]) for q in (0.05, 0.95))
    positive = float(counts[column > 0].sum() / len(e))
    return Slope(e.feature_names[j], part, mean, low, high, positive, float(scale(e)[j]))


def _card(e: Explanation, output: int, cluster: int, target: Target | None) -> Card:
    rows = e.census.members(cluster)
    first = int(e.census.first[cluster])
    y = e.census.output[:, e.outputs[output]].double().cpu().numpy()
    terms, more, rest = _terms(e, output, cluster, first)
    return Card(
        cluster,
        len(rows),
        len(rows) / len(e),
        float(e.intercepts[cluster, output]),
        float(y[rows].mean()),
        target.summary(rows) if target else None,
        _reach(e, rows),
        terms,
        more,
        rest,
        float(e.error[rows, output].max()),
        float(e.bound[rows, output].max()),
        int(e.matrix.index[first]),
        float(y[first]),
        _active(e, cluster),
    )


def _terms(
    e: Explanation, output: int, cluster: int, row: int
) -> tuple[tuple[Term, ...], int, float]:
    """The largest terms, how many more there are, and their share of the importance."""
    w = e.coefficients[cluster, output]
    effect = w * scale(e)
    total = float(np.abs(effect).sum()) or 1.0
    order = ranked(effect, w)
    order = order[w[order] != 0]
    shown = tuple(
        Term(
            e.feature_names[j],
            float(w[j]),
            float(effect[j]),
            float(abs(effect[j]) / total),
            float(e.data[row, j]),
        )
        for j in order[:TERMS]
    )
    return shown, len(order) - len(shown), float(np.abs(effect[order[TERMS:]]).sum() / total)


def _reach(e: Explanation, rows: NDArray[np.int64]) -> tuple[float, float] | None:
    far = margins(e)
    return None if far is None else (float(far[rows].min()), quantile(far[rows], 0.5))


def _active(e: Explanation, cluster: int) -> tuple[tuple[str, int, int], ...]:
    fields = {f.name: f.units for f in e.census.pattern.fields}
    one = e.census.pattern[np.array([cluster])].active()
    return tuple((gate, int(n[0]), fields[gate]) for gate, n in one.items())


def outputs(e: Explanation) -> Sequence[int]:
    """The outputs that get a section of their own."""
    return range(min(SECTIONS, len(e.outputs)))
