"""Chunks of cells put together: one vertex for each key, and polygons in order (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import kernel
from gatewise.regions.cells.bits import mixed


def first_of(key: Any, used: Any) -> tuple[Any, Any]:
    """place (all,): the number of each vertex among the distinct ones in use (bool); first: where
    each of those is. Distinct is by key; what no cell uses gets no number."""
    size = 1 << int(2 * len(key)).bit_length()
    table, place = np.full(size, -1, np.int64), np.full(len(key), -1, np.int64)
    first = np.empty(len(key), np.int64)
    n = _number(key, used, table, place, first)
    return place, first[:n].copy()


@kernel
def _number(key: Any, used: Any, table: Any, place: Any, first: Any) -> int:
    n, last = 0, np.uint64(len(table) - 1)
    for v in range(len(used)):
        if not used[v]:
            continue
        at = np.int64(mixed(key[v]) & last)
        while table[at] >= 0 and key[first[table[at]]] != key[v]:
            at = np.int64(np.uint64(at + 1) & last)
        if table[at] < 0:
            table[at], first[n] = n, v
            n += 1
        place[v] = table[at]
    return n


def polygons(cells: Any) -> Any:
    """The places of the vertices in the order around each polygon: neighbours share a facet."""
    order = np.arange(len(cells.vertex))
    _around(cells.ptr, cells.mask, order)
    return order


@kernel
def _around(ptr: Any, mask: Any, order: Any) -> None:
    words = mask.shape[1]
    for c in range(len(ptr) - 1):
        for i in range(ptr[c], ptr[c + 1] - 2):
            for j in range(i + 1, ptr[c + 1]):
                shared = False
                for w in range(words):
                    shared = shared or (mask[order[i], w] & mask[order[j], w]) != 0
                if shared:
                    order[i + 1], order[j] = order[j], order[i + 1]
                    break
