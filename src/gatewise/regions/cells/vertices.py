"""The vertices of the cells: made on the edges that are cut, with the signs of all rows near them.

On an edge whose ends lie on one side of a row, so does the new vertex: only rows with the ends on
opposite sides are evaluated there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import inner, kernel
from gatewise.regions.cells.bits import lowest, mixed, paired
from gatewise.regions.cells.halves import ONE, see, slot
from gatewise.regions.cells.points import UNDECIDED, between, independent, side, solve
from gatewise.regions.cells.pools import EDGES, LOCALS, NEAR, OPEN, RECORDS, VERTEX


@inner
def sign(d: int, c: int, p: int, g: int, b: Any, forced: Any) -> int:
    """The side of near row c that vertex g lies on, from floats or what is known; or UNDECIDED."""
    near, points = b.near, b.points
    s = side(d, near.form, c, near.error[c], points.position, g, points.radius[g])
    if s == UNDECIDED:
        s = known(forced[0], forced[1], sign_key(points.key[g], p, near.number[c]))
    return s


@kernel
def sign_key(vertex: Any, p: int, number: int) -> Any:
    """The key of the question on which side of a row of parent p a vertex lies."""
    return mixed(vertex ^ mixed(np.uint64((p << 32) | number)))


@kernel
def known(keys: Any, signs: Any, code: Any) -> Any:
    """The sign that was found by other means (keys in order), or UNDECIDED."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < code:
            low = middle + 1
        else:
            high = middle
    if low < len(keys) and keys[low] == code:
        return np.int64(signs[low])
    return UNDECIDED


@inner
def load_signs(d: int, kw: int, k: int, p: int, v: int, g: int, b: Any, forced: Any) -> bool:
    """The signs of the near rows at local vertex v; True where one is open (and zero for now)."""
    opened, seen = False, b.seen
    for w in range(kw):
        up = down = np.uint64(0)
        for c in range(64 * w, min(k, 64 * w + 64)):
            j, bit = b.near.number[c], ONE << np.uint64(c & 63)
            there = ONE << np.uint64(j & 63)
            if seen.plus[g, j >> 6] & there:
                up |= bit
            elif seen.minus[g, j >> 6] & there:
                down |= bit
            else:
                sided = sign(d, c, p, g, b, forced)
                if sided == 1:
                    up |= bit
                elif sided == -1:
                    down |= bit
                elif sided == UNDECIDED:
                    opened = True
        b.local.plus[v * kw + w], b.local.minus[v * kw + w] = up, down
    return opened


@kernel
def record(d: int, c: int, p: int, g: int, b: Any, forced: Any) -> None:
    """Near row c at vertex g, if open, with the rows in desk.chosen that define the vertex."""
    if sign(d, c, p, g, b, forced) != UNDECIDED:
        return
    r = b.state[OPEN]
    if r < RECORDS:
        number = b.near.number[c]
        b.open.parent[r], b.open.form[r] = p, number
        b.open.key[r] = sign_key(b.points.key[g], p, number)
        for i in range(d):
            b.open.who[r, i] = b.rows.who[b.desk.chosen[i]]
    b.state[OPEN] = r + 1


@kernel
def choose(d: int, words: int, mask: Any, other: Any, facet: Any, b: Any, want: int) -> None:
    """`want` independent rows, of the facets in both masks, into desk.chosen."""
    some, desk = 0, b.desk
    for w in range(words):
        word = mask[w] & other[w]
        while word:
            desk.listed[some] = facet[64 * w + lowest(word)]
            some += 1
            word &= word - ONE
    if some == want:
        for i in range(some):
            desk.chosen[i] = desk.listed[i]
    else:
        independent(d, b.rows.row, desk.listed, some, want, desk.chosen, desk.work)


@inner
def meet(
    d: int,
    words: int,
    kw: int,
    cut: int,
    p: int,
    faces: int,
    crossed: int,
    low: int,
    high: int,
    depth: int,
    b: Any,
    forced: Any,
) -> None:
    """The vertices on the cut edges of s go to both halves, each made where it is met first."""
    state, s, stack, edges = b.state, b.scratch, b.stack, b.edges
    pool, number, turn = b.local.vertex, b.turn.number, b.turn.turn
    word, face = faces >> 6, ONE << np.uint64(faces & 63)
    for e in range(crossed):
        u, v = s.edge[e, 0], s.edge[e, 1]
        i, j = np.int64(s.vertex[u]), np.int64(s.vertex[v])
        name = (min(pool[i], pool[j]) << 32) | max(pool[i], pool[j])
        where = slot(edges, name)
        g = edges[where, 1]
        if g < 0:
            g = state[VERTEX]
            state[VERTEX], state[EDGES] = g + 1, state[EDGES] + 1
            place_vertex(d, words, cut, g, pool[i], pool[j], u, v, b)
            edges[where, 0], edges[where, 1] = name, g
        if turn[g] != p:
            new = state[LOCALS]
            state[LOCALS] = new + 1
            pool[new], number[g], turn[g] = g, new, p
            if place_signs(d, kw, cut, i, j, new, p, b, forced):
                edge_rows(d, words, cut, u, v, b)
                for c in range(state[NEAR]):
                    if opposite(b.local, kw, c >> 6, cut, i, j) >> np.uint64(c & 63) & ONE:
                        record(d, c, p, g, b, forced)
        see(b.local, kw, number[g], stack, depth)
        see(b.local, kw, number[g], stack, depth + 1)
        stack.vertex[low] = stack.vertex[high] = number[g]
        for w in range(words):
            common = s.mask[u, w] & s.mask[v, w]
            stack.mask[low, w], stack.mask[high, w] = common, common
        stack.mask[low, word] |= face
        stack.mask[high, word] |= face
        low, high = low + 1, high + 1


@inner
def place_vertex(
    d: int, words: int, cut: int, g: int, i: int, j: int, u: int, v: int, b: Any
) -> None:
    """Vertex g of the pool on the edge (i, j); solved afresh where interpolation has lost much."""
    near, desk, where, radius = b.near, b.desk, b.points.position, b.points.radius
    r = between(d, near.form, cut, near.error[cut], where, radius, i, j, g)
    if r > desk.limit[0]:
        edge_rows(d, words, cut, u, v, b)
        fresh = solve(d, b.rows.row, b.rows.error, desk.chosen, desk.work, desk.spot)
        if fresh <= r:
            r = fresh
            for a in range(d):
                where[g, a] = desk.spot[a]
    radius[g] = r
    b.points.key[g] = paired(b.points.key[i], b.points.key[j])


@kernel
def edge_rows(d: int, words: int, cut: int, u: int, v: int, b: Any) -> None:
    """The rows of the edge (u, v) of the cell in s, and the one that cuts it, to desk.chosen."""
    choose(d, words, b.scratch.mask[u], b.scratch.mask[v], b.scratch.facet, b, d - 1)
    b.desk.chosen[d - 1] = b.near.row[cut]


@inner
def opposite(local: Any, kw: int, w: int, cut: int, i: int, j: int) -> Any:
    """Word w of the rows with i and j strictly on opposite sides, the cut itself left out."""
    across = (local.plus[i * kw + w] & local.minus[j * kw + w]) | (
        local.plus[j * kw + w] & local.minus[i * kw + w]
    )
    if w == cut >> 6:
        across &= ~(ONE << np.uint64(cut & 63))
    return across


@inner
def place_signs(
    d: int, kw: int, cut: int, i: int, j: int, new: int, p: int, b: Any, forced: Any
) -> bool:
    """The signs at local vertex `new` between i and j: theirs, but where those are opposite.

    True where some is left open (and zero for now).
    """
    local, opened = b.local, False
    g = local.vertex[new]
    for w in range(kw):
        across = opposite(local, kw, w, cut, i, j)
        up = (local.plus[i * kw + w] | local.plus[j * kw + w]) & ~across
        down = (local.minus[i * kw + w] | local.minus[j * kw + w]) & ~across
        if w == cut >> 6:
            up &= ~(ONE << np.uint64(cut & 63))
            down &= ~(ONE << np.uint64(cut & 63))
        while across:
            bit = across & (~across + ONE)
            sided = sign(d, 64 * w + lowest(across), p, g, b, forced)
            across &= across - ONE
            if sided == 1:
                up |= bit
            elif sided == -1:
                down |= bit
            elif sided == UNDECIDED:
                opened = True
        local.plus[new * kw + w], local.minus[new * kw + w] = up, down
    return opened
