"""A cell cut in two by a row with both signs on it: its vertices, edges and facets (compiled).

Two vertices of a polytope span an edge iff no third vertex lies on all the facets they share; at a
vertex of only d facets any d - 1 of them make an edge. Facet sets are words of bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import inner, kernel
from gatewise.regions.cells.bits import lowest, mixed, popcount

ONE = np.uint64(1)


@inner
def lift(words: int, s: Any, stack: Any, at: int, m: int, facet_at: int, faces: int) -> None:
    """The cell from the stack to s."""
    for v in range(m):
        s.vertex[v] = stack.vertex[at + v]
        for w in range(words):
            s.mask[v, w] = stack.mask[at + v, w]
    for i in range(faces):
        s.facet[i] = stack.facet[facet_at + i]


@inner
def sort_sides(words: int, kw: int, cut: int, local: Any, s: Any, m: int) -> tuple[int, int]:
    """Places of the vertices strictly above and below the cut to s.up and s.down: how many.

    Their facets go to s.above and s.below: one that only touches the cut is none of that half.
    """
    cw, bit = cut >> 6, ONE << np.uint64(cut & 63)
    ups = downs = 0
    for w in range(words):
        s.above[w] = s.below[w] = 0
    for v in range(m):
        place = s.vertex[v] * kw + cw
        if local.plus[place] & bit:
            s.up[ups] = v
            ups += 1
            for w in range(words):
                s.above[w] |= s.mask[v, w]
        elif local.minus[place] & bit:
            s.down[downs] = v
            downs += 1
            for w in range(words):
                s.below[w] |= s.mask[v, w]
    return ups, downs


@inner
def edges_cut(d: int, words: int, s: Any, m: int, ups: int, downs: int) -> int:
    """Lists the edges from a vertex above to one below in s.edge (places in the cell): how many."""
    if d < 3 or not all_simple(d, words, s, m):
        return _edges_of_any(d, words, s, m, ups, downs)
    # every vertex has d facets: neighbours are those that differ in one facet for another
    if ups > downs:  # the long side inside: it is done four at a time
        return _one_apart(s, s.down, downs, s.up, ups, 1)
    return _one_apart(s, s.up, ups, s.down, downs, 0)


@inner
def _one_apart(s: Any, some: Any, few: int, others: Any, many: int, side: int) -> int:
    """Pairs of `some` and `others` that differ in one facet for another, to columns side and
    1 - side of s.edge: how many."""
    found = 0
    for j in range(many):
        s.low[j] = s.mask[others[j], 0]
    for i in range(few):
        mine, hits = s.mask[some[i], 0], 0
        for j in range(many):
            x = mine ^ s.low[j]
            y = x & (x - ONE)
            z = y & (y - ONE)
            s.flag[j] = z
            hits += z == 0
        if hits:
            for j in range(many):
                if s.flag[j] == 0:
                    s.edge[found, side], s.edge[found, 1 - side] = some[i], others[j]
                    found += 1
    return found


@kernel
def all_simple(d: int, words: int, s: Any, m: int) -> bool:
    """Has every vertex exactly d facets, told in one word?"""
    if words > 1:
        return False
    simple = True
    for v in range(m):
        simple = simple and popcount(s.mask[v, 0]) == d
    return simple


@kernel
def _edges_of_any(d: int, words: int, s: Any, m: int, ups: int, downs: int) -> int:
    found = 0
    for i in range(ups):
        u = s.up[i]
        for j in range(downs):
            v = s.down[j]
            if spans_edge(d, words, s.mask, 0, m, u, v):
                s.edge[found, 0], s.edge[found, 1] = u, v
                found += 1
    return found


@kernel
def spans_edge(d: int, words: int, mask: Any, first: int, last: int, u: int, v: int) -> bool:
    """Do u and v span an edge of the cell first..last? No third lies on all that they share."""
    both = mine = theirs = 0
    for w in range(words):
        both += popcount(mask[u, w] & mask[v, w])
        mine += popcount(mask[u, w])
        theirs += popcount(mask[v, w])
    if both < d - 1:
        return False
    if d <= 2 or mine == d or theirs == d:
        return True
    for t in range(first, last):
        if t != u and t != v:
            holds = True
            for w in range(words):
                common = mask[u, w] & mask[v, w]
                holds = holds and (mask[t, w] & common) == common
            if holds:
                return False
    return True


@inner
def see(local: Any, kw: int, g: int, stack: Any, cell: int) -> None:
    """The sides that local vertex g lies on count for the cell."""
    for w in range(kw):
        stack.plus[cell, w] |= local.plus[g * kw + w]
        stack.minus[cell, w] |= local.minus[g * kw + w]


@inner
def part(
    words: int,
    kw: int,
    cut: int,
    faces: int,
    local: Any,
    s: Any,
    m: int,
    stack: Any,
    at: int,
    gap: int,
    depth: int,
) -> tuple[int, int]:
    """The cell in s to its halves: below from `at` on, above from `gap` on; both hold the cut.

    Returns where each ends. A facet that only touches the cut goes; bit `faces` is the cut itself.
    The sides of their vertices go to the cells `depth` and `depth` + 1 of the stack.
    """
    cw, bit = cut >> 6, ONE << np.uint64(cut & 63)
    word, face = faces >> 6, ONE << np.uint64(faces & 63)
    low, high = at, gap
    for w in range(kw):
        stack.plus[depth, w] = stack.minus[depth, w] = 0
        stack.plus[depth + 1, w] = stack.minus[depth + 1, w] = 0
    for v in range(m):
        g = s.vertex[v]
        up, down = local.plus[g * kw + cw] & bit, local.minus[g * kw + cw] & bit
        if not up:
            see(local, kw, g, stack, depth)
            stack.vertex[low] = g
            for w in range(words):
                stack.mask[low, w] = s.mask[v, w] & s.below[w]
            if not down:
                stack.mask[low, word] |= face
            low += 1
        if not down:
            see(local, kw, g, stack, depth + 1)
            stack.vertex[high] = g
            for w in range(words):
                stack.mask[high, w] = s.mask[v, w] & s.above[w]
            if not up:
                stack.mask[high, word] |= face
            high += 1
    return low, high


@inner
def close(
    stack: Any,
    s: Any,
    depth: int,
    at: int,
    gap: int,
    high: int,
    facet_at: int,
    faces: int,
    row: int,
) -> None:
    """The halves at..gap and gap..high become the cells `depth` and `depth` + 1, side by side."""
    other = facet_at + faces + 1
    for i in range(faces):
        stack.facet[other + i] = s.facet[i]
    stack.facet[facet_at + faces] = stack.facet[other + faces] = row
    spans = stack.spans
    spans[depth, 0], spans[depth, 1] = at, gap - at
    spans[depth, 2], spans[depth, 3] = facet_at, faces + 1
    spans[depth + 1, 0], spans[depth + 1, 1] = gap, high - gap
    spans[depth + 1, 2], spans[depth + 1, 3] = other, faces + 1


@inner
def packed(words: int, stack: Any, at: int, m: int, facet_at: int, faces: int, place: Any) -> int:
    """Numbers the facets that the cell still has 0, 1, 2 ..; returns how many there are."""
    left, facet, mask = 0, stack.facet, stack.mask
    for w in range(words):
        alive = np.uint64(0)
        for v in range(at, at + m):
            alive |= mask[v, w]
        for b in range(64 * w, min(faces, 64 * w + 64)):
            place[b] = -1
            if (alive >> np.uint64(b & 63)) & ONE:
                place[b] = left
                facet[facet_at + left] = facet[facet_at + b]
                left += 1
    if left < faces:
        for v in range(at, at + m):
            _renumber(words, mask, v, place)
    return left


@kernel
def _renumber(words: int, mask: Any, v: int, place: Any) -> None:
    """Every bit b of mask[v] to place[b], which is never larger than b."""
    for w in range(words):
        word, fresh = mask[v, w], np.uint64(0)
        mask[v, w] = fresh
        while word:
            b = place[64 * w + lowest(word)]
            if b >> 6 == w:
                fresh |= ONE << np.uint64(b & 63)
            else:
                mask[v, b >> 6] |= ONE << np.uint64(b & 63)
            word &= word - ONE
        mask[v, w] |= fresh


@inner
def slot(table: Any, key: int) -> Any:
    """Where the key is in the open table (key, value; -1 is nothing), or where it would go."""
    last = len(table) - 1
    at = np.int64(mixed(np.uint64(key)) & np.uint64(last))
    while table[at, 0] != -1 and table[at, 0] != key:
        at = (at + 1) & last
    return at


@kernel
def rehash(table: Any, bigger: Any) -> None:
    """What the table holds into a bigger, empty one."""
    for i in range(len(table)):
        if table[i, 0] != -1:
            at = slot(bigger, table[i, 0])
            bigger[at, 0], bigger[at, 1] = table[i, 0], table[i, 1]
