"""Where each row's rule stops: its nearest facet, the rule across it, and how different that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.errors import DataError
from gatewise.explain.explanation import Explanation
from gatewise.explain.names import output_index
from gatewise.ir.network import Network
from gatewise.ir.pattern import Pattern
from gatewise.linear.affine_map import AffineMap
from gatewise.patterns.hashing import group
from gatewise.patterns.observe import pattern as pattern_of
from gatewise.regions.nearest import Nearest, nearest_facets
from gatewise.tables import counted

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
FIRST, TRIES = 1e-9, 7  # the first step beyond a facet, in standard deviations; then ten times more


@dataclass(frozen=True, eq=False)
class Stops:
    """For R rows of an Explanation, one output: the nearest facet and the rule across it.

    rows (R,) positions in the data; distance (R,) to the nearest facet in standard deviations (in
    input units where all are 0), inf where nothing stops the rule. gate, unit: whose facet it is
    ("" and -1 where none). step (R, features): from the row to the facet, in input units;
    part (R, features): the share of each feature in its squared length, summing to 1.
    flips (R,): units that change there, 0 where no neighbour was found: one facet may be several
    units' at once, and the pattern is then read a small step beyond it, decided exactly.
    slope, across (R, features): the row's rule and its neighbour's; change (R,):
    |(across - slope) s| / |slope s| with s the deviations; cosine (R,) between the two; same_top
    (R,): do the k features of largest |slope s| stay the same; in_region, in_neighbour (R,): rows
    of the data with either pattern; few: fewer than this many cannot support a rule of their own.
    """

    explanation: Explanation
    output: int
    rows: Ids
    distance: Floats
    gate: tuple[str, ...]
    unit: Ids
    step: Floats
    part: Floats
    flips: Ids
    slope: Floats
    across: Floats
    change: Floats
    cosine: Floats
    same_top: NDArray[np.bool_]
    in_region: Ids
    in_neighbour: Ids
    top: int
    few: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def point(self) -> Floats:
        """(R, features) the nearest point of the facet."""
        return np.asarray(self.explanation.data[self.rows] + self.step)

    @property
    def too_few(self) -> NDArray[np.bool_]:
        """(R,) rows whose region holds fewer rows than a rule of its own would need."""
        return self.in_region < self.few

    def top_features(self, i: int, k: int = 3) -> list[tuple[str, float]]:
        """The features in which the facet is nearest: name and step in input units."""
        order = np.argsort(-self.part[i], kind="stable")[:k]
        names = self.explanation.feature_names
        return [(names[j], float(self.step[i, j])) for j in order if self.part[i, j] > 0]

    def say(self, i: int) -> str:
        """One row in words."""
        if not self.gate[i]:
            return f"Row {self.rows[i]}: nothing stops its rule."
        moves = ", ".join(f"{name} {by:+.3g}" for name, by in self.top_features(i))
        says = (
            f"Row {self.rows[i]}: unit {self.unit[i]} of gate '{self.gate[i]}' changes "
            f"{self.distance[i]:.3g} {self.measure} away ({moves})"
        )
        if not self.flips[i]:
            return f"{says}; no rule was found across it."
        stay = "stay" if self.same_top[i] else "do not stay"
        return (
            f"{says}; across it the slope differs by {self.change[i]:.1%} (cosine "
            f"{self.cosine[i]:.3f}) and the {self.top} largest effects {stay}. "
            f"{counted(int(self.in_region[i]), 'row')} here, {self.in_neighbour[i]} there."
        )

    @property
    def measure(self) -> str:
        """What distances are counted in."""
        return self.explanation.margin_unit

    def __repr__(self) -> str:
        there = self.flips > 0
        change = float(np.median(self.change[there])) if there.any() else np.nan
        stay = float(self.same_top[there].mean()) if there.any() else np.nan
        return (
            f"Stops: {counted(len(self), 'row')}, median distance to the nearest facet "
            f"{float(np.median(self.distance)):.3g} {self.measure}\n"
            f"  across it the slope differs by {change:.1%} (median) and the {self.top} largest "
            f"effects stay for {stay:.1%} of the rows\n"
            f"  {self.too_few.mean():.1%} of the rows are in a region of fewer than {self.few} rows"
        )


def stops(
    exp: Explanation,
    rows: Sequence[int] | slice | NDArray[Any] | None = None,
    *,
    output: int | str = 0,
    top: int = 3,
    few: int | None = None,
) -> Stops:
    """Where the rules of some rows stop (all by default), for one of the explained outputs.

    top: how many largest effects are asked to stay; few: the number of rows below which a region
    is too thin to trust, by default one more than there are features (what a fit of it needs).
    """
    picked = _rows(exp, rows)
    o = output_index(output, exp.output_names)
    network = exp.network.to(torch.float64, "cpu")
    x, ids = torch.from_numpy(exp.data[picked]), exp.ids[picked]
    scale = torch.from_numpy(exp.scale if exp.scale.any() else np.ones_like(exp.scale))
    home = exp.census.pattern[ids]
    found = nearest_facets(network, network.rows(x), home, scale)
    beyond, flips = _across(network, x, home, found, scale)
    slope, s = exp.coefficients[ids, o], scale.numpy()
    across = AffineMap(network, beyond).rows([exp.outputs[o]])[0][:, 0].cpu().numpy()
    across[flips == 0] = np.nan
    step = found.foot.cpu().numpy()
    squares = np.divide(step, s, out=np.zeros_like(step), where=s > 0) ** 2
    total = squares.sum(1, keepdims=True)
    gates, gate = network.gates, found.gate.tolist()
    return Stops(
        exp,
        o,
        picked,
        found.distance.cpu().numpy(),
        tuple(gates[g].name if g >= 0 else "" for g in gate),
        found.unit.cpu().numpy(),
        step,
        np.divide(squares, total, out=np.zeros_like(squares), where=total > 0),
        flips,
        slope,
        across,
        *_compared(slope * s, across * s, flips > 0, top),
        exp.census.counts[ids],
        np.where(flips > 0, _held(exp, beyond), 0),
        top,
        len(exp.feature_names) + 1 if few is None else few,
    )


def _across(
    network: Network, x: torch.Tensor, home: Pattern, found: Nearest, scale: torch.Tensor
) -> tuple[Pattern, Ids]:
    """The first pattern met beyond each facet, and how many units it changes; 0 where none was."""
    bits, flips = home.bits.copy(), np.zeros(len(x), np.int64)
    away = torch.where(found.gate[:, None] >= 0, -found.normal * scale.square(), 0.0)
    length = (found.normal * scale).norm(dim=1, keepdim=True)
    away = torch.where(length > 0, away / length, 0.0)  # one unit of the scaled metric
    open_ = np.flatnonzero((found.gate >= 0).cpu().numpy())
    for attempt in range(TRIES):
        if not len(open_):
            break
        far = FIRST * 10**attempt * (1 + found.distance[open_, None])
        near = pattern_of(network, network.rows((x + found.foot)[open_] + far * away[open_]))
        left = ~near.equal(home[open_])
        now = open_[left]
        bits[now], flips[now] = near.bits[left], _changed(near[np.flatnonzero(left)], home[now])
        open_ = open_[~left]
    return Pattern(bits, home.fields), flips


def _changed(a: Pattern, b: Pattern) -> Ids:
    """(rows,) units in which two patterns differ."""
    each = [(a.codes(n) != b.codes(n)).reshape(len(a), -1).sum(1) for n in a]
    return np.asarray(torch.stack(each).sum(0).numpy())


def _compared(
    a: Floats, b: Floats, there: NDArray[np.bool_], top: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Relative change, cosine, and whether the `top` largest entries stay; nan and True if none."""
    change, cosine = np.full(len(a), np.nan), np.full(len(a), np.nan)
    one, other = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    gap = np.linalg.norm(b - a, axis=1)
    np.divide(gap, one, out=change, where=there & (one > 0))
    np.divide((a * b).sum(1), one * other, out=cosine, where=there & (one * other > 0))
    first, second = (np.sort(np.argsort(-np.abs(v), 1, kind="stable")[:, :top], 1) for v in (a, b))
    return change, cosine, (first == second).all(1) | ~there


def _held(exp: Explanation, pattern: Pattern) -> Ids:
    """(R,) rows of the data with each pattern."""
    known = exp.census.pattern.bits
    found = group(np.concatenate([known, pattern.bits]))
    size = np.zeros(len(found.first), np.int64)
    size[found.inverse[: len(known)]] = exp.census.counts
    return np.asarray(size[found.inverse[len(known) :]])


def _rows(exp: Explanation, rows: Any) -> Ids:
    """Positions in the data, negative ones counted from the end."""
    every = np.arange(len(exp))
    if rows is None:
        return every
    try:
        return np.asarray(
            np.atleast_1d(every[rows if isinstance(rows, slice) else np.asarray(rows)])
        )
    except IndexError:
        raise DataError(
            f"rows= picks a row that is not there: the data hold {counted(len(exp), 'row')}, "
            "counted from 0"
        ) from None
