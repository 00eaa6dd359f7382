"""The patterns of a dense grid of points, by the plain forward pass in float64 with its bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

ROUND = 2.0**-53


def patterns_on_grid(
    layers: Sequence, lower: Sequence, upper: Sequence, n: int, place=None, chunk: int = 1 << 12
) -> np.ndarray:
    """(patterns, units) 0/1, distinct, over the n^d points of a grid of the closed box.

    A point that is within rounding of a wall is left out: there the sign of a unit is not known,
    and a wall belongs to no cell alone. `place` (origin, directions) puts the grid in a slice.
    """
    sides = [np.linspace(a, b, n) for a, b in zip(lower, upper, strict=True)]
    found: set[bytes] = set()
    units = sum(len(b) for _, b in layers[:-1])
    for points in _blocks(sides, chunk):
        bits = np.packbits(_patterns(layers, points, place), axis=1)
        fresh = np.ones(len(bits), bool)
        fresh[1:] = (bits[1:] != bits[:-1]).any(1)  # most points are in the cell of the last one
        found.update(map(bytes, bits[fresh]))
    rows = np.frombuffer(b"".join(sorted(found)), np.uint8).reshape(len(found), (units + 7) // 8)
    return np.unpackbits(rows, axis=1, count=units)


def _blocks(sides: list[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The points of the grid, so many at a time."""
    shape = [len(s) for s in sides]
    for start in range(0, int(np.prod(shape)), size):
        index = np.unravel_index(np.arange(start, min(start + size, int(np.prod(shape)))), shape)
        yield np.stack([s[i] for s, i in zip(sides, index, strict=True)], 1)


def _patterns(layers: Sequence, points: np.ndarray, place) -> np.ndarray:
    """(decided points, units): all |z - computed z| <= error, or else the point is left out.

    error = 2 (n + 2) u (max |h| max_i sum_j |W_ij| + max |b|) + 2 max_i sum_j |W_ij| (error of h),
    n the number of terms, twice for what it is itself rounded. Where h is 0 with error 0, and in a
    unit without weights, z = b exactly: a unit that is 0 there is off.
    """
    h, wrong = points, np.zeros(len(points))
    if place is not None:
        h, wrong = _affine(np.asarray(place[1], float).T, np.asarray(place[0], float), h, wrong)
    kept, signs = np.ones(len(points), bool), []
    for w, b in layers[:-1]:
        w = np.asarray(w, float)
        z, error = _affine(w, np.asarray(b, float), h, wrong)
        least = np.abs(z[:, w.any(1)]).min(1, initial=np.inf)
        kept &= (least > error) | (error == 0)
        signs.append(z > 0)
        h = np.maximum(z, 0)
        wrong = error * h.any(1)  # a unit that is surely off gives exactly 0
    return np.concatenate(signs, 1)[kept]


def _affine(w: np.ndarray, b: np.ndarray, h: np.ndarray, wrong: np.ndarray):
    """w h + b of rows, and how far any number of a row can be off where each h is by `wrong`."""
    size = np.abs(w).sum(1).max(initial=0)
    rounding = 2 * (w.shape[1] + 2) * ROUND
    largest = np.abs(h).max(1, initial=0) + wrong
    error = rounding * (largest * size + np.abs(b).max(initial=0)) + 2 * wrong * size
    return h @ w.T + b, np.where(largest == 0, 0, error)
