"""Figures of models on rows that come in blocks: sums over rows, and how sure they are.

Every measure here is a function of sums S = Σ v_i over rows. The Poisson bootstrap draws Σ w_i v_i,
w_i ~ Poisson(1), whose mean is S and whose covariance is Σ v_i v_iᵀ: for thousands of rows it is
normal, so those two sums are all it needs, and no weight is drawn (Chamandy et al. 2012 draw them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gatewise.auditing.bootstrap import Draws, Interval, interval, together
from gatewise.auditing.measures import (
    ACCURACY,
    BRIER,
    LOG_LOSS,
    OF_NUMBERS,
    Measure,
    Truth,
    losses,
    squared,
)
from gatewise.explain.streaming.sums import STEP, added
from gatewise.given.labels import winners

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
OF_CLASSES = (ACCURACY, LOG_LOSS, BRIER)
PER_ROW = {"accuracy": "right", "log loss": "loss", "Brier score": "squared"}
BINS = 1 << 16


@dataclass(frozen=True, eq=False)
class Totals:
    """Σ v and Σ v vᵀ of named columns over rows, as pairs; a commutative monoid under `merge`."""

    names: tuple[str, ...]
    first: Floats
    second: Floats

    @classmethod
    def of(cls, columns: dict[str, Floats]) -> Totals:
        """Of some rows: names with (rows,) each."""
        values = np.stack(list(columns.values()), 1)
        whole = cls.none(tuple(columns))
        for start in range(0, len(values), STEP):
            v = values[start : start + STEP]
            pairs = [np.stack([s, np.zeros_like(s)]) for s in (v.sum(0), v.T @ v)]
            whole = whole.merge(cls(whole.names, *pairs))
        return whole

    @classmethod
    def none(cls, names: tuple[str, ...]) -> Totals:
        """Of no row."""
        k = len(names)
        return cls(names, np.zeros((2, k)), np.zeros((2, k, k)))

    def merge(self, other: Totals) -> Totals:
        """Of the rows of both."""
        first, second = added(self.first, other.first), added(self.second, other.second)
        return Totals(self.names, first, second)

    def sums(self) -> dict[str, Floats]:
        """Each column's sum, (1,)."""
        return {n: s[None] for n, s in zip(self.names, self.first.sum(0), strict=True)}

    def drawn(self, how: Draws) -> dict[str, Floats]:
        """Each column's sum under every draw of the bootstrap, (count,)."""
        size, way = np.linalg.eigh(self.second.sum(0))
        root = way * np.sqrt(size.clip(0))
        noise = np.random.default_rng(how.seed).normal(size=(how.count, len(size)))
        found = self.first.sum(0) + noise @ root.T
        return dict(zip(self.names, found.T, strict=True))


@dataclass(frozen=True, eq=False)
class Model:
    """What is compared: scores of rows x (rows, inputs); how it was made, as a `Line` says it."""

    key: str
    name: str
    rules: int
    how: str
    scores: Callable[[Floats], Floats]


def measures_of(classes: int) -> tuple[Measure, ...]:
    """Those that are functions of sums; the verdict is about the first."""
    return OF_CLASSES if classes else OF_NUMBERS


def columns(truth: Truth, scores: Sequence[Floats], shift: float) -> dict[str, Floats]:
    """What is summed for every model on some rows; shift: a number near the targets' mean."""
    found = {"rows": np.ones(len(truth))}
    if not truth.classes:
        found["y"] = truth.hot[:, 0] - shift
        found["y²"] = found["y"] ** 2
    for i, s in enumerate(scores):
        found[f"{i} squared"] = squared(truth, s)
        if truth.classes:
            codes = truth.values.astype(np.int64)
            found[f"{i} right"] = (winners(s) == codes).astype(np.float64)
            found[f"{i} loss"] = losses(codes, s)
    return found


def figures(sums: dict[str, Floats], models: int, classes: int) -> dict[str, Floats]:
    """Each measure of each model as '0 accuracy', from sums (draws,)."""
    rows = sums["rows"]
    found: dict[str, Floats] = {}
    for i in range(models):
        if classes:
            found |= {f"{i} {m}": sums[f"{i} {c}"] / rows for m, c in PER_ROW.items()}
        else:
            off = sums[f"{i} squared"] / rows
            spread = sums["y²"] / rows - (sums["y"] / rows) ** 2
            with np.errstate(divide="ignore", invalid="ignore"):
                found |= {f"{i} R²": 1 - off / spread, f"{i} RMSE": np.sqrt(off.clip(0))}
    return found


@dataclass(frozen=True, eq=False)
class Compared:
    """Figures of every model with intervals, as `Line` has them, and by how much model 0 leads."""

    figures: list[dict[str, Interval]]
    ahead: list[dict[str, Interval]]


def compared(totals: Totals, models: int, classes: int, how: Draws) -> Compared:
    """All models against model 0, under the same draws."""
    value = figures(totals.sums(), models, classes)
    drawn = figures(totals.drawn(how), models, classes)
    held, ahead = [], []
    for i in range(models):
        names = {m.name: 1 if m.high else -1 for m in measures_of(classes)}
        held.append(
            {n: interval(float(value[f"{i} {n}"][0]), drawn[f"{i} {n}"], how.level) for n in names}
        )
        gaps = {
            n: [s * (v[f"0 {n}"] - v[f"{i} {n}"]) for v in (value, drawn)] for n, s in names.items()
        }
        ahead.append({n: interval(float(v[0]), d, how.level) for n, (v, d) in gaps.items()})
    return Compared(held, ahead)


def by_cohort(columns: dict[str, Floats], ids: Ids, cohorts: int) -> dict[str, Floats]:
    """The rows of each cohort, and what model 0 saves over model 1 there, as columns."""
    saved = columns["1 squared"] - columns["0 squared"]
    found = {"saved": saved}
    for k in range(cohorts):
        member = (ids == k).astype(np.float64)
        found |= {f"rows of {k}": member, f"saved in {k}": member * saved}
        found |= {
            f"{i} {what} in {k}": member * columns[f"{i} {what}"] for i, what in _each(columns)
        }
    return found


def _each(columns: dict[str, Floats]) -> list[tuple[int, str]]:
    what = "right" if "0 right" in columns else "squared"
    return [(i, what) for i in (0, 1)]


def gaps(
    totals: Totals, large: Ids, spread: float, how: Draws
) -> tuple[Interval, dict[int, Interval]]:
    """The gain over all rows, and those of large cohorts, which hold all at once."""

    def means(sums: dict[str, Floats]) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            each = [sums[f"saved in {k}"] / sums[f"rows of {k}"] / spread for k in large]
        return np.stack(each, 1) if each else np.empty((len(sums["rows"]), 0))

    sums, drawn = totals.sums(), totals.drawn(how)
    whole = [s["saved"] / s["rows"] / spread for s in (sums, drawn)]
    overall = interval(float(whole[0][0]), whole[1], how.level)
    if not len(large):
        return overall, {}
    found = together(means(sums)[0], means(drawn), how.level)
    return overall, {int(k): i for k, i in zip(large, found, strict=True)}


# -- the area under the curve, within bounds --


@dataclass(frozen=True, eq=False)
class Ranks:
    """How many rows of either class have a score in each bin; AUC within exact bounds.

    edges (bins - 1,) ascending; counts (2, bins): of the first class and of the second.
    """

    edges: Floats
    counts: Ids = field(default_factory=lambda: np.zeros((2, 1), np.int64))

    @classmethod
    def like(cls, scores: Floats) -> Ranks:
        """Bins of about as many of these scores each."""
        edges = np.unique(np.quantile(scores, np.linspace(0, 1, min(BINS, len(scores)))))
        return cls(edges, np.zeros((2, len(edges) + 1), np.int64))

    def add(self, score: Floats, second: NDArray[np.bool_]) -> Ranks:
        """With more rows."""
        place = np.searchsorted(self.edges, score, "right")
        more = [
            np.bincount(place[rows], minlength=self.counts.shape[1]) for rows in (~second, second)
        ]
        return Ranks(self.edges, self.counts + np.stack(more))

    @property
    def auc(self) -> tuple[float, float]:
        """Its least and its largest possible value; they differ by pairs that share a bin."""
        no, yes = self.counts.astype(np.float64)
        below = np.cumsum(no) - no
        pairs = yes.sum() * no.sum()
        if pairs == 0:
            return float("nan"), float("nan")
        low = float((yes * below).sum() / pairs)
        return low, low + float((yes * no).sum() / pairs)
