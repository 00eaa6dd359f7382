"""A chunk of cells on its way through the gates, and how one gate makes chunks of the children."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gatewise.ir.kinds import Pieces
from gatewise.ir.pattern import layout, row_bytes
from gatewise.regions.cells import bounds, kernel
from gatewise.regions.cells.bounds import Bounds
from gatewise.regions.cells.pools import (
    CHILD,
    DONE,
    ENOUGH,
    FACET,
    FULL,
    OPEN,
    PLACE,
    ROW,
    VERTEX,
    Cells,
    Children,
    Forms,
    Open,
    Points,
    Rows,
    more,
    new_bench,
)
from gatewise.regions.cells.signs import Signs
from gatewise.regions.cells.slices import Slice
from gatewise.regions.cells.stages import (
    Columns,
    Plan,
    start,
)
from gatewise.regions.cells.subset import subset

Bits = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SLACK = 2.0**-34  # of the box: the radius up to which a vertex is interpolated, not solved
WHOLE = ("parent", "bits", "vertex", "mask", "facet")  # what of Children is joined end to end
LEAST = 512  # cells of a chunk: less does not pay for its own tables
FORM_BYTES = 1 << 24  # of the rows of one gate on one chunk's cells: what fits the caches


@dataclass(frozen=True, eq=False)
class Chunk:
    """Cells behind the first `stage` gates; `order` puts the leaves of the tree of chunks in line.

    values: what entered the last gate, of the cells before it, and parent (cells,): which of those
    each cell is from; in the root, the input's. bounds: of those values, on all cells.
    bits (cells, bytes): the pattern so far. weight: the share of the box's cells it stands for, as
    far as is known; guessed: signs that nothing could decide (taken as zero).
    """

    cells: Cells
    points: Points
    rows: Rows
    bits: Bits
    values: Columns
    bounds: Bounds
    stage: int
    parent: Ints | None = None
    order: tuple[int, ...] = ()
    weight: float = 1.0
    guessed: int = 0

    def __len__(self) -> int:
        return len(self.cells.ptr) - 1


def root(p: Plan) -> Chunk:
    """The box itself as the one cell."""
    cells, points, rows = box_cell(p.slice)
    bits = np.zeros((1, row_bytes(layout(p.network))), np.uint8)
    return Chunk(cells, points, rows, bits, start(p), bounds.start(p), 0)


def box_cell(where: Slice) -> tuple[Cells, Points, Rows]:
    """The box with its 2**k corners; row 2 i is s_i >= low_i, row 2 i + 1 is s_i <= high_i."""
    k = where.dimension
    corners = np.array(list(itertools.product((0, 1), repeat=k)), np.int32).reshape(2**k, k)
    place = 2 * np.arange(k) + corners
    masks = (np.uint64(1) << place.astype(np.uint64)).sum(1, dtype=np.uint64)
    n = len(corners)
    rows = np.zeros((2 * k, k + 1))
    rows[0::2, :k], rows[1::2, :k] = np.eye(k), -np.eye(k)
    rows[0::2, k], rows[1::2, k] = -where.low, where.high
    cells = Cells(
        np.array([0, n]),
        np.arange(n, dtype=np.int32),
        masks[:, None],
        np.array([0, 2 * k]),
        np.arange(2 * k, dtype=np.int32),
    )
    keys = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    points = Points(np.where(corners, where.high, where.low), np.zeros(n), keys)
    return cells, points, Rows(rows, np.zeros(2 * k), -1 - np.arange(2 * k))


@dataclass(frozen=True, eq=False)
class Split:
    """What one gate made of a chunk: the children, the packed sides of their rows, their parent."""

    cells: Cells
    points: Points
    rows: Rows
    parent: NDArray[np.int32]
    sides: Bits
    guessed: int


def apart(chunk: Chunk) -> Chunk:
    """The chunk with vertices for each cell alone: none of its edges is another one's."""
    points = Points(*(a[chunk.cells.vertex] for a in chunk.points))
    cells = chunk.cells._replace(vertex=np.arange(len(points.key), dtype=np.int32))
    return replace(chunk, cells=cells, points=points)


def own_keys(chunk: Chunk, made: Split) -> Split:
    """New vertices under keys that their parent's pattern goes into: they are no other cell's."""
    words = np.ascontiguousarray(chunk.bits).view(np.uint64)
    odd = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    name = ((words ^ (words >> np.uint64(31))) * odd).sum(1, dtype=np.uint64)
    owner = np.zeros(len(made.points.key), np.int64)
    owner[made.cells.vertex] = np.repeat(made.parent, np.diff(made.cells.ptr))
    key, old = made.points.key.copy(), len(chunk.points.key)
    key[old:] ^= name[owner[old:]] * np.uint64(0xD6E8FEB86659FD93)
    return replace(made, points=made.points._replace(key=key))


def split_rows(chunk: Chunk, forms: Forms, decide: Signs, most: int = sys.maxsize) -> Split:
    """The kernel, called again for the parents that had open signs, until none has; or until there
    are `most` children, and perhaps more."""
    d, todo = forms.form.shape[1] - 1, np.arange(len(chunk))
    cells, points, rows = chunk.cells, chunk.points, chunk.rows
    known: dict[int, int] = {}
    parts: list[Children] = []
    guessed, needed = 0, np.zeros(4, np.int64)
    limit = SLACK * float(forms.reach.max(initial=0.0))
    while len(todo):
        keys = np.array(sorted(known), np.uint64)
        forced = keys, np.array([known[k] for k in sorted(known)], np.int8)
        words = cells.mask.shape[1]
        bench = new_bench(d, words, forms.form.shape[2], points, rows, len(todo), limit)
        while True:
            lack = kernel.run(d, words, todo, cells, forms, forced, bench, most, needed)
            if lack in (DONE, FULL, ENOUGH):
                break
            bench = more(bench, lack, needed)
        count, open_ = bench.state, bench.open
        if lack == FULL:
            wider = np.zeros((len(cells.mask), 2 * words), np.uint64)
            wider[:, :words] = cells.mask
            cells = cells._replace(mask=wider)
            parts = [_widened(part, 2 * words) for part in parts]
            continue
        points = Points(*(a[: count[VERTEX]] for a in bench.points))
        rows = Rows(*(a[: count[ROW]] for a in bench.rows))
        made = _trimmed(bench.out, count)
        parts.append(made)
        most -= len(made.parent)
        # every parent has children, or signs to settle
        todo = np.setdiff1d(todo, made.parent) if most > 0 else todo[:0]
        if len(parts) == 1:
            forms = _vanishing(chunk, forms, decide, todo)
        guessed += _settle(chunk, forms, decide, open_, int(count[OPEN]), known)
    children = parts[0] if len(parts) == 1 else _joined(parts)
    cells = Cells(*(getattr(children, name) for name in Cells._fields))
    return Split(cells, points, rows, children.parent, children.bits, guessed)


def _vanishing(chunk: Chunk, forms: Forms, decide: Signs, some: Ints) -> Forms:
    """The rows that are exactly zero on one of these cells made so, with no error: units that tie
    all over a cell, as in a lattice, would be asked about at every vertex."""
    if not len(some):
        return forms
    error = np.repeat(forms.error, len(chunk) // len(forms.error), 0)
    for p in some.tolist():
        who = forms.who[p if len(forms.who) > 1 else 0]
        zero = decide.vanish(chunk.bits[p : p + 1], who)
        forms.form[p][:, zero] = 0.0
        error[p, zero] = 0.0
    return forms._replace(error=error)


def _settle(
    chunk: Chunk, forms: Forms, decide: Signs, open_: Open, count: int, known: dict[int, int]
) -> int:
    """Decides the open signs into `known`; returns how many could not be, and count as zero."""
    guessed, vanished = 0, ~forms.form.any(1) & (forms.error == 0)
    for r in range(min(count, len(open_.key))):
        p, key = int(open_.parent[r]), int(open_.key[r])
        if key in known or vanished[p, open_.form[r]]:
            continue
        who = int(forms.who[p if len(forms.who) > 1 else 0, open_.form[r]])
        sign = decide(chunk.bits[p : p + 1], open_.who[r].tolist(), who)
        guessed += sign is None
        known[key] = sign or 0
    return guessed


def _trimmed(c: Children, count: NDArray[np.int64]) -> Children:
    cells, places, facets = (int(count[i]) for i in (CHILD, PLACE, FACET))
    return Children(
        c.parent[:cells],
        c.bits[:cells],
        c.ptr[: cells + 1],
        c.vertex[:places],
        c.mask[:places],
        c.facet_ptr[: cells + 1],
        c.facet[:facets],
    )


def _widened(c: Children, words: int) -> Children:
    mask = np.zeros((len(c.mask), words), np.uint64)
    mask[:, : c.mask.shape[1]] = c.mask
    return c._replace(mask=mask)


def _joined(parts: list[Children]) -> Children:
    """The children of several calls, by parent again."""
    whole = {name: np.concatenate([getattr(c, name) for c in parts]) for name in WHOLE}
    ptr, facet_ptr = (
        starts(np.concatenate([np.diff(getattr(c, name)) for c in parts]))
        for name in ("ptr", "facet_ptr")
    )
    joined = Children(**whole, ptr=ptr, facet_ptr=facet_ptr)
    order = np.argsort(joined.parent, kind="stable")
    return _taken(joined, order)


def starts(lengths: Ints) -> Ints:
    """Where each row of a ragged array starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _taken(c: Children, order: NDArray[np.int64]) -> Children:
    places, ptr = picked(c.ptr, order)
    faces, facet_ptr = picked(c.facet_ptr, order)
    return Children(
        c.parent[order],
        c.bits[order],
        ptr,
        c.vertex[places],
        c.mask[places],
        facet_ptr,
        c.facet[faces],
    )


def picked(
    ptr: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the entries of the rows `order` of a ragged array lie, and their new starts."""
    length = np.diff(ptr)[order]
    start = starts(length)
    return np.repeat(ptr[order] - start[:-1], length) + np.arange(start[-1]), start


def divided(p: Plan, chunk: Chunk, workers: int) -> Iterator[Chunk]:
    """The chunk as several small enough for the next gate, and enough of them for all workers."""
    stage = p.stages[chunk.stage]
    kind, between = stage.gate.kind, [math.prod(node.shape) for node in stage.before]
    asked = math.prod(stage.gate.shape) * (len(kind.knots) if isinstance(kind, Pieces) else 1)
    most = max(1, FORM_BYTES // (8 * max(asked, *between, 1) * (p.slice.dimension + 1)))
    step = min(most, p.most, max(LEAST, -(-len(chunk) // (2 * workers))))
    if step >= len(chunk):
        yield chunk
        return
    for i, first in enumerate(range(0, len(chunk), step)):
        part = span(chunk, first, min(first + step, len(chunk)))
        yield replace(part, order=(*chunk.order, i), guessed=chunk.guessed if i == 0 else 0)


def span(chunk: Chunk, first: int, last: int) -> Chunk:
    """Cells first..last of the chunk, with only the vertices, rows and values that they need."""
    cells, points, rows = subset(chunk.cells, chunk.points, chunk.rows, first, last)
    parent, values = chunk.parent, chunk.values
    if parent is not None and last > first:
        a, b = int(parent[first]), int(parent[last - 1]) + 1  # parents come in order
        parent = parent[first:last] - a
        values = {n: v if len(v) == 1 else v[a:b] for n, v in values.items()}
    return replace(
        chunk,
        cells=cells,
        points=points,
        rows=rows,
        bits=chunk.bits[first:last],
        values=values,
        parent=parent,
        weight=chunk.weight * (last - first) / len(chunk),
    )
