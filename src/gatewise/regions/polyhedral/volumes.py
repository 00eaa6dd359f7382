"""volumes(complex): the size of every cell, from its vertices and which facets they lie on.

A face is the pyramids from one of its vertices over its facets that lack that vertex, and so on
down to edges: simplices that share no interior, each |det| / k! (Cohen and Hickey, "Two algorithms
for determining volumes of convex polyhedra", 1979). Which faces there are is read off the facets of
the vertices, which are exact: nothing is lost where a cell is thin.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gatewise.numeric import kernel
from gatewise.regions.cells.bits import lowest, popcount

if TYPE_CHECKING:
    from gatewise.regions.polyhedral.complex import Complex

Floats = NDArray[np.float64]
ONE = np.uint64(1)


def volumes(complex: Complex) -> Floats:
    """(R,): length, area or volume of each cell in the coordinates of its slice."""
    cells, k = complex.cells, complex.dimension
    out = np.zeros(len(complex))
    if k == 0:
        return out + 1.0
    if k == 2:
        _areas(cells.ptr, cells.vertex, complex.vertices, out)
        return out
    words, most = cells.mask.shape[1], int(np.diff(cells.ptr).max())
    _simplices(
        k,
        words,
        cells.ptr,
        cells.vertex,
        cells.mask,
        complex.vertices,
        np.empty((k + 1, most), np.int64),
        np.empty((k + 1, 3), np.int64),
        np.empty((k + 1, 2, words), np.uint64),
        np.empty((k + 1, k + 1)),
        out,
    )
    out /= math.factorial(k)
    return out


@kernel
def _areas(ptr: Any, vertex: Any, at: Any, out: Any) -> None:
    """The shoelace formula from the first vertex of each polygon."""
    for c in range(len(ptr) - 1):
        o, total = vertex[ptr[c]], 0.0
        for i in range(ptr[c] + 1, ptr[c + 1] - 1):
            a, b = vertex[i], vertex[i + 1]
            total += (at[a, 0] - at[o, 0]) * (at[b, 1] - at[o, 1]) - (
                (at[a, 1] - at[o, 1]) * (at[b, 0] - at[o, 0])
            )
        out[c] = abs(total) / 2


@kernel
def _simplices(
    k: int,
    words: int,
    ptr: Any,
    vertex: Any,
    mask: Any,
    at: Any,
    face: Any,
    state: Any,
    sets: Any,
    work: Any,
    out: Any,
) -> None:
    """out: the sum of |det| over the simplices of each cell.

    face[g]: places of the vertices of the face of dimension g on the way down; state[g]: how many
    they are, which one is the apex, and the column of row g's pivot; sets[g]: the facets that hold
    all of it, and those yet to be tried. work[g]: the edge from the apex above to the one of face g
    (row 0: the edge that face 1 is), see `_reduce`.
    """
    for c in range(len(ptr) - 1):
        for i in range(ptr[c + 1] - ptr[c]):
            face[k, i] = ptr[c] + i
        state[k, 0] = ptr[c + 1] - ptr[c]
        for w in range(words):
            sets[k, 0, w] = 0
        _begin(k, words, mask, face, state, sets)
        g = k
        while g <= k:
            if g == 1:
                _reduce(k, 0, vertex[face[1, 1]], vertex[face[1, 0]], at, state, work)
                out[c] += abs(work[0, k])
            if g == 1 or _next(g, words, mask, face, state, sets) < 0:
                g += 1
                continue
            g -= 1
            _begin(g, words, mask, face, state, sets)
            here, there = face[g, state[g, 1]], face[g + 1, state[g + 1, 1]]
            _reduce(k, g, vertex[here], vertex[there], at, state, work)


@kernel
def _begin(g: int, words: int, mask: Any, face: Any, state: Any, sets: Any) -> None:
    """The apex of face g, on most facets; its facets without the apex are to be tried."""
    best, most = 0, -1
    for i in range(state[g, 0]):
        count = 0
        for w in range(words):
            count += popcount(mask[face[g, i], w])
        if count > most:
            best, most = i, count
    state[g, 1] = best
    for w in range(words):
        some = np.uint64(0)
        for i in range(state[g, 0]):
            some |= mask[face[g, i], w]
        sets[g, 1, w] = some & ~mask[face[g, best], w]


@kernel
def _next(g: int, words: int, mask: Any, face: Any, state: Any, sets: Any) -> int:
    """Puts the next facet of face g that lacks its apex at g - 1: any bit that cuts it, or -1."""
    for w in range(words):
        while sets[g, 1, w]:
            bit = sets[g, 1, w] & (~sets[g, 1, w] + ONE)
            sets[g, 1, w] &= ~bit
            if _facet(g, words, w, bit, mask, face, state, sets):
                found: int = 64 * w + lowest(bit)
                return found
    return -1


@kernel
def _facet(
    g: int, words: int, w: int, bit: Any, mask: Any, face: Any, state: Any, sets: Any
) -> bool:
    """The vertices of face g on facet `bit` to g - 1: is that a facet of it, met the first time?

    It is one unless another facet of the cell cuts more out of the face; all that cut out the same
    are crossed off.
    """
    n = 0
    for i in range(state[g, 0]):
        if mask[face[g, i], w] & bit:
            face[g - 1, n] = face[g, i]
            n += 1
    state[g - 1, 0] = n
    if n < g:
        return False
    for v in range(words):
        both = mask[face[g - 1, 0], v]
        for i in range(1, n):
            both &= mask[face[g - 1, i], v]
        sets[g - 1, 0, v] = both
    for v in range(words):
        others = sets[g - 1, 0, v] & ~sets[g, 0, v]
        if v == w:
            others &= ~bit
        while others:
            other = others & (~others + ONE)
            others &= ~other
            if _count(g, v, other, mask, face, state) > n:
                return False
            sets[g, 1, v] &= ~other
    return True


@kernel
def _count(g: int, w: int, bit: Any, mask: Any, face: Any, state: Any) -> int:
    """How many vertices of face g lie on facet `bit`."""
    n = 0
    for i in range(state[g, 0]):
        if mask[face[g, i], w] & bit:
            n += 1
    return n


@kernel
def _reduce(k: int, g: int, here: int, there: int, at: Any, state: Any, work: Any) -> None:
    """work[g]: the edge (here, there) less what the rows above span, by elimination.

    Columns are swapped to bring the largest entry, the pivot, to its place; the last entry is the
    product of all pivots so far.
    """
    row, place = work[g], k - 1 - g
    for a in range(k):
        row[a] = at[here, a] - at[there, a]
    for i in range(place):
        above = k - 1 - i
        p = state[above, 2]
        row[i], row[p] = row[p], row[i]
        if work[above, i] != 0.0:
            factor = row[i] / work[above, i]
            for a in range(i + 1, k):
                row[a] -= factor * work[above, a]
    best = place
    for a in range(place + 1, k):
        if abs(row[a]) > abs(row[best]):
            best = a
    row[place], row[best] = row[best], row[place]
    state[g, 2] = best
    row[k] = row[place] * (1.0 if g == k - 1 else work[g + 1, k])
