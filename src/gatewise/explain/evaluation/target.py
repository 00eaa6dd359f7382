"""Predictive accuracy: the network against its target, beside a linear model that can be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.truth import read_target
from gatewise.explain.truth import target as target_of
from gatewise.ir.network import Network

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
FOLDS = 5
NEWTON_STEPS, SMALLEST_STEP = 50, 1e-9
RIDGE = 1e-3  # on standardised features: separable classes have no finite optimum without it
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Accuracy:
    """One metric of the network and of a linear model, on the same rows."""

    metric: str
    network: float
    linear: float
    rows: int


def accuracies(
    network: Network, outputs: Floats, target: Any, data: Floats, seed: int
) -> list[Accuracy]:
    """R² of a quantity, accuracy (and AUC of two classes) of labels; [] where it does not fit.

    outputs (rows, outputs) of the network. Labels are read as `truth.read_target` says, and it
    raises DataError for others than the model's. The linear model is fitted on four fifths and
    asked about the fifth, in turn.
    """
    t = target_of(network, target, len(data))
    if t is None:
        return []
    rows = np.random.default_rng(seed).permutation(len(data))[:MOST_ROWS]
    known = rows[t.known[rows]]
    if t.measured:
        return _quantity(outputs[known, 0], t.values[known], data[known])
    read = read_target(network, t)
    if read is None or len(known) < 2 * FOLDS:
        return []
    return _classes(outputs[known], t.codes[known], read.codes, len(t.names), data[known])


def _quantity(got: Floats, wanted: Floats, data: Floats) -> list[Accuracy]:
    spread = float(((wanted - wanted.mean()) ** 2).sum()) if len(wanted) else 0.0
    if not spread > 0:
        return []
    linear = _crossed(data, wanted[:, None], _least_squares)[:, 0]
    network = 1 - float(((wanted - got) ** 2).sum()) / spread
    return [Accuracy("R²", network, 1 - float(((wanted - linear) ** 2).sum()) / spread, len(got))]


def _classes(outputs: Floats, codes: Ids, places: Ids, labels: int, data: Floats) -> list[Accuracy]:
    one = outputs.shape[1] == 1
    answer = (outputs[:, 0] > 0).astype(np.int64) if one else outputs.argmax(1)
    linear = _crossed(data, np.eye(labels)[codes], _logistic)
    right = float((places[answer] == codes).mean())
    found = [Accuracy("accuracy", right, float((linear.argmax(1) == codes).mean()), len(codes))]
    if labels == 2 and outputs.shape[1] <= 2 and 0 < codes.sum() < len(codes):
        score = outputs[:, 0] if one else outputs[:, 1] - outputs[:, 0]
        yes = codes == places[1]
        other = linear[:, places[1]] - linear[:, places[0]]
        found.append(Accuracy("AUC", auc(score, yes), auc(other, yes), len(codes)))
    return found


def auc(score: Floats, yes: NDArray[np.bool_]) -> float:
    """P(score of a yes > score of a no) + P(equal) / 2: the area under the ROC curve."""
    up, down = int(yes.sum()), int((~yes).sum())
    return float((ranks(score)[yes].sum() - up * (up + 1) / 2) / (up * down))


def ranks(values: Floats) -> Floats:
    """(n,) ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def _crossed(data: Floats, wanted: Floats, fit: Any) -> Floats:
    """(rows, columns) what a model fitted on the other folds says of each row."""
    fold = np.arange(len(data)) % FOLDS  # the rows are in random order already
    out = np.zeros(wanted.shape)
    for k in range(min(FOLDS, len(data))):
        seen = fold != k
        mean, deviation = data[seen].mean(0), data[seen].std(0)
        z = (data - mean) / np.where(deviation > 0, deviation, 1)
        ones = np.hstack([z, np.ones((len(z), 1))])
        out[~seen] = ones[~seen] @ fit(ones[seen], wanted[seen])
    return out


def _least_squares(z: Floats, wanted: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(z, wanted, rcond=None)[0])


def _logistic(z: Floats, wanted: Floats) -> Floats:
    """(features, classes) of logistic regression, each class against the rest (two: one fit)."""
    if wanted.shape[1] == 2:
        w = _newton(z, wanted[:, 1])
        return np.stack([-w, w], 1) / 2
    return np.stack([_newton(z, column) for column in wanted.T], 1)


def _newton(z: Floats, yes: Floats) -> Floats:
    """(features,) minimum of mean log(1 + exp(-+z.w)) + RIDGE |w|^2 / 2, by damped Newton."""
    sign = 2 * yes - 1

    def loss(w: Floats) -> float:
        return float(np.logaddexp(0, -sign * (z @ w)).mean() + RIDGE / 2 * (w @ w))

    w = np.zeros(z.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -500, 500)))
        gradient = z.T @ (p - yes) / len(z) + RIDGE * w
        hessian = (z * (p * (1 - p))[:, None]).T @ z / len(z) + RIDGE * np.eye(len(w))
        step, here = np.linalg.solve(hessian, gradient), loss(w)
        size = 1.0
        while size > SMALLEST_STEP and loss(w - size * step) > here:
            size /= 2
        w = w - size * step
        if size * float(np.abs(step).max()) < SMALLEST_STEP:
            break
    return w
