"""boundary(complex): where an output is at a level, or two are equal, exactly, region by region.

On a cell g is affine, so {g = 0} in it is the hull of the points where g vanishes on the cell's
edges: which edges those are follows from the sign of g at the vertices (`levels`), and no sampling
comes in. Decision boundaries of several classes are facets of the complex of "which is largest".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import DataError, InternalError
from gatewise.regions.cells.gather import polygons
from gatewise.regions.polyhedral.adjacency import jumps, shared
from gatewise.regions.polyhedral.crossings import Pieces, chains, crossings
from gatewise.regions.polyhedral.levels import Floats, Level, level_of, winner

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

Ints = NDArray[np.int64]
U = 2.0**-53


@dataclass(frozen=True, eq=False)
class Boundary:
    """P pieces of a set of dimension k - 1 in the box, each the hull of its points.

    points (N, k): coordinates s, shared by the pieces; error (N,): each is within that of the exact
    one, in the max-norm. Piece p has points[point[ptr[p]:ptr[p + 1]]] (around the polygon where
    k = 3) and lies in region cell[p]; where it is the facet between two, in the lower one.
    classes (P, 2): the outputs that are equal there, those of the two sides; empty for one level.

    full: regions that belong to the set throughout. touching: vertices of the complex in it that no
    piece and no such region has (the level is met there and not crossed, in fewer dimensions).
    undecided: vertices whose sign nothing could tell, taken to be in the set.
    """

    complex: Complex
    points: Floats
    error: Floats
    ptr: Ints
    point: Ints
    cell: Ints
    classes: Ints
    full: Ints
    touching: Ints
    undecided: Ints

    def __len__(self) -> int:
        return len(self.cell)

    def __repr__(self) -> str:
        k = self.complex.dimension
        parts = [f"{len(self)} pieces, {len(self.points)} points in {k} dimension{'s' * (k != 1)}"]
        for name in ("full", "touching", "undecided"):
            held = len(getattr(self, name))
            parts += [f"{held} {'regions ' if name == 'full' else ''}{name}"] if held else []
        return f"Boundary({'; '.join(parts)})"

    def piece(self, index: int) -> Floats:
        """The points (n, k) of one piece, in the order of the polygon where k = 3."""
        index = range(len(self))[index]
        return self.points[self.point[self.ptr[index] : self.ptr[index + 1]]]

    def polylines(self) -> list[Ints]:
        """k = 2: the segments joined, as numbers of points; a closed line ends where it starts.

        Lines end at the box, or where other than two segments meet.
        """
        self._need(2, "polylines")
        ends, n = self.point.reshape(-1, 2), len(self.points)
        order = np.argsort(ends.reshape(-1), kind="stable")
        ptr = np.concatenate([[0], np.cumsum(np.bincount(ends.reshape(-1), minlength=n))])
        line, starts = np.empty(2 * len(ends), np.int64), np.empty(len(ends) + 1, np.int64)
        used = np.zeros(len(ends), bool)
        lines = chains(ends, ptr, order // 2, used, line, starts)
        return [line[starts[i] : starts[i + 1]] for i in range(lines)]

    def triangles(self) -> Ints:
        """k = 3: (T, 3) numbers of points, a fan of triangles for each polygon."""
        self._need(3, "triangles")
        size = np.diff(self.ptr) - 2
        first = np.repeat(self.ptr[:-1], size)
        step = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
        places = np.stack([first, first + step + 1, first + step + 2], 1)
        return np.asarray(self.point[places], np.int64)

    def _need(self, k: int, what: str) -> None:
        if self.complex.dimension != k:
            raise DataError(
                f"{what} are for boundaries in {k} dimensions, this one has "
                f"{self.complex.dimension}: read the pieces themselves"
            )


def boundary(
    complex: Complex, output: int = 0, other: int | None = None, level: float = 0.0
) -> Boundary:
    """{f_output = level}, or {f_output - f_other = level}, in the box of the complex.

    Refused where the network's value jumps from region to region: no such set bounds anything.
    """
    _continuous(complex)
    held = level_of(complex, output, other, level)
    return _around(complex, held, crossings(complex.dimension, complex.cells, held.sign))


def class_boundary(complex: Complex) -> Boundary:
    """Where the largest output changes: pieces of {f_a = f_b} on which both are the largest.

    Its `complex` is a finer one: each region cut by which output is the largest (of equal ones the
    first). A tie that fills a region is no boundary.
    """
    from gatewise.regions.polyhedral.enumeration import enumerate_regions

    if not complex.complete:
        raise DataError(
            "class boundaries need every region of the box, but enumerating stopped early: ask "
            "again without max_regions, or for boundary(output, other)"
        )
    _continuous(complex)
    finer = enumerate_regions(winner(complex.network), slice=complex.slice)
    name = finer.network.gates[-1].name
    top = finer.pattern.codes(name).reshape(-1).long().numpy()
    pairs = shared(finer)
    between = np.flatnonzero(top[pairs.cells[:, 0]] != top[pairs.cells[:, 1]])
    facet, cell = pairs.facets[between, 0], pairs.cells[between, 0]
    found = _facets(finer, facet, cell)
    held = np.unique(found.ends[:, 0])
    place = np.searchsorted(held, found.ends[:, 0])
    none = np.empty(0, np.int64)
    return Boundary(
        finer,
        finer.vertices[held],
        finer.error[held],
        found.ptr,
        place[_ordered(finer.dimension, found)],
        cell,
        top[pairs.cells[between]],
        none,
        none,
        none,
    )


def _continuous(complex: Complex) -> None:
    network = complex.network
    if jumps(network, at_end=True):
        raise DataError(
            "the network has a step in it, so its value jumps from region to region and a level "
            "may be passed without being met: read `complex.map` region by region instead"
        )


def _around(complex: Complex, held: Level, found: Pieces) -> Boundary:
    """The pieces with their points placed; facets met from both sides are kept once."""
    found = _once(complex, found)
    ends, point = np.unique(found.ends, axis=0, return_inverse=True)
    points, error = _placed(complex, held, ends)
    zero = np.zeros(len(complex.vertices), bool)
    zero[np.unique(complex.cells.vertex)] = True
    zero &= held.sign == 0
    zero[ends[ends[:, 0] == ends[:, 1], 0]] = False
    cells = complex.cells
    for c in found.full:
        zero[cells.vertex[cells.ptr[c] : cells.ptr[c + 1]]] = False
    return Boundary(
        complex,
        points,
        error,
        found.ptr,
        point.reshape(-1)[_ordered(complex.dimension, found)],
        found.cell,
        np.empty((0, 2), np.int64),
        found.full,
        np.flatnonzero(zero),
        held.open,
    )


def _once(complex: Complex, found: Pieces) -> Pieces:
    """A piece that is a facet of two cells is kept for the lower one, and for neither where the
    other cell is in the set throughout."""
    flat = found.facet >= 0
    if not flat.any():
        return found
    pairs = shared(complex)
    full = np.zeros(len(complex) + 1, bool)
    full[found.full] = True
    partner = np.where(flat, pairs.partner[found.facet], -1)
    beyond = np.where(partner >= 0, pairs.owner[partner], len(complex))
    keep = ~flat | (~full[beyond] & ((partner < 0) | (found.facet < partner)))
    length = np.diff(found.ptr)
    places = np.repeat(keep, length)
    return found._replace(
        ptr=np.concatenate([[0], np.cumsum(length[keep])]),
        cell=found.cell[keep],
        facet=found.facet[keep],
        ends=found.ends[places],
        mask=found.mask[places],
    )


def _placed(complex: Complex, held: Level, ends: Ints) -> tuple[Floats, Floats]:
    """Where g vanishes between two vertices p and q: at t = g_p / (g_p - g_q) of the way.

    An error of g there moves t by at most twice its share of |g_p - g_q|; the point is on the true
    edge in any case.
    """
    p, q = ends.T
    s, radius = complex.vertices, complex.error
    gap = held.value[p] - held.value[q]
    off = np.maximum(held.error[p], held.error[q])
    at = (p == q) | (gap == 0)
    t = np.where(at, 0.0, held.value[p] / np.where(at, 1.0, gap)).clip(0, 1)[:, None]
    most = np.maximum(radius[p], radius[q])
    length = np.abs(s[q] - s[p]).max(1, initial=0) + 2 * most
    rest = np.abs(gap) - 2 * off
    shift = np.where(rest > 0, 2 * off / np.where(rest > 0, rest, 1.0) + 8 * U, 1.0).clip(0, 1)
    size = np.maximum(np.abs(s[p]), np.abs(s[q])).max(1, initial=0)
    error = np.where(p == q, radius[p], (most + shift * length + 8 * U * size) * (1 + 16 * U))
    return s[p] + t * (s[q] - s[p]), error


def _facets(complex: Complex, facet: Ints, cell: Ints) -> Pieces:
    """Some facets as pieces, with their vertices in any order."""
    cells = complex.cells
    length = np.diff(cells.ptr)[cell]
    piece = np.repeat(np.arange(len(cell)), length)
    place = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    place += cells.ptr[cell[piece]]
    bit = facet - cells.facet_ptr[cell]
    word, bit = bit[piece] >> 6, np.uint64(1) << (bit[piece] & 63).astype(np.uint64)
    on = (cells.mask[place, word] & bit) != 0
    piece, place, word, bit = piece[on], place[on], word[on], bit[on]
    mask = cells.mask[place]
    mask[np.arange(len(mask)), word] &= ~bit
    ptr = np.concatenate([[0], np.cumsum(np.bincount(piece, minlength=len(cell)))])
    ends = np.repeat(cells.vertex[place].astype(np.int64)[:, None], 2, 1)
    return Pieces(ptr, cell, facet, ends, mask, np.empty(0, np.int64))


def _ordered(k: int, found: Pieces) -> Any:
    """The places of the points, around each polygon where k = 3: neighbours share a facet."""
    if k == 2 and (np.diff(found.ptr) != 2).any():
        raise InternalError("a piece of a boundary in the plane is no segment")
    if k != 3:
        return np.arange(len(found.ends))
    from gatewise.regions.cells.pools import Cells

    none = found.cell[:0]
    return polygons(Cells(found.ptr, found.ends[:, 0], found.mask, none, none))
