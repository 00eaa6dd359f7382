"""Where the zero set of a function, affine on each cell, crosses the cells (compiled)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gatewise.numeric import kernel
from gatewise.regions.cells.halves import spans_edge

ONE = np.uint64(1)


class Pieces(NamedTuple):
    """The parts of the zero set: piece p has the points ptr[p]..ptr[p + 1], in cell[p].

    ends (n, 2): the vertices whose edge the point is on, twice the same where it is a vertex; mask
    (n, words): the facets of the cell that hold it. facet (P,): the facet that the piece is, or -1
    where it goes through the cell's inside. full (n,): cells that are zero throughout.
    """

    ptr: Any
    cell: Any
    facet: Any
    ends: Any
    mask: Any
    full: Any


def crossings(k: int, cells: Any, sign: Any) -> Pieces:
    """The pieces of {g = 0} in cells of dimension k, from the signs of g at the vertices."""
    words = cells.mask.shape[1]
    most = int(np.diff(cells.ptr).max(initial=0))
    desk, size = np.empty((3, most), np.int64), np.zeros(3, np.int64)
    pieces = _room(size, words)
    for write in (False, True):
        size[:] = 0
        _cross(
            k,
            words,
            write,
            cells.ptr,
            cells.vertex,
            cells.mask,
            cells.facet_ptr,
            sign,
            desk,
            size,
            pieces,
        )
        if not write:
            pieces = _room(size, words)
    return pieces


def _room(size: Any, words: int) -> Pieces:
    pieces, points, full = (int(n) for n in size)
    return Pieces(
        np.zeros(pieces + 1, np.int64),
        np.empty(pieces, np.int64),
        np.full(pieces, -1, np.int64),
        np.empty((points, 2), np.int64),
        np.empty((points, words), np.uint64),
        np.empty(full, np.int64),
    )


@kernel
def _cross(
    k: int,
    words: int,
    write: bool,
    ptr: Any,
    vertex: Any,
    mask: Any,
    facet_ptr: Any,
    sign: Any,
    desk: Any,
    size: Any,
    out: Any,
) -> None:
    """Counts pieces, points and full cells in `size`; fills them in where `write`."""
    for c in range(len(ptr) - 1):
        ups, downs, zeros = _sides(ptr[c], ptr[c + 1], vertex, sign, desk)
        if ups and downs:
            for i in range(ups):
                for j in range(downs):
                    if spans_edge(k, words, mask, ptr[c], ptr[c + 1], desk[0, i], desk[1, j]):
                        _point(words, write, desk[0, i], desk[1, j], vertex, mask, size, out)
            for i in range(zeros):
                _point(words, write, desk[2, i], desk[2, i], vertex, mask, size, out)
            _close(write, c, -1, size, out)
        elif zeros == ptr[c + 1] - ptr[c]:
            if write:
                out.full[size[2]] = c
            size[2] += 1
        elif zeros >= k:
            for f in range(facet_ptr[c + 1] - facet_ptr[c]):
                if _vanishes(f, ups, downs, mask, desk):
                    _flat(words, write, f, zeros, vertex, mask, desk, size, out)
                    _close(write, c, facet_ptr[c] + f, size, out)


@kernel
def _sides(first: int, last: int, vertex: Any, sign: Any, desk: Any) -> tuple[int, int, int]:
    """Places of the vertices above, below and on the set to desk: how many of each."""
    ups = downs = zeros = 0
    for i in range(first, last):
        s = sign[vertex[i]]
        if s > 0:
            desk[0, ups] = i
            ups += 1
        elif s < 0:
            desk[1, downs] = i
            downs += 1
        else:
            desk[2, zeros] = i
            zeros += 1
    return ups, downs, zeros


@kernel
def _point(
    words: int, write: bool, u: int, v: int, vertex: Any, mask: Any, size: Any, out: Any
) -> None:
    """One more point, between the vertices at places u and v."""
    if write:
        n, a, b = size[1], vertex[u], vertex[v]
        out.ends[n, 0], out.ends[n, 1] = min(a, b), max(a, b)
        for w in range(words):
            out.mask[n, w] = mask[u, w] & mask[v, w]
    size[1] += 1


@kernel
def _close(write: bool, c: int, facet: int, size: Any, out: Any) -> None:
    """The points since the last piece are a piece of cell c."""
    p = size[0]
    if write:
        out.cell[p], out.facet[p], out.ptr[p + 1] = c, facet, size[1]
    size[0] = p + 1


@kernel
def _vanishes(f: int, ups: int, downs: int, mask: Any, desk: Any) -> bool:
    """Does no vertex with a sign lie on facet f of the cell?"""
    some = np.uint64(0)
    for i in range(ups):
        some |= mask[desk[0, i], f >> 6]
    for i in range(downs):
        some |= mask[desk[1, i], f >> 6]
    nothing: bool = (some >> np.uint64(f & 63)) & ONE == 0
    return nothing


@kernel
def _flat(
    words: int,
    write: bool,
    f: int,
    zeros: int,
    vertex: Any,
    mask: Any,
    desk: Any,
    size: Any,
    out: Any,
) -> None:
    """The vertices of facet f; its own bit is left out of their masks, all of them have it."""
    word, bit = f >> 6, ONE << np.uint64(f & 63)
    for i in range(zeros):
        at = desk[2, i]
        if mask[at, word] & bit:
            n = size[1]
            _point(words, write, at, at, vertex, mask, size, out)
            if write:
                out.mask[n, word] &= ~bit


@kernel
def chains(ends: Any, ptr: Any, around: Any, used: Any, line: Any, starts: Any) -> int:
    """Segments ends (P, 2) joined where two and only two meet, into lines of points: how many.

    ptr, around: the segments at each point; line: the points, line after line; starts: where each
    line starts. Lines between points where not two meet come first, then closed ones.
    """
    n = lines = 0
    for closed in range(2):
        for p in range(len(ptr) - 1):
            if closed or ptr[p + 1] - ptr[p] != 2:
                for i in range(ptr[p], ptr[p + 1]):
                    if not used[around[i]]:
                        starts[lines] = n
                        n = _follow(p, around[i], ends, ptr, around, used, line, n)
                        lines += 1
    starts[lines] = n
    return lines


@kernel
def _follow(
    p: int, segment: int, ends: Any, ptr: Any, around: Any, used: Any, line: Any, n: int
) -> int:
    """The line from point p along a segment, until it ends or closes."""
    line[n] = p
    n += 1
    while not used[segment]:
        used[segment] = True
        p = ends[segment, 1] if ends[segment, 0] == p else ends[segment, 0]
        line[n] = p
        n += 1
        if ptr[p + 1] - ptr[p] == 2:
            first = around[ptr[p]]
            segment = around[ptr[p] + 1] if first == segment else first
    return n
