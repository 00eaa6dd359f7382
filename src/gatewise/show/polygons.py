"""Polygons of a plane complex: edges, level lines, pieces by class, colours of neighbours.

A Rings holds many closed polygons in one array: what is asked is asked of all of them at once.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gatewise.linear.affine_map import AffineMap
from gatewise.regions.polyhedral.adjacency import jumps as network_jumps
from gatewise.regions.polyhedral.complex import Complex

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CHUNK = 1 << 22  # numbers of inputs at a time
OF_CELL = -1  # a side of a piece that is a side of its cell


@dataclass(frozen=True, eq=False)
class Rings:
    """Polygons: corner (N, k), the ring of each (N,) in ascending order, values there (N, m).

    cell (rings,): whose part each is. side (N,): of the side from a corner to the next one, the
    function that is as large there as the ring's own, or OF_CELL.
    """

    corner: Floats
    ring: Ints
    value: Floats
    cell: Ints
    side: Ints

    @property
    def following(self) -> Ints:
        """The corner after each."""
        return following(self.ring)

    def take(self, kept: NDArray[np.bool_]) -> Rings:
        """Some of the rings, numbered afresh."""
        here = kept[self.ring]
        number = np.cumsum(kept) - 1
        return Rings(
            self.corner[here],
            number[self.ring[here]],
            self.value[here],
            self.cell[kept],
            self.side[here],
        )

    def clip(self, d: Floats, side: int) -> Rings:
        """The part of each ring where d >= 0 (given at the corners); the new side is named."""
        after = self.following
        keep = d >= 0
        cross = np.flatnonzero(keep != keep[after])
        kept = np.flatnonzero(keep)
        order = np.argsort(np.concatenate([2 * kept, 2 * cross + 1]), kind="stable")
        t = (d[cross] / (d[cross] - d[after[cross]]))[:, None]

        def joined(a: Any) -> Any:
            return np.concatenate([a[kept], (1 - t) * a[cross] + t * a[after[cross]]])[order]

        name = np.where(keep[cross], side, self.side[cross])
        ring = np.concatenate([self.ring[kept], self.ring[cross]])[order]
        cut = Rings(
            joined(self.corner),
            ring,
            joined(self.value),
            self.cell,
            np.concatenate([self.side[kept], name])[order],
        )
        return cut.take(np.bincount(ring, minlength=len(self.cell)) > 2)


def following(ring: Ints) -> Ints:
    """The corner after each of its ring."""
    after = np.arange(1, len(ring) + 1)
    last = np.flatnonzero(np.diff(ring, append=-1))
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    after[last] = first
    return after


def rings(c: Complex) -> Rings:
    """The cells of a plane complex, with the network's outputs at their corners."""
    sizes = np.diff(c.cells.ptr)
    cell = np.arange(len(c))
    ring = np.repeat(cell, sizes)
    side = np.full(len(ring), OF_CELL)
    return Rings(c.vertices[c.cells.vertex], ring, corner_values(c), cell, side)


def corner_values(c: Complex) -> Floats:
    """f at every corner of every cell, by the cell's own map: (corners, outputs)."""
    step = max(1, CHUNK // max(1, c.network.inputs))
    if not jumps(c):
        parts = [c.values(c.vertices[i : i + step]) for i in range(0, len(c.vertices), step)]
        found: Floats = np.concatenate(parts)[c.cells.vertex]
        return found
    cell = np.repeat(np.arange(len(c)), np.diff(c.cells.ptr))
    network, parts = c.network.to(torch.float64, "cpu"), []
    for i in range(0, len(cell), step):
        x = c.slice.inputs(c.vertices[c.cells.vertex[i : i + step]])
        own = AffineMap(network, c.pattern[cell[i : i + step]])
        parts.append(own.mv(torch.from_numpy(x)).numpy())
    return np.concatenate(parts)


def jumps(c: Complex) -> bool:
    """Has the network a step in it? Then cells have limits of their own where they meet."""
    return network_jumps(c.network, at_end=True)


# ---------------------------------------------------------------- edges and neighbours


class Edges(NamedTuple):
    """Sides of cells, each once: ends (E, 2) vertices, who of one of its cells, cells (E, 2).

    Where nothing is on the other side, the second cell is -1.
    """

    ends: Ints
    who: Ints
    cells: Ints


def edges(c: Complex) -> Edges:
    """The sides of all polygons."""
    cell = np.repeat(np.arange(len(c)), np.diff(c.cells.ptr))
    after = following(cell)
    ends = np.sort(np.stack([c.cells.vertex, c.cells.vertex[after]], 1).astype(np.int64), 1)
    facet = c.cells.facet_ptr[cell] + _lowest_bit(c.cells.mask & c.cells.mask[after])
    who = c.who[c.cells.facet[facet]]
    order = np.lexsort((cell, ends[:, 1], ends[:, 0]))
    same = (np.diff(ends[order], axis=0) == 0).all(1)
    first = np.concatenate([[True], ~same])
    other = np.full(len(order), -1)
    other[:-1][same] = cell[order][1:][same]
    return Edges(ends[order][first], who[order][first], np.stack([cell[order], other], 1)[first])


def _lowest_bit(mask: NDArray[np.uint64]) -> Ints:
    """The place of the lowest bit set in each row of words."""
    word = np.argmax(mask != 0, axis=1)
    bits = mask[np.arange(len(mask)), word]
    low = bits & (~bits + np.uint64(1))
    place = np.bitwise_count(low - np.uint64(1)).astype(np.int64)
    found: Ints = 64 * word + np.where(bits == 0, 0, place)
    return found


def neighbour_colours(count: int, pairs: Ints, most: int = 8) -> Ints:
    """(count,) small numbers, different for every pair: in rounds, the highest rank chooses first.

    Each takes the first of `most` numbers, from one of its own on, that no neighbour has; the
    lowest free one beyond where they are all taken (after Jones and Plassmann, 1993).
    """
    pairs = pairs[(pairs >= 0).all(1)]
    a, b = np.concatenate([pairs, pairs[:, ::-1]]).T
    rng = np.random.default_rng(0)
    rank, wish = rng.permutation(count), rng.integers(0, most, count)
    colour, taken = np.full(count, -1), np.zeros(count, np.uint64)
    while (colour < 0).any():
        top = np.full(count, -1)
        np.maximum.at(top, a, rank[b])
        turn = (colour < 0) & (rank > top)
        colour[turn] = _first_free(taken[turn], wish[turn], most)
        new = turn[b]
        np.bitwise_or.at(taken, a[new], _bit(colour[b[new]]))
        left = ~turn[a] & ~turn[b]
        a, b = a[left], b[left]
    return colour


def _first_free(taken: NDArray[np.uint64], wish: Ints, most: int) -> Ints:
    found = np.bitwise_count((~taken & (taken + np.uint64(1))) - np.uint64(1)).astype(np.int64)
    for step in reversed(range(most)):
        asked = (wish + step) % most
        found = np.where(taken & _bit(asked), found, asked)
    return found


def _bit(place: Ints) -> NDArray[np.uint64]:
    return np.uint64(1) << place.astype(np.uint64)


# ---------------------------------------------------------------- level lines and classes


def level_lines(r: Rings, values: Floats, level: float) -> Floats:
    """Where an affine function a ring is `level`: segments (n, 2, k).

    values: at the corners. In a convex ring it is a segment, exact up to the values' rounding.
    """
    d = values - level
    after = r.following
    cross = np.flatnonzero((d > 0) != (d[after] > 0))
    t = (d[cross] / (d[cross] - d[after[cross]]))[:, None]
    points = (1 - t) * r.corner[cross] + t * r.corner[after[cross]]
    k = r.corner.shape[1]
    return points.reshape(-1, 2, k)


def by_class(r: Rings) -> tuple[Rings, Ints]:
    """The rings cut to where each output is the largest, and the class (rings,) of every piece.

    A side with a name is where that class is as large: the decision boundary.
    """
    best = r.value.argmax(1)
    starts = np.flatnonzero(np.diff(r.ring, prepend=-1))
    low, high = np.minimum.reduceat(best, starts), np.maximum.reduceat(best, starts)
    parts, names = [r.take(low == high)], [low[low == high]]
    mixed = r.take(low != high)
    if len(mixed.cell):
        for c in _candidates(mixed):
            part = _largest(mixed, c)
            parts.append(part)
            names.append(np.full(len(part.cell), c))
    return together(parts), np.concatenate(names)


def _candidates(r: Rings) -> list[int]:
    """Classes that are not below some other one on all of every ring."""
    starts = np.flatnonzero(np.diff(r.ring, prepend=-1))
    floor = np.minimum.reduceat(r.value, starts).max(1)
    tops = np.maximum.reduceat(r.value, starts)
    return [int(c) for c in np.flatnonzero((tops >= floor[:, None]).any(0))]


def _largest(r: Rings, c: int) -> Rings:
    for j in _candidates(r):
        if j != c and len(r.cell):
            r = r.clip(r.value[:, c] - r.value[:, j], j)
    return r


def together(parts: list[Rings]) -> Rings:
    """Several as one."""
    shift = np.cumsum([0] + [len(p.cell) for p in parts[:-1]])
    ring = np.concatenate([p.ring + s for p, s in zip(parts, shift, strict=True)])
    names = ("corner", "value", "cell", "side")
    corner, value, cell, side = (np.concatenate([getattr(p, n) for p in parts]) for n in names)
    return Rings(corner, ring, value, cell, side)


def named_sides(r: Rings, kind: Ints) -> Floats:
    """The decision boundary: segments (n, 2, k) of pieces of classes `kind`, each drawn once."""
    here = np.flatnonzero((r.side >= 0) & (kind[r.ring] < r.side))
    return np.stack([r.corner[here], r.corner[r.following[here]]], 1)


def ring_areas(r: Rings) -> Floats:
    """(rings,) areas, by the shoelace formula around each first corner."""
    start = np.flatnonzero(np.diff(r.ring, prepend=-1))
    p = r.corner - r.corner[start][r.ring]
    q = p[r.following]
    found: Floats = np.abs(np.add.reduceat(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0], start)) / 2
    return found


def bands(r: Rings, output: int, levels: Floats) -> list[Rings]:
    """The rings cut by level lines of an output: the parts between each level and the next."""
    start = np.flatnonzero(np.diff(r.ring, prepend=-1))
    v = r.value[:, output]
    low, high = np.minimum.reduceat(v, start), np.maximum.reduceat(v, start)
    found = []
    for a, b in itertools.pairwise(levels):
        part = r.take((high >= a) & (low < b))
        part = part.clip(part.value[:, output] - a, OF_CELL)
        found.append(part.clip(b - part.value[:, output], OF_CELL))
    return found


def decided(r: Rings, level: float) -> Rings:
    """With one output: as the two values (0, f - level), so that the larger one is the class."""
    if r.value.shape[1] > 1:
        return r
    d = r.value - level
    return dataclasses.replace(r, value=np.concatenate([np.zeros_like(d), d], 1))


def gate_of(who: Ints) -> Ints:
    """The number of the gate whose unit a facet is of (not for walls of the box)."""
    return who >> 52
