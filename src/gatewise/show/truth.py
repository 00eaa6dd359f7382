"""How well the network's outputs fit a target, where the two can be compared at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain import truth
from gatewise.explain.explanation import Explanation
from gatewise.explain.truth import Target

__all__ = ["Fit", "Target", "decides", "fit", "target"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A metric, its value, how the outputs were read to get it, and rows without a target."""

    name: str
    value: float
    how: str
    unknown: int = 0


def target(e: Explanation) -> Target | None:
    """The explanation's target, if it has one value a row."""
    return truth.target(e.network, e.target, len(e))


def fit(e: Explanation, t: Target | None) -> Fit | None:
    """Accuracy or R² of the network on the target; None where they do not fit together."""
    if t is None or not t.known.any():
        return None
    y: Floats = e.census.output.double().cpu().numpy()
    return _r_squared(y, t) if t.measured else _accuracy(e, y, t)


def _r_squared(y: Floats, t: Target) -> Fit | None:
    got, wanted = y[t.known, 0], t.values[t.known]
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    if not spread > 0:
        return None
    value = 1 - float(((wanted - got) ** 2).sum()) / spread
    return Fit("R²", value, "share of the target's variance explained", _unknown(t))


def decides(e: Explanation, t: Target | None) -> bool:
    """Do the outputs decide, or are they quantities?"""
    return truth.decides(e.network, None if t is None else _read(e, t))


def _read(e: Explanation, t: Target) -> truth.Reading | None:
    """What the outputs say of the labels; nothing of labels that are not the model's classes."""
    try:
        return truth.read_target(e.network, t)
    except DataError:
        return None


def _accuracy(e: Explanation, y: Floats, t: Target) -> Fit | None:
    read = _read(e, t)
    if read is None:
        return None
    answer = (y[:, 0] > 0).astype(np.int64) if y.shape[1] == 1 else y.argmax(1)
    right = read.codes[answer[t.known]] == t.codes[t.known]
    return Fit("Accuracy", float(right.mean()), read.how, _unknown(t))


def _unknown(t: Target) -> int:
    return int((~t.known).sum())
