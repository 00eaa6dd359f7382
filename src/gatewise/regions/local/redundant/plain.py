"""What the rows say of themselves: rows that are zero, that a knot of their own unit makes loose,
and rows that are the same half-space.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gatewise.ir.kinds import Pieces
from gatewise.regions.constraints import Frozen
from gatewise.regions.local.redundant.exact import primitive
from gatewise.regions.local.redundant.frame import F64, Walls


def loose(f: Frozen, gate: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Rows (n,) of a unit's knots beyond the two around its branch, and the nearer row of each.

    z >= t and t >= s say z >= s: the same row but for its offset, exactly.
    """
    rows, nearer, start = [], [], 0
    names = np.array(gate)
    for node in f.gates:
        count = int((names == node.name).sum())
        if isinstance(node.kind, Pieces) and node.kind.branches > 2:
            code = f.codes(node.name).reshape(-1).long()
            knot = torch.arange(node.kind.branches - 1)[:, None]
            near = torch.where(knot < code, code - 1, code)
            place = start + knot * len(code) + torch.arange(len(code))
            far = knot != near
            rows.append(place[far])
            nearer.append((start + near * len(code) + torch.arange(len(code)))[far])
        start += count
    empty = torch.zeros(0, dtype=torch.long)
    return torch.cat([empty, *rows]), torch.cat([empty, *nearer])


def doubtful(walls: Walls) -> Tensor:
    """(m,) bool: the exact row may be zero, and need not be."""
    return (walls.a.abs() <= walls.spread).all(1) & ~walls.zero


def alike(walls: Walls) -> Tensor:
    """(m,) bool: rows that rounding does not tell from another one's multiple; slacks are > 0.

    Over its slack at one inner point, a half-space has one normal: equal ones have equal normals.
    """
    a = walls.a / walls.s[:, None]
    room = (walls.s - walls.error).clamp(min=1e-300)[:, None]
    blur = (walls.spread + a.abs() * walls.error[:, None]) / room * (1 + 1e-9) + 4e-16 * a.abs()
    way = torch.randn(a.shape[1], dtype=F64, generator=torch.Generator().manual_seed(0))
    order = (a @ way).argsort()
    near = ((a[order[1:]] - a[order[:-1]]).abs() <= blur[order[1:]] + blur[order[:-1]]).all(1)
    found = torch.zeros(len(a), dtype=torch.bool)
    found[order[1:][near]] = True
    found[order[:-1][near]] = True
    return found


def twins(whole: NDArray[np.object_]) -> NDArray[np.int64]:
    """(m,) the first row that is the same half-space as each, from rows in whole numbers."""
    seen: dict[tuple[int, ...], int] = {}
    return np.array(
        [seen.setdefault(row, k) for k, row in enumerate(primitive(whole))], np.int64
    ).reshape(-1)
