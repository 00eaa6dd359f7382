"""Which unit and position an entry of a value belongs to, and what fixed moves do to that.

Paths of two rows are the same path where they run through the same units by the same weights; in
a convolution the positions may differ. So each entry of a value is labelled by its unit and its
place, and reshapes, slices, paddings, sums and pools act on the labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gatewise.errors import NotGated
from gatewise.ir.kinds import Affine, Shape, pull, scale
from gatewise.ir.network import Node

Factor = tuple[str, Tensor]  # the name of a field, and which of its entries sits at (unit, place)
Products = tuple[tuple[Factor, ...], ...]  # a sum of products of fields; ((),) is the constant 1
BARE: Products = ((),)
FIXED = "fixed"  # the field of a factor whose table is the numbers themselves
PROBES = 1 << 24  # numbers held at once while a pool is read off


@dataclass(frozen=True, eq=False)
class Term:
    """Paths of one origin, seen in a value with E entries.

    Entry e is c[u, :] @ pool[r] of unit u = unit[e] and row r = place[e], where the origin has
    `grid` = (units, positions), c is the sum of products of fields (masks) on that grid, and no
    pool is the identity. unit -1: the entry is 0. source: whose kernel of positions it has.
    """

    origin: str
    source: str
    grid: tuple[int, int]
    unit: Tensor
    place: Tensor
    pool: Tensor | None = None
    products: Products = BARE

    @property
    def bare(self) -> bool:
        """No mask yet?"""
        return self.products == BARE

    @property
    def rows(self) -> int:
        """Places it can be at: rows of the pool, or positions."""
        return self.grid[1] if self.pool is None else len(self.pool)


@dataclass(frozen=True, eq=False)
class Labels:
    """Tables that are equal are one object, so that equal masks are found by identity."""

    seen: dict[bytes, Tensor] = field(default_factory=dict)

    def __call__(self, table: Tensor) -> Tensor:
        key = repr((table.shape, table.dtype)).encode() + table.numpy().tobytes()
        return self.seen.setdefault(key, table)


def whole(origin: str, unit: Tensor, place: Tensor, labels: Labels) -> Term:
    """The term of a value that starts paths of its own."""
    grid = (int(unit.max()) + 1, int(place.max()) + 1)
    return Term(origin, origin, grid, labels(unit), labels(place))


def masked(term: Term, at: str, labels: Labels, node: Node) -> Term:
    """The term times a mask: entry e of the field `at` multiplies entry e of the value."""
    if term.pool is not None:
        raise NotGated(
            f"node '{node.name}' ({node.layer}) is a gate on an average of gated values, with no "
            f"weight between them: its path kernel does not factor, and is not computed"
        )
    table = torch.full(term.grid, -1)
    here = (term.unit >= 0).nonzero()[:, 0]
    table[term.unit[here], term.place[here]] = here
    if int((table >= 0).sum()) != len(here):
        raise NotGated(
            f"node '{node.name}' ({node.layer}) is a gate on a value that holds some entries "
            f"twice (a padding that repeats): put the gate before the padding"
        )
    factor = (at, labels(table))
    return replace(term, products=tuple((*product, factor) for product in term.products))


# -- moves --


def diagonal(node: Node) -> bool:
    """Is it a diagonal weight: a factor for each unit? One number for all is a fixed coefficient.

    A norm's scale is a weight for each channel, of one channel too.
    """
    kind = node.kind
    if not isinstance(kind, Affine) or kind.rule is not scale:
        return False
    return kind.weights[0].numel() > 1 or node.layer == "BatchNorm"


@dataclass(frozen=True, eq=False)
class Move:
    """One input of an affine node without a weight matrix, as (rows, entries) -> (rows, out)."""

    node: Node
    kind: Affine
    shapes: tuple[Shape, ...]
    which: int

    def __call__(self, x: Tensor) -> Tensor:
        parts = [
            x.reshape(len(x), *s) if k == self.which else x.new_zeros(len(x), *s)
            for k, s in enumerate(self.shapes)
        ]
        return self.kind.linear(*parts).reshape(len(x), -1)

    def back(self, g: Tensor) -> Tensor:
        """The transpose, (rows, out) -> (rows, entries)."""
        shaped = g.reshape(1, len(g), *self.node.shape)
        return pull(self.kind, shaped, list(self.shapes))[self.which].reshape(len(g), -1)

    @property
    def entries(self) -> int:
        """Count of entries of the input."""
        return math.prod(self.shapes[self.which])

    def refuse(self) -> NotGated:
        """The error for a move that no label can follow."""
        return NotGated(
            f"node '{self.node.name}' ({self.node.layer}) mixes units or positions in a way that "
            f"paths cannot follow: it is no weight, pool, slice, sum, reshape or padding"
        )


Picked = tuple[Tensor, Tensor] | None


def moved(term: Term, move: Move, picked: Picked, labels: Labels) -> Term:
    """The term after a fixed move: values copied (with factors), or averaged over positions."""
    if picked is None:
        return _pooled(term, move, labels)
    index, factor = picked
    unit = torch.where(index >= 0, term.unit[index.clamp(min=0)], -1)
    place = torch.where(index >= 0, term.place[index.clamp(min=0)], 0)
    there = replace(term, unit=labels(unit), place=labels(place))
    return _scaled(there, factor, move, labels)


def picked_by(move: Move) -> Picked:
    """(entry, factor) behind each output entry (-1: none), or None where outputs mix entries."""
    n = move.entries
    noise = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    number = torch.arange(1, n + 1, dtype=torch.float64)
    factor, numbered, seen = move(torch.stack([torch.ones_like(noise), number, noise]))
    where = torch.where(factor == 0, 0.0, numbered / torch.where(factor == 0, 1.0, factor))
    index = where.round().long() - 1
    if bool((index >= n).any()):
        return None
    expected = torch.where(index >= 0, factor * noise[index.clamp(min=0)], 0.0)
    same = torch.allclose(seen, expected, rtol=1e-9, atol=1e-12)
    return (index, factor) if same else None


def _scaled(term: Term, factor: Tensor, move: Move, labels: Labels) -> Term:
    """The term times one fixed number an entry."""
    if bool((factor[term.unit >= 0] == 1).all()):
        return term
    here = (term.unit >= 0).nonzero()[:, 0]
    if term.pool is not None:
        rows = torch.ones(len(term.pool), dtype=torch.float64)
        rows[term.place[here]] = factor[here]
        if not bool((rows[term.place[here]] == factor[here]).all()):
            raise move.refuse()
        return replace(term, pool=rows[:, None] * term.pool)
    table = torch.zeros(term.grid, dtype=torch.float64)
    table[term.unit[here], term.place[here]] = factor[here]
    if not bool((table[term.unit[here], term.place[here]] == factor[here]).all()):
        raise move.refuse()
    fixed = (FIXED, labels(table))
    return replace(term, products=tuple((*p, fixed) for p in term.products))


def _pooled(term: Term, move: Move, labels: Labels) -> Term:
    """The term after a map that mixes positions within each unit, the same way for all units."""
    there = (term.unit >= 0).double()
    total, numbered = move(torch.stack([there, there * (term.unit + 1)]))
    none = total.abs() < 1e-12
    unit = torch.where(none, -1.0, numbered / torch.where(none, 1.0, total) - 1).round().long()
    if int(unit.max()) >= term.grid[0] or int(unit.min()) < -1:
        raise move.refuse()
    place = _ranks(unit)
    matrix = _matrix(term, move, unit, place)
    _verify(term, move, unit, place, matrix)
    pool = matrix if term.pool is None else matrix @ term.pool
    return replace(term, unit=labels(unit), place=labels(place), pool=pool)


def _ranks(unit: Tensor) -> Tensor:
    """For each entry, how many entries of the same unit stand before it."""
    order = torch.argsort(unit, stable=True)
    first = torch.searchsorted(unit[order].contiguous(), unit[order].contiguous())
    ranks = torch.empty_like(unit)
    ranks[order] = torch.arange(len(unit)) - first
    return torch.where(unit >= 0, ranks, 0)


def _matrix(term: Term, move: Move, unit: Tensor, place: Tensor) -> Tensor:
    """A (rows out, rows in): what a place out takes from each place in, read off one unit."""
    rows, first = int(place.max()) + 1, int(unit[unit >= 0].min())
    outputs = ((unit == first).nonzero())[:, 0]
    inputs = ((term.unit == first).nonzero())[:, 0]
    matrix = torch.zeros(rows, term.rows, dtype=torch.float64)
    for part in outputs.split(max(1, PROBES // max(len(unit), move.entries))):
        g = torch.zeros(len(part), len(unit), dtype=torch.float64)
        g[torch.arange(len(part)), part] = 1
        taken = move.back(g)[:, inputs]
        matrix[place[part]] = matrix[place[part]].index_add(1, term.place[inputs], taken)
    return matrix


def _verify(term: Term, move: Move, unit: Tensor, place: Tensor, matrix: Tensor) -> None:
    """The labels and the matrix say what the move does, on random values."""
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(term.grid[0], term.rows, generator=generator, dtype=torch.float64) + 0.5
    x = torch.where(term.unit >= 0, values[term.unit.clamp(min=0), term.place], 0.0)
    expected = (values @ matrix.T)[unit.clamp(min=0), place].where(unit >= 0, torch.tensor(0.0))
    if not torch.allclose(move(x[None])[0], expected, rtol=1e-9, atol=1e-12):
        raise move.refuse()


# -- sums --


def joined(parts: list[Term], move: Move) -> tuple[Term, ...]:
    """The terms of a sum: those of one origin that share entries become one, if seen alike."""
    done: list[Term] = []
    for term in parts:
        twin = next((k for k, t in enumerate(done) if _meet(t, term)), None)
        if twin is None:
            done.append(term)
        else:
            done[twin] = _both(done[twin], term, move)
    return tuple(done)


def _meet(a: Term, b: Term) -> bool:
    return a.origin == b.origin and bool(((a.unit >= 0) & (b.unit >= 0)).any())


def _both(a: Term, b: Term, move: Move) -> Term:
    """Two masks of the same paths, added."""
    alike = a.unit is b.unit and a.place is b.place and a.source == b.source
    pools = a.pool is None and b.pool is None
    if not alike or not pools:
        raise NotGated(
            f"at node '{move.node.name}' ({move.node.layer}) the paths from '{a.origin}' arrive "
            f"twice at different positions: their kernel is not computed"
        )
    return replace(a, products=a.products + b.products)
