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

from gatewise.numeric import kernel
from gatewise.regions.cells.bits import lowest, mixed, paired
from gatewise.regions.cells.halves import (
    ONE,
    close,
    edges_cut,
    lift,
    packed,
    part,
    slot,
    sort_sides,
)
from gatewise.regions.cells.points import UNDECIDED, U, between, independent, side, solve
from gatewise.regions.cells.pools import (
    CHILD,
    DEPTH,
    DONE,
    EDGES,
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
    RECORDS,
    ROW,
    TURN,
    VERTEX,
)


@kernel
def run(d: int, words: int, todo: Any, cells: Any, gate: Any, forced: Any, b: Any, needed: Any
        ) -> int:
    """Splits the parents `todo` by the rows of a gate, from where the bench b stands.

    forced: (keys, signs) of what was settled by other means. Returns DONE; or FULL, where a cell
    has more facets than bits; or what the bench lacks, and how much of it in `needed`.
    """
    state = b.state
    while True:
        if state[DEPTH] == 0:
            if state[TURN] >= 0:
                finish(state)
            if state[TURN] + 1 == len(todo):
                return DONE
            lack = begin(d, words, todo[state[TURN] + 1], cells, gate, forced, b, needed)
            if lack != DONE:
                return lack
            state[TURN] += 1
        lack = step(d, words, todo[state[TURN]], gate, forced, b, needed)
        if lack != DONE:
            return lack


@kernel
def finish(state: Any) -> None:
    """A parent is done: its children are taken back where one of its signs is open."""
    if state[OPEN] > state[MARK + 3]:
        for i in range(3):
            state[CHILD + i] = state[MARK + i]


@kernel
def begin(d: int, words: int, p: int, cells: Any, gate: Any, forced: Any, b: Any, needed: Any
          ) -> int:
    """Parent p as the one cell of the stack, with the signs of the rows that come near it."""
    first, m = cells.ptr[p], cells.ptr[p + 1] - cells.ptr[p]
    face_at, faces = cells.facet_ptr[p], cells.facet_ptr[p + 1] - cells.facet_ptr[p]
    bounds(d, p, gate, b.points, cells, first, m, b.near.look)
    k = near_rows(d, p, gate, b.near)
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
    spans = b.stack.spans
    spans[0, 0], spans[0, 1], spans[0, 2], spans[0, 3] = 0, m, 0, faces
    b.state[DEPTH], b.state[NEAR], b.state[LOCALS] = 1, k, m
    return DONE


@kernel
def bounds(d: int, p: int, gate: Any, points: Any, cells: Any, first: int, m: int, out: Any
           ) -> None:
    """out: smallest and largest value of each row at the vertices, and how far both may be off."""
    f, low, high, off, value = gate.form[p], out[0], out[1], out[2], out[3]
    n, radius = len(low), 0.0
    for j in range(n):
        low[j], high[j] = np.inf, -np.inf
    for i in range(first, first + m):
        v = cells.vertex[i]
        radius = max(radius, points.radius[v])
        for j in range(n):
            value[j] = f[d, j]
        for a in range(d):
            x = points.position[v, a]
            for j in range(n):
                value[j] += f[a, j] * x
        for j in range(n):
            low[j] = min(low[j], value[j])
            high[j] = max(high[j], value[j])
    g = (d + 3) * U
    for j in range(n):
        off[j] = gate.error[j] + g * abs(f[d, j])
    for a in range(d):
        reach = radius + g * gate.reach[a]
        for j in range(n):
            off[j] += abs(f[a, j]) * reach


@kernel
def near_rows(d: int, p: int, gate: Any, near: Any) -> int:
    """Which rows may cross the parent: how many; the sides of the others go to near.base."""
    k, f, look = 0, gate.form[p], near.look
    for i in range(len(near.base)):
        near.base[i] = 0
    for j in range(f.shape[1]):
        if look[0, j] > look[2, j]:
            near.base[j >> 3] |= np.uint8(128 >> (j & 7))
        elif not look[1, j] < -look[2, j]:
            near.number[k], near.row[k], near.error[k] = j, -1, gate.error[j]
            for i in range(d + 1):
                near.form[k, i] = f[i, j]
            k += 1
    return k


@kernel
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
def known(keys: Any, signs: Any, code: Any) -> int:
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


@kernel
def load_signs(d: int, kw: int, k: int, p: int, v: int, g: int, b: Any, forced: Any) -> bool:
    """The signs of the near rows at local vertex v; True where one is open (and zero for now)."""
    opened = False
    for w in range(kw):
        up = down = np.uint64(0)
        for c in range(64 * w, min(k, 64 * w + 64)):
            sided = sign(d, c, p, g, b, forced)
            if sided == 1:
                up |= ONE << np.uint64(c & 63)
            elif sided == -1:
                down |= ONE << np.uint64(c & 63)
            elif sided == UNDECIDED:
                opened = True
        b.local.plus[v * kw + w], b.local.minus[v * kw + w] = up, down
    return opened


@kernel
def record(d: int, c: int, p: int, g: int, b: Any, forced: Any) -> None:
    """Near row c at vertex g, if it is open, with the rows in desk.chosen that define the vertex."""
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


@kernel
def step(d: int, words: int, p: int, gate: Any, forced: Any, b: Any, needed: Any) -> int:
    """The cell on top of the stack: a child, or cut in two; or what the bench lacks for it."""
    state, spans, stack, s = b.state, b.stack.spans, b.stack, b.scratch
    depth, kw = state[DEPTH] - 1, (state[NEAR] + 63) >> 6
    at, m, facet_at, faces = (
        spans[depth, 0], spans[depth, 1], spans[depth, 2], spans[depth, 3]
    )
    cut = crossing(b.local, kw, stack, at, m)
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
    lack = room(b, crossed, kw, gap + m - downs + crossed, facet_at + 2 * (faces + 1), depth, needed)
    if lack != DONE:
        return lack
    low, high = part(words, kw, cut, faces, b.local, s, m, stack, at, gap)
    meet(d, words, kw, cut, p, faces, crossed, low, high, b, forced)
    close(
        words, stack, s, depth, at, low + crossed, gap, high + crossed, facet_at, faces,
        b.near.row[cut],
    )
    state[DEPTH] = depth + 2
    return DONE


@kernel
def room(
    b: Any, crossed: int, kw: int, places: int, facets: int, depth: int, needed: Any
) -> int:
    """Is there room for a cut with so many new vertices?"""
    if places > len(b.stack.vertex) or facets > len(b.stack.facet) or depth + 2 > len(b.stack.spans):
        needed[0], needed[1], needed[2] = places, facets, depth + 2
        return MORE_STACK
    if b.state[VERTEX] + crossed > len(b.points.radius):
        needed[0] = b.state[VERTEX] + crossed
        return MORE_POINTS
    if (b.state[LOCALS] + crossed) * (kw + 1) > len(b.local.plus):
        needed[0] = (b.state[LOCALS] + crossed) * (kw + 1)
        return MORE_LOCAL
    if 2 * (b.state[EDGES] + crossed) > len(b.edges):
        return MORE_EDGES
    return DONE


@kernel
def enter_row(d: int, p: int, cut: int, gate: Any, b: Any) -> None:
    """Near row `cut` of parent p becomes a row of the pool."""
    r, near, rows = b.state[ROW], b.near, b.rows
    for i in range(d + 1):
        rows.row[r, i] = near.form[cut, i]
    rows.error[r] = near.error[cut]
    rows.who[r] = gate.who[p if len(gate.who) > 1 else 0, near.number[cut]]
    near.row[cut] = r
    b.state[ROW] = r + 1


@kernel
def crossing(local: Any, kw: int, stack: Any, at: int, m: int) -> int:
    """The first row with both signs on the cell, or -1."""
    for w in range(kw):
        plus = minus = np.uint64(0)
        for v in range(at, at + m):
            place = stack.vertex[v] * kw + w
            plus |= local.plus[place]
            minus |= local.minus[place]
        if plus & minus:
            return 64 * w + lowest(plus & minus)
    return -1


@kernel
def keep(
    words: int, p: int, tie: Any, b: Any, at: int, m: int, facet_at: int, faces: int
) -> None:
    """The cell is crossed by nothing: a child of p, with the sides it lies on."""
    state, out, near, local, stack = b.state, b.out, b.near, b.local, b.stack
    c, start, face_at, k = state[CHILD], state[PLACE], state[FACET], state[NEAR]
    kw = (k + 63) >> 6
    out.parent[c] = p
    for i in range(len(near.base)):
        out.bits[c, i] = near.base[i]
    for w in range(kw):
        plus = minus = np.uint64(0)
        for v in range(at, at + m):
            plus |= local.plus[stack.vertex[v] * kw + w]
            minus |= local.minus[stack.vertex[v] * kw + w]
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


@kernel
def meet(
    d: int, words: int, kw: int, cut: int, p: int, faces: int, crossed: int, low: int, high: int,
    b: Any, forced: Any,
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
        stack.vertex[low] = stack.vertex[high] = number[g]
        for w in range(words):
            common = s.mask[u, w] & s.mask[v, w]
            stack.mask[low, w], stack.mask[high, w] = common, common
        stack.mask[low, word] |= face
        stack.mask[high, word] |= face
        low, high = low + 1, high + 1


@kernel
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


@kernel
def opposite(local: Any, kw: int, w: int, cut: int, i: int, j: int) -> Any:
    """Word w of the rows that i and j lie strictly on opposite sides of, the cut itself left out."""
    across = (local.plus[i * kw + w] & local.minus[j * kw + w]) | (
        local.plus[j * kw + w] & local.minus[i * kw + w]
    )
    if w == cut >> 6:
        across &= ~(ONE << np.uint64(cut & 63))
    return across


@kernel
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
