"""Some of a chunk's cells with only the vertices and rows that they need (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import compiled
from gatewise.regions.cells.pools import Cells, Points, Rows


@compiled
def _renumbered(used: Any, numbers: Any) -> int:
    """0, 1, 2 .. for what is used, in order, into `numbers`; returns how many."""
    n = 0
    for i in range(len(used)):
        if used[i]:
            numbers[i] = n
            n += 1
    return n


@compiled
def subset(cells: Any, points: Any, rows: Any, first: int, last: int) -> Any:
    """Cells first..last on their own."""
    a, b = cells.ptr[first], cells.ptr[last]
    fa, fb = cells.facet_ptr[first], cells.facet_ptr[last]
    d = points.position.shape[1]
    seen, place = np.zeros(len(points.radius), np.bool_), np.empty(len(points.radius), np.int32)
    for v in cells.vertex[a:b]:
        seen[v] = True
    n = _renumbered(seen, place)
    asked, row_place = np.zeros(len(rows.error), np.bool_), np.empty(len(rows.error), np.int32)
    for r in cells.facet[fa:fb]:
        asked[r] = True
    m = _renumbered(asked, row_place)
    position, radius = np.empty((n, d)), np.empty(n)
    key = np.empty(n, np.uint64)
    for v in range(len(seen)):
        if seen[v]:
            at = place[v]
            position[at], radius[at], key[at] = points.position[v], points.radius[v], points.key[v]
    row, error, who = np.empty((m, d + 1)), np.empty(m), np.empty(m, np.int64)
    for r in range(len(asked)):
        if asked[r]:
            at = row_place[r]
            row[at], error[at], who[at] = rows.row[r], rows.error[r], rows.who[r]
    vertex, facet = np.empty(b - a, np.int32), np.empty(fb - fa, np.int32)
    for i in range(b - a):
        vertex[i] = place[cells.vertex[a + i]]
    for i in range(fb - fa):
        facet[i] = row_place[cells.facet[fa + i]]
    own = Cells(
        cells.ptr[first : last + 1] - a,
        vertex,
        cells.mask[a:b].copy(),
        cells.facet_ptr[first : last + 1] - fa,
        facet,
    )
    return own, Points(position, radius, key), Rows(row, error, who)
