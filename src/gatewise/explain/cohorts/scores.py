"""How true rules are to a network, and both to a target, on rows that no rule was fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.cohorts.sample import Floats, Ids
from gatewise.explain.truth import decides, read_target
from gatewise.explain.truth import target as target_of
from gatewise.ir.network import Network

NAN = float("nan")


@dataclass(frozen=True)
class Fidelity:
    """|rule - network| over some held-out rows: mean, 99th percentile, largest; the share of rows
    with the decision the network takes (nan where there is none to take).

    accuracy, network_accuracy: of the rule and of the network against the target: the share that is
    right, or for a quantity the mean |rule - target|; nan without a target. All nan for no row.
    """

    rows: int
    mean: float = NAN
    p99: float = NAN
    largest: float = NAN
    decisions: float = NAN
    accuracy: float = NAN
    network_accuracy: float = NAN

    def error(self, measure: str) -> float:
        """The number that `max_error` bounds: "decisions" counts those that differ."""
        if measure == "decisions":
            return 1 - self.decisions
        return float({"mean": self.mean, "p99": self.p99, "max": self.largest}[measure])


@dataclass(frozen=True, eq=False)
class Truth:
    """What rules are held against, row by row.

    output (rows,): the network's; level (rows,): a decision is output > level (the largest other
    output; 0 for one alone), None where the output is a quantity; target (rows,): numbers for a
    quantity, else 1.0 where the decision should be yes, NaN where nothing is known; None where it
    does not fit the output.
    """

    output: Floats
    level: Floats | None
    target: Floats | None

    def score(self, rule: Floats, rows: NDArray[Any]) -> Fidelity:
        """The Fidelity of what a rule says at some rows; rule is (rows,) of those only."""
        if not len(rule):
            return Fidelity(0)
        f = self.output[rows]
        gap = np.abs(rule - f)
        tail = float(np.quantile(gap, 0.99))
        numbers = (float(gap.mean()), tail, float(gap.max()))
        if self.level is None:
            mine, theirs = (self._missed(y, rows) for y in (rule, f))
            return Fidelity(len(rule), *numbers, NAN, mine, theirs)
        yes, ours = f > self.level[rows], rule > self.level[rows]
        same = float((yes == ours).mean())
        return Fidelity(len(rule), *numbers, same, self._right(ours, rows), self._right(yes, rows))

    def _missed(self, y: Floats, rows: NDArray[Any]) -> float:
        return self._mean(rows, lambda wanted, known: np.abs(y[known] - wanted))

    def _right(self, yes: NDArray[np.bool_], rows: NDArray[Any]) -> float:
        return self._mean(rows, lambda wanted, known: yes[known] == (wanted > 0.5))

    def _mean(self, rows: NDArray[Any], score: Callable[[Floats, Any], NDArray[Any]]) -> float:
        """The mean score over the rows whose target is known."""
        if self.target is None:
            return NAN
        known = np.isfinite(self.target[rows])
        return float(score(self.target[rows][known], known).mean()) if known.any() else NAN


def truth(network: Network, outputs: Floats, index: int, target: NDArray[Any] | None) -> Truth:
    """The Truth of one of a network's outputs (rows, outputs), a target read as `reading` says.

    Without a sigmoid or softmax set aside and without a target of classes, an output is a quantity.
    Raises DataError where the target's labels are not the model's classes.
    """
    f = outputs[:, index]
    t = target_of(network, target, len(f))
    read = None if t is None else read_target(network, t)
    if not decides(network, read):
        return Truth(f, None, t.values if t is not None and t.measured else None)
    one = outputs.shape[1] == 1
    level = np.zeros(len(f)) if one else np.delete(outputs, index, axis=1).max(1)
    if t is None or read is None:
        return Truth(f, level, None)
    yes = t.codes == read.codes[1 if one else index]
    return Truth(f, level, np.where(t.known, yes, np.nan))


@dataclass(frozen=True, eq=False)
class LocalMaps:
    """The exact map of each row: x (rows, features), its slopes w (rows, features), its value."""

    x: Floats
    w: Floats
    value: Floats

    def followed(self, slopes: Floats, intercepts: Floats) -> Ids:
        """(rows,) the rule nearest each row's own map, as functions of the inputs around it:

        the mean square of rule - map over points with the data's covariance S around the row is
            (rule(x) - f(x))² + (v - w)ᵀ S (v - w),   v the rule's slopes.
        """
        centred = self.x - self.x.mean(0)
        root = np.asarray(np.linalg.qr(centred / np.sqrt(len(centred)), mode="r")).T
        best, ids = np.full(len(self.x), np.inf), np.zeros(len(self.x), np.int64)
        for k, (v, start) in enumerate(zip(slopes, intercepts, strict=True)):
            away = (start + self.x @ v - self.value) ** 2 + (((v - self.w) @ root) ** 2).sum(1)
            closer = away < best
            best, ids = np.where(closer, away, best), np.where(closer, k, ids)
        return ids
