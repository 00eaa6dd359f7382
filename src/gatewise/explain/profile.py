"""Exact profiles: how the network answers to one feature, all others held, with its true knots.

Along one feature a network of gates is piecewise linear. A row's curve (ICE, Goldstein et al.
2015) is held at the places where it bends; the mean curve over the rows (partial dependence,
Friedman 2001) bends where any of them does, and is computed there, not on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.explain.groups import groups_of
from gatewise.explain.integrated import asked
from gatewise.explain.names import feature_names
from gatewise.ir.network import Network
from gatewise.regions.lines import Trace, trace
from gatewise.tables import counted, listed

Floats = NDArray[np.float64]
CHECKS = 32  # knots at which the mean curve is compared with the mean of the curves


@dataclass(frozen=True, eq=False)
class Profile:
    """The curves of some rows along one feature, low <= t <= high in the feature's own unit.

    trace: the curves, t the feature's value (`curve(i)` gives one with the knots where it bends);
    t (knots,), mean (knots, outputs): the mean curve, affine between its knots; dropped: how far
    it goes from the chords between them (0 unless `max_knots` left knots out); at (rows,): the
    value each row has. error: the largest measured gap, of a curve to the network and of the mean
    curve to the mean of the curves.
    """

    feature: int
    name: str
    output_names: tuple[str, ...]
    trace: Trace
    at: Floats
    t: Floats
    mean: Floats
    dropped: float
    error: float

    def __len__(self) -> int:
        return len(self.trace)

    @property
    def low(self) -> float:
        """Where the curves begin."""
        return float(self.t[0])

    @property
    def high(self) -> float:
        """Where they end."""
        return float(self.t[-1])

    def curve(self, row: int) -> tuple[Floats, Floats]:
        """One row's curve: its knots (K,) and values (K, outputs); ends and true bends only."""
        row = range(len(self))[row]
        part = slice(*self.trace.ptr[row : row + 2].tolist())
        kept = self.trace.bends[part].clone()
        kept[0] = kept[-1] = True
        return self.trace.t[part][kept].numpy(), self.trace.values[part][kept].numpy()

    @property
    def bends(self) -> NDArray[np.int64]:
        """(rows,) how often each row's curve changes its slope between low and high."""
        count = torch.zeros(len(self), dtype=torch.long)
        return np.asarray(count.index_add_(0, self.trace.row, self.trace.bends.long()).numpy())

    def __repr__(self) -> str:
        spread = self.mean.max(0) - self.mean.min(0)
        part = f" ({self.dropped:.2g} from those left out)" if self.dropped else ""
        return (
            f"Profile of {self.name} from {self.low:.6g} to {self.high:.6g}: "
            f"{counted(len(self), 'row')}, {np.median(self.bends):.3g} bends in the median row\n"
            f"  mean curve of {counted(len(self.t), 'knot')}{part}, largest rise and fall "
            f"{float(spread.max()):.6g}; largest error {self.error:.2g}"
        )


def profile(
    source: Explanation | Network,
    X: Any = None,
    feature: int | str = 0,
    low: float | None = None,
    high: float | None = None,
    *,
    output: int | str | None = None,
    max_knots: int | None = None,
) -> Profile:
    """The Profile of one feature (index or name) over the rows of X, between low and high.

    source: an Explanation (X may be None: its own rows, its own outputs) or a Network; X: a table
    as the model takes it, or numbers (rows, inputs) as the network does; low and
    high: the smallest and largest value in X by default; output: one of the outputs, else all;
    max_knots: of the mean curve, the rest is left out and `dropped` says what that costs.
    """
    network, matrix, chosen, names = asked(source, X, output)
    columns = feature_names(network, matrix)
    _require_no_group(source, feature, columns)
    j = _feature(feature, columns)
    x = torch.from_numpy(matrix.values)
    a, b = _range(matrix.values[:, j], low, high, columns[j])
    home, way = x.clone(), torch.zeros(1, x.shape[1], dtype=x.dtype)
    home[:, j], way[0, j] = 0, 1
    found = trace(network, home, way, a, b, chosen)
    t, mean, error = _mean(found)
    t, mean, dropped = _thinned(t, mean, max_knots)
    worst = max(error, float(found.error.max()))
    return Profile(j, columns[j], names, found, matrix.values[:, j], t, mean, dropped, worst)


def _mean(curves: Trace) -> tuple[Floats, Floats, float]:
    """Knots and values of the mean curve, and how far it is from the mean of the curves.

    Its slope changes at each curve's knots by that curve's change over the number of curves, so
    one sort and two running sums give it everywhere. Summed in the longest float there is.
    """
    slope, first, rows = curves.slopes.numpy(), curves.ptr[:-1].numpy(), len(curves)
    last = curves.ptr[1:].numpy() - 1
    inner = np.ones(len(slope), bool)
    inner[first] = inner[last] = False
    place = np.flatnonzero(inner)
    change = (slope[place] - slope[place - 1]).astype(np.longdouble) / rows
    t, group = np.unique(curves.t.numpy()[place], return_inverse=True)
    bends = np.zeros((len(t), slope.shape[1]), np.longdouble)
    np.add.at(bends, group, change)
    ends = curves.t.numpy()[[first[0], last[0]]]
    knots = np.concatenate([ends[:1], t, ends[1:]])
    steep = slope[first].mean(0, dtype=np.longdouble) + np.cumsum(
        np.concatenate([0 * bends[:1] if len(t) else np.zeros((1, slope.shape[1])), bends]), 0
    )
    steep = np.nan_to_num(steep)  # low = high: a curve of one point has no slope
    rise = np.cumsum(steep * np.diff(knots)[:, None], 0)
    start = curves.values.numpy()[first].mean(0, dtype=np.longdouble)
    mean = np.concatenate([start[None], start + rise]).astype(np.float64)
    some = np.unique(np.linspace(0, len(knots) - 1, CHECKS).astype(int))
    truth = np.stack([curves.at(float(knots[k])).numpy().mean(0) for k in some])
    return knots, mean, float(np.abs(truth - mean[some]).max())


def _thinned(t: Floats, mean: Floats, most: int | None) -> tuple[Floats, Floats, float]:
    """At most so many knots, ends included, evenly among the knots; and what the rest is worth."""
    if most is None or len(t) <= most:
        return t, mean, 0.0
    if most < 2:
        raise DataError(f"max_knots must be at least 2, for the two ends, got {most}")
    kept = np.unique(np.linspace(0, len(t) - 1, most).astype(int))
    chords = np.stack([np.interp(t, t[kept], column[kept]) for column in mean.T], 1)
    return t[kept], mean[kept], float(np.abs(chords - mean).max())


def _feature(asked: int | str, names: tuple[str, ...]) -> int:
    if isinstance(asked, str) and asked in names:
        return names.index(asked)
    if isinstance(asked, int | np.integer) and -len(names) <= asked < len(names):
        return int(asked) % len(names)
    raise DataError(
        f"no feature {asked!r}: the network has {len(names)} ({listed(names)}), and one is picked "
        f"by its name or its position, counted from 0"
    )


def _require_no_group(source: Explanation | Network, asked: Any, names: tuple[str, ...]) -> None:
    """A group has no one number to move: say which inputs do."""
    own = groups_of(source, names) if isinstance(source, Network) else source.groups
    group = next((g for g in own if g.name == asked and asked not in names), None)
    if group is not None:
        raise DataError(
            f"{asked!r} is a group of {counted(len(group.members), 'input')} and has no one number "
            f"to move: profile one of {listed([names[j] for j in group.members])}, or compare "
            "levels by explaining rows that differ in it"
        )


def _range(values: Floats, low: float | None, high: float | None, name: str) -> tuple[float, float]:
    a = float(values.min()) if low is None else float(low)
    b = float(values.max()) if high is None else float(high)
    if not (np.isfinite(a) and np.isfinite(b) and a < b):
        raise DataError(
            f"the profile of {name} runs from {a:g} to {b:g}: give low= and high=, two finite "
            "numbers, the first the smaller"
        )
    return a, b
