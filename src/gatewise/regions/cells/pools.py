"""The arrays that the kernels work on, by name, and how they grow between calls."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

P = TypeVar("P", bound=tuple[Any, ...])

# places in the state of a run: how many of each there are so far, then where the run stands
VERTEX, ROW, CHILD, PLACE, FACET, OPEN = range(6)
TURN, DEPTH, NEAR, LOCALS, EDGES, MARK = range(6, 12)  # MARK and 3 more: CHILD .. OPEN before
STATE = 16
DONE, MORE_OUT, MORE_POINTS, MORE_ROWS, MORE_LOCAL, MORE_STACK, MORE_SCRATCH, MORE_EDGES = range(8)
FULL, ENOUGH = 8, 9
RECORDS = 4096  # open signs kept in one run; what more there is comes up again in the next


class Points(NamedTuple):
    """Vertices: position (V, d), radius of its error, and a key that is the same in every cell."""

    position: Any
    radius: Any
    key: Any


class Rows(NamedTuple):
    """Hyperplanes a.s + b = 0: (N, d + 1), bound on the error over the box, and whose they are."""

    row: Any
    error: Any
    who: Any


class Cells(NamedTuple):
    """Cell c has the vertices ptr[c]..ptr[c+1], each with its facets as bits (places, words)."""

    ptr: Any
    vertex: Any
    mask: Any
    facet_ptr: Any
    facet: Any


class Children(NamedTuple):
    """Cells with the parent of each and the side of every row it is on, packed (big end first)."""

    parent: Any
    bits: Any
    ptr: Any
    vertex: Any
    mask: Any
    facet_ptr: Any
    facet: Any


class Forms(NamedTuple):
    """The rows of a gate on each parent: form (P, d + 1, n), error and who (P or 1, n).

    reach (d,): the largest |s_i| in the box; tie (n,): the side of a row that is zero on a cell.
    """

    form: Any
    error: Any
    who: Any
    reach: Any
    tie: Any


class Open(NamedTuple):
    """Signs left open: of which row of which parent, the key, and who is zero at the vertex."""

    parent: Any
    form: Any
    key: Any
    who: Any


class Near(NamedTuple):
    """The rows that come near one parent: number in the gate, row of the pool (or -1), the form.

    look (2, n): what decides that; base: the packed sides of the rows that do not come near.
    """

    number: Any
    row: Any
    form: Any
    error: Any
    look: Any
    base: Any


class Seen(NamedTuple):
    """Signs of a gate's rows at the parents' vertices, as bits a row (V, words): both 0 where they
    are not proven; by (V,): the parent whose rows they are, -1 for none yet."""

    by: Any
    plus: Any
    minus: Any


class Local(NamedTuple):
    """The vertices of one parent and its descendants: place in the pool, signs as bits a row."""

    vertex: Any
    plus: Any
    minus: Any


class Turn(NamedTuple):
    """Of each vertex of the pool: its local number, which holds where turn is the parent's."""

    number: Any
    turn: Any


class Stack(NamedTuple):
    """Cells not yet done, one on top of the other: cell i has `spans[i]` = (at, n, at, n) of
    vertices (local numbers, with their masks) and facets (rows).

    plus, minus (cells, words): the rows that some vertex of a cell lies strictly on that side of.
    """

    spans: Any
    plus: Any
    minus: Any
    vertex: Any
    mask: Any
    facet: Any


class Scratch(NamedTuple):
    """Room for one cut: the cell as it was, its vertices by side, the edges cut.

    above, below (words,): the facets that a vertex strictly on that side lies on.
    """

    vertex: Any
    mask: Any
    facet: Any
    up: Any
    down: Any
    edge: Any
    low: Any
    flag: Any
    above: Any
    below: Any
    place: Any


class Desk(NamedTuple):
    """Room for picking d rows and solving them; limit (1,): the radius above which it is done."""

    chosen: Any
    listed: Any
    work: Any
    spot: Any
    limit: Any


class Bench(NamedTuple):
    """Everything a run works on besides its parents; `edges` is an open table (key, vertex)."""

    state: Any
    out: Any
    points: Any
    rows: Any
    near: Any
    seen: Any
    local: Any
    turn: Any
    stack: Any
    scratch: Any
    desk: Any
    edges: Any
    open: Any


def grown(array: Any, needed: int, fill: int | None = None) -> Any:
    """A copy of at least twice the length with room for `needed`; or the array, if it has that."""
    if needed <= len(array):
        return array
    bigger = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    if fill is not None:
        bigger[len(array) :] = fill
    return bigger


def all_grown(arrays: P, needed: int, *names: str) -> P:
    """The named arrays, or all of them, with room for `needed`."""
    chosen = names or arrays._fields  # type: ignore[attr-defined]
    return arrays._replace(  # type: ignore[attr-defined]
        **{name: grown(getattr(arrays, name), needed) for name in chosen}
    )


def new_bench(
    d: int, words: int, n: int, points: Points, rows: Rows, cells: int, limit: float
) -> Bench:
    """A bench for `n` rows and so many parents."""
    state = np.zeros(STATE, np.int64)
    state[VERTEX], state[ROW], state[TURN] = len(points.radius), len(rows.error), -1
    guess, parents = 64 + 4 * cells, len(points.radius)
    out = Children(
        np.empty(guess, np.int32),
        np.empty((guess, (n + 7) // 8), np.uint8),
        np.zeros(guess + 1, np.int64),
        np.empty(2**d * guess, np.int32),
        np.empty((2**d * guess, words), np.uint64),
        np.zeros(guess + 1, np.int64),
        np.empty(2 * d * guess, np.int32),
    )
    points = all_grown(points, len(points.radius) + guess)
    return Bench(
        state,
        out,
        points,
        all_grown(rows, len(rows.error) + guess),
        Near(
            np.empty(n, np.int64),
            np.empty(n, np.int64),
            np.empty((n, d + 1)),
            np.empty(n),
            np.empty((2, n)),
            np.empty((n + 7) // 8, np.uint8),
        ),
        Seen(
            np.full(parents, -1, np.int32),
            np.empty((parents, n // 64 + 1), np.uint64),
            np.empty((parents, n // 64 + 1), np.uint64),
        ),
        Local(np.empty(64, np.int64), np.empty(64, np.uint64), np.empty(64, np.uint64)),
        Turn(np.empty(len(points.radius), np.int32), np.full(len(points.radius), -1, np.int32)),
        Stack(
            np.empty((64, 4), np.int64),
            np.empty((64, n // 64 + 1), np.uint64),
            np.empty((64, n // 64 + 1), np.uint64),
            np.empty(512, np.int32),
            np.empty((512, words), np.uint64),
            np.empty(512, np.int32),
        ),
        _scratch(words),
        Desk(
            np.empty(d, np.int64),
            np.empty(64 * words, np.int64),
            np.empty((64 * words + d, 2 * d + 2)),
            np.empty(d),
            np.full(1, limit),
        ),
        np.full((1 << (4 * guess).bit_length(), 2), -1, np.int64),
        Open(
            np.empty(RECORDS, np.int32),
            np.empty(RECORDS, np.int32),
            np.empty(RECORDS, np.uint64),
            np.empty((RECORDS, d), np.int64),
        ),
    )


def _scratch(words: int) -> Scratch:
    """Room for cells of 64 vertices."""
    return Scratch(
        np.empty(64, np.int32),
        np.empty((64, words), np.uint64),
        np.empty(64 * words + 1, np.int32),
        np.empty(64, np.int32),
        np.empty(64, np.int32),
        np.empty((256, 2), np.int32),
        np.empty(64, np.uint64),
        np.empty(64, np.uint64),
        np.empty(words, np.uint64),
        np.empty(words, np.uint64),
        np.empty(64 * words + 1, np.int64),
    )


def more(b: Bench, what: int, needed: Any) -> Bench:
    """The bench with more of what a run ran out of: needed (4,), as the kernel says it."""
    if what == MORE_OUT:
        cells, places, facets = (int(x) for x in needed[:3])
        out = all_grown(b.out, cells, "parent", "bits")
        out = all_grown(out, len(out.parent) + 1, "ptr", "facet_ptr")
        out = all_grown(out, places, "vertex", "mask")
        return b._replace(out=all_grown(out, facets, "facet"))
    most = int(needed[0])
    if what == MORE_POINTS:
        points = all_grown(b.points, most)
        size = len(points.radius)
        turn = Turn(grown(b.turn.number, size), grown(b.turn.turn, size, -1))
        return b._replace(points=points, turn=turn)
    if what == MORE_ROWS:
        return b._replace(rows=all_grown(b.rows, most))
    if what == MORE_LOCAL:
        return b._replace(local=all_grown(b.local, most))
    if what == MORE_STACK:
        stack = all_grown(b.stack, most, "vertex", "mask")
        stack = all_grown(stack, int(needed[1]), "facet")
        return b._replace(stack=all_grown(stack, int(needed[2]), "spans", "plus", "minus"))
    if what == MORE_SCRATCH:
        s = all_grown(b.scratch, most, "vertex", "mask", "up", "down", "low", "flag")
        return b._replace(scratch=all_grown(s, int(needed[1]), "edge"))
    from gatewise.regions.cells.halves import rehash

    bigger = np.full((2 * len(b.edges), 2), -1, np.int64)
    rehash(b.edges, bigger)
    return b._replace(edges=bigger)
