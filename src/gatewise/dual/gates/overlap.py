"""How alike the gates of two rows are, layer by layer, within and between classes.

With c_a[u] the number of rows of class a at which unit u is on, the mean over all pairs of rows of
classes a and b is exact without looking at a pair:
    on in both  =  sum_u c_a[u] c_b[u] / (n_a n_b w)
    equal       =  sum_u (c_a[u] c_b[u] + (n_a - c_a[u]) (n_b - c_b[u])) / (n_a n_b w)
for a layer of w units; within a class a row is not compared with itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.dual.gating import Gated, gated, mask_of, pattern_of
from gatewise.errors import DataError, NotGated
from gatewise.given.labels import Floats, classes_of
from gatewise.given.rows import rows_of
from gatewise.ir.network import Network
from gatewise.numeric import whole_number

BATCH = 2048  # rows at once
ALL = "all gates"


@dataclass(frozen=True, eq=False)
class Overlap:
    """Mean shares over pairs of rows, one entry a layer, the last one for all gates together.

    equal, shared (layers, classes, classes2): the share of a layer's units that are on or off
    alike, and that are on at both; NaN where a class has no two rows. active (layers, classes):
    the share that is on; active2: of the second set. same_rows: True where there is one set, so
    that its diagonal is "within". pairs: (rows, rows2) counts of gates on at both, where asked.
    """

    layers: tuple[str, ...]
    units: tuple[int, ...]
    classes: tuple[Any, ...]
    classes2: tuple[Any, ...]
    rows: NDArray[np.int64]
    rows2: NDArray[np.int64]
    equal: Floats
    shared: Floats
    active: Floats
    active2: Floats
    same_rows: bool
    pairs: tuple[NDArray[np.float32], ...] = ()

    def within(self, shares: Floats | None = None) -> Floats:
        """Mean over pairs of rows of one class, (layers,); of `equal` unless given."""
        return self._mean(shares, self._alike())

    def between(self, shares: Floats | None = None) -> Floats:
        """Mean over pairs of rows of two classes, (layers,); NaN where there is one class."""
        return self._mean(shares, ~self._alike())

    def _alike(self) -> NDArray[np.bool_]:
        """Which classes of the two sets have one name (text and numbers never have)."""
        return np.array([[a == b for b in self.classes2] for a in self.classes])

    def _mean(self, shares: Floats | None, where: NDArray[np.bool_]) -> Floats:
        """Over the classes where `where`, each weighed by its number of pairs."""
        table = self.equal if shares is None else shares
        pairs = _pairs(self.rows, self.rows2, self.same_rows) * np.asarray(where, bool)
        total = np.where(pairs > 0, table, 0) * pairs
        with np.errstate(invalid="ignore"):
            return np.asarray(total.sum((1, 2)) / pairs.sum())

    def __str__(self) -> str:
        sets = f"{self.rows.sum()} rows" + (
            "" if self.same_rows else f" against {self.rows2.sum()}"
        )
        head = [f"Gate overlap of {sets}, mean over pairs", f"{'':24}equal gates       on at both"]
        columns = [
            f"{'layer':16}{'units':>6}  {'within':>8}{'between':>9}  {'within':>8}{'between':>9}"
        ]
        each = (
            self.within(),
            self.between(),
            self.within(self.shared),
            self.between(self.shared),
        )
        rows = [
            f"{name[:16]:16}{units:6d}  {a:8.4f}{b:9.4f}  {c:8.4f}{d:9.4f}"
            for name, units, a, b, c, d in zip(self.layers, self.units, *each, strict=True)
        ]
        return "\n".join(head + columns + rows).replace("nan", "  -")


def overlap(
    net: Network | Gated,
    X: Any,
    X2: Any = None,
    *,
    y: Any = None,
    y2: Any = None,
    pairs: bool = False,
    batch: int = BATCH,
) -> Overlap:
    """How alike the gates of rows are, a layer at a time, within and between the classes in y.

    X2 (and y2): a second set, each of whose rows is compared with each of X. pairs: also the
    (rows, rows2) counts of gates on at both, a layer each. Without `pairs` memory is a batch of
    rows and two counters a unit, whatever the number of rows. Where X2 is given, y and y2 go
    together: both sets have labels, or neither.
    """
    whole = gated(net)
    if not whole.sites:
        raise NotGated("the network has no gates, so there is no overlap of gates to measure")
    same = X2 is None
    _require(batch, same, y, y2)
    x = rows_of(whole.network, X)
    x2 = None if same else rows_of(whole.network, X2, "X2")
    mine = _counted(whole, x, y, batch, "y")
    theirs = mine if x2 is None else _counted(whole, x2, y2, batch, "y2")
    units = tuple(s.units for s in whole.sites)
    equal, shared = zip(*_tables(mine, theirs, same), strict=True)
    return Overlap(
        (*(s.at for s in whole.sites), ALL),
        (*units, sum(units)),
        *(mine.classes, theirs.classes),
        *(mine.rows, theirs.rows),
        _with_all(equal, units),
        _with_all(shared, units),
        _with_all([a.mean(1) / np.maximum(mine.rows, 1) for a in mine.on], units),
        _with_all([b.mean(1) / np.maximum(theirs.rows, 1) for b in theirs.on], units),
        same,
        _all_pairs(whole, x, x2, batch) if pairs else (),
    )


def _require(batch: int, same: bool, y: Any, y2: Any) -> None:
    """A batch has rows; two sets are both labelled or neither."""
    whole_number(batch, "batch")
    if same and y2 is not None:
        raise DataError("y2 was given without its rows: give X2 too")
    if not same and (y is None) != (y2 is None):
        raise DataError("y and y2 go together: give the labels of both sets of rows, or of neither")


@dataclass(frozen=True, eq=False)
class _Counts:
    """rows (classes,); on: for each site (classes, units), at how many rows each unit is on."""

    classes: tuple[Any, ...]
    rows: NDArray[np.int64]
    on: list[NDArray[np.float64]]


def _counted(whole: Gated, x: Tensor, y: Any, batch: int, name: str) -> _Counts:
    """One pass over the rows; one class where there are no labels."""
    classes: tuple[Any, ...] = ("all",)
    codes = np.zeros(len(x), np.int64)
    if y is not None:
        named, codes = classes_of(y, len(x), name)
        classes = tuple(named.tolist())
    on = [np.zeros((len(classes), s.units)) for s in whole.sites]
    for part, found in _masks(whole, x, batch):
        which = codes[part, None] == np.arange(len(classes))
        for total, mask in zip(on, found, strict=True):
            total += which.T.astype(np.float32) @ mask.numpy()  # whole numbers below 2^24: exact
    return _Counts(classes, np.bincount(codes, minlength=len(classes)), on)


def _masks(whole: Gated, x: Tensor, batch: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """The masks (rows, units) of each site, float32, a batch of rows at a time."""
    for start in range(0, len(x), batch):
        part = slice(start, min(start + batch, len(x)))
        seen = pattern_of(whole, x[part])
        yield part, [mask_of(s, seen).flatten(1).to(torch.float32) for s in whole.sites]


def _pairs(rows: NDArray[np.int64], rows2: NDArray[np.int64], same: bool) -> Floats:
    """How many pairs of rows there are of each two classes."""
    pairs = np.multiply.outer(rows, rows2).astype(float)
    return pairs - np.diag(rows).astype(float) if same else pairs


def _tables(mine: _Counts, theirs: _Counts, same: bool) -> Iterator[tuple[Floats, Floats]]:
    """(equal, shared) of each layer."""
    for a, b in zip(mine.on, theirs.on, strict=True):
        yield _shares(a, b, mine, theirs, same)


def _shares(
    a: NDArray[np.float64], b: NDArray[np.float64], mine: _Counts, theirs: _Counts, same: bool
) -> tuple[Floats, Floats]:
    """(equal, shared) of one layer, (classes, classes2)."""
    both = a @ b.T
    neither = (mine.rows[:, None] - a) @ (theirs.rows[:, None] - b).T
    if same:  # a row with itself: as many as it has units on, and off
        both -= np.diag(a.sum(1))
        neither -= np.diag((mine.rows[:, None] - a).sum(1))
    pairs = _pairs(mine.rows, theirs.rows, same)
    with np.errstate(invalid="ignore", divide="ignore"):
        per = np.where(pairs > 0, 1 / pairs, np.nan) / a.shape[1]
    return (both + neither) * per, both * per


def _with_all(shares: Sequence[Floats], units: tuple[int, ...]) -> Floats:
    """The layers' shares, and last their mean over all units."""
    table = np.stack(shares)
    return np.concatenate([table, np.average(table, 0, units)[None]])


def _all_pairs(
    whole: Gated, x: Tensor, x2: Tensor | None, batch: int
) -> tuple[NDArray[np.float32], ...]:
    """(rows, rows2) a layer: how many gates are on at both rows."""
    mine = _packed(whole, x, batch)
    theirs = mine if x2 is None else _packed(whole, x2, batch)
    return tuple((a.float() @ b.float().T).numpy() for a, b in zip(mine, theirs, strict=True))


def _packed(whole: Gated, x: Tensor, batch: int) -> list[Tensor]:
    parts = [[m.bool() for m in found] for _, found in _masks(whole, x, batch)]
    return [torch.cat(same) for same in zip(*parts, strict=True)]
