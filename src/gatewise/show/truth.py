"""How well the network's outputs fit a target, where the two can be compared at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.explain.explanation import Explanation

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Target:
    """A target with one value a row: measured (numbers, NaN unknown) or labels (code, -1 unknown).

    As labels, 1, 1.0 and True are one: "1".
    """

    measured: bool
    values: Floats
    names: tuple[str, ...]
    codes: Ids

    @property
    def known(self) -> NDArray[np.bool_]:
        """(rows,) which rows have a value."""
        return np.isfinite(self.values) if self.measured else self.codes >= 0

    def summary(self, rows: Ids) -> tuple[str, float] | None:
        """('', mean) if measured, else (the commonest label, its share); None if none is known."""
        rows = rows[self.known[rows]]
        if not len(rows):
            return None
        if self.measured:
            return "", float(self.values[rows].mean())
        counts = np.bincount(self.codes[rows])
        return self.names[int(counts.argmax())], float(counts.max() / len(rows))


@dataclass(frozen=True)
class Fit:
    """A metric, its value, how the outputs were read to get it, and rows without a target."""

    name: str
    value: float
    how: str
    unknown: int = 0


def target(e: Explanation) -> Target | None:
    """The explanation's target, if it has one value a row."""
    if e.target is None or e.target.size != len(e):
        return None
    given = np.asarray(e.target).reshape(len(e))
    if _is_measured(e, given):
        return Target(True, given.astype(np.float64), (), np.empty(0, np.int64))
    return Target(False, np.empty(0), *_labels(given))


def _is_measured(e: Explanation, given: NDArray[Any]) -> bool:
    """A quantity, not a class: more than two numbers, for one output that is no logit."""
    if given.dtype.kind not in "iuf" or e.network.outputs > 1 or e.network.head:
        return False
    return len(np.unique(given[np.isfinite(given.astype(np.float64))])) > 2


def _labels(given: NDArray[Any]) -> tuple[tuple[str, ...], Ids]:
    texts = [_text(value) for value in given.tolist()]
    names = sorted({text for text in texts if text is not None})
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    return tuple(names), np.array([place.get(text, -1) for text in texts], np.int64)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool | int | float) and float(value).is_integer():
        return str(int(value))
    return str(value)


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


def _accuracy(e: Explanation, y: Floats, t: Target) -> Fit | None:
    read = _two_classes(e, t) if y.shape[1] == 1 else _many_classes(e, t)
    if read is None:
        return None
    classes, how = read
    answer = (y[:, 0] > 0).astype(np.int64) if y.shape[1] == 1 else y.argmax(1)
    right = classes[answer[t.known]] == t.codes[t.known]
    return Fit("Accuracy", float(right.mean()), how, _unknown(t))


def _two_classes(e: Explanation, t: Target) -> tuple[Ids, str] | None:
    """One output is a logit: above 0 it says the label it is named after, or else the second."""
    if len(t.names) != 2:
        return None
    named = str(e.network.output_names[0]) if e.network.output_names else ""
    positive = t.names.index(named) if named in t.names else 1
    how = f"an output above 0 is read as “{t.names[positive]}”"
    return np.array([1 - positive, positive]), how


def _many_classes(e: Explanation, t: Target) -> tuple[Ids, str] | None:
    """The largest of several outputs says the label of its name, or else of its index."""
    called = [str(name) for name in e.network.output_names]
    indices = [str(i) for i in range(e.network.outputs)]
    for answers, what in ((called, "name"), (indices, "index")):
        if set(t.names) <= set(answers) and len(set(answers)) == e.network.outputs:
            place = {name: i for i, name in enumerate(t.names)}
            classes = np.array([place.get(a, -2) for a in answers])
            return classes, f"the largest output, matched to the target by {what}"
    return None


def _unknown(t: Target) -> int:
    return int((~t.known).sum())
