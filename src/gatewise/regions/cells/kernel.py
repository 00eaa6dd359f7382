"""Every parent cell split by every row of a gate that crosses it: the compiled loop.

A cell is its vertices, each with the set of facets it lies on (bits). A row with both signs among
the vertices cuts the cell in two; new vertices stand on the edges whose ends have opposite signs.
Nothing but proven signs decides; those that floats leave open are recorded, the children of the
parent are taken back, and it is done again once they are known.

Rows of one gate are taken in the order of their numbers in every cell, so an edge that two cells
share is split at the same places in the same order, and a vertex gets the same key in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import inner, kernel
from gatewise.regions.cells.bits import lowest
from gatewise.regions.cells.halves import (
    ONE,
    close,
    edges_cut,
    lift,
    packed,
    part,
    see,
    sort_sides,
)
from gatewise.regions.cells.points import U
from gatewise.regions.cells.pools import (
    CHILD,
    DEPTH,
    DONE,
    EDGES,
    ENOUGH,
    FACET,
    FULL,
    LOCALS,
    MARK,
    MORE_EDGES,
    MORE_LOCAL,
    MORE_OUT,
    MORE_POINTS,
    MORE_ROWS,
    MORE_SCRATCH,
    MORE_STACK,
    NEAR,
    OPEN,
    PLACE,
    ROW,
    TURN,
    VERTEX,
)
from gatewise.regions.cells.vertices import choose, load_signs, meet, record


@kernel
def run(
    d: int,
    words: int,
    todo: Any,
    cells: Any,
    gate: Any,
    forced: Any,
    b: Any,
    most: int,
    needed: Any,
) -> int:
    """Splits the parents `todo` by the rows of a gate, from where the bench b stands.

    forced: (keys, signs) of what was settled by other means. Returns DONE; ENOUGH, where there are
    `most` children; FULL, where a cell has more facets than bits; or what the bench lacks, and how
    much of it in `needed`.
    """
    state = b.state
    while True:
        if state[DEPTH] == 0:
            if state[TURN] + 1 == len(todo):
                return DONE
            lack = begin(d, words, todo[state[TURN] + 1], cells, gate, forced, b, needed)
            if lack != DONE:
                return lack
            state[TURN] += 1
        else:
            lack = step(d, words, todo[state[TURN]], gate, forced, b, needed)
            if lack != DONE:
                return lack
        if state[OPEN] > state[MARK + 3]:
            take_back(state)
        if state[CHILD] >= most:
            return ENOUGH


@kernel
def take_back(state: Any) -> None:
    """A sign of the parent is open: it has no children yet. What it would go on to make might be
    wrong, and other parents share its vertices, so it ends here."""
    for i in range(3):
        state[CHILD + i] = state[MARK + i]
    state[MARK + 3] = state[OPEN]
    state[DEPTH] = 0


@inner
def begin(
    d: int, words: int, p: int, cells: Any, gate: Any, forced: Any, b: Any, needed: Any
) -> int:
    """Parent p as the one cell of the stack, with the signs of the rows that come near it."""
    first, m = cells.ptr[p], cells.ptr[p + 1] - cells.ptr[p]
    face_at, faces = cells.facet_ptr[p], cells.facet_ptr[p + 1] - cells.facet_ptr[p]
    k = near_rows(d, p, gate, cells, first, m, b)
    kw = (k + 63) >> 6
    if m * (kw + 1) > len(b.local.plus):
        needed[0] = m * (kw + 1)
        return MORE_LOCAL
    if m > len(b.stack.vertex) or faces > len(b.stack.facet):
        needed[0], needed[1], needed[2] = m, faces, 1
        return MORE_STACK
    for i in range(4):
        b.state[MARK + i] = b.state[CHILD + i]
    for v in range(m):
        g = cells.vertex[first + v]
        b.stack.vertex[v], b.local.vertex[v] = v, g
        b.turn.number[g], b.turn.turn[g] = v, p
        for w in range(words):
            b.stack.mask[v, w] = cells.mask[first + v, w]
        if load_signs(d, kw, k, p, v, g, b, forced):
            own = cells.mask[first + v]
            choose(d, words, own, own, cells.facet[face_at : face_at + faces], b, d)
            for c in range(k):
                record(d, c, p, g, b, forced)
    for i in range(faces):
        b.stack.facet[i] = cells.facet[face_at + i]
    for w in range(kw):
        b.stack.plus[0, w] = b.stack.minus[0, w] = 0
    for v in range(m):
        see(b.local, kw, v, b.stack, 0)
    spans = b.stack.spans
    spans[0, 0], spans[0, 1], spans[0, 2], spans[0, 3] = 0, m, 0, faces
    b.state[DEPTH], b.state[NEAR], b.state[LOCALS] = 1, k, m
    return DONE


@inner
def near_rows(d: int, p: int, gate: Any, cells: Any, first: int, m: int, b: Any) -> int:
    """Which rows may cross the parent: how many; the sides of the others go to near.base.

    Where all parents have the same rows, one of them tells the signs at a vertex for all: a row is
    one continuous function, whatever its form in a cell (behind a jump, cells share no vertices).
    """
    near, seen, own = b.near, b.seen, len(gate.who) > 1
    for i in range(first, first + m):
        g = cells.vertex[i]
        if seen.by[g] < 0 or (own and seen.by[g] != p):
            tell(d, p, gate, b.points, g, near.look, seen)
    for i in range(len(near.base)):
        near.base[i] = 0
    k, n, f, e = 0, gate.form.shape[2], gate.form[p], p if len(gate.error) > 1 else 0
    for w in range((n + 63) >> 6):
        plus = minus = np.uint64(0)
        told = ~plus
        for i in range(first, first + m):
            up, down = seen.plus[cells.vertex[i], w], seen.minus[cells.vertex[i], w]
            plus, minus, told = plus | up, minus | down, told & (up | down)
        doubtful = (plus & minus) | ~told
        for j in range(64 * w, min(n, 64 * w + 64)):
            bit = ONE << np.uint64(j & 63)
            if doubtful & bit:
                near.number[k], near.row[k], near.error[k] = j, -1, gate.error[e, j]
                for i in range(d + 1):
                    near.form[k, i] = f[i, j]
                k += 1
            elif plus & bit:
                near.base[j >> 3] |= np.uint8(128 >> (j & 7))
    return k


@inner
def tell(d: int, p: int, gate: Any, points: Any, g: int, look: Any, seen: Any) -> None:
    """The signs of all rows of parent p at vertex g, as far as floats prove them."""
    f, value, off, share = gate.form[p], look[0], look[1], (d + 3) * U
    n, e = len(value), p if len(gate.error) > 1 else 0
    for j in range(n):
        value[j], off[j] = f[d, j], gate.error[e, j] + share * abs(f[d, j])
    for a in range(d):
        x = points.position[g, a]
        reach = points.radius[g] + share * abs(x)
        for j in range(n):
            value[j] += f[a, j] * x
            off[j] += abs(f[a, j]) * reach
    for w in range((n + 63) >> 6):
        up = down = np.uint64(0)
        for j in range(64 * w, min(n, 64 * w + 64)):
            bound = off[j] * (1 + 64 * U)
            if value[j] > bound:
                up |= ONE << np.uint64(j & 63)
            elif value[j] < -bound:
                down |= ONE << np.uint64(j & 63)
        seen.plus[g, w], seen.minus[g, w] = up, down
    seen.by[g] = p


@inner
def step(d: int, words: int, p: int, gate: Any, forced: Any, b: Any, needed: Any) -> int:
    """The cell on top of the stack: a child, or cut in two; or what the bench lacks for it."""
    state, spans, stack, s = b.state, b.stack.spans, b.stack, b.scratch
    depth, kw = state[DEPTH] - 1, (state[NEAR] + 63) >> 6
    at, m, facet_at, faces = (spans[depth, 0], spans[depth, 1], spans[depth, 2], spans[depth, 3])
    cut = crossing(stack, depth, kw)
    if cut < 0:
        needed[0], needed[1], needed[2] = state[CHILD] + 2, state[PLACE] + m, state[FACET] + faces
        out = b.out
        if needed[0] > len(out.parent) or (
            needed[1] > len(out.vertex) or needed[2] > len(out.facet)
        ):
            return MORE_OUT
        faces = packed(words, stack, at, m, facet_at, faces, s.place)
        keep(words, p, gate.tie, b, at, m, facet_at, faces)
        state[DEPTH] = depth
        return DONE
    if faces >= 64 * words:
        faces = packed(words, stack, at, m, facet_at, faces, s.place)
        spans[depth, 3] = faces
        if faces >= 64 * words:
            return FULL
    if b.near.row[cut] < 0:
        if state[ROW] + 1 > len(b.rows.row):
            needed[0] = state[ROW] + 1
            return MORE_ROWS
        enter_row(d, p, cut, gate, b)
    if m > len(s.vertex):
        needed[0], needed[1] = m, 0
        return MORE_SCRATCH
    lift(words, s, stack, at, m, facet_at, faces)
    ups, downs = sort_sides(words, kw, cut, b.local, s, m)
    if ups * downs > len(s.edge):  # no more edges than pairs
        needed[0], needed[1] = 0, ups * downs
        return MORE_SCRATCH
    crossed = edges_cut(d, words, s, m, ups, downs)
    gap = at + m - ups + crossed
    needed[0], needed[1] = gap + m - downs + crossed, facet_at + 2 * (faces + 1)
    lack = room(b, crossed, kw, depth, needed)
    if lack != DONE:
        return lack
    low, high = part(words, kw, cut, faces, b.local, s, m, stack, at, gap, depth)
    meet(d, words, kw, cut, p, faces, crossed, low, high, depth, b, forced)
    close(stack, s, depth, at, gap, high + crossed, facet_at, faces, b.near.row[cut])
    state[DEPTH] = depth + 2
    return DONE


@inner
def room(b: Any, crossed: int, kw: int, depth: int, needed: Any) -> int:
    """Is there room for a cut with so many new vertices, and needed[:2] places and facets?"""
    state, stack = b.state, b.stack
    needed[2] = depth + 2
    if (
        needed[0] > len(stack.vertex)
        or needed[1] > len(stack.facet)
        or needed[2] > len(stack.spans)
    ):
        return MORE_STACK
    needed[0] = state[VERTEX] + crossed
    if needed[0] > len(b.points.radius):
        return MORE_POINTS
    needed[0] = (state[LOCALS] + crossed) * (kw + 1)
    if needed[0] > len(b.local.plus):
        return MORE_LOCAL
    return MORE_EDGES if 2 * (state[EDGES] + crossed) > len(b.edges) else DONE


@inner
def enter_row(d: int, p: int, cut: int, gate: Any, b: Any) -> None:
    """Near row `cut` of parent p becomes a row of the pool."""
    r, near, rows = b.state[ROW], b.near, b.rows
    for i in range(d + 1):
        rows.row[r, i] = near.form[cut, i]
    rows.error[r] = near.error[cut]
    rows.who[r] = gate.who[p if len(gate.who) > 1 else 0, near.number[cut]]
    near.row[cut] = r
    b.state[ROW] = r + 1


@inner
def crossing(stack: Any, depth: int, kw: int) -> int:
    """The first row with both signs on the cell, or -1."""
    cut = -1
    for w in range(kw):
        both = stack.plus[depth, w] & stack.minus[depth, w]
        if both and cut < 0:
            cut = 64 * w + lowest(both)
    return cut


@inner
def keep(words: int, p: int, tie: Any, b: Any, at: int, m: int, facet_at: int, faces: int) -> None:
    """The cell is crossed by nothing: a child of p, with the sides it lies on."""
    state, out, near, local, stack = b.state, b.out, b.near, b.local, b.stack
    c, start, face_at, k = state[CHILD], state[PLACE], state[FACET], state[NEAR]
    kw = (k + 63) >> 6
    out.parent[c] = p
    for i in range(len(near.base)):
        out.bits[c, i] = near.base[i]
    for w in range(kw):
        plus, minus = stack.plus[state[DEPTH] - 1, w], stack.minus[state[DEPTH] - 1, w]
        for i in range(64 * w, min(k, 64 * w + 64)):
            bit, j = ONE << np.uint64(i & 63), near.number[i]
            if plus & bit or (not minus & bit and tie[j]):
                out.bits[c, j >> 3] |= np.uint8(128 >> (j & 7))
    for v in range(m):
        out.vertex[start + v] = local.vertex[stack.vertex[at + v]]
        for w in range(words):
            out.mask[start + v, w] = stack.mask[at + v, w]
    for i in range(faces):
        out.facet[face_at + i] = stack.facet[facet_at + i]
    out.ptr[c + 1], out.facet_ptr[c + 1] = start + m, face_at + faces
    state[CHILD], state[PLACE], state[FACET] = c + 1, start + m, face_at + faces
