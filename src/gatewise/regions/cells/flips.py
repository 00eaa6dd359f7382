"""The next gate's rows on a child, from those on the child before it (compiled).

Two children of a parent differ in the side of a few units k, and each side that flips adds
(slope' - slope)_k w_k z_k + (offset' - offset)_k w_k to what enters the next gate: a rank-one
update where a matrix product would start afresh.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.numeric import kernel
from gatewise.regions.cells.bits import lowest, popcount

MOST = 64  # flips in a row, each of which rounds, before a product starts afresh


@kernel
def fresh_starts(parent: Any, sides: Any, out: Any) -> int:
    """Marks in `out` the children that start afresh: how many."""
    found = chain = 0
    for r in range(len(parent)):
        flips = MOST + 1
        if r and parent[r] == parent[r - 1]:
            flips = 0
            for i in range(sides.shape[1]):
                flips += popcount(np.uint64(sides[r, i] ^ sides[r - 1, i]))
        chain += flips
        out[r] = chain > MOST
        if out[r]:
            found, chain = found + 1, 0
    return found


@kernel
def follow(
    parent: Any,
    sides: Any,
    fresh: Any,
    product: Any,
    z: Any,
    weight: Any,
    slope: Any,
    offset: Any,
    out: Any,
) -> None:
    """out (children, k + 1, m): `product` in turn for the fresh ones, updates for the others.

    z (parents, k + 1, n) entered the gate; slope and offset (n,): what a unit gains above its
    knot; weight (n, m): from the gate to the next one.
    """
    columns, m, at = out.shape[1], out.shape[2], 0
    for r in range(len(parent)):
        if fresh[r]:
            for i in range(columns):
                for j in range(m):
                    out[r, i, j] = product[at, i, j]
            at += 1
            continue
        for i in range(columns):
            for j in range(m):
                out[r, i, j] = out[r - 1, i, j]
        p = parent[r] if len(z) > 1 else 0
        for byte in range(sides.shape[1]):
            word = np.uint64(sides[r, byte] ^ sides[r - 1, byte])
            while word:
                bit = lowest(word)
                word &= word - np.uint64(1)
                k = 8 * byte + 7 - bit
                gain = 1.0 if (sides[r, byte] >> np.uint8(bit)) & np.uint8(1) else -1.0
                for i in range(columns):
                    factor = gain * slope[k] * z[p, i, k]
                    if i == columns - 1:
                        factor += gain * offset[k]
                    if factor != 0.0:
                        for j in range(m):
                            out[r, i, j] += factor * weight[k, j]
