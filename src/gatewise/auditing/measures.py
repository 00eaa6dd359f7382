"""How good scores are on some rows, for many weightings of the rows at once.

Scores (rows, outputs): one column of log odds, or one logit a class, or numbers. Weights
(draws, rows) are how often each draw of a bootstrap holds a row; every measure is (draws,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.given.labels import winners
from gatewise.linear.fits.model import probabilities

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """name: as figures name it; high: is more better? margin: what counts as no difference."""

    name: str
    high: bool
    margin: float = 0.01


AUC = Measure("AUC", True)
ACCURACY = Measure("accuracy", True)
LOG_LOSS = Measure("log loss", False)
BRIER = Measure("Brier score", False)
R2 = Measure("R²", True)
RMSE = Measure("RMSE", False)
OF_TWO = (AUC, ACCURACY, LOG_LOSS, BRIER)
OF_MANY = (ACCURACY, AUC, LOG_LOSS, BRIER)
OF_NUMBERS = (R2, RMSE)


@dataclass(frozen=True, eq=False)
class Truth:
    """What some rows should be: values (rows,) numbers, or the places of their classes.

    classes: how many; 0 for a quantity.
    """

    values: NDArray[Any]
    classes: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures there are, the one that verdicts are about first."""
        if not self.classes:
            return OF_NUMBERS
        return OF_TWO if self.classes == 2 else OF_MANY

    @property
    def hot(self) -> Floats:
        """(rows, columns) numbers; 0 or 1 of the second class; or 0 and 1 a class."""
        if not self.classes:
            return np.asarray(self.values, np.float64)[:, None]
        codes = self.values.astype(np.int64)
        hot = (codes[:, None] == np.arange(self.classes)).astype(np.float64)
        return np.asarray(hot[:, 1:] if self.classes == 2 else hot)

    @property
    def spread(self) -> float:
        """The variance of `hot`, all columns together: what errors are a share of."""
        return float(self.hot.var(0).sum())


def figures(truth: Truth, scores: Floats, weights: Floats) -> dict[str, Floats]:
    """Each measure by name, (draws,)."""
    total = weights.sum(1)
    if not truth.classes:
        return _of_numbers(truth, scores, weights, total)
    codes = truth.values.astype(np.int64)
    return {
        "AUC": _auc(codes, truth.classes, scores, weights),
        "accuracy": weights @ (winners(scores) == codes) / total,
        "log loss": weights @ losses(codes, scores) / total,
        "Brier score": weights @ squared(truth, scores) / total,
    }


def losses(codes: NDArray[np.int64], scores: Floats) -> Floats:
    """(rows,) -log of the chance of the true class."""
    if scores.shape[1] == 1:
        return np.logaddexp(0, np.where(codes == 1, -1.0, 1.0) * scores[:, 0])
    whole: Floats = np.logaddexp.reduce(scores, 1)
    return np.asarray(whole - scores[np.arange(len(codes)), codes])


def squared(truth: Truth, scores: Floats) -> Floats:
    """(rows,) squared error: of the numbers; of the chance; summed over more than two classes."""
    if truth.classes:
        chances = probabilities(scores)
        scores = chances[:, 1:] if truth.classes == 2 else chances
    return np.asarray(((truth.hot - scores) ** 2).sum(1))


def _of_numbers(truth: Truth, scores: Floats, weights: Floats, total: Floats) -> dict[str, Floats]:
    y = truth.hot[:, 0]
    centred = y - y.mean()
    off = weights @ squared(truth, scores) / total
    spread = weights @ centred**2 / total - (weights @ centred / total) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"R²": 1 - off / spread, "RMSE": np.sqrt(off)}


def _auc(codes: NDArray[np.int64], classes: int, scores: Floats, weights: Floats) -> Floats:
    """Of two classes; of more, the mean over classes of each against the rest, those present."""
    if classes == 2:
        return one_auc(codes == 1, scores[:, 0], weights)
    chances = probabilities(scores)
    there = [k for k in range(classes) if 0 < (codes == k).sum() < len(codes)]
    each = [one_auc(codes == k, chances[:, k], weights) for k in there]
    return np.mean(each, 0) if each else np.full(len(weights), np.nan)


def one_auc(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> Floats:
    """P(score of a positive > that of a negative) + half of P(equal), (draws,); nan for one class.

    Rows of one score are added up first; then each positive counts the negatives below it.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) != 0)
    if len(starts) == 0 or starts[0] != 0:
        starts = np.concatenate([[0], starts])
    sorted_weights = weights[:, order]
    yes = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
    no = np.add.reduceat(sorted_weights * ~positive[order], starts, axis=1)
    below = np.cumsum(no, 1) - no / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((yes * below).sum(1) / (yes.sum(1) * no.sum(1)))
