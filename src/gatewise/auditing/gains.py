"""Where a network earns its keep: cohort by cohort, squared error saved against the linear model.

gain = mean over the cohort's test rows of (y - linear)² - (y - network)², over the target's
variance: with chances for classes (a difference of Brier scores), with numbers for a quantity (a
difference of R²). Weighted by the cohorts' shares the gains add up to that of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gatewise.auditing.bootstrap import Draws, Interval, resampled, together
from gatewise.auditing.measures import squared
from gatewise.auditing.rows import Part
from gatewise.explain.cohorts.cohorts import Cohorts
from gatewise.given.labels import winners

Floats = NDArray[np.float64]
Answer = Literal["better", "worse", "undecided", "too few rows"]
FEWEST = 20  # test rows of a cohort that anything is said of


@dataclass(frozen=True)
class Gain:
    """One cohort: its condition, test rows, their share of all, and the gain with its interval.

    network, linear: accuracy on these rows, or root mean squared error of a quantity.
    """

    cohort: int
    condition: str
    rows: int
    share: float
    network: float
    linear: float
    gain: Interval
    answer: Answer


def gains(test: Part, linear: Floats, found: Cohorts, how: Draws) -> tuple[Gain, ...]:
    """Every cohort that holds a test row; intervals hold for all of them at once."""
    ids = found.assign(test.x)
    saved = (squared(test.truth, linear) - squared(test.truth, test.scores)) / test.truth.spread
    sizes = np.bincount(ids, minlength=len(found))
    large = np.flatnonzero(sizes >= FEWEST)
    member = (ids[:, None] == large).astype(np.float64)

    def means(weights: Floats) -> dict[str, Floats]:
        with np.errstate(divide="ignore", invalid="ignore"):
            each = (weights @ (saved[:, None] * member)) / (weights @ member)
        return {str(k): each[:, i] for i, k in enumerate(large)}

    intervals: dict[int, Interval] = {}
    if len(large):
        value = means(np.ones((1, len(test))))
        drawn = resampled(len(test), how, means)
        columns = [str(k) for k in large]
        at_once = together(
            np.concatenate([value[c] for c in columns]),
            np.column_stack([drawn[c] for c in columns]),
            how.level,
        )
        intervals = {int(k): i for k, i in zip(large, at_once, strict=True)}
    return tuple(
        _gain(test, linear, found, k, ids == k, saved, intervals.get(k))
        for k in np.flatnonzero(sizes).tolist()
    )


def _gain(
    test: Part,
    linear: Floats,
    found: Cohorts,
    k: int,
    rows: NDArray[np.bool_],
    saved: Floats,
    known: Interval | None,
) -> Gain:
    mine = test.take(rows)
    value = float(saved[rows].mean())
    count = int(rows.sum())
    nan = float("nan")
    return Gain(
        k,
        found.condition(k),
        count,
        count / len(test),
        quality(mine, mine.scores),
        quality(mine, linear[rows]),
        known or Interval(value, nan, nan),
        _answer(known),
    )


def _answer(known: Interval | None) -> Answer:
    if known is None:
        return "too few rows"
    return "undecided" if not known.settled else "better" if known.settled > 0 else "worse"


def quality(part: Part, scores: Floats) -> float:
    """Accuracy, or the root mean squared error of a quantity."""
    if part.truth.classes:
        return float((winners(scores) == part.truth.values).mean())
    return float(np.sqrt(squared(part.truth, scores).mean()))
