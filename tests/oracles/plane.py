"""All regions of a perceptron on a rectangle, by clipping polygons in float64 with a tolerance.

Fast enough for a million regions, and right where no wall passes within rounding of a corner: for
networks in general position only. Exact and slow is `oracles.cells`. Nothing under test is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

CORNERS = 64  # at most, of one polygon
PARTS = 4096  # at most, of one polygon by the units of one layer


class Plane(NamedTuple):
    """Region r has the corners points[ptr[r]:ptr[r + 1]], in order, with the outputs values."""

    ptr: np.ndarray  # (regions + 1,)
    points: np.ndarray  # (corners, 2)
    values: np.ndarray  # (corners, outputs)

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def areas(self) -> np.ndarray:
        """(regions,)"""
        (x, y), after = self.points.T, np.arange(len(self.points)) + 1
        after[self.ptr[1:] - 1] = self.ptr[:-1]
        return np.add.reduceat(x * y[after] - y * x[after], self.ptr[:-1]) / 2


def plane(
    layers: Sequence, low: np.ndarray, high: np.ndarray, most: int = 1 << 20, eps: float = 1e-13
) -> Plane:
    """The regions where low <= x <= high, which are equal in all inputs but two."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    a, b = np.flatnonzero(low < high)
    sizes = np.array([len(low), *(len(c) for _, c in layers)])
    w = np.zeros((len(layers), sizes.max(), sizes.max()))
    c = np.zeros((len(layers), sizes.max()))
    for k, (weight, bias) in enumerate(layers):
        w[k, : weight.shape[0], : weight.shape[1]], c[k, : len(bias)] = weight, bias
    first = np.stack([np.arange(len(low)) == a, np.arange(len(low)) == b, low], 1).astype(float)
    first[[a, b], 2] = 0
    box = np.array([low[a], high[a], low[b], high[b]])
    points, values = np.empty((6 * most, 2)), np.empty((6 * most, sizes[-1]))
    ptr = np.zeros(most + 1, np.int64)
    count = _run(w, c, sizes, first, box, eps, ptr, points, values)
    if count < 0:
        raise ValueError(f"more than {most} regions, {PARTS} in a layer or {CORNERS} corners")
    ptr = ptr[: count + 1]
    return Plane(ptr, points[: ptr[-1]], values[: ptr[-1]])


@numba.njit(cache=True)
def _rows(w, c, held):
    """(units, 4) x, y, constant of each unit, and the size of what was summed."""
    z = np.zeros((len(c), 4))
    for i in range(len(c)):
        z[i, 2], z[i, 3] = c[i], abs(c[i])
        for j in range(len(held)):
            for k in range(3):
                z[i, k] += w[i, j] * held[j, k]
                z[i, 3] += abs(w[i, j] * held[j, k])
    return z


@numba.njit(cache=True)
def _clip(row, eps, parts, size, p, free):
    """0: polygon p is off, 1: on, 2: it is split, and its part that is on is put at `free`."""
    m, value = size[p], np.empty(CORNERS)
    for k in range(m):
        value[k] = row[0] * parts[p, k, 0] + row[1] * parts[p, k, 1] + row[2]
    least = eps * row[3]
    if value[:m].max() <= least:
        return 0
    if value[:m].min() >= -least:
        return 1
    off, on, kept = 0, 0, parts[p].copy()
    for k in range(m):
        n = (k + 1) % m
        if value[k] <= least:
            parts[p, off] = kept[k]
            off += 1
        if value[k] >= -least:
            parts[free, on] = kept[k]
            on += 1
        if min(value[k], value[n]) < -least and max(value[k], value[n]) > least:
            t = value[k] / (value[k] - value[n])
            parts[p, off] = (1 - t) * kept[k] + t * kept[n]
            parts[free, on] = parts[p, off]
            off, on = off + 1, on + 1
    size[p], size[free] = off, on
    return 2


@numba.njit(cache=True)
def _split(z, width, eps, parts, size, on):
    """The first polygon cut by all units of a layer: how many parts there are (-1: too many)."""
    count = 1
    for i in range(width):
        for p in range(count):
            if count == PARTS or size[p] > CORNERS - 2:
                return -1
            side = _clip(z[i], eps, parts, size, p, count)
            on[p, i] = side == 1
            if side == 2:
                on[count, :i], on[count, i] = on[p, :i], 1
                count += 1
    return count


@numba.njit(cache=True)
def _write(polygon, z, at, points, values):
    """Corners and outputs of one region, from row `at` on."""
    for k in range(len(polygon)):
        x, y = polygon[k]
        points[at + k] = polygon[k]
        for i in range(values.shape[1]):
            values[at + k, i] = z[i, 0] * x + z[i, 1] * y + z[i, 2]


@numba.njit(cache=True)
def _run(w, c, sizes, first, box, eps, ptr, points, values):
    """Depth first: a polygon of one layer becomes its parts by the next layer's units."""
    room = PARTS * len(sizes)
    shape, corners = np.empty((room, CORNERS, 2)), np.zeros(room, np.int64)
    level, held = np.zeros(room, np.int64), np.zeros((room, w.shape[1], 3))
    parts, size = np.empty((PARTS, CORNERS, 2)), np.zeros(PARTS, np.int64)
    on = np.zeros((PARTS, w.shape[1]))
    for k, (i, j) in enumerate(((0, 2), (1, 2), (1, 3), (0, 3))):
        shape[0, k, 0], shape[0, k, 1] = box[i], box[j]
    corners[0], held[0, : len(first)], top, found = 4, first, 1, 0
    while top > 0:
        top -= 1
        layer, m = level[top], corners[top]
        z, width = _rows(w[layer], c[layer], held[top]), sizes[layer + 1]
        if layer == len(sizes) - 2:
            if found == len(ptr) - 1 or ptr[found] + m > len(points):
                return -1
            _write(shape[top, :m], z, ptr[found], points, values)
            found += 1
            ptr[found] = ptr[found - 1] + m
            continue
        parts[0], size[0] = shape[top], m
        count = _split(z, width, eps, parts, size, on)
        if count < 0:
            return -1
        for p in range(count):
            shape[top + p], corners[top + p], level[top + p] = parts[p], size[p], layer + 1
            for i in range(width):
                for k in range(3):
                    held[top + p, i, k] = z[i, k] * on[p, i]
        top += count
    return found
