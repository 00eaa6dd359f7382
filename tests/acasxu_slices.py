"""Regions of a slice as polygons: the one place that knows how they are enumerated."""

from __future__ import annotations

import numpy as np

from gatewise.regions.polyhedral.enumeration import enumerate_regions
from oracles.plane import Plane


def polygons(network, low: np.ndarray, high: np.ndarray) -> Plane:
    """All regions where low <= x <= high, equal in all inputs but two, with the outputs."""
    found = enumerate_regions(network, (low, high), workers=1)
    assert found.complete
    assert found.undecided == 0
    ptr = found.cells.ptr.astype(np.int64)
    vertex = found.cells.vertex[in_turn(ptr, found.vertices[found.cells.vertex])]
    return Plane(ptr, found.vertices[vertex], found.values()[vertex])


def in_turn(ptr: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Indices of the corners (k, 2) that put those of each region in order around its middle."""
    size = np.diff(ptr)
    region = np.repeat(np.arange(len(size)), size)
    away = points - (np.add.reduceat(points, ptr[:-1]) / size[:, None])[region]
    return np.lexsort((np.arctan2(away[:, 1], away[:, 0]), region))
